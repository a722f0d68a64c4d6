//! Feature services over HTTP: what there is, a new version, and away with one.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::body::{self, Whole};
use super::catalog::Catalog;
use super::command::{Command, RefusalKind};
use super::error::ApiError;
use super::plan::Plan;
use super::transforms::send;
use crate::model::{Service, ServiceName, is_name};

/// The body of `PUT /v1/services/{service}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    features: Vec<String>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Json<Value> {
    let catalog = shared.state.catalog.load_full();
    let services: Vec<&Service> = catalog.services.iter().map(AsRef::as_ref).filter(|service| is_seen(service, &caller)).collect();
    Json(json!({"services": services}))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Service>, ApiError> {
    let Path(name) = path?;
    Ok(Json(Service::clone(find(&shared.state.catalog.load(), &caller, &name)?)))
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<Service>, ApiError> {
    let Path(name) = path?;
    let Whole(body, _room) = body?;
    if !is_name(&name) {
        let message = "a service's name has 1 to 63 ASCII letters, digits and `_`, and does not start with a digit; its versions are counted by the host";
        return Err(ApiError::unusable(message));
    }
    let Wanted { features } = body::object(&body)?;
    // Whoever puts a service wants to hear of a misspelt feature now, not when the model asks.
    let catalog = shared.state.catalog.load_full();
    Plan::of_features(&catalog, &shared.state.telemetry, &caller, &features, shared.state.limits.features_max)?;
    // What others have under this name must be within reach, for it would be replaced.
    match find(&catalog, &caller, &name) {
        Err(error) if error.is_forbidden() => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::PutService { name, features, reply }, answer).await??))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(name) = path?;
    let parsed: ServiceName = name.parse().map_err(ApiError::unusable)?;
    find(&shared.state.catalog.load(), &caller, &name)?;
    let (reply, answer) = oneshot::channel();
    match send(&shared, Command::DeleteService { name: parsed, reply }, answer).await? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Err(unknown(&shared.state.catalog.load(), &caller, &name)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The service of this name, `name` or `name@version`. One with features beyond the caller's reach is refused.
pub(super) fn find<'c>(catalog: &'c Catalog, caller: &Caller, name: &str) -> Result<&'c Arc<Service>, ApiError> {
    let parsed: ServiceName = name.parse().map_err(ApiError::unusable)?;
    let service = catalog.services.get(&parsed).ok_or_else(|| unknown(catalog, caller, name))?;
    views(service).try_for_each(|view| caller.may_view(view))?;
    Ok(service)
}

fn unknown(catalog: &Catalog, caller: &Caller, name: &str) -> ApiError {
    let seen = catalog.services.iter().filter(|service| is_seen(service, caller));
    ApiError::not_found("service", name, seen.map(|service| service.name.as_str()))
}

fn is_seen(service: &Service, caller: &Caller) -> bool {
    views(service).all(|view| caller.sees_view(view))
}

/// The views that its features are of.
fn views(service: &Service) -> impl Iterator<Item = &str> {
    service.features.iter().filter_map(|reference| reference.split_once(':')).map(|(view, _)| view)
}
