//! A store in memory as several hosts see it: with a lease on the simulated clock, with failures, and with a record of what was applied.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill::model::{Commit, DeadLetterId, Digest, EntryId, Header, Location, Partition, Place, Reason, Schema, SchemaId};
use gristmill::online_store::memory::MemoryStore;
use gristmill::online_store::{DeadLetters, Error, OnlineStore, Writer, Writers};
use tokio::time::Instant;

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committing {
    /// It never arrives.
    LostBefore,
    /// It is applied, and nobody hears of it.
    LostAfter,
    /// It is refused.
    Refused,
    /// The host sleeps before it sends it.
    Stalled(Duration),
}

/// A commit that the store has, as far as the oracle must know it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The entries of the batch; empty for a replay.
    pub entries: Vec<EntryId>,
    /// Events that it gave up.
    pub letters: Vec<(DeadLetterId, Reason, Digest)>,
    /// Dead letters that it settled.
    pub settled: Vec<DeadLetterId>,
    /// The schemas of its rows.
    pub schemas: BTreeSet<SchemaId>,
}

/// What all hosts share.
pub struct Shared {
    /// Where everything goes in the end.
    pub inner: MemoryStore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lease: Option<(String, Instant)>,
    applied: Vec<Applied>,
    committing: VecDeque<Committing>,
    failing_reads: u64,
    failing_renewals: u64,
    failing_openings: u64,
}

/// The store.
#[derive(Clone)]
pub struct Store {
    /// What is behind it.
    pub shared: Arc<Shared>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Store {
    /// An empty one.
    pub fn new() -> Store {
        Store { shared: Arc::new(Shared { inner: MemoryStore::default(), state: Mutex::default() }) }
    }

    /// What was applied so far, in order.
    pub fn applied(&self) -> Vec<Applied> {
        self.shared.state().applied.clone()
    }

    /// How many entries were applied so far.
    pub fn applied_entries(&self) -> usize {
        self.shared.state().applied.iter().map(|applied| applied.entries.len()).sum()
    }

    /// Makes a coming commit fail.
    pub fn fail_commit(&self, how: Committing) {
        self.shared.state().committing.push_back(how);
    }

    /// Makes the next reads, renewals and openings fail.
    pub fn fail(&self, reads: u64, renewals: u64, openings: u64) {
        let mut state = self.shared.state();
        state.failing_reads += reads;
        state.failing_renewals += renewals;
        state.failing_openings += openings;
    }

    /// Takes the partition away from whoever has it, without doing anything with it.
    pub async fn steal(&self, partition: &Partition) {
        let writers = Writers::Single { holder: "thief".into(), lease_ms: 1 };
        let stolen = self.shared.inner.writer(partition, &writers).await;
        drop(stolen.expect("memory never fails"));
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.committing.clear();
        (state.failing_reads, state.failing_renewals, state.failing_openings) = (0, 0, 0);
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

/// Lets so much of the simulated time pass.
pub async fn pass(time: Duration) {
    // It is over in time, which is what it is for.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

fn cut() -> Error {
    Error::Unreachable { address: "nowhere".into(), reason: "cut".into() }
}

/// Uses up one of the failures that are due.
fn is_due(failing: &mut u64) -> bool {
    let due = *failing > 0;
    *failing = failing.saturating_sub(1);
    due
}

#[async_trait]
impl OnlineStore for Store {
    async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        if is_due(&mut self.shared.state().failing_reads) {
            return Err(cut());
        }
        self.shared.inner.read(keys).await
    }

    async fn writer(&self, partition: &Partition, writers: &Writers) -> Result<Box<dyn Writer>, Error> {
        let Writers::Single { holder, lease_ms } = writers else { return self.shared.inner.writer(partition, writers).await };
        let lease = Duration::from_millis(*lease_ms);
        {
            let mut state = self.shared.state();
            if is_due(&mut state.failing_openings) {
                return Err(cut());
            }
            if let Some((other, until)) = state.lease.as_ref().filter(|(other, until)| other != holder && *until > Instant::now()) {
                let remaining_ms = until.duration_since(Instant::now()).as_millis() as u64;
                return Err(Error::Held { partition: partition.to_string(), holder: other.clone(), remaining_ms });
            }
            state.lease = Some((holder.clone(), Instant::now() + lease));
        }
        let inner = self.shared.inner.writer(partition, writers).await?;
        Ok(Box::new(StoreWriter { shared: Arc::clone(&self.shared), inner, holder: holder.clone(), lease }))
    }

    async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error> {
        self.shared.inner.intern(schema).await
    }

    async fn sample(&self, prefix: &[u8], values_max: usize) -> Result<Vec<Bytes>, Error> {
        self.shared.inner.sample(prefix, values_max).await
    }

    async fn schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error> {
        self.shared.inner.schemas().await
    }

    async fn places(&self, partitions: &[Partition]) -> Result<Vec<Place>, Error> {
        self.shared.inner.places(partitions).await
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn location(&self) -> Location {
        Location::Memory
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.shared.inner.dead_letters()
    }
}

struct StoreWriter {
    shared: Arc<Shared>,
    inner: Box<dyn Writer>,
    holder: String,
    lease: Duration,
}

impl StoreWriter {
    fn extend(&self, state: &mut State) {
        if let Some((_, until)) = state.lease.as_mut().filter(|(holder, _)| *holder == self.holder) {
            *until = Instant::now() + self.lease;
        }
    }
}

#[async_trait]
impl Writer for StoreWriter {
    fn place(&self) -> Place {
        self.inner.place()
    }

    fn acknowledges(&self) -> bool {
        false
    }

    async fn read(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        self.inner.read(keys).await
    }

    async fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let how = self.shared.state().committing.pop_front();
        match how {
            Some(Committing::LostBefore) => return Err(cut()),
            Some(Committing::Refused) => return Err(Error::Refused { command: "the commit".into(), reason: "not now".into() }),
            Some(Committing::Stalled(time)) => pass(time).await,
            Some(Committing::LostAfter) | None => {}
        }
        let before = self.inner.place().commits;
        self.inner.commit(commit).await?;
        let mut state = self.shared.state();
        if self.inner.place().commits > before {
            let row_headers = commit.rows.iter().map(|row| Header::read(row.packed));
            let is_row = |key: &[u8]| key.first() != Some(&b'~');
            let entities = commit.puts.iter().filter(|put| is_row(&put.key)).filter_map(|put| put.value.as_ref());
            let headers = row_headers.chain(entities.map(|value| Header::read(value)));
            state.applied.push(Applied {
                entries: commit.acknowledge.clone(),
                letters: commit.dead_letters.iter().map(|letter| (letter.id.clone(), letter.reason, letter.component)).collect(),
                settled: commit.settled_dead_letters.clone(),
                schemas: headers.map(|header| header.expect("a row has a header").schema).collect(),
            });
        }
        self.extend(&mut state);
        if how == Some(Committing::LostAfter) { Err(cut()) } else { Ok(()) }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        if is_due(&mut self.shared.state().failing_renewals) {
            return Err(cut());
        }
        self.inner.renew().await?;
        self.extend(&mut self.shared.state());
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), Error> {
        let StoreWriter { shared, inner, holder, .. } = *self;
        {
            let mut state = shared.state();
            state.lease = state.lease.take().filter(|(other, _)| *other != holder);
        }
        inner.release().await
    }
}
