//! Rows that go on as events of another stream, in the commit that has them as rows: that is how a view is keyed by something else than its stream.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::binding::Binding;
use super::collect::Origins;
use crate::decode::Route;
use crate::model::{Column, Emits, Entries, EntryId, Field, Format, Kind, Reason, Spec, Value, is_stream_name, json};
use crate::transform::Output;

/// The member of an emitted event that holds the event time of the row.
const EVENT_TIME: &str = "event_time";

/// Where a transform's rows go on to.
#[derive(Debug, Clone)]
pub struct Emit {
    /// The stream.
    pub stream: String,
    /// How events stand in its entries.
    pub format: Format,
    /// What tells its partitions, where it has some: the same that routes what is sent to it.
    pub route: Option<Arc<Route>>,
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
        self.check_route(spec)
    }

    /// Refuses rows that might lack what tells the partition of the stream.
    fn check_route(&self, spec: &Spec) -> Result<(), String> {
        let (stream, by) = (&self.stream, self.route.iter().flat_map(|route| route.by()));
        let is_key = |field: &&Field| spec.entity.contains(&field.name);
        let event_time = Field::plain(EVENT_TIME, Kind::Timestamp, false);
        let surely = || spec.inputs.iter().filter(is_key).chain(spec.outputs.iter().filter(|field| !field.nullable)).chain([&event_time]);
        let tells = |field: &&Field| matches!(field.kind, Kind::Integer | Kind::Text | Kind::Bytes);
        for wanted in by {
            let Some(field) = surely().find(|field| field.name == *wanted) else {
                let why = match spec.outputs.iter().any(|field| field.name == *wanted) {
                    true => format!("its output `{wanted}` may be null"),
                    false => format!("its events would have no `{wanted}`"),
                };
                let names: Vec<String> = surely().filter(tells).map(|field| format!("`{}`", field.name)).collect();
                return Err(format!(
                    "stream `{stream}` is partitioned by `{wanted}`, and {why}: return `{wanted}` with every row, or name in `partition_by` what they \
                     always have ({})",
                    names.join(", ")
                ));
            };
            if !tells(&field) {
                let kind = field.kind;
                return Err(format!(
                    "stream `{stream}` is partitioned by `{wanted}`, which is a {kind} here: only texts, bytes and integers tell partitions"
                ));
            }
        }
        Ok(())
    }
}

/// The rows of a batch as events, each under the number of the input row that it comes from.
#[derive(Default)]
pub(super) struct Outgoing {
    /// By partition, in the order of the events.
    outlets: BTreeMap<Option<u32>, Entries>,
    /// Input rows of which a row cannot go on, and why.
    pub(super) astray: Vec<(usize, Reason, String)>,
}

impl Outgoing {
    /// Of the rows of a transform that emits, in the order of the events that they come from. What is given up is left out: it goes on when its dead letter is
    /// replayed.
    pub(super) fn of(
        binding: &Binding,
        origins: &Origins<'_>,
        outputs: &[(usize, Output)],
        given_up: &[(usize, Reason, String)],
    ) -> Outgoing {
        let Some(emit) = &binding.emit else { return Outgoing::default() };
        let entries = events(emit, binding, origins, outputs, given_up);
        match &emit.route {
            None => Outgoing { outlets: BTreeMap::from([(None, entries)]), astray: Vec::new() },
            Some(route) => Outgoing::routed(&emit.stream, route, &entries),
        }
    }

    /// What was encoded is looked at as whoever routes events from outside looks at them, so that there is one answer.
    fn routed(stream: &str, route: &Route, entries: &Entries) -> Outgoing {
        let mut outgoing = Outgoing::default();
        let mut seen = BTreeSet::new();
        for entry in entries.iter() {
            match route.partition(&entry) {
                Ok(partition) => outgoing.outlets.entry(Some(partition)).or_default().push(entry.id, entry.fields()),
                Err(reason) => {
                    let origin = origin_of(entry.id);
                    if seen.insert(origin) {
                        let message = format!("a row of it cannot go on to stream `{stream}`: {reason}");
                        outgoing.astray.push((origin, Reason::Unroutable, message));
                    }
                }
            }
        }
        outgoing
    }

    /// Adds them to a commit, but for those of events that have been given up since. Says how many.
    pub(super) fn go_on(self, binding: &Binding, given_up: &[(usize, Reason, String)], emits: &mut Emits) -> usize {
        let Some(emit) = &binding.emit else { return 0 };
        let given_up: HashSet<usize> = given_up.iter().map(|(row, ..)| *row).collect();
        let mut count = 0;
        for (partition, mut entries) in self.outlets {
            entries.retain(|id| !given_up.contains(&origin_of(id)));
            count += entries.len();
            // One transform emits to a stream once a batch; another one may emit there too.
            let outlet = emits.to(&emit.stream, partition);
            if outlet.is_empty() {
                *outlet = entries;
            } else {
                entries.iter().for_each(|entry| outlet.push(entry.id, entry.fields()));
            }
        }
        count
    }
}

/// The input row that an event was made of stands where its id will be.
fn origin_of(id: EntryId) -> usize {
    usize::try_from(id.seq).unwrap_or(usize::MAX)
}

fn events(
    Emit { format, .. }: &Emit,
    binding: &Binding,
    origins: &Origins<'_>,
    outputs: &[(usize, Output)],
    given_up: &[(usize, Reason, String)],
) -> Entries {
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
    let mut entries = Entries::default();
    let (mut event, mut values) = (Vec::new(), Vec::new());
    for (origin, output, row) in &rows {
        let id = EntryId { ms: 0, seq: *origin as u64 };
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
                entries.push(id, [(field.as_bytes(), event.as_slice())]);
            }
            Format::Fields => {
                values.clear();
                let fields: Vec<_> = members.filter_map(|(name, value)| Some((name, push_text(&mut values, value?)))).collect();
                let text = |span: &std::ops::Range<usize>| values.get(span.clone()).unwrap_or_default();
                entries.push(id, fields.iter().map(|(name, span)| (name.as_bytes(), text(span))));
            }
        }
    }
    entries
}

fn value(column: Option<&Arc<Column>>, row: usize) -> Option<Value<'_>> {
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
    fn events_go_where_their_fields_say_and_those_without_are_told_once() {
        let by = crate::model::Partitioning { key: "on".into(), count: 7, by: vec!["id".into()] };
        let route = Route::new(Format::Fields, by.clone());
        let mut entries = Entries::default();
        for (origin, id) in [(0, Some("a")), (0, Some("b")), (1, None), (1, None), (2, Some("a")), (3, None)] {
            let number = EntryId { ms: 0, seq: origin };
            entries.push(number, id.into_iter().map(|id| (&b"id"[..], id.as_bytes())));
        }
        let outgoing = Outgoing::routed("on", &route, &entries);
        let [a, b] = ["a", "b"].map(|id| by.partition_of_text(id.as_bytes()));
        assert_ne!(a, b);
        let of = |partition| outgoing.outlets[&Some(partition)].ids().map(origin_of).collect::<Vec<_>>();
        assert_eq!((of(a), of(b)), (vec![0, 2], vec![0]));
        let astray: Vec<_> = outgoing.astray.iter().map(|(row, reason, _)| (*row, *reason)).collect();
        assert_eq!(astray, [(1, Reason::Unroutable), (3, Reason::Unroutable)]);
        assert!(outgoing.astray[0].2.contains("cannot go on to stream `on`: it has no `id`"));
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
