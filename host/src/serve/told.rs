//! Results of entities that were told before: as long as neither the plan nor any row has changed, the same is sent again, and neither the entity is read nor a
//! result written nor even copied.

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
use super::pieces::{Counts, Kept};
use super::plan::Plan;
use super::reading;
use super::respond::ResultWriter;
use super::room::AnswerRoom;
use crate::model::{Timestamp, View};

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
}

impl Told {
    pub(super) fn text(&self) -> &[u8] {
        &self.text
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
        Told { keys: Vec::new(), rows: Vec::new(), until: Timestamp(i64::MAX), text, counts: Vec::new() }
    }
}

/// Most stores hand out the same memory as long as the row is the same, and then there is nothing to compare.
pub(super) fn is_same(one: &Option<Bytes>, other: &Option<Bytes>) -> bool {
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
    let mut room = shared.rooms.answer();
    let stride = views.len();
    let mut told: Vec<Option<Arc<Told>>> = Vec::with_capacity(entities.len());
    let mut keys: Vec<Vec<u8>> = Vec::with_capacity(entities.len() * stride);
    for (index, raw) in entities.iter().enumerate() {
        let known = shared.pieces.told(plan.id, raw.get());
        match &known {
            Some(told) => keys.extend_from_slice(&told.keys),
            None => entity_keys(views, index, raw, &mut keys)?,
        }
        told.push(known);
    }
    let rows = reading::read(shared, plan, &keys, &mut room).await?;
    let mut anew = Vec::new();
    for (index, (known, rows)) in told.iter_mut().zip(rows.chunks(stride)).enumerate() {
        *known = known.take().filter(|told| told.holds(rows, now));
        if known.is_none() {
            anew.push(index);
        }
    }
    let mut written = plan.head.len() + plan.kinds.len();
    for told in told.iter().flatten() {
        written += told.text.len();
    }
    room.written(written)?;
    if !anew.is_empty() {
        // Seldom, and not to make the future of all others larger.
        Box::pin(tell(shared, plan, now, entities, (keys, rows), &anew, &mut told, (&mut room, written))).await?;
    }
    let mut response = Sending::new(put_together(plan, kinds, told).keep(room.into_permit()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Writes the results of some of the entities.
#[allow(clippy::too_many_arguments)]
async fn tell(
    shared: &Shared,
    plan: &Plan,
    now: Timestamp,
    entities: &[&RawValue],
    (keys, rows): (Vec<Vec<u8>>, Vec<Option<Bytes>>),
    anew: &[usize],
    told: &mut [Option<Arc<Told>>],
    (room, written): (&mut AnswerRoom<'_>, usize),
) -> Result<(), ApiError> {
    let stride = plan.views.len();
    let of = |index: &usize| index * stride..(index + 1) * stride;
    let (mut their_keys, mut their_rows) = (Vec::with_capacity(anew.len() * stride), Vec::with_capacity(anew.len() * stride));
    for index in anew {
        their_keys.extend_from_slice(keys.get(of(index)).unwrap_or_default());
        their_rows.extend_from_slice(rows.get(of(index)).unwrap_or_default());
    }
    drop((keys, rows));
    let looked = look_at(shared, plan, At::Now(now), &their_keys, their_rows.clone()).await?;
    let write = || {
        let mut writer = ResultWriter::new(plan, (plan.runs.len() > 1).then_some(&shared.pieces), false);
        let mut written = written;
        let found = looked.chunks(stride).zip(their_keys.chunks(stride)).zip(their_rows.chunks(stride));
        for (index, ((found, keys), rows)) in anew.iter().zip(found) {
            let entity = entities.get(*index).map_or("", |raw| raw.get());
            let mut text = Vec::new();
            writer.begin(written);
            writer.push(&mut text, room, entity, keys, found)?;
            text.push(b',');
            text.shrink_to_fit();
            written += text.len();
            let until = until(plan, found);
            let counts = writer.take_counts();
            let one = Told { keys: keys.to_vec(), rows: rows.to_vec(), until: until.unwrap_or(now), text, counts };
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
