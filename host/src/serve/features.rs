//! The query path.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout_at;

use super::access::Caller;
use super::body::{self, Coding, Whole};
use super::brought::{Brings, Brought, InQuery};
use super::columns;
use super::compute::compute;
use super::error::ApiError;
use super::join_keys::{Given, SHOWN_CHARS, check_known, entity_keys, in_query, is_join_key, key};
use super::look::{At, Looked, StoredSchema};
use super::parts::{Sending, Sent};
use super::plan::{Mapping, Plan, PlannedView};
use super::respond::ResultWriter;
use super::room::AnswerRoom;
use super::{Shared, arrow, reading, told};
use crate::model::{FeatureRow, SchemaId, Timestamp, View, parse};

/// Values of an answer that takes so long to write that others must not wait for it: some milliseconds.
const LONG_CELLS: usize = 20_000;
/// Bytes that an answer is given before it is known how many it takes.
const FIRST_BYTES_MAX: usize = 2 << 20;
/// Bytes of entities that are read before other requests get a turn.
const TURN_BYTES: usize = 256 << 10;

/// The body of `POST /v1/features`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "'de: 'b"))]
struct Asked<'b> {
    features: Option<&'b RawValue>,
    #[serde(borrow)]
    view: Option<Cow<'b, str>>,
    #[serde(borrow)]
    service: Option<Cow<'b, str>>,
    entities: Vec<&'b RawValue>,
    as_of: Option<&'b RawValue>,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    provenance: bool,
    #[serde(default)]
    kinds: bool,
    /// What goes with the entities beside their join keys, for views that are computed.
    #[serde(borrow)]
    request: Option<&'b RawValue>,
    /// Time from the request's first byte until what is computed must be there, in milliseconds.
    deadline_ms: Option<u64>,
}

/// How an answer in JSON is laid out.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Layout {
    /// A result for each entity.
    #[default]
    Rows,
    /// A column for each feature.
    Columns,
    /// Not JSON at all: asked for by `Accept`.
    #[serde(skip)]
    Arrow,
}

/// What a request wants beside the features.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    at: At,
    layout: Layout,
    provenance: bool,
    /// Whether an answer in JSON says what its values are.
    kinds: bool,
    /// When what is computed must be there.
    until: Option<Instant>,
}

/// Where queries come in.
pub(super) const QUERY_PATH: &str = "/v1/features";

/// The same for those that come through the router.
pub(super) async fn query_routed(State(shared): State<Arc<Shared>>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    let (wants_arrow, coding) = (wants_arrow(request.headers()), Coding::of(request.headers()));
    Ok(query(&shared, &caller, wants_arrow, coding, request.into_body()).await?.map(Sent::into_body))
}

/// Whether an Arrow stream is among what is accepted, and JSON is not liked better.
pub(super) fn wants_arrow(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let (mut arrow, mut json) = (0.0, 0.0);
    for range in accepted {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        // A weight that is none counts as none was given.
        let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok()).unwrap_or(1.0);
        if name.eq_ignore_ascii_case(arrow::MEDIA_TYPE) {
            arrow = weight;
        } else if name.eq_ignore_ascii_case("application/json") {
            json = weight;
        }
    }
    arrow > 0.0 && arrow >= json
}

