//! Answers by column: `{"features":[…],"entities":[…],"columns":[{"values":[…],"statuses":[…],"event_times":[…]},…]}`.

use super::cells;
use super::error::ApiError;
use super::look::Looked;
use super::plan::Plan;
use super::respond::{Tally, push_made_by, push_status, push_time};
use super::room::AnswerRoom;
use crate::model::json::push_value;

/// The lists of one column without their brackets.
#[derive(Default)]
struct Lists {
    values: Vec<u8>,
    statuses: Vec<u8>,
    event_times: Vec<u8>,
    provenance: Vec<u8>,
}

impl Lists {
    fn len(&self) -> usize {
        self.values.len() + self.statuses.len() + self.event_times.len() + self.provenance.len()
    }
}

/// Writes the whole answer; `looked` has one part for each view of each entity.
pub(super) fn write<E: AsRef<str>>(
    plan: &Plan,
    entities: impl ExactSizeIterator<Item = E>,
    looked: &[Looked],
    kinds: bool,
    provenance: bool,
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<u8>, ApiError> {
    let mut all: Vec<Lists> = plan.columns.iter().map(|_| Lists::default()).collect();
    let mut tally = Tally::new(plan);
    let mut bytes = 0;
    for (index, found) in looked.chunks(plan.views.len().max(1)).enumerate() {
        cells::each(&plan.runs, found, |column, cell| {
            let Some(lists) = all.get_mut(column) else { return Ok(()) };
            let before = lists.len();
            if index > 0 {
                [&mut lists.values, &mut lists.statuses, &mut lists.event_times].into_iter().for_each(|list| list.push(b','));
            }
            push_value(&mut lists.values, cell.value);
            push_status(&mut lists.statuses, cell.status);
            push_time(&mut lists.event_times, cell.event_time);
            tally.count(plan.columns.get(column).map_or(0, |column| column.view), cell.status);
            if provenance {
                if index > 0 {
                    lists.provenance.push(b',');
                }
                push_made_by(&mut lists.provenance, cell.made_by);
            }
            bytes += lists.len() - before;
            room.written(bytes)
        })?;
    }
    tally.add();
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&plan.head);
    out.extend_from_slice(if kinds { &plan.kinds } else { &[] });
    out.extend_from_slice(b",\"entities\":[");
    for (index, entity) in entities.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(entity.as_ref().as_bytes());
    }
    out.extend_from_slice(b"],\"columns\":[");
    for (index, lists) in all.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let named = [("{\"values\":[", &lists.values), ("],\"statuses\":[", &lists.statuses), ("],\"event_times\":[", &lists.event_times)];
        for (name, list) in named.into_iter().chain(provenance.then_some(("],\"provenance\":[", &lists.provenance))) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(list);
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
