//! Versions that are tried behind those in force, over HTTP. The work is done on the floor above.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::body::{Whole, body_error};
use super::command::{Binding, Command, TransformInfo};
use super::error::ApiError;
use super::transforms::{send, stored};
use crate::model::{ShadowGates, ShadowReport};

/// How a shadow may be bound otherwise than the version in force.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Differently {
    settings: Option<String>,
    inputs: Option<String>,
    aggregations: Option<String>,
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    binding: Result<Query<Differently>, QueryRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<ShadowReport>, ApiError> {
    let name = stored(path?.0);
    let Query(Differently { settings, inputs, aggregations }) = binding?;
    let Whole(component, _room) = body?;
    if component.is_empty() {
        return Err(ApiError::malformed("the body is empty; send the component's bytes"));
    }
    let binding = Binding { settings, inputs, aggregations, ..Binding::default() };
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::PutShadow { name, component, binding, reply }, answer).await??))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ShadowReport>, ApiError> {
    let name = stored(path?.0);
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::ShowShadow { name, reply }, answer).await??))
}

pub(super) async fn promote(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<TransformInfo>, ApiError> {
    let name = stored(path?.0);
    let Whole(body, _room) = body?;
    let gates: ShadowGates = if body.trim_ascii().is_empty() {
        ShadowGates::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| body_error(&error))?
    };
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::PromoteShadow { name, gates, by: caller.by().to_owned(), reply }, answer).await??))
}

pub(super) async fn delete(State(shared): State<Arc<Shared>>, path: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let name = stored(path?.0);
    let (reply, answer) = oneshot::channel();
    send(&shared, Command::DeleteShadow { name, reply }, answer).await??;
    Ok(StatusCode::NO_CONTENT)
}
