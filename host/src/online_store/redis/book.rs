//! What all hosts on one server have in common beside rows: documents under one revision, and the components that they name.
//!
//! `PREFIX:{book}:of:NAME` is a hash: `id` tells one history of revisions from another, `revision` is raised by every change, and the rest are the
//! documents. `PREFIX:{book}:alike:NAME` is what hosts at work have alike. `PREFIX:{book}:DIGEST` is a component in pieces. All of them are in one slot, so that a change of documents and what becomes of
//! components is one step on a cluster too.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::cmd;

use super::{Error, RedisStore};
use crate::model::{Digest, Partition};

/// Bytes of a component that are sent at a time: queries wait behind them.
const PIECE_BYTES: usize = 1 << 18;
/// A component that no document names is forgotten after a day.
const UNNAMED_SECS: u64 = 86_400;

/// Documents of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Documents {
    /// Which revision of which history; none where there are no documents yet.
    pub stamp: Option<Stamp>,
    /// By their names.
    pub documents: BTreeMap<String, Vec<u8>>,
}

/// Tells a revision of documents from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Given when the first document was written.
    pub id: String,
    /// Raised by every change, and never less than the milliseconds since the Unix epoch at which it was written.
    pub revision: u64,
}

/// A change of documents.
#[derive(Debug, Clone, Default)]
pub struct DocumentChange {
    /// What is put, and what is taken away.
    pub documents: BTreeMap<String, Option<Vec<u8>>>,
    /// Components that must be there.
    pub needed: Vec<Digest>,
    /// Components that no document names any more.
    pub dropped: Vec<Digest>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is the revision that is told.
    Written(Stamp),
    /// Somebody else has changed the documents since the revision that was named. Nothing took effect.
    Changed,
    /// A component is not there. Nothing took effect.
    Missing,
}

/// KEYS: the documents, then the components that are needed, then those that are dropped. ARGV: the revision that is there now, one that the next
/// must be beyond, an id for the first, the number of needed ones, then names and documents, each document after `+`, or `-` to take it away.
const WRITE: &str = "
local known = redis.call('HGET', KEYS[1], 'revision') or '0'
if known ~= ARGV[1] then return {'changed', '', ''} end
local needed = tonumber(ARGV[4])
for i = 2, 1 + needed do
  if redis.call('HEXISTS', KEYS[i], 'pieces') == 0 then return {'missing', '', ''} end
end
for i = 2, 1 + needed do redis.call('PERSIST', KEYS[i]) end
for i = 2 + needed, #KEYS do redis.call('UNLINK', KEYS[i]) end
local time = redis.call('TIME')
local next = math.max(tonumber(known), tonumber(ARGV[2])) + 1
next = string.format('%d', math.max(next, time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('HSETNX', KEYS[1], 'id', ARGV[3])
redis.call('HSET', KEYS[1], 'revision', next)
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '-' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], string.sub(ARGV[i + 1], 2)) end
end
return {'written', redis.call('HGET', KEYS[1], 'id'), next}";

/// Says a text for so many milliseconds, unless something else is said; answers what is said.
const SAY: &str = "
local said = redis.call('GET', KEYS[1])
if said and said ~= ARGV[1] then return said end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]";

impl RedisStore {
    /// Whether this host shares documents with others.
    pub fn has_book(&self) -> bool {
        self.shared.options.book.is_some()
    }

    fn book_key(&self) -> String {
        self.shared.key(&format!("{{book}}:of:{}", self.shared.options.book.as_deref().unwrap_or_default()))
    }

    fn component_key(&self, digest: Digest) -> String {
        self.shared.key(&format!("{{book}}:{digest}"))
    }

    /// Which revision of the documents is there.
    pub async fn document_stamp(&self) -> Result<Option<Stamp>, Error> {
        let mut command = cmd("HMGET");
        command.arg(self.book_key()).arg("id").arg("revision");
        let (id, revision): (Option<String>, Option<u64>) = self.shared.ask(&command, "HMGET").await?;
        Ok(id.zip(revision).map(|(id, revision)| Stamp { id, revision }))
    }

