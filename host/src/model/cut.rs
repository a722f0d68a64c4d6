use serde::{Deserialize, Serialize};

use super::{Digest, EntryId, Partition, StoredState, Timestamp};

/// Cuts kept of one view on one partition; the oldest go first.
const CUTS_MAX: usize = 100;

/// What makes a view's rows: a component, and those of its options that rows depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The component.
    pub component: Digest,
    /// The author's version, for people.
    pub version: String,
    /// Tells the options apart.
    pub options: String,
}

/// Where one version of a transform ended and another began, on one partition of a stream: every entry up to `after` was applied by `from`, every later
/// one by `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// None where the view was not made before, or not any more.
    pub from: Option<Maker>,
    /// None where the view is not made from here on.
    pub to: Option<Maker>,
    /// The last entry applied before the cut; none where there was none.
    pub after: Option<EntryId>,
    /// When the first batch after it was built.
    pub at: Timestamp,
    /// Whether `to` goes back behind `from`: to the states that were there before `from` came, which have not seen the entries since.
    #[serde(default)]
    pub goes_back: bool,
}

/// The cuts of one view on one partition, the oldest first. They lie in the store, put there by the very commits that they speak of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cuts(pub Vec<Cut>);

impl Cuts {
    /// The key under which they are kept. Neither a row nor a state has one like it.
    pub fn key(partition: &Partition, view: &str) -> Vec<u8> {
        format!("~~cuts:{}:{view}", partition.key()).into_bytes()
    }

    /// The key under which the names of the views that a partition makes are kept, one a line.
    pub fn index_key(partition: &Partition) -> Vec<u8> {
        format!("~~views:{}", partition.key()).into_bytes()
    }

    /// The key under which it is kept which revision of the book of versions a partition's last commits were made under.
    pub fn revision_key(partition: &Partition) -> Vec<u8> {
        format!("~~revision:{}", partition.key()).into_bytes()
    }

    /// The key under which it is kept where a group has left another one, in whose place it goes on: the last entry that was applied
    /// before, or `-` if none was.
    pub fn left_key(partition: &Partition) -> Vec<u8> {
        format!("~~left:{}", partition.key()).into_bytes()
    }

    /// Reads the stored form.
    pub fn read(stored: &[u8]) -> Result<Cuts, String> {
        serde_json::from_slice(stored).map_err(|error| error.to_string())
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What makes the view's rows since the last cut.
    pub fn maker(&self) -> Option<&Maker> {
        self.0.last()?.to.as_ref()
    }

    /// After which entry the states that a version left have seen none, if it is to go back to them: where the last run of versions that share
    /// its states ended. The first `many` cuts are looked at.
    pub fn unseen_after(&self, version: &str, many: usize) -> Option<EntryId> {
        let shares = |maker: &Option<Maker>| maker.as_ref().is_some_and(|maker| StoredState::is_compatible(&maker.version, version));
        let ended = self.0.iter().take(many).rev().find(|cut| shares(&cut.from) && !shares(&cut.to));
        ended.and_then(|cut| cut.after)
    }

    /// Adds a cut, unless nothing changes.
    pub fn cut(&mut self, to: Option<&Maker>, after: Option<EntryId>, at: Timestamp, goes_back: bool) -> bool {
        if self.maker() == to {
            return false;
        }
        self.0.push(Cut { from: self.maker().cloned(), to: to.cloned(), after, at, goes_back });
        self.0.drain(..self.0.len().saturating_sub(CUTS_MAX));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_a_cut_and_the_newest_are_kept() {
        let maker = |version: usize| Maker { component: Digest::NONE, version: version.to_string(), options: String::new() };
        let mut cuts = Cuts::default();
        assert!(!cuts.cut(None, None, Timestamp(0), false), "a view that is not made and never was");
        for version in 0..150 {
            let after = EntryId { ms: version as u64, seq: 0 };
            assert!(cuts.cut(Some(&maker(version)), Some(after), Timestamp(0), false));
            assert!(!cuts.cut(Some(&maker(version)), Some(after), Timestamp(0), false));
        }
        assert_eq!((cuts.0.len(), cuts.0[0].from.clone(), cuts.maker().cloned()), (CUTS_MAX, Some(maker(49)), Some(maker(149))));
        assert_eq!(Cuts::read(&cuts.to_bytes()), Ok(cuts));
    }
}
