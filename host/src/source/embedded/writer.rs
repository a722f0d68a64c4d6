//! The thread that appends to one log, and trims it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Error, failed};
use crate::data_folder::{DataFolder, LogEnd};
use crate::model::EntryId;

/// Bytes committed together, about: bounds what one sync waits for.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// One append, and where to answer.
pub(super) struct Request {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) now_ms: u64,
    pub(super) reply: oneshot::Sender<Result<Vec<EntryId>, Error>>,
}

pub(super) struct Writer {
    pub(super) folder: DataFolder,
    pub(super) stream: String,
    pub(super) end: Arc<LogEnd>,
}

impl Writer {
    /// Serves appends until the log closes, or until a commit fails: the database takes no more commits after that.
    pub(super) fn run(self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(request) = requests.try_recv()
            {
                bytes += request.bytes();
                group.push(request);
            }
            if let Err(error) = self.append(group).and_then(|()| self.end.trim(&self.folder).map_err(failed)) {
                tracing::error!(stream = self.stream, %error, "the log takes no more entries");
                return;
            }
        }
    }

    fn append(&self, group: Vec<Request>) -> Result<(), Error> {
        let mut appending = self.end.append();
        let mut batch = self.folder.batch();
        let mut replies = Vec::with_capacity(group.len());
        for request in group {
            appending.at(request.now_ms);
            let ids: Vec<EntryId> = request.entries.into_iter().map(|encoded| appending.push_encoded(&mut batch, encoded)).collect();
            replies.push((request.reply, ids));
        }
        appending.seal(&mut batch);
        let committed = self.folder.commit(batch).map_err(failed);
        if committed.is_ok() {
            appending.committed();
        }
        for (reply, ids) in replies {
            // Nobody may be waiting any more; the entries are in all the same.
            let _ = reply.send(committed.as_ref().map(|()| ids).map_err(failed));
        }
        committed
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }
}
