//! A store in this process's memory: for tests, for trying things out, and for hosts whose features may be computed anew. Nothing of it
//! outlives the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::found::Found;
use super::owners::Owners;
use super::{DeadLetterCount, DeadLetters, Error, OnlineStore, Writer, Writers};
use crate::model::{
    Commit, DeadLetter, DeadLetterId, DeadLetterQuery, Gathered, Location, Partition, Place, Schema, SchemaId, Timestamp, Version,
};

/// Dead letters kept unless told otherwise.
pub const DEAD_LETTERS_MAX: u64 = 100_000;

/// The store. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    rows: RwLock<FxHashMap<Vec<u8>, Row>>,
    // Held for the whole of a commit, so that commits follow one another.
    state: Mutex<State>,
    dead_letters_max: u64,
}

struct Row {
    version: Version,
    expires_at: Option<Timestamp>,
    packed: Bytes,
}

#[derive(Default)]
struct State {
    owners: Owners,
    partitions: HashMap<Partition, (Place, u64)>,
    schemas: Vec<Schema>,
    // By time and id, the order in which they are listed and pushed out.
    dead_letters: BTreeMap<(Timestamp, DeadLetterId), DeadLetter>,
    dead_letter_times: HashMap<DeadLetterId, Timestamp>,
    evicted: u64,
}

struct MemoryWriter {
    shared: Arc<Shared>,
    partition: Partition,
    place: Place,
    /// `None` among competing writers, who do not fence each other.
    token: Option<u64>,
    found: Found,
}

impl MemoryStore {
    /// An empty store that keeps at most this many dead letters.
    pub fn new(dead_letters_max: u64) -> MemoryStore {
        MemoryStore { shared: Arc::new(Shared { rows: RwLock::default(), state: Mutex::default(), dead_letters_max }) }
    }

    /// Forgets rows that have expired by `now`, and says how many.
    pub fn sweep(&self, now: Timestamp) -> u64 {
        let mut rows = self.shared.rows.write().unwrap_or_else(PoisonError::into_inner);
        let before = rows.len();
        rows.retain(|_, row| !row.has_expired(now));
        (before - rows.len()) as u64
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new(DEAD_LETTERS_MAX)
    }
}