pub(super) async fn query(
    shared: &Shared,
    caller: &Caller,
    wants_arrow: bool,
    coding: Coding,
    body: impl HttpBody<Data = Bytes> + Unpin,
) -> Result<Sending, ApiError> {
    let came = Instant::now();
    let Whole(body, _room) = body::read(body, coding, shared.state.limits.body_bytes_max, &shared.rooms).await?;
    let asked: Asked<'_> = body::object(&body)?;
    let as_of = asked.as_of.map(RawValue::get).filter(|as_of| *as_of != "null");
    let at = moment(as_of.map(|json| parse::json_text(json).ok_or(json)))?;
    let limits = &shared.state.limits;
    if asked.entities.len() > limits.entities_max {
        let (many, max) = (asked.entities.len(), limits.entities_max);
        return Err(ApiError::too_large(format!("{many} entities are asked for at once; {max} are allowed")));
    }
    let (catalog, telemetry) = (shared.state.catalog.load_full(), &*shared.state.telemetry);
    let plan = match (asked.features, &asked.view, &asked.service) {
        (Some(features), None, None) => shared.feature_plans.get(&catalog, features.get(), |catalog| {
            let references: Vec<String> = serde_json::from_str(features.get())
                .map_err(|error| ApiError::unusable(format!("`features` must be a list of view:feature texts: {error}")))?;
            Plan::of_features(catalog, telemetry, caller, &references, limits.features_max)
        })?,
        (None, None, Some(service)) => shared
            .service_plans
            .get(&catalog, service, |catalog| Plan::of_service(catalog, telemetry, caller, service, limits.features_max))?,
        (None, Some(view), None) => shared.view_plans.get(&catalog, view, |catalog| Plan::of_view(catalog, telemetry, caller, view))?,
        _ => return Err(ApiError::unusable("say what is wanted, by one of `features`, `view` and `service`")),
    };
    // A plan may have been made for somebody who reaches more.
    let views: Vec<&View> = plan.views.iter().map(|planned| &*planned.view).collect();
    views.iter().try_for_each(|view| caller.may_view(&view.name))?;
    let layout = if wants_arrow { Layout::Arrow } else { asked.layout };
    if let (At::Now(now), Layout::Rows, false, None) = (at, layout, asked.provenance, asked.request)
        && plan.lasts()
    {
        return Box::pin(told::answer(shared, &plan, &views, now, &asked.entities, asked.kinds)).await;
    }
    let mut keys = Vec::with_capacity(asked.entities.len() * plan.views.len());
    for (index, raw) in asked.entities.iter().enumerate() {
        entity_keys(&views, index, raw, &mut keys)?;
    }
    let until = asked.deadline_ms.and_then(|ms| came.checked_add(Duration::from_millis(ms)));
    let wanted = Wanted { at, layout, provenance: asked.provenance, kinds: asked.kinds, until };
    let brings = match (asked.request, plan.computes()) {
        (None, false) => None,
        (request, _) => Some(Brought::new(&plan, &asked.entities, request)?),
    };
    let entities = asked.entities.iter().map(|raw| Cow::Borrowed(raw.get()));
    Ok(answer(shared, &plan, wanted, &keys, brings.as_ref(), entities).await?.map(Sent::Whole))
}

pub(super) async fn query_one(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let came = Instant::now();
    let Path(view) = path?;
    let mut members = in_query(query?.0)?;
    let as_of = members.remove("as_of");
    let at = moment(as_of.as_deref().map(|text| Ok(Cow::Borrowed(text))))?;
    let provenance = match members.remove("provenance").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::unusable("`provenance` is either true or false")),
    };
    let layout = if wants_arrow(&headers) { Layout::Arrow } else { Layout::Rows };
    let time_max = members.remove("deadline_ms").map(|text| text.parse().map(Duration::from_millis)).transpose();
    let time_max = time_max.map_err(|_| ApiError::unusable("`deadline_ms` is a number of milliseconds"))?;
    let until = time_max.and_then(|max| came.checked_add(max));
    let wanted = Wanted { at, layout, provenance, kinds: false, until };
    let (catalog, telemetry) = (shared.state.catalog.load_full(), &*shared.state.telemetry);
    let plan = match members.remove("features") {
        None => shared.view_plans.get(&catalog, &view, |catalog| Plan::of_view(catalog, telemetry, &caller, &view))?,
        Some(features) => {
            let references: Vec<String> = features.split(',').map(|feature| format!("{view}:{feature}")).collect();
            Arc::new(Plan::of_features(&catalog, telemetry, &caller, &references, shared.state.limits.features_max)?)
        }
    };
    let views: Vec<&View> = plan.views.iter().map(|planned| &*planned.view).collect();
    views.iter().try_for_each(|view| caller.may_view(&view.name))?;
    let label = || "the query".to_owned();
    // What is no join key is for what is computed.
    let (beside, members): (BTreeMap<String, String>, _) =
        members.into_iter().partition(|(name, _)| plan.takes(name) && !views.iter().any(|view| is_join_key(view, name)));
    check_known(&views, members.keys().map(String::as_str), &label)?;
    let entity = serde_json::to_string(&members).map_err(|error| ApiError::internal(&error.to_string()))?;
    let keys = views.iter().map(|view| key(view, &label, |name| Some(Given::Plain(members.get(name)?))));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let brings = plan.computes().then_some(InQuery { members: &members, beside: &beside });
    answer(&shared, &plan, wanted, &keys, brings.as_ref(), std::iter::once(Cow::Owned(entity))).await
}

