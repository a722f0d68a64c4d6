//! What was said over HTTP about transforms beside their components: which version of a view is current, and which transforms have left the group of
//! their stream because they were paused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ViewName;

/// What stands, whatever components come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Standing {
    /// By name without a version, the name under which the current version is stored; the first one where a name is missing.
    pub(super) current: BTreeMap<String, String>,
    /// Versions of views that are to become current once they have caught up.
    pub(super) switching: Vec<String>,
    /// Transforms that have left the group they were in, and the one that each has had of its own since.
    pub(super) aside: BTreeMap<String, String>,
    /// Such groups, and the one that each has left and goes on from.
    pub(super) left: BTreeMap<String, String>,
    /// Transforms that read nothing until they are resumed.
    pub(super) paused: Vec<String>,
    /// The groups that transforms of a name have had of their own before they were deleted: what those have applied is told as long as they are known.
    pub(super) past: BTreeMap<String, Vec<String>>,
}

/// Groups of one name that are remembered after their transforms; the oldest go first.
const PAST_MAX: usize = 20;

impl Standing {
    /// The version of the same view that is current.
    pub(super) fn current<'s>(&'s self, name: &'s str) -> &'s str {
        let base = ViewName::base_of(name);
        self.current.get(base).map_or(base, String::as_str)
    }

    /// Whether a transform is paused.
    pub(super) fn is_paused(&self, name: &str) -> bool {
        self.paused.iter().any(|paused| paused == name)
    }

    /// Forgets everything about a transform.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(own) = self.aside.remove(name) {
            self.left.remove(&own);
            let past = self.past.entry(name.to_owned()).or_default();
            past.push(own);
            past.drain(..past.len().saturating_sub(PAST_MAX));
        }
        self.paused.retain(|paused| paused != name);
        self.switching.retain(|switching| switching != name);
        self.current.retain(|_, current| current != name);
    }
}
