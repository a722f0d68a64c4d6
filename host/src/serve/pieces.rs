//! What was written before, in pieces that change less often than the rest of a result. The entities that models ask for most change less often than they are asked
//! for, and copying costs a tenth of writing numbers again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::error::ApiError;
use crate::model::{FeatureRow, STATUSES, Status};

/// What the cache spends on a piece besides its key, row and text, in bytes, about.
const OVERHEAD_BYTES: u64 = 200;
/// Bytes of a piece, about, from which the cache guesses how many it will hold.
const PIECE_BYTES: u64 = 2_048;

/// Bytes of a name that are kept in place.
const SHORT_BYTES_MAX: usize = 31;

/// A run of columns of one row as JSON: its values, then their statuses, then their event times, each list without brackets.
#[derive(Default)]
pub(super) struct Piece {
    /// The packed row that it was written from.
    row: Bytes,
    text: Vec<u8>,
    values_end: usize,
    statuses_end: usize,
    /// Of its values.
    pub(super) counts: Counts,
}

/// Values with each status, in the order of [`Status::ALL`].
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(pub(super) [u64; STATUSES]);

impl Counts {
    pub(super) fn add(&mut self, more: &Counts) {
        self.0.iter_mut().zip(&more.0).for_each(|(count, n)| *count += n);
    }

    /// So many more values have this status.
    pub(super) fn count(&mut self, status: Status, n: usize) {
        if let Some(count) = self.0.get_mut(status as usize) {
            *count += n as u64;
        }
    }
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

/// What a piece is kept under: the number of its run, and the row's key, whose bytes stand right here if they are few, as those of most entities are.
enum Name {
    Short(u64, u8, [u8; SHORT_BYTES_MAX]),
    Long(u64, Box<[u8]>),
}

impl Name {
    fn new(number: u64, name: &[u8]) -> Name {
        let mut short = [0; SHORT_BYTES_MAX];
        match (short.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(bytes), Ok(length)) => {
                bytes.copy_from_slice(name);
                Name::Short(number, length, short)
            }
            _ => Name::Long(number, name.into()),
        }
    }

    fn parts(&self) -> Sought<'_> {
        match self {
            Name::Short(number, length, name) => Sought(*number, name.get(..usize::from(*length)).unwrap_or_default()),
            Name::Long(number, name) => Sought(*number, name),
        }
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Name {}

/// A name that is looked for.
#[derive(Hash, PartialEq, Eq)]
struct Sought<'n>(u64, &'n [u8]);

impl Equivalent<Name> for Sought<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        *self == name.parts()
    }
}

/// Pieces written lately.
///
/// Invariant: one is used only for the very same bytes of a row that it was written from. So nothing ever has to be taken out of here because a row has changed.
pub(super) struct Pieces {
    cache: Cache<Name, Arc<Piece>, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Name, Arc<Piece>> for Weight {
    fn weight(&self, name: &Name, piece: &Arc<Piece>) -> u64 {
        OVERHEAD_BYTES + (name.parts().1.len() + piece.row.len() + piece.text.capacity()) as u64
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
        if let Some(piece) = self.cache.get(&Sought(run, row_key)).filter(|piece| piece.row == *row.packed()) {
            return Ok(piece);
        }
        let piece = Arc::new(Piece { row: Bytes::copy_from_slice(row.packed()), ..write()? });
        self.cache.insert(Name::new(run, row_key), Arc::clone(&piece));
        Ok(piece)
    }
}