/// One store read for all views of all entities, then what is computed from it, then the response.
async fn answer<'e>(
    shared: &Shared,
    plan: &Plan,
    wanted: Wanted,
    keys: &[Vec<u8>],
    brings: Option<&impl Brings>,
    entities: impl ExactSizeIterator<Item = Cow<'e, str>>,
) -> Result<Response, ApiError> {
    let mut room = shared.rooms.answer();
    let mut looked = match wanted.until.filter(|_| !plan.answers_stored()) {
        None => look(shared, plan, wanted.at, keys, &mut room).await?,
        // It is read to compute with alone, and what comes too late for that is not waited for.
        Some(until) => match timeout_at(until.into(), Box::pin(look(shared, plan, wanted.at, keys, &mut room))).await {
            Ok(looked) => looked?,
            Err(_) => vec![Looked::default(); keys.len()],
        },
    };
    if let Some(brings) = brings {
        compute(plan, wanted.at, wanted.until, keys, &mut looked, brings)?;
    }
    let write = || {
        Ok::<(&str, Vec<u8>), ApiError>(match wanted.layout {
            Layout::Rows => ("application/json", rows(shared, plan, keys, entities, &looked, wanted, &mut room)?),
            Layout::Columns => ("application/json", columns::write(plan, entities, &looked, wanted.kinds, wanted.provenance, &mut room)?),
            Layout::Arrow => (arrow::MEDIA_TYPE, arrow::write(plan, entities, &looked, wanted.provenance, &mut room)?),
        })
    };
    let (media_type, body) = aside(looked.len(), plan, write)?;
    Ok(([(header::CONTENT_TYPE, media_type)], room.body(body)).into_response())
}

/// Writes an answer; one that takes long where it keeps no others from theirs.
pub(super) fn aside<T>(looked: usize, plan: &Plan, write: impl FnOnce() -> T) -> T {
    let cells = looked.saturating_mul(plan.columns.len()) / plan.views.len().max(1);
    if cells > LONG_CELLS { tokio::task::block_in_place(write) } else { write() }
}

