//! Feast's own protocol, so that its clients read and write here without a change: `parse → plan → one store read → write the response`, as
//! everywhere, with Feast's words for requests, answers and errors.
//!
//! Where Feast answers 500 to a mistake of the client, this host answers 4xx: Feast's client sends whatever was answered with 500 three more times, and
//! then forgets the message.

mod answer;
mod error;
mod request;
mod rows;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use super::access::Caller;
use super::body::Whole;
use super::compute::compute;
use super::error::{ApiError, suggestion};
use super::features::{aside, look};
use super::join_keys::{Given, key};
use super::look::At;
use super::plan::{Plan, view_of};
use super::services;
use super::{Catalog, Shared};
use crate::model::{FeastStatuses, SchemaId, ServiceName, Timestamp, View};
use crate::window::{self, Forgets, Lasting};

use answer::Layout;
use error::{Class, FeastError};
use request::{Columns, Members};
pub(super) use rows::RowWriter;
pub use rows::written_rows;

/// What the host needs to know to speak with Feast's clients.
#[derive(Debug, Clone, Default)]
pub struct FeastOptions {
    /// The project that messages name.
    pub project: String,
    /// Which statuses stand in answers.
    pub statuses: FeastStatuses,
    /// The views that clients may write, by name.
    pub written: BTreeMap<String, Arc<Written>>,
}

/// A view that no transform computes: its rows are sent.
#[derive(Debug)]
pub struct Written {
    /// The view, as it is served.
    pub view: Arc<View>,
    /// Its schema's number in the online store.
    pub schema: SchemaId,
    /// What is kept of an entity beside its newest row, where anything is.
    pub kept: Option<window::Plan>,
    /// How long its entities last; `None` for ever.
    pub lasting: Option<Lasting>,
    /// Which may be forgotten.
    pub forgets: Forgets,
    /// The push source that feeds it.
    pub push_source: String,
    /// The column of the event time.
    pub timestamp_field: String,
}

/// The body of `POST /get-online-features`.
struct Asked<'b> {
    features: Option<&'b RawValue>,
    service: Option<Cow<'b, str>>,
    entities: Columns<'b>,
    layout: Layout,
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Result<StatusCode, ApiError> {
    shared.state.store.check().await?;
    Ok(StatusCode::OK)
}

pub(super) async fn get_online_features(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Result<Whole, ApiError>,
) -> Result<Response, FeastError> {
    let Whole(body, _room) = body?;
    let asked = Asked::read(&body, shared.state.feast.statuses)?;
    let limits = &shared.state.limits;
    let rows = asked.entities.rows()?;
    if rows > limits.entities_max {
        return Err(ApiError::too_large(format!("{rows} entities are asked for at once; {} are allowed", limits.entities_max)).into());
    }
    let catalog = shared.state.catalog.load_full();
    let plan = plan(&shared, &catalog, &caller, &asked)?;
    let views: Vec<&View> = plan.views.iter().map(|planned| &*planned.view).collect();
    views.iter().try_for_each(|view| caller.may_view(&view.name))?;
    let names = asked.layout.names(&plan)?;
    asked.entities.check_join_keys(&views)?;
    asked.entities.check_request_data(&views)?;
    let mut keys = Vec::with_capacity(rows * views.len());
    for row in 0..rows {
        let label = || format!("row {row} of the entities");
        for view in &views {
            keys.push(key(view, &label, |name| asked.entities.get(name, row).map(|raw| Given::Json(raw.get())))?);
        }
    }
    let at = At::Now(Timestamp::now());
    let mut room = shared.rooms.answer();
    let mut looked = look(&shared, &plan, at, &keys, &mut room).await?;
    if plan.computes() {
        // What Feast calls request data travels among the entities.
        compute(&plan, at, None, &keys, &mut looked, &asked.entities)?;
    }
    let write = || answer::write(&plan, &asked.layout, &asked.entities, &names, &looked, &mut room);
    let body = aside(looked.len(), &plan, write)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], room.body(body)).into_response())
}

