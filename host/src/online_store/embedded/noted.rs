//! Notes of the rows that change, so that who has read one need not look for it again.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHasher;

use super::Shared;
use crate::online_store::Noted;

/// Places; rows of the same place are taken for changed when one of them is.
const PLACES: usize = 1 << 14;
/// In the upper half of a place stands how often rows have changed, in the lower half how many are changing.
const CHANGED: u64 = 1 << 32;

/// What has changed how often.
pub(super) struct Notes(Vec<AtomicU64>);

/// Rows that are changing until this is dropped.
pub(super) struct Changing<'n> {
    notes: &'n Notes,
    places: Vec<usize>,
}

impl Notes {
    pub(super) fn new() -> Notes {
        Notes((0..PLACES).map(|_| AtomicU64::new(CHANGED)).collect())
    }

    /// Notes that the rows under these keys are about to change; to be called before the first reader can see it.
    pub(super) fn change<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Changing<'_> {
        let places: Vec<usize> = keys.map(place).collect();
        for note in places.iter().filter_map(|place| self.0.get(*place)) {
            note.fetch_add(1, Ordering::SeqCst);
        }
        Changing { notes: self, places }
    }

    fn changes(&self, place: usize) -> Option<u64> {
        let note = self.0.get(place)?.load(Ordering::SeqCst);
        (note % CHANGED == 0).then_some(note / CHANGED)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for note in self.places.iter().filter_map(|place| self.notes.0.get(*place)) {
            note.fetch_add(CHANGED - 1, Ordering::SeqCst);
        }
    }
}

fn place(key: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    // The upper bits are the best of this hash.
    (hasher.finish() >> 32) as usize % PLACES
}

impl Noted for Shared {
    fn place(&self, key: &[u8]) -> usize {
        place(key)
    }

    fn changes(&self, place: usize) -> Option<u64> {
        self.notes.changes(place)
    }

    fn lasts(&self, key: &[u8]) -> bool {
        self.cache.get(key).is_some_and(|row| row.is_none_or(|row| row.expires_at.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noted_from_before_it_begins_until_after_its_end() {
        let notes = Notes::new();
        let (one, other) = (place(b"view:one"), place(b"view:other"));
        assert_ne!(one, other);
        let before = notes.changes(one).unwrap();
        // Twice in one commit.
        let changing = notes.change([b"view:one".as_slice(), b"view:one"].into_iter());
        assert_eq!(notes.changes(one), None);
        drop(changing);
        assert!(notes.changes(one).unwrap() > before);
        assert_eq!(notes.changes(other), Some(before));
    }
}
