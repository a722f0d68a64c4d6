//! What a commit's transaction is made of.

use std::collections::BTreeMap;

use super::Acknowledgement;
use crate::model::{Commit, Put, RowRef, Timestamp, Version, split_tag};
use crate::resp::Commands;

/// Sets each row unless the stored one has the same or a newer version (bytes 2 to 25 of a packed row). Compared byte by byte, because Lua compares texts
/// by the server's locale. Given whole with every call: a script that the server has forgotten would fail inside the transaction, and the rows
/// would be lost.
const MERGE: &str = "
for i = 1, #KEYS do
  local old = redis.pcall('GETRANGE', KEYS[i], 1, 24)
  local row = ARGV[2 * i - 1]
  local newer = type(old) ~= 'string' or #old < 24
  if not newer then
    for j = 1, 24 do
      local a, b = string.byte(old, j), string.byte(row, j + 1)
      if a ~= b then newer = a < b break end
    end
  end
  if newer then
    if ARGV[2 * i] == '' then redis.call('SET', KEYS[i], row) else redis.call('SET', KEYS[i], row, 'PXAT', ARGV[2 * i]) end
  end
end
return #KEYS";

const RAISE: &str = "
for i = 1, #ARGV, 2 do
  local old, new = redis.call('HGET', KEYS[1], ARGV[i]), ARGV[i + 1]
  local newer = not old
  if old then
    for j = 1, 24 do
      local a, b = string.byte(old, j), string.byte(new, j)
      if a ~= b then newer = a < b break end
    end
  end
  if newer then redis.call('HSET', KEYS[1], ARGV[i], new) end
end
return 1";

/// Drops the oldest dead letters beyond the bound and counts them; 4,000 in one command, for Lua passes no more than some 8,000.
const EVICT: &str = "
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over <= 0 then return 0 end
for first = 0, over - 1, 4000 do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, math.min(over - first, 4000) - 1)
  redis.call('ZREM', KEYS[1], unpack(oldest))
  redis.call('HDEL', KEYS[2], unpack(oldest))
end
return redis.call('INCRBY', KEYS[3], over)";

/// Keys that every commit needs.
pub(super) struct Keys {
    pub(super) rows: String,
    pub(super) place: String,
    pub(super) lease: String,
    pub(super) high: String,
    pub(super) letters: LetterKeys,
}

/// The keys of dead letters: those of a partitioned stream stand beside its partitions.
pub(super) struct LetterKeys {
    pub(super) dead: String,
    pub(super) order: String,
    pub(super) evicted: String,
}

/// Rows that are surely the newest in one MSET, or one SET each when they expire; the others through the script.
pub(super) fn push_rows(commands: &mut Commands, prefix: &[u8], sure: &[RowRef<'_>], compared: &[RowRef<'_>]) {
    let lasting = sure.iter().filter(|row| row.expires_at.is_none());
    let count = lasting.clone().count();
    if count > 0 {
        commands.begin(1 + count * 2).arg(b"MSET");
        for row in lasting {
            commands.arg_joined(prefix, row.key).arg(row.packed);
        }
    }
    for row in sure {
        if let Some(expires_at) = row.expires_at {
            commands.begin(5).arg(b"SET").arg_joined(prefix, row.key).arg(row.packed).arg(b"PXAT").arg(&expiry(expires_at));
        }
    }
    if !compared.is_empty() {
        commands.begin(3 + compared.len() * 3).arg(b"EVAL").arg(MERGE.as_bytes()).arg(compared.len().to_string().as_bytes());
        for row in compared {
            commands.arg_joined(prefix, row.key);
        }
        for row in compared {
            commands.arg(row.packed).arg(&row.expires_at.map_or(Vec::new(), expiry));
        }
    }
}

/// What is stored whatever is there.
pub(super) fn push_puts(commands: &mut Commands, prefix: &[u8], commit: &Commit) {
    for Put { key, value, expires_at } in commit.puts.iter() {
        match (value, expires_at) {
            (None, _) => commands.begin(2).arg(b"DEL").arg_joined(prefix, key),
            (Some(value), None) => commands.begin(3).arg(b"SET").arg_joined(prefix, key).arg(value),
            (Some(value), Some(at)) => commands.begin(5).arg(b"SET").arg_joined(prefix, key).arg(value).arg(b"PXAT").arg(&expiry(*at)),
        };
    }
}

