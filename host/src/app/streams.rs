//! The store and the streams: the ends at which entries are added and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::Core;
use super::versions::digest;
use super::workers::ConsumerGroup;
use crate::config::{self, Config, Consumers, FeastRedisStore, PlaceKept, Start, Store, StreamSource};
use crate::data_folder::{DataFolder, log_name};
use crate::decode::Route;
use crate::model::{EntryId, Format, Place, Timestamp};
use crate::online_store::embedded::{self, EmbeddedStore};
use crate::online_store::memory::MemoryStore;
use crate::online_store::redis::{self, Acknowledgement, FeastLayout, RedisStore};
use crate::online_store::{self, OnlineStore, Writers};
use crate::pipeline::OpenSource;
use crate::resp::Site;
use crate::serve;
use crate::source::embedded::{Log, Retention};
use crate::source::partitioned::Partitioned;
use crate::source::redis_streams::{self, Onlooker, RedisAppender, RedisStreams};
use crate::source::{self, Appender, Source};

/// The store that the configuration names.
pub(super) enum OpenStore {
    Memory(Arc<MemoryStore>),
    Embedded(Arc<EmbeddedStore>),
    Redis(Arc<RedisStore>),
}

impl OpenStore {
    pub(super) async fn open(config: &Config, folder: &DataFolder) -> anyhow::Result<OpenStore> {
        let dead_letters_max = config.dead_letters.max;
        Ok(match &config.store {
            Store::Memory => OpenStore::Memory(Arc::new(MemoryStore::new(dead_letters_max))),
            Store::Embedded(store) => {
                let row_cache_bytes = store.cache_bytes.unwrap_or_else(embedded::row_cache_bytes);
                let options = embedded::Options { row_cache_bytes, dead_letters_max };
                OpenStore::Embedded(Arc::new(EmbeddedStore::open(folder, options)?))
            }
            Store::Redis(redis) => OpenStore::Redis(Arc::new(open_redis(config, redis, None)?)),
            Store::FeastRedis(FeastRedisStore { redis, key_ttl_secs }) => {
                let layout = super::feast::layout(config, *key_ttl_secs);
                OpenStore::Redis(Arc::new(open_redis(config, redis, Some(layout))?))
            }
        })
    }

    /// Forgets rows that have expired; stores that do so by themselves are left alone.
    pub(super) async fn sweep(&self) -> Result<(), online_store::Error> {
        const ROWS: usize = 1_000;
        match self {
            OpenStore::Memory(store) => drop(store.sweep(Timestamp::now())),
            OpenStore::Redis(_) => {}
            OpenStore::Embedded(store) => while store.sweep(Timestamp::now(), ROWS).await? == ROWS {},
        }
        Ok(())
    }

    /// The store, if it has what this host shares with others.
    pub(super) fn shared(&self) -> Option<Arc<RedisStore>> {
        match self {
            OpenStore::Memory(_) | OpenStore::Embedded(_) => None,
            OpenStore::Redis(store) => store.has_book().then(|| Arc::clone(store)),
        }
    }

    pub(super) fn as_store(&self) -> Arc<dyn OnlineStore> {
        match self {
            OpenStore::Memory(store) => Arc::clone(store) as Arc<dyn OnlineStore>,
            OpenStore::Embedded(store) => Arc::clone(store) as Arc<dyn OnlineStore>,
            OpenStore::Redis(store) => Arc::clone(store) as Arc<dyn OnlineStore>,
        }
    }
}

impl Core {
    /// How events stand in a stream, as configured or by default.
    pub(super) fn stream_format(&self, stream: &str) -> Format {
        self.stream_config(stream).format()
    }

    /// Whether several hosts take entries from this stream at the same time.
    pub(super) fn is_competing(&self, stream: &str) -> bool {
        matches!(self.writers(&self.stream_config(stream)), Writers::Competing)
    }

    /// The configuration of a stream; one that no section names is embedded.
    pub(super) fn stream_config(&self, stream: &str) -> config::Stream {
        self.config.streams.get(stream).cloned().unwrap_or_default()
    }

    /// Opens the writing ends of all configured streams, so that events can be sent before any transform is there.
    pub(super) async fn open_streams(&self) -> anyhow::Result<()> {
        for name in self.config.streams.keys() {
            self.open_stream(name)?;
        }
        Ok(())
    }

