use async_trait::async_trait;
use redis::{cmd, pipe};

use super::{Error, Shared};
use crate::model::{DeadLetter, DeadLetterQuery, Gathered};
use crate::online_store::{DeadLetterCount, DeadLetters};

/// Dead letters looked at in one round trip. Each may have megabytes.
const PAGE: usize = 64;

#[async_trait]
impl DeadLetters for Shared {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error> {
        self.gather(query, |letter| letter).await
    }

    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let (dead, order) = (self.key("dead"), self.key("dead_order"));
        let mut dropped = 0;
        let doomed = self.gather(query, |letter| letter.id.to_string()).await?;
        for ids in doomed.chunks(PAGE) {
            let mut both = pipe();
            both.atomic().cmd("HDEL").arg(&dead).arg(ids).cmd("ZREM").arg(&order).arg(ids).ignore();
            let (gone,): (u64,) = self.ask_all(&both, "HDEL").await?;
            dropped += gone;
        }
        Ok(dropped)
    }

    async fn count(&self) -> Result<DeadLetterCount, Error> {
        let mut both = pipe();
        both.cmd("ZCARD").arg(self.key("dead_order")).cmd("GET").arg(self.key("dead_evicted"));
        let (kept, evicted): (u64, Option<u64>) = self.ask_all(&both, "ZCARD").await?;
        Ok(DeadLetterCount { kept, evicted: evicted.unwrap_or(0) })
    }
}

impl Shared {
    async fn gather<T: Send>(&self, query: &DeadLetterQuery, keep: impl Fn(DeadLetter) -> T + Send + Sync) -> Result<Vec<T>, Error> {
        let (dead, order) = (self.key("dead"), self.key("dead_order"));
        let mut gathered = Gathered::new(query);
        let mut start = 0;
        while !gathered.is_full() {
            let mut page = cmd("ZREVRANGE");
            page.arg(&order).arg(start).arg(start + PAGE - 1);
            let ids: Vec<String> = self.ask(&page, "ZREVRANGE").await?;
            if ids.is_empty() {
                break;
            }
            start += ids.len();
            let mut hmget = cmd("HMGET");
            hmget.arg(&dead).arg(&ids);
            let letters: Vec<Option<String>> = self.ask(&hmget, "HMGET").await?;
            for text in letters.into_iter().flatten() {
                gathered.add(serde_json::from_str(&text).map_err(|error| Error::Corrupt(format!("a dead letter: {error}")))?, &keep);
            }
        }
        Ok(gathered.found)
    }
}
