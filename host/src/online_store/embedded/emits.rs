//! Events that a commit appends to embedded logs, within its own batch.

use std::sync::Arc;

use fjall::OwnedWriteBatch;

use super::{Error, Shared};
use crate::data_folder::{Appending, LogEnd, log_name};
use crate::model::{Commit, Timestamp};

impl Shared {
    /// The logs that a commit appends to, in the order in which they must be taken: by stream and partition.
    pub(super) fn log_ends(&self, commit: &Commit) -> Result<Vec<Arc<LogEnd>>, Error> {
        let end = |(stream, partition, _)| {
            let name = log_name(stream, partition);
            self.folder.log_end(&name).ok_or_else(|| Error::Folder(format!("the log of stream `{name}` is not open")))
        };
        commit.emits.iter().map(end).collect()
    }
}

/// Adds a commit's entries to its batch.
pub(super) fn append<'l>(batch: &mut OwnedWriteBatch, ends: &'l [Arc<LogEnd>], commit: &Commit) -> Vec<Appending<'l>> {
    let mut appended = Vec::with_capacity(ends.len());
    for (end, (.., entries)) in ends.iter().zip(commit.emits.iter()) {
        let mut appending = end.append();
        appending.at(Timestamp::now().as_millis());
        for entry in entries.iter() {
            appending.push(batch, &entry);
        }
        appending.seal(batch);
        appended.push(appending);
    }
    appended
}
