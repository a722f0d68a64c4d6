use std::collections::BTreeMap;

use super::Entries;

/// Entries that a commit appends to other streams, in the same step as everything else in it. Their ids are given when they are appended.
#[derive(Debug, Default)]
pub struct Emits {
    streams: BTreeMap<String, Entries>,
}

impl Emits {
    /// Where entries for this stream are added.
    pub fn to(&mut self, stream: &str) -> &mut Entries {
        self.streams.entry(stream.to_owned()).or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.values().all(Entries::is_empty)
    }

    /// How many there are, for all streams together.
    pub fn len(&self) -> usize {
        self.streams.values().map(Entries::len).sum()
    }

    /// The streams by name, each with its entries in order. None is without any.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entries)> {
        self.streams.iter().filter(|(_, entries)| !entries.is_empty()).map(|(stream, entries)| (stream.as_str(), entries))
    }
}
