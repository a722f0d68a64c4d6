//! One batch, from entries to a commit: every transform of the stream, every event in it either a row or a dead letter.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::binding::{Binding, Bound, ENTITY_KEY_BYTES_MAX, Transforms};
use super::collect::{Origins, collect};
use super::emit::Outgoing;
use super::keep::{Late, keep};
use super::shadow::{Given, Live, Seen, Shadow};
use super::states;
use super::stored::Stored;
use crate::decode::Decoded;
use crate::model::{
    Batch, Commit, DeadLetter, DeadLetterId, Entries, EntryId, Partition, Puts, Reason, ShadowCounts, Timestamp, View, one_line,
};
use crate::source::Delivery;
use crate::telemetry::{Stage, StreamTelemetry, TransformTelemetry};
use crate::transform::{self, Applied, Output, World};
use crate::{model::Disposition, online_store};

/// Longest message of a dead letter that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Why a batch could not be built; nothing about its events.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Transform(#[from] transform::Error),
    #[error(transparent)]
    Store(#[from] online_store::Error),
    /// What is stored was written by a version that this host does not know of.
    #[error("view `{view}` has {what}, of which this host does not know yet; it goes on once it knows what is in force")]
    Unknown { view: String, what: String },
}

impl Error {
    pub(super) fn unknown(view: &View, what: &str) -> Error {
        Error::Unknown { view: view.name.clone(), what: what.to_owned() }
    }

    pub(super) fn disposition(&self) -> Disposition {
        match self {
            Error::Transform(error) => error.disposition(),
            Error::Store(error) => error.disposition(),
            Error::Unknown { .. } => Disposition::Stop,
        }
    }

    /// The word for the part that failed, as in metrics.
    pub(super) fn part(&self) -> &'static str {
        match self {
            Error::Transform(_) => "transform",
            Error::Store(_) | Error::Unknown { .. } => "online_store",
        }
    }
}

/// A commit in the making, and what to count once the store has it.
#[derive(Default)]
pub(super) struct Built {
    /// Everything but number, last and acknowledgements is filled in.
    pub(super) commit: Commit,
    tallies: Vec<Tally>,
}

struct Tally {
    telemetry: TransformTelemetry,
    rows: usize,
    emitted: usize,
    shadow: Option<(Arc<Shadow>, ShadowCounts)>,
    dead_letters: Range<usize>,
}

impl Built {
    /// Counts rows and dead letters; called when they are stored.
    pub(super) fn count(&mut self) {
        for Tally { telemetry, rows, emitted, shadow, dead_letters } in &mut self.tallies {
            if let Some((shadow, counts)) = shadow.take() {
                shadow.add(counts);
            }
            telemetry.rows_committed(*rows as u64);
            telemetry.rows_emitted(*emitted as u64);
            for letter in self.commit.dead_letters.get(dead_letters.clone()).unwrap_or_default() {
                telemetry.dead_letters(letter.reason, 1);
            }
        }
        if let Some(first) = self.commit.dead_letters.first() {
            let (count, id) = (self.commit.dead_letters.len(), &first.id);
            tracing::warn!(count, first = %id, "events became dead letters, the first because: {}", first.message);
        }
    }
}

