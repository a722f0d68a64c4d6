//! The query path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shared;
use super::body::{self, Whole};
use super::error::{ApiError, suggestion};
use super::plan::{Mapping, Plan};
use super::respond::{ANSWER_BYTES_MAX, Found, ResultWriter, too_large};
use crate::model::{FeatureRow, Field, KeyPart, Kind, Schema, SchemaId, Timestamp, View, parse, row_key};

/// Characters of a bad join key that are shown.
const SHOWN_CHARS: usize = 80;

/// Rows read from the store at once. A row has at most a megabyte.
const READ_KEYS_MAX: usize = 1_000;

/// The body of `POST /v1/features`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "'de: 'b"))]
struct Asked<'b> {
    features: Option<&'b RawValue>,
    #[serde(borrow)]
    view: Option<Cow<'b, str>>,
    entities: Vec<&'b RawValue>,
    as_of: Option<&'b RawValue>,
}

/// Where queries come in.
pub(super) const QUERY_PATH: &str = "/v1/features";

/// The same for those that come through the router.
pub(super) async fn query_routed(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    query(&shared, request.into_body()).await
}

pub(super) async fn query(shared: &Shared, body: impl HttpBody<Data = Bytes> + Unpin) -> Result<Response, ApiError> {
    let Whole(body, _room) = body::read(body, shared.state.limits.body_bytes_max, &shared.room).await?;
    let asked: Asked<'_> = serde_json::from_slice(&body).map_err(|error| body_error(&error))?;
    if asked.as_of.is_some_and(|as_of| as_of.get() != "null") {
        return Err(as_of_not_supported());
    }
    let limits = &shared.state.limits;
    if asked.entities.len() > limits.entities_max {
        let (many, max) = (asked.entities.len(), limits.entities_max);
        return Err(ApiError::too_large(format!("{many} entities are asked for at once; {max} are allowed")));
    }
    let (catalog, telemetry) = (shared.state.catalog.load_full(), &*shared.state.telemetry);
    let plan = match (asked.features, &asked.view) {
        (Some(features), None) => shared.feature_plans.get(&catalog, features.get(), |catalog| {
            let references: Vec<String> = serde_json::from_str(features.get())
                .map_err(|error| ApiError::unusable(format!("`features` must be a list of view:feature texts: {error}")))?;
            if references.is_empty() || references.len() > limits.features_max {
                let (many, max) = (references.len(), limits.features_max);
                return Err(ApiError::unusable(format!("`features` names {many} features; 1 to {max} are allowed")));
            }
            Plan::of_features(catalog, telemetry, &references)
        })?,
        (None, Some(view)) => shared.view_plans.get(&catalog, view, |catalog| Plan::of_view(catalog, telemetry, view))?,
        _ => return Err(ApiError::unusable("say what is wanted, by either `features` or `view`")),
    };
    let mut keys = Vec::with_capacity(asked.entities.len() * plan.views.len());
    for (index, raw) in asked.entities.iter().enumerate() {
        let members: Entity<'_> = serde_json::from_str(raw.get())
            .map_err(|error| ApiError::unusable(format!("entities[{index}] is not an object of join keys: {error}")))?;
        let label = || format!("entities[{index}]");
        check_known(&plan, members.0.iter().map(|(name, _)| name.as_ref()), &label)?;
        for view in &plan.views {
            keys.push(key(view, &label, |name| members.get(name))?);
        }
    }
    answer(shared, &plan, &keys, asked.entities.iter().map(|raw| Cow::Borrowed(raw.get()))).await
}

pub(super) async fn query_one(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(view) = path?;
    let Query(mut members) = query?;
    if members.remove("as_of").is_some() {
        return Err(as_of_not_supported());
    }
    let (catalog, telemetry) = (shared.state.catalog.load_full(), &*shared.state.telemetry);
    let plan = match members.remove("features") {
        None => shared.view_plans.get(&catalog, &view, |catalog| Plan::of_view(catalog, telemetry, &view))?,
        Some(features) => {
            let references: Vec<String> = features.split(',').map(|feature| format!("{view}:{feature}")).collect();
            if references.len() > shared.state.limits.features_max {
                return Err(ApiError::unusable(format!("at most {} features are allowed", shared.state.limits.features_max)));
            }
            Arc::new(Plan::of_features(&catalog, telemetry, &references)?)
        }
    };
    let label = || "the query".to_owned();
    check_known(&plan, members.keys().map(String::as_str), &label)?;
    let entity = serde_json::to_string(&members).map_err(|error| ApiError::internal(&error.to_string()))?;
    let keys = plan.views.iter().map(|view| key(view, &label, |name| Some(Given::Plain(members.get(name)?))));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    answer(&shared, &plan, &keys, std::iter::once(Cow::Owned(entity))).await
}

