//! Events over HTTP: one object, a list of objects, or lines of objects.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Shared;
use super::access::Caller;
use super::body::{Whole, body_error};
use super::error::ApiError;
use crate::decode::Route;
use crate::model::{Disposition, Entries, EntryId, EntryRef, Format, json};

/// Ids of the entries that the events became, in their order.
#[derive(Serialize)]
pub(super) struct Appended {
    ids: Vec<EntryId>,
    /// Of a partitioned stream: the partition of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<u32>>,
}

pub(super) async fn append(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<Appended>, ApiError> {
    let Path(name) = path?;
    let streams = shared.state.streams.load_full();
    let known = || streams.keys().map(String::as_str).filter(|known| caller.sees_stream(known));
    let stream = streams.get(&name).ok_or_else(|| ApiError::not_found("stream", &name, known()))?;
    let Whole(body, _room) = body?;
    if body.is_empty() {
        return Err(ApiError::malformed("the body is empty; send an event, a list of events, or a line for each"));
    }
    let events = parse(&body)?;
    let max = shared.state.limits.entities_max;
    if events.len() > max {
        return Err(ApiError::too_large(format!("{} events are sent at once; {max} are allowed", events.len())));
    }
    let mut entries = Entries::default();
    for (index, event) in events.iter().enumerate() {
        push(&mut entries, &stream.format, event).map_err(|error| ApiError::unusable(format!("events[{index}]: {error}")))?;
    }
    // Before anything is appended, so that a mistake in one event is a mistake of the whole request.
    let partitions = stream.route.as_ref().map(|route| partitions(route, &entries)).transpose()?;
    if entries.is_empty() {
        return Ok(Json(Appended { ids: Vec::new(), partitions }));
    }
    let ids = stream.appender.append(&entries).await.map_err(|error| match error.disposition() {
        Disposition::Retry => ApiError::unavailable(format!("the events were perhaps not appended: {error}")),
        Disposition::Reject => ApiError::unusable(error.to_string()),
        Disposition::Stop => ApiError::internal(&error.to_string()),
    })?;
    Ok(Json(Appended { ids, partitions }))
}

/// Where each event belongs.
fn partitions(route: &Route, entries: &Entries) -> Result<Vec<u32>, ApiError> {
    let partition = |(index, entry): (usize, EntryRef<'_>)| {
        route.partition(&entry).map_err(|error| ApiError::unusable(format!("events[{index}]: {error}")))
    };
    entries.iter().enumerate().map(partition).collect()
}

/// Entries that one answer shows unless it is told otherwise, and at most.
const NEWEST: usize = 10;
const NEWEST_MAX: usize = 100;

/// What `GET` may ask for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    last: Option<usize>,
}

/// The newest events of a stream, oldest first.
#[derive(Serialize)]
pub(super) struct Newest {
    events: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    id: EntryId,
    event: Box<RawValue>,
}

pub(super) async fn newest(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Newest>, ApiError> {
    let (Path(name), Query(Wanted { last })) = (path?, query?);
    let last = last.unwrap_or(NEWEST);
    if !(1..=NEWEST_MAX).contains(&last) {
        return Err(ApiError::unusable(format!("last={last}: ask for 1 to {NEWEST_MAX} events")));
    }
    let streams = shared.state.streams.load_full();
    let known = || streams.keys().map(String::as_str).filter(|known| caller.sees_stream(known));
    let stream = streams.get(&name).ok_or_else(|| ApiError::not_found("stream", &name, known()))?;
    let entries = stream.appender.newest(last).await.map_err(|error| match error.disposition() {
        Disposition::Retry => ApiError::unavailable(error.to_string()),
        Disposition::Reject | Disposition::Stop => ApiError::internal(&error.to_string()),
    })?;
    let events = entries.iter().map(|entry| Ok(Event { id: entry.id, event: shown(&stream.format, &entry)? }));
    let events = events.collect::<Result<_, serde_json::Error>>().map_err(|error| ApiError::internal(&error.to_string()))?;
    Ok(Json(Newest { events }))
}

/// An entry as an event: the JSON object that stands in its field, or its fields as texts.
fn shown(format: &Format, entry: &EntryRef<'_>) -> Result<Box<RawValue>, serde_json::Error> {
    if let Format::Json { field } = format
        && let Some(event) = entry.value(field.as_bytes()).and_then(|text| serde_json::from_slice::<Box<RawValue>>(text).ok())
    {
        return Ok(event);
    }
    let mut text = vec![b'{'];
    for (index, (name, value)) in entry.fields().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        json::push_text(&mut text, &String::from_utf8_lossy(name));
        text.push(b':');
        json::push_text(&mut text, &String::from_utf8_lossy(value));
    }
    text.push(b'}');
    serde_json::from_slice(&text)
}

/// The events of a body, each as the text of a JSON value.
fn parse(body: &[u8]) -> Result<Vec<&RawValue>, ApiError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return serde_json::from_slice(body).map_err(|error| body_error(&error));
    }
    // One object is a list of lines with one line; an object may also stretch over several.
    let events = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
    events.collect::<Result<Vec<_>, _>>().map_err(|error| body_error(&error))
}

fn push(entries: &mut Entries, format: &Format, event: &RawValue) -> Result<(), String> {
    let text = event.get();
    if !text.starts_with('{') {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("an event is a JSON object, not {shown}"));
    }
    match format {
        Format::Json { field } => entries.push(EntryId::ZERO, [(field.as_bytes(), text.as_bytes())]),
        Format::Fields => {
            let fields = fields(text)?;
            entries.push(EntryId::ZERO, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        }
    }
    Ok(())
}

/// The members of an object as flat fields: texts without their quotes, null left out, everything else as JSON writes it.
fn fields(text: &str) -> Result<Vec<(String, Cow<'_, str>)>, String> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut fields = Vec::with_capacity(members.0.len());
    for (name, value) in members.0 {
        let value = match value.get() {
            "null" => continue,
            quoted if quoted.starts_with('"') => Cow::Owned(serde_json::from_str::<String>(quoted).map_err(|error| error.to_string())?),
            plain => Cow::Borrowed(plain),
        };
        fields.push((name, value));
    }
    if fields.is_empty() {
        return Err("an event has at least one member that is not null".into());
    }
    Ok(fields)
}

/// An object's members in their order.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members<'t>, D::Error> {
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}
