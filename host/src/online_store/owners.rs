//! Which partition was the last to put something into a view, for stores that only one process writes to.

use std::collections::HashMap;

use super::Error;
use crate::model::{Commit, Partition};

/// See the module.
#[derive(Default)]
pub(super) struct Owners {
    by_view: HashMap<Vec<u8>, Partition>,
}

impl Owners {
    /// Lets a partition put things into the views of this commit. Fails where another one did last: what was read before that may have changed since, and what
    /// is read from now on will not before this partition's next commit.
    pub(super) fn claim(&mut self, partition: &Partition, commit: &Commit) -> Result<(), Error> {
        let mut outdated = None;
        for view in commit.puts.iter().filter_map(|put| put.tagged_view()) {
            match self.by_view.get_mut(view) {
                Some(owner) if owner == partition => {}
                Some(owner) => {
                    *owner = partition.clone();
                    outdated = Some(view);
                }
                None => drop(self.by_view.insert(view.to_vec(), partition.clone())),
            }
        }
        match outdated {
            None => Ok(()),
            Some(view) => Err(Error::Outdated { view: String::from_utf8_lossy(view).into_owned() }),
        }
    }
}
