//! The event path: `read → decode → apply → commit → settle`, one loop for each partition of a stream.
//!
//! The guarantee, before any code: **kill the host at any moment, and what is stored equals what a run that was never killed would have
//! stored.** It rests on three rules.
//!
//! 1. Everything that a batch changes (rows, dead letters, the place, and the acknowledgement where stream and store are the same server) is one
//!    [`Commit`], which a store applies as a whole or not at all.
//! 2. A commit has a number, and the store refuses to apply a number twice: a commit whose outcome is unknown is simply sent again.
//! 3. What is read again after a crash gives the same rows with the same versions (event time, entry id), and a row never replaces one of the same or
//!    a newer version. So an entry that is delivered twice changes nothing the second time, even where hosts compete for entries.
//! 4. States, windows and what goes on to another stream are not like that, and versions of a transform are not: an entry counts once, and is applied by one
//!    version. Where the acknowledgement is a step of its own, the ids that are still to be acknowledged are part of the commit that applies them, and are
//!    left out when they are delivered again. One worker at a time applies them, in order.
//! 5. Which version applied which entries is part of the commit too: see [`crate::model::Cut`].
//!
//! Errors are settled here and nowhere else: *retry* waits with bounded backoff and sends the same again, *reject* makes a dead letter, *stop*
//! drops the batch, gives up the writer, and starts over from what is stored.
//!
//! Decoding and Wasm calls block, so they run on a thread of their own, while the loop keeps the lease: a batch may take longer than the lease lasts.

mod batch;
mod binding;
mod build;
mod collect;
mod cuts;
mod emit;
mod fold;
mod keep;
mod owed;
mod read_ahead;
mod refused;
mod replay;
mod revision;
mod shadow;
mod share;
mod states;
mod stop;
mod stored;
pub mod trial;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_like::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::changes::Changes;
use crate::model::{Commit, Disposition, EntryId, Format, Partition, Place, Timestamp};
use crate::online_store::{OnlineStore, Writer, Writers};
use crate::source::{self, Delivery, Source};
use crate::telemetry::{Stage, StreamTelemetry};

use batch::Built;
pub use binding::{Binding, OtherStates, Others, Transforms};
use cuts::Swaps;
pub use emit::Emit;
use owed::Owed;
use read_ahead::ReadAhead;
pub use replay::{Replay, Replayed};
pub use revision::{Begin, Revisions};
pub use shadow::{Shadow, difference};
pub use share::{Sharing, Turn};
use stop::Stop;

mod futures_like {
    //! A boxed future, the one thing that would be wanted from a crate of futures.
    pub(super) type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;
}

/// Opens the partition's source at the place that the store knows. Called again after every stop.
pub type OpenSource = Box<dyn Fn(Place) -> BoxFuture<Result<Arc<dyn Source>, source::Error>> + Send + Sync>;

/// The longest wait between two tries of the same thing.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The first wait.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// One partition of a stream, its transforms and its store.
pub struct Pipeline {
    /// What is worked on.
    pub partition: Partition,
    /// Who else may.
    pub writers: Writers,
    /// Whose turn it is, where hosts share the stream by its partitions.
    pub turn: Option<watch::Receiver<Turn>>,
    /// Where rows go.
    pub store: Arc<dyn OnlineStore>,
    /// Where entries come from.
    pub open_source: OpenSource,
    /// The place to keep for a partition that has none yet, where it must outlive a restart before the first batch.
    pub begin: Option<Begin>,
    /// How events stand in the entries.
    pub format: Format,
    /// Entries in one batch, at most.
    pub batch_events_max: usize,
    /// The transforms in force; looked at once a batch.
    pub transforms: Arc<ArcSwap<Transforms>>,
    /// Where it counts.
    pub telemetry: StreamTelemetry,
    /// Where it tells those who listen what was committed.
    pub changes: Arc<Changes>,
    /// What it is doing, for readiness.
    pub health: watch::Sender<Health>,
    /// The greatest entry id that is applied, once that is known.
    pub progress: watch::Sender<Option<EntryId>>,
}

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Opening its store and source.
    Starting,
    /// Reading and committing.
    Running,
    /// Ready to take over from the host that holds the partition's lease.
    StandingBy(String),
    /// Waiting to try again what failed, for the reason given.
    Waiting(String),
    /// Ended on request.
    Stopped,
}

