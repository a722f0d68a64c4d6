//! The thread that appends to one log, and trims it.

use fjall::Keyspace;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{Head, entry_key, entry_ms, set_entry_ms};
use super::{Error, Retention, failed};
use crate::data_folder::DataFolder;
use crate::model::EntryId;

/// Bytes committed together, about: bounds what one sync waits for.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Entries trimmed after one commit, at most, so that a trim never holds appends up for long.
const TRIM_ENTRIES_MAX: usize = 8_192;

/// One append, and where to answer.
pub(super) struct Request {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) now_ms: u64,
    pub(super) reply: oneshot::Sender<Result<Vec<EntryId>, Error>>,
}

pub(super) struct Writer {
    pub(super) folder: DataFolder,
    pub(super) entries: Keyspace,
    pub(super) heads: Keyspace,
    pub(super) stream: String,
    pub(super) retention: Retention,
    pub(super) head: Head,
    pub(super) publish: watch::Sender<Head>,
}

impl Writer {
    /// Serves appends until the log closes, or until a commit fails: the database takes no more commits after that.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(request) = requests.try_recv()
            {
                bytes += request.bytes();
                group.push(request);
            }
            if let Err(error) = self.append(group).and_then(|()| self.trim()) {
                tracing::error!(stream = self.stream, %error, "the log takes no more entries");
                return;
            }
        }
    }

    fn append(&mut self, group: Vec<Request>) -> Result<(), Error> {
        let mut head = self.head;
        let mut batch = self.folder.batch();
        let mut replies = Vec::with_capacity(group.len());
        for request in group {
            head.last_ms = head.last_ms.max(request.now_ms);
            let mut ids = Vec::with_capacity(request.entries.len());
            for mut encoded in request.entries {
                set_entry_ms(&mut encoded, head.last_ms);
                head.bytes += encoded.len() as u64;
                batch.insert(&self.entries, entry_key(head.number, head.next), encoded);
                ids.push(EntryId { ms: head.last_ms, seq: head.next });
                head.next += 1;
            }
            replies.push((request.reply, ids));
        }
        batch.insert(&self.heads, self.stream.as_str(), head.encode());
        let committed = self.folder.commit(batch).map_err(failed);
        if committed.is_ok() {
            self.head = head;
            self.publish.send_replace(head);
        }
        for (reply, ids) in replies {
            // Nobody may be waiting any more; the entries are in all the same.
            let _ = reply.send(committed.as_ref().map(|()| ids).map_err(failed));
        }
        committed
    }

    fn trim(&mut self) -> Result<(), Error> {
        let mut head = self.head;
        let oldest_ms = self.retention.age_ms_max.map_or(0, |age_ms| head.last_ms.saturating_sub(age_ms));
        let over_count = |head: &Head| self.retention.entries_max.is_some_and(|max| head.next - head.first > max);
        let over_bytes = |head: &Head| self.retention.bytes_max.is_some_and(|max| head.bytes > max);
        if !over_count(&head) && !over_bytes(&head) && oldest_ms == 0 {
            return Ok(());
        }
        let mut batch = self.folder.batch();
        let kept = entry_key(head.number, head.first)..entry_key(head.number, head.next);
        for entry in self.entries.range(kept).take(TRIM_ENTRIES_MAX) {
            let (key, value) = entry.into_inner().map_err(failed)?;
            if !over_count(&head) && !over_bytes(&head) && entry_ms(&value).is_some_and(|ms| ms >= oldest_ms) {
                break;
            }
            batch.remove(&self.entries, key);
            head.first += 1;
            head.bytes = head.bytes.saturating_sub(value.len() as u64);
        }
        if head.first == self.head.first {
            return Ok(());
        }
        batch.insert(&self.heads, self.stream.as_str(), head.encode());
        self.folder.commit(batch).map_err(failed)?;
        self.head = head;
        self.publish.send_replace(head);
        Ok(())
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }
}
