//! A stream in memory that is read by scripts, of the two kinds that there are: one that hands out again what was not acknowledged, and one that is read from
//! a place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use gristmill::model::{Entries, EntryId, Location, Place};
use gristmill::source::scripted::{Script, ScriptedSource};
use gristmill::source::{Delivery, Error, Lag, Source};

use super::events::Event;
use crate::flights::Seeded;

/// Deliveries of one entry before it is given up.
pub const DELIVERIES_MAX: u64 = 3;

/// How a stream keeps what was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As a consumer group does: what was handed out comes again until it is acknowledged.
    Group,
    /// As a log does: whoever opens it says where.
    Log,
}

/// What becomes of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledging {
    /// It never arrives.
    LostBefore,
    /// It arrives, and nobody hears of it.
    LostAfter,
}

/// The stream.
pub struct Stream {
    /// Of which kind.
    pub kind: Kind,
    /// A mistake for the simulation to find: what comes again does not say so.
    pub forgets: bool,
    state: Mutex<State>,
}

struct State {
    seeded: Seeded,
    events: Vec<Event>,
    /// The first event that nobody was handed.
    next: usize,
    /// What was handed out and not acknowledged, and how often.
    pending: BTreeMap<EntryId, u64>,
    /// Of those, what the reader has tried to acknowledge in vain.
    owed: BTreeSet<EntryId>,
    acknowledging: VecDeque<Acknowledging>,
    /// Who may read; earlier readers are told that they are not wanted any more.
    reader: u64,
    script: Option<Script>,
}

impl Stream {
    /// An empty one.
    pub fn new(kind: Kind, forgets: bool, seed: u64) -> Arc<Stream> {
        let state = State {
            seeded: Seeded(seed),
            events: Vec::new(),
            next: 0,
            pending: BTreeMap::new(),
            owed: BTreeSet::new(),
            acknowledging: VecDeque::new(),
            reader: 0,
            script: None,
        };
        Arc::new(Stream { kind, forgets, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Appends events, which whoever reads is handed.
    pub fn append(&self, count: u64) {
        let mut state = self.state();
        let first = state.events.len();
        for number in first as u64..first as u64 + count {
            let event = Event::make(number, &mut state.seeded);
            state.events.push(event);
        }
        let steps = state.chunks(first..first + count as usize);
        if let Some(script) = &state.script {
            steps.into_iter().for_each(|step| script.add(Ok(step)));
        }
    }

    /// Makes the reader see an error.
    pub fn fail(&self, error: Error) {
        if let Some(script) = &self.state().script {
            script.add(Err(error));
        }
    }

    /// Makes a coming acknowledgement fail.
    pub fn fail_acknowledging(&self, how: Acknowledging) {
        self.state().acknowledging.push_back(how);
    }

    /// Hands out again what the reader could not acknowledge.
    pub fn redeliver(&self) {
        let state = self.state();
        let owed: Vec<&Event> = state.events.iter().filter(|event| state.owed.contains(&event.id)).collect();
        if let Some(script) = state.script.as_ref().filter(|_| !owed.is_empty()) {
            script.add(Ok(Delivery { entries: entries(owed), redelivered: true, ..Delivery::default() }));
        }
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.state().acknowledging.clear();
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Whether everything was handed out and acknowledged, as far as this kind of stream knows.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        self.kind == Kind::Log || (state.next == state.events.len() && state.pending.is_empty())
    }

    /// Opens it for the one who may read from now on.
    pub fn open(self: &Arc<Stream>, place: Place) -> Arc<dyn Source> {
        let mut state = self.state();
        state.reader += 1;
        let mut steps = Vec::new();
        let first = match self.kind {
            Kind::Group => {
                steps.extend(state.pending_steps(self.forgets));
                state.next
            }
            Kind::Log => state.events.partition_point(|event| Some(event.id) <= place.last),
        };
        let last = state.events.len();
        steps.extend(state.chunks(first..last));
        let (inner, script) = ScriptedSource::new(steps.into_iter().map(Ok));
        state.script = Some(script);
        Arc::new(Reader { stream: Arc::clone(self), inner, number: state.reader })
    }
}

impl State {
    /// Events as deliveries of a few each.
    fn chunks(&mut self, mut range: std::ops::Range<usize>) -> Vec<Delivery> {
        let mut steps = Vec::new();
        while !range.is_empty() {
            let end = range.end.min(range.start + 1 + self.seeded.below(12) as usize);
            steps.push(Delivery { entries: entries(&self.events[range.start..end]), ..Delivery::default() });
            range.start = end;
        }
        steps
    }

    /// What is pending, for whoever opens the stream.
    fn pending_steps(&mut self, forgets: bool) -> Vec<Delivery> {
        self.pending.values_mut().for_each(|deliveries| *deliveries += 1);
        let pending: Vec<&Event> = self.events.iter().filter(|event| self.pending.contains_key(&event.id)).collect();
        let size = 1 + self.seeded.below(20) as usize;
        let step = |events: &[&Event]| Delivery {
            entries: entries(events.iter().copied()),
            redelivered: !forgets,
            exhausted: events.iter().map(|event| event.id).filter(|id| self.pending[id] > DELIVERIES_MAX).collect(),
            ..Delivery::default()
        };
        pending.chunks(size).map(step).collect()
    }
}

fn entries<'e>(events: impl IntoIterator<Item = &'e Event>) -> Entries {
    let mut entries = Entries::default();
    events.into_iter().for_each(|event| event.push(&mut entries));
    entries
}

struct Reader {
    stream: Arc<Stream>,
    inner: ScriptedSource,
    number: u64,
}

impl Reader {
    /// A reader that another one has replaced is told so, as the fence of a real stream does.
    fn check(&self, state: &State) -> Result<(), Error> {
        if state.reader == self.number {
            return Ok(());
        }
        Err(Error::TakenOver { stream: "events".into(), group: "group".into() })
    }
}

#[async_trait]
impl Source for Reader {
    async fn read(&self, entries_max: usize) -> Result<Delivery, Error> {
        self.check(&self.stream.state())?;
        let delivery = self.inner.read(entries_max).await?;
        let mut state = self.stream.state();
        self.check(&state)?;
        if self.stream.kind == Kind::Group {
            for id in delivery.entries.ids() {
                let at = state.events.partition_point(|event| event.id < id);
                if at >= state.next {
                    state.next = at + 1;
                    state.pending.insert(id, 1);
                }
            }
        }
        Ok(delivery)
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        let mut state = self.stream.state();
        let how = if ids.is_empty() { None } else { state.acknowledging.pop_front() };
        if how == Some(Acknowledging::LostBefore) {
            let owed: Vec<EntryId> = ids.iter().copied().filter(|id| state.pending.contains_key(id)).collect();
            state.owed.extend(owed);
        } else {
            for id in ids {
                state.pending.remove(id);
                state.owed.remove(id);
            }
        }
        match how {
            None => Ok(()),
            Some(_) => Err(unreachable()),
        }
    }

    async fn lag(&self) -> Result<Lag, Error> {
        let state = self.stream.state();
        Ok(Lag { entries: Some((state.events.len() - state.next) as u64), pending: state.pending.len() as u64 })
    }

    fn redelivers(&self) -> bool {
        self.stream.kind == Kind::Group
    }

    fn location(&self) -> Location {
        Location::Memory
    }
}

/// What a broken connection looks like.
pub fn unreachable() -> Error {
    Error::Unreachable { address: "nowhere".into(), reason: "cut".into() }
}
