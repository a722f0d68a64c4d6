//! Rows of a view that keeps more than the newest: what is stored of each entity is read, changed and put back.

use std::collections::BTreeMap;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::batch;
use super::binding::Binding;
use super::collect::Origins;
use super::stored::Stored;
use crate::model::{Column, FeatureRow, Put, Puts, Reason, Timestamp, Value, Values, Version, pack_row};
use crate::online_store::Error;
use crate::transform::Output;
use crate::window::{Added, Entity, Forgets, Plan, Shape};

/// By key, the earliest moment of events that were refused as too late.
pub(super) type Late = BTreeMap<Vec<u8>, Timestamp>;

/// A row of the batch that cannot be used, and why.
type GivenUp = (usize, Reason, String);

/// A row of an output, and the row of the batch that it comes from.
struct RowOf {
    output: usize,
    row: usize,
    origin: usize,
}

/// Adds all rows to what is stored of their entities. Returns the rows of the batch that cannot be used, and why. Of entities in `late` an event was refused as too
/// late that is not among the rows.
pub(super) fn keep(
    binding: &Binding,
    plan: &Plan,
    origins: &Origins<'_>,
    (outputs, late): (&[(usize, Output)], &Late),
    now: Timestamp,
    stored: &Stored,
    puts: &mut Puts,
) -> Result<Vec<GivenUp>, batch::Error> {
    let (keys, rows) = by_entity(origins, outputs, late);
    let work = Work { binding, plan, origins, outputs, now };
    let mut given_up = Vec::new();
    let values = stored.read(&keys)?;
    // What has expired since it was read must not be taken for what had expired by then.
    let known = (**binding.forgets.load(), Timestamp::now());
    for ((key, rows), value) in keys.iter().zip(&rows).zip(values) {
        let schema =
            value.as_ref().map(|value| FeatureRow::new(value.clone()).map(|row| row.header.schema)).transpose().map_err(corrupt)?;
        if schema.is_some_and(|schema| schema != binding.schema && !binding.others.knows_schema(schema)) {
            return Err(batch::Error::unknown(&binding.view, "rows of another version"));
        }
        let before = || entity(binding, plan, stored, value.as_ref(), known);
        let (mut kept, refused) = match work.all_at_once(before()?, rows)? {
            Some(fits) => fits,
            None => work.what_fits(before()?, rows)?,
        };
        given_up.extend(refused);
        if let Some(time) = late.get(key).filter(|_| kept.entity.newest().is_some()) {
            kept.has_changed |= kept.entity.heard_of(*time);
        }
        if kept.has_changed {
            let value = work.packed(&mut kept.entity)?;
            let expires_at = binding.expires_at(kept.entity.newest().map_or(now, Version::came), now);
            puts.push(Put { key: key.clone(), value: Some(value.into()), expires_at });
        }
    }
    given_up.sort_by_key(|(row, ..)| *row);
    given_up.dedup_by_key(|(row, ..)| *row);
    Ok(given_up)
}

/// What all entities of a batch have in common.
struct Work<'k> {
    binding: &'k Binding,
    plan: &'k Plan,
    origins: &'k Origins<'k>,
    outputs: &'k [(usize, Output)],
    now: Timestamp,
}

/// An entity, and whether it is another than the stored one.
#[derive(Clone)]
struct Kept {
    entity: Entity,
    has_changed: bool,
}

/// What came of it, and the events that were refused.
type Outcome = (Kept, Vec<GivenUp>);

