//! Dead letters that are tried again, at their own places among the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::cuts::Swaps;
use super::{Pipeline, Stop, batch};
use crate::model::{Commit, DeadLetter, DeadLetterId, DeadLetterQuery};
use crate::online_store::Writer;

/// Dead letters to be tried again by the transform they came from, at their own places.
pub struct Replay {
    /// All of one transform and of this pipeline's stream.
    pub ids: BTreeSet<DeadLetterId>,
    /// Receives what came of it, or why nothing was tried.
    pub reply: oneshot::Sender<Result<Replayed, String>>,
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Tried again: those that were still there.
    pub tried: u64,
    /// Those of them that did not become dead letters again.
    pub settled: u64,
}

/// Dead letters that other hosts were asked to have tried again, at most this many between two batches.
const ASKED_MAX: usize = 10_000;

impl Pipeline {
    /// Tries what other hosts were asked to have tried again of this partition. Only the host that holds it can; who asked sees what came of it by looking at the
    /// dead letters.
    pub(super) async fn replay_asked(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        swaps: &mut Swaps,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        let asked = match writer.asked(ASKED_MAX).await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::debug!(partition = %self.partition, "cannot see which dead letters are to be tried again, will look again: {error}");
                return Ok(());
            }
        };
        let mut of: BTreeMap<String, BTreeSet<DeadLetterId>> = BTreeMap::new();
        for id in asked {
            of.entry(id.transform.clone()).or_default().insert(id);
        }
        for ids in of.into_values() {
            tracing::info!(partition = %self.partition, count = ids.len(), "another host was asked to have dead letters tried again");
            self.replay(writer, Replay { ids, reply: oneshot::channel().0 }, swaps, shutdown).await?;
        }
        Ok(())
    }

    pub(super) async fn replay(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        replay: Replay,
        swaps: &mut Swaps,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        let Replay { ids, reply } = replay;
        let transforms = self.transforms.load_full();
        let name = ids.first().map(|id| id.transform.clone()).unwrap_or_default();
        let Some(only) = transforms.only(self.format.clone(), &name) else {
            // Nobody waiting for the answer is no reason to fail.
            let _ = reply.send(Err(format!("no transform `{name}` runs on this stream; load it first")));
            return Ok(());
        };
        // Read here and not where they were asked for: another replay may have settled some since, and an event counts once.
        let query = DeadLetterQuery { ids: Some(ids), limit: usize::MAX, ..DeadLetterQuery::default() };
        let mut letters = self.store.dead_letters().list(&query).await?;
        if letters.is_empty() {
            let _ = reply.send(Ok(Replayed::default()));
            return Ok(());
        }
        // In the order of the stream, as the first time.
        letters.sort_by_key(|letter| letter.id.entry_id);
        let delivery = Arc::new(batch::redeliver(&letters));
        // States and windows that this version writes are not to be met by a host that does not know of it yet.
        let revision = self.revision(swaps, &transforms).await?;
        let complete = |commit: &mut Commit| {
            revision.iter().for_each(|put| commit.puts.push(put.clone()));
            let still_dead = |letter: &&DeadLetter| !commit.dead_letters.iter().any(|dead| dead.id == letter.id);
            commit.settled_dead_letters = letters.iter().filter(still_dead).map(|letter| letter.id.clone()).collect();
        };
        let built = self.build_and_commit(writer, &Arc::new(only), &delivery, complete, shutdown).await?;
        let settled = built.commit.settled_dead_letters.len() as u64;
        let _ = reply.send(Ok(Replayed { tried: letters.len() as u64, settled }));
        Ok(())
    }
}
