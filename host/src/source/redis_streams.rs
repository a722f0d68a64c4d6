//! Entries from a Redis stream, in either of the two ways of keeping the place.
//!
//! **acknowledge**: a consumer group. Entries stay pending until they are acknowledged, so what was handed out and not settled comes again after a
//! restart. The rules of reading:
//!
//! 1. First come the entries pending for this consumer from before, in order, and with them, if this is the only reader, what others left pending: they would be here
//!    themselves if they were at work on it. Then what consumers who compete left pending for too long; then new ones.
//! 2. A connection that breaks may have carried entries that nobody saw. They are pending, with ids greater than the last one handed out, so after
//!    a break rule 1 begins again *after that id*. Those up to it are with the pipeline and are not handed out twice.
//!    The server may notice the break later than this side; a fence (`fence.rs`) keeps it from handing out entries to nobody even then, with ids below those of
//!    later reads. Competing consumers have none, and find them among what has been pending for too long.
//! 3. A group that is gone takes with it the knowledge of what is pending. What was handed out and not committed would be left out after a crash if
//!    the group were made again after it, so reading stops, and begins anew at the place that the store knows.
//!
//! **checkpoint**: no group takes part in reading. Entries are read after the place that the store knows; a commit moves the group along for its
//! tools.
//!
//! What Redis itself has lost is counted, as exactly as it can be told, and never silent: entries trimmed while pending, entries trimmed before they were
//! read (by the stream's own counters), a stream that was deleted and begins anew.

mod admin;
mod appender;
mod fallen_back;
mod fence;
mod fit;
mod left;
mod loss;
mod onlooker;
mod reader;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Delivery, Error, Lag, Source};
use crate::model::{EntryId, Location};
use crate::resp::{self, Commands, Site, StreamEntries};
use admin::Admin;
pub use appender::RedisAppender;
use fence::Fence;
use loss::{Ends, Ledger};
pub use onlooker::Onlooker;
use reader::{Phase, Reader};

/// Claims of what others left, and looks at the stream's counters, are made this often.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// How to read a stream.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stream's key.
    pub key: String,
    /// The consumer group.
    pub group: String,
    /// This consumer's name: stable over restarts, unique among hosts.
    pub consumer: String,
    /// Whether the store keeps the place, and no group takes part in reading.
    pub checkpoint: bool,
    /// Whether other consumers read from the group at the same time.
    pub competing: bool,
    /// Where to begin when neither the group nor the store knows.
    pub start: Start,
    /// The place that the store knows.
    pub place: Option<EntryId>,
    /// Entries that another consumer left pending for this long are taken over, in milliseconds.
    pub claim_idle_ms: u64,
    /// Entries delivered more often than this are exhausted; 0 for never.
    pub deliveries_max: u64,
    /// How long one read waits for entries, in milliseconds.
    pub block_ms: u64,
}

/// Where a group that has no place yet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first entry that is there.
    Beginning,
    /// With the next entry that comes.
    End,
    /// After this entry.
    After(EntryId),
}

/// One Redis stream, opened for one consumer.
pub struct RedisStreams {
    site: Site,
    options: Options,
    admin: Admin,
    reader: Mutex<Reader>,
    /// What the reader's ledger says, for those who ask while it waits.
    ends: Ends,
}

impl RedisStreams {
    /// Prepares the source; the server is first spoken to when something is read.
    pub fn open(url: &str, options: Options) -> Result<RedisStreams, Error> {
        RedisStreams::at(&Site::parse(url, false).map_err(Error::Config)?, options)
    }

    /// The same for a server, or a cluster, that is known.
    pub fn at(site: &Site, options: Options) -> Result<RedisStreams, Error> {
        let admin = Admin::new(site.clone(), &options)?;
        let reader = Reader::new(options.place);
        let (site, reader, ends) = (site.clone(), Mutex::new(reader), Ends::default());
        Ok(RedisStreams { site, options, admin, reader, ends })
    }

