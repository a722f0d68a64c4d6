//! Events that a commit appends to streams of the same server, within its own transaction.

use std::collections::{BTreeMap, HashSet};

use redis::cmd;

use super::{Acknowledgement, Error, Shared};
use crate::model::{Commit, Emits};
use crate::resp::Commands;

/// Refuses a commit whose entries could not be appended: what fails within the transaction takes nothing else back. Keys that were looked at are
/// remembered in `known`; whoever puts something else in the place of a stream later loses what is emitted to it, and is told.
pub(super) async fn check(shared: &Shared, commit: &Commit, known: &mut HashSet<String>) -> Result<(), Error> {
    for (stream, _) in commit.emits.iter().filter(|(stream, _)| !known.contains(*stream)).collect::<Vec<_>>() {
        let at = shared.options.streams.get(stream);
        let at = at.ok_or_else(|| Error::Config(format!("the stream `{stream}` is not on the server of the online store")))?;
        let kind: String = shared.ask(cmd("TYPE").arg(&at.key), "TYPE").await?;
        if !matches!(kind.as_str(), "stream" | "none") {
            let reason =
                format!("`{}`, the key of the stream `{stream}`, holds a {kind}; remove it, or give the stream another key", at.key);
            return Err(Error::Refused { command: "XADD".into(), reason });
        }
        known.insert(stream.to_owned());
    }
    Ok(())
}

/// One XADD an entry.
pub(super) fn push(commands: &mut Commands, streams: &BTreeMap<String, Acknowledgement>, emits: &Emits) {
    for (stream, entries) in emits.iter() {
        let Some(Acknowledgement { key, .. }) = streams.get(stream) else { continue };
        for entry in entries.iter() {
            commands.begin(3 + 2 * entry.field_count()).arg(b"XADD").arg(key.as_bytes()).arg(b"*");
            for (name, value) in entry.fields() {
                commands.arg(name).arg(value);
            }
        }
    }
}
