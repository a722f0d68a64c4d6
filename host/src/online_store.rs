//! Where feature rows are kept for serving, and with them everything a commit must change in the same step: each partition's place, dead
//! letters, schemas.

pub mod embedded;
mod found;
pub mod memory;
mod newest;
mod owners;
pub mod redis;

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{Commit, DeadLetter, DeadLetterId, DeadLetterQuery, Disposition, EntryId, Location, Partition, Place, Schema, SchemaId};

/// A store of feature rows.
#[async_trait]
pub trait OnlineStore: Send + Sync {
    /// The newest packed row under each key, in the order of `keys`, `None` where there is none or it has expired. One round trip. Rows may be parts of one piece of memory, so
    /// whoever keeps one for long keeps a copy; those of a store that notes changes stand alone, and in its own memory.
    async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error>;

    /// The same of a partition of which the caller holds the lease, for a commit that is to follow on `place`: fails with [`Error::Astray`] where whoever answers is not
    /// as far.
    async fn read_after(&self, _partition: &Partition, _place: Place, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        self.read(keys).await
    }

    /// Where the store notes that rows change, if it does; of a store that others may write without its knowing there is nothing.
    fn noted(&self) -> Option<&dyn Noted> {
        None
    }

    /// Opens a partition for writing. With [`Writers::Single`] this takes the partition's lease, and any earlier writer's next commit fails
    /// with [`Error::Fenced`]; while another host holds the lease it fails with [`Error::Held`].
    async fn writer(&self, partition: &Partition, writers: &Writers) -> Result<Box<dyn Writer>, Error>;

    /// The number of this schema, given to it on first sight and kept for good.
    async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error>;

    /// Some of the values whose keys begin like this, at most so many; which ones is left to the store.
    async fn sample(&self, prefix: &[u8], values_max: usize) -> Result<Vec<Bytes>, Error>;

    /// All schemas ever interned.
    async fn schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error>;

    /// Says that a host takes part in some work, for so long from now on by the store's clock, or with 0 not any more. Returns who takes
    /// part, this one included, by their names. A store that no other host can reach has nobody else.
    async fn attend(&self, _work: &str, attendant: Attendant) -> Result<Vec<Attendant>, Error> {
        Ok(Some(attendant).filter(|attendant| attendant.remaining_ms > 0).into_iter().collect())
    }

    /// How far partitions are applied, and who holds each, as the store knows it without taking any. A store that no other host can reach leaves it to this host's
    /// pipelines, which know it.
    async fn holdings(&self, partitions: &[Partition]) -> Result<Vec<Holding>, Error> {
        Ok(vec![Holding::default(); partitions.len()])
    }

    /// How far each of these partitions is applied, by whatever host.
    async fn places(&self, partitions: &[Partition]) -> Result<Vec<Place>, Error>;

    /// Whether the store answers.
    async fn check(&self) -> Result<(), Error>;

    /// Where the rows live.
    fn location(&self) -> Location;

    /// The dead letters kept beside the rows.
    fn dead_letters(&self) -> &dyn DeadLetters;
}

/// Notes of changes to rows: who has read a row need not read it again as long as there is none.
pub trait Noted: Send + Sync {
    /// The number of the place where changes of the row under this key are noted. Others may share it.
    fn place(&self, key: &[u8]) -> usize;

    /// Another number once a row has changed that is noted there, `None` while one is changing. What is read after this was called is what is stored for as
    /// long as this gives the same number, unless it expires.
    fn changes(&self, place: usize) -> Option<u64>;

    /// Whether what is stored under this key is known not to expire.
    fn lasts(&self, key: &[u8]) -> bool;
}

/// Reading and dropping dead letters. They are added by commits only.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Those that match, newest first.
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error>;

    /// Forgets those that match, `query.limit` included, and says how many there were.
    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error>;

    /// How many are kept, and how many were ever pushed out by newer ones because of the bound.
    async fn count(&self) -> Result<DeadLetterCount, Error>;

    /// Leaves word for whoever holds a partition that some of its dead letters are to be tried again; see [`Writer::asked`]. False of a store that no other host
    /// can reach: nobody would hear it.
    async fn ask(&self, _partition: &Partition, _ids: &BTreeSet<DeadLetterId>) -> Result<bool, Error> {
        Ok(false)
    }
}

/// Dead letters kept and pushed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadLetterCount {
    /// Kept now.
    pub kept: u64,
    /// Pushed out since the store was made.
    pub evicted: u64,
}

/// A host that takes part in some work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendant {
    /// Its identity.
    pub host: String,
    /// For so long it is believed to be alive if it says nothing more.
    pub remaining_ms: u64,
}

/// How far a partition is applied, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holding {
    /// The greatest entry id applied, where there is one.
    pub last: Option<EntryId>,
    /// The host whose lease it is, while there is one.
    pub host: Option<String>,
}

