use async_trait::async_trait;
use redis::{cmd, pipe};

use super::{Error, Shared};
use crate::model::{DeadLetter, DeadLetterQuery};
use crate::online_store::{DeadLetterCount, DeadLetters};

/// Dead letters looked at in one round trip.
const PAGE: usize = 500;

#[async_trait]
impl DeadLetters for Shared {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error> {
        let (dead, order) = (self.key("dead"), self.key("dead_order"));
        let mut found = Vec::new();
        let mut start = 0;
        while found.len() < query.limit {
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
                let letter: DeadLetter = serde_json::from_str(&text).map_err(|error| Error::Corrupt(format!("a dead letter: {error}")))?;
                if matches(&letter, query) && found.len() < query.limit {
                    found.push(letter);
                }
            }
        }
        Ok(found)
    }

    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let (dead, order) = (self.key("dead"), self.key("dead_order"));
        let mut dropped = 0;
        let doomed = self.list(query).await?;
        for page in doomed.chunks(PAGE) {
            let ids: Vec<String> = page.iter().map(|letter| letter.id.to_string()).collect();
            let mut both = pipe();
            both.atomic().cmd("HDEL").arg(&dead).arg(&ids).cmd("ZREM").arg(&order).arg(&ids).ignore();
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

fn matches(letter: &DeadLetter, query: &DeadLetterQuery) -> bool {
    query.transform.as_ref().is_none_or(|transform| *transform == letter.id.transform)
        && query.stream.as_ref().is_none_or(|stream| *stream == letter.id.stream)
}
