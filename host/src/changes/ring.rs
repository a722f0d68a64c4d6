use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Timestamp, split_tag};

/// What a change costs beside its key and its value, about, in bytes.
const CHANGE_BYTES: usize = 128;

/// One row or entity that a commit brought.
#[derive(Debug, Clone)]
pub struct Change {
    /// The view.
    pub view: Arc<str>,
    /// See [`crate::model::row_key`].
    pub key: Bytes,
    /// A packed row, or an entity that keeps more than its newest row.
    pub value: Bytes,
    /// How many changes of its view there were with this one.
    pub(super) number: u64,
}

impl Change {
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + CHANGE_BYTES
    }
}

/// For each view how many of its changes a reader has left behind.
pub(super) type Passed = HashMap<Arc<str>, u64>;

/// The last changes, numbered from 1: what comes before the first has a number too.
#[derive(Default)]
pub(super) struct Ring {
    began: i64,
    end: u64,
    changes: VecDeque<Change>,
    bytes: usize,
    /// For each view how many changes there were, and how many of them are gone.
    views: HashMap<Arc<str>, (u64, u64)>,
}

impl Ring {
    pub(super) fn begun_now() -> Ring {
        Ring { began: Timestamp::now().0, end: 1, ..Ring::default() }
    }

    pub(super) fn began(&self) -> i64 {
        self.began
    }

    /// The number of the first change that is kept.
    pub(super) fn start(&self) -> u64 {
        self.end - self.changes.len() as u64
    }

    /// The number of the next change to come.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds a change; what is stored under a key of another kind is none.
    pub(super) fn push(&mut self, key: Bytes, value: Bytes, kept_max: usize, bytes_max: usize) {
        let Some(view) = view_of(&key) else { return };
        let view = match self.views.get_key_value(view) {
            Some((known, _)) => Arc::clone(known),
            None => view.into(),
        };
        let (count, _) = self.views.entry(Arc::clone(&view)).or_default();
        *count += 1;
        let change = Change { view, key, value, number: *count };
        self.bytes += change.bytes();
        self.changes.push_back(change);
        self.end += 1;
        // The newest stays, however large it is.
        while self.changes.len() > kept_max.max(1) || (self.bytes > bytes_max && self.changes.len() > 1) {
            let Some(gone) = self.changes.pop_front() else { return };
            self.bytes -= gone.bytes();
            if let Some((_, left)) = self.views.get_mut(&gone.view) {
                *left = gone.number;
            }
        }
    }

    /// Where a reader stands that goes on with the change of this number.
    pub(super) fn passed(&self, views: &BTreeSet<String>, next: u64) -> Passed {
        let mut passed: Passed = HashMap::new();
        for (view, (count, _)) in self.views.iter().filter(|(view, _)| views.contains(&***view)) {
            passed.insert(Arc::clone(view), *count);
        }
        // The first of each view that is still to come.
        let mut open: BTreeSet<&str> = views.iter().map(String::as_str).collect();
        for (_, change) in self.from(next) {
            if open.remove(&*change.view) {
                passed.insert(Arc::clone(&change.view), change.number - 1);
            }
        }
        for view in views {
            passed.entry(view.as_str().into()).or_insert(0);
        }
        passed
    }

    /// Leaves behind what a reader has neither taken nor can take any more; how many changes that are.
    pub(super) fn leave_behind(&self, passed: &mut Passed) -> u64 {
        let leave = |(view, passed): (&Arc<str>, &mut u64)| {
            let gone = self.views.get(view).map_or(0, |(_, gone)| *gone).max(*passed);
            gone - std::mem::replace(passed, gone)
        };
        passed.iter_mut().map(leave).sum()
    }

    /// The changes from this number on.
    pub(super) fn from(&self, next: u64) -> impl Iterator<Item = (u64, &Change)> {
        let skipped = usize::try_from(next.saturating_sub(self.start())).unwrap_or(usize::MAX);
        (self.start()..).zip(&self.changes).skip(skipped)
    }
}

/// The view of a row's key. States and what the host keeps for itself have none.
fn view_of(key: &[u8]) -> Option<&str> {
    let (_, key) = split_tag(key);
    let end = key.iter().position(|byte| *byte == b':')?;
    std::str::from_utf8(key.get(..end)?).ok().filter(|view| !view.starts_with('~'))
}
