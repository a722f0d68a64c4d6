//! Rows in a Redis server: any number of hosts read and write them.
//!
//! [`Options::feast`] lays rows out as Feast has them: see [`FeastLayout`].
//!
//! Keys, all under one prefix: `row:VIEW:ENTITY` a packed row · `place:STREAM/GROUP/N` how far a partition is applied · `lease:…` who may write it ·
//! `free:…` since when nobody has, as far as somebody waits for that · `token` the last fencing token · `hosts:WORK` who takes part in it,
//! by the time at which they are forgotten · `high` the greatest version written to each view · `writer:VIEW` the token of who claimed it
//! last · `schemas`, `schema_ids` · `dead`, `dead_order`, `dead_evicted` · `asked:…` which of them its host is asked to try again ·
//! `{book}:of:NAME` and `{book}:DIGEST`, see [`Documents`].
//!
//! A partitioned stream has all of these for each partition, with the partition's tag in them: `row:{KEY:N}VIEW:ENTITY`,
//! `place:{KEY:N}STREAM/GROUP/N`, `high:{KEY:N}` and so on. So on a cluster whatever a commit touches is in one slot, that of the
//! partition's stream.
//!
//! Whoever writes to a view without comparing must know of everything that was written to it. So a writer claims a view before it loads the
//! view's greatest version, and watches the claim: when a view has moved to another stream, the old writer's next commit applies nothing.
//!
//! A commit is one transaction on a connection of its own that watches the lease, so that it applies nothing once another host has taken the
//! partition. Redis does not roll back, so everything in it is a command that cannot fail on keys under our prefix, and what can fail for want of
//! memory fails when it is queued, which aborts the whole. When stream and store are the same server, the transaction acknowledges too.

mod book;
mod dead_letters;
mod emits;
mod feast;
mod schemas;
mod transaction;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Pipeline, Script, cmd};

use super::{Attendant, DeadLetters, Error, Holding, OnlineStore, Writer, Writers};
use crate::model::{Location, Partition, Place, Schema, SchemaId};
use crate::resp::{self, Commands, Line, Queries, Replies, Site};
pub use book::{DocumentChange, Documents, Stamp, Written};
pub use feast::FeastLayout;
use writer::RedisWriter;

/// Steps of a scan for a sample, a thousand keys each: enough to find some, and no walk through all of a large server.
const SAMPLE_SCANS_MAX: usize = 1_000;

/// How to open the store.
#[derive(Debug, Clone)]
pub struct Options {
    /// First part of every key.
    pub prefix: String,
    /// Dead letters kept, at most.
    pub dead_letters_max: u64,
    /// Streams on the same server and database, which commits acknowledge in the same step, by their names.
    pub streams: BTreeMap<String, Acknowledgement>,
    /// The tags of all partitions of partitioned streams, beside which dead letters may be kept.
    pub tags: Vec<String>,
    /// Whether rows stand as Feast has them, and how.
    pub feast: Option<FeastLayout>,
    /// What the hosts that share documents are told by; `None` for a host that shares none.
    pub book: Option<String>,
}

/// How a commit settles the entries of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The stream's key.
    pub key: String,
    /// Whether the group is only moved along, for its tools to see; otherwise the batch's entries are acknowledged to it.
    pub checkpoint: bool,
}

/// A store in a Redis server.
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    site: Site,
    queries: Queries,
    options: Options,
    laid: feast::Known,
    interned: schemas::Interned,
}

impl RedisStore {
    /// Prepares the store; the server is first spoken to when something is asked of it.
    pub fn new(url: &str, options: Options) -> Result<RedisStore, Error> {
        RedisStore::at(Site::parse(url, false).map_err(|error| Error::Config(format!("store.url: {error}")))?, options)
    }

    /// The same for a server, or a cluster, that is known.
    pub fn at(site: Site, options: Options) -> Result<RedisStore, Error> {
        let queries = site.queries().map_err(|error| Error::Config(format!("store.url: {error}")))?;
        let laid = feast::Known::new(&options.prefix);
        Ok(RedisStore { shared: Arc::new(Shared { site, queries, options, laid, interned: Default::default() }) })
    }
}

