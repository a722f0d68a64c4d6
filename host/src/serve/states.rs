//! States of folds, for people to look at.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde_json::{Value as Json_, json};

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::join_keys::{Given, check_known, in_query, key};
use super::plan::view_of;
use crate::model::json::push_value;
use crate::model::{StoredState, Value, state_key};

/// The state of one entity, as text where it is text, and as bytes.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Json_>, ApiError> {
    let Path(name) = path?;
    let members = in_query(query?.0)?;
    let catalog = shared.state.catalog.load_full();
    let view = view_of(&catalog, &caller, &name)?;
    let label = || "the query".to_owned();
    check_known(&[&*view], members.keys().map(String::as_str), &label)?;
    let key = state_key(&key(&view, &label, |name| Some(Given::Plain(members.get(name)?)))?);
    let stored = shared.state.store.read(&[key]).await?.pop().flatten();
    let Some(stored) = stored else {
        return Ok(Json(json!({"view": name, "entity": members, "state": null})));
    };
    let state = StoredState::read(&stored).ok_or_else(|| ApiError::internal("a stored state is cut short"))?;
    let mut base64 = Vec::new();
    push_value(&mut base64, Some(Value::Bytes(state.bytes)));
    let base64: Json_ = serde_json::from_slice(&base64).map_err(|error| ApiError::internal(&error.to_string()))?;
    let text = std::str::from_utf8(state.bytes).ok();
    let state = json!({"version": state.version, "bytes": state.bytes.len(), "text": text, "base64": base64});
    Ok(Json(json!({"view": name, "entity": members, "state": state})))
}
