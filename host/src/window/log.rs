//! Values in the order of their versions, oldest first. Most are only passed on from what was stored to what will be, so they are taken apart no sooner than one of
//! them must be.

use bytes::Bytes;

use super::wire::{Reader, number_bytes, push_number, push_run, run_bytes};
use crate::model::{Timestamp, Version};

/// See the module. Of values of one version, the one that came later stands later.
#[derive(Clone)]
pub(super) struct Log {
    /// Where in a value its version begins.
    version_at: usize,
    /// As stored: each with its length before it. All are older than those in `rest`.
    stored: Bytes,
    stored_many: usize,
    rest: Vec<(Version, Bytes)>,
}

impl Log {
    pub(super) fn new(version_at: usize) -> Log {
        Log { version_at, stored: Bytes::new(), stored_many: 0, rest: Vec::new() }
    }

    /// One of these values, which are in order.
    pub(super) fn of(version_at: usize, rest: Vec<(Version, Bytes)>) -> Log {
        Log { rest, ..Log::new(version_at) }
    }

    /// One of these values instead, which are in order.
    pub(super) fn of_same(&self, rest: Vec<(Version, Bytes)>) -> Log {
        Log::of(self.version_at, rest)
    }

    pub(super) fn read(version_at: usize, reader: &mut Reader<'_>, whole: &Bytes) -> Option<Log> {
        let stored_many = reader.count()?;
        let stored = whole.slice_ref(reader.run()?);
        Some(Log { version_at, stored, stored_many, rest: Vec::new() })
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        push_number(out, (self.stored_many + self.rest.len()) as u64);
        push_number(out, self.value_bytes() as u64);
        out.extend_from_slice(&self.stored);
        self.rest.iter().for_each(|(_, value)| push_run(out, value));
    }

    /// How many bytes [`Log::push`] appends.
    pub(super) fn bytes(&self) -> usize {
        number_bytes((self.stored_many + self.rest.len()) as u64) + run_bytes(self.value_bytes())
    }

    fn value_bytes(&self) -> usize {
        self.stored.len() + self.rest.iter().map(|(_, value)| run_bytes(value.len())).sum::<usize>()
    }

    /// The version of a value.
    pub(super) fn version(&self, value: &[u8]) -> Option<Version> {
        Some(Version::from_bytes(*value.get(self.version_at..)?.first_chunk()?))
    }

    /// Hands over each value, oldest first. `None` where what is stored is cut short.
    pub(super) fn each<'l>(&'l self, mut take: impl FnMut(Version, &'l [u8]) -> Option<()>) -> Option<()> {
        let mut reader = Reader(&self.stored);
        for _ in 0..self.stored_many {
            let value = reader.run()?;
            take(self.version(value)?, value)?;
        }
        self.rest.iter().try_for_each(|(version, value)| take(*version, value))
    }

    /// The newest value that is not newer than this moment.
    pub(super) fn newest_until(&self, time: i64) -> Option<Bytes> {
        if let Some((_, value)) = self.rest.iter().rev().find(|(version, _)| version.event_time.0 <= time) {
            return Some(value.clone());
        }
        let mut found = None;
        let mut reader = Reader(&self.stored);
        for _ in 0..self.stored_many {
            let value = reader.run()?;
            if self.version(value)?.event_time.0 > time {
                break;
            }
            found = Some(value);
        }
        found.map(|value| self.stored.slice_ref(value))
    }

    /// The version of that value.
    pub(super) fn newest_version_until(&self, time: i64) -> Option<Version> {
        let of_rest = self.rest.iter().rev().map(|(version, _)| *version).find(|version| version.event_time.0 <= time);
        of_rest.or_else(|| self.newest_until(time).and_then(|value| self.version(&value)))
    }

