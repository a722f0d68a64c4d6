//! The streams of this host: their appenders, and one pipeline for each stream that has transforms.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Core;
use crate::config;
use crate::model::{Format, Partition, Place};
use crate::online_store::Writers;
use crate::pipeline::{Health, OpenSource, Pipeline, Replay, Transforms};
use crate::serve;
use crate::source::embedded::Log;
use crate::source::redis_streams::RedisStreams;
use crate::source::{self, Source};

/// A stream that is being worked on.
pub(super) struct Worker {
    pub(super) transforms: Arc<ArcSwap<Transforms>>,
    pub(super) replays: mpsc::Sender<Replay>,
    pub(super) health: watch::Receiver<Health>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

impl Core {
    /// How events stand in a stream, as configured or by default.
    pub(super) fn stream_format(&self, stream: &str) -> Format {
        self.stream_config(stream).format.clone()
    }

    /// The configuration of a stream; one that no section names is embedded.
    pub(super) fn stream_config(&self, stream: &str) -> config::Stream {
        self.config.streams.get(stream).cloned().unwrap_or_default()
    }

    /// Opens the writing ends of all configured streams, so that events can be sent before any transform is there.
    pub(super) async fn open_appenders(&self) -> anyhow::Result<()> {
        for name in self.config.streams.keys() {
            self.open_appender(name).await?;
        }
        Ok(())
    }

    async fn open_appender(&self, name: &str) -> anyhow::Result<()> {
        if self.streams.load().contains_key(name) {
            return Ok(());
        }
        let config = self.stream_config(name);
        let appender: Arc<dyn source::Appender> = match &config.source {
            config::Source::Embedded(retention) => Arc::new(Log::open(&self.folder, name, retention.clone())?),
            config::Source::RedisStreams(redis) => Arc::new(source::redis_streams::RedisAppender::open(&redis.url, &redis.key)?),
        };
        let stream = serve::Stream { appender, format: config.format };
        self.streams.rcu(|streams| {
            let mut streams = BTreeMap::clone(streams);
            streams.entry(name.to_owned()).or_insert_with(|| stream.clone());
            streams
        });
        Ok(())
    }

    /// Puts a set of transforms to work on a stream, from the next batch on. Starts the stream's pipeline if there is none yet, and ends it when the
    /// set is empty: what arrives then waits in the stream for the next transform.
    pub(super) async fn start_stream(&self, name: &str, transforms: Transforms) -> anyhow::Result<()> {
        self.open_appender(name).await?;
        let mut workers = self.workers.lock().await;
        if transforms.is_empty() {
            if let Some(worker) = workers.remove(name) {
                worker.stop.send_replace(true);
                let _ = worker.task.await;
            }
            return Ok(());
        }
        if let Some(worker) = workers.get(name) {
            worker.transforms.store(Arc::new(transforms));
            return Ok(());
        }
        let config = self.stream_config(name);
        let transforms = Arc::new(ArcSwap::from_pointee(transforms));
        let (replays, replay_requests) = mpsc::channel(16);
        let (health_sender, health) = watch::channel(Health::Starting);
        let partition = Partition { stream: name.to_owned(), group: config.group.clone(), index: 0 };
        let pipeline = Pipeline {
            writers: self.writers(&config),
            store: Arc::clone(&self.store),
            open_source: self.open_source(name, &config)?,
            format: config.format.clone(),
            batch_events_max: config.batch_events_max,
            transforms: Arc::clone(&transforms),
            telemetry: self.telemetry.stream(name),
            health: health_sender,
            partition,
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(pipeline.run(replay_requests, stopped));
        workers.insert(name.to_owned(), Worker { transforms, replays, health, stop, task });
        Ok(())
    }
}
