//! What other consumers have left pending.
//!
//! The only reader of a group takes it over before it reads anything, and then reads all that is pending in one go and in order: what was taken over and what was its own all
//! along. Were it handed out as it is taken over, it would come after what was the reader's own; and were the reply to the taking lost, after what is new.

use std::collections::HashSet;

use redis::{FromRedisValue, Value, cmd, pipe};

use super::admin::{Admin, Pending, failed};
use super::fence::Fence;
use crate::model::{Entries, EntryId};
use crate::source::Error;

/// Takes over entries unless another reader has put up its fence since: it is entitled to them then.
const TAKE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('TAKENOVER another reader has put up its fence') end
return redis.call('XCLAIM', KEYS[2], unpack(ARGV, 2))";

/// Entries taken over from consumers that do not come back.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) entries: Entries,
    pub(super) exhausted: Vec<EntryId>,
    pub(super) lost: u64,
}

impl Admin {
    /// Makes everything that others hold this consumer's own, without handing it out. How many of those entries are no longer in the stream.
    pub(super) async fn adopt(&self, fence: &Fence) -> Result<u64, Error> {
        const PAGE: usize = 1_000;
        let (mut after, mut adopted, mut lost) = ("-".to_owned(), 0, 0);
        loop {
            let mut xpending = cmd("XPENDING");
            xpending.arg(&self.key).arg(&self.group).arg(&after).arg("+").arg(PAGE);
            let page: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
            let others = page.iter().filter(|(_, consumer, ..)| *consumer != self.consumer);
            let ids: Vec<&str> = others.map(|(id, ..)| id.as_str()).collect();
            if !ids.is_empty() {
                let taken: HashSet<String> = self.take(Some(fence), 0, &ids, true).await?;
                let missing = ids.iter().filter(|id| !taken.contains(**id)).filter_map(|id| id.parse().ok());
                lost += self.lost_of(&missing.collect::<Vec<EntryId>>()).await?;
                adopted += taken.len();
            }
            match page.last().filter(|_| page.len() == PAGE) {
                Some((id, ..)) => after = format!("({id}"),
                None => break,
            }
        }
        if adopted > 0 {
            tracing::info!(stream = %self.key, entries = adopted, "took over entries that were left pending");
        }
        Ok(lost)
    }

    /// Acknowledges everything that is pending up to and with this entry.
    pub(super) async fn settle_until(&self, until: EntryId) -> Result<(), Error> {
        const PAGE: usize = 1_000;
        loop {
            let mut xpending = cmd("XPENDING");
            xpending.arg(&self.key).arg(&self.group).arg("-").arg(until.to_string()).arg(PAGE);
            let page: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
            let ids: Vec<EntryId> = page.iter().filter_map(|(id, ..)| id.parse().ok()).collect();
            self.acknowledge(&ids).await?;
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn take<T: FromRedisValue>(&self, fence: Option<&Fence>, idle_ms: u64, ids: &[&str], only_ids: bool) -> Result<T, Error> {
        let mut take = match fence {
            None => cmd("XCLAIM"),
            Some(fence) => {
                let mut eval = cmd("EVAL");
                eval.arg(TAKE).arg(2).arg(&fence.place).arg(&self.key).arg(&fence.token);
                eval
            }
        };
        if fence.is_none() {
            take.arg(&self.key);
        }
        take.arg(&self.group).arg(&self.consumer).arg(idle_ms).arg(ids);
        if only_ids {
            take.arg("JUSTID");
        }
        take.query_async(&mut self.connection.clone()).await.map_err(|error| match error.code() {
            Some("TAKENOVER") => Error::TakenOver { stream: self.key.clone(), group: self.group.clone() },
            _ => failed(&self.connection, &self.site, "XCLAIM", &error),
        })
    }

    /// Takes over what was pending for this long, up to and with `until`, but for what this reader itself is at work on, as told by id and
    /// milliseconds since it was delivered.
    pub(super) async fn claim(
        &self,
        entries_max: usize,
        idle_ms: u64,
        until: Option<EntryId>,
        fence: Option<&Fence>,
        is_at_work: impl Fn(EntryId, u64) -> bool,
    ) -> Result<Claimed, Error> {
        let is_ours = |(id, consumer, idle_for_ms, _): &Pending| {
            *consumer == self.consumer && id.parse().is_ok_and(|id| is_at_work(id, *idle_for_ms))
        };
        let (mut after, until) = ("-".to_owned(), until.map_or("+".to_owned(), |id| id.to_string()));
        let pending = loop {
            let mut xpending = cmd("XPENDING");
            xpending.arg(&self.key).arg(&self.group).arg("IDLE").arg(idle_ms).arg(&after).arg(&until).arg(entries_max);
            let page: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
            let next = page.last().filter(|_| page.len() == entries_max).map(|(id, ..)| format!("({id}"));
            let left: Vec<Pending> = page.into_iter().filter(|entry| !is_ours(entry)).collect();
            match next {
                // What is on its way must not hide what others have left.
                Some(next) if left.is_empty() => after = next,
                _ => break left,
            }
        };
        if pending.is_empty() {
            return Ok(Claimed::default());
        }
        let ids: Vec<&str> = pending.iter().map(|(id, ..)| id.as_str()).collect();
        let taken: Vec<Value> = self.take(fence, idle_ms, &ids, false).await?;
        let mut claimed = Claimed::default();
        let mut found = HashSet::new();
        for (id, fields) in taken.into_iter().filter_map(|entry| <(String, Vec<Vec<u8>>)>::from_redis_value(entry).ok()) {
            let Ok(id) = id.parse::<EntryId>() else { continue };
            let fields = fields.as_chunks::<2>().0.iter().map(|[name, value]| (name.as_slice(), value.as_slice()));
            claimed.entries.push(id, fields);
            found.insert(id);
        }
        let over = |deliveries: u64| self.deliveries_max > 0 && deliveries >= self.deliveries_max;
        let mut missing = Vec::new();
        for (id, _, _, deliveries) in &pending {
            let Ok(id) = id.parse::<EntryId>() else { continue };
            if !found.contains(&id) {
                missing.push(id);
            } else if over(*deliveries) {
                claimed.exhausted.push(id);
            }
        }
        claimed.lost = self.lost_of(&missing).await?;
        if !claimed.entries.is_empty() {
            tracing::info!(stream = %self.key, entries = claimed.entries.len(), "took over entries that were left pending");
        }
        Ok(claimed)
    }

    /// Of entries that could not be claimed: those that are no longer in the stream are lost, and are acknowledged away; another consumer
    /// was quicker for the others.
    async fn lost_of(&self, missing: &[EntryId]) -> Result<u64, Error> {
        if missing.is_empty() {
            return Ok(0);
        }
        let mut looks = pipe();
        for id in missing {
            looks.cmd("XRANGE").arg(&self.key).arg(id.to_string()).arg(id.to_string());
        }
        let looked: Result<Vec<Vec<Value>>, _> = looks.query_async(&mut self.connection.clone()).await;
        let looked = looked.map_err(|error| failed(&self.connection, &self.site, "XRANGE", &error))?;
        let gone: Vec<EntryId> = missing.iter().zip(looked).filter(|(_, found)| found.is_empty()).map(|(id, _)| *id).collect();
        self.acknowledge(&gone).await?;
        Ok(gone.len() as u64)
    }
}
