//! What the commits of a partition tell of the book of versions, where hosts share one: under which revision they were made, and where
//! transforms have left a group for one of their own. Both stand in commits, so they are true whoever works on the partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::binding::Transforms;
use super::cuts::Swaps;
use super::{Pipeline, Stop};
use crate::model::{Commit, Cuts, EntryId, Partition, Place, Put};
use crate::online_store::{self, Writer, Writers};

/// What is kept where nothing had been applied when a group was left.
const NOWHERE: &str = "-";

/// The place to keep for a partition that has none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// After this entry.
    After(EntryId),
    /// Where the transforms have left this partition of another group.
    Left(Partition),
}

/// Revisions of the book of versions, as far as this host is; 0 where it shares the book with nobody.
#[derive(Debug, Default)]
pub struct Revisions {
    /// The newest that it knows: what it commits may be of that one already.
    known: AtomicU64,
    /// The newest of which it has taken over everything: what it commits is not older than that.
    in_force: AtomicU64,
}

impl Revisions {
    /// The next commits may be of this one.
    pub fn know(&self, revision: u64) {
        self.known.store(revision, Ordering::SeqCst);
    }

    /// All sets of transforms are as the newest one says.
    pub fn take_effect(&self) {
        self.in_force.store(self.known.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Pipeline {
    /// Refuses to work for a partition of which the last commit was made under a newer revision of the book than this host has taken over: what has
    /// gone from one version to the next would go back, and then forward again.
    pub(super) async fn check_revision(&self) -> Result<(), Stop> {
        if self.writers == Writers::Competing {
            return Ok(());
        }
        // What was met is handed out again for nothing, and every time counts, as long as it is not known what it is.
        if self.transforms.load().bindings().any(|binding| binding.others.wait()) {
            return Err(Stop::Behind);
        }
        let stored = self.stored_revision(&self.partition).await?;
        if stored > self.transforms.load().revisions.in_force.load(Ordering::SeqCst) { Err(Stop::Behind) } else { Ok(()) }
    }

    async fn stored_revision(&self, partition: &Partition) -> Result<u64, online_store::Error> {
        let stored = self.store.read(&[Cuts::revision_key(partition)]).await?.pop().flatten();
        Ok(stored.and_then(|stored| std::str::from_utf8(&stored).ok()?.parse().ok()).unwrap_or(0))
    }

    /// What a commit under this set carries, if the last one was made under an older revision.
    pub(super) async fn revision(&self, swaps: &mut Swaps, transforms: &Transforms) -> Result<Option<Put>, online_store::Error> {
        if self.writers == Writers::Competing {
            return Ok(None);
        }
        let stored = match swaps.revision {
            Some(stored) => stored,
            None => self.stored_revision(&self.partition).await?,
        };
        // Not a moment earlier than the set was made, so it may be too new, and is never too old.
        let known = transforms.revisions.known.load(Ordering::SeqCst);
        swaps.revision = Some(stored.max(known));
        Ok((known > stored).then(|| put_revision(&self.partition, known)))
    }

    /// Keeps where this group is for those that have left it, once for each.
    pub(super) async fn leave(&self, writer: &mut dyn Writer, swaps: &mut Swaps, transforms: &Arc<Transforms>) -> Result<(), Stop> {
        let leaving: Vec<String> = transforms.leaving.iter().filter(|group| !swaps.left.contains(*group)).cloned().collect();
        if leaving.is_empty() {
            return Ok(());
        }
        let keys: Vec<Vec<u8>> = leaving.iter().map(|group| Cuts::left_key(&self.of_group(group))).collect();
        let stored = self.store.read(&keys).await?;
        let unknown: Vec<Vec<u8>> = keys.into_iter().zip(stored).filter(|(_, stored)| stored.is_none()).map(|(key, _)| key).collect();
        if unknown.is_empty() {
            swaps.left.extend(leaving);
            return Ok(());
        }
        let Place { last, commits } = writer.place();
        let mut commit = Commit { number: commits + 1, last, ..Commit::default() };
        let cuts = self.cuts(swaps, transforms, last).await?.puts;
        cuts.into_iter().chain(unknown.into_iter().map(|key| put_left(key, last))).for_each(|put| commit.puts.push(put));
        writer.commit(&commit).await?;
        swaps.left.extend(leaving);
        tracing::info!(partition = %self.partition, place = ?last, "transforms have left the group");
        Ok(())
    }

    /// Keeps the place at which a partition that has none begins.
    pub(super) async fn begin(&self, writer: &mut dyn Writer) -> Result<(), Stop> {
        let Place { last: None, commits } = writer.place() else { return Ok(()) };
        let last = match &self.begin {
            None => None,
            Some(Begin::After(id)) => Some(*id),
            Some(Begin::Left(partition)) => self.left(partition).await?,
        };
        if last.is_some() {
            writer.commit(&Commit { number: commits + 1, last, ..Commit::default() }).await?;
        }
        Ok(())
    }

    /// Where the transforms have left the partition of another group. Its worker says so; where it has none any more, this one takes its place for
    /// a moment.
    async fn left(&self, of_group: &Partition) -> Result<Option<EntryId>, Stop> {
        let key = Cuts::left_key(&self.partition);
        if let Some(stored) = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten() {
            let text = String::from_utf8_lossy(&stored);
            let id = Some(&*text).filter(|text| *text != NOWHERE).map(str::parse::<EntryId>).transpose();
            return id.map_err(|error| online_store::Error::Corrupt(format!("where {of_group} was left: {error}")).into());
        }
        let revision = self.transforms.load().revisions.in_force.load(Ordering::SeqCst);
        let mut writer = self.store.writer(of_group, &self.writers).await?;
        let kept = async {
            if self.stored_revision(of_group).await? > revision {
                return Err(Stop::Behind);
            }
            let Place { last, commits } = writer.place();
            let mut commit = Commit { number: commits + 1, last, ..Commit::default() };
            commit.puts.push(put_left(key, last));
            commit.puts.push(put_revision(of_group, revision));
            writer.commit(&commit).await?;
            Ok(last)
        };
        let kept = kept.await;
        writer.release().await?;
        kept
    }

    /// This partition as another group reads it.
    fn of_group(&self, group: &str) -> Partition {
        Partition { group: group.to_owned(), ..self.partition.clone() }
    }
}

fn put_revision(partition: &Partition, revision: u64) -> Put {
    Put { key: Cuts::revision_key(partition), value: Some(Bytes::from(revision.to_string())), expires_at: None }
}

fn put_left(key: Vec<u8>, place: Option<EntryId>) -> Put {
    Put { key, value: Some(Bytes::from(place.map_or(NOWHERE.to_owned(), |id| id.to_string()))), expires_at: None }
}
