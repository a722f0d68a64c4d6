//! The packed row: what the online store keeps for one entity of one view, one value in one piece.
//!
//! ```text
//! byte  0      format, 1
//!       1..9   event time, microseconds since the epoch, big-endian with the sign bit flipped
//!       9..17  entry id, milliseconds, big-endian
//!      17..25  entry id, sequence, big-endian
//!      25..29  schema id, big-endian
//!      29..    one bit a column, 1 = present, least significant first; then each present value in the schema's order:
//!              boolean 1 byte · integer, float, timestamp 8 bytes little-endian · text, bytes u32 length and the bytes ·
//!              vector u32 width and 4 bytes a number
//! ```
//!
//! Bytes 1 to 25 are the row's version. They compare as bytes the way versions compare, so that any store, a Lua script inside Redis included,
//! tells the newer of two rows without decoding them.

use bytes::Bytes;

use super::{Column, EntryId, SchemaId, Timestamp, Value};

const FORMAT: u8 = 1;
/// The first byte of an entity that keeps more than its newest row; what follows begins as in a row.
pub const ENTITY_FORMAT: u8 = 5;
/// The same of one whose floats are all kept as their bits. It is read as the other is; whoever knows only this one is not to take digits for bits.
const ENTITY_FORMAT_OF_BITS: u8 = 4;
const HEADER_BYTES: usize = 29;

/// Which of two rows of an entity is newer: first by event time, then by entry id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When the event happened.
    pub event_time: Timestamp,
    /// The entry that brought it.
    pub entry_id: EntryId,
}

impl Version {
    /// Before every version.
    pub const MIN: Version = Version { event_time: Timestamp(i64::MIN), entry_id: EntryId::ZERO };

    /// When the event happened, or when it came into the stream where that was later.
    pub fn came(self) -> Timestamp {
        self.event_time.max(Timestamp::from_millis(self.entry_id.ms))
    }

    /// Twenty-four bytes that compare like the version.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (time, id) = bytes.split_at_mut(8);
        let (ms, seq) = id.split_at_mut(8);
        time.copy_from_slice(&((self.event_time.0 as u64) ^ (1 << 63)).to_be_bytes());
        ms.copy_from_slice(&self.entry_id.ms.to_be_bytes());
        seq.copy_from_slice(&self.entry_id.seq.to_be_bytes());
        bytes
    }

    /// The inverse of [`Version::to_bytes`].
    pub fn from_bytes(bytes: [u8; 24]) -> Version {
        let part = |start: usize| {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes.iter().skip(start)).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(word)
        };
        Version { event_time: Timestamp((part(0) ^ (1 << 63)) as i64), entry_id: EntryId { ms: part(8), seq: part(16) } }
    }
}

/// Stored bytes are not a packed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored row is not in a format that this version reads: {0}")]
pub struct RowError(pub &'static str);

/// The fixed part of a packed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Event time and entry id.
    pub version: Version,
    /// Which schema the values follow.
    pub schema: SchemaId,
}

impl Header {
    /// Reads the header of a packed row.
    pub fn read(packed: &[u8]) -> Result<Header, RowError> {
        let (format, rest) = packed.split_first().ok_or(RowError("it is empty"))?;
        if ![FORMAT, ENTITY_FORMAT, ENTITY_FORMAT_OF_BITS].contains(format) {
            return Err(RowError("its format byte is unknown"));
        }
        let (version, rest) = rest.split_first_chunk::<24>().ok_or(RowError("it is too short"))?;
        let (schema, _) = rest.split_first_chunk::<4>().ok_or(RowError("it is too short"))?;
        Ok(Header { version: Version::from_bytes(*version), schema: SchemaId(u32::from_be_bytes(*schema)) })
    }
}

/// Appends the packed form of row `row` of `columns` to `out`.
pub fn pack_row(out: &mut Vec<u8>, version: Version, schema: SchemaId, columns: &[std::sync::Arc<Column>], row: usize) {
    FeatureRow::pack(out, version, schema, columns.iter().map(|column| Value::raw(column, row)));
}

/// A packed row with its header read, values still packed.
#[derive(Debug, Clone)]
pub struct FeatureRow {
    /// The fixed part.
    pub header: Header,
    packed: Bytes,
}

/// A row that is being packed.
#[derive(Debug)]
pub struct Packer {
    out: Vec<u8>,
    bitmap: usize,
    values: usize,
}

impl Packer {
    fn new(mut out: Vec<u8>, version: Version, schema: SchemaId, values: usize) -> Packer {
        out.push(FORMAT);
        out.extend_from_slice(&version.to_bytes());
        out.extend_from_slice(&schema.0.to_be_bytes());
        let bitmap = out.len();
        out.resize(bitmap + values.div_ceil(8), 0);
        Packer { out, bitmap, values: 0 }
    }

    /// The next value; none is null.
    pub fn push(&mut self, value: Option<Value<'_>>) {
        let index = self.values;
        self.values += 1;
        let Some(value) = value else { return };
        if let Some(byte) = self.out.get_mut(self.bitmap + index / 8) {
            *byte |= 1 << (index % 8);
        }
        value.pack(&mut self.out);
    }

    /// The packed form.
    pub fn finish(self) -> Bytes {
        self.out.into()
    }
}

impl FeatureRow {
    /// Appends the packed form of a row of these values.
    pub fn pack<'v>(out: &mut Vec<u8>, version: Version, schema: SchemaId, values: impl ExactSizeIterator<Item = Option<Value<'v>>>) {
        let mut packer = Packer::new(std::mem::take(out), version, schema, values.len());
        values.for_each(|value| packer.push(value));
        *out = packer.out;
    }

    /// Packs a row of so many values, one after the other.
    pub fn packer(version: Version, schema: SchemaId, values: usize) -> Packer {
        Packer::new(Vec::with_capacity(HEADER_BYTES + values.div_ceil(8) + 9 * values), version, schema, values)
    }

    /// Wraps stored bytes.
    pub fn new(packed: Bytes) -> Result<FeatureRow, RowError> {
        Ok(FeatureRow { header: Header::read(&packed)?, packed })
    }

    /// Whether this is an entity that keeps more than its newest row.
    pub fn is_entity(&self) -> bool {
        self.packed.first().is_some_and(|format| [ENTITY_FORMAT, ENTITY_FORMAT_OF_BITS].contains(format))
    }

    /// The bytes as stored.
    pub fn packed(&self) -> &Bytes {
        &self.packed
    }

    /// The values in the order of the schema, whose `kinds` these are; `None` is null. Stops with an error where the bytes run out.
    pub fn values<'a>(
        &'a self,
        kinds: impl ExactSizeIterator<Item = super::Kind>,
    ) -> impl Iterator<Item = Result<Option<Value<'a>>, RowError>> {
        let bitmap_bytes = kinds.len().div_ceil(8);
        let after_header = self.packed.get(HEADER_BYTES..).unwrap_or_default();
        let (bitmap, mut rest) = after_header.split_at_checked(bitmap_bytes).unwrap_or_default();
        kinds.enumerate().map(move |(index, kind)| match bitmap.get(index / 8) {
            None => Err(RowError("it is too short")),
            Some(byte) if byte & (1 << (index % 8)) == 0 => Ok(None),
            Some(_) => Value::unpack(kind, &mut rest).map(Some).ok_or(RowError("a value is cut short")),
        })
    }
}
