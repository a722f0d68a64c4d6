//! Rows as Feast keeps them: one hash for each entity of a project, shared by all views with the same join keys. In it a field for each feature, and
//! `_ts:VIEW` with the event time. Feast's own clients read them, and may write them too.
//!
//! What Feast has no place for stands beside it in a field of ours, `_gristmill:VIEW`: the row's version with its entry id, its schema, and when it expires.
//! It counts as long as its event time is that of `_ts:VIEW`; otherwise somebody else has written the row since. Whoever else writes does
//! not tell us, so every row is compared with what is stored, by a script in the commit's transaction. States, and views that keep more than their newest row, have no
//! place in the hash and are kept as in any Redis store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use percent_encoding::percent_decode;
use redis::{FromRedisValue, Pipeline, Value as Reply};

use super::{Error, RedisStore, Shared};
use crate::model::feast::{self, FeastKey};
use crate::model::{EntryId, FeastType, FeatureRow, Field, Header, Kind, OwnedValue, RowRef, Scalar, Schema, SchemaId, Timestamp, Version};
use crate::resp::Commands;

/// How rows are laid out for Feast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeastLayout {
    /// The project, which is part of every key.
    pub project: String,
    /// How long an entity is kept after the last row that was accepted, all of its views together, in seconds; for ever when absent. The same as Feast's `key_ttl_seconds`.
    pub key_ttl_secs: Option<u64>,
    /// Types that were declared, by view and field: numbers are 64 bits wide otherwise.
    pub types: BTreeMap<String, BTreeMap<String, FeastType>>,
}

/// The schemas whose rows are laid out for Feast.
#[derive(Default)]
pub(super) struct Known {
    known: RwLock<Schemas>,
}

#[derive(Default)]
struct Schemas {
    by_id: HashMap<SchemaId, Arc<Laid>>,
    /// In force, by view.
    in_force: BTreeMap<Vec<u8>, Arc<Laid>>,
}

/// One schema as Feast has it.
pub(super) struct Laid {
    id: SchemaId,
    entity: Vec<Field>,
    features: Vec<Field>,
    types: BTreeMap<String, FeastType>,
    /// The hash field of each feature.
    fields: Vec<[u8; 4]>,
    time_field: Vec<u8>,
    own_field: Vec<u8>,
}

impl Laid {
    fn new(layout: &FeastLayout, id: SchemaId, schema: &Schema) -> Laid {
        let view = &schema.view;
        Laid {
            id,
            entity: schema.entity.clone(),
            features: schema.features.clone(),
            types: layout.types.get(view).cloned().unwrap_or_default(),
            fields: schema.features.iter().map(|field| feast::field(&format!("{view}:{}", field.name))).collect(),
            time_field: format!("_ts:{view}").into_bytes(),
            own_field: format!("_gristmill:{view}").into_bytes(),
        }
    }

    /// The hash that a row key's entity is kept in; `None` for what is no row key of this view.
    fn key(&self, project: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (_, parts) = key.split_at_checked(key.iter().position(|byte| *byte == b':')? + 1)?;
        let parts: Vec<Vec<u8>> = parts.split(|byte| *byte == b'|').map(|part| percent_decode(part).collect()).collect();
        if parts.len() != self.entity.len() {
            return None;
        }
        let named = self.entity.iter().zip(&parts).map(|(field, part)| {
            let narrow = self.types.get(&field.name).is_some_and(|declared| declared.scalar == Scalar::Int32);
            let number = || std::str::from_utf8(part).ok()?.parse::<i64>().ok();
            let value = match field.kind {
                Kind::Integer if narrow => i32::try_from(number()?).map(FeastKey::Int32).ok()?,
                Kind::Integer => FeastKey::Int64(number()?),
                Kind::Text => FeastKey::String(std::str::from_utf8(part).ok()?),
                Kind::Bytes => FeastKey::Bytes(part),
                Kind::Boolean | Kind::Float | Kind::Timestamp | Kind::Vector | Kind::List => return None,
            };
            Some((field.name.as_str(), value))
        });
        Some(feast::redis_key(project, &named.collect::<Option<Vec<_>>>()?))
    }

    /// The row that a hash has, given the values of its features, its event time and our own field.
    fn row(&self, of: &Laid, values: &[Option<Vec<u8>>], now: Timestamp) -> Result<Option<Bytes>, Error> {
        let (features, rest) = values.split_at_checked(self.fields.len()).unwrap_or_default();
        let [Some(time), own] = rest else { return Ok(None) };
        let Some(event_time) = feast::decode_time(time) else { return Ok(None) };
        let own = own.as_deref().and_then(Own::read).filter(|own| own.version.event_time == event_time);
        if own.as_ref().and_then(|own| own.expires_at).is_some_and(|at| at <= now) {
            return Ok(None);
        }
        let version = own.map_or(Version { event_time, entry_id: EntryId::ZERO }, |own| own.version);
        let value = |field: &Field| -> Option<OwnedValue<'_>> {
            let position = self.features.iter().position(|known| known.name == field.name)?;
            feast::decode(features.get(position)?.as_deref()?, field)
        };
        let mut row = FeatureRow::packer(version, of.id, of.features.len());
        of.features.iter().for_each(|field| row.push(value(field).as_ref().map(OwnedValue::value)));
        Ok(Some(row.finish()))
    }
}

