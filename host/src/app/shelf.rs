//! Components that were pushed into a running host, kept in the data folder so that they are there again after a restart.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::binding_options::BindingOptions;
use crate::model::Digest;

/// What was pushed under one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pushed {
    /// The component; its bytes are in a file of that name.
    pub(super) digest: Digest,
    /// How it is bound.
    pub(super) options: BindingOptions,
    /// The stream that it reads, if it reads one.
    pub(super) stream: Option<String>,
    /// The component that a configuration or the watched folder had under this name when this one was pushed over it. When it has another one at the
    /// next start, somebody has changed it since, and theirs counts.
    pub(super) replaces: Option<Digest>,
}

/// The folder of pushed components and its table of contents.
pub(super) struct Shelf {
    folder: PathBuf,
    pushed: BTreeMap<String, Pushed>,
}

impl Shelf {
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Shelf> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let contents = folder.join("pushed.json");
        let pushed = match std::fs::read(&contents) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", contents.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", contents.display())),
        };
        Ok(Shelf { folder, pushed })
    }

    pub(super) fn pushed(&self) -> &BTreeMap<String, Pushed> {
        &self.pushed
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

    /// Keeps a component and makes it the one of this name.
    pub(super) fn put(&mut self, name: &str, component: &[u8], pushed: Pushed) -> anyhow::Result<()> {
        write_aside(&self.path(pushed.digest), component)?;
        let mut all = self.pushed.clone();
        all.insert(name.to_owned(), pushed);
        self.write_contents(all)
    }

    /// Forgets what was pushed under this name. Its component stays, for rows name it.
    pub(super) fn remove(&mut self, name: &str) -> anyhow::Result<bool> {
        let mut all = self.pushed.clone();
        let known = all.remove(name).is_some();
        self.write_contents(all)?;
        Ok(known)
    }

    fn write_contents(&mut self, pushed: BTreeMap<String, Pushed>) -> anyhow::Result<()> {
        write_aside(&self.folder.join("pushed.json"), &serde_json::to_vec_pretty(&pushed)?)?;
        self.pushed = pushed;
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

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
