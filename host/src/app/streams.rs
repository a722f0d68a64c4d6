//! The store and the streams: the ends at which entries are added and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::Core;
use super::workers::ConsumerGroup;
use crate::config::{self, Config, Consumers, FeastRedisStore, PlaceKept, Secret, Start, Store, StreamSource};
use crate::data_folder::DataFolder;
use crate::model::{EntryId, Format, Place, Timestamp};
use crate::online_store::embedded::{self, EmbeddedStore};
use crate::online_store::memory::MemoryStore;
use crate::online_store::redis::{self, Acknowledgement, FeastLayout, RedisStore};
use crate::online_store::{self, OnlineStore, Writers};
use crate::pipeline::OpenSource;
use crate::resp::Address;
use crate::serve;
use crate::source::embedded::{Log, Retention};
use crate::source::redis_streams::{self, RedisAppender, RedisStreams};
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
                let options = embedded::Options { row_cache_bytes: store.cache_bytes, dead_letters_max };
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
        let appender: Arc<dyn Appender> = match config.source {
            StreamSource::Embedded => {
                let retention = Retention { entries_max: Some(config.entries_max), ..Retention::default() };
                let log = Log::open(&self.folder, name, retention).with_context(|| format!("stream `{name}`"))?;
                if let Ok(mut logs) = self.logs.lock() {
                    logs.insert(name.to_owned(), log.clone());
                }
                Arc::new(log)
            }
            StreamSource::RedisStreams => Arc::new(RedisAppender::open(config.url.reveal(), config.key(name))?),
        };
        let stream = serve::Stream { appender, format: config.format() };
        self.streams.rcu(|streams| {
            let mut streams = BTreeMap::clone(streams);
            streams.insert(name.to_owned(), stream.clone());
            streams
        });
        Ok(())
    }

    pub(super) fn writers(&self, config: &config::Stream) -> Writers {
        if config.source == StreamSource::RedisStreams && config.consumers == Consumers::Competing {
            return Writers::Competing;
        }
        let lease_ms = self.config.store.redis().map_or(60_000, |redis| redis.lease_ms);
        Writers::Single { holder: self.folder.host_id().to_owned(), lease_ms }
    }

    /// The end of an embedded log as it is when the host takes the stream up. A Redis stream's end is kept by its group.
    pub(super) fn begin(&self, name: &str, start: Start, config: &config::Stream) -> Option<EntryId> {
        let is_end_of_log = config.source == StreamSource::Embedded && start == Start::End;
        let log = self.logs.lock().ok()?.get(name).filter(|_| is_end_of_log).cloned()?;
        Some(log.last().unwrap_or_default())
    }

    pub(super) fn open_source(&self, group: &ConsumerGroup, start: Start, config: &config::Stream) -> anyhow::Result<OpenSource> {
        let name = group.stream.as_str();
        match config.source {
            StreamSource::Embedded => {
                let log = self.logs.lock().ok().and_then(|logs| logs.get(name).cloned()).context("the stream's log is not open")?;
                Ok(Box::new(move |place: Place| {
                    let reader = match (place.last, start) {
                        (Some(last), _) => log.reader(Some(last), source::embedded::Start::Oldest),
                        // The end is a place, which the pipeline keeps before it opens the source.
                        (None, Start::Beginning | Start::End) => log.reader(None, source::embedded::Start::Oldest),
                        (None, Start::After(id)) => log.reader(Some(id), source::embedded::Start::Oldest),
                    };
                    Box::pin(async move { Ok(Arc::new(reader) as Arc<dyn Source>) })
                }))
            }
            StreamSource::RedisStreams => {
                let options = redis_streams::Options {
                    key: config.key(name).to_owned(),
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
                };
                let url = config.url.clone();
                Ok(Box::new(move |place: Place| {
                    let options = redis_streams::Options { place: place.last, ..options.clone() };
                    let opened = RedisStreams::open(url.reveal(), options);
                    Box::pin(async move { Ok(Arc::new(opened?) as Arc<dyn Source>) })
                }))
            }
        }
    }
}

fn open_redis(config: &Config, store: &config::RedisStore, feast: Option<FeastLayout>) -> anyhow::Result<RedisStore> {
    let (prefix, dead_letters_max) = (store.prefix.clone(), config.dead_letters.max);
    let options = redis::Options { prefix, dead_letters_max, streams: settled_together(config, store)?, feast };
    Ok(RedisStore::new(store.url.reveal(), options)?)
}

/// The streams on the store's own server and database: their entries are acknowledged by the commit itself.
fn settled_together(config: &Config, store: &config::RedisStore) -> anyhow::Result<BTreeMap<String, Acknowledgement>> {
    let location = |url: &Secret| Ok::<_, anyhow::Error>(Address::parse(url.reveal()).map_err(anyhow::Error::msg)?.location());
    let of_store = location(&store.url)?;
    let mut together = BTreeMap::new();
    for (name, stream) in config.streams.iter().filter(|(_, stream)| stream.source == StreamSource::RedisStreams) {
        if location(&stream.url)? == of_store {
            let checkpoint = stream.place == PlaceKept::Checkpoint;
            together.insert(name.clone(), Acknowledgement { key: stream.key(name).to_owned(), checkpoint });
        }
    }
    Ok(together)
}
