use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Aggregation, Column, FeastType, Field, Kind, Partitioning, Timestamp, Values};

/// SHA-256 of a component's bytes: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of no component: of what is written over HTTP.
    pub const NONE: Digest = Digest([0; 32]);
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl std::str::FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let complaint = || format!("{:?} is not a digest; write 64 hexadecimal digits", text.chars().take(80).collect::<String>());
        if text.len() != 64 || !text.is_ascii() {
            return Err(complaint());
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            let pair = text.get(index * 2..index * 2 + 2).ok_or_else(complaint)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| complaint())?;
        }
        Ok(Digest(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Number of a [`Schema`] within one online store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaId(pub u32);

/// How the rows that one component wrote into one view are to be read. Kept in the online store for good, so that rows stay readable after
/// any number of new versions, and say which component made them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    /// The feature view.
    pub view: String,
    /// The component that wrote the rows.
    pub component: Digest,
    /// Fields of the entity key, in order.
    pub entity: Vec<Field>,
    /// The values of a row, in order.
    pub features: Vec<Field>,
    /// What is kept beside the newest row; nothing for most.
    #[serde(default, skip_serializing_if = "Kept::is_default")]
    pub kept: Kept,
    /// Of a fold: the version under which it writes states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_version: Option<String>,
    /// How its stream was partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
    /// When the view began to keep more than rows, if there was a time when it did not: what is stored under another moment does not know of late events of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps_since: Option<Timestamp>,
}

/// What a view keeps of its entities beside the newest row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Windows over the outputs.
    #[serde(default)]
    pub aggregations: Vec<Aggregation>,
    /// How far back reads as of a moment are answered, in seconds of event time before the entity's newest event.
    #[serde(default)]
    pub history_secs: u64,
    /// Whether windows keep their events instead of tiles, so that both ends are exact.
    #[serde(default)]
    pub exact: bool,
}

impl Kept {
    /// Whether the newest row is all there is.
    pub fn is_nothing(&self) -> bool {
        self.aggregations.is_empty() && self.history_secs == 0
    }

    /// Whether it need not be written down. What is written must be read as the same, or a schema would not be found again.
    fn is_default(&self) -> bool {
        *self == Kept::default()
    }
}

/// A feature view as it is served now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Its name, the transform's name.
    pub name: String,
    /// For people.
    pub doc: String,
    /// The stream its events come from; none for a view that is computed when it is asked for, or written over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// How its stream is partitioned, by fields of the entity; none for most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
    /// The component that writes it; [`Digest::NONE`] for a view that is written over HTTP.
    pub component: Digest,
    /// The component's own version.
    pub version: String,
    /// Fields of the entity key, in order.
    pub entity: Vec<Field>,
    /// The features, in order.
    pub features: Vec<Field>,
    /// Those computed over windows, in order; references name them like any other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Field>,
    /// What is kept beside the newest row.
    #[serde(default, skip_serializing_if = "Kept::is_nothing")]
    pub kept: Kept,
    /// Age in seconds beyond which a row is no answer any more, by event time.
    pub max_age_secs: Option<u64>,
    /// Age in seconds beyond which a row is forgotten; nothing for never. Windows and history may keep it longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_secs: Option<u64>,
    /// Whether a state is kept for each entity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fold: bool,
    /// Of a view that is computed when it is asked for: what a request has to bring beside the entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<Field>,
    /// Of such a view: the features of other views that it is computed from, as references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<String>,
    /// Feast's words for the types of entity and features, where the view was declared in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, FeastType>,
}

impl View {
    /// How its rows are to be read: those of a fold that writes states under this version, if it is one, and of a view that began to keep more than rows at this moment.
    pub fn schema(&self, state_version: Option<String>, keeps_since: Option<Timestamp>) -> Schema {
        Schema {
            view: self.name.clone(),
            component: self.component,
            entity: self.entity.clone(),
            features: self.features.clone(),
            kept: self.kept.clone(),
            state_version,
            partitioning: self.partitioning.clone(),
            keeps_since,
        }
    }
}

/// How many there are of [`Status`].
pub const STATUSES: usize = 7;

/// Whether a feature has a value, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is a value.
    Present,
    /// The entity has a row, and this feature is null in it.
    Null,
    /// The entity has no row.
    NotFound,
    /// The row is older than the view's max age.
    OutsideMaxAge,
    /// The moment asked for lies before what is kept.
    OutsideHistory,
    /// It could not be computed for this request, and what was configured for that case stands in for it.
    Fallback,
    /// It could not be computed for this request.
    Error,
}

