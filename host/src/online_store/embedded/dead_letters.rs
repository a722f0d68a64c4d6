//! Dead letters: kept by time, found by id, bounded.

use std::collections::HashMap;

use async_trait::async_trait;
use fjall::OwnedWriteBatch;

use super::{EmbeddedStore, Error, Shared, failed};
use crate::model::{Commit, DeadLetter, DeadLetterQuery, Gathered, Timestamp};
use crate::online_store::{DeadLetterCount, DeadLetters};

#[async_trait]
impl DeadLetters for EmbeddedStore {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error> {
        let query = query.clone();
        self.blocking(move |shared| shared.list_dead_letters(&query, |letter| letter)).await
    }

    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let query = query.clone();
        self.blocking(move |shared| shared.drop_dead_letters(&query)).await
    }

    async fn count(&self) -> Result<DeadLetterCount, Error> {
        self.blocking(|shared| shared.dead_letter_count()).await
    }
}

impl Shared {
    /// Adds what a commit gives up and takes out what it settles, settling first. Says whether there are now more than are kept.
    pub(super) fn settle_dead_letters(&self, batch: &mut OwnedWriteBatch, commit: &Commit) -> Result<bool, Error> {
        if commit.dead_letters.is_empty() && commit.settled_dead_letters.is_empty() {
            return Ok(false);
        }
        let mut count = self.dead_letter_count()?;
        // What this commit has already changed; the database does not show it yet.
        let mut changed: HashMap<String, Option<Timestamp>> = HashMap::new();
        let settled = commit.settled_dead_letters.iter().map(|id| (id.to_string(), None));
        let added = commit.dead_letters.iter().map(|letter| (letter.id.to_string(), Some(letter)));
        for (id, letter) in settled.chain(added) {
            let stored = match changed.get(&id) {
                Some(at) => *at,
                None => self.dead_letter_time(&id)?,
            };
            if let Some(at) = stored {
                batch.remove(&self.dead_letters, time_key(at, &id));
                batch.remove(&self.dead_letter_times, id.as_str());
                count.kept = count.kept.saturating_sub(1);
            }
            if let Some(letter) = letter {
                batch.insert(&self.dead_letters, time_key(letter.at, &id), serde_json::to_vec(letter).map_err(failed)?);
                batch.insert(&self.dead_letter_times, id.as_str(), letter.at.0.to_be_bytes());
                count.kept += 1;
            }
            changed.insert(id, letter.map(|letter| letter.at));
        }
        batch.insert(&self.counts, "dead_letters", encode_count(count));
        Ok(count.kept > self.dead_letters_max)
    }

    /// Pushes out the oldest beyond the bound. A batch of its own: a crash before it leaves some too many until the next commit.
    pub(super) fn evict_dead_letters(&self) -> Result<(), Error> {
        let mut count = self.dead_letter_count()?;
        let surplus = count.kept.saturating_sub(self.dead_letters_max);
        let mut batch = self.folder.batch();
        for guard in self.dead_letters.iter().take(usize::try_from(surplus).unwrap_or(usize::MAX)) {
            let key = guard.key().map_err(failed)?;
            batch.remove(&self.dead_letter_times, key.get(8..).unwrap_or_default());
            batch.remove(&self.dead_letters, key);
            count = DeadLetterCount { kept: count.kept.saturating_sub(1), evicted: count.evicted + 1 };
        }
        batch.insert(&self.counts, "dead_letters", encode_count(count));
        self.folder.commit(batch).map_err(failed)
    }

    fn list_dead_letters<T>(&self, query: &DeadLetterQuery, keep: impl Fn(DeadLetter) -> T) -> Result<Vec<T>, Error> {
        let mut gathered = Gathered::new(query);
        for guard in self.dead_letters.iter().rev() {
            if gathered.is_full() {
                break;
            }
            let stored = guard.value().map_err(failed)?;
            gathered.add(serde_json::from_slice(&stored).map_err(|error| Error::Corrupt(format!("a dead letter: {error}")))?, &keep);
        }
        Ok(gathered.found)
    }

    fn drop_dead_letters(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let _state = self.state();
        let letters = self.list_dead_letters(query, |letter| (letter.at, letter.id.to_string()))?;
        let mut count = self.dead_letter_count()?;
        let mut batch = self.folder.batch();
        for (at, id) in &letters {
            batch.remove(&self.dead_letters, time_key(*at, id));
            batch.remove(&self.dead_letter_times, id.as_str());
            count.kept = count.kept.saturating_sub(1);
        }
        batch.insert(&self.counts, "dead_letters", encode_count(count));
        self.folder.commit(batch).map_err(failed)?;
        Ok(letters.len() as u64)
    }

    fn dead_letter_count(&self) -> Result<DeadLetterCount, Error> {
        let Some(stored) = self.counts.get("dead_letters").map_err(failed)? else { return Ok(DeadLetterCount::default()) };
        let parts = stored.first_chunk::<8>().zip(stored.last_chunk::<8>()).filter(|_| stored.len() == 16);
        let (kept, evicted) = parts.ok_or_else(|| Error::Corrupt("the number of dead letters".into()))?;
        Ok(DeadLetterCount { kept: u64::from_be_bytes(*kept), evicted: u64::from_be_bytes(*evicted) })
    }

    fn dead_letter_time(&self, id: &str) -> Result<Option<Timestamp>, Error> {
        let Some(stored) = self.dead_letter_times.get(id).map_err(failed)? else { return Ok(None) };
        let at = stored.first_chunk().ok_or_else(|| Error::Corrupt(format!("the time of dead letter {id}")))?;
        Ok(Some(Timestamp(i64::from_be_bytes(*at))))
    }
}

fn time_key(at: Timestamp, id: &str) -> Vec<u8> {
    super::rows::expiry_key(at, id.as_bytes())
}

fn encode_count(count: DeadLetterCount) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (kept, evicted) = bytes.split_at_mut(8);
    kept.copy_from_slice(&count.kept.to_be_bytes());
    evicted.copy_from_slice(&count.evicted.to_be_bytes());
    bytes
}
