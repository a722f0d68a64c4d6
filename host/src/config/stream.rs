//! `[streams.NAME]`: where entries come from and who reads them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, resolve_url};
use super::within;
use crate::model::{EntryId, Format, GroupName, PARTITIONS_MAX, Partitioning, Timestamp};

/// Settings that only Redis streams have.
const REDIS_SETTINGS: &[&str] = &["url", "url_env", "cluster", "key", "place", "consumers", "claim_idle_ms", "deliveries_max", "block_ms"];
/// Settings that only embedded streams have.
const EMBEDDED_SETTINGS: &[&str] = &["entries_max"];

/// `[streams.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Where the entries are.
    #[serde(rename = "type")]
    pub source: StreamSource,
    /// The consumer group.
    pub group: GroupName,
    /// Entries in one batch, at most.
    pub batch_events_max: usize,
    /// How events stand in the entries; `json` in a field `data` for embedded streams, `fields` for Redis streams.
    pub format: Option<Format>,
    /// Where a group that has no place yet begins.
    pub start: Start,
    /// Embedded streams: entries kept, the oldest go first.
    pub entries_max: u64,
    /// Redis streams: where the server is; use `url_env` when it holds a password.
    #[serde(rename = "url", skip_serializing)]
    url_text: Option<Secret>,
    /// Redis streams: the environment variable that holds the URL.
    url_env: Option<String>,
    /// Where the server is.
    #[serde(skip)]
    pub url: Secret,
    /// Redis streams: whether the server is a cluster.
    pub cluster: bool,
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
    /// Partitions that it is split into; not at all when absent.
    pub partitions: Option<u32>,
    /// The fields of events that tell the partition.
    pub partition_by: Vec<String>,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            source: StreamSource::Embedded,
            group: GroupName::default(),
            batch_events_max: 1_000,
            format: None,
            start: Start::Beginning,
            entries_max: 10_000_000,
            url_text: None,
            url_env: None,
            url: Secret::default(),
            cluster: false,
            key: None,
            place: PlaceKept::Acknowledge,
            consumers: Consumers::Single,
            claim_idle_ms: 60_000,
            deliveries_max: 100,
            block_ms: 1_000,
            partitions: None,
            partition_by: Vec::new(),
        }
    }
}

impl Stream {
    /// The key of a Redis stream.
    pub fn key<'s>(&'s self, name: &'s str) -> &'s str {
        self.key.as_deref().unwrap_or(name)
    }

    /// How it is split, if it is.
    pub fn partitioning(&self, name: &str) -> Option<Partitioning> {
        let key = match self.source {
            StreamSource::Embedded => name,
            StreamSource::RedisStreams => self.key(name),
        };
        self.partitions.map(|count| Partitioning { key: key.to_owned(), count, by: self.partition_by.clone() })
    }

    /// How events stand in the entries.
    pub fn format(&self) -> Format {
        self.format.clone().unwrap_or(match self.source {
            StreamSource::Embedded => Format::Json { field: "data".into() },
            StreamSource::RedisStreams => Format::Fields,
        })
    }

    pub(super) fn check(&mut self, name: &str, given: &[&str], complain: &mut impl FnMut(String, String)) {
        let key = &format!("streams.{name}");
        self.check_partitions(name, key, complain);
        within(format!("{key}.batch_events_max"), self.batch_events_max as u64, 1..=10_000, complain);
        within(format!("{key}.entries_max"), self.entries_max, 1..=u64::MAX, complain);
        within(format!("{key}.deliveries_max"), self.deliveries_max, 1..=u64::MAX, complain);
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.chars().any(char::is_control)) {
            complain(format!("{key}.key"), "a key has at least one character and no control characters".into());
        }
        let (others, owner, advice) = match self.source {
            StreamSource::Embedded => (REDIS_SETTINGS, "Redis", "; did you mean type = \"redis_streams\"?"),
            StreamSource::RedisStreams => (EMBEDDED_SETTINGS, "embedded", ""),
        };
        for name in given.iter().filter(|name| others.contains(name)) {
            complain(format!("{key}.{name}"), format!("a setting of {owner} streams, and this stream is none{advice}"));
        }
        match self.source {
            StreamSource::RedisStreams => {
                self.url = resolve_url(key, self.url_text.take(), self.url_env.as_deref(), self.cluster, complain);
                if self.place == PlaceKept::Checkpoint && self.consumers == Consumers::Competing {
                    complain(format!("{key}.consumers"), "competing consumers need place = \"acknowledge\"".into());
                }
            }
            StreamSource::Embedded => {}
        }
    }
}

impl Stream {
    fn check_partitions(&self, name: &str, key: &str, complain: &mut impl FnMut(String, String)) {
        let Some(partitioning) = self.partitioning(name) else {
            if !self.partition_by.is_empty() {
                complain(format!("{key}.partition_by"), "says nothing without `partitions`; say how many there are".into());
            }
            return;
        };
        within(format!("{key}.partitions"), partitioning.count.into(), 1..=PARTITIONS_MAX.into(), complain);
        let distinct: BTreeSet<&String> = self.partition_by.iter().collect();
        if distinct.is_empty() || distinct.len() < self.partition_by.len() || distinct.iter().any(|field| field.is_empty()) {
            complain(format!("{key}.partition_by"), "name the fields of events that tell the partition, each once".into());
        }
        if partitioning.key.contains(['{', '}']) {
            let key_of = if self.key.is_some() { "key" } else { "partitions" };
            let reason = "the key of a stream with partitions has no braces: they stand around it in the keys of the partitions";
            complain(format!("{key}.{key_of}"), reason.into());
        }
        if self.consumers == Consumers::Competing {
            let reason = "hosts share a stream with partitions by partition; leave out `consumers = \"competing\"`";
            complain(format!("{key}.consumers"), reason.into());
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
    /// After this entry; written as its id, or as a moment, for the first entry that came at it or later.
    After(EntryId),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        let moment = || Timestamp::parse(text).ok().map(|moment| EntryId { ms: ms_before(moment), seq: u64::MAX });
        match text {
            "beginning" => Ok(Start::Beginning),
            "end" => Ok(Start::End),
            _ => text.parse().ok().or_else(moment).map(Start::After).ok_or_else(|| {
                let shown: String = text.chars().take(80).collect();
                format!(
                    "{shown:?} is not a start; use \"beginning\", \"end\", an entry id such as \"1526919030474-0\", or a moment such as \
                     \"2026-01-02T03:04:05Z\""
                )
            }),
        }
    }
}

/// The last millisecond before a moment.
fn ms_before(moment: Timestamp) -> u64 {
    u64::try_from(moment.0.div_euclid(1_000).saturating_sub(1)).unwrap_or(0)
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
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
