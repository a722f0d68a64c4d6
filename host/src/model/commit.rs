use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DeadLetter, DeadLetterId, Emits, EntryId, Timestamp, Version};

/// One partition of a stream as seen by one consumer group: the unit that has one place and one active worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Partition {
    /// The stream's name in the configuration.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// Which partition, from 0.
    pub index: u32,
    /// What stands in all its keys, see [`super::Partitioning::tag`]; empty for a stream that is not partitioned.
    pub tag: String,
}

impl Partition {
    /// What names it in the keys of a store: with its tag.
    pub fn key(&self) -> String {
        format!("{}{self}", self.tag)
    }

    /// Its number among those of its stream; none where there are no others.
    pub fn number(&self) -> Option<u32> {
        (!self.tag.is_empty()).then_some(self.index)
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}/{}", self.stream, self.group, self.index)
    }
}

/// Where a source or a store keeps its data. A source and a store of equal locations can settle in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// This process's memory: equal to nothing, not even to itself elsewhere.
    Memory,
    /// The data folder of this host.
    Folder(std::path::PathBuf),
    /// One Redis database, `host:port/db`.
    Redis(String),
}

/// How far a partition is applied, as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The greatest entry id ever applied; `None` before the first commit.
    pub last: Option<EntryId>,
    /// Commits so far: tells a commit whose reply was lost from one that never happened.
    pub commits: u64,
}

/// Everything that one batch changed. A store applies all of it or none.
#[derive(Debug, Default)]
pub struct Commit {
    /// Number of this commit, one more than the last place's `commits`. A commit that the store has already applied is not applied again.
    pub number: u64,
    /// The greatest entry id in the batch; never moves the place backwards.
    pub last: Option<EntryId>,
    /// Entries of the stream's whole history up to that one, where the source knows.
    pub passed: Option<u64>,
    /// The batch's entries, to be acknowledged to the stream by a store that can do so in the same step.
    pub acknowledge: Vec<EntryId>,
    /// Rows to merge, at most one a key: the newest version wins over what is stored.
    pub rows: Rows,
    /// What is put under a key whatever is stored there: entities that keep more than their newest row, and states of folds. Only for one writer at a time, or in the place
    /// of what the writer has just read.
    pub puts: Puts,
    /// Events given up on. One with the id of a stored dead letter replaces it.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that this commit settles (they were replayed).
    pub settled_dead_letters: Vec<DeadLetterId>,
    /// What goes on to other streams. Only for one writer at a time, and only to streams that lie where the store does.
    pub emits: Emits,
}

impl Commit {
    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        let Commit { number: _, last, passed: _, acknowledge, rows, puts, dead_letters, settled_dead_letters, emits } = self;
        last.is_none()
            && acknowledge.is_empty()
            && rows.is_empty()
            && puts.is_empty()
            && dead_letters.is_empty()
            && settled_dead_letters.is_empty()
            && emits.is_empty()
    }
}

/// Values by key, at most one a key; none takes the key away.
#[derive(Debug, Default)]
pub struct Puts {
    puts: Vec<Put>,
}

/// One of [`Puts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Of a row, or of a state: see [`super::state_key`].
    pub key: Vec<u8>,
    /// What is to be stored.
    pub value: Option<Bytes>,
    /// When the store may forget it; `None` for never.
    pub expires_at: Option<Timestamp>,
}

impl Put {
    /// The view that it belongs to, with the tag of its partition, if it has one; none where it is the event path's own.
    pub fn tagged_view(&self) -> Option<&[u8]> {
        let key = self.key.strip_prefix(b"~").unwrap_or(&self.key);
        if key.starts_with(b"~") {
            return None;
        }
        let (tag, rest) = super::split_tag(key);
        let view = rest.split(|byte| *byte == b':').next()?;
        key.get(..tag.len() + view.len())
    }

    /// The name of that view alone.
    pub fn view(&self) -> Option<&[u8]> {
        self.tagged_view().map(|view| super::split_tag(view).1)
    }

    /// The version that rows of the same key are compared with: that of an entity stands where a row has it. A state has none.
    pub fn version(&self) -> Option<Version> {
        let is_state = self.key.first() == Some(&b'~');
        self.value.as_ref().filter(|_| !is_state).and_then(|value| super::Header::read(value).ok()).map(|header| header.version)
    }
}

impl Puts {
    /// Adds one.
    pub fn push(&mut self, put: Put) {
        self.puts.push(put);
    }

    /// Adds all of others.
    pub fn append(&mut self, mut others: Puts) {
        self.puts.append(&mut others.puts);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.puts.len()
    }

    /// In the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Put> {
        self.puts.iter()
    }
}

impl IntoIterator for Puts {
    type Item = Put;
    type IntoIter = std::vec::IntoIter<Put>;

    fn into_iter(self) -> Self::IntoIter {
        self.puts.into_iter()
    }
}

/// Packed rows and their keys, all in two buffers.
#[derive(Debug, Default)]
pub struct Rows {
    keys: Vec<u8>,
    packed: Vec<u8>,
    rows: Vec<RowSpan>,
}

#[derive(Debug)]
struct RowSpan {
    key: Range<u32>,
    packed: Range<u32>,
    version: Version,
    expires_at: Option<Timestamp>,
}

/// One row of [`Rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// See [`super::row_key`].
    pub key: &'a [u8],
    /// See [`super::pack_row`].
    pub packed: &'a [u8],
    /// The version inside `packed`.
    pub version: Version,
    /// When the store may forget the row; `None` for never.
    pub expires_at: Option<Timestamp>,
}

impl Rows {
    /// Adds a row; `write` appends its key and its packed form to the two buffers.
    pub fn push_with(&mut self, version: Version, expires_at: Option<Timestamp>, write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        let (key, packed) = (self.keys.len() as u32, self.packed.len() as u32);
        write(&mut self.keys, &mut self.packed);
        let (key, packed) = (key..self.keys.len() as u32, packed..self.packed.len() as u32);
        self.rows.push(RowSpan { key, packed, version, expires_at });
    }

    /// Adds a row.
    pub fn push(&mut self, key: &[u8], packed: &[u8], version: Version, expires_at: Option<Timestamp>) {
        self.push_with(version, expires_at, |keys, rows| {
            keys.extend_from_slice(key);
            rows.extend_from_slice(packed);
        });
    }

    /// Keys and packed rows in the order in which they were added, all of them parts of two shared buffers.
    pub fn into_shared(self) -> impl Iterator<Item = (Bytes, Bytes)> {
        let (keys, packed) = (Bytes::from(self.keys), Bytes::from(self.packed));
        let part = |bytes: &Bytes, range: Range<u32>| {
            let end = bytes.len().min(range.end as usize);
            bytes.slice(end.min(range.start as usize)..end)
        };
        self.rows.into_iter().map(move |row| (part(&keys, row.key), part(&packed, row.packed)))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RowRef<'_>> {
        self.rows.iter().map(|row| RowRef {
            key: self.keys.get(row.key.start as usize..row.key.end as usize).unwrap_or_default(),
            packed: self.packed.get(row.packed.start as usize..row.packed.end as usize).unwrap_or_default(),
            version: row.version,
            expires_at: row.expires_at,
        })
    }
}
