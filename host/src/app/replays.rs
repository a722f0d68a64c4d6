//! Dead letters that are to be tried again: by the pipelines of this host, or by the hosts that hold their partitions.
//!
//! What only another host can try is left in the store for whoever holds the partition, and what comes of it is seen by the dead letters themselves: one that is gone
//! has been used, one that was given up anew has another time. So no host need know where another one is, nothing is lost with an answer, and an event counts once
//! however often it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Core;
use super::workers::ConsumerGroup;
use crate::model::{DeadLetter, DeadLetterId, DeadLetterQuery, Partition, Timestamp};
use crate::online_store::Error;
use crate::pipeline::{self, Health, Replay};
use crate::serve::{Refusal, RefusalKind, ReplayWanted, Replayed};

/// Between two looks at what another host is to try again: at first, and at last.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(50);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// How long to wait for another host beyond two leases, in which somebody holds the partition.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who can try the dead letters of a partition.
enum Way {
    Here(mpsc::Sender<Replay>),
    /// Another host, if this store has others; and else this one, once it gets round to it.
    Elsewhere(Partition, mpsc::Sender<Replay>),
}

/// When each was given up that is to be tried elsewhere.
type Awaited = BTreeMap<DeadLetterId, Timestamp>;

impl Core {
    /// Tries dead letters again, those of each partition where that is worked on.
    pub(super) async fn replay(&self, wanted: ReplayWanted) -> Result<Replayed, Refusal> {
        let mut groups: BTreeMap<(String, Option<u32>, String), Awaited> = BTreeMap::new();
        for DeadLetter { id, at, .. } in self.letters(wanted).await? {
            groups.entry((id.stream.clone(), id.partition, id.transform.clone())).or_default().insert(id, at);
        }
        let (mut here, mut awaited) = (Vec::new(), Awaited::new());
        for ((stream, partition, transform), letters) in groups {
            let ids: BTreeSet<DeadLetterId> = letters.keys().cloned().collect();
            match self.way(&stream, partition, &transform).await? {
                Way::Here(sender) => here.push((stream, sender, ids)),
                Way::Elsewhere(at, sender) => match self.store.as_store().dead_letters().ask(&at, &ids).await.map_err(refused)? {
                    true => awaited.extend(letters),
                    false => here.push((stream, sender, ids)),
                },
            }
        }
        let mut outcome = Replayed::default();
        for (stream, sender, ids) in here {
            let gone = |_| unavailable(format!("stream `{stream}` is starting over; try again"));
            let (reply, answer) = oneshot::channel();
            sender.send(Replay { ids, reply }).await.map_err(|_| gone(()))?;
            let pipeline::Replayed { tried, settled } = answer.await.map_err(|_| gone(()))?.map_err(unavailable)?;
            outcome.replayed += tried;
            outcome.settled += settled;
            outcome.still_dead += tried - settled.min(tried);
        }
        self.tried_elsewhere(awaited, &mut outcome).await?;
        Ok(outcome)
    }

    /// Waits for other hosts, and adds what has come of it.
    async fn tried_elsewhere(&self, mut awaited: Awaited, outcome: &mut Replayed) -> Result<(), Refusal> {
        let patience = Duration::from_millis(self.lease_ms() * 2) + PATIENCE;
        let until = Instant::now() + patience.min(Duration::from_millis(self.config.http.request_timeout_ms / 2));
        let mut pause = LOOK_EVERY_MIN;
        while !awaited.is_empty() && Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_EVERY_MAX);
            let found = self.list_letters(by_ids(awaited.keys().cloned().collect())).await?;
            let found: Awaited = found.into_iter().map(|letter| (letter.id, letter.at)).collect();
            awaited.retain(|id, before| {
                match found.get(id) {
                    Some(at) if at == before => return true,
                    Some(_) => outcome.still_dead += 1,
                    None => outcome.settled += 1,
                }
                outcome.replayed += 1;
                false
            });
        }
        outcome.waiting = awaited.len() as u64;
        Ok(())
    }

    /// Where the pipeline is that a transform runs in; of a stream where it does not run, that of the stream's own group, which says so.
    async fn way(&self, stream: &str, partition: Option<u32>, transform: &str) -> Result<Way, Refusal> {
        let registry = self.registry.lock().await;
        let reading = registry.active.get(transform).and_then(|active| active.reading.as_ref());
        let shared = || ConsumerGroup { stream: stream.to_owned(), name: self.stream_config(stream).group.to_string() };
        let group = reading.map(|reading| reading.group.clone()).filter(|group| group.stream == stream).unwrap_or_else(shared);
        let workers = self.workers.lock().await;
        let worker = workers.get(&group).ok_or_else(|| {
            let message = format!(
                "transform `{transform}` reads nothing of stream `{stream}` any more; load it first, or drop what it could not use"
            );
            Refusal { kind: RefusalKind::Conflict, message }
        })?;
        let running = worker.pipelines.iter().find(|running| running.partition.number() == partition);
        let running = running.ok_or_else(|| unavailable("the stream had other partitions when the event became a dead letter".into()))?;
        let (health, sender) = (running.health.borrow().clone(), running.replays.clone());
        Ok(match health {
            Health::Running => Way::Here(sender),
            // It may be another host that goes on; if it is this one after all, it finds what it was asked for in the store.
            Health::Starting | Health::StandingBy(_) | Health::Waiting(_) | Health::Stopped => {
                Way::Elsewhere(running.partition.clone(), sender)
            }
        })
    }

    async fn letters(&self, wanted: ReplayWanted) -> Result<Vec<DeadLetter>, Refusal> {
        let ids = match wanted {
            ReplayWanted::Matching(query) => return self.list_letters(query).await,
            ReplayWanted::Ids(ids) => ids,
        };
        let all = self.list_letters(by_ids(ids.iter().cloned().collect())).await?;
        let found: BTreeMap<_, _> = all.into_iter().map(|letter| (letter.id.clone(), letter)).collect();
        let pick = |id| {
            let missing = || Refusal { kind: RefusalKind::NotFound, message: format!("there is no dead letter {id}") };
            found.get(&id).cloned().ok_or_else(missing)
        };
        ids.into_iter().map(pick).collect()
    }

    async fn list_letters(&self, query: DeadLetterQuery) -> Result<Vec<DeadLetter>, Refusal> {
        self.store.as_store().dead_letters().list(&query).await.map_err(refused)
    }
}

fn by_ids(ids: BTreeSet<DeadLetterId>) -> DeadLetterQuery {
    DeadLetterQuery { ids: Some(ids), limit: usize::MAX, ..DeadLetterQuery::default() }
}

fn unavailable(message: String) -> Refusal {
    Refusal { kind: RefusalKind::Unavailable, message }
}

fn refused(error: Error) -> Refusal {
    unavailable(error.to_string())
}
