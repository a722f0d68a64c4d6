//! What was committed a moment ago, for those who listen: the event path puts it into one bounded ring, and every reader goes along the ring at
//! its own speed. A reader that falls behind is told how much it missed; it never holds anybody up.
//!
//! While nobody listens nothing is kept, and the event path pays for one atomic load a commit. The ring goes on for a while after the last
//! reader has gone, so that one that lost its connection finds its place again.

mod ring;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::model::Commit;
pub use ring::Change;
use ring::{Passed, Ring};

/// How long the ring goes on without a reader.
const LINGER: Duration = Duration::from_secs(60);
/// Changes that a reader takes at once, and about how many bytes of them.
const TAKEN_MAX: usize = 256;
const TAKEN_BYTES_MAX: usize = 1 << 20;

/// Bounds of what is kept for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Readers at the same time.
    pub readers_max: usize,
    /// Changes kept.
    pub kept_max: usize,
    /// Bytes of what is kept, about.
    pub bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { readers_max: 64, kept_max: 10_000, bytes_max: 16 << 20 }
    }
}

/// The place of a change: where in the ring, and which ring it was. Written `ring-number`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeId {
    /// When the ring was begun, in microseconds since the Unix epoch: another after every restart.
    ring: i64,
    number: u64,
}

impl fmt::Display for ChangeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.ring, self.number)
    }
}

impl FromStr for ChangeId {
    type Err = String;

    fn from_str(text: &str) -> Result<ChangeId, String> {
        let parts = text.split_once('-').and_then(|(ring, number)| Some((ring.parse().ok()?, number.parse().ok()?)));
        let (ring, number) = parts.ok_or_else(|| "not the id of a change; send one as it came".to_owned())?;
        Ok(ChangeId { ring, number })
    }
}

/// The joint between the event path and readers of changes.
#[derive(Default)]
pub struct Changes {
    options: Options,
    is_wanted: AtomicBool,
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    ring: Ring,
    readers: usize,
    unread_since: Option<Instant>,
}

/// As many read as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} readers of changes are there already, as many as may be; try again later")]
pub struct TooMany(pub usize);

impl Changes {
    /// Nothing kept yet.
    pub fn new(options: Options) -> Changes {
        Changes { options, ..Changes::default() }
    }

    /// Whether anybody listens; asked before every [`Changes::publish`].
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// Takes the rows and entities out of a commit that is in the store.
    pub fn publish(&self, commit: &mut Commit) {
        let mut state = self.state();
        if state.readers == 0 && state.unread_since.is_none_or(|since| since.elapsed() > LINGER) {
            self.is_wanted.store(false, Ordering::Release);
            state.ring = Ring::default();
            return;
        }
        let puts = std::mem::take(&mut commit.puts).into_iter().filter_map(|put| Some((put.key.into(), put.value?)));
        let Options { kept_max, bytes_max, .. } = self.options;
        for (key, value) in std::mem::take(&mut commit.rows).into_shared().chain(puts) {
            state.ring.push(key, value, kept_max, bytes_max);
        }
        drop(state);
        self.news.send_replace(());
    }

    /// A reader of these views: from now on, or after the change that it names.
    pub fn reader(self: &Arc<Changes>, views: BTreeSet<String>, after: Option<ChangeId>) -> Result<Reader, TooMany> {
        let news = self.news.subscribe();
        let mut state = self.state();
        if state.readers >= self.options.readers_max {
            return Err(TooMany(self.options.readers_max));
        }
        state.readers += 1;
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            state.ring = Ring::begun_now();
        }
        let ring = &state.ring;
        let found = match after {
            None => Some(ring.end()),
            Some(id) if id.ring == ring.began() => id.number.checked_add(1).filter(|next| (ring.start()..=ring.end()).contains(next)),
            Some(_) => None,
        };
        let next = found.unwrap_or(ring.start());
        let passed = ring.passed(&views, next);
        drop(state);
        Ok(Reader { changes: Arc::clone(self), views, next, passed, is_lost: found.is_none(), news })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes along the ring.
pub struct Reader {
    changes: Arc<Changes>,
    views: BTreeSet<String>,
    next: u64,
    passed: Passed,
    /// What it wanted to go on after is not kept.
    is_lost: bool,
    news: watch::Receiver<()>,
}

/// What a reader takes at once.
#[derive(Debug, Default)]
pub struct Taken {
    /// What is missing before the changes.
    pub missed: Option<Missed>,
    /// The place that the changes follow, whether or not there are any: whoever comes back with it misses nothing.
    pub after: ChangeId,
    /// In their order.
    pub changes: Vec<(ChangeId, Change)>,
}

/// Why changes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The reader was slower than the changes came; so many are gone, of its views.
    Slow(u64),
    /// The change that it wanted to go on after is not kept any more; nobody knows how many came since.
    NotKept,
}

