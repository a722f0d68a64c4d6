//! Transforms over HTTP. The work is done on the floor above.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::body::{self, Whole};
use super::command::{Binding, Command, RefusalKind, TransformChange, TransformInfo};
use super::error::ApiError;
use crate::model::ViewName;

pub(super) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"transforms": all(&shared, &caller).await?})))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TransformInfo>, ApiError> {
    let Path(name) = path?;
    let name = stored(name);
    let all = all(&shared, &caller).await?;
    match all.iter().find(|transform| transform.name == name) {
        Some(found) => Ok(Json(found.clone())),
        None => Err(unknown(&name, &all)),
    }
}

pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    binding: Result<Query<Binding>, QueryRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<TransformInfo>, ApiError> {
    let name = stored(path?.0);
    let Query(binding) = binding?;
    caller.may_bind(binding.at, binding.stream.as_deref())?;
    if let Some(emit) = binding.emit.as_deref().filter(|emit| !emit.is_empty()) {
        caller.may_stream(emit)?;
    }
    let Whole(component, _room) = body?;
    if component.is_empty() {
        return Err(ApiError::malformed("the body is empty; send the component's bytes"));
    }
    let (reply, answer) = oneshot::channel();
    let put = Command::PutTransform { name, component, binding, by: caller.by().to_owned(), reply };
    Ok(Json(send(&shared, put, answer).await??))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let name = stored(path?.0);
    let (reply, answer) = oneshot::channel();
    match send(&shared, Command::DeleteTransform { name: name.clone(), reply }, answer).await? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Err(unknown(&name, &all(&shared, &caller).await?)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The name of a transform as it is kept: the first version of a view has none after its name.
pub(super) fn stored(name: String) -> String {
    match ViewName::parse(&name) {
        Some(ViewName { base, version: Some(version) }) => ViewName::stored(base, version),
        Some(ViewName { version: None, .. }) | None => name,
    }
}

/// The body of `POST /v1/transforms/{name}/switch`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Switch {
    now: bool,
}

pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TransformInfo>, ApiError> {
    change(&shared, &caller, path, TransformChange::Pause).await
}

pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TransformInfo>, ApiError> {
    change(&shared, &caller, path, TransformChange::Resume).await
}

pub(super) async fn switch(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<TransformInfo>, ApiError> {
    let Whole(body, _room) = body?;
    let Switch { now } = if body.is_empty() { Switch::default() } else { body::object(&body)? };
    change(&shared, &caller, path, TransformChange::Switch { now }).await
}

async fn change(
    shared: &Shared,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    change: TransformChange,
) -> Result<Json<TransformInfo>, ApiError> {
    let name = stored(path?.0);
    let (reply, answer) = oneshot::channel();
    match send(shared, Command::ChangeTransform { name: name.clone(), change, reply }, answer).await? {
        Ok(info) => Ok(Json(info)),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Err(unknown(&name, &all(shared, caller).await?)),
        Err(refusal) => Err(refusal.into()),
    }
}

pub(super) fn unknown(name: &str, all: &[TransformInfo]) -> ApiError {
    ApiError::not_found("transform", name, all.iter().map(|transform| transform.name.as_str()))
}

/// All transforms within the caller's reach.
pub(super) async fn all(shared: &Shared, caller: &Caller) -> Result<Vec<TransformInfo>, ApiError> {
    let (reply, answer) = oneshot::channel();
    let mut all = send(shared, Command::ListTransforms { reply }, answer).await?;
    all.retain(|transform| caller.sees_view(&transform.name));
    Ok(all)
}

/// Hands a command to the floor above and waits for its answer.
pub(super) async fn send<T>(shared: &Shared, command: Command, answer: oneshot::Receiver<T>) -> Result<T, ApiError> {
    let stopping = || ApiError::unavailable("the host is shutting down");
    shared.state.commands.send(command).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}