impl Work<'_> {
    /// Adds all rows of an entity. `None` where it might become too large on the way.
    fn all_at_once(&self, entity: Entity, rows: &[RowOf]) -> Result<Option<Outcome>, Error> {
        let newest = self.newest_of_the_past(rows);
        let (mut kept, mut refused, mut not_packed) = (Kept { entity, has_changed: false }, Vec::new(), 0);
        for event in events(rows) {
            for row in event.iter().filter(|row| !self.is_packed(row, newest)) {
                not_packed += self.bytes_most(row);
            }
            if !self.add(&mut kept, event, newest, &mut refused)? {
                continue;
            }
            if kept.entity.bytes_most(self.plan).saturating_add(not_packed) > self.binding.entity_bytes_max
                && kept.entity.bytes(self.plan).map_err(corrupt)? + not_packed > self.binding.entity_bytes_max
            {
                return Ok(None);
            }
        }
        Ok(Some((kept, refused)))
    }

    /// The same event by event, so that what is kept in the end does not depend on which of them came together: where one makes the entity too large, its history becomes
    /// shorter, and where that is not enough, the event is refused.
    fn what_fits(&self, entity: Entity, rows: &[RowOf]) -> Result<Outcome, Error> {
        let (mut kept, mut refused) = (Kept { entity, has_changed: false }, Vec::new());
        // As it was after the last event that had no room at once, and those since.
        let (mut before, mut since) = (kept.clone(), Vec::new());
        for event in events(rows) {
            if !self.add(&mut kept, event, None, &mut refused)? || self.has_room(&mut kept.entity)? {
                since.push(event);
                continue;
            }
            for event in since.drain(..) {
                self.add(&mut before, event, None, &mut Vec::new())?;
            }
            match kept.entity.make_room(self.plan, self.binding.entity_bytes_max, self.now).map_err(corrupt)? {
                None => before = kept.clone(),
                Some(bytes) => {
                    let max = self.binding.entity_bytes_max;
                    let message = format!("the entity would keep {bytes} bytes; {max} are allowed (`entity_bytes_max`)");
                    refused.extend(event.first().map(|row| (row.origin, Reason::TooLarge, message)));
                    kept = before.clone();
                }
            }
        }
        Ok((kept, refused))
    }

    /// Adds the rows of one event, which counts as a whole or not at all. Says whether it does.
    fn add(
        &self,
        kept: &mut Kept,
        event: &[RowOf],
        newest_of_the_past: Option<Version>,
        refused: &mut Vec<GivenUp>,
    ) -> Result<bool, Error> {
        let mut counts = false;
        for row in event {
            match self.add_row(&mut kept.entity, row, newest_of_the_past)? {
                Added::Counted => counts = true,
                Added::TooLate => {
                    kept.has_changed |= kept.entity.heard_of(self.origins.version(row.origin).event_time);
                    refused.push((row.origin, Reason::TooLate, too_late(&kept.entity)));
                }
            }
        }
        kept.has_changed |= counts;
        Ok(counts)
    }

    fn has_room(&self, entity: &mut Entity) -> Result<bool, Error> {
        let max = self.binding.entity_bytes_max;
        Ok(entity.bytes_most(self.plan) <= max || entity.bytes(self.plan).map_err(corrupt)? <= max)
    }

    /// The newest version among the rows that are of the past at every moment that will be answered: those that are older need not be kept as rows.
    fn newest_of_the_past(&self, rows: &[RowOf]) -> Option<Version> {
        let versions = || rows.iter().map(|row| self.origins.row_version(row.origin));
        let newest = versions().map(|version| version.event_time.0).max()?;
        let answered_from = newest.min(self.now.0).saturating_sub(self.plan.history());
        versions().filter(|version| version.event_time.0 <= answered_from).max()
    }

    /// Whether a row may still be kept: rows of one moment are kept together.
    fn is_packed(&self, row: &RowOf, newest_of_the_past: Option<Version>) -> bool {
        newest_of_the_past.is_none_or(|newest| newest.event_time <= self.origins.row_version(row.origin).event_time)
    }

    fn add_row(&self, entity: &mut Entity, row: &RowOf, newest_of_the_past: Option<Version>) -> Result<Added, Error> {
        let Some((_, output)) = self.outputs.get(row.output) else { return Ok(Added::Counted) };
        let (version, columns) = (self.origins.version(row.origin), &output.batch.columns);
        let of_row = self.origins.row_version(row.origin);
        let packed = self.is_packed(row, newest_of_the_past).then(|| {
            let mut packed = Vec::with_capacity(64);
            pack_row(&mut packed, of_row, self.binding.schema, columns, row.row);
            packed.into()
        });
        let value = |column: usize| columns.get(column).and_then(|column: &std::sync::Arc<Column>| Value::at(column, row.row));
        entity.add(self.plan, version, (of_row, packed), self.now, value).map_err(corrupt)
    }

    /// No fewer than a row takes that is packed.
    fn bytes_most(&self, row: &RowOf) -> usize {
        let of_column = |column: &std::sync::Arc<Column>| match &column.values {
            Values::Texts(packed) | Values::Blobs(packed) => packed.get(row.row).len() + 16,
            Values::Vectors { width, .. } => *width as usize * 4 + 16,
            Values::Booleans(_) | Values::Integers(_) | Values::Floats(_) | Values::Timestamps(_) => 16,
        };
        64 + self.outputs.get(row.output).map_or(0, |(_, output)| output.batch.columns.iter().map(of_column).sum())
    }

    fn packed(&self, entity: &mut Entity) -> Result<Vec<u8>, Error> {
        let mut value = Vec::new();
        entity.push(self.plan, &mut value, self.binding.schema).map_err(corrupt)?;
        Ok(value)
    }
}

