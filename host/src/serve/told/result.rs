//! The result of one entity as it stands in an answer, and what it was made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;

use crate::model::{STATUSES, Timestamp};
use crate::online_store::Noted;
use crate::serve::pieces::Counts;

/// Views of a plan whose changes are noted; the rows of plans of more are looked at each time.
const NOTED_VIEWS_MAX: usize = 4;
/// Bytes of a name that are kept in place.
const NAME_BYTES_MAX: usize = 23;

/// The result of one entity as it stands in an answer, and what it was made of. What is looked at for every answer stands together.
pub(in crate::serve) struct Told {
    pub(super) plan: u64,
    /// From then on some of it is too old.
    until: Timestamp,
    /// Of the first view.
    note: Note,
    /// With a comma behind it.
    text: Arc<[u8]>,
    /// The entity as requests have it, unless it is long; and its length.
    name: [u8; NAME_BYTES_MAX],
    name_bytes: u8,
    /// Values with each status, of the first view.
    counts: [u32; STATUSES],
    made_of: Arc<MadeOf>,
}

/// The rest.
struct MadeOf {
    long_name: Box<[u8]>,
    /// Of each view.
    keys: Vec<Vec<u8>>,
    /// What was stored under them.
    rows: Vec<Option<Bytes>>,
    /// Of the views after the first.
    notes: [Note; NOTED_VIEWS_MAX - 1],
    counts: Vec<Counts>,
}

/// Where changes of a row are noted, and what was noted when it was read; 0 before it is known.
#[derive(Default)]
struct Note {
    place: usize,
    changes: AtomicU64,
}

/// What a store had noted of the rows of an entity before they were read.
pub(super) type Before = [u64; NOTED_VIEWS_MAX];

impl Note {
    fn of(noted: Option<&dyn Noted>, key: &[u8]) -> Note {
        Note { place: noted.map_or(0, |noted| noted.place(key)), ..Note::default() }
    }

    fn is_same(&self, noted: &dyn Noted) -> bool {
        noted.changes(self.place) == Some(self.changes.load(Ordering::Relaxed))
    }
}

impl Told {
    /// What a plan says of an entity; its text, and values with each status of each view; of the rows that are stored under these keys.
    pub(super) fn new(
        (plan, name): (u64, &[u8]),
        (text, counts): (Vec<u8>, Vec<Counts>),
        until: Timestamp,
        (keys, rows): (&[Vec<u8>], &[Option<Bytes>]),
        noted: Option<&dyn Noted>,
    ) -> Told {
        let mut short = [0; NAME_BYTES_MAX];
        let in_place = short.get_mut(..name.len()).map(|bytes| bytes.copy_from_slice(name));
        let long_name = if in_place.is_some() { Box::default() } else { name.into() };
        let mut notes: [Note; NOTED_VIEWS_MAX - 1] = Default::default();
        notes.iter_mut().zip(keys.iter().skip(1)).for_each(|(note, key)| *note = Note::of(noted, key));
        let mut counts = counts.into_iter();
        let first = counts.next().unwrap_or_default();
        let row = |row: &Bytes| if noted.is_some() { row.clone() } else { Bytes::copy_from_slice(row) };
        let rows = rows.iter().map(|packed| packed.as_ref().map(row)).collect();
        let made_of = MadeOf { long_name, keys: keys.to_vec(), rows, notes, counts: counts.collect() };
        Told {
            plan,
            until,
            note: keys.first().map_or_else(Note::default, |key| Note::of(noted, key)),
            text: text.into(),
            name: short,
            name_bytes: u8::try_from(name.len()).unwrap_or(u8::MAX),
            counts: first.0.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            made_of: Arc::new(made_of),
        }
    }

    /// The same to be kept elsewhere.
    pub(super) fn again(&self) -> Told {
        let note = Note { place: self.note.place, changes: AtomicU64::new(self.note.changes.load(Ordering::Relaxed)) };
        let (text, made_of) = (Arc::clone(&self.text), Arc::clone(&self.made_of));
        Told { note, text, made_of, ..*self }
    }

    pub(in crate::serve) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.name_bytes)).unwrap_or(&self.made_of.long_name)
    }

    pub(super) fn is_of(&self, plan: u64, name: &[u8]) -> bool {
        self.plan == plan && self.name() == name
    }

    pub(super) fn is_same(&self, other: &Told) -> bool {
        self.is_of(other.plan, other.name())
    }

    /// Whether it is true without a look at the rows.
    pub(super) fn is_noted(&self, noted: &dyn Noted, views: usize, now: Timestamp) -> bool {
        let are_same = |others: usize| self.made_of.notes.get(..others).is_some_and(|notes| notes.iter().all(|note| note.is_same(noted)));
        now <= self.until && self.note.is_same(noted) && (views == 1 || are_same(views - 1))
    }

    fn notes(&self) -> impl Iterator<Item = &Note> {
        std::iter::once(&self.note).chain(&self.made_of.notes)
    }

    /// What is noted of its rows, before they are read.
    pub(super) fn before(&self, noted: &dyn Noted) -> Before {
        let mut before = Before::default();
        before.iter_mut().zip(self.notes()).for_each(|(before, note)| *before = noted.changes(note.place).unwrap_or_default());
        before
    }

    /// The keys of its rows, of each view.
    pub(super) fn keys(&self) -> &[Vec<u8>] {
        &self.made_of.keys
    }

    /// Takes note of what it holds for; `before` was noted before the rows were read.
    pub(super) fn note(&self, noted: &dyn Noted, before: &Before) {
        for ((note, key), before) in self.notes().zip(&self.made_of.keys).zip(before) {
            if noted.lasts(key) && noted.changes(note.place) == Some(*before) {
                note.changes.store(*before, Ordering::Relaxed);
            }
        }
    }

    /// Whether it is still true when these are the rows.
    pub(super) fn holds(&self, rows: &[Option<Bytes>], now: Timestamp) -> bool {
        let known = &self.made_of.rows;
        now <= self.until && known.len() == rows.len() && known.iter().zip(rows).all(|(known, row)| is_same(known, row))
    }

    /// Adds what is counted in it to that of each view.
    pub(super) fn count(&self, all: &mut [Counts]) {
        let mut all = all.iter_mut();
        if let Some(first) = all.next() {
            first.0.iter_mut().zip(&self.counts).for_each(|(count, n)| *count += u64::from(*n));
        }
        // Of most plans there is no more, and then nothing is looked up.
        if all.len() > 0 {
            all.zip(&self.made_of.counts).for_each(|(all, counts)| all.add(counts));
        }
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let MadeOf { long_name, keys, rows, counts, .. } = &*self.made_of;
        let of_rows: usize = rows.iter().flatten().map(Bytes::len).sum();
        let of_keys: usize = keys.iter().map(|key| key.len() + size_of::<Vec<u8>>()).sum();
        let lists = counts.len() * size_of::<Counts>() + rows.len() * size_of::<Option<Bytes>>();
        size_of::<Told>() + size_of::<MadeOf>() + long_name.len() + of_rows + of_keys + lists + self.text.len()
    }

    #[cfg(test)]
    pub(in crate::serve) fn of_text(plan: u64, name: &[u8], text: &[u8]) -> Told {
        Told::new((plan, name), (text.to_vec(), Vec::new()), Timestamp(i64::MAX), (&[], &[]), None)
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
