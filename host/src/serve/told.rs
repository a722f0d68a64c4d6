//! Results of entities that were told before: as long as neither the plan nor any row has changed, the same is sent again, and neither the entity is read nor a
//! result written nor even copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use serde_json::value::RawValue;

use super::Shared;
use super::error::ApiError;
use super::features::{aside, look_at};
use super::join_keys::entity_keys;
use super::look::{At, Looked, Looking};
use super::parts::{Parts, Sending};
use super::pieces::{Counts, Kept};
use super::plan::Plan;
use super::reading;
use super::respond::ResultWriter;
use super::room::AnswerRoom;
use crate::model::{Timestamp, View};
use crate::online_store::Noted;

/// Views of a plan whose changes are noted; the rows of plans of more are looked at each time.
const NOTED_VIEWS_MAX: usize = 4;

/// The result of one entity as it stands in an answer, and what it was made of.
pub(super) struct Told {
    /// Of each view.
    keys: Vec<Vec<u8>>,
    /// What was stored under them.
    rows: Vec<Option<Bytes>>,
    /// From then on some of it is too old.
    until: Timestamp,
    /// With a comma behind it.
    text: Vec<u8>,
    /// Values with each status, of each view.
    counts: Vec<Counts>,
    /// Where changes of the rows are noted, and what was noted when they were read; 0 before it is known.
    notes: [Note; NOTED_VIEWS_MAX],
}

#[derive(Default)]
struct Note {
    place: usize,
    changes: AtomicU64,
}

/// What a store had noted of the rows of an entity before they were read.
type Before = [u64; NOTED_VIEWS_MAX];

impl Told {
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    fn new(keys: &[Vec<u8>], rows: &[Option<Bytes>], noted: Option<&dyn Noted>) -> Told {
        let mut notes: [Note; NOTED_VIEWS_MAX] = Default::default();
        if let Some(noted) = noted {
            notes.iter_mut().zip(keys).for_each(|(note, key)| note.place = noted.place(key));
        }
        let until = Timestamp(i64::MIN);
        Told { keys: keys.to_vec(), rows: rows.to_vec(), until, text: Vec::new(), counts: Vec::new(), notes }
    }

    /// Whether it is true without a look at the rows.
    fn is_noted(&self, noted: &dyn Noted, now: Timestamp) -> bool {
        let is_same = |note: &Note| noted.changes(note.place) == Some(note.changes.load(Ordering::Relaxed));
        now <= self.until && self.notes.get(..self.keys.len()).is_some_and(|notes| notes.iter().all(is_same))
    }

    /// What is noted of its rows, before they are read.
    fn before(&self, noted: &dyn Noted) -> Before {
        let mut before = Before::default();
        before.iter_mut().zip(&self.notes).for_each(|(before, note)| *before = noted.changes(note.place).unwrap_or_default());
        before
    }

    /// Takes note of what it holds for; `before` was noted before the rows were read.
    fn note(&self, noted: &dyn Noted, before: &Before) {
        for ((note, key), before) in self.notes.iter().zip(&self.keys).zip(before) {
            if noted.lasts(key) && noted.changes(note.place) == Some(*before) {
                note.changes.store(*before, Ordering::Relaxed);
            }
        }
    }

    /// Whether it is still true when these are the rows.
    fn holds(&self, rows: &[Option<Bytes>], now: Timestamp) -> bool {
        now <= self.until && self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(|(known, row)| is_same(known, row))
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let rows: usize = self.rows.iter().flatten().map(Bytes::len).sum();
        let keys: usize = self.keys.iter().map(|key| key.len() + size_of::<Vec<u8>>()).sum();
        let counts = self.counts.len() * size_of::<Counts>() + self.rows.len() * size_of::<Option<Bytes>>();
        size_of::<Told>() + rows + keys + counts + self.text.len()
    }

    #[cfg(test)]
    pub(super) fn of_text(text: Vec<u8>) -> Told {
        Told { text, ..Told::new(&[], &[], None) }
    }
}

/// Most stores hand out the same memory as long as the row is the same, and then there is nothing to compare.
fn is_same(one: &Option<Bytes>, other: &Option<Bytes>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one.as_ptr() == other.as_ptr() && one.len() == other.len()) || one == other,
        (None, None) => true,
        _ => false,
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
    let mut told: Vec<Option<Arc<Told>>> = Vec::with_capacity(entities.len());
    let mut unread = Unread::default();
    for (index, raw) in entities.iter().enumerate() {
        let known = shared.pieces.told(plan.id, raw.get());
        match &known {
            Some(told) if noted.is_some_and(|noted| told.is_noted(noted, now)) => {}
            Some(told) => {
                unread.entities.push((index, noted.map(|noted| told.before(noted))));
                unread.keys.extend_from_slice(&told.keys);
            }
            None => {
                unread.entities.push((index, None));
                entity_keys(views, index, raw, &mut unread.keys)?;
            }
        }
        told.push(known);
    }
    if !unread.entities.is_empty() {
        unread.rows = reading::read(shared, plan, &unread.keys, &mut room).await?;
        for ((index, before), rows) in unread.entities.iter().zip(unread.rows.chunks(stride)) {
            let Some(known) = told.get_mut(*index) else { continue };
            *known = known.take().filter(|told| told.holds(rows, now));
            if let (Some(told), Some(noted), Some(before)) = (known, noted, before) {
                told.note(noted, before);
            }
        }
    }
    let written = plan.head.len() + plan.kinds.len() + told.iter().flatten().map(|told| told.text.len()).sum::<usize>();
    room.written(written)?;
    if told.iter().any(Option::is_none) {
        // Not to make the future of all others larger.
        Box::pin(tell(shared, plan, now, entities, unread, &mut told, (&mut room, written))).await?;
    }
    let mut response = Sending::new(put_together(plan, kinds, told).keep(room.into_permit()));
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
    told: &mut [Option<Arc<Told>>],
    (room, mut written): (&mut AnswerRoom<'_>, usize),
) -> Result<(), ApiError> {
    let stride = plan.views.len();
    let is_untold: Vec<bool> = unread.entities.iter().map(|(index, _)| told.get(*index).is_some_and(Option::is_none)).collect();
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
            let mut one = Told::new(keys, rows, shared.state.store.noted());
            writer.begin(written);
            writer.push(&mut one.text, room, entity, keys, found)?;
            one.text.push(b',');
            one.text.shrink_to_fit();
            one.counts = writer.take_counts();
            written += one.text.len();
            let until = until(plan, found);
            one.until = until.unwrap_or(now);
            let one = Arc::new(one);
            if until.is_some() {
                shared.pieces.keep(plan.id, entity.as_bytes(), Kept::Told(Arc::clone(&one)));
            }
            if let Some(slot) = told.get_mut(*index) {
                *slot = Some(one);
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
fn put_together(plan: &Plan, kinds: bool, told: Vec<Option<Arc<Told>>>) -> Parts {
    let entities = told.len();
    let mut counts = vec![Counts::default(); plan.views.len()];
    let mut parts = Parts::with_capacity(entities + 2);
    parts.push(&plan.head);
    parts.push(if kinds { &plan.kinds } else { &[] });
    parts.push(b",\"results\":[");
    for (index, told) in told.into_iter().flatten().enumerate() {
        counts.iter_mut().zip(&told.counts).for_each(|(all, counts)| all.add(counts));
        parts.push_told(told, index + 1 == entities);
    }
    parts.push(b"]}");
    for (served, counts) in plan.served.iter().zip(&counts) {
        served.add(&counts.0);
    }
    parts
}
