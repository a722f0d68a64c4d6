//! The event path: `read → decode → apply → commit → settle`, one loop for each partition of a stream.
//!
//! The guarantee, before any code: **kill the host at any moment, and what is stored equals what a run that was never killed would have
//! stored.** It rests on three rules.
//!
//! 1. Everything that a batch changes (rows, dead letters, the place, and the acknowledgement where stream and store are the same server) is one
//!    [`Commit`], which a store applies as a whole or not at all.
//! 2. A commit has a number, and the store refuses to apply a number twice: a commit whose outcome is unknown is simply sent again.
//! 3. What is read again after a crash gives the same rows with the same versions (event time, entry id), and a row never replaces one of the same or
//!    a newer version. So an entry that is delivered twice changes nothing the second time, even where the acknowledgement is a step of its own.
//! 4. States and windows are not like that: an entry counts once. Where the acknowledgement is a step of its own, the ids that are still to be
//!    acknowledged are part of the commit that applies them, and are left out when they are delivered again. One worker at a time applies them, in order.
//!
//! Errors are settled here and nowhere else: *retry* waits with bounded backoff and sends the same again, *reject* makes a dead letter, *stop*
//! drops the batch, gives up the writer, and starts over from what is stored.
//!
//! Decoding and Wasm calls block, so they run on a thread of their own, while the loop keeps the lease: a batch may take longer than the lease lasts.

mod batch;
mod binding;
mod collect;
mod fold;
mod keep;
mod owed;
mod read_ahead;
mod replay;
mod states;
mod stored;
pub mod trial;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_like::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::changes::Changes;
use crate::model::{Commit, Disposition, EntryId, Format, Partition, Place, Timestamp};
use crate::online_store::{self, OnlineStore, Writer, Writers};
use crate::source::{self, Delivery, Source};
use crate::telemetry::{Stage, StreamTelemetry};

use batch::Built;
pub use binding::{Binding, Transforms};
use owed::Owed;
use read_ahead::ReadAhead;
pub use replay::{Replay, Replayed};
use stored::Stored;

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
    /// Where rows go.
    pub store: Arc<dyn OnlineStore>,
    /// Where entries come from.
    pub open_source: OpenSource,
    /// The place to keep for a partition that has none yet, where it must outlive a restart before the first batch.
    pub begin: Option<EntryId>,
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

/// Why a session with a writer and a source ended.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Store(#[from] online_store::Error),
    #[error(transparent)]
    Build(#[from] batch::Error),
    #[error("the work on a batch was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("shutting down")]
    Shutdown,
}

impl Pipeline {
    /// Works until `shutdown` turns true, and then finishes the batch in hand.
    pub async fn run(self, mut replays: mpsc::Receiver<Replay>, mut shutdown: watch::Receiver<bool>) {
        let pipeline = Arc::new(self);
        let mut backoff = BACKOFF_MIN;
        while !*shutdown.borrow() {
            match pipeline.session(&mut replays, &mut shutdown, &mut backoff).await {
                Ok(()) | Err(Stop::Shutdown) => break,
                Err(stop) => {
                    pipeline.report(&stop);
                    // A standby looks as often as the lease is renewed, however long it has waited: it is to take over within the lease's time.
                    let mut standby = pipeline.renewal().min(BACKOFF_MAX);
                    let is_held = matches!(stop, Stop::Store(online_store::Error::Held { .. }));
                    let _ = pipeline.wait(if is_held { &mut standby } else { &mut backoff }, &mut shutdown).await;
                }
            }
        }
        pipeline.health.send_replace(Health::Stopped);
    }

    fn report(&self, stop: &Stop) {
        if let Stop::Store(online_store::Error::Held { .. }) = stop {
            tracing::debug!(partition = %self.partition, "standing by: {stop}");
            self.health.send_replace(Health::StandingBy(stop.to_string()));
            return;
        }
        if let Stop::Store(online_store::Error::PlaceLost { .. }) = stop {
            self.telemetry.places_lost();
        }
        tracing::warn!(partition = %self.partition, "starting over from what is stored: {stop}");
        self.telemetry.restarts(match stop {
            Stop::Source(_) => "source",
            Stop::Store(_) => "online_store",
            Stop::Build(error) => error.part(),
            Stop::Interrupted(_) | Stop::Shutdown => "transform",
        });
        self.health.send_replace(Health::Waiting(stop.to_string()));
    }

