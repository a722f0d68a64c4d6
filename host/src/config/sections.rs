//! The sections of the file, each with its defaults. `gristmill.reference.toml` shows them all; a test keeps the two equal.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{EntryId, Format, InputBinding};
use crate::transform::Limits;

/// A text that may hold a password: never printed, never serialised.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// `[host]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSection {
    /// Everything that the host keeps on disk.
    pub data_folder: PathBuf,
    /// Address and port of the HTTP interface.
    pub listen: SocketAddr,
    /// A watched folder: a component in it is a transform of its file's name.
    pub transforms_folder: Option<PathBuf>,
    /// What is logged, in the syntax of tracing's EnvFilter.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Time to finish what is in hand on shutdown, in milliseconds.
    pub shutdown_grace_ms: u64,
}

impl Default for HostSection {
    fn default() -> HostSection {
        HostSection {
            data_folder: "gristmill-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            transforms_folder: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            shutdown_grace_ms: 10_000,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Store {
    /// In the data folder.
    Embedded(EmbeddedStore),
    /// In this process; gone when it ends.
    Memory,
    /// In a Redis server.
    Redis(RedisStore),
}

impl Default for Store {
    fn default() -> Store {
        Store::Embedded(EmbeddedStore::default())
    }
}

/// `[store] type = "embedded"`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedStore {
    /// Memory for recently used rows, in bytes.
    pub cache_bytes: u64,
    /// When a commit is on disk.
    pub durability: Durability,
    /// With `buffer`: time between two syncs in milliseconds.
    pub sync_every_ms: u64,
}

impl Default for EmbeddedStore {
    fn default() -> EmbeddedStore {
        EmbeddedStore { cache_bytes: 64 << 20, durability: Durability::Buffer, sync_every_ms: 100 }
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisStore {
    /// Where it is; use `url_env` when it holds a password.
    #[serde(rename = "url")]
    url_text: Option<String>,
    /// The environment variable that holds the URL.
    url_env: Option<String>,
    /// Where it is.
    #[serde(skip)]
    pub url: Secret,
    /// First part of every key.
    pub prefix: String,
    /// How long a host keeps a partition without renewing it, in milliseconds.
    pub lease_ms: u64,
}

impl Default for RedisStore {
    fn default() -> RedisStore {
        RedisStore { url_text: None, url_env: None, url: Secret::default(), prefix: "gristmill".into(), lease_ms: 5_000 }
    }
}

impl RedisStore {
    pub(super) fn check(&mut self, key: &str, complain: &mut impl FnMut(String, String)) {
        self.url = resolve_url(key, self.url_text.as_deref(), self.url_env.as_deref(), complain);
        if self.prefix.is_empty() || !self.prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            complain(format!("{key}.prefix"), "use printable ASCII without spaces, at least one character".into());
        }
        if !(100..=3_600_000).contains(&self.lease_ms) {
            complain(format!("{key}.lease_ms"), "use 100 to 3600000".into());
        }
    }
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// How many are kept; the oldest go first, and are counted.
    pub max: u64,
}

impl Default for DeadLetters {
    fn default() -> DeadLetters {
        DeadLetters { max: 100_000 }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Bytes in the body of a query or of events.
    pub body_bytes_max: usize,
    /// Bytes in a component.
    pub component_bytes_max: usize,
    /// Entities in one query.
    pub entities_max: usize,
    /// Features in one query.
    pub features_max: usize,
    /// Connections open at the same time.
    pub connections_max: usize,
    /// Requests answered at the same time.
    pub concurrency_max: usize,
    /// Time for one request in milliseconds.
    pub request_timeout_ms: u64,
    /// Whether to listen beyond this machine, where anybody who reaches the port may do anything.
    pub allow_remote: bool,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            body_bytes_max: 8 << 20,
            component_bytes_max: 64 << 20,
            entities_max: 10_000,
            features_max: 1_000,
            connections_max: 4_096,
            concurrency_max: 1_024,
            request_timeout_ms: 30_000,
            allow_remote: false,
        }
    }
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Instances of all transforms together.
    pub instances_max: u32,
    /// The largest memory that any transform may be given, in bytes.
    pub memory_bytes_max: usize,
    /// Whether compiled components are kept in the data folder.
    pub compile_cache: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine { instances_max: 64, memory_bytes_max: 64 << 20, compile_cache: true }
    }
}