/// Our own field.
struct Own {
    version: Version,
    schema: SchemaId,
    expires_at: Option<Timestamp>,
}

impl Own {
    /// Twenty-four bytes of version, four of schema, and eight of expiry where there is one, all big-endian.
    fn write(header: Header, expires_at: Option<Timestamp>) -> Vec<u8> {
        let mut bytes = header.version.to_bytes().to_vec();
        bytes.extend_from_slice(&header.schema.0.to_be_bytes());
        expires_at.into_iter().for_each(|at| bytes.extend_from_slice(&at.0.to_be_bytes()));
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Own> {
        let (version, rest) = bytes.split_first_chunk::<24>()?;
        let (schema, rest) = rest.split_first_chunk::<4>()?;
        let expires_at = rest.first_chunk::<8>().map(|at| Timestamp(i64::from_be_bytes(*at)));
        Some(Own { version: Version::from_bytes(*version), schema: SchemaId(u32::from_be_bytes(*schema)), expires_at })
    }
}

impl Known {
    /// Takes a schema into force, if its rows have a place in Feast's layout.
    pub(super) fn take(&self, layout: &FeastLayout, id: SchemaId, schema: &Schema) {
        let laid = Arc::new(Laid::new(layout, id, schema));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_id.insert(id, Arc::clone(&laid));
        let view = schema.view.clone().into_bytes();
        if schema.kept.is_nothing() {
            known.in_force.insert(view, laid);
        } else {
            tracing::warn!(
                view = schema.view,
                "keeps windows or history, which Feast's layout has no place for: only this host's own interfaces read it"
            );
            known.in_force.remove(&view);
        }
    }

    fn in_force(&self, key: &[u8]) -> Option<Arc<Laid>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.in_force.get(super::transaction::view_of(key)).cloned()
    }

    fn by_id(&self, id: SchemaId) -> Option<Arc<Laid>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }
}

/// Refuses a schema whose entities Feast has no keys for.
pub(super) fn check(schema: &Schema) -> Result<(), Error> {
    let has_key = |kind: Kind| matches!(kind, Kind::Integer | Kind::Text | Kind::Bytes);
    if let Some(field) = schema.entity.iter().find(|field| schema.kept.is_nothing() && !has_key(field.kind)) {
        let (view, name, kind) = (&schema.view, &field.name, field.kind);
        return Err(Error::Config(format!(
            "the entity of view `{view}` has the {kind} `{name}`, and a store of type \"feast_redis\" has no keys of that kind: make it a text or an integer, or use type = \"redis\""
        )));
    }
    Ok(())
}

impl RedisStore {
    /// What is stored under each key, wherever it stands. One round trip.
    pub(super) async fn read_laid(&self, layout: &FeastLayout, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let prefix = self.shared.key("row:");
        let mut pipeline = Pipeline::new();
        let mut asked: Vec<Option<Arc<Laid>>> = Vec::with_capacity(keys.len());
        for key in keys {
            let laid = self.shared.laid.in_force(key);
            let hash = laid.as_ref().and_then(|laid| laid.key(&layout.project, key));
            asked.push(match laid.zip(hash) {
                Some((laid, hash)) => {
                    pipeline.cmd("HMGET").arg(hash);
                    for field in &laid.fields {
                        pipeline.arg(field.as_slice());
                    }
                    pipeline.arg(laid.time_field.as_slice()).arg(laid.own_field.as_slice());
                    Some(laid)
                }
                None => {
                    pipeline.cmd("GET").arg([prefix.as_bytes(), key].concat());
                    None
                }
            });
        }
        let replies: Vec<Reply> = self.shared.ask_all(&pipeline, "HMGET").await?;
        let now = Timestamp::now();
        let mut rows = Vec::with_capacity(keys.len());
        for (laid, reply) in asked.into_iter().zip(replies) {
            let odd = |error: redis::ParsingError| Error::Corrupt(error.to_string());
            rows.push(match laid {
                None => Option::<Vec<u8>>::from_redis_value(reply).map_err(odd)?.map(Bytes::from),
                Some(laid) => {
                    let values = Vec::<Option<Vec<u8>>>::from_redis_value(reply).map_err(odd)?;
                    let own = values.last().and_then(|own| Own::read(own.as_deref()?));
                    let of = match own.map(|own| own.schema).filter(|schema| *schema != laid.id) {
                        Some(schema) => self.shared.laid_of(layout, schema, &laid).await?,
                        None => Arc::clone(&laid),
                    };
                    laid.row(&of, &values, now)?
                }
            });
        }
        Ok(rows)
    }
}

