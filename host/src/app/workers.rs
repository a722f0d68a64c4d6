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
use crate::pipeline::{Begin, Health, Pipeline, Replay, Sharing, Transforms, Turn};
use crate::source::redis_streams::Onlooker;

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
    /// The group that its transform has left for this one, which goes on where that was then.
    pub(super) from: Option<String>,
}

/// A group that is being worked on.
pub(super) struct Worker {
    pub(super) transforms: Arc<ArcSwap<Transforms>>,
    pub(super) pipelines: Vec<Running>,
    /// What tells how far behind the group is where this host does not read.
    pub(super) onlooker: Option<Onlooker>,
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

    /// Asks all pipelines to end once they have finished what they have in hand.
    pub(super) fn ask_to_stop(&self) {
        if let Some(sharing) = &self.sharing {
            sharing.stop.send_replace(true);
        }
        for running in &self.pipelines {
            running.stop.send_replace(true);
        }
    }

    /// Waits for them to end.
    pub(super) async fn stopped(self) {
        for Running { partition, task, .. } in self.pipelines {
            if task.await.is_err() {
                tracing::error!(%partition, "the pipeline ended abnormally");
            }
        }
        if let Some(sharing) = self.sharing
            && sharing.task.await.is_err()
        {
            tracing::error!("finding the other hosts ended abnormally");
        }
    }
}

impl Core {
    /// How a transform reads: with the group of its stream unless it has left that or never was in it.
    pub(super) fn reading(&self, name: &str, stream: &str, options: &BindingOptions, standing: &Standing) -> Reading {
        let config = self.stream_config(stream);
        let own = standing.aside.get(name).cloned().or_else(|| options.own_group(name, &config.group));
        let start = options.start.filter(|_| own.is_some()).unwrap_or(config.start);
        let from = own.as_ref().and_then(|own| standing.left.get(own)).cloned();
        Reading { group: ConsumerGroup { stream: stream.to_owned(), name: own.unwrap_or_else(|| config.group.to_string()) }, start, from }
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
        let Reading { group, .. } = reading;
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
            Transforms::replace(&worker.transforms, transforms);
            return Ok(());
        }
        let transforms = Arc::new(ArcSwap::from_pointee(transforms));
        let config = self.stream_config(&group.stream);
        let onlooker = self.onlooker(group, reading.start, &config)?;
        let Some(partitioning) = config.partitioning(&group.stream) else {
            let pipelines = vec![self.start_pipeline(reading, None, &transforms)?];
            workers.insert(group.clone(), Worker { transforms, pipelines, onlooker, sharing: None });
            return Ok(());
        };
        let (mut pipelines, mut turns) = (Vec::new(), Vec::new());
        for index in 0..partitioning.count {
            let (sender, turn) = watch::channel(Turn::Unknown);
            let part = Part { index, tag: partitioning.tag(index), turn };
            pipelines.push(self.start_pipeline(reading, Some(part), &transforms)?);
            turns.push(sender);
        }
        let sharing = self.share(group, turns);
        workers.insert(group.clone(), Worker { transforms, pipelines, onlooker, sharing: Some(sharing) });
        Ok(())
    }

    /// Shares a stream's partitions with the hosts that work on them too, once all its transforms are there.
    fn share(&self, group: &ConsumerGroup, turns: Vec<watch::Sender<Turn>>) -> Sharer {
        let ConsumerGroup { stream, name } = group.clone();
        let host = self.folder.host_id().to_owned();
        let (store, work) = (self.store.as_store(), format!("{stream}/{name}"));
        let sharing = Sharing { store, work, host, lease_ms: self.lease_ms() };
        let stop = watch::Sender::new(false);
        let (held, stopped) = (self.held.subscribe(), stop.subscribe());
        let task = tokio::spawn(async move {
            let stopped = released(stream, held, stopped).await;
            sharing.run(turns, stopped).await;
        });
        Sharer { stop, task }
    }

    fn start_pipeline(&self, reading: &Reading, part: Option<Part>, transforms: &Arc<ArcSwap<Transforms>>) -> anyhow::Result<Running> {
        let Reading { group, start, from } = reading;
        let ConsumerGroup { stream, name } = group.clone();
        let config = self.stream_config(&stream);
        let (index, tag, turn) = part.map_or((0, String::new(), None), |part| (part.index, part.tag, Some(part.turn)));
        let partition = Partition { stream: stream.clone(), group: name, index, tag };
        let left = from.as_ref().map(|from| Begin::Left(Partition { group: from.clone(), ..partition.clone() }));
        let begin = left.or_else(|| self.begin(&stream, index, *start, &config).map(Begin::After));
        let (replays, replay_requests) = mpsc::channel(16);
        let (health_sender, health) = watch::channel(Health::Starting);
        let (progress_sender, progress) = watch::channel(None);
        let pipeline = Pipeline {
            partition: partition.clone(),
            writers: self.writers(&config),
            turn,
            store: self.store.as_store(),
            open_source: self.open_source(group, index, *start, &config)?,
            begin,
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
