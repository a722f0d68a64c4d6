//! Pieces of answers that were written before. The entities that models ask for most change less often than they are asked for, and copying a
//! piece costs a tenth of writing its numbers again.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::error::ApiError;
use crate::model::{FeatureRow, STATUSES, Status};

/// What the cache spends on a piece besides its key, row and text, in bytes, about.
const OVERHEAD_BYTES: u64 = 160;
/// Bytes of a piece, about, from which the cache guesses how many it will hold.
const PIECE_BYTES: u64 = 2_048;

/// A run of columns of one row as JSON: its values, then their statuses, then their event times, each list without brackets.
#[derive(Default)]
pub(super) struct Piece {
    /// The packed row that it was written from.
    row: Bytes,
    text: Vec<u8>,
    values_end: usize,
    statuses_end: usize,
    /// Values with each status, in the order of [`Status::ALL`].
    pub(super) counts: [u32; STATUSES],
}

impl Piece {
    pub(super) fn with_capacity(bytes: usize) -> Piece {
        Piece { text: Vec::with_capacity(bytes), ..Piece::default() }
    }

    /// To append to.
    pub(super) fn text_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// What was appended so far are the values.
    pub(super) fn end_values(&mut self) {
        self.values_end = self.text.len();
    }

    /// What was appended since are the statuses.
    pub(super) fn end_statuses(&mut self) {
        self.statuses_end = self.text.len();
    }

    /// So many of its values have this status.
    pub(super) fn count(&mut self, status: Status, n: usize) {
        if let Some(count) = self.counts.get_mut(status as usize) {
            *count += u32::try_from(n).unwrap_or(u32::MAX);
        }
    }

    /// Bytes of text.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn values(&self) -> &[u8] {
        self.text.get(..self.values_end).unwrap_or_default()
    }

    pub(super) fn statuses(&self) -> &[u8] {
        self.text.get(self.values_end..self.statuses_end).unwrap_or_default()
    }

    pub(super) fn event_times(&self) -> &[u8] {
        self.text.get(self.statuses_end..).unwrap_or_default()
    }
}

/// Pieces written lately, by the run of columns and the row's key.
///
/// Invariant: a piece is used for a row only if it was written from the very same bytes. So nothing ever has to be taken out of here because a
/// row has changed.
pub(super) struct Pieces {
    cache: Cache<Vec<u8>, Arc<Piece>, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Vec<u8>, Arc<Piece>> for Weight {
    fn weight(&self, key: &Vec<u8>, piece: &Arc<Piece>) -> u64 {
        OVERHEAD_BYTES + (key.len() + piece.row.len() + piece.text.capacity()) as u64
    }
}

impl Pieces {
    /// Room for so many bytes.
    pub(super) fn new(bytes: u64) -> Pieces {
        let pieces = usize::try_from(bytes / PIECE_BYTES).unwrap_or(usize::MAX).max(16);
        Pieces { cache: Cache::with_weighter(pieces, bytes, Weight) }
    }

    /// The piece of this run for this row, as it is here or as `write` makes it.
    pub(super) fn get_or_write(
        &self,
        run: u64,
        row_key: &[u8],
        row: &FeatureRow,
        write: impl FnOnce() -> Result<Piece, ApiError>,
    ) -> Result<Arc<Piece>, ApiError> {
        thread_local! {
            static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        KEY.with_borrow_mut(|key| {
            key.clear();
            key.extend_from_slice(&run.to_le_bytes());
            key.extend_from_slice(row_key);
            if let Some(piece) = self.cache.get(key.as_slice()).filter(|piece| piece.row == *row.packed()) {
                return Ok(piece);
            }
            let piece = Arc::new(Piece { row: row.packed().clone(), ..write()? });
            self.cache.insert(key.clone(), Arc::clone(&piece));
            Ok(piece)
        })
    }
}
