//! What the host says about itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::command::Command;
use super::error::ApiError;
use super::plan::view_of;
use super::transforms::send;
use crate::model::{Scope, View};

/// The description of this interface, checked against the routes by a test.
const OPENAPI: &str = include_str!("openapi.json");

const INDEX: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Gristmill</title><h1>Gristmill</h1>\
<ul><li><a href=\"/openapi.json\">the interface (OpenAPI)</a><li><a href=\"/readyz\">readiness</a><li><a href=\"/metrics\">metrics</a>\
<li><a href=\"/v1/views\">views</a><li><a href=\"/v1/transforms\">transforms</a><li><a href=\"/v1/dead-letters\">dead letters</a></ul></html>";

/// The page loads nothing, runs nothing, sends nothing, and stands in no other page.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn index() -> Response {
    let headers =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::REFERRER_POLICY, "no-referrer")];
    (headers, Html(INDEX)).into_response()
}

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<Response, ApiError> {
    let (reply, answer) = oneshot::channel();
    let mut readiness = send(&shared, Command::Ready { reply }, answer).await?;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Whoever watches the host is told whether it is ready; what it is made of is for those who may read that.
    readiness.parts.retain(|part| caller.has(Scope::Read).is_ok() && sees(&caller, &part.part));
    Ok((status, Json(readiness)).into_response())
}

/// Whether a part of the host is within the caller's reach.
fn sees(caller: &Caller, part: &str) -> bool {
    match part.split_once(' ') {
        // What follows a stream's name is the group that is not the stream's own.
        Some(("stream", name)) => caller.sees_stream(name.split(' ').next().unwrap_or_default()),
        Some(("transform", name)) => caller.sees_view(name),
        _ => true,
    }
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    if let Ok(count) = shared.state.store.dead_letters().count().await {
        shared.state.telemetry.dead_letters_kept(count.kept, count.evicted);
    }
    let text = shared.state.telemetry.encode();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn views(State(shared): State<Arc<Shared>>, caller: Caller) -> Json<Value> {
    let catalog = shared.state.catalog.load_full();
    let views: Vec<&View> = catalog.views.values().map(|view| &**view).filter(|view| caller.sees_view(&view.name)).collect();
    // Clients that want a moment in the past ask whether this host can, instead of guessing from its version.
    Json(json!({"as_of": true, "views": views}))
}

pub(super) async fn view(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = path?;
    let catalog = shared.state.catalog.load_full();
    let view = view_of(&catalog, &caller, &name)?;
    Ok(Json(serde_json::to_value(&*view).map_err(|error| ApiError::internal(&error.to_string()))?))
}
