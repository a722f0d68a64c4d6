//! Writing values as JSON by hand into one buffer: on the query path this is where the time goes.

use crate::model::{FeatureRow, RowError, Status, Timestamp, Value};

use super::plan::{Mapping, Plan, Run};

/// What the store had for one view of one entity.
pub(super) enum Found<'r> {
    Nothing,
    TooOld(Timestamp),
    Row(&'r FeatureRow, &'r Mapping),
}

/// Writes the results of one response, one entity after the other.
pub(super) struct ResultWriter<'r> {
    plan: &'r Plan,
    found: Vec<Found<'r>>,
    /// Where the values of each view's row begin in `values`.
    starts: Vec<usize>,
    values: Vec<Option<Value<'r>>>,
    /// Nulls among the values of each run of columns.
    nulls: Vec<usize>,
    /// Counts of statuses for each view.
    tally: Vec<[u64; 4]>,
}

impl<'r> ResultWriter<'r> {
    pub(super) fn new(plan: &'r Plan) -> ResultWriter<'r> {
        ResultWriter {
            plan,
            found: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
            nulls: Vec::new(),
            tally: vec![[0; 4]; plan.views.len()],
        }
    }

    /// Appends `{"entity":…,"values":[…],"statuses":[…],"event_times":[…]}` for what was found, view by view.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, entity: &str, found: impl Iterator<Item = Found<'r>>) -> Result<(), RowError> {
        self.unpack(found)?;
        out.extend_from_slice(b"{\"entity\":");
        out.extend_from_slice(entity.as_bytes());
        out.extend_from_slice(b",\"values\":[");
        self.push_values(out);
        out.extend_from_slice(b"],\"statuses\":[");
        self.push_statuses(out);
        out.extend_from_slice(b"],\"event_times\":[");
        self.push_event_times(out);
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// Adds what was written to the metrics.
    pub(super) fn count(&self) {
        for (served, counts) in self.plan.served.iter().zip(&self.tally) {
            served.add(counts);
        }
    }

    fn unpack(&mut self, found: impl Iterator<Item = Found<'r>>) -> Result<(), RowError> {
        self.found.clear();
        self.starts.clear();
        self.values.clear();
        for found in found {
            self.starts.push(self.values.len());
            if let Found::Row(row, mapping) = &found {
                self.values.reserve(mapping.needed);
                for value in row.values(mapping.kinds.iter().copied()).take(mapping.needed) {
                    self.values.push(value?);
                }
            }
            self.found.push(found);
        }
        Ok(())
    }

    fn push_values(&mut self, out: &mut Vec<u8>) {
        self.nulls.clear();
        for (run, separator) in separated(&self.plan.runs) {
            out.extend_from_slice(separator);
            let Some(Found::Row(_, mapping)) = self.found.get(run.view) else {
                self.nulls.push(0);
                push_repeated(out, run.columns.len(), |out| out.extend_from_slice(b"null"));
                continue;
            };
            let mut nulls = 0;
            for (value, separator) in separated(values_of(run, mapping, &self.starts, &self.values)) {
                out.extend_from_slice(separator);
                nulls += usize::from(value.is_none());
                push_value(out, value);
            }
            self.nulls.push(nulls);
        }
    }

    fn push_statuses(&mut self, out: &mut Vec<u8>) {
        for ((run, separator), &nulls) in separated(&self.plan.runs).zip(&self.nulls) {
            out.extend_from_slice(separator);
            let status = match self.found.get(run.view) {
                Some(Found::Row(_, mapping)) if nulls > 0 => {
                    for (value, separator) in separated(values_of(run, mapping, &self.starts, &self.values)) {
                        out.extend_from_slice(separator);
                        push_status(out, if value.is_some() { Status::Present } else { Status::Null });
                    }
                    Status::Present
                }
                Some(Found::Row(..)) => Status::Present,
                Some(Found::TooOld(_)) => Status::OutsideMaxAge,
                Some(Found::Nothing) | None => Status::NotFound,
            };
            if nulls == 0 {
                push_repeated(out, run.columns.len(), |out| push_status(out, status));
            }
            for (status, n) in [(status, run.columns.len() - nulls), (Status::Null, nulls)] {
                if let Some(count) = self.tally.get_mut(run.view).and_then(|counts| counts.get_mut(status as usize)) {
                    *count += n as u64;
                }
            }
        }
    }

    fn push_event_times(&self, out: &mut Vec<u8>) {
        for (run, separator) in separated(&self.plan.runs) {
            out.extend_from_slice(separator);
            let event_time = match self.found.get(run.view) {
                Some(Found::Row(row, _)) => Some(row.header.version.event_time),
                Some(Found::TooOld(event_time)) => Some(*event_time),
                Some(Found::Nothing) | None => None,
            };
            push_repeated(out, run.columns.len(), |out| match event_time {
                Some(time) => push_time(out, time),
                None => out.extend_from_slice(b"null"),
            });
        }
    }
}

/// The values of a run of columns out of the values of all rows.
fn values_of<'v, 'r>(
    run: &'v Run,
    mapping: &'v Mapping,
    starts: &[usize],
    values: &'v [Option<Value<'r>>],
) -> impl Iterator<Item = Option<Value<'r>>> + use<'v, 'r> {
    let start = starts.get(run.view).copied().unwrap_or_default();
    let positions = mapping.positions.get(run.columns.clone()).unwrap_or_default();
    positions.iter().map(move |position| position.and_then(|position| *values.get(start + position)?))
}

/// Each item and what stands before it in a JSON list.
fn separated<I: IntoIterator>(items: I) -> impl Iterator<Item = (I::Item, &'static [u8])> {
    let separators = std::iter::once(&b""[..]).chain(std::iter::repeat(&b","[..]));
    items.into_iter().zip(separators)
}

/// Writes an item once and copies it until there are `times`, with commas between them. A copy doubles what is there.
fn push_repeated(out: &mut Vec<u8>, times: usize, push: impl FnOnce(&mut Vec<u8>)) {
    if times == 0 {
        return;
    }
    let start = out.len();
    push(out);
    let item = out.len() - start;
    if times > 1 {
        out.push(b',');
    }
    let whole = start + (item + 1) * times - 1;
    while out.len() < whole {
        let end = out.len().min(whole - out.len() + start);
        out.extend_from_within(start..end);
    }
}

fn push_status(out: &mut Vec<u8>, status: Status) {
    out.push(b'"');
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b'"');
}

fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    out.push(b'"');
    time.push_text(out);
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
