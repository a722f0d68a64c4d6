//! Reading a log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Log, Start, failed};
use crate::data_folder::log_codec::{entry_fields, entry_key, entry_ms, entry_number};
use crate::model::{Entries, EntryId, Location};
use crate::source::{Delivery, Error, Lag, Source};

/// How long a read waits before it returns an empty delivery.
const WAIT: Duration = Duration::from_secs(1);
/// Bytes in one delivery, about; one entry is delivered however large it is.
const DELIVERY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads one log from one place on. Several readers do not disturb each other.
pub struct LogReader {
    log: Log,
    /// Number of the next entry to be read.
    next: AtomicU64,
    /// Entries up to this one are applied already.
    after: Option<EntryId>,
    /// One read at a time, so that deliveries are in order.
    reading: Mutex<()>,
}

struct Scanned {
    entries: Entries,
    next: u64,
    lost: u64,
}

impl LogReader {
    pub(super) fn new(log: Log, from: Option<EntryId>, start: Start) -> LogReader {
        let head = *log.inner.head.borrow();
        let next = match (from, start) {
            // A place beyond the end belongs to a log that is gone; everything in this one is new to the store, unless its id says otherwise.
            (Some(id), _) if id.seq >= head.next => head.first,
            (Some(id), _) => id.seq + 1,
            (None, Start::Oldest) => head.first,
            (None, Start::Newest) => head.next,
        };
        LogReader { log, next: AtomicU64::new(next), after: from, reading: Mutex::new(()) }
    }

    /// A reader after an id that somebody has named, and of which there may never have been an entry here. Its number tells where it stands only if there was.
    pub(super) fn after(log: Log, id: EntryId) -> Result<LogReader, Error> {
        let head = *log.inner.head.borrow();
        let ms_of = |number: u64| -> Result<Option<u64>, Error> {
            let value = log.inner.entries.get(entry_key(log.inner.number, number)).map_err(failed)?;
            Ok(value.and_then(|value| entry_ms(&value)))
        };
        let is_of_entry = if id.seq >= head.first {
            ms_of(id.seq)? == Some(id.ms)
        } else {
            // One that was trimmed is no younger than the oldest that is left.
            id.seq > 0 && ms_of(head.first)?.is_none_or(|ms| id.ms <= ms)
        };
        let next = AtomicU64::new(if is_of_entry { id.seq + 1 } else { head.first });
        Ok(LogReader { log, next, after: Some(id), reading: Mutex::new(()) })
    }

    /// The newest entries, oldest first.
    pub(super) fn newest(log: &Log, entries_max: usize) -> Result<Entries, Error> {
        let next = log.inner.head.borrow().next;
        Ok(LogReader::scan(log, next.saturating_sub(entries_max as u64), None, entries_max)?.entries)
    }

    fn scan(log: &Log, from: u64, after: Option<EntryId>, entries_max: usize) -> Result<Scanned, Error> {
        let head = *log.inner.head.borrow();
        let range = entry_key(log.inner.number, from.max(head.first))..entry_key(log.inner.number, head.next);
        // Trimmed before they were read.
        let (mut next, mut lost) = (from.max(head.first), head.first.saturating_sub(from));
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for entry in log.inner.entries.range(range).take(entries_max) {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let offset = buffer.len() as u32;
            let decoded = entry_number(&key).zip(entry_ms(&value)).zip(entry_fields(&value, offset));
            let ((number, ms), fields) = decoded.ok_or_else(|| Error::Log(format!("entry {next} is not readable")))?;
            let id = EntryId { ms, seq: number };
            lost += number.saturating_sub(next);
            next = number + 1;
            if after.is_none_or(|after| id > after) {
                buffer.extend_from_slice(&value);
                spans.push((id, fields));
            }
            if buffer.len() >= DELIVERY_BYTES_MAX {
                break;
            }
        }
        let mut entries = Entries::over(buffer);
        for (id, fields) in spans {
            entries.push_spans(id, fields);
        }
        Ok(Scanned { entries, next, lost })
    }
}

#[async_trait]
impl Source for LogReader {
    async fn read(&self, entries_max: usize) -> Result<Delivery, Error> {
        let _reading = self.reading.lock().await;
        let next = self.next.load(Ordering::Acquire);
        let mut head = self.log.inner.head.clone();
        let waited = tokio::time::timeout(WAIT, async { head.wait_for(|head| head.next > next).await.is_ok() }).await;
        match waited {
            Err(_) => return Ok(Delivery::default()),
            Ok(false) => return Err(super::closed()),
            Ok(true) => {}
        }
        let (log, after) = (self.log.clone(), self.after);
        // Off the runtime: a scan may have to wait for the disk.
        let scan = move || LogReader::scan(&log, next, after, entries_max.max(1));
        let scanned = tokio::task::spawn_blocking(scan).await.map_err(failed)??;
        self.next.store(scanned.next, Ordering::Release);
        Ok(Delivery { entries: scanned.entries, lost: scanned.lost, ..Delivery::default() })
    }

    /// Does nothing: the store keeps the place.
    async fn acknowledge(&self, _: &[EntryId]) -> Result<(), Error> {
        Ok(())
    }

    async fn lag(&self) -> Result<Lag, Error> {
        let head = *self.log.inner.head.borrow();
        let next = self.next.load(Ordering::Acquire).max(head.first);
        Ok(Lag { entries: Some(head.next.saturating_sub(next)), pending: 0 })
    }

    fn redelivers(&self) -> bool {
        false
    }

    fn location(&self) -> Location {
        Location::Folder(self.log.inner.folder.path().to_owned())
    }
}
