//! A version that is tried behind the one in force: it is given the same events, in the same batches, and nothing that it does is served. It cannot fail a
//! batch, and delays one by its own bounded time alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{Error, faults};
use super::binding::{Binding, Bound};
use super::collect::Origins;
use super::states;
use super::stored::Stored;
use crate::decode::Decoded;
use crate::model::{Batch, DeadLetter, EntryId, Field, Kind, Partition, Puts, ShadowCounts, ShadowExample, Timestamp, Value, View, json};
use crate::transform::{Applied, Output, World};

/// A version that is tried, and what came of it so far.
pub struct Shadow {
    /// Bound under a name of its own, which its states have, without a stream, windows or rows.
    pub binding: Arc<Binding>,
    /// Time for one batch beyond one call, most of it for finding the events at fault.
    pub budget: Duration,
    counts: Mutex<ShadowCounts>,
}

/// What the version in force made of a batch.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) outputs: Vec<(usize, Output)>,
    /// The rows of the whole batch that it was given; all when none.
    pub(super) kept: Option<Vec<u32>>,
    pub(super) seconds: f64,
}

/// The version in force.
pub(super) struct Live<'a> {
    pub(super) view: &'a View,
    pub(super) letters: &'a [DeadLetter],
    pub(super) seen: &'a Seen,
}

/// What was delivered, as far as a shadow looks at it.
pub(super) struct Given<'a> {
    pub(super) decoded: &'a [Decoded],
    pub(super) ids: &'a [EntryId],
    /// Rows that nobody is given any more.
    pub(super) exhausted: &'a [usize],
    pub(super) partition: &'a Partition,
    pub(super) stored: &'a Stored,
    pub(super) now: Timestamp,
}

impl Shadow {
    /// Nothing is counted yet.
    pub fn new(binding: Binding, budget: Duration) -> Shadow {
        Shadow { binding: Arc::new(binding), budget, counts: Mutex::default() }
    }

    /// What was counted so far.
    pub fn counts(&self) -> ShadowCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, counts: ShadowCounts) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(counts);
    }

    /// Runs it over a batch and compares. Its states go with the commit.
    pub(super) fn run(&self, bound: &Bound, given: &Given<'_>, live: &Live<'_>, puts: &mut Puts) -> ShadowCounts {
        let mut counts = ShadowCounts::default();
        for letter in live.letters {
            counts.live.give_up(letter.reason.as_str(), &letter.message);
        }
        counts.live.seconds = live.seen.seconds;
        let columns: Vec<&Decoded> = bound.columns.iter().filter_map(|column| given.decoded.get(*column)).collect();
        let whole = Batch { rows: given.ids.len(), columns: columns.iter().map(|column| Arc::clone(&column.column)).collect() };
        let prefix = prefix(given.partition, &bound.binding.view);
        let faults = faults(given.partition, given.ids, bound, &columns, &prefix, &whole, given.now);
        for (_, (reason, message)) in faults.iter().filter(|(row, _)| !given.exhausted.contains(row)) {
            counts.shadow.give_up(reason.as_str(), message);
        }
        let is_kept = |row: &u32| !faults.contains_key(&(*row as usize)) && !given.exhausted.contains(&(*row as usize));
        let kept: Vec<u32> = (0..whole.rows as u32).filter(is_kept).collect();
        let ids: Vec<EntryId> = kept.iter().filter_map(|row| given.ids.get(*row as usize).copied()).collect();
        let batch = if kept.len() == whole.rows { whole } else { whole.take(&kept) };
        let origins =
            Origins { prefix: &prefix, batch: &batch, entity: &bound.entity, event_time: bound.event_time, entries: &ids, seen: &[] };
        let started = Instant::now();
        let applied = match self.apply(&origins, live.view, given, puts) {
            Ok(applied) => applied,
            Err(error) => {
                counts.skipped = given.ids.len() as u64;
                counts.skipped_reason = Some(error.to_string());
                return counts;
            }
        };
        counts.events = given.ids.len() as u64;
        counts.of_partitions.insert(given.partition.index, counts.events);
        counts.shadow.seconds = started.elapsed().as_secs_f64();
        for (_, reason, message) in &applied.given_up {
            counts.shadow.give_up(reason.as_str(), message);
        }
        let made = [rows(&live.seen.outputs, live.seen.kept.as_deref()), rows(&applied.outputs, Some(&kept))];
        let entity = |row: usize| entity(&bound.binding.view.entity, &origins, kept.binary_search(&(row as u32)).unwrap_or_default());
        compare(&made, [&live.view.features, &bound.binding.view.features], given.ids, entity, &mut counts);
        counts
    }

    fn apply(&self, origins: &Origins<'_>, live: &View, given: &Given<'_>, puts: &mut Puts) -> Result<Applied, Error> {
        if origins.batch.rows == 0 {
            return Ok(Applied::default());
        }
        match self.binding.transform.world() {
            World::RowTransform => Ok(self.binding.transform.apply_within(origins.batch, self.budget)?),
            World::StatefulTransform | World::MigratingTransform => {
                let begins_with = prefix(given.partition, live);
                Ok(states::fold_into(&self.binding, Some(&begins_with), origins, given.stored, given.now, puts)?.0)
            }
        }
    }
}

