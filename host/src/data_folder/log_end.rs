//! The end of an embedded log, where entries are added: by the log itself, and by the embedded store, whose commits may append to a stream in the very
//! batch that has everything else of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fjall::{Keyspace, OwnedWriteBatch};
use tokio::sync::watch;

use super::log_codec::{Head, encode_entry, entry_key, entry_ms, set_entry_ms};
use super::{DataFolder, Error};
use crate::model::{EntryId, EntryRef};

/// Entries trimmed after one commit, at most, so that a trim never holds appends up for long.
const TRIM_ENTRIES_MAX: usize = 8_192;

/// What a log keeps. Bounds that are `None` do not apply; with none of them a log keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Entries, at most.
    pub entries_max: Option<u64>,
    /// Bytes of encoded entries, at most.
    pub bytes_max: Option<u64>,
    /// Age of an entry in milliseconds, at most; looked at when something is appended.
    pub age_ms_max: Option<u64>,
}

/// The name of a stream's log, or of that of one of its partitions: the blank is in no stream's name.
pub(crate) fn log_name(stream: &str, partition: Option<u32>) -> String {
    partition.map_or(stream.to_owned(), |index| format!("{stream} {index}"))
}

/// The ends of the logs that are open, by stream.
#[derive(Default)]
pub(super) struct LogEnds(Mutex<HashMap<String, Weak<LogEnd>>>);

/// Where entries are added to one log. Whoever adds some has it alone until they are committed.
pub(crate) struct LogEnd {
    stream: String,
    entries: Keyspace,
    heads: Keyspace,
    retention: Retention,
    head: Mutex<Head>,
    publish: watch::Sender<Head>,
}

/// Entries on their way into a batch. Dropped before they are committed, they leave nothing behind.
pub(crate) struct Appending<'l> {
    end: &'l LogEnd,
    committed: MutexGuard<'l, Head>,
    head: Head,
}

impl DataFolder {
    /// Makes a log's end known, for as long as the log is open.
    pub(crate) fn open_log_end(&self, stream: &str, entries: Keyspace, heads: Keyspace, head: Head, retention: Retention) -> Arc<LogEnd> {
        let publish = watch::Sender::new(head);
        let end = Arc::new(LogEnd { stream: stream.to_owned(), entries, heads, retention, head: Mutex::new(head), publish });
        self.inner.log_ends.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.to_owned(), Arc::downgrade(&end));
        end
    }

    /// The end of a stream's log, if that is open.
    pub(crate) fn log_end(&self, stream: &str) -> Option<Arc<LogEnd>> {
        self.inner.log_ends.0.lock().unwrap_or_else(PoisonError::into_inner).get(stream).and_then(Weak::upgrade)
    }
}

impl LogEnd {
    /// Where the log begins and ends, as those learn who wait for entries.
    pub(crate) fn head(&self) -> watch::Receiver<Head> {
        self.publish.subscribe()
    }

    /// Waits for whoever is adding entries, and keeps others from it.
    pub(crate) fn append(&self) -> Appending<'_> {
        let committed = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let head = *committed;
        Appending { end: self, committed, head }
    }

    /// Takes away what the log need not keep. Blocks.
    pub(crate) fn trim(&self, folder: &DataFolder) -> Result<(), Error> {
        let mut committed = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let mut head = *committed;
        let oldest_ms = self.retention.age_ms_max.map_or(0, |age_ms| head.last_ms.saturating_sub(age_ms));
        let over_count = |head: &Head| self.retention.entries_max.is_some_and(|max| head.next - head.first > max);
        let over_bytes = |head: &Head| self.retention.bytes_max.is_some_and(|max| head.bytes > max);
        if !over_count(&head) && !over_bytes(&head) && oldest_ms == 0 {
            return Ok(());
        }
        let mut batch = folder.batch();
        let kept = entry_key(head.number, head.first)..entry_key(head.number, head.next);
        for entry in self.entries.range(kept).take(TRIM_ENTRIES_MAX) {
            let (key, value) = entry.into_inner().map_err(|error| folder.failed(&error))?;
            if !over_count(&head) && !over_bytes(&head) && entry_ms(&value).is_some_and(|ms| ms >= oldest_ms) {
                break;
            }
            batch.remove(&self.entries, key);
            head.first += 1;
            head.bytes = head.bytes.saturating_sub(value.len() as u64);
        }
        if head.first == committed.first {
            return Ok(());
        }
        batch.insert(&self.heads, self.stream.as_str(), head.encode());
        folder.commit(batch)?;
        *committed = head;
        self.publish.send_replace(head);
        Ok(())
    }
}

impl Appending<'_> {
    /// Takes the clock's milliseconds for what follows; ids never go back.
    pub(crate) fn at(&mut self, now_ms: u64) {
        self.head.last_ms = self.head.last_ms.max(now_ms);
    }

    /// Adds an entry to the batch.
    pub(crate) fn push(&mut self, batch: &mut OwnedWriteBatch, entry: &EntryRef<'_>) -> EntryId {
        self.push_encoded(batch, encode_entry(entry))
    }

    /// The same, of an entry that is encoded.
    pub(crate) fn push_encoded(&mut self, batch: &mut OwnedWriteBatch, mut encoded: Vec<u8>) -> EntryId {
        let head = &mut self.head;
        set_entry_ms(&mut encoded, head.last_ms);
        head.bytes += encoded.len() as u64;
        batch.insert(&self.end.entries, entry_key(head.number, head.next), encoded);
        let id = EntryId { ms: head.last_ms, seq: head.next };
        head.next += 1;
        id
    }

    /// Adds the log's new end to the batch, after the last entry.
    pub(crate) fn seal(&self, batch: &mut OwnedWriteBatch) {
        batch.insert(&self.end.heads, self.end.stream.as_str(), self.head.encode());
    }

    /// The batch is committed: readers may see the entries.
    pub(crate) fn committed(mut self) {
        *self.committed = self.head;
        self.end.publish.send_replace(self.head);
    }
}
