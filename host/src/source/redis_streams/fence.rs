//! One reader of a group at a time, made sure of by the server.
//!
//! A host that slept past its lease, or a connection that the server believes in longer than we do, may still ask the group for entries. They would be pending for somebody who
//! never settles them, and the reader that is entitled to them would come to them too late: after newer entries of the same entities. So a reader asks for new entries
//! of two streams at a time, the real one and a *fence*, which is empty and a key of its own for each reader. Who begins to read takes away the fence of the reader before, and
//! `XREADGROUP` hands out nothing at all when one of its streams has no such group; a reader that waits is told at once.

use redis::cmd;

use super::Options;
use super::admin::Admin;
use crate::source::Error;

/// Puts up the fence ARGV[2] and takes away the one before, unless that is neither ARGV[3] nor missing while ARGV[3] is given.
const PUT_UP: &str = "\
local before = redis.call('GET', KEYS[1])
if before and ARGV[3] ~= '' and before ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
if before then redis.call('DEL', KEYS[1] .. ':' .. before) end
redis.call('XGROUP', 'CREATE', KEYS[1] .. ':' .. ARGV[2], ARGV[1], '$', 'MKSTREAM')
return 1";

/// The fence of one reader.
pub(super) struct Fence {
    pub(super) token: String,
    /// The key to be read beside the stream.
    pub(super) key: String,
    /// The key that holds the token of whose fence stands.
    pub(super) place: String,
}

impl Fence {
    /// Puts up a new one, in the place of `mine` if this reader had one already. Fails when another reader has put up its own since.
    pub(super) async fn put_up(admin: &Admin, options: &Options, mine: Option<&Fence>) -> Result<Fence, Error> {
        let place = beside(&options.key, &options.group, "reader");
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Config(format!("the system gives no random bytes: {error}")))?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut put_up = cmd("EVAL");
        put_up.arg(PUT_UP).arg(1).arg(&place).arg(&options.group).arg(&token).arg(mine.map_or("", |mine| mine.token.as_str()));
        if admin.ask::<u64>(&put_up, "EVAL").await? == 0 {
            return Err(Error::TakenOver { stream: options.key.clone(), group: options.group.clone() });
        }
        let key = format!("{place}:{token}");
        Ok(Fence { token, key, place })
    }
}

/// A key beside a stream for one of its groups: in the slot of the stream, on a cluster.
pub(super) fn beside(stream: &str, group: &str, what: &str) -> String {
    let tag = stream.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(stream, |(tag, _)| tag);
    format!("{{{}}}:{group}:{what}", if tag.is_empty() { stream } else { tag })
}
