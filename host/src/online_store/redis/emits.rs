//! Events that a commit appends to streams of the same server, within its own transaction.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use redis::cmd;

use super::{Acknowledgement, Error, Shared};
use crate::model::{Commit, Emits, partition_tag};
use crate::resp::Commands;

/// Refuses a commit whose entries could not be appended: what fails within the transaction takes nothing else back. Keys that were looked at are
/// remembered in `known`; whoever puts something else in the place of a stream later loses what is emitted to it, and is told.
pub(super) async fn check(shared: &Shared, commit: &Commit, known: &mut HashSet<String>) -> Result<(), Error> {
    let outlets: Vec<(&str, Option<u32>)> = commit.emits.iter().map(|(stream, partition, _)| (stream, partition)).collect();
    for (stream, partition) in outlets {
        let key = key(&shared.options.streams, stream, partition);
        let key = key.ok_or_else(|| Error::Config(format!("the stream `{stream}` is not on the server of the online store")))?;
        if known.contains(&*key) {
            continue;
        }
        let kind: String = shared.ask(cmd("TYPE").arg(&*key), "TYPE").await?;
        if !matches!(kind.as_str(), "stream" | "none") {
            let reason = format!("`{key}`, the key of the stream `{stream}`, holds a {kind}; remove it, or give the stream another key");
            return Err(Error::Refused { command: "XADD".into(), reason });
        }
        known.insert(key.into_owned());
    }
    Ok(())
}

/// The key of a stream, or of one of its partitions.
fn key<'s>(streams: &'s BTreeMap<String, Acknowledgement>, stream: &str, partition: Option<u32>) -> Option<Cow<'s, str>> {
    let key = &streams.get(stream)?.key;
    Some(partition.map_or(Cow::Borrowed(key.as_str()), |index| Cow::Owned(partition_tag(key, index))))
}

/// One XADD an entry.
pub(super) fn push(commands: &mut Commands, streams: &BTreeMap<String, Acknowledgement>, emits: &Emits) {
    for (stream, partition, entries) in emits.iter() {
        let Some(key) = key(streams, stream, partition) else { continue };
        for entry in entries.iter() {
            commands.begin(3 + 2 * entry.field_count()).arg(b"XADD").arg(key.as_bytes()).arg(b"*");
            for (name, value) in entry.fields() {
                commands.arg(name).arg(value);
            }
        }
    }
}
