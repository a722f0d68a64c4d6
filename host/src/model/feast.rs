//! The bytes that Feast keeps in Redis: entity keys of version 3, field names, values and event times. Written from what Feast 0.67 itself writes;
//! `tests/cases/feast` holds its bytes against these functions.

pub mod protobuf;
mod registry;
mod value;

use protobuf::{push_varint, push_varint_field};

use super::Timestamp;
pub use registry::{RegisteredService, RegisteredView, Registry};
pub use value::{decode, encode};

/// A join key's value as Feast keys have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeastKey<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    String(&'a str),
    /// A 32-bit integer.
    Int32(i32),
    /// A 64-bit integer.
    Int64(i64),
    /// Seconds since the Unix epoch.
    UnixTimestamp(i64),
}

/// `feast.types.ValueType` of a text.
const STRING: u32 = 2;

/// The Redis key of an entity: its join keys, in the order of their names, and the project.
pub fn redis_key(project: &str, parts: &[(&str, FeastKey<'_>)]) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts.sort_by_key(|(name, _)| *name);
    let mut key = Vec::with_capacity(64);
    let push = |key: &mut Vec<u8>, number: u32| key.extend_from_slice(&number.to_le_bytes());
    push(&mut key, parts.len() as u32);
    for (name, _) in &parts {
        push(&mut key, STRING);
        push(&mut key, name.len() as u32);
        key.extend_from_slice(name.as_bytes());
    }
    for (_, part) in &parts {
        let (int32, int64);
        let (value_type, bytes): (u32, &[u8]) = match part {
            FeastKey::Bytes(bytes) => (1, bytes),
            FeastKey::String(text) => (STRING, text.as_bytes()),
            FeastKey::Int32(number) => {
                int32 = number.to_le_bytes();
                (3, &int32)
            }
            FeastKey::Int64(number) => {
                int64 = number.to_le_bytes();
                (4, &int64)
            }
            FeastKey::UnixTimestamp(number) => {
                int64 = number.to_le_bytes();
                (8, &int64)
            }
        };
        push(&mut key, value_type);
        push(&mut key, bytes.len() as u32);
        key.extend_from_slice(bytes);
    }
    key.extend_from_slice(project.as_bytes());
    key
}

/// The hash field of a feature: MurmurHash3 of `view:feature`, in 32 bits, little-endian.
pub fn field(reference: &str) -> [u8; 4] {
    murmur3(reference.as_bytes()).to_le_bytes()
}

/// MurmurHash3_x86_32 with the seed 0 (<https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp>).
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mixed = words
        .iter()
        .fold(0_u32, |hash, word| (hash ^ scramble(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64));
    let tail = rest.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let mut hash = mixed ^ scramble(tail) ^ bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// An event time as a `google.protobuf.Timestamp`.
pub fn encode_time(time: Timestamp) -> Vec<u8> {
    let (seconds, nanos) = (time.0.div_euclid(1_000_000), time.0.rem_euclid(1_000_000) * 1_000);
    let mut bytes = Vec::with_capacity(12);
    if seconds != 0 {
        push_varint_field(&mut bytes, 1, seconds as u64);
    }
    if nanos != 0 {
        push_varint_field(&mut bytes, 2, nanos as u64);
    }
    bytes
}

/// The inverse of [`encode_time`]; finer than microseconds is cut off, and `None` is no time that we have.
pub fn decode_time(bytes: &[u8]) -> Option<Timestamp> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in protobuf::fields(bytes) {
        match field? {
            (1, protobuf::Wire::Varint(number)) => seconds = number as i64,
            (2, protobuf::Wire::Varint(number)) => nanos = number as i64,
            _ => {}
        }
    }
    seconds.checked_mul(1_000_000)?.checked_add(nanos / 1_000).map(Timestamp)
}

/// Appends a number without its field.
fn push_number(out: &mut Vec<u8>, number: i64) {
    push_varint(out, number as u64);
}
