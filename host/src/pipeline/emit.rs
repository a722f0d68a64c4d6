//! Rows that go on as events of another stream, in the commit that has them as rows: that is how a view is keyed by something else than its stream.

use std::collections::HashSet;

use super::binding::Binding;
use super::collect::Origins;
use crate::model::{Column, Emits, EntryId, Field, Format, Kind, Reason, Spec, Value, is_stream_name, json};
use crate::transform::Output;

/// The member of an emitted event that holds the event time of the row.
const EVENT_TIME: &str = "event_time";

/// Where a transform's rows go on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    /// The stream.
    pub stream: String,
    /// How events stand in its entries.
    pub format: Format,
}

impl Emit {
    /// Refuses rows that could not be told from one another, or from what they are not, once they are events.
    pub fn check(&self, spec: &Spec) -> Result<(), String> {
        if !is_stream_name(&self.stream) {
            return Err(format!("{:?} cannot name a stream; use 1 to 255 printable ASCII characters and no spaces", self.stream));
        }
        let keys = || spec.inputs.iter().filter(|field| spec.entity.contains(&field.name));
        if let Some(field) = spec.outputs.iter().find(|field| spec.entity.contains(&field.name)) {
            return Err(format!(
                "its output `{}` has the name of a join key, and an event has one member of a name; rename it",
                field.name
            ));
        }
        if let Some(field) = keys().chain(&spec.outputs).find(|field| field.name == EVENT_TIME) {
            return Err(format!("`{}` is where an emitted event has the time of its row; rename the field", field.name));
        }
        if let Format::Json { .. } = self.format
            && let Some(field) = keys().chain(&spec.outputs).find(|field| field.kind == Kind::Bytes)
        {
            let stream = &self.stream;
            return Err(format!(
                "`{}` is bytes, and the events of stream `{stream}` are JSON, which has none: set format = {{ type = \"fields\" }} in \
                 [streams.{stream}], or make it a text",
                field.name
            ));
        }
        Ok(())
    }
}

/// Adds the rows to what goes on, in the order of the events that they come from. Those of events that are given up are left out: they go on when their
/// dead letters are replayed.
pub(super) fn emit(
    binding: &Binding,
    origins: &Origins<'_>,
    outputs: &[(usize, Output)],
    given_up: &[(usize, Reason, String)],
    emits: &mut Emits,
) -> usize {
    let Some(Emit { stream, format }) = &binding.emit else { return 0 };
    let given_up: HashSet<usize> = given_up.iter().map(|(row, ..)| *row).collect();
    let mut rows = Vec::new();
    for (start, output) in outputs {
        for row in 0..output.batch.rows {
            let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
            rows.push((start + within, output, row));
        }
    }
    rows.retain(|(origin, ..)| !given_up.contains(origin));
    // Stable: rows of one event stay as they were returned.
    rows.sort_by_key(|(origin, ..)| *origin);
    let entries = emits.to(stream);
    let (mut event, mut values) = (Vec::new(), Vec::new());
    for (origin, output, row) in &rows {
        let keys = origins.entity.iter().map(|input| origins.batch.columns.get(*input));
        let keys = binding.view.entity.iter().zip(keys).map(|(field, column)| (field, value(column, *origin)));
        let features = binding.view.features.iter().zip(&output.batch.columns).map(|(field, column)| (field, value(Some(column), *row)));
        let event_time = origins.version(*origin).event_time;
        let members = keys.chain(features).map(|(field, value): (&Field, _)| (field.name.as_str(), value));
        let members = members.chain([(EVENT_TIME, Some(Value::Timestamp(event_time)))]);
        match format {
            Format::Json { field } => {
                event.clear();
                push_object(&mut event, members);
                entries.push(EntryId::ZERO, [(field.as_bytes(), event.as_slice())]);
            }
            Format::Fields => {
                values.clear();
                let fields: Vec<_> = members.filter_map(|(name, value)| Some((name, push_text(&mut values, value?)))).collect();
                let text = |span: &std::ops::Range<usize>| values.get(span.clone()).unwrap_or_default();
                entries.push(EntryId::ZERO, fields.iter().map(|(name, span)| (name.as_bytes(), text(span))));
            }
        }
    }
    rows.len()
}

fn value(column: Option<&std::sync::Arc<Column>>, row: usize) -> Option<Value<'_>> {
    column.and_then(|column| Value::at(column, row))
}

fn push_object<'v>(event: &mut Vec<u8>, members: impl Iterator<Item = (&'v str, Option<Value<'v>>)>) {
    event.push(b'{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            event.push(b',');
        }
        json::push_text(event, name);
        event.push(b':');
        json::push_value(event, value);
    }
    event.push(b'}');
}

/// Appends a value as the text of a field, which is its JSON without quotes, and bytes as they are. Returns where it stands.
fn push_text(values: &mut Vec<u8>, value: Value<'_>) -> std::ops::Range<usize> {
    let start = values.len();
    match value {
        Value::Text(text) => values.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => values.extend_from_slice(bytes),
        Value::Timestamp(moment) => moment.push_text(values),
        Value::Float(number) if !number.is_finite() => values.extend_from_slice(number.to_string().as_bytes()),
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Vector(_) | Value::Numbers(_) | Value::List(..) => {
            json::push_value(values, Some(value));
        }
    }
    start..values.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn an_event_has_its_members_in_order_and_nulls_by_name() {
        let mut event = Vec::new();
        let members = [("id", Some(Value::Text("a\"b"))), ("n", None), ("event_time", Some(Value::Timestamp(Timestamp(1_500_000))))];
        push_object(&mut event, members.into_iter());
        assert_eq!(String::from_utf8(event).unwrap(), r#"{"id":"a\"b","n":null,"event_time":"1970-01-01T00:00:01.5Z"}"#);
    }

    #[test]
    fn a_field_holds_what_decoding_takes() {
        let text = |value| {
            let mut values = Vec::new();
            push_text(&mut values, value);
            values
        };
        assert_eq!(text(Value::Text("é")), "é".as_bytes());
        assert_eq!(text(Value::Bytes(b"\xff\0")), b"\xff\0");
        assert_eq!(text(Value::Integer(i64::MIN)), i64::MIN.to_string().as_bytes());
        assert_eq!(text(Value::Numbers(&[1.5, 2.0])), b"[1.5,2.0]");
        for number in [0.1 + 0.2, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(crate::model::parse::float(&text(Value::Float(number))), Some(number));
        }
        assert!(crate::model::parse::float(&text(Value::Float(f64::NAN))).is_some_and(f64::is_nan));
        let moment = Timestamp(1_357_000_000_123_456);
        assert_eq!(crate::model::parse::timestamp(&text(Value::Timestamp(moment)), None), Some(moment));
    }
}
