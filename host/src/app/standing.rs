//! What was said over HTTP about transforms beside their components, kept in the data folder: which version of a view is current, and which transforms
//! have left the group of their stream because they were paused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::versions::write_aside;
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
    /// Transforms that read nothing until they are resumed.
    pub(super) paused: Vec<String>,
}

/// Where it is kept.
pub(super) struct StandingFile {
    file: PathBuf,
    standing: Standing,
}

impl StandingFile {
    pub(super) fn open(file: PathBuf) -> anyhow::Result<StandingFile> {
        let standing = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Standing::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(StandingFile { file, standing })
    }

    /// Changes it, on disk first.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Standing)) -> anyhow::Result<()> {
        let mut changed = self.standing.clone();
        change(&mut changed);
        if changed != self.standing {
            write_aside(&self.file, &serde_json::to_vec_pretty(&changed)?)?;
            self.standing = changed;
        }
        Ok(())
    }
}

impl std::ops::Deref for StandingFile {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

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
        self.aside.remove(name);
        self.paused.retain(|paused| paused != name);
        self.switching.retain(|switching| switching != name);
        self.current.retain(|_, current| current != name);
    }
}
