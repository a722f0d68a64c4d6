//! The book of versions: every component that was ever accepted under a name, how it was bound, who put it when, and which of them is in force. Kept in the
//! data folder with the components themselves, so that a restart comes back with what was in force, and any of them can be put into force again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::binding_options::BindingOptions;
use crate::model::{Digest, Spec, Timestamp};

/// Where a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The configuration: it will come again at the next start.
    Declared,
    /// The watched folder: likewise.
    Folder,
    /// A request to the running host.
    Pushed,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Origin::Declared => "declared",
            Origin::Folder => "folder",
            Origin::Pushed => "pushed",
        }
    }
}

/// A component and a way of binding it, accepted under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    /// From 1 within its name; none is used twice.
    pub(super) number: u32,
    /// The component; its bytes are in a file of that name.
    pub(super) digest: Digest,
    /// How it is bound.
    pub(super) options: BindingOptions,
    /// The stream that it reads, if it reads one.
    pub(super) stream: Option<String>,
    pub(super) origin: Origin,
    /// Name of the token, or what stands for one.
    pub(super) put_by: String,
    pub(super) put_at: Timestamp,
    /// What the component says about itself.
    pub(super) spec: Spec,
}

/// What the configuration or the watched folder has under a name: options where it says any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declaration {
    pub(super) digest: Digest,
    pub(super) options: Option<BindingOptions>,
}

/// The versions of one name, the oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) versions: Vec<Version>,
    /// The greatest number ever given.
    last: u32,
    /// The one in force; none after the transform was removed.
    pub(super) active: Option<u32>,
    /// Those that were in force before it and were not rolled back, the newest last.
    before: Vec<u32>,
    /// What put the one in force into force.
    by: Option<Origin>,
    /// What was declared when that happened. When it is something else at the next start, somebody has changed it since, and theirs counts.
    pub(super) declared: Option<Declaration>,
}

impl History {
    /// The version of this number.
    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version in force.
    pub(super) fn active(&self) -> Option<&Version> {
        self.version(self.active?)
    }

    /// Where a roll back goes.
    pub(super) fn back(&self) -> Option<&Version> {
        self.before.iter().rev().find_map(|number| self.version(*number))
    }

    /// The number of this component bound like this, if it was accepted before.
    fn known(&self, digest: Digest, options: &BindingOptions) -> Option<u32> {
        self.versions.iter().find(|version| version.digest == digest && version.options == *options).map(|version| version.number)
    }

    /// Makes a version the one in force.
    fn activate(&mut self, number: u32, by: Origin) {
        if let Some(old) = self.active.replace(number).filter(|old| *old != number) {
            self.before.push(old);
        }
        self.by = Some(by);
    }

    /// The oldest go, but neither the one in force nor the one that a roll back goes to, until there are no more than this.
    fn bound(&mut self, versions_max: usize) {
        let kept = [self.active, self.back().map(|version| version.number)];
        while self.versions.len() > versions_max
            && let Some(oldest) = self.versions.iter().position(|version| !kept.contains(&Some(version.number)))
        {
            self.versions.remove(oldest);
        }
        let History { versions, before, .. } = self;
        before.retain(|number| versions.iter().any(|version| version.number == *number));
        // A way back through the same few versions again and again has an end.
        before.drain(..before.len().saturating_sub(versions_max));
    }
}

/// A change of what is in force under a name, for the book.
pub(super) enum Change<'c> {
    /// A component comes, maybe one that was there before.
    Accepted { component: &'c [u8], version: Box<Version> },
    /// A version that the book has comes back.
    Activated(u32),
    /// The one before comes back, and the one in force is not what a later roll back goes to.
    RolledBack(u32),
    /// What was in force at the last stop comes back.
    Resumed(u32),
}

/// The folder of components and its table of contents.
pub(super) struct VersionBook {
    folder: PathBuf,
    versions_max: usize,
    names: BTreeMap<String, History>,
}