impl Status {
    /// All of them, each at its own number.
    pub const ALL: [Status; STATUSES] =
        [Status::Present, Status::Null, Status::NotFound, Status::OutsideMaxAge, Status::OutsideHistory, Status::Fallback, Status::Error];

    /// The word for it, as served.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Present => "present",
            Status::Null => "null",
            Status::NotFound => "not_found",
            Status::OutsideMaxAge => "outside_max_age",
            Status::OutsideHistory => "outside_history",
            Status::Fallback => "fallback",
            Status::Error => "error",
        }
    }
}

/// One value that is not null, borrowed from a packed row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A moment.
    Timestamp(Timestamp),
    /// A vector: 4 bytes a number, little-endian.
    Vector(&'a [u8]),
    /// The same as it stands in a column.
    Numbers(&'a [f32]),
    /// Values of one kind, packed one after the other.
    List(Kind, &'a [u8]),
}

impl<'a> Value<'a> {
    /// Takes one value of this kind from the front of `bytes`; `None` when they are cut short or are not of that kind.
    pub fn unpack(kind: Kind, bytes: &mut &'a [u8]) -> Option<Value<'a>> {
        Some(match kind {
            Kind::Boolean => Value::Boolean(*take::<1>(bytes)?.first()? != 0),
            Kind::Integer => Value::Integer(i64::from_le_bytes(*take(bytes)?)),
            Kind::Float => Value::Float(f64::from_le_bytes(*take(bytes)?)),
            Kind::Timestamp => Value::Timestamp(Timestamp(i64::from_le_bytes(*take(bytes)?))),
            Kind::Text => Value::Text(std::str::from_utf8(take_run(bytes, 1)?).ok()?),
            Kind::Bytes => Value::Bytes(take_run(bytes, 1)?),
            Kind::Vector => Value::Vector(take_run(bytes, 4)?),
            Kind::List => {
                let (of, values) = take_run(bytes, 1)?.split_first()?;
                Value::List(*KINDS.get(*of as usize)?, values)
            }
        })
    }

    /// The value at a row of a column, if it is not null.
    pub fn at(column: &'a Column, row: usize) -> Option<Value<'a>> {
        match (Value::raw(column, row)?, &column.values) {
            (Value::Bytes(bytes), Values::Texts(_)) => Some(Value::Text(std::str::from_utf8(bytes).unwrap_or_default())),
            (value, _) => Some(value),
        }
    }

    /// The same with text as bytes, for those who only pack it.
    pub(super) fn raw(column: &'a Column, row: usize) -> Option<Value<'a>> {
        if !column.is_valid(row) {
            return None;
        }
        Some(match &column.values {
            Values::Booleans(values) => Value::Boolean(*values.get(row)? != 0),
            Values::Integers(values) => Value::Integer(*values.get(row)?),
            Values::Floats(values) => Value::Float(*values.get(row)?),
            Values::Timestamps(values) => Value::Timestamp(Timestamp(*values.get(row)?)),
            Values::Texts(packed) | Values::Blobs(packed) => Value::Bytes(packed.get(row)),
            Values::Vectors { width, values } => {
                let start = row * *width as usize;
                return Some(Value::Numbers(values.get(start..start + *width as usize)?));
            }
        })
    }

    /// Appends the packed form that [`Value::unpack`] takes.
    pub fn pack(self, out: &mut Vec<u8>) {
        match self {
            Value::Boolean(truth) => out.push(u8::from(truth)),
            Value::Integer(number) | Value::Timestamp(Timestamp(number)) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Text(text) => push_run(out, text.as_bytes(), text.len()),
            Value::Bytes(bytes) => push_run(out, bytes, bytes.len()),
            Value::Vector(bytes) => push_run(out, bytes, bytes.len() / 4),
            Value::Numbers(numbers) => {
                push_run(out, &[], numbers.len());
                numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            }
            Value::List(of, values) => {
                push_run(out, &[KINDS.iter().position(|kind| *kind == of).unwrap_or_default() as u8], values.len() + 1);
                out.extend_from_slice(values);
            }
        }
    }
}

/// Kinds by the numbers under which lists are packed.
const KINDS: [Kind; 7] = [Kind::Boolean, Kind::Integer, Kind::Float, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::Vector];

fn push_run(out: &mut Vec<u8>, bytes: &[u8], items: usize) {
    out.extend_from_slice(&(items as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (front, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(front)
}

fn take_run<'a>(bytes: &mut &'a [u8], item_bytes: usize) -> Option<&'a [u8]> {
    let items = u32::from_le_bytes(*take(bytes)?) as usize;
    let (front, rest) = bytes.split_at_checked(items.checked_mul(item_bytes)?)?;
    *bytes = rest;
    Some(front)
}
