//! Everything about a stream but reading it, over a connection that blocks nobody.

use std::collections::HashMap;

use redis::{Cmd, FromRedisValue, RedisError, Value, cmd};

use super::Options;
use crate::model::EntryId;
use crate::resp::{Queries, Site};
use crate::source::Error;

#[derive(Clone)]
pub(super) struct Admin {
    pub(super) connection: Queries,
    pub(super) site: Site,
    pub(super) key: String,
    pub(super) group: String,
    pub(super) consumer: String,
    pub(super) deliveries_max: u64,
}

/// What the server says of the stream and the group.
pub(super) struct State {
    pub(super) stream: Option<StreamState>,
    pub(super) group: Option<GroupState>,
}

#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) first: Option<EntryId>,
    pub(super) last: EntryId,
    pub(super) length: u64,
    /// Entries ever added.
    pub(super) added: u64,
}

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) last_delivered: EntryId,
    /// Entries of the stream's history that the group has passed, where the server knows.
    pub(super) entries_read: Option<u64>,
    pub(super) lag: Option<u64>,
    pub(super) pending: u64,
}

/// Of one entry: its id, its consumer, for how long in milliseconds it has been pending, and how often it was delivered.
pub(super) type Pending = (String, String, u64, u64);

/// An error of the redis crate, of a query over these connections, as one of ours.
pub(super) fn failed(queries: &Queries, address: &Site, command: &str, error: &RedisError) -> Error {
    queries.look_at(error);
    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() || error.is_connection_refusal() {
        Error::Unreachable { address: address.to_string(), reason: error.to_string() }
    } else {
        Error::Refused { command: command.to_owned(), reason: error.to_string() }
    }
}

impl Admin {
    pub(super) fn new(site: Site, options: &Options) -> Result<Admin, Error> {
        Ok(Admin {
            connection: site.queries().map_err(Error::Config)?,
            site,
            key: options.key.clone(),
            group: options.group.clone(),
            consumer: options.consumer.clone(),
            deliveries_max: options.deliveries_max,
        })
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd, name: &str) -> Result<T, Error> {
        command.query_async(&mut self.connection.clone()).await.map_err(|error| failed(&self.connection, &self.site, name, &error))
    }