/// What the keys of a view's entities begin with.
fn prefix(partition: &Partition, view: &View) -> Vec<u8> {
    [partition.tag.as_bytes(), view.name.as_bytes(), b":"].concat()
}

/// A row: the event's place in the whole batch, the output, and the row of that.
type Made<'o> = (usize, &'o Output, usize);

/// The rows of some outputs, in the order of the events.
fn rows<'o>(outputs: &'o [(usize, Output)], kept: Option<&[u32]>) -> Vec<Made<'o>> {
    let mut rows = Vec::new();
    for (start, output) in outputs {
        for row in 0..output.batch.rows {
            let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
            let origin = start + within;
            let event = kept.map_or(origin, |kept| kept.get(origin).map_or(origin, |row| *row as usize));
            rows.push((event, output, row));
        }
    }
    rows.sort_by_key(|(event, ..)| *event);
    rows
}

/// Compares the rows of each event one by one, in the order in which they were returned.
fn compare(
    [live, shadow]: &[Vec<Made<'_>>; 2],
    features: [&[Field]; 2],
    ids: &[EntryId],
    entity: impl Fn(usize) -> serde_json::Value,
    counts: &mut ShadowCounts,
) {
    let [live_features, shadow_features] = features;
    let pairs: Vec<(&Field, usize, usize)> = live_features
        .iter()
        .enumerate()
        .filter_map(|(index, field)| Some((field, index, shadow_features.iter().position(|other| other.name == field.name)?)))
        .collect();
    (counts.live.rows, counts.shadow.rows) = (live.len() as u64, shadow.len() as u64);
    let (mut live, mut shadow) = (live.iter().peekable(), shadow.iter().peekable());
    loop {
        let (of_live, of_shadow) = match (live.peek(), shadow.peek()) {
            (None, None) => return,
            (Some((event, ..)), other) if other.is_none_or(|(other, ..)| event < other) => {
                live.next();
                counts.rows.only_live += 1;
                continue;
            }
            (Some((event, ..)), Some((other, ..))) if event == other => (live.next(), shadow.next()),
            (_, _) => {
                shadow.next();
                counts.rows.only_shadow += 1;
                continue;
            }
        };
        let (Some((event, live, live_row)), Some((_, shadow, shadow_row))) = (of_live, of_shadow) else { return };
        counts.rows.compared += 1;
        let mut differs = false;
        for (field, live_index, shadow_index) in &pairs {
            let of_live = live.batch.columns.get(*live_index).and_then(|column| Value::at(column, *live_row));
            let of_shadow = shadow.batch.columns.get(*shadow_index).and_then(|column| Value::at(column, *shadow_row));
            let feature = counts.features.entry(field.name.clone()).or_default();
            if is_same(of_live, of_shadow) {
                feature.equal += 1;
                continue;
            }
            differs = true;
            feature.differ([of_live.is_none(), of_shadow.is_none()], || ShadowExample {
                entity: entity(*event),
                entry_id: ids.get(*event).copied().unwrap_or_default(),
                live: shown(of_live),
                shadow: shown(of_shadow),
            });
        }
        counts.rows.equal += u64::from(!differs);
        counts.rows.differing += u64::from(differs);
    }
}

/// Whether two values are the same, bit by bit but for what is not a number, which is the same as any other such.
fn is_same(one: Option<Value<'_>>, other: Option<Value<'_>>) -> bool {
    match (one, other) {
        (Some(Value::Float(one)), Some(Value::Float(other))) => one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan()),
        (Some(Value::Numbers(one)), Some(Value::Numbers(other))) => {
            one.iter().map(|number| number.to_bits()).eq(other.iter().map(|number| number.to_bits()))
        }
        (one, other) => one == other,
    }
}

/// A value as people see it.
fn shown(value: Option<Value<'_>>) -> serde_json::Value {
    let mut text = Vec::new();
    json::push_value(&mut text, value);
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The entity of a row of the shadow's batch, as a query would name it.
fn entity(fields: &[Field], origins: &Origins<'_>, row: usize) -> serde_json::Value {
    let member = |(field, input): (&Field, &usize)| {
        let column = origins.batch.columns.get(*input)?;
        Some((field.name.clone(), shown(Value::at(column, row))))
    };
    serde_json::Value::Object(fields.iter().zip(origins.entity).filter_map(member).collect())
}

/// What of the features of two versions is not the same: those that only the second has, those that only the first has, and those of another kind.
pub fn difference(live: &[Field], shadow: &[Field]) -> [Vec<String>; 3] {
    let only = |fields: &[Field], others: &[Field]| -> Vec<String> {
        fields.iter().filter(|field| !others.iter().any(|other| other.name == field.name)).map(|field| field.name.clone()).collect()
    };
    let kind = |field: &Field| -> (Kind, Option<u32>) { (field.kind, field.width) };
    let retyped = |field: &&Field| shadow.iter().any(|other| other.name == field.name && kind(other) != kind(field));
    [only(shadow, live), only(live, shadow), live.iter().filter(retyped).map(|field| field.name.clone()).collect()]
}