impl Shared {
    fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.options.prefix)
    }

    /// A key that each partition with a tag has its own of.
    fn tagged(&self, name: &str, tag: &str) -> String {
        if tag.is_empty() { self.key(name) } else { self.key(&format!("{name}:{tag}")) }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd, name: &str) -> Result<T, Error> {
        command.query_async(&mut self.queries.clone()).await.map_err(|error| self.failed(name, &error))
    }

    async fn ask_all<T: FromRedisValue>(&self, pipeline: &Pipeline, name: &str) -> Result<T, Error> {
        pipeline.query_async(&mut self.queries.clone()).await.map_err(|error| self.failed(name, &error))
    }

    fn broken(&self, command: &str, error: resp::Error) -> Error {
        match error {
            resp::Error::Server(reason) => Error::Refused { command: command.to_owned(), reason },
            resp::Error::Io(_) | resp::Error::Timeout(_) | resp::Error::TooLarge | resp::Error::Protocol(_) => {
                Error::Unreachable { address: self.site.to_string(), reason: error.to_string() }
            }
        }
    }

    fn failed(&self, command: &str, error: &redis::RedisError) -> Error {
        self.queries.look_at(error);
        if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() || error.is_connection_refusal() {
            Error::Unreachable { address: self.site.to_string(), reason: error.to_string() }
        } else {
            Error::Refused { command: command.to_owned(), reason: error.to_string() }
        }
    }
}

/// Takes a lease that is free or the holder's own, with a new token; answers {token} or {0, holder, remaining ms}. One that is free is
/// taken only when it was seen free by who waits for it ARGV[3] milliseconds ago.
const LEASE: &str = "
local held = redis.call('GET', KEYS[1])
if held then
  local holder = string.match(held, '^%d+|(.*)$')
  if holder ~= ARGV[1] then return {0, holder or '?', redis.call('PTTL', KEYS[1])} end
elseif ARGV[3] ~= '0' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local since = tonumber(redis.call('GET', KEYS[3]) or now)
  local left = since + ARGV[3] - now
  if left > 0 then
    redis.call('SET', KEYS[3], string.format('%d', since), 'PX', ARGV[3] * 4)
    return {0, 'nobody yet', left}
  end
end
redis.call('DEL', KEYS[3])
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token .. '|' .. ARGV[1], 'PX', ARGV[2])
return {token}";

/// Adds a host to those that take part in some work, for so many milliseconds or, with 0, not any more; answers all, each with the
/// milliseconds left to it.
const ATTEND: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[2] == '0' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1]) end
local hosts = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 2, #hosts, 2 do hosts[i] = hosts[i] - now end
return hosts";

