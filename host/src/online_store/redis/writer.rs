//! Committing to Redis.

mod asking;
mod claims;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::cmd;

use super::transaction::{Keys, push_letters, push_puts, push_raise, push_rows, push_settled, push_watch, view_of};
use super::{Acknowledgement, Error, Shared, Writer, Writers, emits, feast};
use crate::model::{Commit, DeadLetterId, EntryId, Partition, Place, RowRef};
use crate::online_store::found::outdated;
use crate::online_store::newest::Newest;
use crate::resp::{self, Commands, Connection, Reply};
use asking::{place_at, watch};

/// Times that a commit is put together anew because somebody else writes to the same views.
const TURNS_MAX: usize = 16;
/// Time for a commit to be answered.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct RedisWriter {
    shared: Arc<Shared>,
    partition: Partition,
    /// What the lease must hold, and how long it is to last; `None` among competing writers.
    lease: Option<(String, u64)>,
    acknowledgement: Option<Acknowledgement>,
    keys: Keys,
    place: Place,
    /// Of the views that this writer is the last to have claimed.
    newest: HashMap<Vec<u8>, Newest>,
    /// The keys that tell who has claimed these views.
    owners: Vec<String>,
    /// Streams that are known to take what is emitted to them.
    outlets: HashSet<String>,
    /// Watching the lease, which held our token when it was last looked at; `None` after any failure.
    connection: Option<Connection>,
    /// The first key of what was read for the next commit, which the connection watches.
    found: Option<Vec<u8>>,
    commands: Commands,
}

impl Shared {
    /// How far a partition is applied.
    pub(super) async fn stored_place(&self, partition: &Partition) -> Result<Place, Error> {
        let mut hmget = cmd("HMGET");
        hmget.arg(self.key(&format!("place:{}", partition.key()))).arg("last").arg("commits");
        let (last, commits): (Option<String>, Option<u64>) = self.ask(&hmget, "HMGET").await?;
        let last = last.map(|last| last.parse::<EntryId>()).transpose();
        let last = last.map_err(|error| Error::Corrupt(format!("the place of {partition}: {error}")))?;
        Ok(Place { last, commits: commits.unwrap_or(0) })
    }
}

impl RedisWriter {
    pub(super) async fn open(
        shared: Arc<Shared>,
        partition: Partition,
        writers: Writers,
        token: Option<String>,
    ) -> Result<RedisWriter, Error> {
        let keys = Keys {
            rows: shared.key("row:"),
            place: shared.key(&format!("place:{}", partition.key())),
            lease: shared.key(&format!("lease:{}", partition.key())),
            high: shared.tagged("high", &partition.tag),
            letters: shared.letters(&partition.tag),
        };
        let lease = match writers {
            Writers::Single { lease_ms, .. } | Writers::Waiting { lease_ms, .. } => token.map(|token| (token, lease_ms)),
            Writers::Competing => None,
        };
        let acknowledgement = shared.options.streams.get(&partition.stream).map(|stream| Acknowledgement {
            // The key of a partition is its tag.
            key: if partition.tag.is_empty() { stream.key.clone() } else { partition.tag.clone() },
            ..*stream
        });
        let (place, newest, commands) = (Place::default(), HashMap::new(), Commands::default());
        let (owners, outlets, connection, found) = (Vec::new(), HashSet::new(), None, None);
        let mut writer =
            RedisWriter { shared, partition, lease, acknowledgement, keys, place, newest, owners, outlets, connection, found, commands };
        if writer.lease.is_some() {
            writer.place = writer.open_connection().await?;
        } else {
            writer.place = writer.stored_place().await?;
        }
        Ok(writer)
    }

    /// Opens the connection, which must find the lease that was taken by a query: so both lead to the same server. Returns how far the partition is applied there.
    async fn open_connection(&mut self) -> Result<Place, Error> {
        let opened = self.shared.site.connect(&self.keys.lease, "gristmill-writer").await;
        let mut connection = opened.map_err(|error| self.broken(error))?;
        // What an earlier connection sent may arrive before the watch begins, so the place is read after that. And whoever sleeps in between must not take another's
        // commit for its own, so the lease is looked at once more: it was ours all the time.
        self.check_lease(&mut connection).await?;
        let read = place_at(&mut connection, &self.keys.place).await;
        let place = read.map_err(|error| self.broken(error))?;
        let place = place.ok_or_else(|| Error::Corrupt(format!("the place of {} is not what this version writes", self.partition)))?;
        self.check_lease(&mut connection).await?;
        self.connection = Some(connection);
        Ok(place)
    }

