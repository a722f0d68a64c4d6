//! The folder in which a host keeps everything that must outlive it: the database that the embedded store and the embedded log share,
//! components, compiled code, and the host's own name.
//!
//! Invariant: one process at a time has the folder open; an exclusive lock on `lock` sees to it, and the system gives it back when the
//! process dies. A write that was cut short by a crash is dropped whole by the database's recovery: a batch is there entirely or not at all.

mod journal;
pub(crate) mod log_codec;
mod log_end;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode};

use log_end::LogEnds;
pub use log_end::Retention;
pub(crate) use log_end::{Appending, LogEnd, log_name};

/// Version of the folder's layout that this host writes, and the greatest that it reads.
const FORMAT: u32 = 1;
/// Journals on disk, at most: bounds what a restart replays. The engine's default grew to more than half a gigabyte.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Rows gathered in memory, for each keyspace, before they go to disk as a sorted table.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a value from which on it lies apart from its key.
const APART_BYTES_MIN: u32 = 256;
/// Threads that write tables and merge them. Of several, the engine keeps the first from merging, and as long as there is something to merge, that one takes the order and hands it
/// back without a pause: a whole core for nothing.
const WORKERS: usize = 1;

/// When a commit is safe from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on disk before it is acknowledged: survives the loss of power.
    Sync,
    /// Every commit is with the system before it is acknowledged, which survives the death of the process, and goes to disk at the
    /// latest after this many milliseconds.
    Interval {
        /// Milliseconds between two syncs; at least 1.
        sync_ms: u64,
    },
}

/// How to open a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// When commits reach the disk.
    pub durability: Durability,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 32 * 1024 * 1024, durability: Durability::Interval { sync_ms: 100 } }
    }
}

/// An open data folder. Clones share it; it closes when the last is dropped.
#[derive(Clone)]
pub struct DataFolder {
    inner: Arc<Inner>,
}

/// Exclusive use of one thing in the folder by one part of this process; given back when dropped.
pub struct Claim {
    folder: DataFolder,
    name: String,
}

struct Inner {
    path: PathBuf,
    host_id: String,
    durability: Durability,
    claimed: Mutex<HashSet<String>>,
    log_ends: LogEnds,
    unsynced: Arc<AtomicBool>,
    /// Whether a commit failed; the database takes no more after that.
    broken: AtomicBool,
    syncer: Option<(Sender<()>, JoinHandle<()>)>,
    database: Database,
    // Last, so that the lock outlives the database.
    _lock: File,
}

/// What went wrong with the data folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it cannot be made, read or written.
    #[error("cannot use the data folder {}: {reason}", path.display())]
    Io {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Another host has it open.
    #[error("the data folder {} is in use by another host; stop that host, or give this one a folder of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error("the data folder {} has format {found:?}, and this version reads formats up to {FORMAT}; use the newer version", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// Two parts of this process want the same thing.
    #[error("{name} in the data folder is already open in this process")]
    Claimed {
        /// What was asked for.
        name: String,
    },
    /// The database failed.
    #[error("the database in the data folder {} failed: {reason}", path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl DataFolder {
    /// Opens the folder, and makes it when there is none, readable by this user only. Blocks while the database recovers.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<DataFolder, Error> {
        make_folder(path.as_ref())?;
        let path = path.as_ref().canonicalize().map_err(at(path.as_ref()))?;
        let lock = lock(&path)?;
        check_format(&path)?;
        let host_id = host_id(&path)?;
        for folder in ["components", "compile_cache"] {
            make_folder(&path.join(folder))?;
        }
        drop_torn_end(&path)?;
        let database = Database::builder(path.join("database"))
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            // What is packed hardly gets smaller, and trying costs more than writing it.
            .journal_compression(CompressionType::None)
            .open()
            .map_err(|error| Error::Database { path: path.clone(), reason: error.to_string() })?;
        let unsynced = Arc::new(AtomicBool::new(false));
        let syncer = match options.durability {
            Durability::Sync => None,
            Durability::Interval { sync_ms } => Some(start_syncer(&path, &database, &unsynced, sync_ms)?),
        };
        let claimed = Mutex::default();
        let inner = Inner {
            path,
            host_id,
            durability: options.durability,
            claimed,
            log_ends: LogEnds::default(),
            unsynced,
            broken: AtomicBool::new(false),
            syncer,
            database,
            _lock: lock,
        };
        Ok(DataFolder { inner: Arc::new(inner) })
    }

    /// Where it is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The name of this host, for leases: chosen at random when the folder was made, and stable since.
    pub fn host_id(&self) -> &str {
        &self.inner.host_id
    }

    /// The folder for components that were pushed to this host.
    pub fn components(&self) -> PathBuf {
        self.inner.path.join("components")
    }

    /// The folder for compiled code.
    pub fn compile_cache(&self) -> PathBuf {
        self.inner.path.join("compile_cache")
    }

    /// Takes a thing in the folder for one part of this process, so that no other can open it by mistake.
    pub fn claim(&self, name: &str) -> Result<Claim, Error> {
        let fresh = self.inner.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        if !fresh {
            return Err(Error::Claimed { name: name.to_owned() });
        }
        Ok(Claim { folder: self.clone(), name: name.to_owned() })
    }

    /// Opens one ordered map of the database. `name` is 1 to 255 ASCII letters and `_`.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, Error> {
        self.open_keyspace(name, KeyspaceCreateOptions::default)
    }

    /// Opens one whose values are replaced again and again, and may be large. Those from 256 bytes on lie in files beside the sorted tables, which have only where:
    /// so what it costs to write one does not grow with how many there are, for tables are merged and written again, and values are not. A keyspace that an older
    /// version of this program made stays as it was made.
    pub fn keyspace_of_values(&self, name: &str) -> Result<Keyspace, Error> {
        let apart = || KvSeparationOptions::default().separation_threshold(APART_BYTES_MIN).compression(CompressionType::None);
        self.open_keyspace(name, || KeyspaceCreateOptions::default().with_kv_separation(Some(apart())))
    }

    fn open_keyspace(&self, name: &str, options: impl FnOnce() -> KeyspaceCreateOptions) -> Result<Keyspace, Error> {
        let options = || options().max_memtable_size(MEMTABLE_BYTES);
        self.inner.database.keyspace(name, options).map_err(|error| self.failed(&error))
    }

    /// Starts a batch; apply it with [`DataFolder::commit`].
    pub fn batch(&self) -> OwnedWriteBatch {
        self.inner.database.batch()
    }

    /// Applies a batch, all or nothing, as durably as the folder's options say. Blocks.
    pub fn commit(&self, batch: OwnedWriteBatch) -> Result<(), Error> {
        // Said for every batch: one whose durability is unset stays in this process's memory, and dies with it.
        let mode = match self.inner.durability {
            Durability::Sync => PersistMode::SyncData,
            Durability::Interval { .. } => PersistMode::Buffer,
        };
        batch.durability(Some(mode)).commit().map_err(|error| {
            self.inner.broken.store(true, Ordering::Release);
            self.failed(&error)
        })?;
        self.inner.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether commits succeed as far as is known.
    pub fn takes_commits(&self) -> bool {
        !self.inner.broken.load(Ordering::Acquire)
    }

    /// An error of the database, with the folder's name.
    pub fn failed(&self, error: &fjall::Error) -> Error {
        Error::Database { path: self.inner.path.clone(), reason: error.to_string() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.folder.inner.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.syncer.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!(folder = %self.path.display(), "the thread that syncs the data folder has panicked");
            }
        }
        if let Err(error) = self.database.persist(PersistMode::SyncAll) {
            tracing::error!(folder = %self.path.display(), %error, "cannot sync the data folder while closing it");
        }
    }
}