    async fn try_read(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        if !reader.prepared {
            self.prepare(reader).await?;
        }
        if reader.connection.is_none() {
            let opened = self.site.connect(&self.options.key, &self.options.consumer).await;
            reader.connection = Some(opened.map_err(|error| self.failed("connect", error))?);
        }
        if reader.tended.is_none_or(|last| last.elapsed() >= TEND_EVERY) {
            let delivery = self.tend(reader, entries_max).await?;
            if !delivery.entries.is_empty() {
                return Ok(delivery);
            }
        }
        match reader.phase {
            _ if self.options.checkpoint => self.read_after_place(reader, entries_max).await,
            Phase::Pending(after) => match self.read_pending(reader, after, entries_max).await? {
                Some(delivery) => Ok(delivery),
                None => {
                    reader.phase = Phase::Left;
                    self.read_left(reader, entries_max).await
                }
            },
            Phase::Left => self.read_left(reader, entries_max).await,
            Phase::New => self.read_new(reader, entries_max).await,
        }
    }

    /// Finds or makes the group, and where reading goes on.
    async fn prepare(&self, reader: &mut Reader) -> Result<(), Error> {
        if !self.options.checkpoint && !self.options.competing {
            // Before anything is looked at: from now on nobody else is handed new entries.
            reader.fence = Some(Fence::put_up(&self.admin, &self.options, reader.fence.as_ref()).await?);
        }
        let state = self.admin.state().await?;
        let last = state.stream.as_ref().map_or(EntryId::ZERO, |stream| stream.last);
        let emptied = self.has_been_emptied(reader, &state, last).await?;
        let begin = reader.cursor.unwrap_or(match self.options.start {
            Start::Beginning => EntryId::ZERO,
            // A group that was made before the first commit stands where the end was then.
            Start::End => state.group.as_ref().map_or(last, |group| group.last_delivered),
            Start::After(id) => id,
        });
        match &state.group {
            None if !emptied && !self.options.checkpoint && reader.handed != EntryId::ZERO => {
                return Err(Error::GroupGone { stream: self.options.key.clone(), group: self.options.group.clone() });
            }
            None => {
                if reader.cursor.is_some() {
                    tracing::warn!(stream = %self.options.key, group = %self.options.group, at = %begin, "the group is gone and is made again");
                }
                self.admin.create_group(begin, state.stream.as_ref()).await?;
                reader.cursor = Some(begin);
            }
            Some(group) if !self.options.checkpoint => reader.cursor = Some(reader.cursor.unwrap_or(group.last_delivered)),
            Some(_) => reader.cursor = Some(begin),
        }
        if let Some(fence) = &reader.fence {
            reader.lost += self.admin.adopt(fence).await?;
        }
        reader.phase = Phase::Pending(reader.handed);
        reader.ledger =
            if self.options.checkpoint { Ledger::at(state.stream.as_ref(), begin, state.group.as_ref()) } else { Ledger::default() };
        reader.tended = None;
        reader.prepared = true;
        Ok(())
    }

    /// Now and then: what has been lost, and what others have left behind.
    async fn tend(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        reader.tended = Some(Instant::now());
        let state = self.admin.state().await?;
        let cursor = reader.cursor.unwrap_or_default();
        // A stream that had fallen back when this reader began may stay behind the place until something is added to it.
        let is_behind = state.stream.as_ref().is_none_or(|stream| stream.last < cursor) && reader.handed != EntryId::ZERO;
        if is_behind || state.group.is_none() {
            reader.prepared = false;
            // Told as a refusal, because reading again heals it.
            return Err(Error::Refused { command: "XINFO".into(), reason: "the stream or its group is gone; it is made again".into() });
        }
        reader.look(state.stream.as_ref());
        if let Some(stream) = &state.stream
            && !self.options.competing
        {
            let group = state.group.as_ref().filter(|_| !self.options.checkpoint);
            let lost = match group {
                Some(group) => {
                    let after = reader.ledger.looked_at().filter(|_| reader.ledger.is_short_of(group));
                    let held_by_others = match after {
                        Some(after) => self.admin.held_by_others(after).await?,
                        None => 0,
                    };
                    reader.ledger.audit_group(stream, group, held_by_others)
                }
                None => reader.ledger.audit_place(stream, cursor),
            };
            if let Some(group) = group
                && lost.unread > 0
            {
                self.admin.skip_trimmed(group.last_delivered, stream).await?;
            }
            reader.lost += lost.skipped + lost.unread;
        }
        if self.options.checkpoint || reader.phase != Phase::New {
            return Ok(Delivery::default());
        }
        self.claim(reader, entries_max).await
    }

