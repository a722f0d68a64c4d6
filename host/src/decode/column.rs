//! One column as it is filled.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Decoded, Wanted};
use crate::model::{Column, Kind, Packed, Validity, Value, Values, parse};

/// A row that did not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The row.
    pub row: u32,
    /// The field, what stands there, and what was expected.
    pub message: String,
}

/// A value as it stands in an event.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'t> {
    /// The value of a field of an entry.
    Plain(&'t [u8]),
    /// A JSON value's text.
    Json(&'t str),
}

/// Characters of a bad value that are shown.
const SHOWN_CHARS: usize = 80;

/// A column as it is filled, row by row.
pub struct Builder<'w> {
    wanted: &'w Wanted,
    values: Values,
    validity: Option<Validity>,
    faults: Vec<Fault>,
    rows: usize,
    capacity: usize,
}

impl<'w> Builder<'w> {
    /// No rows yet, and room for so many.
    pub fn new(wanted: &'w Wanted, rows: usize) -> Builder<'w> {
        let packed = || {
            let mut offsets = Vec::with_capacity(rows + 1);
            offsets.push(0);
            Packed { offsets, bytes: Vec::with_capacity(rows * 8) }
        };
        let values = match wanted.field.kind {
            Kind::Boolean => Values::Booleans(Vec::with_capacity(rows)),
            Kind::Integer => Values::Integers(Vec::with_capacity(rows)),
            Kind::Float => Values::Floats(Vec::with_capacity(rows)),
            Kind::Timestamp => Values::Timestamps(Vec::with_capacity(rows)),
            Kind::Text => Values::Texts(packed()),
            Kind::Bytes => Values::Blobs(packed()),
            Kind::Vector | Kind::List => Values::Vectors { width: wanted.field.width.unwrap_or(1), values: Vec::new() },
        };
        Builder { wanted, values, validity: None, faults: Vec::new(), rows: 0, capacity: rows }
    }

    pub(super) fn wanted(&self) -> &'w Wanted {
        self.wanted
    }

    /// Decodes the next row's value. A missing value or null takes the default, if there is one.
    pub fn push(&mut self, raw: Option<Raw<'_>>) {
        let raw = raw.filter(|raw| !self.is_null(raw));
        let default = self.wanted.field.default.as_deref();
        let Some(raw) = raw.or_else(|| default.map(|text| Raw::Plain(text.as_bytes()))) else {
            if self.wanted.field.nullable {
                self.push_null();
            } else {
                self.fault(format!("{} is missing or null; expected {}", self.name(), self.expected()));
            }
            return;
        };
        if !self.push_value(raw) {
            let shown = match raw {
                Raw::Plain(bytes) => format!("{:?}", shorten(&String::from_utf8_lossy(bytes))),
                Raw::Json(text) => shorten(text),
            };
            self.fault(format!("{} is {shown}; expected {}", self.name(), self.expected()));
        }
    }

