//! Rows: their stored form, the cache in front of them, and forgetting those that have expired.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, GuardResult};

use super::{Error, Shared, failed};
use crate::model::{Header, Timestamp, Version};

/// What the cache spends on an entry besides its key and its row, in bytes, about.
const OVERHEAD_BYTES: u64 = 96;
/// Length of a row, about, from which the cache guesses how many it will hold.
const ROW_BYTES: u64 = 256;

/// How long a read waits for another that is loading the same row before it loads the row itself.
const LOAD_WAIT: Duration = Duration::from_secs(5);

/// A row as stored: eight bytes of expiry (big-endian, greatest for never), then the packed row.
#[derive(Debug, Clone)]
pub(super) struct StoredRow {
    pub(super) expires_at: Option<Timestamp>,
    pub(super) packed: Bytes,
}

impl StoredRow {
    pub(super) fn encode(expires_at: Option<Timestamp>, packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + packed.len());
        bytes.extend_from_slice(&expires_at.map_or(i64::MAX, |at| at.0).to_be_bytes());
        bytes.extend_from_slice(packed);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<StoredRow, Error> {
        let (expires_at, packed) = bytes.split_first_chunk().ok_or_else(|| Error::Corrupt("a row is cut short".into()))?;
        let expires_at = Some(i64::from_be_bytes(*expires_at)).filter(|at| *at != i64::MAX).map(Timestamp);
        Ok(StoredRow { expires_at, packed: Bytes::copy_from_slice(packed) })
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub(super) fn live(self, now: Timestamp) -> Option<Bytes> {
        (!self.has_expired(now)).then_some(self.packed)
    }

    pub(super) fn version(&self) -> Result<Version, Error> {
        Header::read(&self.packed).map(|header| header.version).map_err(|error| Error::Corrupt(error.to_string()))
    }
}

/// The key of a row in the index by expiry: sorts by time, then by row key.
pub(super) fn expiry_key(at: Timestamp, key: &[u8]) -> Vec<u8> {
    let mut bytes = ((at.0 as u64) ^ (1 << 63)).to_be_bytes().to_vec();
    bytes.extend_from_slice(key);
    bytes
}

/// Rows read or written lately, absent ones included.
pub(super) struct RowCache {
    cache: Cache<Vec<u8>, Option<StoredRow>, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Vec<u8>, Option<StoredRow>> for Weight {
    fn weight(&self, key: &Vec<u8>, row: &Option<StoredRow>) -> u64 {
        OVERHEAD_BYTES + key.len() as u64 + row.as_ref().map_or(0, |row| row.packed.len() as u64)
    }
}

impl RowCache {
    pub(super) fn new(bytes: u64) -> RowCache {
        let rows = usize::try_from(bytes / (OVERHEAD_BYTES + ROW_BYTES)).unwrap_or(usize::MAX).max(16);
        RowCache { cache: Cache::with_weighter(rows, bytes, Weight) }
    }

    /// The row, or that there is none, if the cache knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<StoredRow>> {
        self.cache.get(key)
    }

    /// Puts in what a commit wrote, and takes away the placeholders of readers that may have seen what was there before.
    pub(super) fn put(&self, key: Vec<u8>, row: StoredRow) {
        // The cache ignores what is too large for it, and would leave in place what is there.
        self.cache.remove(&key);
        self.cache.insert(key, Some(row));
    }

    pub(super) fn forget(&self, key: &[u8]) {
        self.cache.remove(&key.to_vec());
    }
}

impl Shared {
    /// The row under `key`, through the cache, expired or not. Blocks.
    pub(super) fn load(&self, key: &[u8]) -> Result<Option<StoredRow>, Error> {
        match self.cache.cache.get_value_or_guard(&key.to_vec(), Some(LOAD_WAIT)) {
            GuardResult::Value(row) => Ok(row),
            // Another thread loads the same row: waiting for it keeps all readers of a row on the same side of a commit.
            GuardResult::Timeout => self.fetch(key),
            GuardResult::Guard(guard) => {
                let row = self.fetch(key)?;
                // Refused when a commit has replaced the row meanwhile; what was read is still right to return.
                let _ = guard.insert(row.clone());
                Ok(row)
            }
        }
    }

    /// The row under `key`, past the cache. Blocks.
    pub(super) fn fetch(&self, key: &[u8]) -> Result<Option<StoredRow>, Error> {
        self.rows.get(key).map_err(failed)?.map(|stored| StoredRow::decode(&stored)).transpose()
    }

    pub(super) fn sweep(&self, now: Timestamp, rows_max: usize) -> Result<usize, Error> {
        let _state = self.state();
        let mut batch = self.folder.batch();
        let mut forgotten = Vec::new();
        let mut seen = 0;
        for guard in self.expiry.range(..=expiry_key(now, &[0xff])).take(rows_max) {
            let indexed = guard.key().map_err(failed)?;
            let key = indexed.get(8..).unwrap_or_default();
            // The row may have been replaced by one that lives longer and has an index entry of its own.
            if self.fetch(key)?.is_some_and(|row| row.has_expired(now)) {
                batch.remove(&self.rows, key);
                forgotten.push(key.to_vec());
            }
            batch.remove(&self.expiry, indexed);
            seen += 1;
        }
        self.folder.commit(batch).map_err(failed)?;
        forgotten.iter().for_each(|key| self.cache.forget(key));
        Ok(seen)
    }
}
