//! Running a stateful transform over one batch: rows of one entity together, with the state that is kept for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::collect::Origins;
use crate::model::{Batch, Column, Disposition, Packed, Reason, Validity, Values};
use crate::transform::{Applied, Error, Folded, Output, STUCK_CALLS, Transform};

/// The rows of one entity in a batch.
struct Group {
    key: Vec<u8>,
    rows: Vec<u32>,
}

/// Folds all rows into the states, which are by entity key. A call that fails is halved, between entities and then between the rows of one, until the rows
/// at fault stand alone; one that did not return in time is called again. They are given up, and the state goes on with those after them. What is still
/// mixed after `bisect_time_max` is given up together. Fails only with errors that another try may cure.
pub(super) fn fold(
    transform: &Transform,
    origins: &Origins<'_>,
    states: &mut HashMap<Vec<u8>, Vec<u8>>,
    bisect_time_max: Duration,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    let mut failing_since = None;
    // A stack, the first rows on top: what comes later of an entity is folded into the state that those before it have left. Each with how many calls before it had its
    // rows and did not return in time.
    let mut pieces = vec![(grouped(origins), 0)];
    while let Some((mut groups, stuck_before)) = pieces.pop() {
        match call(transform, origins.batch, &groups, states) {
            Ok((order, folded)) => keep(&groups, &order, folded, states, &mut applied),
            Err(error) if error.disposition() != Disposition::Reject => return Err(error),
            Err(error) => {
                let since: &mut Instant = failing_since.get_or_insert_with(Instant::now);
                let (has_time, stuck) = (since.elapsed() < bisect_time_max, stuck_before + u32::from(error.is_deadline()));
                let rows: Vec<u32> = groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
                match rows.as_slice() {
                    [] => {}
                    [_] if has_time && error.is_deadline() && stuck < STUCK_CALLS => pieces.push((groups, stuck)),
                    [row] => applied.given_up.push((*row as usize, error.reason(), error.to_string())),
                    _ if has_time => {
                        let second = second_half(&mut groups);
                        pieces.push((second, stuck));
                        pieces.push((groups, stuck));
                    }
                    rows => {
                        let others = rows.len() - 1;
                        let message =
                            format!("a call with this and {others} other events failed, and the time to find which was used up: {error}");
                        applied.given_up.extend(rows.iter().map(|row| (*row as usize, Reason::NotIsolated, message.clone())));
                    }
                }
            }
        }
    }
    Ok(applied)
}

/// Takes away the later half of the entities, or of the rows where there is only one entity.
fn second_half(groups: &mut Vec<Group>) -> Vec<Group> {
    match groups.as_mut_slice() {
        [only] => vec![Group { key: only.key.clone(), rows: only.rows.split_off(only.rows.len() / 2) }],
        _ => groups.split_off(groups.len() / 2),
    }
}

fn grouped(origins: &Origins<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
    for row in 0..origins.batch.rows {
        let mut key = Vec::new();
        origins.push_key(&mut key, row);
        let index = match known.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                groups.push(Group { key: new.key().clone(), rows: Vec::new() });
                *new.insert(groups.len() - 1)
            }
        };
        if let Some(group) = groups.get_mut(index) {
            group.rows.push(row as u32);
        }
    }
    groups
}

/// One call for some groups; also gives the row of the batch for each row that was handed over.
fn call(transform: &Transform, batch: &Batch, groups: &[Group], states: &HashMap<Vec<u8>, Vec<u8>>) -> Result<(Vec<u32>, Folded), Error> {
    let order: Vec<u32> = groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
    let mut bounds = vec![0_u32];
    let mut end = 0;
    let mut packed = Packed::default();
    let mut validity = Validity::all_valid(groups.len());
    for (index, group) in groups.iter().enumerate() {
        end += group.rows.len() as u32;
        bounds.push(end);
        let state = states.get(&group.key);
        packed.push(state.map(Vec::as_slice).unwrap_or_default());
        if state.is_none() {
            validity.set_null(index);
        }
    }
    let before = Column { values: Values::Blobs(packed), validity: Some(validity) };
    let folded = transform.fold(&batch.take(&order), &bounds, &before)?;
    Ok((order, folded))
}

/// Keeps the states and brings outputs back to the order of the batch.
fn keep(groups: &[Group], order: &[u32], folded: Folded, states: &mut HashMap<Vec<u8>, Vec<u8>>, applied: &mut Applied) {
    let Folded { output, states: after } = folded;
    for (index, group) in groups.iter().enumerate() {
        let state = match &after.values {
            Values::Blobs(packed) if after.is_valid(index) => Some(packed.get(index).to_vec()),
            Values::Blobs(_)
            | Values::Booleans(_)
            | Values::Integers(_)
            | Values::Floats(_)
            | Values::Texts(_)
            | Values::Timestamps(_)
            | Values::Vectors { .. } => None,
        };
        match state {
            Some(state) => states.insert(group.key.clone(), state),
            None => states.remove(&group.key),
        };
    }
    let row_of = |handed: u32| order.get(handed as usize).copied().unwrap_or(handed);
    let rejected = output.rejected.iter();
    applied.given_up.extend(rejected.map(|(row, message)| (row_of(*row) as usize, Reason::Rejected, message.clone())));
    let origins = output.origins.unwrap_or_else(|| (0..output.batch.rows as u32).collect());
    let origins = origins.into_iter().map(row_of).collect();
    applied.outputs.push((0, Output { batch: output.batch, origins: Some(origins), rejected: Vec::new() }));
}