    async fn stored_place(&self) -> Result<Place, Error> {
        self.shared.stored_place(&self.partition).await
    }

    fn fenced(&self) -> Error {
        Error::Fenced { partition: self.partition.to_string() }
    }

    fn broken(&mut self, error: resp::Error) -> Error {
        self.connection = None;
        let address = self.shared.site.to_string();
        match error {
            resp::Error::Server(reason) => Error::Refused { command: "the commit".into(), reason },
            resp::Error::Io(_) | resp::Error::Timeout(_) | resp::Error::TooLarge | resp::Error::Protocol(_) => {
                Error::Unreachable { address, reason: error.to_string() }
            }
        }
    }

    /// Connects, watches the lease, and finds out whether the commit that was under way has been applied.
    async fn connect(&mut self, commit: Option<u64>) -> Result<Attempt, Error> {
        // The next connection watches no views yet, and the server may be another one.
        self.forget_views();
        self.outlets.clear();
        let stored = self.open_connection().await?;
        // Queries are not to go on asking the server that was there before.
        self.shared.queries.connect_anew();
        match commit {
            _ if self.lease.is_none() => Ok(Attempt::Send),
            Some(number) if stored.commits == number => Ok(Attempt::AlreadyApplied),
            _ if stored.commits == self.place.commits => Ok(Attempt::Send),
            _ => Err(self.place_lost(stored)),
        }
    }

    /// Watches the lease, which must hold this writer's token.
    async fn check_lease(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let Some((token, _)) = self.lease.clone() else { return Ok(()) };
        let held = watch(connection, &self.keys.lease).await.map_err(|error| self.broken(error))?;
        if held.as_deref() == Some(token.as_bytes()) {
            return Ok(());
        }
        // It may be where queries go and not where this connection leads.
        self.shared.queries.connect_anew();
        Err(self.lost_lease().await)
    }

    /// Another host has the partition, or the store was emptied, which takes the lease away too.
    async fn lost_lease(&mut self) -> Error {
        self.connection = None;
        match self.stored_place().await {
            Ok(stored) if stored.commits < self.place.commits => self.place_lost(stored),
            Ok(_) => self.fenced(),
            Err(error) => error,
        }
    }

    fn place_lost(&self, stored: Place) -> Error {
        let reason = format!("{} commits are stored, and this host made {}", stored.commits, self.place.commits);
        Error::PlaceLost { partition: self.partition.to_string(), reason }
    }