    pub(super) fn open_stream(&self, name: &str) -> anyhow::Result<()> {
        if self.streams.load().contains_key(name) {
            return Ok(());
        }
        let config = self.stream_config(name);
        let partitioning = config.partitioning(name);
        let indexes = 0..partitioning.as_ref().map_or(1, |partitioning| partitioning.count);
        let mut parts: Vec<Arc<dyn Appender>> = match config.source {
            StreamSource::Embedded => {
                let open = |index: u32| self.open_log(&log_name(name, partitioning.as_ref().map(|_| index)), &config);
                indexes.map(|index| Ok(Arc::new(open(index)?) as Arc<dyn Appender>)).collect::<anyhow::Result<_>>()?
            }
            StreamSource::RedisStreams => {
                let first = RedisAppender::at(&stream_site(&config)?, config.key(name))?;
                let key = |index| stream_key(name, &config, index);
                indexes.map(|index| Arc::new(first.beside(&key(index))) as Arc<dyn Appender>).collect()
            }
        };
        let format = config.format();
        let route = partitioning.map(|partitioning| Arc::new(Route::new(format.clone(), partitioning)));
        let appender = match &route {
            Some(route) => Arc::new(Partitioned::new(Arc::clone(route), parts)),
            None => parts.pop().context("a stream has a writing end")?,
        };
        let stream = serve::Stream { appender, format, route };
        self.streams.rcu(|streams| {
            let mut streams = BTreeMap::clone(streams);
            streams.insert(name.to_owned(), stream.clone());
            streams
        });
        Ok(())
    }

    fn open_log(&self, name: &str, config: &config::Stream) -> anyhow::Result<Log> {
        let retention = Retention { entries_max: Some(config.entries_max), ..Retention::default() };
        let log = Log::open(&self.folder, name, retention).with_context(|| format!("stream `{name}`"))?;
        if let Ok(mut logs) = self.logs.lock() {
            logs.insert(name.to_owned(), log.clone());
        }
        Ok(log)
    }

    /// Whether a stream is a log without partitions that has never had an entry.
    pub(super) fn is_empty_log(&self, name: &str) -> bool {
        self.logs.lock().is_ok_and(|logs| logs.get(name).is_some_and(|log| log.last().is_none()))
    }

    pub(super) fn writers(&self, config: &config::Stream) -> Writers {
        if config.source == StreamSource::RedisStreams && config.consumers == Consumers::Competing {
            return Writers::Competing;
        }
        Writers::Single { holder: self.folder.host_id().to_owned(), lease_ms: self.lease_ms() }
    }

    pub(super) fn lease_ms(&self) -> u64 {
        self.config.store.redis().map_or(60_000, |redis| redis.lease_ms)
    }

    /// The end of an embedded log as it is when the host takes the stream up. A Redis stream's end is kept by its group.
    pub(super) fn begin(&self, name: &str, index: u32, start: Start, config: &config::Stream) -> Option<EntryId> {
        let is_end_of_log = config.source == StreamSource::Embedded && start == Start::End;
        let name = log_name(name, config.partitions.map(|_| index));
        let log = self.logs.lock().ok()?.get(&name).filter(|_| is_end_of_log).cloned()?;
        Some(log.last().unwrap_or_default())
    }

    pub(super) fn open_source(
        &self,
        group: &ConsumerGroup,
        index: u32,
        start: Start,
        config: &config::Stream,
    ) -> anyhow::Result<OpenSource> {
        let name = group.stream.as_str();
        match config.source {
            StreamSource::Embedded => {
                let name = log_name(name, config.partitions.map(|_| index));
                let log = self.logs.lock().ok().and_then(|logs| logs.get(&name).cloned()).context("the stream's log is not open")?;
                Ok(Box::new(move |place: Place| {
                    let reader = match (place.last, start) {
                        (Some(last), _) => Ok(log.reader(Some(last), source::embedded::Start::Oldest)),
                        // The end is a place, which the pipeline keeps before it opens the source.
                        (None, Start::Beginning | Start::End) => Ok(log.reader(None, source::embedded::Start::Oldest)),
                        (None, Start::After(id)) => log.reader_after(id),
                    };
                    Box::pin(async move { Ok(Arc::new(reader?) as Arc<dyn Source>) })
                }))
            }
            StreamSource::RedisStreams => {
                let options = self.redis_options(group, index, start, config);
                let site = stream_site(config)?;
                Ok(Box::new(move |place: Place| {
                    let options = redis_streams::Options { place: place.last, ..options.clone() };
                    let opened = RedisStreams::at(&site, options);
                    Box::pin(async move { Ok(Arc::new(opened?) as Arc<dyn Source>) })
                }))
            }
        }
    }
}

