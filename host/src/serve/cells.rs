//! What was found for an entity, value by value, for answers that are not rows of JSON.

use super::error::ApiError;
use super::look::{Looked, Looking, MadeBy};
use super::plan::{Mapping, Run};
use crate::model::{FeatureRow, Status, Timestamp, Value};

/// One value of an answer.
pub(super) struct Cell<'r> {
    pub(super) value: Option<Value<'r>>,
    pub(super) status: Status,
    pub(super) event_time: Option<Timestamp>,
    /// Where the value comes from, if there is one.
    pub(super) made_by: Option<MadeBy>,
}

/// Hands the cells of one entity to `take`, each with its column, in the order of the runs; `found` has one part for each view.
pub(super) fn each(runs: &[Run], found: &[Looked], mut take: impl FnMut(usize, Cell<'_>) -> Result<(), ApiError>) -> Result<(), ApiError> {
    for run in runs {
        let looking = found.get(run.view).map(|looked| if run.is_windowed { &looked.windows } else { &looked.row });
        let made_by = found.get(run.view).and_then(|looked| looked.made(run));
        let absent = |status, event_time| Cell { value: None, status, event_time, made_by };
        match looking {
            Some(Looking::Found(row, mapping, event_time) | Looking::Fallback(row, mapping, event_time)) => {
                let is_fallback = matches!(looking, Some(Looking::Fallback(..)));
                let values = values(row, mapping)?;
                let positions = mapping.positions.get(run.columns.clone()).unwrap_or_default();
                for (column, position) in run.columns.clone().zip(positions) {
                    if found.get(run.view).is_some_and(|looked| looked.is_untold(run, column)) {
                        take(column, Cell { made_by: None, ..absent(Status::OutsideHistory, None) })?;
                        continue;
                    }
                    let value = position.and_then(|position| *values.get(position)?);
                    let status = match value {
                        _ if is_fallback => Status::Fallback,
                        Some(_) => Status::Present,
                        None => Status::Null,
                    };
                    take(column, Cell { value, status, event_time: *event_time, made_by })?;
                }
            }
            Some(Looking::TooOld(time)) => {
                run.columns.clone().try_for_each(|column| take(column, absent(Status::OutsideMaxAge, Some(*time))))?;
            }
            Some(Looking::OutsideHistory) => {
                run.columns.clone().try_for_each(|column| take(column, absent(Status::OutsideHistory, None)))?
            }
            Some(Looking::Error) => run.columns.clone().try_for_each(|column| take(column, absent(Status::Error, None)))?,
            Some(Looking::Nothing) | None => run.columns.clone().try_for_each(|column| take(column, absent(Status::NotFound, None)))?,
        }
    }
    Ok(())
}

/// The values of a row up to the last that is needed.
pub(super) fn values<'r>(row: &'r FeatureRow, mapping: &Mapping) -> Result<Vec<Option<Value<'r>>>, ApiError> {
    let values = row.values(mapping.kinds.iter().copied()).take(mapping.needed).collect::<Result<Vec<_>, _>>();
    values.map_err(|error| ApiError::internal(&error.to_string()))
}