#[async_trait]
impl OnlineStore for MemoryStore {
    async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let now = Timestamp::now();
        let rows = self.shared.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.iter().map(|key| live(&rows, key, now)).collect())
    }

    async fn writer(&self, partition: &Partition, writers: &Writers) -> Result<Box<dyn Writer>, Error> {
        let mut state = self.shared.state();
        let (place, token) = state.partitions.entry(partition.clone()).or_default();
        let token = match writers {
            Writers::Single { .. } | Writers::Waiting { .. } => {
                *token += 1;
                Some(*token)
            }
            Writers::Competing => None,
        };
        let (shared, partition, found) = (Arc::clone(&self.shared), partition.clone(), Found::default());
        Ok(Box::new(MemoryWriter { shared, partition, place: *place, token, found }))
    }

    async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error> {
        let mut state = self.shared.state();
        let known = state.schemas.iter().position(|other| other == schema);
        let index = known.unwrap_or_else(|| {
            state.schemas.push(schema.clone());
            state.schemas.len() - 1
        });
        Ok(SchemaId(index as u32 + 1))
    }

    async fn sample(&self, prefix: &[u8], values_max: usize) -> Result<Vec<Bytes>, Error> {
        let rows = self.shared.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.iter().filter(|(key, _)| key.starts_with(prefix)).take(values_max).map(|(_, row)| row.packed.clone()).collect())
    }

    async fn schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error> {
        let state = self.shared.state();
        Ok((1..).map(SchemaId).zip(state.schemas.iter().cloned()).collect())
    }

    async fn places(&self, partitions: &[Partition]) -> Result<Vec<Place>, Error> {
        let state = self.shared.state();
        Ok(partitions.iter().map(|partition| state.partitions.get(partition).map(|(place, _)| *place).unwrap_or_default()).collect())
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn location(&self) -> Location {
        Location::Memory
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    fn place(&self) -> Place {
        self.place
    }

    fn acknowledges(&self) -> bool {
        false
    }

    async fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        if !commit.emits.is_empty() {
            return Err(Error::Config("a store in memory has no streams beside it that a commit could append to".into()));
        }
        let mut state = self.shared.state();
        let (place, token) = state.partitions.entry(self.partition.clone()).or_default();
        if self.token.is_some_and(|own| own != *token) {
            return Err(Error::Fenced { partition: self.partition.to_string() });
        }
        if self.token.is_some() && commit.number <= place.commits {
            self.place = *place;
            return Ok(());
        }
        if self.token.is_some() && commit.number != place.commits + 1 {
            let reason = format!("commit {} cannot follow commit {}", commit.number, place.commits);
            return Err(Error::PlaceLost { partition: self.partition.to_string(), reason });
        }
        let place = Place { last: place.last.max(commit.last), commits: place.commits + 1 };
        {
            let (rows, now) = (self.shared.rows.read().unwrap_or_else(PoisonError::into_inner), Timestamp::now());
            std::mem::take(&mut self.found).check(|key| Ok(live(&rows, key, now)))?;
        }
        state.owners.claim(&self.partition, commit)?;
        state.partitions.entry(self.partition.clone()).or_default().0 = place;
        self.place = place;
        self.shared.merge_rows(commit);
        state.settle(commit, self.shared.dead_letters_max);
        Ok(())
    }

    async fn read(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let values = MemoryStore { shared: Arc::clone(&self.shared) }.read(keys).await?;
        self.found.add(keys, &values);
        Ok(values)
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let state = self.shared.state();
        let current = state.partitions.get(&self.partition).map(|(_, token)| *token);
        if self.token.is_some() && current != self.token {
            return Err(Error::Fenced { partition: self.partition.to_string() });
        }
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for MemoryStore {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error> {
        Ok(self.shared.state().gather(query, |letter| letter))
    }

    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let mut state = self.shared.state();
        let ids = state.gather(query, |letter| letter.id);
        ids.iter().for_each(|id| state.forget(id));
        Ok(ids.len() as u64)
    }

    async fn count(&self) -> Result<DeadLetterCount, Error> {
        let state = self.shared.state();
        Ok(DeadLetterCount { kept: state.dead_letters.len() as u64, evicted: state.evicted })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn merge_rows(&self, commit: &Commit) {
        let now = Timestamp::now();
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for row in commit.rows.iter() {
            let newer = rows.get(row.key).is_none_or(|stored| stored.has_expired(now) || stored.version < row.version);
            if newer {
                let packed = Bytes::copy_from_slice(row.packed);
                rows.insert(row.key.to_vec(), Row { version: row.version, expires_at: row.expires_at, packed });
            }
        }
        for put in commit.puts.iter() {
            match &put.value {
                Some(value) => rows.insert(
                    put.key.clone(),
                    Row { version: put.version().unwrap_or(Version::MIN), expires_at: put.expires_at, packed: value.clone() },
                ),
                None => rows.remove(&put.key),
            };
        }
    }
}

fn live(rows: &FxHashMap<Vec<u8>, Row>, key: &[u8], now: Timestamp) -> Option<Bytes> {
    rows.get(key).filter(|row| !row.has_expired(now)).map(|row| row.packed.clone())
}

impl Row {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl State {
    fn gather<T>(&self, query: &DeadLetterQuery, keep: impl Fn(DeadLetter) -> T) -> Vec<T> {
        let mut gathered = Gathered::new(query);
        let mut wanted = self.dead_letters.values().rev().filter(|letter| query.wants(letter));
        while !gathered.is_full()
            && let Some(letter) = wanted.next()
        {
            gathered.add(letter.clone(), &keep);
        }
        gathered.found
    }

    fn settle(&mut self, commit: &Commit, dead_letters_max: u64) {
        commit.settled_dead_letters.iter().for_each(|id| self.forget(id));
        for letter in &commit.dead_letters {
            self.forget(&letter.id);
            self.dead_letter_times.insert(letter.id.clone(), letter.at);
            self.dead_letters.insert((letter.at, letter.id.clone()), letter.clone());
        }
        while self.dead_letters.len() as u64 > dead_letters_max
            && let Some(((_, id), _)) = self.dead_letters.pop_first()
        {
            self.dead_letter_times.remove(&id);
            self.evicted += 1;
        }
    }

    fn forget(&mut self, id: &DeadLetterId) {
        if let Some(at) = self.dead_letter_times.remove(id) {
            self.dead_letters.remove(&(at, id.clone()));
        }
    }
}
