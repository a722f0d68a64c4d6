use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, EntryId, Timestamp};

/// Examples of values that differ that are kept of each feature.
const EXAMPLES_MAX: usize = 10;

/// What a shadow is and what has come of comparing it with the version in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowReport {
    /// The transform that it stands behind.
    pub name: String,
    /// The shadow's component.
    pub component: Digest,
    /// The version that it says it is.
    pub version: String,
    /// The component in force.
    pub live_component: Digest,
    /// From when on events were compared: when it was put, or when this host was started.
    pub since: Timestamp,
    /// Features that only the shadow has.
    pub added: Vec<String>,
    /// Features that only the version in force has.
    pub removed: Vec<String>,
    /// Features that are of another kind.
    pub retyped: Vec<String>,
    /// Whether the windows over the features differ; they are not compared themselves.
    pub aggregations_differ: bool,
    /// Linear memory of an idle instance, in bytes: of the version in force, and of the shadow; none where none is idle.
    pub memory_bytes: [Option<usize>; 2],
    /// Which part of the stream it speaks of.
    pub partitions: ShadowPartitions,
    /// What was counted.
    #[serde(flatten)]
    pub counts: ShadowCounts,
}

/// The part of a stream that a shadow was given: a shadow is its host's own, and other hosts may work on the other partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShadowPartitions {
    /// How many the stream has; 1 where it is not partitioned.
    pub count: u32,
    /// Those that this host works on now.
    pub here: Vec<u32>,
    /// Events that were given to both, by partition.
    pub events: BTreeMap<u32, u64>,
    /// Those of which nothing was compared, and that this host does not work on.
    pub unseen: Vec<u32>,
}

impl ShadowPartitions {
    /// Of a stream with so many partitions.
    pub fn new(count: u32, here: Vec<u32>, events: BTreeMap<u32, u64>) -> ShadowPartitions {
        let unseen = (0..count).filter(|index| !here.contains(index) && !events.contains_key(index)).collect();
        ShadowPartitions { count, here, events, unseen }
    }
}

/// What was counted while two versions were given the same events.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ShadowCounts {
    /// Events that both were given.
    pub events: u64,
    /// The same by partition.
    #[serde(skip)]
    pub of_partitions: BTreeMap<u32, u64>,
    /// Events that the shadow was not given, because the host could not run it.
    pub skipped: u64,
    /// Why, the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_reason: Option<String>,
    /// Rows of the same event.
    pub rows: RowCounts,
    /// Features that both have.
    pub features: BTreeMap<String, FeatureCounts>,
    /// The version in force.
    pub live: SideCounts,
    /// The shadow.
    pub shadow: SideCounts,
}

/// Rows that were compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Made by both.
    pub compared: u64,
    /// The same in every feature that both have.
    pub equal: u64,
    /// Not the same in some.
    pub differing: u64,
    /// Made by the version in force alone.
    pub only_live: u64,
    /// Made by the shadow alone.
    pub only_shadow: u64,
}

/// Values of one feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FeatureCounts {
    /// The same.
    pub equal: u64,
    /// Others, null against a value among them.
    pub differing: u64,
    /// Null in the version in force, and a value in the shadow.
    pub null_live: u64,
    /// A value in the version in force, and null in the shadow.
    pub null_shadow: u64,
    /// The first that differed.
    pub examples: Vec<ShadowExample>,
}

/// Two values that differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowExample {
    /// Whose they are.
    pub entity: serde_json::Value,
    /// The event that they were computed from.
    pub entry_id: EntryId,
    /// In the version in force.
    pub live: serde_json::Value,
    /// In the shadow.
    pub shadow: serde_json::Value,
}

/// What one of the two did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SideCounts {
    /// Rows that it made.
    pub rows: u64,
    /// Time that it took for them, in seconds.
    pub seconds: f64,
    /// Events that it could not use, by the reasons of dead letters.
    pub given_up: BTreeMap<&'static str, GivenUp>,
}

/// Events that were given up for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GivenUp {
    /// How many.
    pub count: u64,
    /// What was said of the first.
    pub first: String,
}

/// What must hold before a shadow takes over. What is absent may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowGates {
    /// Rows compared, at least; 1 when absent.
    pub rows_min: Option<u64>,
    /// Partitions of the stream that were compared, at least; all of them when absent.
    pub partitions_min: Option<u32>,
    /// Events that the shadow was not given, at most; 0 when absent.
    pub skipped_max: Option<u64>,
    /// Rows that differ, at most.
    pub differing_max: Option<u64>,
    /// Rows that differ out of all that were compared, at most: 0.01 is one in a hundred.
    pub differing_share_max: Option<f64>,
    /// Rows that only one of them made, at most.
    pub unmatched_max: Option<u64>,
    /// Events that the shadow could not use beyond those that the version in force could not, at most.
    pub given_up_more_max: Option<u64>,
    /// How many times as long as the version in force the shadow may take.
    pub slower_max: Option<f64>,
    /// Linear memory of an instance of the shadow, at most, in bytes.
    pub memory_bytes_max: Option<u64>,
}

