//! Results of entities that were told before: as long as neither the plan nor any row has changed, the same is sent again, and neither the entity is read nor a
//! result written nor even copied.

mod result;
mod results;

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use serde_json::value::RawValue;

use super::Shared;
use super::error::ApiError;
use super::features::{aside, look_at};
use super::join_keys::entity_keys;
use super::look::{At, Looked, Looking};
use super::parts::{Parts, Sending};
use super::pieces::Counts;
use super::plan::Plan;
use super::reading;
use super::respond::ResultWriter;
use super::room::AnswerRoom;
use crate::model::{Timestamp, View};
use result::Before;
pub(super) use result::Told;
pub(super) use results::{Generations, Place, Results};

/// A result in an answer that is being put together.
enum Part {
    /// One that is kept, in which of the tables that the answer holds, and where.
    Kept(usize, Place),
    /// One that is not.
    Once(Told),
}

/// An answer that is being put together.
struct Answer {
    tables: Vec<Arc<Generations>>,
    /// In the order of the entities; none that has yet to be told.
    parts: Vec<Option<Part>>,
}

impl Answer {
    fn get(&self, index: usize) -> Option<&Told> {
        match self.parts.get(index)?.as_ref()? {
            Part::Kept(table, place) => self.tables.get(*table)?.get(*place),
            Part::Once(told) => Some(told),
        }
    }

    /// The results that were kept when it was begun.
    fn kept(&self) -> impl Iterator<Item = Place> {
        self.parts.iter().flatten().filter_map(|part| if let Part::Kept(0, place) = part { Some(*place) } else { None })
    }

    fn put(&mut self, index: usize, part: Part) {
        if let Some(slot) = self.parts.get_mut(index) {
            *slot = Some(part);
        }
    }

    fn bytes(&self) -> usize {
        (0..self.parts.len()).filter_map(|index| self.get(index)).map(|told| told.text().len()).sum()
    }
}

