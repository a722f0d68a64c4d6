use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Digest, EntryId, EntryRef, Reach, Timestamp};

/// What names a dead letter: one event is given up at most once by one transform, however often it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeadLetterId {
    /// The stream the event came from.
    pub stream: String,
    /// The partition that it stands in, where the stream has several: each numbers its entries by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its entry there.
    pub entry_id: EntryId,
    /// The transform that could not use it.
    pub transform: String,
}

/// `stream/entry-id/transform`, the form used in URLs, keys and on the command line. Of a partitioned stream
/// `stream/entry-id@partition/transform`.
impl std::fmt::Display for DeadLetterId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.stream, self.entry_id)?;
        if let Some(partition) = self.partition {
            write!(out, "@{partition}")?;
        }
        write!(out, "/{}", self.transform)
    }
}

impl std::str::FromStr for DeadLetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<DeadLetterId, String> {
        // The stream's name may itself contain slashes, so the parts are told apart from the right.
        let mut parts = text.rsplitn(3, '/');
        let parsed = (|| {
            let transform = parts.next()?.to_owned();
            let (entry_id, partition) = match parts.next()? {
                entry if entry.contains('@') => entry.split_once('@').map(|(entry, partition)| (entry, Some(partition)))?,
                entry => (entry, None),
            };
            let partition = partition.map(str::parse).transpose().ok()?;
            Some(DeadLetterId { stream: parts.next()?.to_owned(), partition, entry_id: entry_id.parse().ok()?, transform })
        })();
        parsed.ok_or_else(|| format!("{text:?} does not name a dead letter; write stream/entry-id/transform"))
    }
}

/// Why an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A field is missing or is not of the declared kind.
    Decode,
    /// The transform refused the row.
    Rejected,
    /// The transform returned an error for a batch of this row alone.
    Failed,
    /// The transform trapped on this row alone.
    Trap,
    /// The transform did not return within its deadline on this row alone.
    Deadline,
    /// The transform wanted more memory than it may have on this row alone.
    Memory,
    /// What the transform returned for this row alone breaks the contract.
    Invalid,
    /// The batch it was in kept failing and there was no time left to find the row at fault.
    NotIsolated,
    /// The entry was delivered again and again without ever being settled.
    Deliveries,
    /// It happened before everything that the view still keeps.
    TooLate,
    /// The entity would keep more than is allowed with it.
    TooLarge,
    /// It stands in a partition that its entity does not belong to.
    Misrouted,
    /// A row of it is to go on to a stream with partitions, and has nothing that tells into which.
    Unroutable,
}

impl Reason {
    /// The word for it, as in metrics and responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Decode => "decode",
            Reason::Rejected => "rejected",
            Reason::Failed => "failed",
            Reason::Trap => "trap",
            Reason::Deadline => "deadline",
            Reason::Memory => "memory",
            Reason::Invalid => "invalid",
            Reason::NotIsolated => "not_isolated",
            Reason::Deliveries => "deliveries",
            Reason::TooLate => "too_late",
            Reason::TooLarge => "too_large",
            Reason::Misrouted => "misrouted",
            Reason::Unroutable => "unroutable",
        }
    }
}

/// One field of an event as it stood in the stream; exact, so that a replay sees what the first try saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawField {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// An event given up on, with what is needed to understand it and to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Stream, entry and transform.
    #[serde(flatten)]
    pub id: DeadLetterId,
    /// The kind of failure.
    pub reason: Reason,
    /// What happened, to which value, and what would be right. One line, without control characters.
    pub message: String,
    /// The component that was running.
    pub component: Digest,
    /// When it was given up, by the host's clock.
    pub at: Timestamp,
    /// The event, field by field.
    pub event: Vec<RawField>,
}

impl DeadLetter {
    /// The fields of `entry`, copied.
    pub fn event_of(entry: &EntryRef<'_>) -> Vec<RawField> {
        entry.fields().map(|(name, value)| RawField { name: name.to_vec(), value: value.to_vec() }).collect()
    }
}

/// Which dead letters are wanted: all that match every given part, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Only of this transform.
    pub transform: Option<String>,
    /// Only of this stream.
    pub stream: Option<String>,
    /// Only these.
    pub ids: Option<BTreeSet<DeadLetterId>>,
    /// Only of streams and transforms within reach of who asks; `None` for all.
    pub reach: Option<Reach>,
    /// At most this many.
    pub limit: usize,
    /// No more of them once their events have this many bytes together; `None` for no bound.
    pub bytes_max: Option<usize>,
}

impl DeadLetterQuery {
    /// Whether this one is wanted, the bounds aside.
    pub fn wants(&self, letter: &DeadLetter) -> bool {
        self.transform.as_ref().is_none_or(|transform| *transform == letter.id.transform)
            && self.stream.as_ref().is_none_or(|stream| *stream == letter.id.stream)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && self.reach.as_ref().is_none_or(|reach| reach.stream(&letter.id.stream) && reach.view(&letter.id.transform))
    }
}

/// Dead letters gathered for a query, as much of each as is asked for.
pub struct Gathered<'q, T> {
    query: &'q DeadLetterQuery,
    bytes: usize,
    /// What was gathered.
    pub found: Vec<T>,
}

impl<'q, T> Gathered<'q, T> {
    /// Nothing yet.
    pub fn new(query: &'q DeadLetterQuery) -> Gathered<'q, T> {
        Gathered { query, bytes: 0, found: Vec::new() }
    }

    /// Whether there is room for more.
    pub fn is_full(&self) -> bool {
        let enough = self.query.ids.as_ref().map_or(self.query.limit, |ids| ids.len().min(self.query.limit));
        self.found.len() >= enough || self.query.bytes_max.is_some_and(|max| self.bytes >= max)
    }

    /// Takes what `keep` makes of a letter if that is wanted.
    pub fn add(&mut self, letter: DeadLetter, keep: impl FnOnce(DeadLetter) -> T) {
        if self.query.wants(&letter) && !self.is_full() {
            self.bytes += letter.event.iter().map(|field| field.name.len() + field.value.len()).sum::<usize>();
            self.found.push(keep(letter));
        }
    }
}

/// A pair of texts; what is not UTF-8 is written as an object with its bytes in hexadecimal.
impl Serialize for RawField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (RawText::of(&self.name), RawText::of(&self.value)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RawField, D::Error> {
        let (name, value) = <(RawText, RawText)>::deserialize(deserializer)?;
        let bytes = |text: RawText| text.into_bytes().ok_or_else(|| serde::de::Error::custom("bad hexadecimal"));
        Ok(RawField { name: bytes(name)?, value: bytes(value)? })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawText {
    Text(String),
    Bytes { hex: String },
}

impl RawText {
    fn of(bytes: &[u8]) -> RawText {
        match std::str::from_utf8(bytes) {
            Ok(text) => RawText::Text(text.to_owned()),
            Err(_) => RawText::Bytes { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }

    fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            RawText::Text(text) => Some(text.into_bytes()),
            RawText::Bytes { hex } if hex.is_ascii() && hex.len() % 2 == 0 => {
                let pair = |start: usize| u8::from_str_radix(hex.get(start..start + 2)?, 16).ok();
                (0..hex.len()).step_by(2).map(pair).collect()
            }
            RawText::Bytes { .. } => None,
        }
    }
}