/// What the store has for each view of each entity.
pub(super) async fn look(
    shared: &Shared,
    plan: &Plan,
    at: At,
    keys: &[Vec<u8>],
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<Looked>, ApiError> {
    let packed = reading::read(shared, plan, keys, room).await?;
    look_at(shared, plan, at, keys, packed).await
}

/// The same of what was read already.
pub(super) async fn look_at(
    shared: &Shared,
    plan: &Plan,
    at: At,
    keys: &[Vec<u8>],
    packed: Vec<Option<Bytes>>,
) -> Result<Vec<Looked>, ApiError> {
    // What had not expired when it was read is not to be taken for forgotten, nor the other way round.
    let at = if let At::Past(moment, _) = at { At::Past(moment, Timestamp::now()) } else { at };
    let mut looked: Vec<Looked> = Vec::with_capacity(packed.len());
    // Entities that keep much take long to read, so each is read once, and others get their turn in between.
    let (mut known, mut since_turn): (HashMap<&[u8], usize>, usize) = (HashMap::new(), 0);
    // Rows of one view have one schema nearly always.
    let mut last: Option<(SchemaId, Arc<Mapping>)> = None;
    for ((packed, key), view) in packed.into_iter().zip(keys).zip(plan.views.iter().cycle()) {
        let Some(packed) = packed else {
            looked.push(view.absent(at));
            continue;
        };
        let row = FeatureRow::new(packed).map_err(|error| ApiError::internal(&error.to_string()))?;
        let id = row.header.schema;
        if row.is_entity() {
            let again = known.get(key.as_slice()).and_then(|index| looked.get(*index)).cloned();
            if again.is_none() {
                known.insert(key, looked.len());
                since_turn += row.packed().len();
                if since_turn > TURN_BYTES {
                    since_turn = 0;
                    tokio::task::yield_now().await;
                }
            }
            looked.push(match again {
                Some(again) => again,
                None => shared.entity(view, &row, at).await?,
            });
            continue;
        }
        let mapping = match &last {
            Some((known, mapping)) if *known == id => Arc::clone(mapping),
            _ => plan.mapping(id, &shared.schema(id).await?.schema),
        };
        last = Some((id, Arc::clone(&mapping)));
        looked.push(view.row(row, mapping, at));
    }
    Ok(looked)
}

/// The answer with a result for each entity.
fn rows<'e>(
    shared: &Shared,
    plan: &Plan,
    keys: &[Vec<u8>],
    entities: impl ExactSizeIterator<Item = Cow<'e, str>>,
    looked: &[Looked],
    Wanted { provenance, kinds, .. }: Wanted,
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<u8>, ApiError> {
    let views = plan.views.len();
    let columns = plan.runs.last().map_or(0, |run| run.columns.end);
    let mut out = Vec::with_capacity((plan.head.len() + entities.len() * (64 + columns * 64)).min(FIRST_BYTES_MAX));
    out.extend_from_slice(&plan.head);
    out.extend_from_slice(if kinds { &plan.kinds } else { &[] });
    out.extend_from_slice(b",\"results\":[");
    let mut writer = ResultWriter::new(plan, Some(&shared.pieces), provenance);
    for (index, entity) in entities.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let of_entity = index * views..(index + 1) * views;
        let (found, keys) = (looked.get(of_entity.clone()).unwrap_or_default(), keys.get(of_entity).unwrap_or_default());
        writer.push(&mut out, room, &entity, keys, found)?;
    }
    out.extend_from_slice(b"]}");
    writer.count();
    Ok(out)
}

impl Shared {
    /// What there is of an entity that keeps more than its newest row.
    async fn entity(&self, view: &PlannedView, stored: &FeatureRow, at: At) -> Result<Looked, ApiError> {
        let id = stored.header.schema;
        let (mut looked, made_under) = view.entity(stored, &*self.schema(id).await?, at)?;
        if let (Some(made_by), Some(made_under)) = (&mut looked.made_by, made_under.filter(|made_under| *made_under != id)) {
            made_by.component = self.schema(made_under).await?.schema.component;
        }
        Ok(looked)
    }

    /// A stored schema; one that is not known yet was written by another host, or by this one a moment ago.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Arc<StoredSchema>, ApiError> {
        if let Some(schema) = self.schemas.load().get(&id) {
            return Ok(Arc::clone(schema));
        }
        let all = self.state.store.schemas().await?;
        self.schemas.store(Arc::new(all.into_iter().map(|(id, schema)| (id, Arc::new(StoredSchema::new(schema)))).collect()));
        let found = self.schemas.load().get(&id).cloned();
        found.ok_or_else(|| ApiError::internal(&format!("a stored row names schema {}, which the store does not have", id.0)))
    }
}

/// The moment asked about; the text as it stands where it is none.
fn moment(as_of: Option<Result<Cow<'_, str>, &str>>) -> Result<At, ApiError> {
    let now = Timestamp::now();
    let Some(text) = as_of else { return Ok(At::Now(now)) };
    let parsed = text.as_ref().ok().and_then(|text| parse::timestamp(text.as_bytes(), None));
    let Some(moment) = parsed else {
        let text = text.as_deref().unwrap_or_else(|text| text);
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        return Err(ApiError::unusable(format!(
            "`as_of` is `{shown}`; expected a timestamp, RFC 3339 with an offset or a number since 1970, in seconds, milli-, micro- or nanoseconds by its size"
        )));
    };
    if moment > now {
        return Err(ApiError::unusable(format!("`as_of` is {moment}, which is yet to come; leave it out for the newest values")));
    }
    Ok(At::Past(moment, now))
}