    /// All of them, taken apart.
    pub(super) fn open(&mut self) -> Option<&mut Vec<(Version, Bytes)>> {
        if self.stored_many > 0 {
            let mut reader = Reader(&self.stored);
            let mut all = Vec::with_capacity(self.stored_many + self.rest.len() + 1);
            for _ in 0..self.stored_many {
                let value = reader.run()?;
                all.push((self.version(value)?, self.stored.slice_ref(value)));
            }
            all.append(&mut self.rest);
            *self = Log::of(self.version_at, all);
        }
        Some(&mut self.rest)
    }

    /// Adds one that is newer than all others.
    pub(super) fn push_newest(&mut self, version: Version, value: Bytes) {
        self.rest.push((version, value));
    }

    /// Forgets the newest if it is of this moment, and not the first of it.
    pub(super) fn drop_renewed(&mut self, time: i64) -> Option<()> {
        if self.newest_version_until(i64::MAX).is_some_and(|newest| newest.event_time.0 == time) {
            let all = self.open()?;
            let is_renewed = all.len().checked_sub(2).and_then(|at| all.get(at)).is_some_and(|(version, _)| version.event_time.0 == time);
            if is_renewed {
                all.pop();
            }
        }
        Some(())
    }

    /// When those of this moment came.
    pub(super) fn came(&self, time: Timestamp) -> Vec<Timestamp> {
        let mut came = Vec::new();
        // No more of them is there where what is stored is cut short.
        let _ = self.each(|version, _| {
            came.extend((version.event_time == time).then(|| version.came()));
            (version.event_time <= time).then_some(())
        });
        came
    }

    /// Adds one behind those of its version.
    pub(super) fn insert(&mut self, version: Version, value: Bytes) -> Option<()> {
        let all = self.open()?;
        let at = all.partition_point(|(known, _)| *known <= version);
        all.insert(at, (version, value));
        Some(())
    }

    /// Takes away the oldest, for as long as they are due.
    pub(super) fn take_while(&mut self, is_due: impl Fn(Version) -> bool) -> Option<Vec<(Version, Bytes)>> {
        let mut taken = Vec::new();
        if self.stored_many == 0 && self.rest.first().is_none_or(|(version, _)| !is_due(*version)) {
            return Some(taken);
        }
        while self.stored_many > 0 {
            let mut reader = Reader(&self.stored);
            let value = reader.run()?;
            let (version, used) = (self.version(value)?, self.stored.len() - reader.0.len());
            if !is_due(version) {
                return Some(taken);
            }
            taken.push((version, self.stored.slice_ref(value)));
            drop(self.stored.split_to(used));
            self.stored_many -= 1;
        }
        let many = self.rest.partition_point(|(version, _)| is_due(*version));
        taken.extend(self.rest.drain(..many));
        Some(taken)
    }

    /// Forgets those up to this moment but for the newest of them, and those of its moment.
    pub(super) fn keep_from(&mut self, time: i64) -> Option<()> {
        let is_past = |version: &Version| version.event_time.0 <= time;
        while self.stored_many > 0 {
            let mut reader = Reader(&self.stored);
            let first = self.version(reader.run()?)?;
            let (mut many, mut used, mut next) = (1, self.stored.len() - reader.0.len(), None);
            while next.is_none() && many < self.stored_many {
                let version = self.version(reader.run()?)?;
                if version.event_time > first.event_time {
                    next = Some(version);
                } else {
                    (many, used) = (many + 1, self.stored.len() - reader.0.len());
                }
            }
            let in_rest = || self.rest.iter().map(|(version, _)| *version).find(|version| version.event_time > first.event_time);
            if !next.or_else(in_rest).as_ref().is_some_and(is_past) {
                return Some(());
            }
            drop(self.stored.split_to(used));
            self.stored_many -= many;
        }
        let past = self.rest.partition_point(|(version, _)| is_past(version));
        if let Some((newest, _)) = past.checked_sub(1).and_then(|at| self.rest.get(at)) {
            let newest = newest.event_time;
            self.rest.drain(..self.rest.partition_point(|(version, _)| version.event_time < newest));
        }
        Some(())
    }
}
