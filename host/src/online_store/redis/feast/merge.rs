//! Writing rows into their hashes.

use std::sync::Arc;

use bytes::Bytes;

use super::{FeastLayout, Laid, Own};
use crate::model::feast;
use crate::model::{FeatureRow, Header, RowRef};
use crate::resp::Commands;

/// Words in one call of the script, about: Redis takes no more than a million in one command.
const WORDS_MAX: usize = 200_000;

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
pub(in crate::online_store::redis) fn push_rows(
    commands: &mut Commands,
    layout: &FeastLayout,
    mut rows: &[(RowRef<'_>, Arc<Laid>, Vec<u8>)],
) {
    while !rows.is_empty() {
        let mut words = 0;
        let within = rows.iter().take_while(|(_, laid, _)| {
            words += words_of(laid);
            words <= WORDS_MAX
        });
        let (some, rest) = rows.split_at(within.count().clamp(1, rows.len()));
        push_some(commands, layout, some);
        rows = rest;
    }
}

fn words_of(laid: &Laid) -> usize {
    6 + laid.fields.len() * 2
}

fn push_some(commands: &mut Commands, layout: &FeastLayout, rows: &[(RowRef<'_>, Arc<Laid>, Vec<u8>)]) {
    let words: usize = rows.iter().map(|(_, laid, _)| words_of(laid)).sum();
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