impl<'b> Asked<'b> {
    fn read(body: &'b [u8], statuses: FeastStatuses) -> Result<Asked<'b>, FeastError> {
        let members = Members::read(body)?;
        let full_names = members.boolean("full_feature_names")?;
        let view_metadata = members.boolean("include_feature_view_version_metadata")?;
        Ok(Asked {
            features: members.list("features")?,
            service: members.text("feature_service")?,
            entities: members.columns("entities")?,
            layout: Layout { full_names, view_metadata, statuses },
        })
    }
}

/// The plan of what is asked for. A service counts before a list, as it does for Feast.
fn plan(shared: &Shared, catalog: &Arc<Catalog>, caller: &Caller, asked: &Asked<'_>) -> Result<Arc<Plan>, FeastError> {
    let (telemetry, features_max) = (&*shared.state.telemetry, shared.state.limits.features_max);
    let project = &shared.state.feast.project;
    if let Some(service) = &asked.service {
        let parsed = service.parse::<ServiceName>().ok();
        if parsed.is_none_or(|parsed| catalog.services.get(&parsed).is_none()) {
            let message = format!("Feature service {} does not exist in project {project}", shown(service));
            return Err(FeastError::known(StatusCode::NOT_FOUND, Class::FeatureServiceNotFound, message));
        }
        services::find(catalog, caller, service)?;
        return shared.service_plans.get(catalog, service, |catalog| {
            Plan::of_service(catalog, telemetry, caller, service, features_max).map_err(FeastError::from)
        });
    }
    let Some(features) = asked.features else { return Err(FeastError::plain("No features specified for retrieval")) };
    shared.feast_plans.get(catalog, features.get(), |catalog| {
        let references: Vec<Cow<'_, str>> = request::texts(features, "features")?;
        if references.len() > features_max {
            let many = references.len();
            return Err(FeastError::plain(format!("{many} features are asked for; {features_max} are allowed")));
        }
        let references = references.iter().map(|reference| resolve(catalog, caller, project, reference));
        let references = references.collect::<Result<Vec<String>, FeastError>>()?;
        Plan::of_features(catalog, telemetry, caller, &references, features_max).map_err(FeastError::from)
    })
}

/// A reference as Feast has it, `view:feature` or `view@latest:feature`, as ours.
fn resolve(catalog: &Catalog, caller: &Caller, project: &str, reference: &str) -> Result<String, FeastError> {
    let Some((view, feature)) = reference.split_once(':') else {
        let expected = "'<feature_view>:<feature>' or '<feature_view>@<version>:<feature>'";
        return Err(FeastError::plain(format!("Invalid feature reference '{}'. Expected format: {expected}", shown(reference))));
    };
    let view = match view.split_once('@') {
        None => view,
        Some((view, "latest")) => view,
        Some((view, _)) => {
            return Err(FeastError::plain(format!("view {} has one version here; leave the version out, or ask for @latest", shown(view))));
        }
    };
    caller.may_view(view)?;
    let Some(known) = catalog.view(view) else {
        let message = format!("Feature view {} does not exist in project {project}", shown(view));
        return Err(FeastError::known(StatusCode::NOT_FOUND, Class::FeatureViewNotFound, message));
    };
    let known = || known.features.iter().chain(&known.windows).map(|field| field.name.as_str());
    if !known().any(|name| name == feature) {
        let hint = suggestion(feature, known());
        return Err(FeastError::plain(format!("Feature {} not found in projection {view}{hint}", shown(feature))));
    }
    Ok(format!("{view}:{feature}"))
}

pub(super) async fn push(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Result<Whole, ApiError>,
) -> Result<StatusCode, FeastError> {
    let Whole(body, _room) = body?;
    let members = Members::read(&body)?;
    let source = members.required_text("push_source_name")?;
    let frame = members.columns("df")?;
    match members.text("to")?.as_deref().unwrap_or("online") {
        "online" => {}
        "offline" | "online_and_offline" => {
            return Err(FeastError::plain("this host has no offline store; push to 'online' only"));
        }
        other => {
            let modes = "['online', 'offline', 'online_and_offline']";
            return Err(FeastError::plain(format!(
                "{} is not a supported push format. Please specify one of these {modes}.",
                shown(other)
            )));
        }
    }
    let targets: Vec<&Arc<Written>> = shared.state.feast.written.values().filter(|written| *written.push_source == *source).collect();
    if targets.is_empty() {
        // Who is limited to some views is not told which other names there are.
        caller.may_write_view(&source)?;
        refuse_computed(&shared, &caller, &source)?;
        let message = format!("Unable to find push source '{}'.", shown(&source));
        return Err(FeastError::known(StatusCode::UNPROCESSABLE_ENTITY, Class::PushSourceNotFound, message));
    }
    write(&shared, &caller, &targets, frame).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn write_to_online_store(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Result<Whole, ApiError>,
) -> Result<Response, FeastError> {
    let Whole(body, _room) = body?;
    let members = Members::read(&body)?;
    let view = members.required_text("feature_view_name")?;
    caller.may_write_view(&view)?;
    let frame = members.columns("df")?;
    let Some(target) = shared.state.feast.written.get(&*view) else {
        refuse_computed(&shared, &caller, &view)?;
        let message = format!("Can't recognize feast object with a name {}", shown(&view));
        return Err(FeastError::known(StatusCode::NOT_FOUND, Class::ObjectNotFound, message));
    };
    write(&shared, &caller, &[target], frame).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], "null").into_response())
}

/// Says so where a view is computed: rows from elsewhere would be replaced by the next event, or replace what events gave.
fn refuse_computed(shared: &Shared, caller: &Caller, name: &str) -> Result<(), FeastError> {
    if view_of(&shared.state.catalog.load(), caller, name).is_err() {
        return Ok(());
    }
    let message =
        format!("view {name} is computed by a transform; send events to its stream, or declare a view of another name in [views]");
    Err(FeastError::Plain(StatusCode::CONFLICT, message))
}

async fn write(shared: &Shared, caller: &Caller, targets: &[&Arc<Written>], mut frame: Columns<'_>) -> Result<(), FeastError> {
    targets.iter().try_for_each(|target| caller.may_write_view(&target.view.name))?;
    let join_keys: BTreeSet<&str> = targets.iter().flat_map(|target| &target.view.entity).map(|field| field.name.as_str()).collect();
    frame.undouble(&join_keys);
    let (rows, max) = (frame.rows()?, shared.state.limits.entities_max);
    if rows > max {
        return Err(ApiError::too_large(format!(
            "{rows} rows are sent at once; {max} are allowed: send fewer, or raise http.entities_max"
        ))
        .into());
    }
    let frames = targets.iter().map(|target| rows::read(target, &frame, rows)).collect::<Result<Vec<_>, _>>()?;
    shared.row_writer.commit(shared, targets, &frames).await
}

/// A text of the client's, as much of it as is repeated in a message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