impl ShadowCounts {
    /// Adds what came of further events.
    pub fn add(&mut self, other: ShadowCounts) {
        let ShadowCounts { events, of_partitions, skipped, skipped_reason, rows, features, live, shadow } = other;
        self.events += events;
        for (partition, events) in of_partitions {
            *self.of_partitions.entry(partition).or_default() += events;
        }
        self.skipped += skipped;
        self.skipped_reason = self.skipped_reason.take().or(skipped_reason);
        self.rows.compared += rows.compared;
        self.rows.equal += rows.equal;
        self.rows.differing += rows.differing;
        self.rows.only_live += rows.only_live;
        self.rows.only_shadow += rows.only_shadow;
        for (name, counts) in features {
            self.features.entry(name).or_default().add(counts);
        }
        self.live.add(live);
        self.shadow.add(shadow);
    }
}

impl FeatureCounts {
    fn add(&mut self, other: FeatureCounts) {
        self.equal += other.equal;
        self.differing += other.differing;
        self.null_live += other.null_live;
        self.null_shadow += other.null_shadow;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }

    /// Counts two values that differ; `example` is asked only while examples are wanted.
    pub fn differ(&mut self, is_null: [bool; 2], example: impl FnOnce() -> ShadowExample) {
        let [live, shadow] = is_null;
        self.differing += 1;
        self.null_live += u64::from(live);
        self.null_shadow += u64::from(shadow);
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

impl SideCounts {
    fn add(&mut self, other: SideCounts) {
        self.rows += other.rows;
        self.seconds += other.seconds;
        for (reason, GivenUp { count, first }) in other.given_up {
            let known = self.given_up.entry(reason).or_insert(GivenUp { count: 0, first });
            known.count += count;
        }
    }

    /// Counts an event that it could not use.
    pub fn give_up(&mut self, reason: &'static str, message: &str) {
        self.given_up.entry(reason).or_insert_with(|| GivenUp { count: 0, first: message.to_owned() }).count += 1;
    }

    fn given_up_count(&self) -> u64 {
        self.given_up.values().map(|given_up| given_up.count).sum()
    }
}

impl ShadowGates {
    /// What does not hold, a sentence each.
    pub fn failing(&self, report: &ShadowReport) -> Vec<String> {
        let counts = &report.counts;
        let mut failing = Vec::new();
        let mut least = |what: &str, name: &str, found: u64, wanted: u64| {
            if found < wanted {
                failing.push(format!("{found} {what}, and {name} is {wanted}"));
            }
        };
        least("rows were compared", "rows_min", counts.rows.compared, self.rows_min.unwrap_or(1));
        let ShadowPartitions { count, unseen, .. } = &report.partitions;
        let (seen, wanted) = (count.saturating_sub(unseen.len() as u32), self.partitions_min.unwrap_or(*count));
        if seen < wanted {
            let unseen: Vec<String> = unseen.iter().map(u32::to_string).collect();
            failing.push(format!(
                "{seen} of {count} partitions were compared on this host, where nothing came of {}, and partitions_min is {wanted}",
                unseen.join(", ")
            ));
        }
        let mut most = |what: &str, name: &str, found: u64, wanted: Option<u64>| {
            if let Some(wanted) = wanted.filter(|wanted| found > *wanted) {
                failing.push(format!("{found} {what}, and {name} is {wanted}"));
            }
        };
        most("events were skipped", "skipped_max", counts.skipped, Some(self.skipped_max.unwrap_or(0)));
        most("rows differ", "differing_max", counts.rows.differing, self.differing_max);
        most("rows were made by one of them alone", "unmatched_max", counts.rows.only_live + counts.rows.only_shadow, self.unmatched_max);
        let more = counts.shadow.given_up_count().saturating_sub(counts.live.given_up_count());
        most("more events could not be used", "given_up_more_max", more, self.given_up_more_max);
        let memory = report.memory_bytes.last().copied().flatten().map_or(u64::MAX, |bytes| bytes as u64);
        most("bytes of memory are taken", "memory_bytes_max", memory, self.memory_bytes_max);
        let share = counts.rows.differing as f64 / (counts.rows.compared as f64).max(1.0);
        if let Some(wanted) = self.differing_share_max.filter(|wanted| share > *wanted || wanted.is_nan()) {
            failing.push(format!("{share:.4} of the rows differ, and differing_share_max is {wanted}"));
        }
        let slower = counts.shadow.seconds / counts.live.seconds.max(1e-9);
        if let Some(wanted) = self.slower_max.filter(|wanted| slower > *wanted || wanted.is_nan()) {
            failing.push(format!("the shadow takes {slower:.2} times as long, and slower_max is {wanted}"));
        }
        failing
    }
}
