//! Workers: one for each consumer group that has transforms, with a pipeline for each partition of its stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Core;
use super::binding_options::BindingOptions;
use super::standing::Standing;
use crate::config::Start;
use crate::model::{EntryId, Partition};
use crate::pipeline::{Health, Pipeline, Replay, Sharing, Transforms, Turn};

/// One consumer group of one stream: transforms that read together, with one place in each partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerGroup {
    /// The stream's name.
    pub(super) stream: String,
    /// The group's.
    pub(super) name: String,
}

/// How a transform reads its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) group: ConsumerGroup,
    /// Where the group begins when it has no place yet.
    pub(super) start: Start,
}

/// A group that is being worked on.
pub(super) struct Worker {
    pub(super) transforms: Arc<ArcSwap<Transforms>>,
    pub(super) pipelines: Vec<Running>,
    /// What tells them whose turn it is, where hosts share the stream's partitions.
    sharing: Option<Sharer>,
}

/// The task that finds the other hosts.
struct Sharer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A pipeline at work.
pub(super) struct Running {
    pub(super) partition: Partition,
    pub(super) replays: mpsc::Sender<Replay>,
    pub(super) health: watch::Receiver<Health>,
    /// The greatest entry id that is applied, once this host knows it.
    pub(super) progress: watch::Receiver<Option<EntryId>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    /// What it is doing: what the one that does worst is doing. That another host works on some of the partitions is as it should be.
    pub(super) fn health(&self) -> Health {
        let rank = |health: &Health| match health {
            Health::StandingBy(_) => 0,
            Health::Running => 1,
            Health::Starting => 2,
            Health::Waiting(_) => 3,
            Health::Stopped => 4,
        };
        let all = self.pipelines.iter().map(|running| running.health.borrow().clone());
        all.max_by_key(rank).unwrap_or(Health::Stopped)
    }

    /// Whether the stream has partitions, which hosts share.
    pub(super) fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// The partitions that this host works on.
    pub(super) fn held(&self) -> impl Iterator<Item = u32> {
        let held = self.pipelines.iter().filter(|running| *running.health.borrow() == Health::Running);
        held.map(|running| running.partition.index)
    }

    /// Whether this host works on all of them.
    pub(super) fn holds_all(&self) -> bool {
        self.held().count() == self.pipelines.len()
    }

    /// Where to send dead letters of a partition to be tried again. Only the host that works on it can.
    pub(super) fn replays(&self, partition: Option<u32>) -> Result<mpsc::Sender<Replay>, String> {
        let running = self.pipelines.iter().find(|running| running.partition.number() == partition);
        let running = running.ok_or_else(|| "the stream had other partitions when the event became a dead letter".to_owned())?;
        match (&*running.health.borrow(), partition) {
            (Health::StandingBy(_), Some(index)) => Err(format!("another host works on partition {index}; ask that one")),
            _ => Ok(running.replays.clone()),
        }
    }

    /// Asks all pipelines to end once they have finished what they have in hand.
    pub(super) fn ask_to_stop(&self) {
        if let Some(sharing) = &self.sharing {
            sharing.stop.send_replace(true);
        }
        for running in &self.pipelines {
            running.stop.send_replace(true);
        }
    }

    /// Waits for them to end. Says how far each has come.
    pub(super) async fn stopped(self) -> Vec<(Partition, Option<EntryId>)> {
        let mut ended = Vec::new();
        for Running { partition, task, progress, .. } in self.pipelines {
            if task.await.is_err() {
                tracing::error!(%partition, "the pipeline ended abnormally");
            }
            let progress = *progress.borrow();
            ended.push((partition, progress));
        }
        if let Some(sharing) = self.sharing
            && sharing.task.await.is_err()
        {
            tracing::error!("finding the other hosts ended abnormally");
        }
        ended
    }
}

impl Core {
    /// How a transform reads: with the group of its stream unless it has left that or never was in it.
    pub(super) fn reading(&self, name: &str, stream: &str, options: &BindingOptions, standing: &Standing) -> Reading {
        let config = self.stream_config(stream);
        let own = standing.aside.get(name).cloned().or_else(|| options.own_group(name, &config.group));
        let start = options.start.filter(|_| own.is_some()).unwrap_or(config.start);
        Reading { group: ConsumerGroup { stream: stream.to_owned(), name: own.unwrap_or_else(|| config.group.to_string()) }, start }
    }

    /// The partitions that a group works on.
    pub(super) fn partitions(&self, group: &ConsumerGroup) -> Vec<Partition> {
        let ConsumerGroup { stream, name } = group;
        let partition = |index, tag| Partition { stream: stream.clone(), group: name.clone(), index, tag };
        match self.stream_config(stream).partitioning(stream) {
            None => vec![partition(0, String::new())],
            Some(partitioning) => (0..partitioning.count).map(|index| partition(index, partitioning.tag(index))).collect(),
        }
    }

