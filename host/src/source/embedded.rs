//! A durable log for each stream in the host's data folder, so that a host works without any service.
//!
//! An entry id is `ms-n`: the milliseconds at which it was appended, never less than the entry's before it even when the clock goes back,
//! and its number in the stream. Numbers have no gaps, so lag and losses are plain differences.
//!
//! Each log has one writer thread. It takes every append that is waiting, up to a bound, and commits them together, so that under
//! [`crate::data_folder::Durability::Sync`] many appenders share one sync. The entries and the log's head are one atomic batch; what a crash
//! cut short is dropped whole by the database. The first number still kept is stored with the head, so that no scan ever walks over the
//! remains of trimmed entries.
//!
//! A reader keeps no place: the store does, within its commit.

mod reader;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use fjall::Keyspace;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::reader::LogReader;
use self::writer::{Request, Writer};
use super::{Appender, Error};
pub use crate::data_folder::Retention;
use crate::data_folder::log_codec::{Head, encode_entry};
use crate::data_folder::{Claim, DataFolder};
use crate::model::{Entries, EntryId, Timestamp};

/// Bytes in one entry, at most.
const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Appends waiting for the writer thread, at most; further ones wait to be let in.
const REQUESTS_MAX: usize = 1_024;

/// Where a reader starts that has no place yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest entry that is still kept.
    #[default]
    Oldest,
    /// With the first entry appended from now on.
    Newest,
}

/// The log of one stream. Clones share it; it closes when the last clone and the last reader are dropped.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    folder: DataFolder,
    entries: Keyspace,
    number: u32,
    head: watch::Receiver<Head>,
    // Taken apart when the log closes.
    writer: Mutex<Option<(mpsc::Sender<Request>, JoinHandle<()>)>>,
    _claim: Claim,
}

impl Log {
    /// Opens the log of a stream, and makes it when there is none. Blocks shortly. A log can be open once at a time.
    pub fn open(folder: &DataFolder, stream: &str, retention: Retention) -> Result<Log, Error> {
        let claim = folder.claim(&format!("the log of stream `{stream}`")).map_err(failed)?;
        let entries = folder.keyspace("log").map_err(failed)?;
        let heads = folder.keyspace("log_heads").map_err(failed)?;
        let head = load_head(folder, &heads, stream)?;
        let end = folder.open_log_end(stream, entries.clone(), heads, head, retention);
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let subscribe = end.head();
        let writer = Writer { folder: folder.clone(), stream: stream.to_owned(), end };
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(requests)).map_err(failed)?;
        let writer = Mutex::new(Some((sender, thread)));
        let inner = Inner { folder: folder.clone(), entries, number: head.number, head: subscribe, writer, _claim: claim };
        Ok(Log { inner: Arc::new(inner) })
    }

    /// Opens a reader after `from`, or where `start` says when there is no place yet.
    pub fn reader(&self, from: Option<EntryId>, start: Start) -> LogReader {
        LogReader::new(self.clone(), from, start)
    }

    /// Opens a reader after an id that somebody has named: with the first entry that is greater, whether or not there was one of this id. Blocks shortly.
    pub fn reader_after(&self, id: EntryId) -> Result<LogReader, Error> {
        LogReader::after(self.clone(), id)
    }

    /// The id of the newest entry ever appended; `None` for a log that never had one.
    pub fn last(&self) -> Option<EntryId> {
        self.inner.head.borrow().last()
    }

    /// How many entries are kept.
    pub fn len(&self) -> u64 {
        let head = *self.inner.head.borrow();
        head.next.saturating_sub(head.first)
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl Appender for Log {
    async fn append(&self, entries: &Entries) -> Result<Vec<EntryId>, Error> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut encoded = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let bytes: usize = entry.fields().map(|(name, value)| name.len() + value.len()).sum();
            if bytes > ENTRY_BYTES_MAX {
                let reason = format!("an entry has {bytes} bytes; {ENTRY_BYTES_MAX} are allowed");
                return Err(Error::Refused { command: "append".into(), reason });
            }
            encoded.push(encode_entry(&entry));
        }
        let (reply, replied) = oneshot::channel();
        let sender = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(sender, _)| sender.clone());
        let sender = sender.ok_or_else(closed)?;
        let request = Request { entries: encoded, now_ms: Timestamp::now().as_millis(), reply };
        sender.send(request).await.map_err(|_| closed())?;
        replied.await.map_err(|_| closed())?
    }

    async fn newest(&self, entries_max: usize) -> Result<Entries, Error> {
        let log = self.clone();
        tokio::task::spawn_blocking(move || LogReader::newest(&log, entries_max)).await.map_err(failed)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = writer {
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("the writer thread of a log has panicked");
            }
        }
    }
}

/// The stored head of a stream's log, or a fresh one with the next free number.
fn load_head(folder: &DataFolder, heads: &Keyspace, stream: &str) -> Result<Head, Error> {
    // Two streams opened for the first time at once must not get the same number.
    static NUMBERING: Mutex<()> = Mutex::new(());
    let _numbering = NUMBERING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stored) = heads.get(stream).map_err(failed)? {
        return Head::decode(&stored).ok_or_else(|| Error::Log(format!("the head of stream `{stream}` is not readable")));
    }
    let mut number = 0;
    for head in heads.iter() {
        let stored =
            Head::decode(&head.value().map_err(failed)?).ok_or_else(|| Error::Log("the head of a stream is not readable".into()))?;
        number = number.max(stored.number.saturating_add(1));
    }
    let head = Head { number, first: 1, next: 1, last_ms: 0, bytes: 0 };
    let mut batch = folder.batch();
    batch.insert(heads, stream, head.encode());
    folder.commit(batch).map_err(failed)?;
    Ok(head)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Log(error.to_string())
}

fn closed() -> Error {
    Error::Log("its writer has stopped after an earlier error; see the log of this host".into())
}