    /// Puts the commit's transaction together.
    fn queue(&mut self, commit: &Commit) {
        let place = Place { last: self.place.last.max(commit.last), commits: commit.number };
        let RedisWriter { commands, keys, newest, owners, lease, acknowledgement, partition, shared, .. } = self;
        commands.clear();
        commands.command(&[b"MULTI"]);
        let (mut laid, mut rows) = (Vec::new(), Vec::with_capacity(commit.rows.len()));
        for row in commit.rows.iter() {
            match shared.laid_row(&row) {
                Some((schema, hash)) => laid.push((row, schema, hash)),
                None => rows.push(row),
            }
        }
        let (sure, compared): (Vec<RowRef<'_>>, Vec<RowRef<'_>>) = rows.into_iter().partition(|row| {
            let known = newest.get_mut(view_of(row.key));
            lease.is_some() && known.is_some_and(|newest| newest.surely(row.key, row.version))
        });
        for put in commit.puts.iter() {
            // Rows may be written under the same key later, when the view keeps nothing more.
            if let (Some(version), Some(newest)) = (put.version(), newest.get_mut(view_of(&put.key))) {
                newest.surely(&put.key, version);
            }
        }
        push_rows(commands, keys.rows.as_bytes(), &sure, &compared);
        if let Some(layout) = &shared.options.feast {
            feast::push_rows(commands, layout, &laid);
        }
        push_puts(commands, keys.rows.as_bytes(), commit);
        // Who has a lease does not watch what Feast's own clients write.
        for put in commit.puts.iter().filter(|put| lease.is_none() && put.version().is_some()) {
            shared.push_leaving(commands, &put.key);
        }
        let highs: Vec<(&[u8], [u8; 24])> = if lease.is_some() && !(commit.rows.is_empty() && commit.puts.is_empty()) {
            newest.iter().map(|(view, newest)| (view.as_slice(), newest.high_water().to_bytes())).collect()
        } else {
            Vec::new()
        };
        if !highs.is_empty() {
            commands.begin(2 + highs.len() * 2).arg(b"HSET").arg(keys.high.as_bytes());
            for (view, high) in &highs {
                commands.arg(view).arg(high);
            }
        }
        if lease.is_none() {
            let puts = commit.puts.iter().filter_map(|put| Some((view_of(&put.key).to_vec(), put.version()?)));
            push_raise(commands, &keys.high, commit.rows.iter().map(|row| (view_of(row.key).to_vec(), row.version)).chain(puts));
        }
        let last = place.last.map(|last| last.to_string());
        let commits = place.commits.to_string();
        match &last {
            Some(last) => commands.command(&[b"HSET", keys.place.as_bytes(), b"last", last.as_bytes(), b"commits", commits.as_bytes()]),
            None => commands.command(&[b"HSET", keys.place.as_bytes(), b"commits", commits.as_bytes()]),
        };
        if let Some((_, lease_ms)) = lease {
            commands.command(&[b"PEXPIRE", keys.lease.as_bytes(), lease_ms.to_string().as_bytes()]);
        }
        push_letters(commands, &keys.letters, commit, shared.options.dead_letters_max);
        emits::push(commands, &shared.options.streams, &commit.emits);
        if let Some(acknowledgement) = acknowledgement {
            push_settled(commands, acknowledgement, &partition.group, commit);
        }
        commands.command(&[b"EXEC"]);
        if lease.is_some() {
            push_watch(commands, &keys.lease, owners);
        }
    }

    /// Sends the transaction and looks at every reply.
    async fn execute(&mut self) -> Result<Outcome, resp::Error> {
        let Some(connection) = self.connection.as_mut() else { return Err(resp::Error::Io("not connected".into())) };
        connection.send(&self.commands).await?;
        let watching = if self.lease.is_some() { 2 } else { 0 };
        let queued = self.commands.count() - 1 - watching;
        let mut refused = None;
        for _ in 0..queued {
            if let Reply::Error(words) = connection.reply(COMMIT_TIMEOUT).await? {
                refused.get_or_insert(words);
            }
        }
        let executed = connection.reply(COMMIT_TIMEOUT).await?;
        let watched = if watching > 0 {
            connection.reply(COMMIT_TIMEOUT).await?.ok()?;
            connection.reply(COMMIT_TIMEOUT).await?.ok()?
        } else {
            Reply::Null
        };
        let token = self.lease.as_ref().map(|(token, _)| Reply::Bulk(token.clone().into_bytes()));
        let mut held = if let Reply::Array(held) = watched { held.into_iter() } else { Vec::new().into_iter() };
        let still_ours = token.is_none() || held.next() == token;
        if held.any(|owner| Some(owner) != token) {
            // What others wrote to a view is not known here; claiming it again loads it.
            self.forget_views();
        }
        match executed {
            Reply::Null if still_ours => Ok(Outcome::Overtaken),
            Reply::Null => Ok(Outcome::Fenced),
            Reply::Error(words) => Err(resp::Error::Server(refused.unwrap_or(words))),
            Reply::Array(replies) => {
                let failed = replies.into_iter().find_map(|reply| if let Reply::Error(words) = reply { Some(words) } else { None });
                Ok(Outcome::Applied { failed, still_ours })
            }
            Reply::Status(_) | Reply::Integer(_) | Reply::Bulk(_) => Err(resp::Error::Protocol("EXEC answered with no array")),
        }
    }
}

