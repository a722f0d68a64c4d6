//! How heads and entries are stored.
//!
//! ```text
//! key     stream number u32, entry number u64; big-endian
//! entry   milliseconds u64, fields u32, then for each field: name length u32, name, value length u32, value; little-endian
//! ```

use std::ops::Range;

use crate::model::{EntryId, EntryRef};

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The stream's number, the first part of its entries' keys.
    pub(crate) number: u32,
    /// Number of the oldest entry kept.
    pub(crate) first: u64,
    /// Number of the next entry to be appended.
    pub(crate) next: u64,
    /// Milliseconds in the newest entry's id.
    pub(crate) last_ms: u64,
    /// Encoded bytes of the entries kept.
    pub(crate) bytes: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.number.to_le_bytes().to_vec();
        for part in [self.first, self.next, self.last_ms, self.bytes] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Head> {
        let number = take_u32(&mut bytes)?;
        let mut part = || take_u64(&mut bytes);
        Some(Head { number, first: part()?, next: part()?, last_ms: part()?, bytes: part()? })
    }

    /// The id of the newest entry ever appended.
    pub(crate) fn last(&self) -> Option<EntryId> {
        (self.next > 1).then(|| EntryId { ms: self.last_ms, seq: self.next - 1 })
    }
}

pub(crate) fn entry_key(stream: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    let (front, back) = key.split_at_mut(4);
    front.copy_from_slice(&stream.to_be_bytes());
    back.copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn entry_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// The entry with zero for its milliseconds, which the writer fills in.
pub(crate) fn encode_entry(entry: &EntryRef<'_>) -> Vec<u8> {
    let bytes: usize = entry.fields().map(|(name, value)| 8 + name.len() + value.len()).sum();
    let mut encoded = Vec::with_capacity(12 + bytes);
    encoded.extend_from_slice(&0u64.to_le_bytes());
    encoded.extend_from_slice(&(entry.field_count() as u32).to_le_bytes());
    for part in entry.fields().flat_map(|(name, value)| [name, value]) {
        encoded.extend_from_slice(&(part.len() as u32).to_le_bytes());
        encoded.extend_from_slice(part);
    }
    encoded
}

pub(crate) fn set_entry_ms(encoded: &mut [u8], ms: u64) {
    if let Some(place) = encoded.first_chunk_mut() {
        *place = ms.to_le_bytes();
    }
}

pub(crate) fn entry_ms(encoded: &[u8]) -> Option<u64> {
    encoded.first_chunk().map(|ms| u64::from_le_bytes(*ms))
}

/// The spans of an entry's fields within a buffer in which the encoded entry starts at `offset`.
pub(crate) fn entry_fields(encoded: &[u8], offset: u32) -> Option<Vec<(Range<u32>, Range<u32>)>> {
    let mut rest = encoded.get(8..)?;
    let count = take_u32(&mut rest)?;
    let mut span = || {
        let bytes = take_u32(&mut rest)?;
        let start = offset + (encoded.len() - rest.len()) as u32;
        rest = rest.get(bytes as usize..)?;
        Some(start..start + bytes)
    };
    (0..count).map(|_| Some((span()?, span()?))).collect()
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*front))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*front))
}
