//! The store in the host's data folder: rows, places, dead letters and schemas in one database, and each commit one atomic batch of it.
//!
//! Keyspaces: `rows` (row key → when it expires, packed row), `expiry` (when, row key), `places`, `schemas`, `dead_letters` (when, id → the
//! letter), `dead_letter_times` (id → when), `counts` (the greatest version ever stored; dead letters kept and pushed out).
//!
//! Invariant: a row whose version is above the greatest version ever stored is the newest of its key, and is written without looking; every
//! other row is compared with what is stored, under the lock that all commits take. Events that come in order are thus written blindly.
//!
//! Invariant: the read cache never holds a row that a later commit has replaced. A reader that misses leaves a placeholder before it looks
//! into the database, and a commit puts its rows into the cache after the database has them, which takes the placeholder away; what the
//! reader then found is not kept.
//!
//! Expiry is an index that [`EmbeddedStore::sweep`] walks, not a filter during compaction: memory and disk are then given back at a pace that
//! the host sets, whether or not anything is compacted. Reads do not depend on it: an expired row is never returned.

mod commit;
mod dead_letters;
mod emits;
mod memory;
mod noted;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::Keyspace;

pub use self::memory::row_cache_bytes;
use self::noted::Notes;
use self::rows::{RowCache, StoredRow};
use super::found::Found;
use super::owners::Owners;
use super::{DeadLetters, Error, Noted, OnlineStore, Writer, Writers};
use crate::data_folder::{Claim, DataFolder};
use crate::model::{Location, Partition, Place, Schema, SchemaId, Timestamp, Version};

/// Threads that look for the rows of one read, at most.
const LOADERS_MAX: usize = 4;
/// Rows for which it pays to wake one more thread.
const LOADED_TOGETHER_MIN: usize = 64;

/// How to open the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Memory for packed rows that were read or written lately, in bytes.
    pub row_cache_bytes: u64,
    /// Dead letters kept, at most: the oldest are pushed out.
    pub dead_letters_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { row_cache_bytes: row_cache_bytes(), dead_letters_max: 100_000 }
    }
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

struct Shared {
    rows: Keyspace,
    expiry: Keyspace,
    places: Keyspace,
    schemas: Keyspace,
    dead_letters: Keyspace,
    dead_letter_times: Keyspace,
    counts: Keyspace,
    cache: RowCache,
    notes: Notes,
    // Held for the whole of a commit, so that commits follow one another.
    state: Mutex<State>,
    dead_letters_max: u64,
    /// How many threads look for the rows of one read.
    loaders: usize,
    _claim: Claim,
    folder: DataFolder,
}

struct State {
    /// No stored row is newer; `None` while there are no rows.
    high_water: Option<Version>,
    /// The token of each partition's only writer who may commit.
    tokens: HashMap<Partition, u64>,
    owners: Owners,
    /// By number. Every number that was ever given is kept, for rows name it.
    schemas: BTreeMap<SchemaId, Schema>,
}

struct EmbeddedWriter {
    shared: Arc<Shared>,
    partition: Partition,
    place: Place,
    /// `None` among competing writers, who do not fence each other.
    token: Option<u64>,
    found: Found,
}

impl EmbeddedStore {
    /// Opens the store of a data folder. It can be open once at a time. Blocks shortly.
    pub fn open(folder: &DataFolder, options: Options) -> Result<EmbeddedStore, Error> {
        let claim = folder.claim("the online store").map_err(failed)?;
        let open = |name| folder.keyspace(name).map_err(failed);
        let rows = folder.keyspace_of_values("rows").map_err(failed)?;
        let (schemas, counts) = (open("schemas")?, open("counts")?);
        let state = State {
            high_water: load_high_water(&rows, &counts)?,
            tokens: HashMap::new(),
            owners: Owners::default(),
            schemas: load_schemas(&schemas)?,
        };
        let shared = Shared {
            rows,
            expiry: open("expiry")?,
            places: open("places")?,
            schemas,
            dead_letters: open("dead_letters")?,
            dead_letter_times: open("dead_letter_times")?,
            counts,
            cache: RowCache::new(options.row_cache_bytes),
            notes: Notes::new(),
            state: Mutex::new(state),
            dead_letters_max: options.dead_letters_max,
            loaders: std::thread::available_parallelism().map_or(1, usize::from).min(LOADERS_MAX),
            _claim: claim,
            folder: folder.clone(),
        };
        Ok(EmbeddedStore { shared: Arc::new(shared) })
    }

    /// Forgets at most `rows_max` rows that have expired by `now`, the longest expired first, and says how many it looked at. To be called
    /// again at once when it returns `rows_max`.
    pub async fn sweep(&self, now: Timestamp, rows_max: usize) -> Result<usize, Error> {
        self.blocking(move |shared| shared.sweep(now, rows_max)).await
    }

    /// The rows under these keys, which the cache does not have, each with the number that came with its key.
    async fn load_all(&self, mut missed: Vec<(usize, Vec<u8>)>) -> Result<Vec<(usize, Option<StoredRow>)>, Error> {
        // Neighbours share most of the way to them, and what they have looked at on it is still at hand.
        missed.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        let share = missed.len().div_ceil(self.shared.loaders).max(LOADED_TOGETHER_MIN);
        let mut loading = Vec::new();
        while !missed.is_empty() {
            let part = missed.split_off(missed.len().saturating_sub(share));
            let load = move |shared: &Shared| {
                let loaded = part.into_iter().map(|(index, key)| Ok((index, shared.load(&key)?)));
                loaded.collect::<Result<Vec<_>, Error>>()
            };
            let shared = self.shared.clone();
            loading.push(tokio::task::spawn_blocking(move || load(&shared)));
        }
        let mut loaded = Vec::new();
        for part in loading {
            loaded.append(&mut part.await.map_err(failed)??);
        }
        Ok(loaded)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        blocking(&self.shared, work).await
    }
}

