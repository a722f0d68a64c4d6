//! Schemas and their numbers.
//!
//! Rows name their schema by its number, and the two may lie on different nodes, or be written at different times: a server that has fallen back, because a replica took its place,
//! may have forgotten a schema whose rows go on being written. Were its number given to another one, rows would be read as what they are not. So the number follows from
//! the schema itself, and every host puts back what it has interned: whenever it begins to write, and now and then after that.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Script, cmd};
use sha2::{Digest, Sha256};

use super::{Error, Shared};
use crate::model::{Schema, SchemaId};

/// How often a host that writes looks after its schemas.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Gives the schema ARGV[1] its number: ARGV[2], or the next one that no other schema has.
const INTERN: &str = "
local id = redis.call('HGET', KEYS[1], ARGV[1])
if id then return tonumber(id) end
id = tonumber(ARGV[2])
while redis.call('HEXISTS', KEYS[2], string.format('%d', id)) == 1 do id = id % 2147483647 + 1 end
local text = string.format('%d', id)
redis.call('HSET', KEYS[1], ARGV[1], text)
redis.call('HSET', KEYS[2], text, ARGV[1])
return id";

/// Puts back those of the schemas ARGV (number, schema, number, …) that are gone. Answers how many, or a number, negated, that another schema has.
const PUT_BACK: &str = "
local put = 0
for i = 1, #ARGV, 2 do
  local there = redis.call('HGET', KEYS[2], ARGV[i])
  if not there then
    redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i])
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    put = put + 1
  elseif there ~= ARGV[i + 1] then
    return -tonumber(ARGV[i])
  end
end
return put";

/// The schemas that this host has interned, by their numbers.
#[derive(Default)]
pub(super) struct Interned {
    texts: Mutex<BTreeMap<u32, String>>,
    looked: Mutex<Option<Instant>>,
    /// A number under which this host writes and which the server has given to another schema; 0 is none.
    taken: AtomicI64,
}

/// The number that a schema has unless another one has it already.
fn number(text: &str) -> u32 {
    let digest = Sha256::digest(text);
    let word = digest.first_chunk().copied().map_or(0, u32::from_be_bytes);
    (word & 0x7fff_ffff).max(1)
}

impl Shared {
    /// The schemas by their numbers, and the numbers by the schemas: on a cluster in one slot.
    fn schema_keys(&self) -> (String, String) {
        if self.site.is_cluster() {
            (self.key("{schemas}"), self.key("{schemas}_ids"))
        } else {
            (self.key("schemas"), self.key("schema_ids"))
        }
    }

    pub(super) async fn intern(&self, schema: &Schema) -> Result<SchemaId, Error> {
        let text = serde_json::to_string(schema).map_err(|error| Error::Corrupt(error.to_string()))?;
        let script = Script::new(INTERN);
        let (schemas, ids) = self.schema_keys();
        let mut call = script.key(ids);
        call.key(schemas).arg(&text).arg(number(&text));
        let id: u32 = call.invoke_async(&mut self.queries.clone()).await.map_err(|error| self.failed("EVAL", &error))?;
        self.interned.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(id, text);
        Ok(SchemaId(id))
    }

    /// Puts back what this host has interned and the server has not any more. Answers how many.
    async fn put_back_schemas(&self) -> Result<u64, Error> {
        let script = Script::new(PUT_BACK);
        let (schemas, ids) = self.schema_keys();
        let mut call = script.key(ids);
        call.key(schemas);
        {
            let texts = self.interned.texts.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, text) in texts.iter() {
                call.arg(*id).arg(text);
            }
        }
        let put: i64 = call.invoke_async(&mut self.queries.clone()).await.map_err(|error| self.failed("EVAL", &error))?;
        self.interned.taken.store(put.min(0), Ordering::Relaxed);
        Ok(put.max(0).unsigned_abs())
    }

    /// Sees to it that the server has the schemas that this host writes under, beside whatever else is done: they may lie on a node that does not answer. Not more often than is
    /// needed, unless this is the `first` time. Fails if it was found before that a number means something else now.
    pub(super) fn look_after_schemas(self: &Arc<Self>, first: bool) -> Result<(), Error> {
        let taken = self.interned.taken.load(Ordering::Relaxed);
        if taken != 0 {
            return Err(Error::Corrupt(format!(
                "the server has given schema {} to another one than this host writes under that number: start this host anew",
                -taken
            )));
        }
        let mut looked = self.interned.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if first || looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            *looked = Some(Instant::now());
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                match shared.put_back_schemas().await {
                    Ok(0) => {}
                    Ok(schemas) => {
                        tracing::warn!(schemas, "the store's server had lost schemas that this host writes under; they are put back")
                    }
                    Err(error) => tracing::debug!("cannot look after the schemas: {error}"),
                }
            });
        }
        Ok(())
    }

    pub(super) async fn all_schemas(&self) -> Result<Vec<(SchemaId, Schema)>, Error> {
        let all: HashMap<u32, String> = self.ask(cmd("HGETALL").arg(self.schema_keys().0), "HGETALL").await?;
        let parse = |(id, text): (u32, String)| {
            let schema = serde_json::from_str(&text).map_err(|error| Error::Corrupt(format!("schema {id}: {error}")))?;
            Ok((SchemaId(id), schema))
        };
        all.into_iter().map(parse).collect()
    }
}