/// Decodes and applies. Fails only with errors that say nothing about the events.
pub(super) fn build(
    transforms: &Transforms,
    delivery: &Delivery,
    partition: &Partition,
    stored: &Stored,
    telemetry: &StreamTelemetry,
) -> Result<Built, Error> {
    let mut built = Built::default();
    let now = Timestamp::now();
    let work = Work { entries: &delivery.entries, ids: delivery.entries.ids().collect(), partition, stored, now };
    let started = Instant::now();
    let decoded = transforms.plan.decode(work.entries);
    telemetry.stage_seconds(Stage::Decode, started.elapsed().as_secs_f64());
    let started = Instant::now();
    for bound in &transforms.bound {
        let stored_of = |commit: &Commit| commit.rows.len() + commit.puts.len();
        let (rows, letters) = (stored_of(&built.commit), built.commit.dead_letters.len());
        let given_up = work.give_up_exhausted(bound, delivery, &mut built.commit);
        let (emitted, seen) = work.run(bound, &decoded, &given_up, &mut built.commit)?;
        let letters = letters..built.commit.dead_letters.len();
        let shadow = bound.shadow.as_ref().map(|(shadow, tried)| {
            let given = Given { decoded: &decoded, ids: &work.ids, exhausted: &given_up, partition, stored, now };
            let live = Live {
                view: &bound.binding.view,
                letters: built.commit.dead_letters.get(letters.clone()).unwrap_or_default(),
                seen: &seen,
            };
            let counts = shadow.run(tried, &given, &live, &mut built.commit.puts);
            (Arc::clone(shadow), counts)
        });
        built.tallies.push(Tally {
            telemetry: bound.binding.telemetry.clone(),
            rows: stored_of(&built.commit) - rows,
            emitted,
            shadow,
            dead_letters: letters,
        });
    }
    telemetry.stage_seconds(Stage::Apply, started.elapsed().as_secs_f64());
    Ok(built)
}

/// Dead letters as a delivery of the entries that they were.
pub(super) fn redeliver(letters: &[DeadLetter]) -> Delivery {
    let mut entries = Entries::default();
    for letter in letters {
        entries.push(letter.id.entry_id, letter.event.iter().map(|field| (field.name.as_slice(), field.value.as_slice())));
    }
    Delivery { entries, redelivered: true, ..Delivery::default() }
}

/// What all transforms of a batch have in common.
pub(super) struct Work<'b> {
    entries: &'b Entries,
    ids: Vec<EntryId>,
    partition: &'b Partition,
    pub(super) stored: &'b Stored,
    pub(super) now: Timestamp,
}