#[async_trait]
impl OnlineStore for EmbeddedStore {
    async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let now = Timestamp::now();
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(keys.len());
        let mut missed = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let cached = self.shared.cache.get(key);
            if cached.is_none() {
                missed.push((index, key.clone()));
            }
            found.push(cached.flatten().and_then(|row| row.live(now)));
        }
        for (index, row) in self.load_all(missed).await? {
            if let Some(slot) = found.get_mut(index) {
                *slot = row.and_then(|row| row.live(now));
            }
        }
        Ok(found)
    }

    fn noted(&self) -> Option<&dyn Noted> {
        Some(&*self.shared)
    }

    async fn writer(&self, partition: &Partition, writers: &Writers) -> Result<Box<dyn Writer>, Error> {
        let (partition, single) = (partition.clone(), matches!(writers, Writers::Single { .. } | Writers::Waiting { .. }));
        let shared = self.shared.clone();
        let open = move |own: &Shared| {
            let mut state = own.state();
            let place = own.place(&partition)?;
            // The folder's lock keeps other hosts away, so the token need not outlive the process.
            let token = single.then(|| {
                let token = state.tokens.entry(partition.clone()).or_default();
                *token += 1;
                *token
            });
            Ok(EmbeddedWriter { shared, partition, place, token, found: Found::default() })
        };
        Ok(Box::new(self.blocking(open).await?))
    }

    async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error> {
        let schema = schema.clone();
        self.blocking(move |shared| shared.intern(schema)).await
    }

    async fn sample(&self, prefix: &[u8], values_max: usize) -> Result<Vec<Bytes>, Error> {
        let prefix = prefix.to_vec();
        let some = move |shared: &Shared| {
            let found = shared.rows.prefix(prefix).take(values_max);
            found.map(|guard| Ok(StoredRow::decode(&guard.value().map_err(failed)?)?.packed)).collect()
        };
        self.blocking(some).await
    }

    async fn schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error> {
        Ok(self.shared.state().schemas.iter().map(|(id, schema)| (*id, schema.clone())).collect())
    }

    async fn places(&self, partitions: &[Partition]) -> Result<Vec<Place>, Error> {
        let partitions = partitions.to_vec();
        self.blocking(move |shared| partitions.iter().map(|partition| shared.place(partition)).collect()).await
    }

    async fn check(&self) -> Result<(), Error> {
        if !self.shared.folder.takes_commits() {
            return Err(Error::Folder(
                "a commit failed, and it takes no more; see the log, make room on the disk, and start the host again".into(),
            ));
        }
        self.blocking(|shared| shared.counts.get("high_water").map(|_| ()).map_err(failed)).await
    }

    fn location(&self) -> Location {
        Location::Folder(self.shared.folder.path().to_owned())
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, partition: &Partition) -> Result<Place, Error> {
        match self.places.get(partition.to_string()).map_err(failed)? {
            None => Ok(Place::default()),
            Some(stored) => serde_json::from_slice(&stored).map_err(|error| Error::Corrupt(format!("the place of {partition}: {error}"))),
        }
    }

    fn intern(&self, schema: Schema) -> Result<SchemaId, Error> {
        let mut state = self.state();
        if let Some((id, _)) = state.schemas.iter().find(|(_, known)| **known == schema) {
            return Ok(*id);
        }
        let id = SchemaId(state.schemas.keys().next_back().map_or(0, |id| id.0).saturating_add(1));
        let mut batch = self.folder.batch();
        batch.insert(&self.schemas, id.0.to_be_bytes(), serde_json::to_vec(&schema).map_err(failed)?);
        self.folder.commit(batch).map_err(failed)?;
        state.schemas.insert(id, schema);
        Ok(id)
    }
}

fn load_schemas(schemas: &Keyspace) -> Result<BTreeMap<SchemaId, Schema>, Error> {
    let load = |guard: fjall::Guard| {
        let (id, schema) = guard.into_inner().map_err(failed)?;
        let id = id.first_chunk().map(|id| SchemaId(u32::from_be_bytes(*id))).ok_or_else(|| Error::Corrupt("a schema's number".into()))?;
        let schema = serde_json::from_slice(&schema).map_err(|error| Error::Corrupt(format!("schema {}: {error}", id.0)))?;
        Ok((id, schema))
    };
    schemas.iter().map(load).collect()
}

fn load_high_water(rows: &Keyspace, counts: &Keyspace) -> Result<Option<Version>, Error> {
    if let Some(stored) = counts.get("high_water").map_err(failed)? {
        let bytes = stored.first_chunk().ok_or_else(|| Error::Corrupt("the greatest version stored".into()))?;
        return Ok(Some(Version::from_bytes(*bytes)));
    }
    // Rows without a mark may be of any version: then every row is compared, for good.
    let any_rows = !rows.is_empty().map_err(failed)?;
    Ok(any_rows.then(|| Version::from_bytes([0xff; 24])))
}

async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || work(&shared)).await.map_err(failed)?
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Folder(error.to_string())
}