impl Pipeline {
    /// Works until `shutdown` turns true, and then finishes the batch in hand.
    pub async fn run(self, mut replays: mpsc::Receiver<Replay>, mut shutdown: watch::Receiver<bool>) {
        let pipeline = Arc::new(self);
        let (mut backoff, mut turn, mut known) = (BACKOFF_MIN, pipeline.turn.clone(), Place::default());
        while !*shutdown.borrow() {
            if let Some(turn) = &mut turn {
                turn.mark_unchanged();
            }
            if !pipeline.may_work() {
                tokio::select! {
                    () = share::changed(&mut turn) => {}
                    _ = shutdown.changed() => {}
                }
                continue;
            }
            match pipeline.session(&mut replays, &mut shutdown, (&mut backoff, &mut known)).await {
                Ok(()) | Err(Stop::Shutdown) => break,
                Err(stop) => {
                    pipeline.report(&stop, &mut known);
                    let mut standby = pipeline.standby(&stop);
                    let wait = pipeline.wait(standby.as_mut().unwrap_or(&mut backoff), &mut shutdown);
                    tokio::select! {
                        _ = wait => {}
                        () = share::changed(&mut turn) => {}
                    }
                }
            }
        }
        pipeline.health.send_replace(Health::Stopped);
    }

    /// One writer, one source, batch after batch, until something says stop.
    async fn session(
        self: &Arc<Self>,
        replays: &mut mpsc::Receiver<Replay>,
        shutdown: &mut watch::Receiver<bool>,
        (backoff, known): (&mut Duration, &mut Place),
    ) -> Result<(), Stop> {
        let is_own = self.turn.as_ref().is_none_or(|turn| *turn.borrow() == Turn::Own);
        let mut given_up = std::pin::pin!(self.turn_is_over(is_own));
        let mut swaps = Swaps::default();
        let (mut writer, mut transforms) = self.take(is_own, known, &mut swaps).await?;
        let source = (self.open_source)(writer.place()).await?;
        self.progress.send_replace(writer.place().last);
        self.health.send_replace(Health::Running);
        self.telemetry.holds(true);
        tracing::info!(partition = %self.partition, place = ?writer.place(), "running");
        // Before anything is read, so that nothing is on its way that has been applied.
        let is_kept = source.redelivers() && !writer.acknowledges() && self.writers != Writers::Competing;
        let mut owed = self.owed(is_kept, &*source).await?;
        let mut read_ahead = ReadAhead::start(Arc::clone(&source), self);
        let mut renew = tokio::time::interval(self.renewal());
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            let step = tokio::select! {
                biased;
                _ = shutdown.changed() => break Err(Stop::Shutdown),
                () = &mut given_up => break Err(Stop::NotOurs),
                _ = renew.tick() => {
                    if !owed.ids.is_empty() {
                        self.acknowledge(&*source, Vec::new(), &mut owed).await;
                    }
                    match self.renew(&mut *writer).await {
                        Ok(()) => self.replay_asked(&mut *writer, &mut swaps, shutdown).await,
                        stop => stop,
                    }
                }
                () = transforms.replaced() => {
                    transforms = self.transforms.load_full();
                    self.leave(&mut *writer, &mut swaps, &transforms).await
                }
                Some(replay) = replays.recv() => self.replay(&mut *writer, replay, &mut swaps, shutdown).await,
                delivery = read_ahead.next() => match delivery {
                    Ok(delivery) => self.batch(&mut *writer, &*source, delivery, (&mut owed, &mut swaps), shutdown).await,
                    Err(error) => Err(error.into()),
                },
            };
            match step {
                Ok(()) => *backoff = BACKOFF_MIN,
                Err(stop) => break Err(stop),
            }
        };
        // Entries read ahead and not yet committed are simply forgotten: they are still in the stream.
        drop(read_ahead);
        self.telemetry.holds(false);
        *known = writer.place();
        self.release(writer).await;
        ended
    }

    /// Takes the partition, if this host is as far as whoever has worked on it.
    async fn take(
        self: &Arc<Self>,
        is_own: bool,
        known: &mut Place,
        swaps: &mut Swaps,
    ) -> Result<(Box<dyn Writer>, Arc<Transforms>), Stop> {
        // Before it is asked for, so that who is behind keeps nobody from taking it.
        self.check_revision().await?;
        let mut writer = self.store.writer(&self.partition, &self.writers_now(is_own)).await?;
        self.compare(known, writer.place());
        let begun = async {
            self.check_revision().await?;
            // Not a set from before that.
            let transforms = self.transforms.load_full();
            self.begin(&mut *writer).await?;
            self.leave(&mut *writer, swaps, &transforms).await.map(|()| transforms)
        };
        match begun.await {
            Ok(transforms) => Ok((writer, transforms)),
            Err(stop) => {
                self.release(writer).await;
                Err(stop)
            }
        }
    }

    async fn release(&self, writer: Box<dyn Writer>) {
        if let Err(error) = writer.release().await {
            tracing::debug!(partition = %self.partition, "could not give up the lease: {error}");
        }
    }

    /// A place only ever goes on, whoever works on the partition. One that is behind what this host has seen of it belongs to a store that has less than it had, and the session
    /// before may have ended for another reason before it noticed.
    fn compare(&self, known: &mut Place, found: Place) {
        let known = std::mem::replace(known, found);
        if self.writers != Writers::Competing && (found.commits < known.commits || found.last < known.last) {
            tracing::warn!(partition = %self.partition, ?known, ?found, "the store has less than it had: it was emptied, or restored from an earlier moment");
            self.telemetry.places_lost();
        }
    }

    /// The loop's body: what was delivered is decoded, applied, committed and settled.
    async fn batch(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        source: &dyn Source,
        delivery: Delivery,
        (owed, swaps): (&mut Owed, &mut Swaps),
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        let taken_up = std::time::Instant::now();
        if delivery.lost > 0 {
            tracing::warn!(partition = %self.partition, lost = delivery.lost, "entries are gone from the stream that were never applied");
            self.telemetry.entries_lost(delivery.lost);
        }
        let delivery = owed.leave_out(delivery);
        if delivery.entries.is_empty() {
            return Ok(());
        }
        let transforms = self.transforms.load_full();
        let oldest = delivery.entries.ids().min().unwrap_or_default();
        let delivery = Arc::new(delivery);
        self.leave(writer, swaps, &transforms).await?;
        let cuts = self.cuts(swaps, &transforms, writer.place().last).await?;
        let complete = |commit: &mut Commit| {
            cuts.puts.iter().for_each(|put| commit.puts.push(put.clone()));
            commit.acknowledge = delivery.entries.ids().collect();
            commit.last = commit.acknowledge.iter().max().copied();
            commit.passed = delivery.passed;
            if owed.is_kept {
                commit.puts.push(owed.put(&self.partition, &commit.acknowledge));
            }
        };
        let mut built = self.build_and_commit(writer, &transforms, &delivery, complete, shutdown).await?;
        if let Some(pause) = swaps.took(taken_up.elapsed(), cuts.is_swap) {
            self.telemetry.swap_pause_seconds(pause);
        }
        if !writer.acknowledges() {
            self.acknowledge(source, std::mem::take(&mut built.commit.acknowledge), owed).await;
        }
        self.progress.send_replace(writer.place().last);
        let newest = built.commit.last.unwrap_or_default().ingest_time();
        self.telemetry.entries_settled(delivery.entries.len() as u64, newest);
        let readable_after = Timestamp::now().0.saturating_sub(oldest.ingest_time().0);
        self.telemetry.freshness_seconds(readable_after as f64 / 1e6);
        Ok(())
    }

    /// Commits until the store has it or must stop. Sending again is safe: see rule 2.
    async fn commit(&self, writer: &mut dyn Writer, built: &mut Built, shutdown: &mut watch::Receiver<bool>) -> Result<(), Stop> {
        let started = std::time::Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            match writer.commit(&built.commit).await {
                Ok(()) => break,
                Err(error) if error.disposition() == Disposition::Retry => {
                    self.retry("online_store", &error, &mut backoff, shutdown).await?
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.health.send_if_modified(|health| std::mem::replace(health, Health::Running) != Health::Running);
        built.count();
        if self.changes.is_wanted() {
            self.changes.publish(&mut built.commit);
        }
        self.telemetry.stage_seconds(Stage::Commit, started.elapsed().as_secs_f64());
        Ok(())
    }

    async fn renew(&self, writer: &mut dyn Writer) -> Result<(), Stop> {
        match writer.renew().await {
            Err(error) if error.disposition() == Disposition::Retry => {
                tracing::warn!(partition = %self.partition, "could not renew the lease, will try again: {error}");
                self.telemetry.retries("lease");
                Ok(())
            }
            renewed => Ok(renewed?),
        }
    }

    fn renewal(&self) -> Duration {
        match &self.writers {
            Writers::Single { lease_ms, .. } | Writers::Waiting { lease_ms, .. } => Duration::from_millis((lease_ms / 3).max(10)),
            Writers::Competing => Duration::from_secs(1),
        }
    }

    async fn retry(
        &self,
        part: &'static str,
        error: &(dyn std::error::Error + Sync),
        backoff: &mut Duration,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        tracing::warn!(partition = %self.partition, part, wait_ms = backoff.as_millis() as u64, "will try again: {error}");
        self.telemetry.retries(part);
        self.health.send_replace(Health::Waiting(error.to_string()));
        self.wait(backoff, shutdown).await
    }

    async fn wait(&self, backoff: &mut Duration, shutdown: &mut watch::Receiver<bool>) -> Result<(), Stop> {
        let wait = *backoff;
        *backoff = (wait * 2).min(BACKOFF_MAX);
        tokio::select! {
            _ = shutdown.changed() => Err(Stop::Shutdown),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
