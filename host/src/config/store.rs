//! `[store]`: where feature rows are kept.

use serde::{Deserialize, Serialize};

use super::secret::{Secret, resolve_url};
use super::within;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", try_from = "StoreText")]
pub enum Store {
    /// In the data folder.
    Embedded(EmbeddedStore),
    /// In this process; gone when it ends.
    Memory,
    /// In a Redis server.
    Redis(RedisStore),
    /// In a Redis server, laid out as Feast has it.
    FeastRedis(FeastRedisStore),
}

impl Store {
    /// The Redis server that it is in, if it is.
    pub fn redis(&self) -> Option<&RedisStore> {
        match self {
            Store::Embedded(_) | Store::Memory => None,
            Store::Redis(redis) => Some(redis),
            Store::FeastRedis(feast) => Some(&feast.redis),
        }
    }

    pub(super) fn redis_mut(&mut self) -> Option<&mut RedisStore> {
        match self {
            Store::Embedded(_) | Store::Memory => None,
            Store::Redis(redis) => Some(redis),
            Store::FeastRedis(feast) => Some(&mut feast.redis),
        }
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::Embedded(EmbeddedStore::default())
    }
}

/// `[store] type = "embedded"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmbeddedStore {
    /// Memory for recently used rows, in bytes; where absent, a part of what there is, see [`crate::online_store::embedded::row_cache_bytes`].
    pub cache_bytes: Option<u64>,
    /// When a commit is on disk.
    pub durability: Durability,
    /// With `buffer`: time between two syncs in milliseconds.
    pub sync_every_ms: u64,
}

impl Default for EmbeddedStore {
    fn default() -> EmbeddedStore {
        EmbeddedStore { cache_bytes: None, durability: Durability::Buffer, sync_every_ms: 100 }
    }
}

/// When a commit of the embedded store is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// At once in the system's buffers, which survive a crash of the host; on disk every `sync_every_ms`.
    Buffer,
    /// On disk before the commit counts.
    Sync,
}

/// `[store] type = "redis"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedisStore {
    /// Where it is; use `url_env` when it holds a password.
    #[serde(rename = "url", skip_serializing)]
    url_text: Option<Secret>,
    /// The environment variable that holds the URL.
    url_env: Option<String>,
    /// Where it is.
    #[serde(skip)]
    pub url: Secret,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// First part of every key.
    pub prefix: String,
    /// How long a host keeps a partition without renewing it, in milliseconds.
    pub lease_ms: u64,
}

impl Default for RedisStore {
    fn default() -> RedisStore {
        RedisStore { url_text: None, url_env: None, url: Secret::default(), cluster: false, prefix: "gristmill".into(), lease_ms: 5_000 }
    }
}

impl RedisStore {
    pub(super) fn check(&mut self, key: &str, complain: &mut impl FnMut(String, String)) {
        self.url = resolve_url(key, self.url_text.take(), self.url_env.as_deref(), self.cluster, complain);
        if self.cluster && self.prefix.contains(['{', '}']) {
            complain(format!("{key}.prefix"), "braces would put all keys of a cluster into one slot; leave them out".into());
        }
        if self.prefix.is_empty() || !self.prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            complain(format!("{key}.prefix"), "use printable ASCII without spaces, at least one character".into());
        }
        within(format!("{key}.lease_ms"), self.lease_ms, 100..=3_600_000, complain);
    }
}

/// `[store] type = "feast_redis"`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FeastRedisStore {
    /// The server, and what stands beside the rows.
    #[serde(flatten)]
    pub redis: RedisStore,
    /// How long an entity is kept after the last row that was accepted, in seconds; for ever when absent.
    pub key_ttl_secs: Option<u64>,
}

/// The section as it is written. A tagged enum would lose the places of its keys, and would let strange keys pass beside a type that has none.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoreText {
    r#type: StoreType,
    cache_bytes: Option<u64>,
    durability: Option<Durability>,
    sync_every_ms: Option<u64>,
    url: Option<Secret>,
    url_env: Option<String>,
    cluster: Option<bool>,
    prefix: Option<String>,
    lease_ms: Option<u64>,
    key_ttl_secs: Option<u64>,
}

impl Default for StoreText {
    fn default() -> StoreText {
        StoreText {
            r#type: StoreType::Embedded,
            cache_bytes: None,
            durability: None,
            sync_every_ms: None,
            url: None,
            url_env: None,
            cluster: None,
            prefix: None,
            lease_ms: None,
            key_ttl_secs: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoreType {
    Embedded,
    Memory,
    Redis,
    FeastRedis,
}

impl StoreType {
    /// A store in Feast's layout is a Redis store, and something more.
    fn has_settings_of(self, owner: StoreType) -> bool {
        self == owner || (self == StoreType::FeastRedis && owner == StoreType::Redis)
    }

    fn name(self) -> &'static str {
        match self {
            StoreType::Embedded => "embedded",
            StoreType::Memory => "memory",
            StoreType::Redis => "redis",
            StoreType::FeastRedis => "feast_redis",
        }
    }
}

impl TryFrom<StoreText> for Store {
    type Error = String;

    fn try_from(text: StoreText) -> Result<Store, String> {
        let StoreText { r#type, cache_bytes, durability, sync_every_ms, url, url_env, cluster, prefix, lease_ms, key_ttl_secs } = text;
        let settings = [
            ("cache_bytes", StoreType::Embedded, cache_bytes.is_some()),
            ("durability", StoreType::Embedded, durability.is_some()),
            ("sync_every_ms", StoreType::Embedded, sync_every_ms.is_some()),
            ("url", StoreType::Redis, url.is_some()),
            ("url_env", StoreType::Redis, url_env.is_some()),
            ("cluster", StoreType::Redis, cluster.is_some()),
            ("prefix", StoreType::Redis, prefix.is_some()),
            ("lease_ms", StoreType::Redis, lease_ms.is_some()),
            ("key_ttl_secs", StoreType::FeastRedis, key_ttl_secs.is_some()),
        ];
        if let Some((key, owner, _)) = settings.iter().find(|(_, owner, given)| *given && !r#type.has_settings_of(*owner)) {
            return Err(format!("`{key}` is a setting of type = \"{}\", and this store is of type \"{}\"", owner.name(), r#type.name()));
        }
        Ok(match r#type {
            StoreType::Memory => Store::Memory,
            StoreType::Embedded => {
                let default = EmbeddedStore::default();
                Store::Embedded(EmbeddedStore {
                    cache_bytes,
                    durability: durability.unwrap_or(default.durability),
                    sync_every_ms: sync_every_ms.unwrap_or(default.sync_every_ms),
                })
            }
            StoreType::Redis | StoreType::FeastRedis => {
                let default = RedisStore::default();
                let redis = RedisStore {
                    url_text: url,
                    url_env,
                    url: default.url,
                    cluster: cluster.unwrap_or(default.cluster),
                    prefix: prefix.unwrap_or(default.prefix),
                    lease_ms: lease_ms.unwrap_or(default.lease_ms),
                };
                match r#type {
                    StoreType::FeastRedis => Store::FeastRedis(FeastRedisStore { redis, key_ttl_secs }),
                    StoreType::Redis | StoreType::Memory | StoreType::Embedded => Store::Redis(redis),
                }
            }
        })
    }
}