    async fn read_pending(&self, reader: &mut Reader, after: EntryId, entries_max: usize) -> Result<Option<Delivery>, Error> {
        let (count, after) = (reader.fit.ask(entries_max).to_string(), after.to_string());
        let mut commands = Commands::default();
        commands.begin(9).arg(b"XREADGROUP").arg(b"GROUP").arg(self.options.group.as_bytes()).arg(self.options.consumer.as_bytes());
        commands.arg(b"COUNT").arg(count.as_bytes()).arg(b"STREAMS").arg(self.options.key.as_bytes()).arg(after.as_bytes());
        let StreamEntries { entries, gone, last } = self.exchange(reader, &commands, 0).await?.unwrap_or_default();
        let Some(last) = last else { return Ok(None) };
        // Whatever fails here is read again; only then does the reader move on.
        let exhausted = self.admin.exhausted(entries.ids().min(), entries.ids().max(), entries.len()).await?;
        if !gone.is_empty() {
            self.admin.acknowledge(&gone).await?;
            reader.lost += gone.len() as u64;
        }
        reader.phase = Phase::Pending(last);
        reader.hand_out(&entries, last);
        Ok(Some(Delivery { entries, redelivered: true, exhausted, ..Delivery::default() }))
    }

    /// What others have left, before anything new.
    async fn read_left(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        let delivery = self.claim(reader, entries_max).await?;
        if !delivery.entries.is_empty() {
            return Ok(delivery);
        }
        reader.phase = Phase::New;
        self.read_new(reader, entries_max).await
    }

    /// Takes over what other consumers hold. Competing ones may still be at work on it, and get their time. The only reader need not wait: what
    /// another one holds was read by a host that does not know yet that it has lost its lease, and can never commit it.
    async fn claim(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        let idle_ms = if self.options.competing { self.options.claim_idle_ms } else { 0 };
        let is_at_work = |id, idle_for_ms: u64| idle_for_ms < self.options.claim_idle_ms || reader.is_on_its_way(id);
        // Beyond the last look they would be counted as lost by the next one.
        let until = reader.ledger.looked_at().filter(|_| !self.options.competing);
        let claimed = self.admin.claim(entries_max.min(1_000), idle_ms, until, reader.fence.as_ref(), is_at_work).await?;
        reader.remember(&claimed.entries);
        reader.lost += claimed.lost;
        Ok(Delivery { entries: claimed.entries, redelivered: true, exhausted: claimed.exhausted, ..Delivery::default() })
    }

    async fn read_new(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        let (count, block) = (reader.fit.ask(entries_max).to_string(), self.options.block_ms.to_string());
        let mut commands = Commands::default();
        let fence = reader.fence.as_ref().map(|fence| fence.key.as_bytes());
        commands.begin(if fence.is_some() { 13 } else { 11 });
        commands.arg(b"XREADGROUP").arg(b"GROUP").arg(self.options.group.as_bytes()).arg(self.options.consumer.as_bytes());
        commands.arg(b"COUNT").arg(count.as_bytes()).arg(b"BLOCK").arg(block.as_bytes());
        commands.arg(b"STREAMS").arg(self.options.key.as_bytes());
        if let Some(fence) = fence {
            commands.arg(fence).arg(b">");
        }
        commands.arg(b">");
        let found = self.exchange(reader, &commands, self.options.block_ms).await?.unwrap_or_default();
        self.advance(reader, &found);
        Ok(Delivery { entries: found.entries, ..Delivery::default() })
    }

    async fn read_after_place(&self, reader: &mut Reader, entries_max: usize) -> Result<Delivery, Error> {
        let (count, block, after) =
            (reader.fit.ask(entries_max).to_string(), self.options.block_ms.to_string(), reader.cursor.unwrap_or_default().to_string());
        let mut commands = Commands::default();
        commands.begin(8).arg(b"XREAD").arg(b"COUNT").arg(count.as_bytes()).arg(b"BLOCK").arg(block.as_bytes());
        commands.arg(b"STREAMS").arg(self.options.key.as_bytes()).arg(after.as_bytes());
        let found = self.exchange(reader, &commands, self.options.block_ms).await?.unwrap_or_default();
        self.advance(reader, &found);
        let passed = reader.ledger.passed();
        self.ends.remember(found.last, passed);
        Ok(Delivery { entries: found.entries, passed, ..Delivery::default() })
    }