fn too_late(entity: &Entity) -> String {
    format!("the event is too late: every window that covers it has passed, for the entity is answered from {} on", entity.kept_from())
}

/// The rows of each event.
fn events(rows: &[RowOf]) -> impl Iterator<Item = &[RowOf]> {
    rows.chunk_by(|one, other| one.origin == other.origin)
}

/// The keys of the entities, and for each its rows in the order of the events.
fn by_entity(origins: &Origins<'_>, outputs: &[(usize, Output)], late: &Late) -> (Vec<Vec<u8>>, Vec<Vec<RowOf>>) {
    let (mut keys, mut rows): (Vec<Vec<u8>>, Vec<Vec<RowOf>>) = (Vec::new(), Vec::new());
    let mut known: FxHashMap<Vec<u8>, usize> = FxHashMap::default();
    let mut key = Vec::new();
    for (index, (start, output)) in outputs.iter().enumerate() {
        for row in 0..output.batch.rows {
            let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
            let origin = start + within;
            key.clear();
            key.extend_from_slice(origins.prefix);
            origins.push_key(&mut key, origin);
            let row = RowOf { output: index, row, origin };
            match known.get(&key).and_then(|at| rows.get_mut(*at)) {
                Some(rows) => rows.push(row),
                None => {
                    known.insert(key.clone(), keys.len());
                    keys.push(key.clone());
                    rows.push(vec![row]);
                }
            }
        }
    }
    for key in late.keys().filter(|key| !known.contains_key(*key)) {
        keys.push(key.clone());
        rows.push(Vec::new());
    }
    (keys, rows)
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(error.to_string())
}

/// An entity as the schema in force has it; and when it was read.
fn entity(
    binding: &Binding,
    plan: &Plan,
    stored: &Stored,
    value: Option<&Bytes>,
    (forgets, read_at): (Forgets, Timestamp),
) -> Result<Entity, Error> {
    let row = value.map(|value| FeatureRow::new(value.clone())).transpose().map_err(corrupt)?;
    let other = row.as_ref().map(|row| row.header.schema).filter(|schema| *schema != binding.schema);
    let old = other.map(|schema| stored.schema(schema)).transpose()?;
    let from = old.as_ref().map(|old| (Shape { outputs: &old.outputs, plan: &old.plan }, old.keeps_since));
    let to = Shape { outputs: &binding.view.features, plan };
    forgets.entity(binding.lasting, row.as_ref(), from, to, read_at).map_err(corrupt)
}
