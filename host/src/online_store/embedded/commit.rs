//! Committing: one batch for everything that a commit changes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fjall::OwnedWriteBatch;

use super::rows::{StoredRow, expiry_key};
use super::{EmbeddedStore, EmbeddedWriter, Error, Shared, State, emits, failed};
use crate::data_folder::Appending;
use crate::model::{Commit, Partition, Place, Put, RowRef, Timestamp, Version};
use crate::online_store::found::Found;
use crate::online_store::{OnlineStore, Writer};

#[async_trait]
impl Writer for EmbeddedWriter {
    fn place(&self) -> Place {
        self.place
    }

    fn acknowledges(&self) -> bool {
        false
    }

    async fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let (shared, partition, token) = (self.shared.clone(), &self.partition, self.token);
        let found = std::mem::take(&mut self.found);
        // Commits take about as long as a hop to another thread, unless they sync; either way the other tasks of this worker move on.
        self.place = run_blocking(move || shared.commit(partition, token, &found, commit))?;
        Ok(())
    }

    async fn read(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let values = EmbeddedStore { shared: Arc::clone(&self.shared) }.read(keys).await?;
        self.found.add(keys, &values);
        Ok(values)
    }

    async fn renew(&mut self) -> Result<(), Error> {
        self.shared.state().check_token(&self.partition, self.token)
    }

    async fn release(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// Runs what blocks without borrowing less: on a runtime of several threads the others take over this one's tasks.
fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    let several =
        tokio::runtime::Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}

impl State {
    fn check_token(&self, partition: &Partition, token: Option<u64>) -> Result<(), Error> {
        if token.is_some() && self.tokens.get(partition).copied() != token {
            return Err(Error::Fenced { partition: partition.to_string() });
        }
        Ok(())
    }
}

impl Shared {
    fn commit(self: &Arc<Self>, partition: &Partition, token: Option<u64>, found: &Found, commit: &Commit) -> Result<Place, Error> {
        let mut state = self.state();
        state.check_token(partition, token)?;
        let place = self.place(partition)?;
        if token.is_some() && commit.number <= place.commits {
            return Ok(place);
        }
        if token.is_some() && commit.number != place.commits + 1 {
            let reason = format!("commit {} cannot follow commit {}", commit.number, place.commits);
            return Err(Error::PlaceLost { partition: partition.to_string(), reason });
        }
        let now = Timestamp::now();
        found.check(|key| Ok(self.load(key)?.filter(|stored| !stored.has_expired(now)).map(|stored| stored.packed)))?;
        state.owners.claim(partition, commit)?;
        let place = Place { last: place.last.max(commit.last), commits: place.commits + 1 };
        let ends = self.log_ends(commit)?;
        let mut batch = self.folder.batch();
        let (written, high_water) = self.merge_rows(&mut batch, commit, state.high_water)?;
        batch.insert(&self.places, partition.to_string(), serde_json::to_vec(&place).map_err(failed)?);
        if let Some(high_water) = high_water.filter(|_| high_water != state.high_water) {
            batch.insert(&self.counts, "high_water", high_water.to_bytes());
        }
        self.put(&mut batch, commit);
        let crowded = self.settle_dead_letters(&mut batch, commit)?;
        let appended = emits::append(&mut batch, &ends, commit);
        let changed = written.iter().map(|row| row.key).chain(commit.puts.iter().map(|put| put.key.as_slice()));
        let changing = self.notes.change(changed);
        self.folder.commit(batch).map_err(failed)?;
        appended.into_iter().for_each(Appending::committed);
        state.high_water = high_water;
        for row in written {
            let stored = StoredRow { expires_at: row.expires_at, packed: Bytes::copy_from_slice(row.packed) };
            self.cache.put(row.key.to_vec(), stored);
        }
        for put in commit.puts.iter() {
            match &put.value {
                Some(value) => self.cache.put(put.key.clone(), StoredRow { expires_at: put.expires_at, packed: value.clone() }),
                None => self.cache.forget(&put.key),
            }
        }
        drop(changing);
        if crowded {
            self.evict_dead_letters()?;
        }
        for end in &ends {
            end.trim(&self.folder).map_err(failed)?;
        }
        Ok(place)
    }

    /// Writes the rows that are newest. Returns them, and the greatest version stored once the batch is in.
    fn merge_rows<'c>(
        &self,
        batch: &mut OwnedWriteBatch,
        commit: &'c Commit,
        high_water: Option<Version>,
    ) -> Result<(Vec<RowRef<'c>>, Option<Version>), Error> {
        let now = Timestamp::now();
        let mut written = Vec::with_capacity(commit.rows.len());
        let mut reached = commit.puts.iter().filter_map(Put::version).map(Some).fold(high_water, Option::max);
        for row in commit.rows.iter() {
            let surely = high_water.is_none_or(|high_water| row.version > high_water);
            if !surely && !self.is_newest(&row, now)? {
                continue;
            }
            batch.insert(&self.rows, row.key, StoredRow::encode(row.expires_at, row.packed));
            if let Some(at) = row.expires_at {
                batch.insert(&self.expiry, expiry_key(at, row.key), []);
            }
            reached = reached.max(Some(row.version));
            written.push(row);
        }
        Ok((written, reached))
    }

    fn put(&self, batch: &mut OwnedWriteBatch, commit: &Commit) {
        for put in commit.puts.iter() {
            let Some(value) = &put.value else {
                batch.remove(&self.rows, put.key.as_slice());
                continue;
            };
            batch.insert(&self.rows, put.key.as_slice(), StoredRow::encode(put.expires_at, value));
            if let Some(at) = put.expires_at {
                batch.insert(&self.expiry, expiry_key(at, &put.key), []);
            }
        }
    }

    fn is_newest(&self, row: &RowRef<'_>, now: Timestamp) -> Result<bool, Error> {
        match self.load(row.key)?.filter(|stored| !stored.has_expired(now)) {
            None => Ok(true),
            Some(stored) => Ok(stored.version()? < row.version),
        }
    }
}