/// `[streams.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Where the entries are.
    #[serde(rename = "type")]
    pub source: StreamSource,
    /// The consumer group.
    pub group: String,
    /// Entries in one batch, at most.
    pub batch_events_max: usize,
    /// How events stand in the entries; `json` in a field `data` for embedded streams, `fields` for Redis streams.
    pub format: Option<Format>,
    /// Where a group that has no place yet begins.
    pub start: Start,
    /// Embedded streams: entries kept, the oldest go first.
    pub entries_max: u64,
    /// Redis streams: where the server is; use `url_env` when it holds a password.
    #[serde(rename = "url")]
    url_text: Option<String>,
    /// Redis streams: the environment variable that holds the URL.
    url_env: Option<String>,
    /// Where the server is.
    #[serde(skip)]
    pub url: Secret,
    /// Redis streams: the key; the stream's name when absent.
    pub key: Option<String>,
    /// Redis streams: who remembers how far the group is.
    pub place: PlaceKept,
    /// Redis streams: whether several hosts share the entries.
    pub consumers: Consumers,
    /// Redis streams: entries that another consumer left pending for this long are taken over, in milliseconds.
    pub claim_idle_ms: u64,
    /// Redis streams: entries delivered more often than this are dead letters.
    pub deliveries_max: u64,
    /// Redis streams: how long one read waits for entries, in milliseconds.
    pub block_ms: u64,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            source: StreamSource::Embedded,
            group: "gristmill".into(),
            batch_events_max: 1_000,
            format: None,
            start: Start::Beginning,
            entries_max: 10_000_000,
            url_text: None,
            url_env: None,
            url: Secret::default(),
            key: None,
            place: PlaceKept::Acknowledge,
            consumers: Consumers::Single,
            claim_idle_ms: 60_000,
            deliveries_max: 100,
            block_ms: 1_000,
        }
    }
}

impl Stream {
    /// The key of a Redis stream.
    pub fn key<'s>(&'s self, name: &'s str) -> &'s str {
        self.key.as_deref().unwrap_or(name)
    }

    /// How events stand in the entries.
    pub fn format(&self) -> Format {
        self.format.clone().unwrap_or(match self.source {
            StreamSource::Embedded => Format::Json { field: "data".into() },
            StreamSource::RedisStreams => Format::Fields,
        })
    }

    pub(super) fn check(&mut self, key: &str, complain: &mut impl FnMut(String, String)) {
        if !(1..=10_000).contains(&self.batch_events_max) {
            complain(format!("{key}.batch_events_max"), "use 1 to 10000".into());
        }
        if self.group.is_empty() {
            complain(format!("{key}.group"), "a consumer group has a name".into());
        }
        match self.source {
            StreamSource::RedisStreams => {
                self.url = resolve_url(key, self.url_text.as_deref(), self.url_env.as_deref(), complain);
                if self.place == PlaceKept::Checkpoint && self.consumers == Consumers::Competing {
                    complain(format!("{key}.consumers"), "competing consumers need place = \"acknowledge\"".into());
                }
            }
            StreamSource::Embedded => {
                if self.url_text.is_some() || self.url_env.is_some() {
                    complain(key.to_owned(), "an embedded stream has no url; did you mean type = \"redis_streams\"?".into());
                }
            }
        }
    }
}

/// Where the entries of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamSource {
    /// In the data folder.
    Embedded,
    /// In a Redis server.
    RedisStreams,
}

/// Who remembers how far a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKept {
    /// Redis: entries are pending until the commit acknowledges them.
    Acknowledge,
    /// The online store: entries are read from the last commit's place, and the group is moved along for its tools.
    Checkpoint,
}

/// Whether several hosts share the entries of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consumers {
    /// One host at a time; others stand by.
    Single,
    /// All at the same time.
    Competing,
}

/// Where a group that has no place yet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first entry that is there.
    Beginning,
    /// With the next entry that comes.
    End,
    /// After this entry.
    After(EntryId),
}