enum Attempt {
    Send,
    AlreadyApplied,
}

enum Outcome {
    Fenced,
    /// Nothing was applied, because somebody else has claimed a view; the lease is still ours.
    Overtaken,
    Applied {
        failed: Option<String>,
        still_ours: bool,
    },
}

#[async_trait]
impl Writer for RedisWriter {
    fn place(&self) -> Place {
        self.place
    }

    fn acknowledges(&self) -> bool {
        self.acknowledgement.is_some()
    }

    async fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let applied = Place { last: self.place.last.max(commit.last), commits: commit.number };
        if self.lease.is_some() && commit.number <= self.place.commits {
            return Ok(());
        }
        if self.lease.is_some() && commit.number != self.place.commits + 1 {
            return Err(self.place_lost(self.place));
        }
        let found = self.found.take();
        if let Some(key) = found.as_ref().filter(|_| self.connection.is_none()) {
            // Nobody has watched it since.
            return Err(outdated(key));
        }
        if self.connection.is_none()
            && let Attempt::AlreadyApplied = self.connect(Some(commit.number)).await?
        {
            self.place = applied;
            return Ok(());
        }
        emits::check(&self.shared, commit, &mut self.outlets).await?;
        let mut turns = 0;
        let outcome = loop {
            self.claim_views(commit).await?;
            self.queue(commit);
            match (self.execute().await, &found) {
                (Ok(Outcome::Overtaken), Some(key)) => return Err(outdated(key)),
                (Ok(Outcome::Overtaken), None) if turns < TURNS_MAX => turns += 1,
                (outcome, _) => break outcome,
            }
        };
        match outcome {
            Err(error) => Err(self.broken(error)),
            Ok(Outcome::Fenced) => Err(self.lost_lease().await),
            Ok(Outcome::Overtaken) => {
                let reason = "another stream writes to the same views all the time".into();
                Err(Error::Refused { command: "the commit".into(), reason })
            }
            Ok(Outcome::Applied { failed, still_ours }) => {
                self.place = applied;
                if !still_ours {
                    // This commit counts; the next one finds out who has the lease.
                    self.connection = None;
                }
                match failed {
                    None => Ok(()),
                    Some(words) => Err(Error::Corrupt(format!("a key under its prefix is not what this version writes: {words}"))),
                }
            }
        }
    }

    async fn read(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        self.read_watched(keys).await
    }

    async fn renew(&mut self) -> Result<(), Error> {
        self.shared.look_after_schemas(false)?;
        if self.lease.is_none() {
            return Ok(());
        }
        if self.connection.is_none() {
            self.connect(None).await?;
        }
        let Some((_, lease_ms)) = &self.lease else { return Ok(()) };
        self.commands.clear();
        self.commands.command(&[b"MULTI"]);
        self.commands.command(&[b"PEXPIRE", self.keys.lease.as_bytes(), lease_ms.to_string().as_bytes()]);
        self.commands.command(&[b"EXEC"]);
        push_watch(&mut self.commands, &self.keys.lease, &self.owners);
        match self.execute().await {
            Err(error) => Err(self.broken(error)),
            // Overtaken: the lease is looked after again before it ends.
            Ok(Outcome::Overtaken | Outcome::Applied { failed: None, still_ours: true }) => Ok(()),
            Ok(Outcome::Applied { .. } | Outcome::Fenced) => Err(self.lost_lease().await),
        }
    }

    async fn asked(&mut self, ids_max: usize) -> Result<BTreeSet<DeadLetterId>, Error> {
        let Some((token, _)) = &self.lease else { return Ok(BTreeSet::new()) };
        self.shared.take_asked(&self.partition, &self.keys.lease, token, ids_max).await
    }

    async fn release(self: Box<Self>) -> Result<(), Error> {
        const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
        let Some((token, _)) = &self.lease else { return Ok(()) };
        let mut eval = cmd("EVAL");
        eval.arg(RELEASE).arg(1).arg(&self.keys.lease).arg(token);
        self.shared.ask::<i64>(&eval, "EVAL").await.map(drop)
    }
}