    /// Puts a set of transforms to work for a group, from the next batch on. Starts the group's worker if there is none yet, and ends it when the set is
    /// empty: what arrives then waits in the stream for the next transform.
    pub(super) async fn set_transforms(&self, reading: &Reading, transforms: Transforms) -> anyhow::Result<()> {
        let Reading { group, start } = reading;
        self.open_stream(&group.stream)?;
        let mut workers = self.workers.lock().await;
        if transforms.is_empty() {
            if let Some(worker) = workers.remove(group) {
                worker.ask_to_stop();
                worker.stopped().await;
            }
            return Ok(());
        }
        if let Some(worker) = workers.get(group) {
            worker.transforms.store(Arc::new(transforms));
            return Ok(());
        }
        let transforms = Arc::new(ArcSwap::from_pointee(transforms));
        let partitioning = self.stream_config(&group.stream).partitioning(&group.stream);
        let Some(partitioning) = partitioning else {
            let pipelines = vec![self.start_pipeline(group, None, *start, &transforms)?];
            workers.insert(group.clone(), Worker { transforms, pipelines, sharing: None });
            return Ok(());
        };
        let (mut pipelines, mut turns) = (Vec::new(), Vec::new());
        for index in 0..partitioning.count {
            let (sender, turn) = watch::channel(Turn::Unknown);
            let part = Part { index, tag: partitioning.tag(index), turn };
            pipelines.push(self.start_pipeline(group, Some(part), *start, &transforms)?);
            turns.push(sender);
        }
        let sharing = self.share(group, &transforms, turns);
        workers.insert(group.clone(), Worker { transforms, pipelines, sharing: Some(sharing) });
        Ok(())
    }

    /// Shares a stream's partitions with the hosts that work on them too, once all its transforms are there.
    fn share(&self, group: &ConsumerGroup, transforms: &Arc<ArcSwap<Transforms>>, turns: Vec<watch::Sender<Turn>>) -> Sharer {
        let ConsumerGroup { stream, name } = group.clone();
        let host = self.folder.host_id().to_owned();
        let (store, work, transforms) = (self.store.as_store(), format!("{stream}/{name}"), Arc::clone(transforms));
        let sharing = Sharing { store, work, host, transforms, lease_ms: self.lease_ms() };
        let stop = watch::Sender::new(false);
        let (held, stopped) = (self.held.subscribe(), stop.subscribe());
        let task = tokio::spawn(async move {
            let stopped = released(stream, held, stopped).await;
            sharing.run(turns, stopped).await;
        });
        Sharer { stop, task }
    }

    fn start_pipeline(
        &self,
        group: &ConsumerGroup,
        part: Option<Part>,
        start: Start,
        transforms: &Arc<ArcSwap<Transforms>>,
    ) -> anyhow::Result<Running> {
        let ConsumerGroup { stream, name } = group.clone();
        let config = self.stream_config(&stream);
        let (index, tag, turn) = part.map_or((0, String::new(), None), |part| (part.index, part.tag, Some(part.turn)));
        let partition = Partition { stream: stream.clone(), group: name, index, tag };
        let (replays, replay_requests) = mpsc::channel(16);
        let (health_sender, health) = watch::channel(Health::Starting);
        let (progress_sender, progress) = watch::channel(None);
        let pipeline = Pipeline {
            partition: partition.clone(),
            writers: self.writers(&config),
            turn,
            store: self.store.as_store(),
            open_source: self.open_source(group, index, start, &config)?,
            begin: self.begin(&stream, index, start, &config),
            format: config.format(),
            batch_events_max: config.batch_events_max,
            transforms: Arc::clone(transforms),
            telemetry: self.telemetry.stream(&stream, &partition.group).partition(index),
            changes: Arc::clone(&self.changes),
            health: health_sender,
            progress: progress_sender,
        };
        let (stop, stopped) = watch::channel(false);
        let held = self.held.subscribe();
        let task = tokio::spawn(async move {
            let stopped = released(stream, held, stopped).await;
            pipeline.run(replay_requests, stopped).await;
        });
        Ok(Running { partition, replays, health, progress, stop, task })
    }
}

/// What tells one partition from the others of its stream.
struct Part {
    index: u32,
    tag: String,
    turn: watch::Receiver<Turn>,
}

/// Waits until a stream may be worked on, or nobody wants that any more: an entry that passed while only some of the transforms were in
/// force would never reach the others.
async fn released(
    stream: String,
    mut held: watch::Receiver<Option<BTreeSet<String>>>,
    mut stopped: watch::Receiver<bool>,
) -> watch::Receiver<bool> {
    tokio::select! {
        _ = held.wait_for(|held| held.as_ref().is_some_and(|held| !held.contains(&stream))) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    stopped
}
