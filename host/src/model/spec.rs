use serde::{Deserialize, Serialize};

use super::Aggregation;
use super::aggregation;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// True or false.
    Boolean,
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit IEEE 754 number.
    Float,
    /// UTF-8 text.
    Text,
    /// Bytes of any content.
    Bytes,
    /// A moment in microseconds.
    Timestamp,
    /// A fixed number of 32-bit floats.
    Vector,
    /// Several values of one kind: only features that the host computes are lists.
    List,
}

impl Kind {
    /// The word for it, as in configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Float => "float",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::Timestamp => "timestamp",
            Kind::Vector => "vector",
            Kind::List => "list",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One named column that a transform reads or writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// See [`is_name`].
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// Whether null may stand in it.
    pub nullable: bool,
    /// Inputs: the text that stands in for a missing value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Vectors: numbers in one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// For people: meaning and unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

impl Field {
    /// A field with nothing said about it but its kind.
    pub fn plain(name: &str, kind: Kind, nullable: bool) -> Field {
        Field { name: name.to_owned(), kind, nullable, default: None, width: None, doc: String::new() }
    }
}

/// What a transform says about itself. One that came out of [`Spec::check`] without an error is consistent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The transform's own name.
    pub name: String,
    /// The author's version.
    pub version: String,
    /// For people.
    pub doc: String,
    /// Streams that it reads unless configuration says otherwise.
    pub streams: Vec<String>,
    /// Input fields that form the entity key.
    pub entity: Vec<String>,
    /// Input field that holds the event time; `None` for the entry's own.
    pub event_time: Option<String>,
    /// What it reads.
    pub inputs: Vec<Field>,
    /// What it returns.
    pub outputs: Vec<Field>,
    /// Windows over the outputs.
    pub aggregations: Vec<Aggregation>,
}

/// A spec contradicts itself or goes beyond a limit; the text says where and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

/// Fields in a spec's inputs or outputs, at most.
const FIELDS_MAX: usize = 1_024;
/// Bytes in any one text of a spec, at most.
const TEXT_BYTES_MAX: usize = 16 * 1_024;
/// Numbers in one vector, at most.
const WIDTH_MAX: u32 = 65_536;

/// Bytes of the values of one row, at most: what one event can make the host store, and one entity can make it serve.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// Bytes that windows and history of one entity may take, unless configured otherwise.
pub const ENTITY_BYTES_MAX: usize = 2 << 20;
/// Bytes that the inputs of one row take even if the event has none of them, at most: defaults, and the places of vectors that are null. One
/// vector of the greatest width.
const ABSENT_BYTES_MAX: usize = WIDTH_MAX as usize * 4;

/// Whether `name` may name a transform, a view, a stream's transform or a field: 1 to 63 of ASCII letters, digits and `_`, not starting with a
/// digit.
pub fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(legal) && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether `name` may name a stream: 1 to 255 printable ASCII characters without spaces.
pub fn is_stream_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Spec {
    /// Checks every rule of the contract that can be told from the spec alone.
    pub fn check(&self) -> Result<(), SpecError> {
        check_name("the transform's name", &self.name)?;
        check_text("version", &self.version)?;
        check_text("doc", &self.doc)?;
        check_fields("input", &self.inputs)?;
        check_fields("output", &self.outputs)?;
        let absent = |field: &Field| vector_bytes(field) + field.default.as_deref().map_or(0, str::len);
        check_total("inputs", "without any of their values", self.inputs.iter().map(absent).sum(), ABSENT_BYTES_MAX)?;
        check_total("outputs", "with nothing but their vectors", self.outputs.iter().map(vector_bytes).sum(), ROW_BYTES_MAX)?;
        if self.streams.len() > 64 {
            return Err(SpecError(format!("it names {} streams; 64 are allowed", self.streams.len())));
        }
        if let Some(stream) = self.streams.iter().find(|stream| !is_stream_name(stream)) {
            let shown: String = stream.chars().take(64).collect();
            return Err(SpecError(format!("{shown:?} cannot name a stream; use 1 to 255 printable ASCII characters and no spaces")));
        }
        if self.outputs.is_empty() {
            return Err(SpecError("it has no outputs; a transform returns at least one feature".into()));
        }
        if self.entity.is_empty() {
            return Err(SpecError("its entity is empty; name the input fields that form the entity key".into()));
        }
        for (index, name) in self.entity.iter().enumerate() {
            let field = self.input("entity", name)?;
            if self.entity.iter().take(index).any(|earlier| earlier == name) {
                return Err(SpecError(format!("entity names `{name}` twice")));
            }
            if field.nullable {
                return Err(SpecError(format!("entity field `{name}` is nullable; an entity key has no nulls")));
            }
            if matches!(field.kind, Kind::Float | Kind::Vector | Kind::List) {
                let kind = field.kind;
                return Err(SpecError(format!("entity field `{name}` is a {kind}; use text, integer, boolean, bytes or timestamp")));
            }
        }
        if let Some(name) = &self.event_time {
            let field = self.input("event-time", name)?;
            if field.kind != Kind::Timestamp || field.nullable {
                return Err(SpecError(format!("event-time field `{name}` must be a timestamp that is not nullable")));
            }
        }
        aggregation::fields(&self.outputs, &self.aggregations).map(drop)
    }

    fn input(&self, role: &str, name: &str) -> Result<&Field, SpecError> {
        let found = self.inputs.iter().find(|field| field.name == name);
        found.ok_or_else(|| SpecError(format!("{role} names `{name}`, which is not among the inputs")))
    }
}

fn check_fields(role: &str, fields: &[Field]) -> Result<(), SpecError> {
    if fields.len() > FIELDS_MAX {
        return Err(SpecError(format!("it has {} {role}s; {FIELDS_MAX} are allowed", fields.len())));
    }
    let mut names = std::collections::HashSet::new();
    for field in fields {
        check_name(role, &field.name)?;
        check_text(role, &field.doc)?;
        check_text(role, field.default.as_deref().unwrap_or_default())?;
        if !names.insert(&field.name) {
            return Err(SpecError(format!("{role} `{}` is declared twice", field.name)));
        }
        match (field.kind, field.width) {
            (Kind::Vector, Some(1..=WIDTH_MAX)) => {}
            (Kind::Vector, _) => {
                return Err(SpecError(format!("{role} `{}` is a vector and needs a width of 1 to {WIDTH_MAX}", field.name)));
            }
            (_, None) => {}
            (kind, Some(_)) => return Err(SpecError(format!("{role} `{}` is a {kind} and must not have a width", field.name))),
        }
    }
    Ok(())
}

fn vector_bytes(field: &Field) -> usize {
    field.width.map_or(0, |width| width as usize * 4)
}

fn check_total(what: &str, when: &str, bytes: usize, bytes_max: usize) -> Result<(), SpecError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(SpecError(format!(
        "its {what} take {bytes} bytes a row {when}; {bytes_max} are allowed: use fewer or narrower vectors, or shorter defaults"
    )))
}

pub(super) fn check_name(role: &str, name: &str) -> Result<(), SpecError> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(SpecError(format!("{role} {shown:?} is not a name; use 1 to 63 ASCII letters, digits and `_`, not starting with a digit")))
}

pub(super) fn check_text(role: &str, text: &str) -> Result<(), SpecError> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(SpecError(format!("{role} has {} bytes of text; {TEXT_BYTES_MAX} are allowed", text.len())))
}
