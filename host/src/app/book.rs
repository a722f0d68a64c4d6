//! The book: which versions there are and which are in force, what was said about transforms beside that, and the services that were put. It is kept
//! in the data folder with the components, so that a restart comes back with what was in force. Where the store is one that hosts share, it is kept
//! there, for all of them, and the folder has what this host has taken over of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::services::PutServices;
use super::standing::Standing;
use super::versions::{Versions, digest};
use crate::model::{Digest, Disposition};
use crate::online_store;
use crate::online_store::redis::{DocumentChange, Documents, RedisStore, Stamp, Written};
use crate::pipeline::Revisions;
use crate::serve::{Refusal, RefusalKind};

/// Times that a change is sent again because a component was forgotten meanwhile.
const SENDS_MAX: usize = 3;

/// What stands in the book.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pages {
    pub(super) versions: Versions,
    pub(super) standing: Standing,
    pub(super) services: PutServices,
}

/// Somebody else has changed the book since this host has looked.
#[derive(Debug, thiserror::Error)]
#[error("another host has changed what is in force at the same time; look at it and try again")]
pub(super) struct Outdated;

/// The book, and the folder of components.
pub(super) struct Book {
    folder: PathBuf,
    versions_max: usize,
    pages: Pages,
    shared: Option<Shared>,
}

/// Where all hosts find it.
struct Shared {
    store: Arc<RedisStore>,
    /// The revision that this host has taken over; none before the first.
    stamp: Option<Stamp>,
    /// Whether it was compared with the store's since the host started.
    is_compared: bool,
    /// Names the history of a book that this host begins.
    fresh_id: String,
    /// What the pipelines are told of it.
    revisions: Arc<Revisions>,
}

impl Shared {
    fn tell(&self) {
        self.revisions.know(self.stamp.as_ref().map_or(0, |stamp| stamp.revision));
    }
}

/// A revision in the folder.
#[derive(Serialize, Deserialize)]
struct Taken {
    id: String,
    revision: u64,
}

impl std::ops::Deref for Book {
    type Target = Pages;

    fn deref(&self) -> &Pages {
        &self.pages
    }
}