    fn advance(&self, reader: &mut Reader, found: &StreamEntries) {
        if let Some(last) = found.last {
            reader.hand_out(&found.entries, last);
            reader.ledger.handed_out(found.entries.len() as u64);
        }
    }

    async fn exchange(&self, reader: &mut Reader, commands: &Commands, block_ms: u64) -> Result<Option<StreamEntries>, Error> {
        let Some(connection) = reader.connection.as_mut() else {
            return Err(self.failed("read", resp::Error::Io("not connected".into())));
        };
        let wait = Duration::from_millis(block_ms) + Duration::from_secs(10);
        let exchanged = match connection.send(commands).await {
            Ok(()) => connection.entries(wait).await,
            Err(error) => Err(error),
        };
        if let Ok(Some(found)) = &exchanged {
            reader.fit.came(found.entries.len(), found.entries.buffer_bytes());
        }
        exchanged.map_err(|error| {
            let is_about_the_group = |words: &str| words.starts_with("NOGROUP") || words.starts_with("UNBLOCKED");
            match &error {
                resp::Error::Server(words) if is_about_the_group(words) => reader.prepared = false,
                resp::Error::Server(_) if error.is_moved() => {
                    // Whoever has the stream now is looked up when the connection is made again.
                    reader.connection = None;
                    reader.prepared = false;
                }
                resp::Error::Server(_) => {}
                resp::Error::Io(_) | resp::Error::Timeout(_) | resp::Error::TooLarge | resp::Error::Protocol(_) => {
                    if matches!(error, resp::Error::TooLarge) {
                        reader.fit.was_too_large();
                    }
                    reader.connection = None;
                    // The server may be another one when it answers again.
                    reader.prepared = false;
                }
            }
            self.failed("read", error)
        })
    }

    fn failed(&self, command: &str, error: resp::Error) -> Error {
        match error {
            resp::Error::Server(reason) => Error::Refused { command: command.to_owned(), reason },
            resp::Error::Protocol(reason) => Error::Protocol(reason.to_owned()),
            resp::Error::TooLarge => Error::Protocol(error.to_string()),
            resp::Error::Io(_) | resp::Error::Timeout(_) => {
                Error::Unreachable { address: self.site.to_string(), reason: error.to_string() }
            }
        }
    }
}

#[async_trait]
impl Source for RedisStreams {
    async fn read(&self, entries_max: usize) -> Result<Delivery, Error> {
        let mut reader = self.reader.lock().await;
        let was_prepared = reader.prepared;
        let mut read = self.try_read(&mut reader, entries_max).await;
        if read.is_err() && was_prepared && !reader.prepared {
            // The group or the connection was gone: that is healed at once, and is no error of this read.
            read = self.try_read(&mut reader, entries_max).await;
        }
        self.ends.reach(reader.ledger.passed());
        let mut delivery = read?;
        delivery.lost += std::mem::take(&mut reader.lost);
        Ok(delivery)
    }

    async fn begin(&self) -> Result<(), Error> {
        self.prepare(&mut *self.reader.lock().await).await
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        match ids.iter().max() {
            Some(last) if self.options.checkpoint => self.admin.move_group(*last, self.ends.passed(*last)).await,
            _ if self.options.competing => self.admin.acknowledge(ids).await,
            _ => self.admin.acknowledge_applied(ids).await,
        }
    }

    async fn lag(&self) -> Result<Lag, Error> {
        let state = self.admin.state().await?;
        let passed = self.ends.reached().filter(|_| self.options.checkpoint);
        Ok(onlooker::lag(&state, passed, self.options.place.map_or(self.options.start, Start::After)))
    }

    fn redelivers(&self) -> bool {
        !self.options.checkpoint
    }

    fn location(&self) -> Location {
        self.site.location()
    }
}
