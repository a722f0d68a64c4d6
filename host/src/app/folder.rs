//! The watched folder: a component that appears there is put into force under its file's name, one that changes replaces it, one that is removed
//! ends it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Core;
use super::versions::Origin;

/// A change is looked at when the folder has been quiet for this long, so that a file is not read while it is being written.
const QUIET: Duration = Duration::from_millis(100);
/// The folder is looked at this often whether or not the system told of a change: network folders tell nothing.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a file was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    changed: Option<SystemTime>,
}

/// Watches until the host stops.
pub(super) struct FolderWatch {
    folder: PathBuf,
    known: BTreeMap<String, Stamp>,
}

impl FolderWatch {
    /// Creates the folder if it is missing and takes what is in it into force.
    pub(super) async fn start(core: &Arc<Core>, folder: PathBuf) -> anyhow::Result<()> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create the transforms folder {}", folder.display()))?;
        let mut watch = FolderWatch { folder: folder.clone(), known: BTreeMap::new() };
        watch.look(core).await;
        let (changes, mut changed) = mpsc::channel(1);
        // A full channel already holds the news that something changed.
        let mut watcher = notify::recommended_watcher(move |_| {
            let _ = changes.try_send(());
        })?;
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch the transforms folder {}", folder.display()))?;
        let (core, mut shutdown) = (Arc::clone(core), core.shutdown.subscribe());
        tokio::spawn(async move {
            let _watcher = watcher;
            loop {
                tokio::select! {
                    _ = shutdown.changed() => return,
                    _ = changed.recv() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                while let Ok(Some(())) = tokio::time::timeout(QUIET, changed.recv()).await {}
                watch.look(&core).await;
            }
        });
        Ok(())
    }

    async fn look(&mut self, core: &Arc<Core>) {
        let found = match list(&self.folder) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), "cannot list the transforms folder: {error}");
                return;
            }
        };
        for name in self.known.keys().filter(|name| !found.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.known.remove(&name);
            if let Err(error) = core.remove(&name).await {
                tracing::warn!(transform = name, "cannot end the transform whose file is gone: {error:#}");
            }
        }
        for (name, (path, stamp)) in found {
            if self.known.insert(name.clone(), stamp) == Some(stamp) {
                continue;
            }
            match tokio::fs::read(&path).await {
                // What is wrong with it was logged, and is shown with the transform.
                Ok(component) => drop(core.declare(&name, component, None, Origin::Folder).await),
                Err(error) => tracing::warn!(path = %path.display(), "cannot read the component: {error}"),
            }
        }
    }
}

/// The components in a folder by their names.
fn list(folder: &Path) -> std::io::Result<BTreeMap<String, (PathBuf, Stamp)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        let (true, Some(name), Ok(about)) = (is_component, path.file_stem().and_then(|name| name.to_str()), path.metadata()) else {
            continue;
        };
        if about.is_file() {
            found.insert(name.to_owned(), (path.clone(), Stamp { bytes: about.len(), changed: about.modified().ok() }));
        }
    }
    Ok(found)
}
