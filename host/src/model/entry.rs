use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Timestamp;

/// A position in a stream: ordered within one partition and opaque beyond that. In a Redis stream it is the entry id; a source with
/// plain offsets puts them in `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch at which the entry was added.
    pub ms: u64,
    /// Sequence number within the millisecond.
    pub seq: u64,
}

/// The text is not an entry id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an entry id; write milliseconds-sequence, for example 1526919030474-0")]
pub struct ParseEntryIdError(pub String);

impl EntryId {
    /// Before every entry.
    pub const ZERO: EntryId = EntryId { ms: 0, seq: 0 };

    /// The time at which the entry was added.
    pub fn ingest_time(self) -> Timestamp {
        Timestamp::from_millis(self.ms)
    }

    /// Parses `ms-seq` from the bytes of a reply.
    pub fn parse(text: &[u8]) -> Option<EntryId> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (ms, seq) = text.split_at_checked(dash)?;
        Some(EntryId { ms: parse_digits(ms)?, seq: parse_digits(seq.get(1..)?)? })
    }
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        if value > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(value)) }
    })
}

impl fmt::Display for EntryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = ParseEntryIdError;

    fn from_str(text: &str) -> Result<EntryId, ParseEntryIdError> {
        EntryId::parse(text.as_bytes()).ok_or_else(|| ParseEntryIdError(text.chars().take(64).collect()))
    }
}

impl serde::Serialize for EntryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for EntryId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<EntryId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Some entries of one stream as a source read them: one buffer, and spans into it. Nothing is copied per field.
#[derive(Debug, Default)]
pub struct Entries {
    buffer: Vec<u8>,
    fields: Vec<(Range<u32>, Range<u32>)>,
    entries: Vec<(EntryId, Range<u32>)>,
}

/// One entry of [`Entries`].
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Its id.
    pub id: EntryId,
    buffer: &'a [u8],
    fields: &'a [(Range<u32>, Range<u32>)],
}

impl Entries {
    /// Takes a buffer that entries will be spans of; at most 4 GiB of it can be named.
    pub fn over(buffer: Vec<u8>) -> Entries {
        Entries { buffer, fields: Vec::new(), entries: Vec::new() }
    }

    /// Adds an entry whose fields (name span, value span) lie in the buffer. A span outside of it reads as empty.
    pub fn push_spans(&mut self, id: EntryId, fields: impl IntoIterator<Item = (Range<u32>, Range<u32>)>) {
        let start = self.fields.len() as u32;
        self.fields.extend(fields);
        self.entries.push((id, start..self.fields.len() as u32));
    }

    /// Adds an entry by copying its fields to the end of the buffer.
    pub fn push<'f>(&mut self, id: EntryId, fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) {
        let start = self.fields.len() as u32;
        for (name, value) in fields {
            let name = self.append(name);
            let value = self.append(value);
            self.fields.push((name, value));
        }
        self.entries.push((id, start..self.fields.len() as u32));
    }

    fn append(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.buffer.len() as u32;
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len() as u32
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes the buffer has that they are spans of.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> {
        self.entries.iter().map(|(id, fields)| self.entry(*id, fields))
    }

    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<EntryRef<'_>> {
        self.entries.get(index).map(|(id, fields)| self.entry(*id, fields))
    }

    /// The ids in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = EntryId> {
        self.entries.iter().map(|(id, _)| *id)
    }

    /// Keeps only the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(EntryId) -> bool) {
        self.entries.retain(|(id, _)| keep(*id));
    }

    fn entry(&self, id: EntryId, fields: &Range<u32>) -> EntryRef<'_> {
        let fields = self.fields.get(fields.start as usize..fields.end as usize).unwrap_or_default();
        EntryRef { id, buffer: &self.buffer, fields }
    }
}

impl<'a> EntryRef<'a> {
    /// How many fields it has.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// The field at `index`: its name and its value.
    pub fn field(&self, index: usize) -> Option<(&'a [u8], &'a [u8])> {
        self.fields.get(index).map(|(name, value)| (self.bytes(name), self.bytes(value)))
    }

    /// The fields in order: names and values.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let entry = *self;
        entry.fields.iter().map(move |(name, value)| (entry.bytes(name), entry.bytes(value)))
    }

    /// The value of the first field of this name.
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields.iter().find(|(span, _)| self.bytes(span) == name).map(|(_, value)| self.bytes(value))
    }

    fn bytes(&self, span: &Range<u32>) -> &'a [u8] {
        self.buffer.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}