impl Shared {
    /// A schema that rows were written under before; the one in force where nobody knows it any more.
    async fn laid_of(&self, layout: &FeastLayout, id: SchemaId, in_force: &Arc<Laid>) -> Result<Arc<Laid>, Error> {
        if let Some(laid) = self.laid.by_id(id) {
            return Ok(laid);
        }
        let all = self.all_schemas().await?;
        let mut known = self.laid.known.write().unwrap_or_else(PoisonError::into_inner);
        for (id, schema) in all {
            known.by_id.entry(id).or_insert_with(|| Arc::new(Laid::new(layout, id, &schema)));
        }
        Ok(known.by_id.get(&id).unwrap_or(in_force).clone())
    }

    /// The schema and the hash of a row that is laid out for Feast.
    pub(super) fn laid_row(&self, row: &RowRef<'_>) -> Option<(Arc<Laid>, Vec<u8>)> {
        let layout = self.options.feast.as_ref()?;
        let header = Header::read(row.packed).ok()?;
        self.laid.in_force(row.key)?;
        let laid = self.laid.by_id(header.schema)?;
        let hash = laid.key(&layout.project, row.key)?;
        Some((laid, hash))
    }
}

/// Puts rows into their hashes unless what is there has the same or a newer version. Event times are compared as protobuf has them: a negative number of
/// seconds has ten groups of seven bits. A key that is no hash is told of once all others are done, because Redis does not roll back.
const MERGE: &str = "
local function decode(time)
  local seconds, nanos, at = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 1
  while at <= #time do
    local tag, groups, byte = string.byte(time, at), {}, 0
    at = at + 1
    repeat
      byte = string.byte(time, at) or 0
      at = at + 1
      groups[#groups + 1] = byte % 128
    until byte < 128 or #groups == 10
    if tag == 8 then
      for i = 1, #groups do seconds[i] = groups[i] end
    elseif tag == 16 then
      for i = #groups, 1, -1 do nanos = nanos * 128 + groups[i] end
    end
  end
  return seconds, nanos
end
local function compare(a, b)
  local as, an = decode(a)
  local bs, bn = decode(b)
  if (as[10] > 0) ~= (bs[10] > 0) then return as[10] > 0 and -1 or 1 end
  for i = 10, 1, -1 do
    if as[i] ~= bs[i] then return as[i] < bs[i] and -1 or 1 end
  end
  if an == bn then return 0 end
  return an < bn and -1 or 1
end
local function bytes_less(a, b, from, to)
  for i = from, to do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end
local ttl, at, failed = ARGV[1], 2, nil
for k = 1, #KEYS do
  local count, time_field, time, own_field, own = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local old = redis.pcall('HMGET', KEYS[k], time_field, own_field)
  if old.err then
    failed = old.err
  else
    local newer = not old[1]
    if old[1] then
      local order = compare(old[1], time)
      local ours = old[2]
      if order < 0 then
        newer = true
      elseif order == 0 and ours and #ours >= 24 and string.sub(ours, 1, 8) == string.sub(own, 1, 8) then
        newer = bytes_less(ours, own, 9, 24)
      end
    end
    if newer then
      redis.call('HSET', KEYS[k], time_field, time, own_field, own)
      for first = at + 5, at + 4 + 2 * count, 4000 do
        redis.call('HSET', KEYS[k], unpack(ARGV, first, math.min(first + 3999, at + 4 + 2 * count)))
      end
      if ttl ~= '' then redis.call('EXPIRE', KEYS[k], ttl) end
    end
  end
  at = at + 5 + 2 * count
end
if failed then return redis.error_reply(failed) end
return #KEYS";

/// Queues rows for their hashes.
pub(super) fn push_rows(commands: &mut Commands, layout: &FeastLayout, rows: &[(RowRef<'_>, Arc<Laid>, Vec<u8>)]) {
    if rows.is_empty() {
        return;
    }
    let words: usize = rows.iter().map(|(_, laid, _)| 6 + laid.fields.len() * 2).sum();
    let ttl = layout.key_ttl_secs.map_or(String::new(), |secs| secs.to_string());
    commands.begin(4 + words).arg(b"EVAL").arg(MERGE.as_bytes()).arg(rows.len().to_string().as_bytes());
    for (_, _, hash) in rows {
        commands.arg(hash);
    }
    commands.arg(ttl.as_bytes());
    for (row, laid, _) in rows {
        // What is no row was not put under this schema.
        let packed = FeatureRow::new(Bytes::copy_from_slice(row.packed)).ok();
        let header = packed.as_ref().map_or(Header { version: row.version, schema: laid.id }, |packed| packed.header);
        let values = packed.iter().flat_map(|packed| packed.values(laid.features.iter().map(|field| field.kind)));
        let mut values: Vec<Vec<u8>> = values
            .zip(&laid.features)
            .map(|(value, field)| {
                let mut bytes = Vec::new();
                feast::encode(&mut bytes, value.unwrap_or_default(), laid.types.get(&field.name).copied());
                bytes
            })
            .collect();
        values.resize(laid.fields.len(), Vec::new());
        commands.arg(laid.fields.len().to_string().as_bytes());
        commands.arg(&laid.time_field).arg(&feast::encode_time(row.version.event_time));
        commands.arg(&laid.own_field).arg(&Own::write(header, row.expires_at));
        for (field, value) in laid.fields.iter().zip(&values) {
            commands.arg(field).arg(value);
        }
    }
}
