//! From the outputs of a transform to the rows of a commit: entity keys, versions, and one row a key.

use std::ops::Range;

use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;

use super::binding::{Binding, ENTITY_KEY_BYTES_MAX};
use crate::model::{Batch, Column, EntryId, KeyPart, Partitioning, Rows, SchemaId, Timestamp, Values, Version, pack_row, push_key_part};
use crate::transform::Output;

/// The entity keys and versions of a transform's input rows.
pub(super) struct Origins<'b> {
    /// What stands before the entity in a row key: the view, and before that the partition's tag if it has one.
    pub(super) prefix: &'b [u8],
    pub(super) batch: &'b Batch,
    /// Inputs that form the entity key.
    pub(super) entity: &'b [usize],
    /// Input that holds the event time.
    pub(super) event_time: Option<usize>,
    /// The entry of each input row.
    pub(super) entries: &'b [EntryId],
    /// Of a fold: the newest event time that is in what each input row gave. Empty for others.
    pub(super) seen: &'b [Timestamp],
}

impl Origins<'_> {
    pub(super) fn version(&self, row: usize) -> Version {
        let entry_id = self.entries.get(row).copied().unwrap_or_default();
        let column = self.event_time.and_then(|input| self.batch.columns.get(input));
        let event_time = match column.map(|column| &column.values) {
            Some(Values::Timestamps(values)) => Timestamp(values.get(row).copied().unwrap_or_default()),
            _ => entry_id.ingest_time(),
        };
        Version { event_time, entry_id }
    }

    /// The version of what a row gave: as new as the newest event in it.
    pub(super) fn row_version(&self, row: usize) -> Version {
        let version = self.version(row);
        Version { event_time: self.seen.get(row).map_or(version.event_time, |seen| version.event_time.max(*seen)), ..version }
    }

    /// Appends the entity key of a row.
    pub(super) fn push_key(&self, key: &mut Vec<u8>, row: usize) {
        self.push_parts(key, self.entity, row);
    }

    /// The length of each row's key if it is longer than a key may be.
    pub(super) fn oversized(&self) -> Vec<(usize, usize)> {
        let mut key = Vec::new();
        let long_enough = |column: &&std::sync::Arc<Column>| match &column.values {
            Values::Texts(packed) | Values::Blobs(packed) => packed.bytes.len() * 3 > ENTITY_KEY_BYTES_MAX / 2,
            Values::Booleans(_) | Values::Integers(_) | Values::Floats(_) | Values::Timestamps(_) | Values::Vectors { .. } => false,
        };
        // Only long texts can make long keys, and a batch whose texts together are short has none.
        if !self.entity.iter().filter_map(|input| self.batch.columns.get(*input)).any(|column| long_enough(&column)) {
            return Vec::new();
        }
        let length = |row| {
            key.clear();
            self.push_key(&mut key, row);
            self.prefix.len() + key.len()
        };
        (0..self.batch.rows).zip((0..self.batch.rows).map(length)).filter(|(_, bytes)| *bytes > ENTITY_KEY_BYTES_MAX).collect()
    }

    /// The rows that do not belong into this partition, and where each belongs.
    pub(super) fn misrouted(&self, partitioning: &Partitioning, by: &[usize], own: u32) -> Vec<(usize, u32)> {
        let mut text = Vec::new();
        let partition = |row| {
            text.clear();
            self.push_parts(&mut text, by, row);
            partitioning.partition_of_text(&text)
        };
        (0..self.batch.rows).zip((0..self.batch.rows).map(partition)).filter(|(_, right)| *right != own).collect()
    }

    fn push_parts(&self, key: &mut Vec<u8>, inputs: &[usize], row: usize) {
        for (position, input) in inputs.iter().enumerate() {
            if let Some(part) = self.batch.columns.get(*input).and_then(|column| key_part(column, row)) {
                push_key_part(key, position == 0, part);
            }
        }
    }
}

fn key_part(column: &Column, row: usize) -> Option<KeyPart<'_>> {
    Some(match &column.values {
        Values::Integers(values) => KeyPart::Integer(*values.get(row)?),
        Values::Timestamps(values) => KeyPart::Timestamp(*values.get(row)?),
        Values::Booleans(values) => KeyPart::Boolean(*values.get(row)? != 0),
        Values::Texts(packed) | Values::Blobs(packed) => KeyPart::Bytes(packed.get(row)),
        Values::Floats(_) | Values::Vectors { .. } => return None,
    })
}

/// Adds the outputs' rows, of each entity only the newest: by event time, then by entry, then by the order in which the transform returned them.
pub(super) fn collect(binding: &Binding, origins: &Origins<'_>, outputs: &[(usize, Output)], now: Timestamp, rows: &mut Rows) {
    let mut keys = Vec::new();
    let mut winners: Vec<Winner> = Vec::new();
    let mut table: HashTable<u32> = HashTable::new();
    for (index, (start, output)) in outputs.iter().enumerate() {
        for row in 0..output.batch.rows {
            let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
            let origin = start + within;
            let key_start = keys.len();
            keys.extend_from_slice(origins.prefix);
            origins.push_key(&mut keys, origin);
            let key = keys.get(key_start..).unwrap_or_default();
            let candidate = Winner { key: key_start..keys.len(), version: origins.row_version(origin), output: index, row };
            let equal = |at: &u32| winners.get(*at as usize).and_then(|winner| keys.get(winner.key.clone())) == Some(key);
            match table.find(hash(key), equal) {
                None => {
                    let rehash = |at: &u32| winners.get(*at as usize).and_then(|winner| keys.get(winner.key.clone())).map_or(0, hash);
                    table.insert_unique(hash(key), winners.len() as u32, rehash);
                    winners.push(candidate);
                }
                Some(at) => {
                    keys.truncate(key_start);
                    if let Some(winner) = winners.get_mut(*at as usize).filter(|winner| winner.version <= candidate.version) {
                        *winner = Winner { key: winner.key.clone(), ..candidate };
                    }
                }
            }
        }
    }
    write(binding, outputs, &keys, &winners, now, rows);
}

struct Winner {
    key: Range<usize>,
    version: Version,
    output: usize,
    row: usize,
}

fn write(binding: &Binding, outputs: &[(usize, Output)], keys: &[u8], winners: &[Winner], now: Timestamp, rows: &mut Rows) {
    let schema: SchemaId = binding.schema;
    for Winner { key, version, output, row } in winners {
        let Some((_, output)) = outputs.get(*output) else { continue };
        let expires_at = binding.expires_at(version.event_time, now);
        rows.push_with(*version, expires_at, |key_buffer, packed| {
            key_buffer.extend_from_slice(keys.get(key.clone()).unwrap_or_default());
            pack_row(packed, *version, schema, &output.batch.columns, *row);
        });
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.finish()
}