/// One store read for all views of all entities, then the response.
async fn answer<'e>(
    shared: &Shared,
    plan: &Plan,
    keys: &[Vec<u8>],
    entities: impl ExactSizeIterator<Item = Cow<'e, str>>,
) -> Result<Response, ApiError> {
    let packed = read(shared, keys).await?;
    let mut rows = Vec::with_capacity(packed.len());
    // Rows of one view have one schema nearly always.
    let mut last: Option<(SchemaId, Arc<Mapping>)> = None;
    for packed in packed {
        let Some(packed) = packed else {
            rows.push(None);
            continue;
        };
        let row = FeatureRow::new(packed).map_err(|error| ApiError::internal(&error.to_string()))?;
        let id = row.header.schema;
        let mapping = match &last {
            Some((known, mapping)) if *known == id => Arc::clone(mapping),
            _ => plan.mapping(id, &*shared.schema(id).await?),
        };
        last = Some((id, Arc::clone(&mapping)));
        rows.push(Some((row, mapping)));
    }
    let now = Timestamp::now();
    let views = plan.views.len();
    let columns = plan.runs.last().map_or(0, |run| run.columns.end);
    let mut out = Vec::with_capacity((plan.head.len() + entities.len() * (64 + columns * 64)).min(ANSWER_BYTES_MAX));
    out.extend_from_slice(&plan.head);
    let mut writer = ResultWriter::new(plan, &shared.pieces);
    let mut found = Vec::with_capacity(views);
    for (index, entity) in entities.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let of_entity = index * views..(index + 1) * views;
        let (rows, keys) = (rows.get(of_entity.clone()).unwrap_or_default(), keys.get(of_entity).unwrap_or_default());
        found.clear();
        found.extend(rows.iter().zip(&plan.views).map(|(row, view)| look(row.as_ref(), view, now)));
        writer.push(&mut out, &entity, keys, &found)?;
    }
    out.extend_from_slice(b"]}");
    writer.count();
    Ok(([(header::CONTENT_TYPE, "application/json")], out).into_response())
}