impl VersionBook {
    pub(super) fn open(folder: PathBuf, versions_max: usize) -> anyhow::Result<VersionBook> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let contents = folder.join(CONTENTS);
        let names = match std::fs::read(&contents) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", contents.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", contents.display())),
        };
        Ok(VersionBook { folder, versions_max, names })
    }

    /// What was ever accepted under a name.
    pub(super) fn history(&self, name: &str) -> Option<&History> {
        self.names.get(name)
    }

    /// The names with a version in force.
    pub(super) fn active(&self) -> impl Iterator<Item = (&str, &Version)> {
        self.names.iter().filter_map(|(name, history)| Some((name.as_str(), history.active()?)))
    }

    /// Whether what is in force under a name came with a declaration. When that is gone, so is it.
    pub(super) fn follows_declaration(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|history| matches!(history.by, Some(Origin::Declared | Origin::Folder)))
    }

    /// The bytes of a kept component, which are checked against their digest.
    pub(super) fn read(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if self::digest(&bytes) != digest {
            bail!("{} is not the component it was; push it again", path.display());
        }
        Ok(bytes)
    }

    /// Writes down a change; the number of the version that is in force now.
    pub(super) fn record(&mut self, name: &str, change: Change<'_>, declared: Option<Declaration>) -> anyhow::Result<u32> {
        let mut history = self.names.get(name).cloned().unwrap_or_default();
        history.declared = declared.or(history.declared);
        let number = match change {
            Change::Resumed(number) => number,
            Change::Activated(number) => {
                history.activate(number, Origin::Pushed);
                number
            }
            Change::RolledBack(number) => {
                while history.before.pop().is_some_and(|passed| passed != number) {}
                history.active = Some(number);
                history.by = Some(Origin::Pushed);
                number
            }
            Change::Accepted { component, version } => {
                let path = self.path(version.digest);
                // Whoever pushes a component again may do so because the file was damaged.
                if self.read(version.digest).is_err() {
                    write_aside(&path, component)?;
                }
                let by = version.origin;
                let number = history.known(version.digest, &version.options).unwrap_or(history.last.saturating_add(1));
                if number > history.last {
                    history.last = number;
                    history.versions.push(Version { number, ..*version });
                }
                history.activate(number, by);
                number
            }
        };
        history.bound(self.versions_max);
        self.keep(name, history)?;
        Ok(number)
    }

    /// Writes down that what is in force under a name is declared too.
    pub(super) fn declare(&mut self, name: &str, declared: Declaration, by: Origin) -> anyhow::Result<()> {
        let mut history = self.names.get(name).cloned().unwrap_or_default();
        history.declared = Some(declared);
        history.by = Some(by);
        self.keep(name, history)
    }

    /// Leaves a name with nothing in force. Its versions stay, and a roll back goes to the one that was. Says whether there was one.
    pub(super) fn deactivate(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(mut history) = self.names.get(name).cloned() else { return Ok(false) };
        let Some(number) = history.active.take() else { return Ok(false) };
        history.before.push(number);
        history.by = None;
        history.declared = None;
        history.bound(self.versions_max);
        self.keep(name, history)?;
        Ok(true)
    }

    fn keep(&mut self, name: &str, history: History) -> anyhow::Result<()> {
        if self.names.get(name) == Some(&history) {
            return Ok(());
        }
        let mut names = self.names.clone();
        names.insert(name.to_owned(), history);
        write_aside(&self.folder.join(CONTENTS), &serde_json::to_vec(&names)?)?;
        let digests = |names: &BTreeMap<String, History>| -> BTreeSet<Digest> {
            names.values().flat_map(|history| &history.versions).map(|version| version.digest).collect()
        };
        for gone in digests(&self.names).difference(&digests(&names)) {
            if let Err(error) = std::fs::remove_file(self.path(*gone)) {
                tracing::warn!(component = %gone, "cannot delete a component that no version names any more: {error}");
            }
        }
        self.names = names;
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

const CONTENTS: &str = "versions.json";

/// SHA-256 of a component.
pub(super) fn digest(component: &[u8]) -> Digest {
    Digest(Sha256::digest(component).into())
}

/// Writes a file so that after a crash it is either the old one or the new one.
pub(super) fn write_aside(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}