impl Work<'_> {
    /// The same over what else is stored.
    pub(super) fn over<'s>(&'s self, stored: &'s Stored) -> Work<'s> {
        Work { entries: self.entries, ids: Vec::new(), partition: self.partition, stored, now: self.now }
    }

    /// Gives up the entries that were delivered too often; returns their rows.
    fn give_up_exhausted(&self, bound: &Bound, delivery: &Delivery, commit: &mut Commit) -> Vec<usize> {
        let rows = self.ids.iter().enumerate().filter(|(_, id)| delivery.exhausted.contains(id)).map(|(row, _)| row);
        let rows: Vec<usize> = if delivery.exhausted.is_empty() { Vec::new() } else { rows.collect() };
        let message = "the entry was delivered again and again without being settled; it may be what brings the host down";
        for row in &rows {
            self.give_up(bound, *row, Reason::Deliveries, message.to_owned(), commit);
        }
        rows
    }

    /// Runs one transform over the rows that it can be given. Says how many rows go on to another stream, and what it has made.
    fn run(&self, bound: &Bound, decoded: &[Decoded], given_up: &[usize], commit: &mut Commit) -> Result<(usize, Seen), Error> {
        let binding = &*bound.binding;
        let columns: Vec<&Decoded> = bound.columns.iter().filter_map(|column| decoded.get(*column)).collect();
        let whole = Batch { rows: self.entries.len(), columns: columns.iter().map(|column| Arc::clone(&column.column)).collect() };
        let prefix = [self.partition.tag.as_bytes(), binding.view.name.as_bytes(), b":"].concat();
        let faults = faults(self.partition, &self.ids, bound, &columns, &prefix, &whole, self.now);
        for (row, (reason, message)) in faults.iter().filter(|(row, _)| !given_up.contains(row)) {
            self.give_up(bound, *row, *reason, message.clone(), commit);
        }
        let mut left_out: BTreeSet<usize> = faults.into_keys().chain(given_up.iter().copied()).collect();
        let (started, mut late) = (Instant::now(), Late::new());
        loop {
            let part = Part::but_for(&left_out, &whole, &self.ids);
            let Bound { entity, event_time, .. } = bound;
            let origins = Origins { prefix: &prefix, batch: &part.batch, entity, event_time: *event_time, entries: &part.ids, seen: &[] };
            if part.batch.rows == 0 {
                self.hear_of(binding, &origins, &late, &mut commit.puts)?;
                return Ok((0, Seen::default()));
            }
            let tried = self.try_part(binding, &origins, &late, commit)?;
            if tried.is_void {
                let refused = self.refused_of(binding, &origins, tried, &mut late)?;
                left_out.extend(refused.iter().map(|(row, ..)| part.of_whole(*row)));
                self.give_up_all(bound, &part, refused, commit);
                continue;
            }
            let Tried { outputs, mut given_up, refused, puts, outgoing, .. } = tried;
            given_up.extend(refused);
            let emitted = outgoing.go_on(binding, &given_up, &mut commit.emits);
            commit.puts.append(puts);
            let seconds = started.elapsed().as_secs_f64();
            binding.telemetry.apply_seconds(seconds);
            self.give_up_all(bound, &part, given_up, commit);
            return Ok((emitted, Seen { outputs, kept: part.rows, seconds }));
        }
    }

    /// Applies a transform, and adds what it gives to what is stored. Rows of views that keep nothing else go into the commit.
    pub(super) fn try_part(&self, binding: &Binding, origins: &Origins<'_>, late: &Late, commit: &mut Commit) -> Result<Tried, Error> {
        let mut puts = Puts::default();
        let (Applied { outputs, given_up }, seen) = match binding.transform.world() {
            World::RowTransform => (binding.transform.apply_all(origins.batch, Duration::from_millis(binding.bisect_ms_max))?, Vec::new()),
            World::StatefulTransform | World::MigratingTransform => {
                states::fold_into(binding, None, origins, self.stored, self.now, &mut puts)?
            }
        };
        let mut outgoing = Outgoing::of(binding, origins, &outputs, &given_up);
        let astray = std::mem::take(&mut outgoing.astray);
        if !astray.is_empty() {
            // What cannot go on is not to be a row here either, nor in states and windows: an event counts in all of them, or is a dead letter.
            return Ok(Tried { outputs, given_up, refused: astray, is_void: true, puts, outgoing });
        }
        let origins = &Origins { seen: &seen, ..*origins };
        let refused = match &binding.kept {
            None => {
                collect(binding, origins, &outputs, self.now, &mut commit.rows);
                Vec::new()
            }
            Some(plan) => keep(binding, plan, origins, (&outputs, late), self.now, self.stored, &mut puts)?,
        };
        // What the windows do not take must not be in the states either.
        let is_void = !refused.is_empty() && binding.transform.world().is_stateful();
        Ok(Tried { outputs, given_up, refused, is_void, puts, outgoing })
    }

    fn give_up_all(&self, bound: &Bound, part: &Part<'_>, rows: Vec<(usize, Reason, String)>, commit: &mut Commit) {
        rows.into_iter().for_each(|(row, reason, message)| self.give_up(bound, part.of_whole(row), reason, message, commit));
    }

    fn give_up(&self, bound: &Bound, row: usize, reason: Reason, message: String, commit: &mut Commit) {
        let Some(entry) = self.entries.get(row) else { return };
        commit.dead_letters.push(DeadLetter {
            id: DeadLetterId {
                stream: self.partition.stream.clone(),
                partition: self.partition.number(),
                entry_id: entry.id,
                transform: bound.binding.view.name.clone(),
            },
            reason,
            // It repeats what events and guests say.
            message: one_line(&message, MESSAGE_BYTES_MAX),
            component: bound.binding.transform.digest(),
            at: self.now,
            event: DeadLetter::event_of(&entry),
        });
    }
}

