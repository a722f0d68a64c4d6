//! What streams there are, who reads them, how far each partition is, and which host works on it.

use std::time::Duration;

use super::Core;
use super::commands::describe;
use super::streams::stream_key;
use super::transforms::Active;
use crate::config::StreamSource;
use crate::model::{EntryId, Partition};
use crate::online_store::Holding;
use crate::pipeline::Health;
use crate::serve::{StreamGroup, StreamInfo, StreamPartition, StreamReader};
use crate::source::redis_streams::Onlooker;

/// Time to ask servers about one group. What they do not say in time is unknown.
const ASK_MAX: Duration = Duration::from_secs(2);

/// A group that has transforms here, as it was a moment ago.
struct Seen {
    stream: String,
    group: String,
    state: &'static str,
    partitions: Vec<SeenPartition>,
    onlooker: Option<Onlooker>,
}

struct SeenPartition {
    partition: Partition,
    is_here: bool,
    progress: Option<EntryId>,
}

impl Core {
    /// All streams that are open, how transforms lead from one to another, and how far each partition is.
    pub(super) async fn list_streams(&self) -> Vec<StreamInfo> {
        // Servers are asked when nobody waits for the locks any more.
        let (mut streams, groups) = self.streams_seen().await;
        for seen in groups {
            let group = self.group(&seen).await;
            if let Some(stream) = streams.iter_mut().find(|stream| stream.name == seen.stream) {
                stream.groups.push(group);
            }
        }
        streams
    }

    async fn streams_seen(&self) -> (Vec<StreamInfo>, Vec<Seen>) {
        let registry = self.registry.lock().await;
        let workers = self.workers.lock().await;
        let info = |name: &String| {
            let config = self.stream_config(name);
            let readers = registry.active.iter().filter(|(_, active)| active.bound.stream() == Some(name));
            let reader = |(name, active): (&String, &Active)| StreamReader { name: name.clone(), emit: active.options.emit.clone() };
            let emits = |active: &Active| active.bound.stream().is_some() && active.options.emit.as_ref() == Some(name);
            StreamInfo {
                name: name.clone(),
                source: match config.source {
                    StreamSource::Embedded => "embedded",
                    StreamSource::RedisStreams => "redis_streams",
                },
                partitions: config.partitions,
                partition_by: config.partition_by,
                transforms: readers.map(reader).collect(),
                emitted_by: registry.active.iter().filter(|(_, active)| emits(active)).map(|(name, _)| name.clone()).collect(),
                groups: Vec::new(),
            }
        };
        let seen = workers.iter().map(|(group, worker)| Seen {
            stream: group.stream.clone(),
            group: group.name.clone(),
            state: describe(&worker.health()).0,
            partitions: worker
                .pipelines
                .iter()
                .map(|running| SeenPartition {
                    partition: running.partition.clone(),
                    is_here: *running.health.borrow() == Health::Running,
                    progress: *running.progress.borrow(),
                })
                .collect(),
            onlooker: worker.onlooker.clone(),
        });
        (self.streams.load().keys().map(info).collect(), seen.collect())
    }

    async fn group(&self, seen: &Seen) -> StreamGroup {
        let partitions: Vec<Partition> = seen.partitions.iter().map(|seen| seen.partition.clone()).collect();
        let until = tokio::time::Instant::now() + ASK_MAX;
        let store = self.store.as_store();
        let holdings = tokio::time::timeout_at(until, store.holdings(&partitions)).await.ok().and_then(Result::ok);
        let mut holdings = holdings.unwrap_or_default().into_iter();
        let mut told = Vec::with_capacity(seen.partitions.len());
        for partition in &seen.partitions {
            let holding = holdings.next().unwrap_or_default();
            told.push(self.partition(seen, partition, holding, until).await);
        }
        StreamGroup {
            name: seen.group.clone(),
            state: seen.state,
            // Unknown if it is for any of them.
            lag_entries: told.iter().map(|partition| partition.lag_entries).sum(),
            pending_entries: told.iter().filter_map(|partition| partition.pending_entries).sum(),
            partitions: told,
        }
    }

    async fn partition(&self, group: &Seen, seen: &SeenPartition, holding: Holding, until: tokio::time::Instant) -> StreamPartition {
        let (index, place) = (seen.partition.index, holding.last.or(seen.progress));
        let known = self.telemetry.stream(&group.stream, &group.group).partition(index).known_lag();
        let lag = match (known, &group.onlooker) {
            (Some((entries, pending)), _) => (entries, Some(pending)),
            (None, Some(onlooker)) => {
                let key = stream_key(&group.stream, &self.stream_config(&group.stream), index);
                let asked = tokio::time::timeout_at(until, onlooker.lag(&key, place)).await.ok().and_then(Result::ok);
                asked.map_or((None, None), |lag| (lag.entries, Some(lag.pending)))
            }
            (None, None) => (None, None),
        };
        // Where hosts compete, nobody holds anything; and a store that only this host reaches does not say who does.
        let own = || (seen.is_here && !self.is_competing(&group.stream)).then(|| self.folder.host_id().to_owned());
        StreamPartition {
            partition: index,
            place,
            lag_entries: lag.0,
            pending_entries: lag.1,
            held_by: holding.host.or_else(own),
            here: seen.is_here,
        }
    }
}
