//! Computing the views of a plan that are not stored, from the request and from what was read for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::brought::Brings;
use super::cells;
use super::computed::{Computed, From};
use super::error::ApiError;
use super::join_keys::Given;
use super::look::{At, Looked, Looking, MadeBy};
use super::plan::{Plan, PlannedView};
use crate::decode::{Builder, Decoded, Raw};
use crate::model::{Batch, EntryId, FeatureRow, Reason, SchemaId, Timestamp, Version, pack_row};

/// Fills in the views that are computed; `keys` and `looked` have one part for each view of each entity. All of it is done by `until`, where there is such a
/// moment, and each transform takes no longer than its own deadline: entities that are not done by then get what is configured for them.
pub(super) fn compute(
    plan: &Plan,
    at: At,
    until: Option<Instant>,
    keys: &[Vec<u8>],
    looked: &mut [Looked],
    brings: &impl Brings,
) -> Result<(), ApiError> {
    let stride = plan.views.len();
    for (position, view) in plan.views.iter().enumerate() {
        let Some(computed) = &view.computed else { continue };
        let own = Duration::from_millis(computed.transform.limits().deadline_ms);
        let left = until.map_or(own, |until| until.saturating_duration_since(Instant::now()).min(own));
        let rows = rows(plan, view, computed, at.moment(), left, looked, brings)?;
        let slots = looked.iter_mut().skip(position).step_by(stride).zip(keys.iter().skip(position).step_by(stride));
        for ((looked, key), row) in slots.zip(rows) {
            *looked = answer(view, computed, key, row, at);
        }
    }
    Ok(())
}

/// What came of one entity.
enum Outcome {
    Row(FeatureRow),
    /// The transform made nothing of it.
    Nothing,
    Failed(Reason, String),
}

fn rows(
    plan: &Plan,
    view: &PlannedView,
    computed: &Computed,
    moment: Timestamp,
    time_max: Duration,
    looked: &[Looked],
    brings: &impl Brings,
) -> Result<Vec<Outcome>, ApiError> {
    let entities = looked.len() / plan.views.len().max(1);
    let columns = columns(plan, view, computed, moment, looked, brings)?;
    if time_max.is_zero() {
        let late = || Outcome::Failed(Reason::Deadline, "the request's deadline had passed before its inputs were there".into());
        return Ok((0..entities).map(|_| late()).collect());
    }
    let mut outcomes: Vec<Outcome> = (0..entities).map(|_| Outcome::Nothing).collect();
    for fault in columns.iter().flat_map(|decoded| &decoded.faults) {
        // A value that the request brings is the client's to mend; a stored one is not.
        if let Some(outcome) = outcomes.get_mut(fault.row as usize) {
            *outcome = Outcome::Failed(Reason::Decode, fault.message.clone());
        }
    }
    let usable: Vec<u32> =
        outcomes.iter().zip(0..).filter(|(outcome, _)| matches!(outcome, Outcome::Nothing)).map(|(_, row)| row).collect();
    let mut batch = Batch { rows: entities, columns: columns.into_iter().map(|decoded| decoded.column).collect() };
    if usable.len() < entities {
        batch = batch.take(&usable);
    }
    if batch.rows == 0 {
        return Ok(outcomes);
    }
    let applied = computed.apply(&batch, time_max);
    let entity = |row: usize| usable.get(row).map(|row| *row as usize);
    let mut set = |row: usize, outcome: Outcome| {
        if let Some(slot) = entity(row).and_then(|entity| outcomes.get_mut(entity)) {
            *slot = outcome;
        }
    };
    match applied {
        Err(error) => (0..batch.rows).for_each(|row| set(row, Outcome::Failed(error.reason(), error.to_string()))),
        Ok(applied) => {
            let version = Version { event_time: moment, entry_id: EntryId::ZERO };
            for (start, output) in &applied.outputs {
                for row in 0..output.batch.rows {
                    let origin = output.origins.as_ref().map_or(Some(row), |origins| origins.get(row).map(|origin| *origin as usize));
                    let mut packed = Vec::new();
                    pack_row(&mut packed, version, SchemaId(0), &output.batch.columns, row);
                    let packed = FeatureRow::new(packed.into()).map_err(|error| ApiError::internal(&error.to_string()))?;
                    // Of several rows for one entity the last counts, as it does on a stream.
                    origin.into_iter().for_each(|origin| set(start + origin, Outcome::Row(packed.clone())));
                }
            }
            applied.given_up.into_iter().for_each(|(row, reason, message)| set(row, Outcome::Failed(reason, message)));
        }
    }
    Ok(outcomes)
}

/// The inputs of all entities, by the rules by which events are read.
fn columns(
    plan: &Plan,
    view: &PlannedView,
    computed: &Computed,
    moment: Timestamp,
    looked: &[Looked],
    brings: &impl Brings,
) -> Result<Vec<Decoded>, ApiError> {
    let stride = plan.views.len().max(1);
    let mut builders: Vec<Builder<'_>> = computed.inputs.iter().map(|(wanted, _)| Builder::new(wanted, looked.len() / stride)).collect();
    for (entity, found) in looked.chunks(stride).enumerate() {
        for ((wanted, from), builder) in computed.inputs.iter().zip(&mut builders) {
            let given = match from {
                From::JoinKey => brings.join_key(entity, &wanted.from),
                From::Request | From::RequestOrMoment => brings.beside(entity, &wanted.from),
                From::Feature(_) => continue,
            };
            match given {
                None if *from == From::RequestOrMoment => builder.push_stored(Some(crate::model::Value::Timestamp(moment))),
                given => builder.push(given.map(|given| match given {
                    Given::Json(text) => Raw::Json(text),
                    Given::Plain(text) => Raw::Plain(text.as_bytes()),
                })),
            }
        }
        cells::each(&plan.sources.runs, found, |column, cell| {
            for (_, input) in view.sources.iter().filter(|(of, _)| *of == column) {
                builders.get_mut(*input).into_iter().for_each(|builder| builder.push_stored(cell.value));
            }
            Ok(())
        })?;
    }
    let columns: Vec<Decoded> = builders.into_iter().map(Builder::finish).collect();
    for ((_, from), decoded) in computed.inputs.iter().zip(&columns) {
        if let (From::JoinKey | From::Request | From::RequestOrMoment, Some(fault)) = (from, decoded.faults.first()) {
            return Err(ApiError::unusable(format!("what the request brings for entities[{}]: {}", fault.row, fault.message)));
        }
    }
    Ok(columns)
}

fn answer(view: &PlannedView, computed: &Computed, key: &[u8], outcome: Outcome, at: At) -> Looked {
    let found = |row, made_by| Looked { row, made_by, ..Looked::default() };
    let made_by = |event_time| MadeBy { component: computed.view.component, event_time, entry_id: None };
    match outcome {
        Outcome::Nothing => Looked::default(),
        Outcome::Row(row) => {
            computed.remember(key, &row, at);
            found(Looking::Found(row, Arc::clone(&view.rows), Some(at.moment())), Some(made_by(at.moment())))
        }
        Outcome::Failed(reason, message) => {
            computed.failed(reason, &message, Timestamp::now());
            match computed.instead(key, at) {
                Some((row, time)) => found(Looking::Fallback(row, Arc::clone(&view.rows), time), time.map(made_by)),
                None => found(Looking::Error, None),
            }
        }
    }
}