    /// Takes the next row's value as it was stored; what is not there takes the default, if there is one.
    pub fn push_stored(&mut self, value: Option<Value<'_>>) {
        let Some(value) = value else { return self.push(None) };
        match (&mut self.values, value) {
            (Values::Booleans(values), Value::Boolean(truth)) => values.push(truth.into()),
            (Values::Integers(values), Value::Integer(number)) => values.push(number),
            (Values::Floats(values), Value::Float(number)) => values.push(number),
            (Values::Timestamps(values), Value::Timestamp(moment)) => values.push(moment.0),
            (Values::Texts(packed), Value::Text(text)) => packed.push(text.as_bytes()),
            (Values::Blobs(packed), Value::Bytes(bytes)) => packed.push(bytes),
            (Values::Vectors { width, values }, Value::Vector(bytes)) if bytes.len() == *width as usize * 4 => {
                values.extend(bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)));
            }
            _ => return self.fault(format!("{} is of another kind; expected {}", self.name(), self.expected())),
        }
        self.rows += 1;
    }

    /// Marks the next row as one that did not decode.
    pub fn fault(&mut self, message: String) {
        self.faults.push(Fault { row: self.rows as u32, message });
        self.push_null();
    }

    /// The column and its faults.
    pub fn finish(self) -> Decoded {
        Decoded { column: Arc::new(Column { values: self.values, validity: self.validity }), faults: self.faults }
    }

    fn is_null(&self, raw: &Raw<'_>) -> bool {
        match raw {
            Raw::Json(text) => *text == "null",
            // Formats without null, CSV above all, leave a number empty when there is none. An empty text is a text.
            Raw::Plain(bytes) => bytes.is_empty() && !matches!(self.wanted.field.kind, Kind::Text | Kind::Bytes),
        }
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Booleans(values) => values.push(0),
            Values::Integers(values) | Values::Timestamps(values) => values.push(0),
            Values::Floats(values) => values.push(0.0),
            Values::Texts(packed) | Values::Blobs(packed) => packed.push(b""),
            Values::Vectors { width, values } => values.resize(values.len() + *width as usize, 0.0),
        }
        self.validity.get_or_insert_with(|| Validity::all_valid(self.capacity)).set_null(self.rows);
        self.rows += 1;
    }

    /// Whether the value was of the declared kind and is now in the column.
    fn push_value(&mut self, raw: Raw<'_>) -> bool {
        let epoch = self.wanted.epoch;
        let pushed = match &mut self.values {
            Values::Booleans(values) => text(raw).and_then(|text| parse::boolean(&text)).map(|truth| values.push(truth.into())),
            Values::Integers(values) => text(raw).and_then(|text| parse::integer(&text)).map(|number| values.push(number)),
            Values::Floats(values) => text(raw).and_then(|text| parse::float(&text)).map(|number| values.push(number)),
            Values::Timestamps(values) => text(raw).and_then(|text| parse::timestamp(&text, epoch)).map(|moment| values.push(moment.0)),
            Values::Texts(packed) => text(raw).filter(|text| std::str::from_utf8(text).is_ok()).map(|text| packed.push(&text)),
            Values::Blobs(packed) => text(raw).map(|bytes| packed.push(&bytes)),
            Values::Vectors { width, values } => parse_vector(raw, *width as usize).map(|numbers| values.extend(numbers)),
        };
        self.rows += usize::from(pushed.is_some());
        pushed.is_some()
    }

    fn name(&self) -> String {
        let Wanted { field, from, .. } = self.wanted;
        if *from == field.name { format!("field `{from}`") } else { format!("field `{from}` (input `{}`)", field.name) }
    }

    fn expected(&self) -> String {
        match (self.wanted.field.kind, self.wanted.field.width) {
            (Kind::Timestamp, _) => "timestamp (RFC 3339 with an offset, or a number since the Unix epoch)".into(),
            (Kind::Vector, Some(width)) => format!("vector of {width} numbers"),
            (kind, _) => kind.to_string(),
        }
    }
}

fn shorten(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() { format!("{shown}…") } else { shown }
}

/// The text of a value.
fn text(raw: Raw<'_>) -> Option<Cow<'_, [u8]>> {
    match raw {
        Raw::Plain(bytes) => Some(Cow::Borrowed(bytes)),
        Raw::Json(json) => parse::json_text(json).map(|text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
    }
}

/// A JSON array of numbers, or the numbers themselves as 32-bit little-endian floats, which is how vectors usually stand in Redis.
fn parse_vector(raw: Raw<'_>, width: usize) -> Option<Vec<f32>> {
    let bytes = text(raw)?;
    let numbers = if bytes.first() == Some(&b'[') {
        serde_json::from_slice::<Vec<f32>>(&bytes).ok()?
    } else if matches!(raw, Raw::Plain(_)) && bytes.len() == width * 4 {
        bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
    } else {
        return None;
    };
    (numbers.len() == width).then_some(numbers)
}