#[async_trait]
impl OnlineStore for RedisStore {
    async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(layout) = &self.shared.options.feast {
            return self.read_laid(layout, keys).await;
        }
        if let Some(line) = self.shared.queries.line() {
            return Ok(self.read_over_line(line, None, keys).await.map_err(|error| self.shared.broken("MGET", error))?.1);
        }
        let rows: Vec<Option<Vec<u8>>> = self.shared.ask(&self.mget(keys), "MGET").await?;
        Ok(rows.into_iter().map(|row| row.map(Bytes::from)).collect())
    }

    /// Commits and reads have connections of their own, and after a failover one of them may still lead to the server that was there before. What that has is
    /// told by its place, which is asked first: so the answer is no older.
    async fn read_after(&self, partition: &Partition, place: Place, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let of_place = self.shared.key(&format!("place:{}", partition.key()));
        let is_laid = self.shared.options.feast.is_some();
        let of_rows = if is_laid { &[] } else { keys };
        let (found, rows) = match self.shared.queries.line() {
            Some(line) => {
                let read = self.read_over_line(line, Some(&of_place), of_rows).await;
                read.map_err(|error| self.shared.broken("MGET", error))?
            }
            None => {
                let mut both = Pipeline::new();
                both.cmd("HGET").arg(of_place).arg("commits").add_command(self.mget(of_rows));
                let (found, rows): (Option<u64>, Vec<Option<Vec<u8>>>) = self.shared.ask_all(&both, "MGET").await?;
                (found, rows.into_iter().map(|row| row.map(Bytes::from)).collect())
            }
        };
        let found = found.unwrap_or(0);
        if found != place.commits {
            self.shared.queries.connect_anew();
            return Err(Error::Astray { partition: partition.to_string(), found, made: place.commits });
        }
        if is_laid { self.read(keys).await } else { Ok(rows) }
    }

    async fn writer(&self, partition: &Partition, writers: &Writers) -> Result<Box<dyn Writer>, Error> {
        let token = match writers {
            Writers::Competing => None,
            Writers::Single { holder, lease_ms } => Some(self.take_lease(partition, holder, *lease_ms, 0).await?),
            Writers::Waiting { holder, lease_ms } => Some(self.take_lease(partition, holder, *lease_ms, *lease_ms).await?),
        };
        self.shared.look_after_schemas(true)?;
        self.warn_of_eviction(partition).await?;
        Ok(Box::new(RedisWriter::open(Arc::clone(&self.shared), partition.clone(), writers.clone(), token).await?))
    }

    async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error> {
        if self.shared.options.feast.is_some() {
            feast::check(schema)?;
        }
        let id = self.shared.intern(schema).await?;
        if let Some(layout) = &self.shared.options.feast {
            self.shared.laid.take(layout, id, schema, &self.shared.all_schemas().await?);
        }
        Ok(id)
    }

    async fn sample(&self, prefix: &[u8], values_max: usize) -> Result<Vec<Bytes>, Error> {
        // What stands in a name and means something to MATCH is escaped.
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^');
        let escape = |byte: u8| if special(&byte) { vec![b'\\', byte] } else { vec![byte] };
        let pattern: Vec<u8> = self.shared.key("row:").bytes().chain(prefix.iter().copied()).flat_map(escape).chain([b'*']).collect();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut cursor: u64 = 0;
        for _ in 0..SAMPLE_SCANS_MAX {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern.as_slice()).arg("COUNT").arg(1_000);
            // On a cluster what has one tag is on one node.
            let found = self.shared.queries.clone().ask_at(prefix.strip_prefix(b"~").unwrap_or(prefix), &scan).await;
            let (next, found): (u64, Vec<Vec<u8>>) = found.map_err(|error| self.shared.failed("SCAN", &error))?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 || keys.len() >= values_max {
                break;
            }
        }
        keys.truncate(values_max);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<Option<Vec<u8>>> = self.shared.ask(cmd("MGET").arg(&keys), "MGET").await?;
        Ok(values.into_iter().flatten().map(Bytes::from).collect())
    }

    async fn schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error> {
        self.shared.all_schemas().await
    }

    async fn attend(&self, work: &str, attendant: Attendant) -> Result<Vec<Attendant>, Error> {
        let mut call = cmd("EVAL");
        call.arg(ATTEND).arg(1).arg(self.shared.key(&format!("hosts:{work}")));
        call.arg(&attendant.host).arg(attendant.remaining_ms);
        let hosts: Vec<(String, u64)> = self.shared.ask(&call, "EVAL").await?;
        let mut hosts: Vec<Attendant> = hosts.into_iter().map(|(host, remaining_ms)| Attendant { host, remaining_ms }).collect();
        hosts.sort_by(|one, other| one.host.cmp(&other.host));
        Ok(hosts)
    }

    async fn holdings(&self, partitions: &[Partition]) -> Result<Vec<Holding>, Error> {
        let mut holdings = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let key = |kind: &str| self.shared.key(&format!("{kind}:{}", partition.key()));
            let mut both = redis::pipe();
            both.cmd("HGET").arg(key("place")).arg("last").cmd("GET").arg(key("lease"));
            let (last, lease): (Option<String>, Option<String>) = self.shared.ask_all(&both, "HGET").await?;
            let host = lease.and_then(|lease| lease.split_once('|').map(|(_, host)| host.to_owned()));
            holdings.push(Holding { last: last.and_then(|last| last.parse().ok()), host });
        }
        Ok(holdings)
    }

    async fn places(&self, partitions: &[Partition]) -> Result<Vec<Place>, Error> {
        let mut places = Vec::with_capacity(partitions.len());
        for partition in partitions {
            places.push(self.shared.stored_place(partition).await?);
        }
        Ok(places)
    }

    async fn check(&self) -> Result<(), Error> {
        self.shared.ask::<String>(&cmd("PING"), "PING").await.map(drop)
    }

    fn location(&self) -> Location {
        self.shared.site.location()
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        &*self.shared
    }
}

