//! What a writer asks on the connection that it commits on, and so of the server that it commits to.

use super::COMMIT_TIMEOUT;
use crate::model::{EntryId, Place};
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