    /// All documents.
    pub async fn documents(&self) -> Result<Documents, Error> {
        let mut documents: BTreeMap<String, Vec<u8>> = self.shared.ask(cmd("HGETALL").arg(self.book_key()), "HGETALL").await?;
        let mut text = |name: &str| documents.remove(name).and_then(|bytes| String::from_utf8(bytes).ok());
        let (id, revision) = (text("id"), text("revision").and_then(|revision| revision.parse().ok()));
        Ok(Documents { stamp: id.zip(revision).map(|(id, revision)| Stamp { id, revision }), documents })
    }

    /// Changes documents if they are of the revision `known` still, 0 for none. The next one is beyond `floor` too.
    pub async fn change_documents(&self, known: u64, floor: u64, id: &str, change: &DocumentChange) -> Result<Written, Error> {
        let components = change.needed.iter().chain(&change.dropped);
        let keys: Vec<String> = std::iter::once(self.book_key()).chain(components.map(|digest| self.component_key(*digest))).collect();
        let mut call = cmd("EVAL");
        call.arg(WRITE).arg(keys.len()).arg(keys).arg(known).arg(floor).arg(id).arg(change.needed.len());
        for (name, document) in &change.documents {
            let document = document.as_ref().map_or_else(|| b"-".to_vec(), |document| [b"+", document.as_slice()].concat());
            call.arg(name).arg(document);
        }
        let (outcome, id, revision): (String, String, String) = self.shared.ask(&call, "EVAL").await?;
        match (outcome.as_str(), revision.parse()) {
            ("written", Ok(revision)) => Ok(Written::Written(Stamp { id, revision })),
            ("missing", _) => Ok(Written::Missing),
            _ => Ok(Written::Changed),
        }
    }

    /// Sends a component, so that documents can name it. One that is there already is left as it is.
    pub async fn put_component(&self, digest: Digest, component: &[u8]) -> Result<(), Error> {
        let key = self.component_key(digest);
        let is_there: bool = self.shared.ask(cmd("HEXISTS").arg(&key).arg("pieces"), "HEXISTS").await?;
        if is_there {
            return Ok(());
        }
        let pieces = component.chunks(PIECE_BYTES);
        let count = pieces.len();
        for (index, piece) in pieces.enumerate() {
            self.shared.ask::<i64>(cmd("HSET").arg(&key).arg(index).arg(piece), "HSET").await?;
            if index == 0 {
                self.shared.ask::<i64>(cmd("EXPIRE").arg(&key).arg(UNNAMED_SECS), "EXPIRE").await?;
            }
        }
        self.shared.ask::<i64>(cmd("HSET").arg(&key).arg("pieces").arg(count), "HSET").await.map(drop)
    }

    /// A component; whoever asked compares its digest.
    pub async fn component(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let key = self.component_key(digest);
        let count: Option<usize> = self.shared.ask(cmd("HGET").arg(&key).arg("pieces"), "HGET").await?;
        let Some(count) = count else { return Ok(None) };
        let mut component = Vec::new();
        for index in 0..count {
            let piece: Option<Vec<u8>> = self.shared.ask(cmd("HGET").arg(&key).arg(index), "HGET").await?;
            let Some(piece) = piece else { return Ok(None) };
            component.extend(piece);
        }
        Ok(Some(component))
    }

    /// Says for so long what all hosts that share the documents must have alike; answers what those that were first say.
    pub async fn say_alike(&self, text: &str, lasting: Duration) -> Result<String, Error> {
        let key = self.shared.key(&format!("{{book}}:alike:{}", self.shared.options.book.as_deref().unwrap_or_default()));
        self.shared.ask(cmd("EVAL").arg(SAY).arg(1).arg(key).arg(text).arg(lasting.as_millis() as u64), "EVAL").await
    }

    /// Whether some host holds the lease of each of these partitions.
    pub async fn held(&self, partitions: &[Partition]) -> Result<Vec<bool>, Error> {
        let mut held = Vec::with_capacity(partitions.len());
        for partition in partitions {
            held.push(self.shared.ask(cmd("EXISTS").arg(self.shared.key(&format!("lease:{}", partition.key()))), "EXISTS").await?);
        }
        Ok(held)
    }
}