impl Core {
    fn redis_options(&self, group: &ConsumerGroup, index: u32, start: Start, config: &config::Stream) -> redis_streams::Options {
        redis_streams::Options {
            key: stream_key(&group.stream, config, index),
            group: group.name.clone(),
            consumer: self.folder.host_id().to_owned(),
            checkpoint: config.place == PlaceKept::Checkpoint,
            competing: config.consumers == Consumers::Competing,
            start: match start {
                Start::Beginning => redis_streams::Start::Beginning,
                Start::End => redis_streams::Start::End,
                Start::After(id) => redis_streams::Start::After(id),
            },
            place: None,
            claim_idle_ms: config.claim_idle_ms,
            deliveries_max: config.deliveries_max,
            block_ms: config.block_ms,
        }
    }

    /// What tells how far behind a group is on partitions that other hosts work on; none of a stream that is this host's alone.
    pub(super) fn onlooker(&self, group: &ConsumerGroup, start: Start, config: &config::Stream) -> anyhow::Result<Option<Onlooker>> {
        if config.source == StreamSource::Embedded {
            return Ok(None);
        }
        Ok(Some(Onlooker::at(&stream_site(config)?, &self.redis_options(group, 0, start, config))?))
    }
}

fn open_redis(config: &Config, store: &config::RedisStore, feast: Option<FeastLayout>) -> anyhow::Result<RedisStore> {
    let (prefix, dead_letters_max) = (store.prefix.clone(), config.dead_letters.max);
    let partitionings = config.streams.iter().filter_map(|(name, stream)| stream.partitioning(name));
    let tags = partitionings.flat_map(|partitioning| (0..partitioning.count).map(move |index| partitioning.tag(index))).collect();
    let options = redis::Options { prefix, dead_letters_max, streams: settled_together(config, store)?, tags, feast, book: book(config) };
    Ok(RedisStore::at(store_site(store)?, options)?)
}

/// Which hosts share what is put to one of them: those with the same streams, all of them in Redis. A log in a data folder is its host's alone, and so is what is
/// computed of it; and what reads a stream is no affair of hosts that do not know it.
fn book(config: &Config) -> Option<String> {
    let is_reachable = !config.streams.is_empty() && config.streams.values().all(|stream| stream.source != StreamSource::Embedded);
    let streams = config.streams.iter().map(|(name, stream)| {
        let partitions = stream.partitioning(name).map_or(0, |partitioning| partitioning.count);
        format!("{name} {} {partitions}\n", stream.key.as_deref().unwrap_or(name))
    });
    is_reachable.then(|| digest(streams.collect::<String>().as_bytes()).to_string().chars().take(16).collect())
}

/// Whether other hosts may share what is put to a host of this configuration.
pub(super) fn shares_book(config: &Config) -> bool {
    config.store.redis().is_some() && book(config).is_some()
}

fn store_site(store: &config::RedisStore) -> anyhow::Result<Site> {
    Site::parse(store.url.reveal(), store.cluster).map_err(|error| anyhow::anyhow!("store.url: {error}"))
}

fn stream_site(stream: &config::Stream) -> anyhow::Result<Site> {
    Site::parse(stream.url.reveal(), stream.cluster).map_err(anyhow::Error::msg)
}

/// The key of a Redis stream, or of one of its partitions.
pub(super) fn stream_key(stream: &str, config: &config::Stream, index: u32) -> String {
    config.partitioning(stream).map_or(config.key(stream).to_owned(), |partitioning| partitioning.tag(index))
}

/// The streams on the store's own server and database: their entries are acknowledged by the commit itself.
fn settled_together(config: &Config, store: &config::RedisStore) -> anyhow::Result<BTreeMap<String, Acknowledgement>> {
    let of_store = store_site(store)?.location();
    let mut together = BTreeMap::new();
    for (name, stream) in config.streams.iter().filter(|(_, stream)| stream.source == StreamSource::RedisStreams) {
        if stream_site(stream)?.location() == of_store {
            let checkpoint = stream.place == PlaceKept::Checkpoint;
            together.insert(name.clone(), Acknowledgement { key: stream.key(name).to_owned(), checkpoint });
        }
    }
    Ok(together)
}
