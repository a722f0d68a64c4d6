//! What a writer asks on the connection that it commits on, and so of the server that it commits to.

use std::sync::Arc;

use bytes::Bytes;

use super::super::feast::newer;
use super::super::{Error, RedisStore};
use super::{COMMIT_TIMEOUT, RedisWriter};
use crate::model::{EntryId, Place};
use crate::online_store::OnlineStore;
use crate::resp::{self, Commands, Connection, Reply};

/// How far a partition is applied, as the server of this connection has it; none where that is not what is written there.
pub(super) async fn place_at(connection: &mut Connection, key: &str) -> Result<Option<Place>, resp::Error> {
    let mut commands = Commands::default();
    commands.command(&[b"HMGET", key.as_bytes(), b"last", b"commits"]);
    connection.send(&commands).await?;
    let Reply::Array(fields) = connection.reply(COMMIT_TIMEOUT).await?.ok()? else {
        return Err(resp::Error::Protocol("HMGET answered with no array"));
    };
    let text = |reply: Option<Reply>| match reply {
        Some(Reply::Bulk(bytes)) => String::from_utf8(bytes).ok().map(Some),
        Some(Reply::Null) | None => Some(None),
        Some(Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) | Reply::Error(_)) => None,
    };
    let mut fields = fields.into_iter();
    let (Some(last), Some(commits)) = (text(fields.next()), text(fields.next())) else { return Ok(None) };
    let (last, commits) = (last.map(|last| last.parse::<EntryId>()).transpose(), commits.map(|commits| commits.parse()).transpose());
    Ok(last.ok().zip(commits.ok()).map(|(last, commits)| Place { last, commits: commits.unwrap_or(0) }))
}

impl RedisWriter {
    /// Watches these keys up to the next commit; what they hold.
    pub(super) async fn read_watched(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        if self.connection.is_none() {
            // Nothing was watched for a commit that is to come.
            self.found = None;
            self.open_connection().await?;
        }
        let hashes: Vec<Vec<u8>> = keys.iter().filter_map(|key| self.shared.hash_of(key)).collect();
        let Some(connection) = self.connection.as_mut() else { return Ok(Vec::new()) };
        self.found.get_or_insert_with(|| first.clone());
        let read = watched(connection, self.keys.rows.as_bytes(), keys, &hashes).await;
        let values = read.map_err(|error| self.broken(error))?;
        if hashes.is_empty() {
            return Ok(values);
        }
        // A newer row may stand in Feast's place.
        let laid = RedisStore { shared: Arc::clone(&self.shared) }.read(keys).await?;
        Ok(values.into_iter().zip(laid).map(|(value, laid)| newer(value, laid)).collect())
    }
}

/// Watches rows and hashes; what the rows are.
async fn watched(
    connection: &mut Connection,
    prefix: &[u8],
    keys: &[Vec<u8>],
    hashes: &[Vec<u8>],
) -> Result<Vec<Option<Bytes>>, resp::Error> {
    let mut commands = Commands::default();
    for (name, hashes) in [(&b"WATCH"[..], hashes), (b"MGET", &[])] {
        commands.begin(1 + keys.len() + hashes.len()).arg(name);
        for key in keys {
            commands.arg_joined(prefix, key);
        }
        for hash in hashes {
            commands.arg(hash);
        }
    }
    connection.send(&commands).await?;
    connection.reply(COMMIT_TIMEOUT).await?.ok()?;
    let Reply::Array(values) = connection.reply(COMMIT_TIMEOUT).await?.ok()? else {
        return Err(resp::Error::Protocol("MGET answered with no array"));
    };
    let value = |reply| match reply {
        Reply::Bulk(value) => Some(Bytes::from(value)),
        Reply::Null | Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) | Reply::Error(_) => None,
    };
    Ok(values.into_iter().map(value).collect())
}

/// Watches one more key; what it holds.
pub(super) async fn watch(connection: &mut Connection, key: &str) -> Result<Option<Vec<u8>>, resp::Error> {
    let mut commands = Commands::default();
    commands.command(&[b"WATCH", key.as_bytes()]);
    commands.command(&[b"GET", key.as_bytes()]);
    connection.send(&commands).await?;
    connection.reply(COMMIT_TIMEOUT).await?.ok()?;
    match connection.reply(COMMIT_TIMEOUT).await?.ok()? {
        Reply::Bulk(held) => Ok(Some(held)),
        Reply::Null | Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) | Reply::Error(_) => Ok(None),
    }
}