/// The answer as of now with a result for each entity, of a plan whose results last.
pub(super) async fn answer(
    shared: &Shared,
    plan: &Plan,
    views: &[&View],
    now: Timestamp,
    entities: &[&RawValue],
    kinds: bool,
) -> Result<Sending, ApiError> {
    let (mut room, noted) = (shared.rooms.answer(), shared.state.store.noted());
    let stride = views.len();
    let known = shared.results.load();
    let mut parts: Vec<Option<Part>> = Vec::with_capacity(entities.len());
    let (mut unread, mut is_old) = (Unread::default(), false);
    for (index, raw) in entities.iter().enumerate() {
        let place = known.find(plan.id, raw.get().as_bytes());
        match place.and_then(|place| known.get(place)) {
            Some(told) if noted.is_some_and(|noted| told.is_noted(noted, stride, now)) => {}
            Some(told) => {
                unread.entities.push((index, noted.map(|noted| told.before(noted))));
                unread.keys.extend_from_slice(told.keys());
            }
            None => {
                unread.entities.push((index, None));
                entity_keys(views, index, raw, &mut unread.keys)?;
            }
        }
        is_old |= place.is_some_and(|place| place.is_old);
        parts.push(place.map(|place| Part::Kept(0, place)));
    }
    let mut answer = Answer { tables: vec![known], parts };
    if !unread.entities.is_empty() {
        unread.rows = reading::read(shared, plan, &unread.keys, &mut room).await?;
        for ((index, before), rows) in unread.entities.iter().zip(unread.rows.chunks(stride)) {
            match answer.get(*index).filter(|told| told.holds(rows, now)) {
                Some(told) => noted.zip(*before).into_iter().for_each(|(noted, before)| told.note(noted, &before)),
                None => answer.parts.get_mut(*index).into_iter().for_each(|part| *part = None),
            }
        }
    }
    if is_old && let Some(known) = answer.tables.first() {
        shared.results.renew(known, answer.kept());
    }
    let written = plan.head.len() + plan.kinds.len() + answer.bytes();
    room.written(written)?;
    if answer.parts.iter().any(Option::is_none) {
        // Not to make the future of all others larger.
        Box::pin(tell(shared, plan, now, entities, unread, &mut answer, (&mut room, written))).await?;
    }
    let mut response = Sending::new(put_together(plan, kinds, answer).keep(room.into_permit()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Entities whose rows have to be read.
#[derive(Default)]
struct Unread {
    /// Which, and what was noted of rows that were read before.
    entities: Vec<(usize, Option<Before>)>,
    /// Of all views of one entity after the other.
    keys: Vec<Vec<u8>>,
    rows: Vec<Option<Bytes>>,
}

/// Writes the results of entities that nothing is told of.
async fn tell(
    shared: &Shared,
    plan: &Plan,
    now: Timestamp,
    entities: &[&RawValue],
    mut unread: Unread,
    answer: &mut Answer,
    (room, mut written): (&mut AnswerRoom<'_>, usize),
) -> Result<(), ApiError> {
    let stride = plan.views.len();
    let is_untold: Vec<bool> = unread.entities.iter().map(|(index, _)| answer.parts.get(*index).is_some_and(Option::is_none)).collect();
    let mut of_keys = is_untold.iter().flat_map(|is_untold| std::iter::repeat_n(*is_untold, stride));
    let mut of_rows = of_keys.clone();
    let mut of_entities = is_untold.iter();
    unread.keys.retain(|_| of_keys.next().unwrap_or(false));
    unread.rows.retain(|_| of_rows.next().unwrap_or(false));
    unread.entities.retain(|_| of_entities.next().copied().unwrap_or(false));
    let Unread { entities: untold, keys, rows } = unread;
    let looked = look_at(shared, plan, At::Now(now), &keys, rows.clone()).await?;
    let write = || {
        // Pieces are for what changes only in part.
        let mut writer = ResultWriter::new(plan, (plan.runs.len() > 1).then_some(&shared.pieces), false);
        let found = looked.chunks(stride).zip(keys.chunks(stride)).zip(rows.chunks(stride));
        for ((index, _), ((found, keys), rows)) in untold.iter().zip(found) {
            let entity = entities.get(*index).map_or("", |raw| raw.get());
            let mut text = Vec::new();
            writer.begin(written);
            writer.push(&mut text, room, entity, keys, found)?;
            text.push(b',');
            written += text.len();
            let (of, noted, until) = ((plan.id, entity.as_bytes()), shared.state.store.noted(), until(plan, found));
            let told = Told::new(of, (text, writer.take_counts()), until.unwrap_or(now), (keys, rows), noted);
            if until.is_none() {
                answer.put(*index, Part::Once(told));
                continue;
            }
            match shared.results.add(told) {
                Ok((table, place)) => {
                    if answer.tables.last().is_none_or(|last| !Arc::ptr_eq(last, &table)) {
                        answer.tables.push(table);
                    }
                    answer.put(*index, Part::Kept(answer.tables.len() - 1, place));
                }
                Err(told) => answer.put(*index, Part::Once(told)),
            }
        }
        Ok(())
    };
    aside(looked.len(), plan, write)
}

/// How long what was found can be told; nothing for what is not to be told again.
fn until(plan: &Plan, found: &[Looked]) -> Option<Timestamp> {
    let mut until = Timestamp(i64::MAX);
    for (looked, view) in found.iter().zip(&plan.views) {
        if let Looking::Found(row, ..) = &looked.row
            && let Some(end) = view.end(row)
        {
            until = until.min(Timestamp(end.0.saturating_sub(1)));
        }
        match (&looked.row, view.view.max_age_secs) {
            (Looking::Nothing, _) | (Looking::Found(..), None) => {}
            (Looking::Found(_, _, time), Some(max)) => {
                let max = i64::try_from(max).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                until = until.min(Timestamp((*time)?.0.saturating_add(max)));
            }
            (Looking::OutsideHistory | Looking::TooOld(_) | Looking::Fallback(..) | Looking::Error, _) => return None,
        }
    }
    Some(until)
}

/// The whole answer; counts what is in it.
fn put_together(plan: &Plan, kinds: bool, answer: Answer) -> Parts {
    let entities = answer.parts.len();
    let mut counts = vec![Counts::default(); plan.views.len()];
    let mut parts = Parts::new(answer.tables, entities + 2);
    parts.push(&plan.head);
    parts.push(if kinds { &plan.kinds } else { &[] });
    parts.push(b",\"results\":[");
    for (index, part) in answer.parts.into_iter().flatten().enumerate() {
        let is_last = index + 1 == entities;
        match part {
            Part::Kept(table, place) => {
                let told = parts.push_told(table, place, is_last);
                told.into_iter().for_each(|told| told.count(&mut counts));
            }
            Part::Once(told) => {
                told.count(&mut counts);
                parts.push(told.text().get(..told.text().len() - usize::from(is_last)).unwrap_or_default());
            }
        }
    }
    parts.push(b"]}");
    for (served, counts) in plan.served.iter().zip(&counts) {
        served.add(&counts.0);
    }
    parts
}
