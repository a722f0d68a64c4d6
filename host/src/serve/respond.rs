//! Writing values as JSON by hand into one buffer: on the query path this is where the time goes.

use crate::model::{FeatureRow, Status, Timestamp, Value};

use super::error::ApiError;
use super::plan::{Mapping, Plan};

/// Bytes in one answer, at most: the same long value may be asked for any number of times.
pub(super) const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What the store had for one view of one entity.
pub(super) enum Found<'r> {
    Nothing,
    TooOld(Timestamp),
    Row(&'r FeatureRow, &'r Mapping),
}

/// Counts of statuses over a response, for metrics: per view.
pub(super) type Tally = Vec<[u64; 4]>;

/// Memory that is used again for every entity of a response.
#[derive(Default)]
pub(super) struct Scratch<'r> {
    /// Where the values of each view's row begin in `values`.
    starts: Vec<usize>,
    values: Vec<Option<Value<'r>>>,
    statuses: Vec<u8>,
    event_times: Vec<u8>,
}

impl Scratch<'_> {
    fn cleared(&mut self) -> &mut Self {
        self.starts.clear();
        self.values.clear();
        self.statuses.clear();
        self.event_times.clear();
        self
    }
}

/// Appends `{"entity":…,"values":[…],"statuses":[…],"event_times":[…]}`.
pub(super) fn push_result<'r>(
    out: &mut Vec<u8>,
    plan: &Plan,
    entity: &str,
    found: &[Found<'r>],
    scratch: &mut Scratch<'r>,
    tally: &mut Tally,
) -> Result<(), ApiError> {
    let Scratch { starts, values, statuses, event_times } = scratch.cleared();
    for found in found {
        starts.push(values.len());
        if let Found::Row(row, mapping) = found {
            for value in row.values(mapping.kinds.iter().copied()).take(mapping.needed) {
                values.push(value.map_err(|error| ApiError::internal(&error.to_string()))?);
            }
        }
    }
    out.extend_from_slice(b"{\"entity\":");
    out.extend_from_slice(entity.as_bytes());
    out.extend_from_slice(b",\"values\":[");
    // The columns of one view follow each other nearly always, and share their event time's text.
    let mut last_time: Option<(usize, std::ops::Range<usize>)> = None;
    for (index, column) in plan.columns.iter().enumerate() {
        if out.len() > ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        if index > 0 {
            out.push(b',');
            statuses.push(b',');
            event_times.push(b',');
        }
        let (status, event_time) = match found.get(column.view) {
            Some(Found::Row(row, mapping)) => {
                let position = mapping.positions.get(index).copied().flatten();
                let value = position.and_then(|position| *values.get(starts.get(column.view)? + position)?);
                push_value(out, value);
                let status = if value.is_some() { Status::Present } else { Status::Null };
                (status, Some(row.header.version.event_time))
            }
            Some(Found::TooOld(event_time)) => {
                out.extend_from_slice(b"null");
                (Status::OutsideMaxAge, Some(*event_time))
            }
            Some(Found::Nothing) | None => {
                out.extend_from_slice(b"null");
                (Status::NotFound, None)
            }
        };
        push_status(statuses, status);
        if let Some(count) = tally.get_mut(column.view).and_then(|counts| counts.get_mut(status as usize)) {
            *count += 1;
        }
        match (event_time, &last_time) {
            (None, _) => event_times.extend_from_slice(b"null"),
            (Some(_), Some((view, text))) if *view == column.view => event_times.extend_from_within(text.clone()),
            (Some(time), _) => {
                let start = event_times.len();
                push_time(event_times, time);
                last_time = Some((column.view, start..event_times.len()));
            }
        }
    }
    out.extend_from_slice(b"],\"statuses\":[");
    out.extend_from_slice(statuses);
    out.extend_from_slice(b"],\"event_times\":[");
    out.extend_from_slice(event_times);
    out.extend_from_slice(b"]}");
    Ok(())
}

pub(super) fn too_large() -> ApiError {
    ApiError::too_large(format!("the answer would have more than {ANSWER_BYTES_MAX} bytes; ask for fewer entities or features at a time"))
}

fn push_status(out: &mut Vec<u8>, status: Status) {
    out.push(b'"');
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b'"');
}

fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    out.push(b'"');
    out.extend_from_slice(time.to_string().as_bytes());
    out.push(b'"');
}

fn push_value(out: &mut Vec<u8>, value: Option<Value<'_>>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(Value::Boolean(true)) => out.extend_from_slice(b"true"),
        Some(Value::Boolean(false)) => out.extend_from_slice(b"false"),
        Some(Value::Integer(number)) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Some(Value::Float(number)) => push_float(out, number),
        Some(Value::Timestamp(moment)) => push_time(out, moment),
        Some(Value::Text(text)) => push_text(out, text),
        Some(Value::Bytes(bytes)) => push_base64(out, bytes),
        Some(Value::Vector(bytes)) => {
            out.push(b'[');
            for (index, chunk) in bytes.as_chunks::<4>().0.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_float(out, f64::from(f32::from_le_bytes(*chunk)));
            }
            out.push(b']');
        }
    }
}

/// The shortest text that reads back as the same number. JSON has no NaN and no infinities, so those are texts.
fn push_float(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, &number);
    } else if number.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if number > 0.0 { b"\"Infinity\"".as_slice() } else { b"\"-Infinity\"" });
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// RFC 4648, with padding.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = (word >> (18 - 6 * position)) & 63;
            let digit = ALPHABET.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if position <= chunk.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_with_padding() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            push_base64(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b""), "\"\"");
        assert_eq!(text(b"f"), "\"Zg==\"");
        assert_eq!(text(b"fo"), "\"Zm8=\"");
        assert_eq!(text(b"foobar"), "\"Zm9vYmFy\"");
        assert_eq!(text(&[0xff, 0xfe, 0xfd]), "\"//79\"");
    }
}