impl Reader {
    /// What there is now; empty when there is nothing new.
    pub fn take(&mut self) -> Taken {
        self.news.mark_unchanged();
        let state = self.changes.state();
        let ring = &state.ring;
        let mut taken = Taken::default();
        if std::mem::take(&mut self.is_lost) {
            taken.missed = Some(Missed::NotKept);
        }
        if self.next < ring.start() {
            let missed = ring.leave_behind(&mut self.passed);
            taken.missed = taken.missed.or((missed > 0).then_some(Missed::Slow(missed)));
            self.next = ring.start();
        }
        taken.after = self.place(ring);
        let mut bytes = 0;
        for (number, change) in ring.from(self.next) {
            if taken.changes.len() >= TAKEN_MAX || bytes >= TAKEN_BYTES_MAX {
                break;
            }
            self.next = number + 1;
            if self.views.contains(&*change.view) {
                bytes += change.bytes();
                self.passed.insert(Arc::clone(&change.view), change.number);
                taken.changes.push((ChangeId { ring: ring.began(), number }, change.clone()));
            }
        }
        taken
    }

    /// The place before what it takes next.
    fn place(&self, ring: &Ring) -> ChangeId {
        ChangeId { ring: ring.began(), number: self.next.saturating_sub(1) }
    }

    /// Completes when there may be something new.
    pub async fn news(&mut self) {
        // The sender lives as long as this reader.
        let _ = self.news.changed().await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.changes.state();
        state.readers = state.readers.saturating_sub(1);
        state.unread_since = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Put, Timestamp, Version};

    fn commit(keys: &[&str]) -> Commit {
        let mut commit = Commit::default();
        for key in keys {
            let version = Version { event_time: Timestamp(1), ..Version::MIN };
            commit.rows.push(key.as_bytes(), b"row", version, None);
        }
        commit.puts.push(Put { key: b"~folds:state".to_vec(), value: Some(Bytes::from_static(b"state")), expires_at: None });
        commit
    }

    fn keys(taken: &Taken) -> Vec<String> {
        taken.changes.iter().map(|(_, change)| String::from_utf8(change.key.to_vec()).unwrap()).collect()
    }

    fn reader(changes: &Arc<Changes>, views: &[&str], after: Option<ChangeId>) -> Reader {
        changes.reader(views.iter().map(|view| (*view).to_owned()).collect(), after).unwrap()
    }

    #[test]
    fn readers_get_their_views_and_nothing_is_kept_for_nobody() {
        let changes = Arc::new(Changes::default());
        assert!(!changes.is_wanted());
        let (mut both, mut one) = (reader(&changes, &["a", "b"], None), reader(&changes, &["b"], None));
        assert!(changes.is_wanted());
        changes.publish(&mut commit(&["a:1", "b:1", "c:1"]));
        changes.publish(&mut commit(&["b:2"]));
        assert_eq!(keys(&both.take()), ["a:1", "b:1", "b:2"]);
        assert_eq!(keys(&one.take()), ["b:1", "b:2"]);
        assert!(both.take().changes.is_empty());
    }

    #[test]
    fn who_comes_back_goes_on_and_who_comes_too_late_is_told() {
        let changes = Arc::new(Changes::new(Options { kept_max: 3, ..Options::default() }));
        let mut first = reader(&changes, &["a"], None);
        changes.publish(&mut commit(&["a:1", "b:1", "a:2"]));
        let taken = first.take();
        let (id, _) = taken.changes[0];
        drop(first);
        let mut again = reader(&changes, &["a"], Some(id.to_string().parse().unwrap()));
        assert_eq!(keys(&again.take()), ["a:2"]);
        changes.publish(&mut commit(&["a:3", "a:4", "b:2", "a:5"]));
        let mut late = reader(&changes, &["a"], Some(id)).take();
        assert_eq!((late.missed.take(), keys(&late)), (Some(Missed::NotKept), vec!["a:4".to_owned(), "a:5".to_owned()]));
        let taken = again.take();
        assert_eq!((taken.missed, keys(&taken)), (Some(Missed::Slow(1)), vec!["a:4".to_owned(), "a:5".to_owned()]));
        for unknown in [ChangeId { ring: 1, number: 0 }, ChangeId { number: u64::MAX, ..id }] {
            assert_eq!(reader(&changes, &["a"], Some(unknown)).take().missed, Some(Missed::NotKept));
        }
    }

    #[test]
    fn what_is_missed_is_counted_for_the_views_asked_for() {
        let changes = Arc::new(Changes::new(Options { kept_max: 2, ..Options::default() }));
        let (mut rare, mut often) = (reader(&changes, &["a"], None), reader(&changes, &["b"], None));
        changes.publish(&mut commit(&["a:1", "b:1", "b:2", "b:3", "b:4"]));
        assert_eq!((rare.take().missed, often.take().missed), (Some(Missed::Slow(1)), Some(Missed::Slow(2))));
        changes.publish(&mut commit(&["b:5", "b:6", "b:7"]));
        assert_eq!((rare.take().missed, often.take().missed), (None, Some(Missed::Slow(1))));
    }

    #[test]
    fn bytes_and_readers_are_bounded() {
        let changes = Arc::new(Changes::new(Options { readers_max: 1, kept_max: 1_000, bytes_max: 1_000 }));
        let mut only = reader(&changes, &["a"], None);
        assert_eq!(changes.reader(BTreeSet::new(), None).err(), Some(TooMany(1)));
        let long = format!("a:{}", "x".repeat(900));
        (0..5).for_each(|_| changes.publish(&mut commit(&[&long])));
        assert_eq!((only.take().changes.len(), only.take().changes.len()), (1, 0));
        drop(only);
        assert!(changes.reader(BTreeSet::new(), None).is_ok());
    }
}
