//! Workers: one for each consumer group that has transforms, with a pipeline for each partition of its stream.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Core;
use super::binding_options::BindingOptions;
use super::standing::Standing;
use crate::config::Start;
use crate::model::{EntryId, Partition};
use crate::pipeline::{Health, Pipeline, Replay, Transforms};

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
    /// What it is doing: what the one that does worst is doing.
    pub(super) fn health(&self) -> Health {
        let rank = |health: &Health| match health {
            Health::Running => 0,
            Health::StandingBy(_) => 1,
            Health::Starting => 2,
            Health::Waiting(_) => 3,
            Health::Stopped => 4,
        };
        let all = self.pipelines.iter().map(|running| running.health.borrow().clone());
        all.max_by_key(rank).unwrap_or(Health::Stopped)
    }

    /// Asks all pipelines to end once they have finished what they have in hand.
    pub(super) fn ask_to_stop(&self) {
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
        ended
    }
}

impl Core {
    /// How a transform reads: with the group of its stream unless it has left that or never was in it.
    pub(super) fn reading(&self, name: &str, stream: &str, options: &BindingOptions, standing: &Standing) -> Reading {
        let config = self.stream_config(stream);
        let own = standing.aside.get(name).cloned().or_else(|| options.own_group(name, &config.group));
        let start = options.start.filter(|_| own.is_some()).unwrap_or(config.start);
        Reading { group: ConsumerGroup { stream: stream.to_owned(), name: own.unwrap_or(config.group) }, start }
    }

    /// The partitions that a group works on.
    pub(super) fn partitions(&self, group: &ConsumerGroup) -> Vec<Partition> {
        vec![Partition { stream: group.stream.clone(), group: group.name.clone(), index: 0 }]
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
        let pipelines = vec![self.start_pipeline(group, 0, *start, &transforms)?];
        workers.insert(group.clone(), Worker { transforms, pipelines });
        Ok(())
    }

    fn start_pipeline(
        &self,
        group: &ConsumerGroup,
        index: u32,
        start: Start,
        transforms: &Arc<ArcSwap<Transforms>>,
    ) -> anyhow::Result<Running> {
        let ConsumerGroup { stream, name } = group.clone();
        let config = self.stream_config(&stream);
        let partition = Partition { stream: stream.clone(), group: name, index };
        let (replays, replay_requests) = mpsc::channel(16);
        let (health_sender, health) = watch::channel(Health::Starting);
        let (progress_sender, progress) = watch::channel(None);
        let pipeline = Pipeline {
            partition: partition.clone(),
            writers: self.writers(&config),
            store: self.store.as_store(),
            open_source: self.open_source(group, start, &config)?,
            begin: self.begin(&stream, start, &config),
            format: config.format(),
            batch_events_max: config.batch_events_max,
            transforms: Arc::clone(transforms),
            telemetry: self.telemetry.stream(&stream, &partition.group),
            changes: Arc::clone(&self.changes),
            health: health_sender,
            progress: progress_sender,
        };
        let (stop, mut stopped) = watch::channel(false);
        let mut held = self.held.subscribe();
        let task = tokio::spawn(async move {
            // An entry that passed while only some of the transforms were in force would never reach the others.
            tokio::select! {
                _ = held.wait_for(|held| held.as_ref().is_some_and(|held| !held.contains(&stream))) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            pipeline.run(replay_requests, stopped).await;
        });
        Ok(Running { partition, replays, health, progress, stop, task })
    }
}
