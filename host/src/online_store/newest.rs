//! Which rows are surely the newest of their keys, told without asking the store.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::model::Version;

/// Groups of keys of a view without partitions.
pub(super) const BUCKETS: usize = 1 << 16;
/// The same for each partition of a view that has them: a host may work on hundreds.
pub(super) const BUCKETS_OF_PARTITION: usize = 1 << 13;

/// For each of so many groups of keys the greatest version ever written to any of them. A row that is newer than its group's greatest is
/// newer than what is stored under its key, whatever that is; any other row must be compared with what is stored. Streams are in order
/// nearly always, so nearly no row must be.
///
/// A version that was counted and then not written does no harm: it only makes more rows be compared.
pub(super) struct Newest {
    buckets: Box<[Version]>,
    high_water: Version,
}

impl Newest {
    /// For keys under which nothing newer than `high_water` is stored; [`Version::MIN`] when nothing is stored at all.
    pub(super) fn starting_at(high_water: Version, buckets: usize) -> Newest {
        Newest { buckets: vec![high_water; buckets].into(), high_water }
    }

    /// Whether a row of this version is surely the newest of its key. It counts as written from now on.
    pub(super) fn surely(&mut self, key: &[u8], version: Version) -> bool {
        self.high_water = self.high_water.max(version);
        let mut hasher = FxHasher::default();
        hasher.write(key);
        let buckets = self.buckets.len().max(1);
        let Some(bucket) = self.buckets.get_mut((hasher.finish() >> 40) as usize % buckets) else { return false };
        let newer = version > *bucket;
        *bucket = (*bucket).max(version);
        newer
    }

    /// The greatest version of all.
    pub(super) fn high_water(&self) -> Version {
        self.high_water
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntryId, Timestamp};

    fn version(time: i64) -> Version {
        Version { event_time: Timestamp(time), entry_id: EntryId::ZERO }
    }

    #[test]
    fn only_what_is_newer_than_everything_in_its_group_is_sure() {
        let mut newest = Newest::starting_at(version(10), BUCKETS);
        assert!(!newest.surely(b"a", version(10)));
        assert!(newest.surely(b"a", version(11)));
        assert!(!newest.surely(b"a", version(11)), "the same version twice is a redelivery");
        assert!(!newest.surely(b"a", version(5)));
        assert!(newest.surely(b"b", version(11)));
        assert_eq!(newest.high_water(), version(11));
    }
}