/// Some rows of a batch: those that a transform is given.
struct Part<'b> {
    batch: Batch,
    ids: Cow<'b, [EntryId]>,
    /// Of the whole batch; `None` where it is all of them.
    rows: Option<Vec<u32>>,
}

/// What came of it: outputs, rows of the part that the transform or that what is kept has no use for, and what is to be stored and to go on.
pub(super) struct Tried {
    outputs: Vec<(usize, Output)>,
    pub(super) given_up: Vec<(usize, Reason, String)>,
    pub(super) refused: Vec<(usize, Reason, String)>,
    /// Whether nothing of it counts: the rest is to be tried without those that are refused.
    pub(super) is_void: bool,
    pub(super) puts: Puts,
    outgoing: Outgoing,
}

impl<'b> Part<'b> {
    fn but_for(left_out: &BTreeSet<usize>, whole: &Batch, ids: &'b [EntryId]) -> Part<'b> {
        // With nothing left out the columns pass to the sandbox as they are, shared with every other transform.
        if left_out.is_empty() {
            return Part { batch: whole.clone(), ids: Cow::Borrowed(ids), rows: None };
        }
        let rows: Vec<u32> = (0..whole.rows).filter(|row| !left_out.contains(row)).map(|row| row as u32).collect();
        let ids = rows.iter().filter_map(|row| ids.get(*row as usize).copied()).collect();
        Part { batch: whole.take(&rows), ids: Cow::Owned(ids), rows: Some(rows) }
    }

    fn of_whole(&self, row: usize) -> usize {
        self.rows.as_ref().and_then(|rows| rows.get(row)).map_or(row, |row| *row as usize)
    }
}

/// The rows that a transform cannot be given, each with the first reason.
pub(super) fn faults(
    partition: &Partition,
    ids: &[EntryId],
    bound: &Bound,
    columns: &[&Decoded],
    prefix: &[u8],
    whole: &Batch,
    now: Timestamp,
) -> BTreeMap<usize, (Reason, String)> {
    let mut faults = BTreeMap::new();
    for fault in columns.iter().flat_map(|column| &column.faults) {
        faults.entry(fault.row as usize).or_insert_with(|| (Reason::Decode, fault.message.clone()));
    }
    let origins = Origins { prefix, batch: whole, entity: &bound.entity, event_time: bound.event_time, entries: ids, seen: &[] };
    for (row, bytes) in origins.oversized() {
        let message = || format!("the entity key has {bytes} bytes; {ENTITY_KEY_BYTES_MAX} are allowed");
        faults.entry(row).or_insert_with(|| (Reason::Decode, message()));
    }
    // The times of entries are their server's, and never go back: whose clock was ahead once is no reason to refuse all that comes.
    let latest = bound.binding.latest(now).filter(|_| bound.event_time.is_some());
    if let (Some(latest), Some(secs)) = (latest, bound.binding.ahead_max_secs) {
        let message = |time: Timestamp| {
            format!(
                "its time, {time}, is more than {secs} s ahead of this host's clock (`ahead_max_secs`); it can be replayed when that is near"
            )
        };
        let times = (0..whole.rows).map(|row| (row, origins.version(row).event_time));
        times.filter(|(_, time)| *time > latest).for_each(|(row, time)| {
            faults.entry(row).or_insert_with(|| (Reason::TooEarly, message(time)));
        });
    }
    if let Some(partitioning) = &bound.binding.view.partitioning {
        let own = partition.index;
        for (row, right) in origins.misrouted(partitioning, &bound.partition_by, own) {
            let (count, tag) = (partitioning.count, partitioning.tag(right));
            let message = || {
                format!(
                    "the event stands in partition {own} of {count} and belongs into {right}, `{tag}`: whoever added it tells partitions \
                     differently; send it to a host, or add it where it belongs"
                )
            };
            faults.entry(row).or_insert_with(|| (Reason::Misrouted, message()));
        }
    }
    faults
}
