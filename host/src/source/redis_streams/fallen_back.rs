//! Noticing that a server has less than it had: that of the stream, or that of a store which is elsewhere.
//!
//! Where the store is elsewhere, entries are acknowledged after the commit that has them. A store that loses its last commits, because a replica took its place, because it was
//! restored or because its disk had not written them yet, has lost entries that the stream believes to be settled. So with each acknowledgement it is written down beside the
//! stream how far entries were acknowledged on behalf of the store, and a reader that finds the store's place behind that goes back to the place: what was lost is read again.
//! What somebody else has acknowledged or skipped stays so.

use redis::{cmd, pipe};

use super::admin::{Admin, GroupState, Pending, State, failed};
use super::fence::beside;
use super::reader::Reader;
use super::{Error, RedisStreams};
use crate::model::EntryId;

impl RedisStreams {
    /// Whether the stream is another one than was read before, up to its last entry `last`: then the reader begins anew with what it holds.
    pub(super) async fn has_been_emptied(&self, reader: &mut Reader, state: &State, last: EntryId) -> Result<bool, Error> {
        let mut emptied = reader.look(state.stream.as_ref());
        if let Some(group) = &state.group {
            self.check_that_it_has_not_fallen_back(reader, last, group).await?;
            self.go_back_to_the_store(reader).await?;
        } else if reader.cursor.is_some_and(|cursor| cursor > last) {
            reader.lost += u64::from(!emptied);
            emptied = true;
            reader.begin_anew();
        }
        if emptied {
            tracing::warn!(stream = %self.options.key, %last, "the stream begins anew; what it held and was not read is lost");
        }
        Ok(emptied)
    }

    /// A group that is behind what was read belongs to a server that has less than it had: a replica in the place of the one that died, or a backup. Whether what was read is
    /// applied the store knows, so reading begins anew there; and what the store has, though the server forgot that it was handed out or acknowledged, does not come again.
    async fn check_that_it_has_not_fallen_back(&self, reader: &mut Reader, last: EntryId, group: &GroupState) -> Result<(), Error> {
        let reached = if self.options.checkpoint { last } else { group.last_delivered };
        let Some(cursor) = reader.cursor.filter(|cursor| *cursor > reached && !self.options.competing) else { return Ok(()) };
        if reader.handed != EntryId::ZERO {
            return Err(Error::FellBack { stream: self.options.key.clone() });
        }
        tracing::warn!(stream = %self.options.key, %reached, %cursor, "the stream has fallen back behind what the store has; what it lost stays applied, and reading goes on after it");
        if !self.options.checkpoint {
            self.admin.move_group(cursor, None).await?;
            self.admin.settle_until(cursor).await?;
        }
        Ok(())
    }

    /// Goes back to the store's place if more was acknowledged on its behalf than it has.
    async fn go_back_to_the_store(&self, reader: &Reader) -> Result<(), Error> {
        let Some(place) = self.options.place.filter(|_| !self.options.checkpoint && !self.options.competing) else { return Ok(()) };
        if reader.handed != EntryId::ZERO {
            return Ok(());
        }
        let Some(acknowledged) = self.admin.acknowledged().await?.filter(|acknowledged| *acknowledged > place) else { return Ok(()) };
        self.admin.settle_after(place).await?;
        self.admin.move_group(place, None).await?;
        self.admin.write_acknowledged(place).await?;
        Err(Error::StoreFellBack { stream: self.options.key.clone(), place, acknowledged })
    }
}

/// Writes down the id ARGV[1] unless there is a greater one. Ids are written with all their digits, so that their order is that of the texts.
const RAISE: &str = "\
local known = redis.call('GET', KEYS[1])
if not known or known < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return 1";

fn digits(id: EntryId) -> String {
    format!("{:020}-{:020}", id.ms, id.seq)
}

impl Admin {
    fn acknowledged_key(&self) -> String {
        beside(&self.key, &self.group, "acknowledged")
    }

    /// How far entries were acknowledged that the store had.
    async fn acknowledged(&self) -> Result<Option<EntryId>, Error> {
        let id: Option<String> = self.ask(cmd("GET").arg(self.acknowledged_key()), "GET").await?;
        Ok(id.and_then(|id| id.parse().ok()))
    }

    async fn write_acknowledged(&self, id: EntryId) -> Result<(), Error> {
        self.ask(cmd("SET").arg(self.acknowledged_key()).arg(digits(id)), "SET").await
    }

    /// Acknowledges entries that the store has, and writes down how far that is.
    pub(super) async fn acknowledge_applied(&self, ids: &[EntryId]) -> Result<(), Error> {
        let Some(last) = ids.iter().max() else { return Ok(()) };
        let mut both = pipe();
        both.cmd("EVAL").arg(RAISE).arg(1).arg(self.acknowledged_key()).arg(digits(*last)).ignore();
        let xack = both.cmd("XACK").arg(&self.key).arg(&self.group);
        for id in ids {
            xack.arg(id.to_string());
        }
        xack.ignore();
        both.query_async(&mut self.connection.clone()).await.map_err(|error| failed(&self.connection, &self.site, "XACK", &error))
    }

    /// Acknowledges everything that is pending after this entry.
    async fn settle_after(&self, after: EntryId) -> Result<(), Error> {
        const PAGE: usize = 1_000;
        loop {
            let mut xpending = cmd("XPENDING");
            xpending.arg(&self.key).arg(&self.group).arg(format!("({after}")).arg("+").arg(PAGE);
            let page: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
            let ids: Vec<EntryId> = page.iter().filter_map(|(id, ..)| id.parse().ok()).collect();
            self.acknowledge(&ids).await?;
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }
}