impl RedisStore {
    fn mget(&self, keys: &[Vec<u8>]) -> Cmd {
        let mut mget = cmd("MGET");
        let prefix = self.shared.key("row:");
        for key in keys {
            mget.arg([prefix.as_bytes(), key].concat());
        }
        mget
    }

    /// The rows, and of the place that lies under a key how many commits it tells of.
    async fn read_over_line(
        &self,
        line: &Line,
        place: Option<&str>,
        keys: &[Vec<u8>],
    ) -> Result<(Option<u64>, Vec<Option<Bytes>>), resp::Error> {
        let (mut commands, prefix) = (Commands::default(), self.shared.key("row:"));
        if let Some(place) = place {
            commands.command(&[b"HGET", place.as_bytes(), b"commits"]);
        }
        if !keys.is_empty() {
            commands.begin(keys.len() + 1).arg(b"MGET");
            for key in keys {
                commands.arg_joined(prefix.as_bytes(), key);
            }
        }
        let answer = line.ask(commands).await?;
        let mut replies = Replies::new(&answer);
        let commits = if place.is_some() { replies.bulk()? } else { None };
        let commits = commits.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let many = if keys.is_empty() { 0 } else { replies.array()?.unwrap_or(0) };
        let rows = (0..many).map(|_| Ok(replies.bulk()?.map(|row| answer.slice_ref(row)))).collect::<Result<_, resp::Error>>()?;
        Ok((commits, rows))
    }

    /// A server that may evict forgets states and windows in silence, which nothing can tell from entities that never were.
    async fn warn_of_eviction(&self, partition: &Partition) -> Result<(), Error> {
        let memory = self.shared.queries.clone().ask_at(partition.tag.as_bytes(), cmd("INFO").arg("memory")).await;
        let memory: String = memory.map_err(|error| self.shared.failed("INFO", &error))?;
        let of = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
        let (max, policy) = (of("maxmemory"), of("maxmemory_policy"));
        if !matches!(max, "" | "0") && !matches!(policy, "" | "noeviction") {
            tracing::warn!(
                maxmemory = max,
                policy,
                "the server of the online store may evict features, states and windows, and nobody would know: set maxmemory-policy to noeviction"
            );
        }
        Ok(())
    }

    async fn take_lease(&self, partition: &Partition, holder: &str, lease_ms: u64, wait_ms: u64) -> Result<String, Error> {
        let script = Script::new(LEASE);
        let mut call = script.key(self.shared.key(&format!("lease:{}", partition.key())));
        call.key(self.shared.tagged("token", &partition.tag)).key(self.shared.key(&format!("free:{}", partition.key())));
        call.arg(holder).arg(lease_ms).arg(wait_ms);
        let answer = call.invoke_async::<Vec<redis::Value>>(&mut self.shared.queries.clone()).await;
        let answer = answer.map_err(|error| self.shared.failed("EVAL", &error))?;
        let odd = || Error::Corrupt(format!("the lease of {partition} holds something that is not a lease"));
        let mut parts = answer.into_iter();
        let mut number = || parts.next().and_then(|part| u64::from_redis_value(part).ok());
        match number().ok_or_else(odd)? {
            0 => {
                let mut text = || parts.next().and_then(|part| String::from_redis_value(part).ok()).unwrap_or_default();
                let (holder, remaining) = (text(), text());
                Err(Error::Held { partition: partition.to_string(), holder, remaining_ms: remaining.parse().unwrap_or(0) })
            }
            token => Ok(format!("{token}|{holder}")),
        }
    }
}