fn start_syncer(path: &Path, database: &Database, unsynced: &Arc<AtomicBool>, sync_ms: u64) -> Result<(Sender<()>, JoinHandle<()>), Error> {
    let (stop, stopped) = channel::<()>();
    let (database, unsynced, folder) = (database.clone(), unsynced.clone(), path.to_owned());
    let run = move || {
        while stopped.recv_timeout(Duration::from_millis(sync_ms.max(1))) == Err(RecvTimeoutError::Timeout) {
            if !unsynced.swap(false, Ordering::AcqRel) {
                continue;
            }
            if let Err(error) = database.persist(PersistMode::SyncData) {
                // The engine refuses every later commit after a failed sync, so that the error reaches those who wait for one.
                tracing::error!(folder = %folder.display(), %error, "cannot sync the data folder");
            }
        }
    };
    let thread = std::thread::Builder::new().name("data-folder-sync".into()).spawn(run).map_err(at(path))?;
    Ok((stop, thread))
}

/// Drops what a crash has cut short, and says so: with [`Durability::Sync`] nobody was told that it is there.
fn drop_torn_end(folder: &Path) -> Result<(), Error> {
    let aside = folder.join("torn_end");
    if let Some(cut) = journal::cut_torn_end(&folder.join("database"), &aside).map_err(at(folder))? {
        let (journal, aside) = (cut.journal.display(), aside.display());
        tracing::warn!(
            bytes = cut.bytes,
            at = cut.at,
            "the end of {journal} was cut short by a crash and is dropped; it is kept as {aside}"
        );
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(at(path))
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(reason)) => Err(Error::Io { path, reason }),
    }
}

fn check_format(folder: &Path) -> Result<(), Error> {
    let Some(found) = read_or_make(folder, "format", || format!("{FORMAT}\n"))? else { return Ok(()) };
    match found.trim().parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(()),
        _ => Err(Error::Newer { path: folder.to_owned(), found: found.trim().chars().take(32).collect() }),
    }
}

fn host_id(folder: &Path) -> Result<String, Error> {
    let fresh = || {
        let random = || std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), std::process::id());
        format!("{:016x}{:016x}", random(), random())
    };
    if let Some(found) = read_or_make(folder, "host_id", fresh)? {
        return Ok(found.trim().to_owned());
    }
    Ok(read_or_make(folder, "host_id", String::new)?.unwrap_or_default().trim().to_owned())
}

/// The content of a small file, or `None` after making it. Made aside and renamed, so that a crash leaves no half of it.
fn read_or_make(folder: &Path, name: &str, content: impl FnOnce() -> String) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(found) => return Ok(Some(found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(reason) => return Err(Error::Io { path, reason }),
    }
    let aside = folder.join(format!("{name}.new"));
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(content().as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)
    });
    written.map_err(at(&path))?;
    Ok(None)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |reason| Error::Io { path, reason }
}
