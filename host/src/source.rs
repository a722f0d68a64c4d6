//! Where entries come from. A source hands out the entries of one stream partition in order, and remembers nothing that the pipeline's
//! commit does not.

pub mod embedded;
pub mod partitioned;
pub mod redis_streams;
pub mod scripted;

use async_trait::async_trait;

use crate::model::{Disposition, Entries, EntryId, Location};

/// Entries handed out together.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The entries, in the order of the stream.
    pub entries: Entries,
    /// Whether these were delivered before, to this consumer or to another that is gone.
    pub redelivered: bool,
    /// Entries in it that were delivered more often than the source's limit: to be dead-lettered without another try.
    pub exhausted: Vec<EntryId>,
    /// Entries known to have been lost since the last delivery, never to be read: trimmed while pending or before they were read.
    pub lost: u64,
    /// Entries of the stream's whole history up to the last of these, where the source knows and can tell by it, when it is opened again, what was trimmed meanwhile.
    pub passed: Option<u64>,
}

/// How far a source is ahead of what was read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Entries not yet delivered; `None` when the source cannot tell.
    pub entries: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
}

/// One partition of a stream, opened for one consumer. All methods may be called at the same time.
#[async_trait]
pub trait Source: Send + Sync {
    /// Waits for entries and returns at most `entries_max` of them: first those that were pending when the source was opened, then new ones. Returns an empty
    /// delivery after a bounded wait without entries. Reconnects and heals by itself as far as it can; an error says what it could not heal.
    async fn read(&self, entries_max: usize) -> Result<Delivery, Error>;

    /// Acknowledges entries that a commit has settled. Not called when the store acknowledges within its own commit.
    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error>;

    /// Makes known where reading begins, so that what is trimmed from there on before it is read can be counted.
    async fn begin(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How far behind the reader is.
    async fn lag(&self) -> Result<Lag, Error>;

    /// Whether entries that were handed out come again until they are acknowledged, whatever place the source is opened at.
    fn redelivers(&self) -> bool;

    /// Where the stream lives.
    fn location(&self) -> Location;
}

/// The end of a stream where entries are added, for hosts that take events over HTTP or from files.
#[async_trait]
pub trait Appender: Send + Sync {
    /// Appends entries in order, durably, all or none; the ids inside `entries` are ignored. Returns the new ids in order.
    async fn append(&self, entries: &Entries) -> Result<Vec<EntryId>, Error>;

    /// The newest entries, at most so many and oldest first, for people to look at. Changes nothing.
    async fn newest(&self, entries_max: usize) -> Result<Entries, Error>;
}

/// What went wrong while reading a stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream's server cannot be reached, or the connection broke.
    #[error("cannot reach the stream's server at {address}: {reason}")]
    Unreachable {
        /// Where it should be, without credentials.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The server answered with an error.
    #[error("the stream's server refused `{command}`: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// The server's words.
        reason: String,
    },
    /// The consumer group is gone, and what was pending with it.
    #[error("the group `{group}` of the stream `{stream}` is gone; reading begins anew at the stored place")]
    GroupGone {
        /// The stream's key.
        stream: String,
        /// The group.
        group: String,
    },
    /// The server has less than it had: a replica has taken its place, or a backup was restored.
    #[error("the stream `{stream}` has fallen back behind what was read of it; reading begins anew at the stored place")]
    FellBack {
        /// The stream's key.
        stream: String,
    },
    /// The store has less than it had: a replica has taken its server's place, a backup was restored, or its disk had not written everything.
    #[error(
        "the store's place in the stream `{stream}` is {place}, and entries up to {acknowledged} were acknowledged because it had them; what it has lost is read again, as far \
         as it is still in the stream"
    )]
    StoreFellBack {
        /// The stream's key.
        stream: String,
        /// Where the store is now.
        place: EntryId,
        /// Where it was.
        acknowledged: EntryId,
    },
    /// Another host reads the stream now.
    #[error("another host reads the stream `{stream}` with the group `{group}` now; this one stands by")]
    TakenOver {
        /// The stream's key.
        stream: String,
        /// The group.
        group: String,
    },
    /// The server answered something that is not in its protocol.
    #[error("the stream's server sent a reply that makes no sense: {0}")]
    Protocol(String),
    /// The embedded log failed.
    #[error("the embedded log failed: {0}")]
    Log(String),
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
}

impl Error {
    /// What becomes of the read that failed.
    pub fn disposition(&self) -> Disposition {
        match self {
            Error::Unreachable { .. } | Error::Refused { .. } | Error::Protocol(_) => Disposition::Retry,
            Error::GroupGone { .. }
            | Error::FellBack { .. }
            | Error::StoreFellBack { .. }
            | Error::TakenOver { .. }
            | Error::Log(_)
            | Error::Config(_) => Disposition::Stop,
        }
    }
}
