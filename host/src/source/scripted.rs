//! A source that hands out what it was told to, for tests and simulations of what reads from sources.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Delivery, Error, Lag, Source};
use crate::model::{Entries, EntryId, Location};

/// How long a read waits before it returns an empty delivery.
const WAIT: Duration = Duration::from_secs(1);

/// The source's end, to be given to what is tested.
pub struct ScriptedSource {
    shared: Arc<Shared>,
}

/// The test's end: adds to the script while it is being read, and sees what was acknowledged.
#[derive(Clone)]
pub struct Script {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    steps: VecDeque<Result<Delivery, Error>>,
    acknowledged: Vec<EntryId>,
    refused_acknowledgements: VecDeque<Error>,
}

impl ScriptedSource {
    /// A source that hands out `steps` in order, one a read, and then waits for what the script adds. A delivery of more entries than a
    /// read wants is spread over several.
    pub fn new(steps: impl IntoIterator<Item = Result<Delivery, Error>>) -> (ScriptedSource, Script) {
        let state = State { steps: steps.into_iter().collect(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), added: Notify::new() });
        (ScriptedSource { shared: shared.clone() }, Script { shared })
    }
}

impl Script {
    /// Adds a delivery or an error to the end of the script.
    pub fn add(&self, step: Result<Delivery, Error>) {
        self.shared.state().steps.push_back(step);
        self.shared.added.notify_one();
    }

    /// Makes a coming acknowledgement fail with this error; several are used up in order.
    pub fn refuse_acknowledgement(&self, error: Error) {
        self.shared.state().refused_acknowledgements.push_back(error);
    }

    /// Everything acknowledged so far, in order.
    pub fn acknowledged(&self) -> Vec<EntryId> {
        self.shared.state().acknowledged.clone()
    }

    /// Steps that were not yet read to their end.
    pub fn remaining(&self) -> usize {
        self.shared.state().steps.len()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, entries_max: usize) -> Option<Result<Delivery, Error>> {
        let mut state = self.state();
        let step = state.steps.pop_front()?;
        Some(step.map(|delivery| {
            let (now, later) = split(delivery, entries_max.max(1));
            if let Some(later) = later {
                state.steps.push_front(Ok(later));
            }
            now
        }))
    }
}

#[async_trait]
impl Source for ScriptedSource {
    async fn read(&self, entries_max: usize) -> Result<Delivery, Error> {
        let wait = async {
            loop {
                let added = self.shared.added.notified();
                if let Some(step) = self.shared.next(entries_max) {
                    return step;
                }
                added.await;
            }
        };
        tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| Ok(Delivery::default()))
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        let mut state = self.shared.state();
        if let Some(error) = state.refused_acknowledgements.pop_front() {
            return Err(error);
        }
        state.acknowledged.extend_from_slice(ids);
        Ok(())
    }

    async fn lag(&self) -> Result<Lag, Error> {
        let state = self.shared.state();
        let entries = state.steps.iter().flatten().map(|delivery| delivery.entries.len() as u64).sum();
        Ok(Lag { entries: Some(entries), pending: 0 })
    }

    fn redelivers(&self) -> bool {
        true
    }

    fn location(&self) -> Location {
        Location::Memory
    }
}

/// The first `entries_max` entries of a delivery, and the rest if there is any. Losses are told once, with the first.
fn split(delivery: Delivery, entries_max: usize) -> (Delivery, Option<Delivery>) {
    if delivery.entries.len() <= entries_max {
        return (delivery, None);
    }
    let mut parts = [Entries::default(), Entries::default()];
    for (index, entry) in delivery.entries.iter().enumerate() {
        if let Some(part) = parts.get_mut(usize::from(index >= entries_max)) {
            part.push(entry.id, entry.fields());
        }
    }
    let [now, later] = parts;
    let Delivery { redelivered, exhausted, lost, .. } = delivery;
    let (first, rest) = exhausted.into_iter().partition(|id| now.ids().any(|other| other == *id));
    let now = Delivery { entries: now, redelivered, exhausted: first, lost, passed: None };
    (now, Some(Delivery { entries: later, redelivered, exhausted: rest, ..Delivery::default() }))
}
