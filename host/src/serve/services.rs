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
use super::body::Whole;
use super::command::{Command, RefusalKind};
use super::error::ApiError;
use super::features::body_error;
use super::plan::Plan;
use super::transforms::send;
use crate::model::{Catalog, Service, ServiceName, is_name};

/// The body of `PUT /v1/services/{service}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    features: Vec<String>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let catalog = shared.state.catalog.load_full();
    let services: Vec<&Service> = catalog.services.iter().map(|service| &**service).collect();
    Json(json!({"services": services}))
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, path: Result<Path<String>, PathRejection>) -> Result<Json<Service>, ApiError> {
    let Path(name) = path?;
    Ok(Json(Service::clone(find(&shared.state.catalog.load(), &name)?)))
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<Service>, ApiError> {
    let Path(name) = path?;
    let Whole(body, _room) = body?;
    if !is_name(&name) {
        let message = "a service's name has 1 to 63 ASCII letters, digits and `_`, and does not start with a digit; its versions are counted by the host";
        return Err(ApiError::unusable(message));
    }
    let Wanted { features } = serde_json::from_slice(&body).map_err(|error| body_error(&error))?;
    // Whoever puts a service wants to hear of a misspelt feature now, not when the model asks.
    Plan::of_features(&shared.state.catalog.load(), &shared.state.telemetry, &features, shared.state.limits.features_max)?;
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::PutService { name, features, reply }, answer).await??))
}

pub(super) async fn delete(State(shared): State<Arc<Shared>>, path: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let Path(name) = path?;
    let parsed: ServiceName = name.parse().map_err(ApiError::unusable)?;
    let (reply, answer) = oneshot::channel();
    match send(&shared, Command::DeleteService { name: parsed, reply }, answer).await? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Err(unknown(&shared.state.catalog.load(), &name)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The service of this name, `name` or `name@version`.
pub(super) fn find<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Arc<Service>, ApiError> {
    let parsed: ServiceName = name.parse().map_err(ApiError::unusable)?;
    catalog.services.get(&parsed).ok_or_else(|| unknown(catalog, name))
}

fn unknown(catalog: &Catalog, name: &str) -> ApiError {
    ApiError::not_found("service", name, catalog.services.names())
}