/// The rows of all keys: in one round trip, unless there are so many that long rows could take all memory.
async fn read(shared: &Shared, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, ApiError> {
    if keys.len() <= READ_KEYS_MAX {
        return Ok(shared.state.store.read(keys).await?);
    }
    let (mut rows, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for keys in keys.chunks(READ_KEYS_MAX) {
        let some = shared.state.store.read(keys).await?;
        bytes += some.iter().flatten().map(Bytes::len).sum::<usize>();
        rows.extend(some);
        if bytes > ANSWER_BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(rows)
}

fn look<'r>(row: Option<&'r (FeatureRow, Arc<Mapping>)>, view: &View, now: Timestamp) -> Found<'r> {
    let Some((row, mapping)) = row else { return Found::Nothing };
    let event_time = row.header.version.event_time;
    let age_micros = now.0.saturating_sub(event_time.0);
    match view.max_age_secs {
        Some(max) if age_micros > i64::try_from(max).unwrap_or(i64::MAX).saturating_mul(1_000_000) => Found::TooOld(event_time),
        _ => Found::Row(row, mapping),
    }
}

impl Shared {
    /// A stored schema; one that is not known yet was written by another host, or by this one a moment ago.
    async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>, ApiError> {
        if let Some(schema) = self.schemas.load().get(&id) {
            return Ok(Arc::clone(schema));
        }
        let all = self.state.store.schemas().await?;
        self.schemas.store(Arc::new(all.into_iter().map(|(id, schema)| (id, Arc::new(schema))).collect()));
        let found = self.schemas.load().get(&id).cloned();
        found.ok_or_else(|| ApiError::internal(&format!("a stored row names schema {}, which the store does not have", id.0)))
    }
}

/// An entity's members in the order given.
struct Entity<'b>(Vec<(Cow<'b, str>, &'b RawValue)>);

impl<'b> Entity<'b> {
    fn get(&self, name: &str) -> Option<Given<'b>> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| Given::Json(value.get()))
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Entity<'b> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entity<'b>, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Entity<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object of join keys")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Name<'n>(#[serde(borrow)] Cow<'n, str>);
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Entity(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A join key's value as the request has it: the text of a JSON value, or bare text out of a URL.
#[derive(Clone, Copy)]
enum Given<'b> {
    Json(&'b str),
    Plain(&'b str),
}

/// The row key of one view for one entity.
fn key<'b>(view: &View, label: &impl Fn() -> String, get: impl Fn(&str) -> Option<Given<'b>>) -> Result<Vec<u8>, ApiError> {
    let values = view.entity.iter().map(|field| match get(&field.name) {
        Some(value) => coerce(field, value, label),
        None => {
            let (name, view) = (&field.name, &view.name);
            Err(ApiError::unusable(format!("{} has no `{name}`, which view `{view}` needs", label())))
        }
    });
    let values = values.collect::<Result<Vec<Part<'b>>, _>>()?;
    let parts = values.iter().map(|part| match part {
        Part::Integer(number) => KeyPart::Integer(*number),
        Part::Boolean(truth) => KeyPart::Boolean(*truth),
        Part::Timestamp(moment) => KeyPart::Timestamp(moment.0),
        Part::Text(text) => KeyPart::Bytes(text.as_bytes()),
    });
    row_key(&view.name, parts).map_err(|error| ApiError::unusable(format!("{}: {error}", label())))
}

enum Part<'b> {
    Integer(i64),
    Boolean(bool),
    Timestamp(Timestamp),
    Text(Cow<'b, str>),
}

/// Reads a join key by the rules by which events are read, so that a key finds the row that the same text in an event made.
fn coerce<'b>(field: &Field, given: Given<'b>, label: &impl Fn() -> String) -> Result<Part<'b>, ApiError> {
    let text = match given {
        Given::Plain(text) => Some(Cow::Borrowed(text)),
        Given::Json("null") => None,
        Given::Json(json) => parse::json_text(json),
    };
    let part = text.and_then(|text| match field.kind {
        Kind::Integer => parse::integer(text.as_bytes()).map(Part::Integer),
        Kind::Boolean => parse::boolean(text.as_bytes()).map(Part::Boolean),
        Kind::Timestamp => parse::timestamp(text.as_bytes(), None).map(Part::Timestamp),
        Kind::Text | Kind::Bytes => Some(Part::Text(text)),
        // A spec that was checked has no such entity.
        Kind::Float | Kind::Vector => None,
    });
    part.ok_or_else(|| {
        let (Given::Json(text) | Given::Plain(text)) = given;
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        ApiError::unusable(format!("{}: `{}` is {shown}; expected {}", label(), field.name, field.kind))
    })
}

/// Refuses a member that is a join key of no view asked for: it is a misspelt one.
fn check_known<'n>(plan: &Plan, names: impl Iterator<Item = &'n str>, label: &impl Fn() -> String) -> Result<(), ApiError> {
    let join_keys = || plan.views.iter().flat_map(|view| &view.entity).map(|field| field.name.as_str());
    for name in names {
        if !join_keys().any(|known| known == name) {
            let shown: String = name.chars().take(80).collect();
            let hint = suggestion(name, join_keys());
            return Err(ApiError::unusable(format!("{}: `{shown}` is a join key of no view asked for{hint}", label())));
        }
    }
    Ok(())
}

fn as_of_not_supported() -> ApiError {
    let message = "this version serves the newest values only; leave `as_of` out";
    ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "as_of_not_supported", message)
}

/// Text that is no JSON is malformed; JSON of the wrong shape is unusable.
pub(super) fn body_error(error: &serde_json::Error) -> ApiError {
    match error.classify() {
        serde_json::error::Category::Data => ApiError::unusable(format!("the body is not as it should be: {error}")),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            ApiError::malformed(format!("the body is not JSON: {error}"))
        }
    }
}