/// Who may write to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writers {
    /// One host at a time, by a lease with a fencing token. `holder` names this host: it takes over its own lease at once.
    Single {
        /// Identity of this host, stable over its restarts.
        holder: String,
        /// How long the lease lasts without renewal, in milliseconds.
        lease_ms: u64,
    },
    /// The same for a partition that another host should take: the lease is taken only when nobody has held it for as long as it lasts.
    Waiting {
        /// Identity of this host, stable over its restarts.
        holder: String,
        /// How long the lease lasts without renewal, in milliseconds.
        lease_ms: u64,
    },
    /// Several hosts compete for entries. Rows are compared inside the store; the place is kept only for show.
    Competing,
}

/// One partition opened for writing. Dropping it gives the lease up at the latest when it expires.
#[async_trait]
pub trait Writer: Send {
    /// How far the partition is applied.
    fn place(&self) -> Place;

    /// Whether a commit acknowledges its entries to the stream in the same step.
    fn acknowledges(&self) -> bool;

    /// Applies all of a commit or nothing. May be called again with the same commit after an error that says [`Disposition::Retry`], also
    /// when it is unknown whether the first call took effect: a commit whose number the store already has is not applied again. With
    /// [`Error::Outdated`] it asks for another commit of the same number, made of what has been read since.
    async fn commit(&mut self, commit: &Commit) -> Result<(), Error>;

    /// What is stored under these keys, for the next commit of a competing writer: that fails with [`Error::Outdated`], and then nothing of it is applied, if anything is something
    /// else by then that was read since the commit before. So what is put may be made of what was there.
    async fn read(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error>;

    /// Keeps the lease while there is nothing to commit. To be called at least every third of the lease.
    async fn renew(&mut self) -> Result<(), Error>;

    /// Dead letters of the partition that are to be tried again because some host was asked to that does not hold it; at most so many. What is told once is not
    /// told again: a dead letter that is tried and brings the host down must not bring down the next one.
    async fn asked(&mut self, _ids_max: usize) -> Result<BTreeSet<DeadLetterId>, Error> {
        Ok(BTreeSet::new())
    }

    /// Gives the lease up, so that another host need not wait for it to expire.
    async fn release(self: Box<Self>) -> Result<(), Error>;
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's server cannot be reached, or the connection broke.
    #[error("cannot reach the online store at {address}: {reason}")]
    Unreachable {
        /// Where it should be, without credentials.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The server answered with an error; nothing of the call took effect.
    #[error("the online store refused `{command}`: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// The server's words.
        reason: String,
    },
    /// Another writer has taken the partition; nothing of the commit took effect.
    #[error("another host has taken over {partition}; this one must not commit to it any more")]
    Fenced {
        /// `stream/group/index`.
        partition: String,
    },
    /// Another host holds the partition's lease.
    #[error("{partition} is held by {holder} for at most {remaining_ms} ms more")]
    Held {
        /// `stream/group/index`.
        partition: String,
        /// Who holds it.
        holder: String,
        /// Until its lease expires if it is not renewed.
        remaining_ms: u64,
    },
    /// The place that the writer relies on is gone or moved: the store was emptied or restored under it.
    #[error("the stored place of {partition} is not the one this host wrote: {reason}")]
    PlaceLost {
        /// `stream/group/index`.
        partition: String,
        /// What was found.
        reason: String,
    },
    /// Another writer has put something into the view since this one did, or read it, or may have: what this commit puts there may be made of what has changed since.
    /// Nothing of it took effect; it is to be made anew of what is stored now.
    #[error("view `{view}` has another writer too; what is put there must be computed anew")]
    Outdated {
        /// The view's name.
        view: String,
    },
    /// Whoever answers reads has not the commits that this host made: a failover has parted them. Nothing was made of the answer.
    #[error(
        "{partition} is read where {found} commits are stored, and committed to where {made} are: the server was replaced; starting over with the new one"
    )]
    Astray {
        /// `stream/group/index`.
        partition: String,
        /// Commits that are stored where reads are answered.
        found: u64,
        /// Commits that this host made or found.
        made: u64,
    },
    /// What is stored cannot be read.
    #[error("the online store holds something that this version cannot read: {0}")]
    Corrupt(String),
    /// The data folder failed.
    #[error("the data folder failed: {0}")]
    Folder(String),
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
}

impl Error {
    /// What becomes of the call that failed.
    pub fn disposition(&self) -> Disposition {
        match self {
            // A folder that fails is no reason to read the same entries again and again: their deliveries are counted.
            Error::Unreachable { .. } | Error::Refused { .. } | Error::Held { .. } | Error::Folder(_) => Disposition::Retry,
            Error::Fenced { .. }
            | Error::PlaceLost { .. }
            | Error::Outdated { .. }
            | Error::Astray { .. }
            | Error::Corrupt(_)
            | Error::Config(_) => Disposition::Stop,
        }
    }
}