    pub(super) async fn state(&self) -> Result<State, Error> {
        let stream: Result<HashMap<String, Value>, _> =
            cmd("XINFO").arg("STREAM").arg(&self.key).query_async(&mut self.connection.clone()).await;
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) if error.to_string().contains("no such key") => return Ok(State { stream: None, group: None }),
            Err(error) => return Err(failed(&self.connection, &self.site, "XINFO STREAM", &error)),
        };
        let group = self.groups().await?.into_iter().find(|(name, _)| *name == self.group).map(|(_, group)| group);
        let stream = StreamState {
            // The first entry is an id and its fields.
            first: match stream.get("first-entry") {
                Some(Value::Array(entry)) => {
                    entry.first().cloned().and_then(|id| String::from_redis_value(id).ok()).and_then(|id| id.parse().ok())
                }
                _ => None,
            },
            last: id(&stream, "last-generated-id"),
            length: number(&stream, "length").unwrap_or(0),
            added: number(&stream, "entries-added").unwrap_or(0),
        };
        Ok(State { stream: Some(stream), group })
    }

    /// All groups of the stream, by their names.
    async fn groups(&self) -> Result<Vec<(String, GroupState)>, Error> {
        let groups: Vec<HashMap<String, Value>> = self.ask(cmd("XINFO").arg("GROUPS").arg(&self.key), "XINFO GROUPS").await?;
        let group = |group: HashMap<String, Value>| {
            let state = GroupState {
                last_delivered: id(&group, "last-delivered-id"),
                entries_read: number(&group, "entries-read"),
                lag: number(&group, "lag"),
                pending: number(&group, "pending").unwrap_or(0),
            };
            (text(&group, "name").unwrap_or_default(), state)
        };
        Ok(groups.into_iter().map(group).collect())
    }

    /// Entries of the stream's whole history up to one that is still there, as far as a group tells that is a little further.
    async fn count_until(&self, at: EntryId, stream: &StreamState) -> Result<Option<u64>, Error> {
        const BETWEEN_MAX: usize = 5_000;
        if stream.first.is_none_or(|first| first > at) {
            return Ok(None);
        }
        let known = self.groups().await?.into_iter().filter_map(|(_, group)| Some((group.last_delivered, group.entries_read?)));
        let Some((last, read)) = known.filter(|(last, _)| *last >= at).min() else { return Ok(None) };
        let mut xrange = cmd("XRANGE");
        xrange.arg(&self.key).arg(format!("({at}")).arg(last.to_string()).arg("COUNT").arg(BETWEEN_MAX);
        let between: Vec<Value> = self.ask(&xrange, "XRANGE").await?;
        Ok((between.len() < BETWEEN_MAX).then(|| read.saturating_sub(between.len() as u64)))
    }

    /// Makes the group, and the stream if need be.
    pub(super) async fn create_group(&self, at: EntryId, stream: Option<&StreamState>) -> Result<(), Error> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.key).arg(&self.group).arg(at.to_string()).arg("MKSTREAM");
        // The counter makes later losses countable; it is known at the two ends, and where another group tells.
        match stream {
            _ if at == EntryId::ZERO => drop(create.arg("ENTRIESREAD").arg(0)),
            Some(stream) if stream.last == at => drop(create.arg("ENTRIESREAD").arg(stream.added)),
            Some(stream) => {
                if let Some(passed) = self.count_until(at, stream).await? {
                    create.arg("ENTRIESREAD").arg(passed);
                }
            }
            None => {}
        }
        match create.query_async::<()>(&mut self.connection.clone()).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            Err(error) => Err(failed(&self.connection, &self.site, "XGROUP CREATE", &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Moves the group to an entry, and its counter to how many entries lie up to it, where that is known.
    pub(super) async fn move_group(&self, to: EntryId, passed: Option<u64>) -> Result<(), Error> {
        let mut setid = cmd("XGROUP");
        setid.arg("SETID").arg(&self.key).arg(&self.group).arg(to.to_string());
        if let Some(passed) = passed {
            setid.arg("ENTRIESREAD").arg(passed);
        }
        self.ask(&setid, "XGROUP SETID").await
    }

    /// Moves the group's counter over entries that were trimmed before it came to them.
    pub(super) async fn skip_trimmed(&self, last_delivered: EntryId, stream: &StreamState) -> Result<(), Error> {
        let mut setid = cmd("XGROUP");
        setid.arg("SETID").arg(&self.key).arg(&self.group).arg(last_delivered.to_string());
        setid.arg("ENTRIESREAD").arg(stream.added.saturating_sub(stream.length));
        self.ask(&setid, "XGROUP SETID").await
    }

    pub(super) async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut xack = cmd("XACK");
        xack.arg(&self.key).arg(&self.group);
        for id in ids {
            xack.arg(id.to_string());
        }
        self.ask(&xack, "XACK").await
    }

    /// Which of this consumer's pending entries in a range were delivered too often.
    pub(super) async fn exhausted(&self, first: Option<EntryId>, last: Option<EntryId>, count: usize) -> Result<Vec<EntryId>, Error> {
        let (Some(first), Some(last), 1..) = (first, last, self.deliveries_max) else { return Ok(Vec::new()) };
        let mut xpending = cmd("XPENDING");
        xpending.arg(&self.key).arg(&self.group).arg(first.to_string()).arg(last.to_string()).arg(count).arg(&self.consumer);
        let pending: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
        let exhausted = pending.into_iter().filter(|(_, _, _, deliveries)| *deliveries > self.deliveries_max);
        Ok(exhausted.filter_map(|(id, ..)| id.parse().ok()).collect())
    }

    /// How many entries after this one are pending for other consumers.
    pub(super) async fn held_by_others(&self, after: EntryId) -> Result<u64, Error> {
        const PAGE: usize = 1_000;
        let mut after = after.to_string();
        let mut held = 0;
        loop {
            let mut xpending = cmd("XPENDING");
            xpending.arg(&self.key).arg(&self.group).arg(format!("({after}")).arg("+").arg(PAGE);
            let page: Vec<Pending> = self.ask(&xpending, "XPENDING").await?;
            held += page.iter().filter(|(_, consumer, ..)| *consumer != self.consumer).count() as u64;
            match page.last().filter(|_| page.len() == PAGE) {
                Some((id, ..)) => after.clone_from(id),
                None => return Ok(held),
            }
        }
    }
}

fn text(map: &HashMap<String, Value>, key: &str) -> Option<String> {
    map.get(key).cloned().and_then(|value| String::from_redis_value(value).ok())
}

fn number(map: &HashMap<String, Value>, key: &str) -> Option<u64> {
    map.get(key).cloned().and_then(|value| u64::from_redis_value(value).ok())
}

fn id(map: &HashMap<String, Value>, key: &str) -> EntryId {
    text(map, key).and_then(|id| id.parse().ok()).unwrap_or_default()
}
