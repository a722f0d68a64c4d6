use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Field, Kind, Timestamp};

/// SHA-256 of a component's bytes: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

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
}

/// A feature view as it is served now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Its name, the transform's name.
    pub name: String,
    /// For people.
    pub doc: String,
    /// The stream its events come from.
    pub stream: String,
    /// The component that writes it.
    pub component: Digest,
    /// The component's own version.
    pub version: String,
    /// Fields of the entity key, in order.
    pub entity: Vec<Field>,
    /// The features, in order.
    pub features: Vec<Field>,
    /// Age in seconds beyond which a row is no answer any more, by event time.
    pub max_age_secs: Option<u64>,
}

/// All views served now, by name. Immutable: a change makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The views.
    pub views: BTreeMap<String, Arc<View>>,
}

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
}

impl Status {
    /// All of them, each at its own number.
    pub const ALL: [Status; 4] = [Status::Present, Status::Null, Status::NotFound, Status::OutsideMaxAge];

    /// The word for it, as served.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Present => "present",
            Status::Null => "null",
            Status::NotFound => "not_found",
            Status::OutsideMaxAge => "outside_max_age",
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
        })
    }
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
