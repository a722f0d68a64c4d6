//! One column as it is filled, and the rules by which text becomes a value.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Decoded, Wanted};
use crate::model::{Column, Epoch, Kind, Packed, Timestamp, Validity, Values};

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
pub(super) enum Raw<'t> {
    /// The value of a field of an entry.
    Plain(&'t [u8]),
    /// A JSON value's text.
    Json(&'t str),
}

/// Characters of a bad value that are shown.
const SHOWN_CHARS: usize = 80;

pub(super) struct Builder<'w> {
    wanted: &'w Wanted,
    values: Values,
    validity: Option<Validity>,
    faults: Vec<Fault>,
    rows: usize,
    capacity: usize,
}

impl<'w> Builder<'w> {
    pub(super) fn new(wanted: &'w Wanted, rows: usize) -> Builder<'w> {
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
            Kind::Vector => Values::Vectors { width: wanted.field.width.unwrap_or(1), values: Vec::new() },
        };
        Builder { wanted, values, validity: None, faults: Vec::new(), rows: 0, capacity: rows }
    }

    pub(super) fn wanted(&self) -> &'w Wanted {
        self.wanted
    }

    /// Decodes the next row's value. A missing value or null takes the default, if there is one.
    pub(super) fn push(&mut self, raw: Option<Raw<'_>>) {
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

    /// Marks the next row as one that did not decode.
    pub(super) fn fault(&mut self, message: String) {
        self.faults.push(Fault { row: self.rows as u32, message });
        self.push_null();
    }

    pub(super) fn finish(self) -> Decoded {
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
            Values::Booleans(values) => text(raw).and_then(|text| parse_boolean(&text)).map(|truth| values.push(truth.into())),
            Values::Integers(values) => text(raw).and_then(|text| parse_integer(&text)).map(|number| values.push(number)),
            Values::Floats(values) => text(raw).and_then(|text| parse_float(&text)).map(|number| values.push(number)),
            Values::Timestamps(values) => text(raw).and_then(|text| parse_timestamp(&text, epoch)).map(|moment| values.push(moment.0)),
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

/// The text of a value: a plain value as it stands, a JSON string without its quotes, any other JSON value as it is written.
fn text(raw: Raw<'_>) -> Option<Cow<'_, [u8]>> {
    match raw {
        Raw::Plain(bytes) => Some(Cow::Borrowed(bytes)),
        Raw::Json(json) => match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            None => Some(Cow::Borrowed(json.as_bytes())),
            Some(inner) if !inner.contains('\\') => Some(Cow::Borrowed(inner.as_bytes())),
            Some(_) => serde_json::from_str::<String>(json).ok().map(|text| Cow::Owned(text.into_bytes())),
        },
    }
}

fn parse_boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

fn parse_integer(text: &[u8]) -> Option<i64> {
    if let Ok(number) = lexical_core::parse::<i64>(text) {
        return Some(number);
    }
    // Many languages write whole numbers as 12.0 once they have been floats. Beyond 2^53 such a text does not name one integer.
    let number = lexical_core::parse::<f64>(text).ok()?;
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

fn parse_float(text: &[u8]) -> Option<f64> {
    lexical_core::parse::<f64>(text).ok()
}

fn parse_timestamp(text: &[u8], epoch: Option<Epoch>) -> Option<Timestamp> {
    if let Ok(number) = lexical_core::parse::<i64>(text) {
        return Some(match epoch {
            None => Timestamp::from_epoch_number(number),
            Some(Epoch::Seconds) => Timestamp(number.checked_mul(1_000_000)?),
            Some(Epoch::Milliseconds) => Timestamp(number.checked_mul(1_000)?),
            Some(Epoch::Microseconds) => Timestamp(number),
            Some(Epoch::Nanoseconds) => Timestamp(number.div_euclid(1_000)),
        });
    }
    if let Ok(number) = lexical_core::parse::<f64>(text) {
        let seconds = match epoch {
            None | Some(Epoch::Seconds) => number,
            Some(Epoch::Milliseconds) => number / 1e3,
            Some(Epoch::Microseconds) => number / 1e6,
            Some(Epoch::Nanoseconds) => number / 1e9,
        };
        return Timestamp::from_epoch_seconds(seconds);
    }
    Timestamp::parse(std::str::from_utf8(text).ok()?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(parse_integer(b"-12"), Some(-12));
        assert_eq!(parse_integer(b"12.0"), Some(12));
        assert_eq!(parse_integer(b"12.5"), None);
        assert_eq!(parse_integer(b"9223372036854775808"), None);
        assert_eq!(parse_float(b"1e3"), Some(1000.0));
        assert!(parse_float(b"NaN").is_some_and(f64::is_nan));
        assert_eq!(parse_float(b"1,5"), None);
        assert_eq!(parse_boolean(b"True"), Some(true));
        assert_eq!(parse_boolean(b"yes"), None);
    }

    #[test]
    fn times_are_read_in_every_unit() {
        let moment = Some(Timestamp(1_678_886_400_000_000));
        assert_eq!(parse_timestamp(b"1678886400", None), moment);
        assert_eq!(parse_timestamp(b"1678886400000", None), moment);
        assert_eq!(parse_timestamp(b"1678886400.0", None), moment);
        assert_eq!(parse_timestamp(b"1678886400000000000", None), moment);
        assert_eq!(parse_timestamp(b"2023-03-15T13:20:00Z", None), moment);
        assert_eq!(parse_timestamp(b"2023-03-15T14:20:00+01:00", None), moment);
        assert_eq!(parse_timestamp(b"1678886400", Some(Epoch::Milliseconds)), Some(Timestamp(1_678_886_400_000)));
        assert_eq!(parse_timestamp(b"2023-03-15", None), None);
    }
}
