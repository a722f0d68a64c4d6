//! Rows of a view that keeps more than the newest: what is stored of each entity is read, changed and put back.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::batch;
use super::binding::Binding;
use super::collect::Origins;
use super::stored::Stored;
use crate::model::{Column, FeatureRow, Put, Puts, Reason, SchemaId, Timestamp, Value, Version, pack_row};
use crate::online_store::Error;
use crate::transform::Output;
use crate::window::{Added, Entity, Plan, Shape};

/// A row of the batch that cannot be used, and why.
type GivenUp = (usize, Reason, String);

/// A row of an output, and the row of the batch that it comes from.
struct RowOf {
    output: usize,
    row: usize,
    origin: usize,
}

/// Adds all rows to what is stored of their entities. Returns the rows of the batch that cannot be used, and why.
pub(super) fn keep(
    binding: &Binding,
    plan: &Plan,
    origins: &Origins<'_>,
    outputs: &[(usize, Output)],
    now: Timestamp,
    stored: &Stored,
    puts: &mut Puts,
) -> Result<Vec<GivenUp>, batch::Error> {
    let (keys, rows) = by_entity(origins, outputs);
    let work = Work { binding, plan, origins, outputs, now };
    let mut given_up = Vec::new();
    for ((key, rows), value) in keys.iter().zip(&rows).zip(stored.read(&keys)?) {
        let schema =
            value.as_ref().map(|value| FeatureRow::new(value.clone()).map(|row| row.header.schema)).transpose().map_err(corrupt)?;
        if schema.is_some_and(|schema| schema != binding.schema && !binding.others.knows_schema(schema)) {
            return Err(batch::Error::unknown(&binding.view, "rows of another version"));
        }
        let before = || entity(binding, plan, stored, value.clone());
        let (entity, value) = match work.all_at_once(before()?, rows, &mut given_up)? {
            Some(fits) => fits,
            None => work.what_fits(before()?, rows, &mut given_up)?,
        };
        if let Some(value) = value {
            let expires_at = binding.expires_at(entity.newest().map_or(now, |newest| newest.event_time), now);
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

/// An entity, and its stored form where that has changed.
type Kept = (Entity, Option<Vec<u8>>);

impl Work<'_> {
    /// Adds all rows of an entity. `None`, and nobody is given up, where it becomes too large.
    fn all_at_once(&self, mut entity: Entity, rows: &[RowOf], given_up: &mut Vec<GivenUp>) -> Result<Option<Kept>, Error> {
        let newest = self.newest_of_the_past(rows);
        let (mut counted, mut too_late) = (false, Vec::new());
        for row in rows {
            match self.add(&mut entity, row, newest)? {
                Added::Counted => counted = true,
                Added::TooLate => too_late.push(self.too_late(row, &entity)),
            }
        }
        if !counted {
            given_up.append(&mut too_late);
            return Ok(Some((entity, None)));
        }
        let mut value = self.packed(&mut entity)?;
        if value.len() > self.binding.entity_bytes_max {
            if self.make_room(&mut entity)?.is_some() {
                return Ok(None);
            }
            value = self.packed(&mut entity)?;
        }
        given_up.append(&mut too_late);
        Ok(Some((entity, Some(value))))
    }

    /// Adds those rows of an entity that it has room for: all together where they fit, else each half of them, down to single events. What is refused costs what it
    /// touches, not what the entity has.
    fn what_fits(&self, mut entity: Entity, rows: &[RowOf], given_up: &mut Vec<GivenUp>) -> Result<Kept, Error> {
        // An event counts as a whole or not at all.
        let events: Vec<&[RowOf]> = rows.chunk_by(|one, other| one.origin == other.origin).collect();
        let (mut has_changed, mut pieces) = (false, vec![events.as_slice()]);
        while let Some(events) = pieces.pop() {
            let (mut with, mut late, mut counted) = (entity.clone(), Vec::new(), false);
            for row in events.iter().copied().flatten() {
                match self.add(&mut with, row, None)? {
                    Added::Counted => counted = true,
                    Added::TooLate => late.push(self.too_late(row, &with)),
                }
            }
            match (if counted { self.make_room(&mut with)? } else { None }, events) {
                (None, _) => {
                    given_up.append(&mut late);
                    (entity, has_changed) = (with, has_changed || counted);
                }
                (Some(bytes), [rows]) => {
                    let max = self.binding.entity_bytes_max;
                    let message = format!("the entity would keep {bytes} bytes; {max} are allowed (`entity_bytes_max`)");
                    given_up.extend(rows.iter().map(|row| (row.origin, Reason::TooLarge, message.clone())));
                }
                (Some(_), events) => {
                    let (first, second) = events.split_at(events.len() / 2);
                    pieces.extend([second, first]);
                }
            }
        }
        let value = if has_changed { Some(self.packed(&mut entity)?) } else { None };
        Ok((entity, value))
    }

    /// Shortens the history of an entity that is too large, which says so, and that is better than events that do not count. The bytes that it takes without any where that
    /// is still too much.
    fn make_room(&self, entity: &mut Entity) -> Result<Option<usize>, Error> {
        let (plan, max) = (self.plan, self.binding.entity_bytes_max);
        if entity.bytes(plan).map_err(corrupt)? <= max {
            return Ok(None);
        }
        let mut least = entity.clone();
        least.give_up_history(plan, self.now).map_err(corrupt)?;
        let bytes = least.bytes(plan).map_err(corrupt)?;
        if bytes > max {
            return Ok(Some(bytes));
        }
        while entity.bytes(plan).map_err(corrupt)? > max {
            if !entity.shorten_history(plan, self.now).map_err(corrupt)? {
                *entity = least;
                break;
            }
        }
        Ok(None)
    }

    /// The newest version among the rows that are of the past at every moment that will be answered: those that are older need not be kept as rows.
    fn newest_of_the_past(&self, rows: &[RowOf]) -> Option<Version> {
        let versions = || rows.iter().map(|row| self.origins.row_version(row.origin));
        let newest = versions().map(|version| version.event_time.0).max()?;
        let answered_from = newest.min(self.now.0).saturating_sub(self.plan.history());
        versions().filter(|version| version.event_time.0 <= answered_from).max()
    }

    fn add(&self, entity: &mut Entity, row: &RowOf, newest_of_the_past: Option<Version>) -> Result<Added, Error> {
        let Some((_, output)) = self.outputs.get(row.output) else { return Ok(Added::Counted) };
        let (version, columns) = (self.origins.version(row.origin), &output.batch.columns);
        let of_row = self.origins.row_version(row.origin);
        let packed = newest_of_the_past.is_none_or(|newest| newest <= of_row).then(|| {
            let mut packed = Vec::with_capacity(64);
            pack_row(&mut packed, of_row, self.binding.schema, columns, row.row);
            packed.into()
        });
        let value = |column: usize| columns.get(column).and_then(|column: &std::sync::Arc<Column>| Value::at(column, row.row));
        entity.add(self.plan, version, packed, self.now, value).map_err(corrupt)
    }

    fn packed(&self, entity: &mut Entity) -> Result<Vec<u8>, Error> {
        let mut value = Vec::new();
        entity.push(self.plan, &mut value, self.binding.schema).map_err(corrupt)?;
        Ok(value)
    }

    fn too_late(&self, row: &RowOf, entity: &Entity) -> GivenUp {
        (row.origin, Reason::TooLate, too_late(entity))
    }
}

fn too_late(entity: &Entity) -> String {
    format!("the event is too late: every window that covers it has passed, for the entity is answered from {} on", entity.kept_from())
}

/// The keys of the entities, and for each its rows in the order of the events.
fn by_entity(origins: &Origins<'_>, outputs: &[(usize, Output)]) -> (Vec<Vec<u8>>, Vec<Vec<RowOf>>) {
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
    (keys, rows)
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(error.to_string())
}

/// What is stored of an entity, as the schema in force has it.
fn entity(binding: &Binding, plan: &Plan, stored: &Stored, value: Option<Bytes>) -> Result<Entity, Error> {
    let Some(value) = value else { return Ok(Entity::new(plan)) };
    let row = FeatureRow::new(value.clone()).map_err(corrupt)?;
    let (header, schema): (_, SchemaId) = (row.header, row.header.schema);
    if row.is_entity() && schema == binding.schema {
        return Entity::read(&value, plan).map_err(corrupt);
    }
    let old = stored.schema(schema)?;
    let entity =
        if row.is_entity() { Entity::read(&value, &old.plan).map_err(corrupt)? } else { Entity::of_row(&old.plan, header.version, value) };
    if schema == binding.schema {
        return Ok(entity);
    }
    let to = Shape { outputs: &binding.view.features, plan };
    let adapted = entity.adapt(Shape { outputs: &old.outputs, plan: &old.plan }, to);
    adapted.ok_or_else(|| Error::Corrupt("an entity that was stored under another schema".into()))
}