    /// One writer, one source, batch after batch, until something says stop.
    async fn session(
        self: &Arc<Self>,
        replays: &mut mpsc::Receiver<Replay>,
        shutdown: &mut watch::Receiver<bool>,
        backoff: &mut Duration,
    ) -> Result<(), Stop> {
        let mut writer = self.store.writer(&self.partition, &self.writers).await?;
        if let Some(begin) = self.begin.filter(|_| writer.place().last.is_none()) {
            let number = writer.place().commits + 1;
            writer.commit(&Commit { number, last: Some(begin), ..Commit::default() }).await?;
        }
        let source = (self.open_source)(writer.place()).await?;
        self.health.send_replace(Health::Running);
        tracing::info!(partition = %self.partition, place = ?writer.place(), "running");
        // Before anything is read, so that nothing is on its way that has been applied.
        let is_kept = source.redelivers() && !writer.acknowledges();
        let mut owed = self.owed(is_kept, &*source).await?;
        let mut read_ahead = ReadAhead::start(Arc::clone(&source), self);
        let mut renew = tokio::time::interval(self.renewal());
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            let step = tokio::select! {
                biased;
                _ = shutdown.changed() => break Err(Stop::Shutdown),
                _ = renew.tick() => {
                    if !owed.ids.is_empty() {
                        self.acknowledge(&*source, Vec::new(), &mut owed).await;
                    }
                    self.renew(&mut *writer).await
                }
                Some(replay) = replays.recv() => self.replay(&mut *writer, replay, shutdown).await,
                delivery = read_ahead.next() => match delivery {
                    Ok(delivery) => self.batch(&mut *writer, &*source, delivery, &mut owed, shutdown).await,
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
        if let Err(error) = writer.release().await {
            tracing::debug!(partition = %self.partition, "could not give up the lease: {error}");
        }
        ended
    }

    /// The loop's body: what was delivered is decoded, applied, committed and settled.
    async fn batch(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        source: &dyn Source,
        delivery: Delivery,
        owed: &mut Owed,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Stop> {
        if delivery.lost > 0 {
            tracing::warn!(partition = %self.partition, lost = delivery.lost, "entries are gone from the stream that were never applied");
            self.telemetry.entries_lost(delivery.lost);
        }
        let delivery = owed.leave_out(delivery);
        if delivery.entries.is_empty() {
            return Ok(());
        }
        let transforms = self.transforms.load_full();
        let is_ordered = transforms.bindings().any(|binding| binding.is_ordered());
        let oldest = delivery.entries.ids().min().unwrap_or_default();
        let delivery = Arc::new(delivery);
        let complete = |commit: &mut Commit| {
            commit.acknowledge = delivery.entries.ids().collect();
            commit.last = commit.acknowledge.iter().max().copied();
            if owed.is_kept && is_ordered {
                commit.puts.push(owed.put(&self.partition, &commit.acknowledge));
            }
        };
        let mut built = self.build_and_commit(writer, &transforms, &delivery, complete, shutdown).await?;
        if !writer.acknowledges() {
            self.acknowledge(source, std::mem::take(&mut built.commit.acknowledge), owed).await;
        }
        let newest = built.commit.last.unwrap_or_default().ingest_time();
        self.telemetry.entries_settled(delivery.entries.len() as u64, newest);
        let readable_after = Timestamp::now().0.saturating_sub(oldest.ingest_time().0);
        self.telemetry.freshness_seconds(readable_after as f64 / 1e6);
        Ok(())
    }

    /// Decodes, applies and commits; anew, as often as what was read for it turns out to have changed meanwhile.
    async fn build_and_commit(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        transforms: &Arc<Transforms>,
        delivery: &Arc<Delivery>,
        complete: impl Fn(&mut Commit),
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let (mut backoff, mut is_first) = (BACKOFF_MIN, true);
        loop {
            let mut built = self.build(writer, Arc::clone(transforms), delivery, shutdown).await?;
            built.commit.number = writer.place().commits + 1;
            complete(&mut built.commit);
            match self.commit(writer, &mut built, shutdown).await {
                // The first commit to a view finds it so wherever stores do not know who else writes.
                Err(Stop::Store(online_store::Error::Outdated { .. })) if is_first => is_first = false,
                Err(Stop::Store(error @ online_store::Error::Outdated { .. })) => {
                    self.retry("online_store", &error, &mut backoff, shutdown).await?;
                }
                done => return done.map(|()| built),
            }
        }
    }

    /// Decodes and applies, and keeps the lease meanwhile: finding the events at fault may take longer than the lease lasts.
    async fn build(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        transforms: Arc<Transforms>,
        delivery: &Arc<Delivery>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let mut building = std::pin::pin!(self.build_aside(transforms, delivery, shutdown));
        loop {
            tokio::select! {
                built = &mut building => return built,
                () = tokio::time::sleep(self.renewal()) => match writer.renew().await {
                    Err(error) if error.disposition() == Disposition::Retry => self.telemetry.retries("lease"),
                    Err(error) => return Err(error.into()),
                    Ok(()) => {}
                },
            }
        }
    }

    /// Tries until it succeeds or must stop: a failure of the engine itself says nothing about the events.
    async fn build_aside(
        self: &Arc<Self>,
        transforms: Arc<Transforms>,
        delivery: &Arc<Delivery>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (pipeline, transforms, delivery) = (Arc::clone(self), Arc::clone(&transforms), Arc::clone(delivery));
            let stored = Stored::new(Arc::clone(&self.store));
            let work = move || batch::build(&transforms, &delivery, &pipeline.partition, &stored, &pipeline.telemetry);
            match tokio::task::spawn_blocking(work).await? {
                Ok(built) => return Ok(built),
                Err(error) if error.disposition() == Disposition::Retry => self.retry(error.part(), &error, &mut backoff, shutdown).await?,
                Err(error) => return Err(error.into()),
            }
        }
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
            Writers::Single { lease_ms, .. } => Duration::from_millis((lease_ms / 3).max(10)),
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
