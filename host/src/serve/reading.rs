//! The one read of a request: how much of it is asked of the store at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;

use super::Shared;
use super::error::ApiError;
use super::plan::{Plan, PlannedView};
use super::room::AnswerRoom;
use crate::model::View;

/// Bytes that are read from the store at once, as far as they can be told beforehand.
const READ_BYTES_MAX: usize = 64 << 20;
/// What a row is reckoned to have until a longer one was seen. It has at most a megabyte.
const ROW_BYTES: usize = 16 << 10;
/// The same for an entity of a view that keeps more than rows. It has at most two megabytes.
const ENTITY_BYTES: usize = 80 << 10;

/// How long what is stored of a view was at most, as far as a plan has seen.
pub(super) struct Longest(AtomicUsize);

impl Longest {
    pub(super) fn of(view: &View) -> Longest {
        Longest(AtomicUsize::new(if view.kept.is_nothing() { ROW_BYTES } else { ENTITY_BYTES }))
    }

    fn saw(&self, bytes: usize) {
        if bytes > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(bytes, Ordering::Relaxed);
        }
    }
}

impl Plan {
    /// Whether its answers stay the same as long as the rows do, but for what grows too old.
    pub(super) fn lasts(&self) -> bool {
        !self.runs.iter().any(|run| run.is_fleeting) && !self.computes()
    }

    /// Whether anything in it is answered as it is stored.
    pub(super) fn answers_stored(&self) -> bool {
        self.answered().any(|view| view.computed.is_none())
    }
}

/// The rows of all keys, which are those of all views of one entity after the other; those of views that are computed have none. It is one round trip, unless
/// there are so many that long rows could take all memory; even then all rows of one entity come with the same.
pub(super) async fn read(
    shared: &Shared,
    plan: &Plan,
    keys: &[Vec<u8>],
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<Option<Bytes>>, ApiError> {
    let stored: Vec<&PlannedView> = plan.views.iter().filter(|view| view.computed.is_none()).collect();
    if stored.is_empty() {
        return Ok(vec![None; keys.len()]);
    }
    if stored.len() == plan.views.len() {
        return read_stored(shared, &stored, keys, room).await;
    }
    let is_stored = || plan.views.iter().map(|view| view.computed.is_none()).cycle();
    let of_stored: Vec<Vec<u8>> = keys.iter().zip(is_stored()).filter(|(_, is_stored)| *is_stored).map(|(key, _)| key.clone()).collect();
    let mut rows = Box::pin(read_stored(shared, &stored, &of_stored, room)).await?.into_iter();
    Ok(keys.iter().zip(is_stored()).map(|(_, is_stored)| if is_stored { rows.next().flatten() } else { None }).collect())
}

async fn read_stored(
    shared: &Shared,
    views: &[&PlannedView],
    keys: &[Vec<u8>],
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<Option<Bytes>>, ApiError> {
    let mut rows: Vec<Option<Bytes>> = Vec::new();
    while let Some(rest) = keys.get(rows.len()..).filter(|rest| !rest.is_empty()) {
        // Anew for each, because the one before may have brought longer rows than were known.
        let at_once = keys_at_once(views).min(rest.len());
        let some = shared.state.store.read(rest.get(..at_once).unwrap_or(rest)).await?;
        for (row, view) in some.iter().zip(views.iter().cycle()) {
            row.iter().for_each(|row| view.longest.saw(row.len()));
        }
        room.read(some.iter().flatten().map(Bytes::len).sum())?;
        if some.len() != at_once {
            return Err(ApiError::internal("the store has answered with another number of rows than it was asked for"));
        }
        if rows.is_empty() {
            rows = some;
        } else {
            rows.extend(some);
        }
    }
    Ok(rows)
}

/// The keys of whole entities, of at least one.
fn keys_at_once(views: &[&PlannedView]) -> usize {
    let entity_bytes: usize = views.iter().map(|view| view.longest.0.load(Ordering::Relaxed)).sum();
    (READ_BYTES_MAX / entity_bytes.max(1)).max(1) * views.len()
}