impl Book {
    /// What the folder has. With a store that hosts share, that is only where this host has left off.
    pub(super) fn open(
        folder: PathBuf,
        versions_max: usize,
        store: Option<Arc<RedisStore>>,
        host: &str,
        revisions: &Arc<Revisions>,
    ) -> anyhow::Result<Book> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let pages = Pages {
            versions: read_file(&folder.join(VERSIONS))?.unwrap_or_default(),
            standing: read_file(&folder.join(STANDING))?.unwrap_or_default(),
            services: read_file(&folder.join(SERVICES))?.unwrap_or_default(),
        };
        let taken: Option<Taken> = read_file(&folder.join(TAKEN))?;
        let shared = store.map(|store| Shared {
            store,
            stamp: taken.map(|Taken { id, revision }| Stamp { id, revision }),
            is_compared: false,
            fresh_id: format!("{host}-{}", crate::model::Timestamp::now().0),
            revisions: Arc::clone(revisions),
        });
        shared.iter().for_each(Shared::tell);
        Ok(Book { folder, versions_max, pages, shared })
    }

    /// The revision that is in force on this host; 0 where no other host shares the book.
    pub(super) fn revision(&self) -> u64 {
        self.stamp().map_or(0, |stamp| stamp.revision)
    }

    pub(super) fn stamp(&self) -> Option<&Stamp> {
        self.shared.as_ref()?.stamp.as_ref()
    }

    /// Whether nothing stands in it.
    pub(super) fn is_blank(&self) -> bool {
        self.pages == Pages::default()
    }

    /// Whether it is the one that all hosts have, as far as there are others.
    pub(super) fn is_compared(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.is_compared)
    }

    /// How many versions of a name are kept.
    pub(super) fn versions_max(&self) -> usize {
        self.versions_max
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

    /// Keeps a component that a page is to name. Whoever pushes one again may do so because the file was damaged.
    pub(super) fn keep_component(&self, digest: Digest, component: &[u8]) -> anyhow::Result<()> {
        if self.read(digest).is_err() {
            write_aside(&self.path(digest), component)?;
        }
        Ok(())
    }

    /// Changes it, where it is kept first.
    pub(super) async fn change<T>(&mut self, change: impl FnOnce(&mut Pages) -> T) -> anyhow::Result<T> {
        let mut pages = self.pages.clone();
        let done = change(&mut pages);
        if pages == self.pages {
            return Ok(done);
        }
        if self.shared.is_some() {
            self.send(&difference(&self.pages, &pages)?).await?;
            self.cache(&pages);
        } else {
            self.write(&pages)?;
        }
        self.set(pages);
        Ok(done)
    }

    /// Brings the store what this host has of the book, because the store has lost it, or has an older revision of it.
    pub(super) async fn bring(&mut self, stored: Option<&Stamp>) -> anyhow::Result<()> {
        let mut change = difference(&Pages::default(), &self.pages)?;
        change.needed.retain(|digest| self.read(*digest).is_ok());
        let Some(shared) = &mut self.shared else { return Ok(()) };
        let known = shared.stamp.take();
        (shared.is_compared, shared.stamp) = (true, stored.cloned());
        let floor = known.as_ref().map_or(0, |known| known.revision);
        if let (Some(known), None) = (&known, stored) {
            shared.fresh_id.clone_from(&known.id);
        }
        let sent = self.send_beyond(floor, &change).await;
        if let (Err(_), Some(shared)) = (&sent, &mut self.shared) {
            (shared.is_compared, shared.stamp) = (false, known);
        }
        sent?;
        self.cache(&self.pages);
        tracing::warn!(
            revision = self.revision(),
            "the store had not the newest versions and services that this host knows, and has them again"
        );
        Ok(())
    }

    /// What the store has is what this host has, or there is nothing to have.
    pub(super) fn is_as_stored(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.is_compared = true;
        }
    }

    /// Takes over what the store has.
    pub(super) fn take_over(&mut self, stamp: Stamp, pages: Pages) {
        if let Some(shared) = &mut self.shared {
            if shared.stamp.as_ref().is_some_and(|known| known.id != stamp.id) {
                tracing::warn!("the store has other versions and services than those that this host has known so far, which are forgotten");
            }
            (shared.is_compared, shared.stamp) = (true, Some(stamp));
            shared.tell();
        }
        self.cache(&pages);
        self.set(pages);
    }

    async fn send(&mut self, change: &DocumentChange) -> anyhow::Result<()> {
        self.send_beyond(0, change).await
    }

    /// Sends a change of the revision that this host knows.
    async fn send_beyond(&mut self, floor: u64, change: &DocumentChange) -> anyhow::Result<()> {
        let Some(shared) = self.shared.as_ref().filter(|shared| shared.is_compared) else { bail!(Outdated) };
        let known = shared.stamp.as_ref().map_or(0, |stamp| stamp.revision);
        for _ in 0..SENDS_MAX {
            for digest in &change.needed {
                shared.store.put_component(*digest, &self.read(*digest)?).await?;
            }
            match shared.store.change_documents(known, floor, &shared.fresh_id, change).await? {
                Written::Missing => {}
                Written::Changed => bail!(Outdated),
                Written::Written(stamp) => {
                    if let Some(shared) = &mut self.shared {
                        shared.stamp = Some(stamp);
                        shared.tell();
                    }
                    return Ok(());
                }
            }
        }
        bail!("a component was lost again and again while it was sent to the store; try again")
    }

    /// Keeps in the folder what the store has. Should that fail, it is read from the store again.
    fn cache(&self, pages: &Pages) {
        let taken = self.stamp().map(|stamp| Taken { id: stamp.id.clone(), revision: stamp.revision });
        let kept = self.write(pages).and_then(|()| write_aside(&self.folder.join(TAKEN), &serde_json::to_vec(&taken)?));
        if let Err(error) = kept {
            tracing::warn!("cannot keep in the data folder which versions and services there are: {error:#}");
        }
    }

    fn write(&self, pages: &Pages) -> anyhow::Result<()> {
        if pages.versions != self.pages.versions {
            write_aside(&self.folder.join(VERSIONS), &serde_json::to_vec(&pages.versions)?)?;
        }
        if pages.standing != self.pages.standing {
            write_aside(&self.folder.join(STANDING), &serde_json::to_vec_pretty(&pages.standing)?)?;
        }
        if pages.services != self.pages.services {
            write_aside(&self.folder.join(SERVICES), &serde_json::to_vec_pretty(&pages.services)?)?;
        }
        Ok(())
    }

    fn set(&mut self, pages: Pages) {
        for gone in self.pages.versions.components().difference(&pages.versions.components()) {
            match std::fs::remove_file(self.path(*gone)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(component = %gone, "cannot delete a component that no version names any more: {error}");
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.pages = pages;
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

const VERSIONS: &str = "versions.json";
const STANDING: &str = "standing.json";
const SERVICES: &str = "services.json";
const TAKEN: &str = "taken.json";

/// The documents of pages: one for each name that has versions, so that a change sends little.
fn documents(pages: &Pages) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut documents = BTreeMap::new();
    for (name, history) in &pages.versions.names {
        documents.insert(format!("{OF_NAME}{name}"), serde_json::to_vec(history)?);
    }
    documents.insert("standing".to_owned(), serde_json::to_vec(&pages.standing)?);
    documents.insert("services".to_owned(), serde_json::to_vec(&pages.services)?);
    Ok(documents)
}

/// What the documents of versions begin with.
const OF_NAME: &str = "versions ";

/// The pages of documents.
pub(super) fn pages(documents: &Documents) -> anyhow::Result<Pages> {
    let mut pages = Pages::default();
    for (name, document) in &documents.documents {
        let damaged = || format!("`{name}` in the store's book is damaged");
        match (name.strip_prefix(OF_NAME), name.as_str()) {
            (Some(of), _) => {
                pages.versions.names.insert(of.to_owned(), serde_json::from_slice(document).with_context(damaged)?);
            }
            (None, "standing") => pages.standing = serde_json::from_slice(document).with_context(damaged)?,
            (None, "services") => pages.services = serde_json::from_slice(document).with_context(damaged)?,
            (None, _) => {}
        }
    }
    Ok(pages)
}

/// What must be written so that one state becomes the other.
fn difference(from: &Pages, to: &Pages) -> anyhow::Result<DocumentChange> {
    let (old, new) = (documents(from)?, documents(to)?);
    let put = new.iter().filter(|(name, document)| old.get(*name) != Some(*document));
    let put = put.map(|(name, document)| (name.clone(), Some(document.clone())));
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), None));
    let (before, after) = (from.versions.components(), to.versions.components());
    Ok(DocumentChange {
        documents: put.chain(gone).collect(),
        needed: after.difference(&before).copied().collect(),
        dropped: before.difference(&after).copied().collect(),
    })
}

/// What a request is told whose change could not be written.
pub(super) fn not_written(error: &anyhow::Error) -> Refusal {
    let kind = if error.is::<Outdated>() { RefusalKind::Conflict } else { RefusalKind::Unavailable };
    Refusal { kind, message: format!("{error:#}") }
}

/// Whether it was the store that failed, which may work in a moment.
pub(super) fn is_of_store(error: &anyhow::Error) -> bool {
    error.downcast_ref::<online_store::Error>().is_some_and(|error| error.disposition() == Disposition::Retry)
}

fn read_file<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(file) {
        Ok(text) => {
            Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", file.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes a file so that after a crash it is either the old one or the new one.
pub(super) fn write_aside(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}
