use std::collections::BTreeMap;

use super::Entries;

/// Entries that a commit appends to other streams, in the same step as everything else in it. Their ids are given when they are appended.
#[derive(Debug, Default)]
pub struct Emits {
    outlets: BTreeMap<(String, Option<u32>), Entries>,
}

impl Emits {
    /// Where entries for this stream are added, or for this partition of it.
    pub fn to(&mut self, stream: &str, partition: Option<u32>) -> &mut Entries {
        self.outlets.entry((stream.to_owned(), partition)).or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.outlets.values().all(Entries::is_empty)
    }

    /// How many there are, for all streams together.
    pub fn len(&self) -> usize {
        self.outlets.values().map(Entries::len).sum()
    }

    /// The streams by name, each partition by itself, with its entries in order. None is without any.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<u32>, &Entries)> {
        let filled = self.outlets.iter().filter(|(_, entries)| !entries.is_empty());
        filled.map(|((stream, partition), entries)| (stream.as_str(), *partition, entries))
    }
}
