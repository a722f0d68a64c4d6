//! Rows of a view that keeps more than the newest: what is stored of each entity is read, changed and put back.

use std::collections::HashMap;

use bytes::Bytes;

use super::binding::Binding;
use super::collect::Origins;
use super::stored::Stored;
use crate::model::{Column, FeatureRow, Put, Puts, Reason, SchemaId, Timestamp, Value, Version, pack_row};
use crate::online_store::Error;
use crate::transform::Output;
use crate::window::{Added, Entity, Plan, Shape};

/// Bytes that are kept of one entity of one view, at most.
const ENTITY_BYTES_MAX: usize = 2 << 20;

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
) -> Result<Vec<(usize, Reason, String)>, Error> {
    let (keys, rows) = by_entity(origins, outputs);
    let mut given_up = Vec::new();
    for ((key, rows), value) in keys.iter().zip(&rows).zip(stored.read(&keys)?) {
        let mut entity = entity(binding, plan, stored, value)?;
        let mut counted = false;
        for RowOf { output, row, origin } in rows {
            let Some((_, output)) = outputs.get(*output) else { continue };
            let (version, columns) = (origins.version(*origin), &output.batch.columns);
            let mut packed = Vec::new();
            pack_row(&mut packed, version, binding.schema, columns, *row);
            let value = |column: usize| columns.get(column).and_then(|column: &std::sync::Arc<Column>| Value::at(column, *row));
            match entity.add(plan, version, packed.into(), now, value) {
                Added::Counted => counted = true,
                Added::TooLate => given_up.push((*origin, Reason::TooLate, too_late(&entity))),
            }
        }
        if !counted {
            continue;
        }
        let mut value = Vec::new();
        entity.push(&mut value, binding.schema);
        // A history that is shorter than asked for, and says so, is better than events that do not count.
        while value.len() > ENTITY_BYTES_MAX && entity.shorten_history(plan, now) {
            value.clear();
            entity.push(&mut value, binding.schema);
        }
        if value.len() > ENTITY_BYTES_MAX {
            let message = format!("the entity would keep {} bytes; {ENTITY_BYTES_MAX} are allowed", value.len());
            given_up.extend(rows.iter().map(|row| (row.origin, Reason::TooLarge, message.clone())));
            continue;
        }
        let expires_at = expires_at(binding, plan, entity.newest(), now);
        puts.push(Put { key: key.clone(), value: Some(value.into()), expires_at });
    }
    given_up.sort_by_key(|(row, ..)| *row);
    given_up.dedup_by_key(|(row, ..)| *row);
    Ok(given_up)
}

fn too_late(entity: &Entity) -> String {
    format!("the event is too late: every window that covers it has passed, for the entity is answered from {} on", entity.kept_from())
}

/// The keys of the entities, and for each its rows in the order of the events.
fn by_entity(origins: &Origins<'_>, outputs: &[(usize, Output)]) -> (Vec<Vec<u8>>, Vec<Vec<RowOf>>) {
    let (mut keys, mut rows): (Vec<Vec<u8>>, Vec<Vec<RowOf>>) = (Vec::new(), Vec::new());
    let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
    for (index, (start, output)) in outputs.iter().enumerate() {
        for row in 0..output.batch.rows {
            let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
            let origin = start + within;
            let mut key = origins.prefix.to_vec();
            origins.push_key(&mut key, origin);
            let at = *known.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                rows.push(Vec::new());
                keys.len() - 1
            });
            if let Some(rows) = rows.get_mut(at) {
                rows.push(RowOf { output: index, row, origin });
            }
        }
    }
    (keys, rows)
}

/// What is stored of an entity, as the schema in force has it.
fn entity(binding: &Binding, plan: &Plan, stored: &Stored, value: Option<Bytes>) -> Result<Entity, Error> {
    let corrupt = |error: &dyn std::fmt::Display| Error::Corrupt(error.to_string());
    let Some(value) = value else { return Ok(Entity::new(plan)) };
    let row = FeatureRow::new(value.clone()).map_err(|error| corrupt(&error))?;
    let (header, schema): (_, SchemaId) = (row.header, row.header.schema);
    if row.is_entity() && schema == binding.schema {
        return Entity::read(&value, plan).map_err(|error| corrupt(&error));
    }
    let old = stored.schema(schema)?;
    let entity = if row.is_entity() {
        Entity::read(&value, &old.plan).map_err(|error| corrupt(&error))?
    } else {
        Entity::of_row(&old.plan, header.version, value)
    };
    if schema == binding.schema {
        return Ok(entity);
    }
    let to = Shape { outputs: &binding.view.features, plan };
    let adapted = entity.adapt(Shape { outputs: &old.outputs, plan: &old.plan }, to, binding.schema);
    adapted.ok_or_else(|| Error::Corrupt("an entity that was stored under another schema".into()))
}

/// When nothing of the entity can be read any more.
fn expires_at(binding: &Binding, plan: &Plan, newest: Option<Version>, now: Timestamp) -> Option<Timestamp> {
    let row_micros = i64::try_from(binding.expire_secs?).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let micros = plan.reach()?.max(row_micros.saturating_add(plan.history()));
    Some(Timestamp(newest?.event_time.max(now).0.saturating_add(micros)))
}