impl Serialize for Start {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Start::Beginning => serializer.serialize_str("beginning"),
            Start::End => serializer.serialize_str("end"),
            Start::After(id) => id.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Start, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "beginning" => Ok(Start::Beginning),
            "end" => Ok(Start::End),
            _ => text.parse().map(Start::After).map_err(|_| {
                serde::de::Error::custom(format!(
                    "{text:?} is not a start; use \"beginning\", \"end\" or an entry id such as \"1526919030474-0\""
                ))
            }),
        }
    }
}

/// `[transforms.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    /// The component's file.
    pub component: PathBuf,
    /// The stream; the component's first when absent.
    pub stream: Option<String>,
    /// Handed to the component as JSON.
    pub settings: Option<toml::Table>,
    /// Age in seconds beyond which a row is no answer.
    pub max_age_secs: Option<u64>,
    /// Age in seconds beyond which a row is forgotten; twice `max_age_secs` when absent.
    pub expire_secs: Option<u64>,
    /// Time in milliseconds to find the rows at fault in one failing batch.
    pub bisect_ms_max: Option<u64>,
    /// What one instance may use, where it differs from `[limits]`.
    #[serde(rename = "limits")]
    limits_text: toml::Table,
    /// What one instance may use.
    #[serde(skip)]
    pub limits: Limits,
    /// Inputs that are found elsewhere than the component says, by name.
    pub inputs: BTreeMap<String, InputBinding>,
}

impl Transform {
    /// The settings as the component gets them.
    pub fn settings_json(&self) -> String {
        self.settings.as_ref().and_then(|settings| serde_json::to_string(settings).ok()).unwrap_or_default()
    }

    pub(super) fn check(&mut self, key: &str, limits: Limits, memory_bytes_max: usize, complain: &mut impl FnMut(String, String)) {
        if self.component.file_name().is_none() {
            complain(format!("{key}.component"), "name the component's file".into());
        }
        match limits_over(limits, &self.limits_text) {
            Ok(limits) => self.limits = limits,
            Err(message) => complain(format!("{key}.limits"), message),
        }
        if self.limits.memory_bytes_max > memory_bytes_max {
            let message = format!("more than engine.memory_bytes_max, {memory_bytes_max}; raise that or lower this");
            complain(format!("{key}.limits.memory_bytes_max"), message);
        }
        if let (Some(max_age), Some(expire)) = (self.max_age_secs, self.expire_secs)
            && expire < max_age
        {
            complain(format!("{key}.expire_secs"), format!("rows would be forgotten before they are too old; use at least {max_age}"));
        }
        for name in self.inputs.keys().filter(|name| !crate::model::is_name(name)) {
            complain(format!("{key}.inputs.{name}"), "not a name that an input can have".into());
        }
    }
}

/// The general limits with some of them replaced.
fn limits_over(limits: Limits, replaced: &toml::Table) -> Result<Limits, String> {
    let mut table = toml::Table::try_from(limits).map_err(|error| error.to_string())?;
    table.extend(replaced.clone());
    table.try_into().map_err(|error| error.message().replace('\n', " "))
}

/// The one URL that is given, from the file or from the environment.
fn resolve_url(key: &str, text: Option<&str>, env: Option<&str>, complain: &mut impl FnMut(String, String)) -> Secret {
    let url = match (text, env) {
        (Some(_), Some(_)) => {
            complain(format!("{key}.url"), "give `url` or `url_env`, not both".into());
            return Secret::default();
        }
        (None, None) => "redis://127.0.0.1:6379/0".to_owned(),
        (Some(url), None) => url.to_owned(),
        (None, Some(name)) => match std::env::var(name) {
            Ok(url) => url,
            Err(_) => {
                complain(format!("{key}.url_env"), format!("the environment variable `{name}` is not set"));
                return Secret::default();
            }
        },
    };
    if !url.starts_with("redis://") && !url.starts_with("redis+unix://") && !url.starts_with("unix://") {
        complain(format!("{key}.url"), "not a Redis URL; write redis://HOST:PORT/DB".into());
    }
    Secret(url)
}