/// Milliseconds since the epoch; Redis wants at least 1, and takes a moment in the past as gone.
fn expiry(at: Timestamp) -> Vec<u8> {
    at.as_millis().max(1).to_string().into_bytes()
}

pub(super) fn push_letters(commands: &mut Commands, keys: &LetterKeys, commit: &Commit, max: u64) {
    for id in &commit.settled_dead_letters {
        let id = id.to_string();
        commands.command(&[b"HDEL", keys.dead.as_bytes(), id.as_bytes()]);
        commands.command(&[b"ZREM", keys.order.as_bytes(), id.as_bytes()]);
    }
    for letter in &commit.dead_letters {
        // A dead letter is made of texts and numbers, which always have a JSON form.
        let Ok(text) = serde_json::to_vec(letter) else { continue };
        let id = letter.id.to_string();
        commands.command(&[b"HSET", keys.dead.as_bytes(), id.as_bytes(), &text]);
        commands.command(&[b"ZADD", keys.order.as_bytes(), letter.at.0.to_string().as_bytes(), id.as_bytes()]);
    }
    if !commit.dead_letters.is_empty() {
        let (order, dead, evicted) = (keys.order.as_bytes(), keys.dead.as_bytes(), keys.evicted.as_bytes());
        commands.command(&[b"EVAL", EVICT.as_bytes(), b"3", order, dead, evicted, max.to_string().as_bytes()]);
    }
}

pub(super) fn push_settled(commands: &mut Commands, acknowledgement: &Acknowledgement, group: &str, commit: &Commit) {
    let (key, group) = (acknowledgement.key.as_bytes(), group.as_bytes());
    if acknowledgement.checkpoint {
        if let Some(last) = commit.last {
            // A group that somebody has destroyed is nobody's place here; a script that ignores its absence keeps the transaction clean.
            const MOVE: &str = "return redis.pcall('XGROUP', 'SETID', KEYS[1], unpack(ARGV)) and 1";
            let last = last.to_string();
            let passed = commit.passed.map(|passed| passed.to_string());
            commands
                .begin(if passed.is_some() { 8 } else { 6 })
                .arg(b"EVAL")
                .arg(MOVE.as_bytes())
                .arg(b"1")
                .arg(key)
                .arg(group)
                .arg(last.as_bytes());
            if let Some(passed) = passed {
                // So that its tools know the lag, and the next reader what was trimmed before it came.
                commands.arg(b"ENTRIESREAD").arg(passed.as_bytes());
            }
        }
    } else if !commit.acknowledge.is_empty() {
        commands.begin(3 + commit.acknowledge.len()).arg(b"XACK").arg(key).arg(group);
        for id in &commit.acknowledge {
            commands.arg(id.to_string().as_bytes());
        }
    }
}

/// Watches the lease and who writes each view, and asks for both.
pub(super) fn push_watch(commands: &mut Commands, lease: &str, owners: &[String]) {
    for name in [&b"WATCH"[..], b"MGET"] {
        commands.begin(2 + owners.len()).arg(name).arg(lease.as_bytes());
        for owner in owners {
            commands.arg(owner.as_bytes());
        }
    }
}

/// Raises the greatest versions of views, for writers who do not know them.
pub(super) fn push_raise(commands: &mut Commands, high: &str, rows: impl Iterator<Item = (Vec<u8>, Version)>) {
    let mut greatest: BTreeMap<Vec<u8>, Version> = BTreeMap::new();
    for (view, version) in rows {
        let known = greatest.entry(view).or_insert(version);
        *known = version.max(*known);
    }
    if greatest.is_empty() {
        return;
    }
    commands.begin(4 + greatest.len() * 2).arg(b"EVAL").arg(RAISE.as_bytes()).arg(b"1").arg(high.as_bytes());
    for (view, version) in &greatest {
        commands.arg(view).arg(&version.to_bytes());
    }
}

/// The view's name in a row key.
pub(super) fn view_of(key: &[u8]) -> &[u8] {
    split_tag(key).1.split(|byte| *byte == b':').next().unwrap_or_default()
}
