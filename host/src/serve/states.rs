//! States of folds and what windows and history take, for people to look at.

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
use crate::model::{FeatureRow, StoredState, Value, View, state_key};
use crate::window::Entity;

/// The state of one entity, as text where it is text, and as bytes; and figures of what is kept beside it.
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
    let key = key(&view, &label, |name| Some(Given::Plain(members.get(name)?)))?;
    let (state, kept) = (state(&shared, &view, &key).await?, kept(&shared, &view, &key).await?);
    Ok(Json(json!({"view": name, "entity": members, "fold": view.fold, "state": state, "kept": kept})))
}

/// The state of a fold.
async fn state(shared: &Shared, view: &View, key: &[u8]) -> Result<Option<Json_>, ApiError> {
    if !view.fold {
        return Ok(None);
    }
    let stored = shared.state.store.read(&[state_key(key)]).await?.pop().flatten();
    let Some(stored) = stored.filter(|stored| StoredState::ended(stored).is_none()) else { return Ok(None) };
    let state = StoredState::read(&stored).ok_or_else(|| ApiError::internal("a stored state is cut short"))?;
    let mut base64 = Vec::new();
    push_value(&mut base64, Some(Value::Bytes(state.bytes)));
    let base64: Json_ = serde_json::from_slice(&base64).map_err(|error| ApiError::internal(&error.to_string()))?;
    let text = std::str::from_utf8(state.bytes).ok();
    Ok(Some(json!({"version": state.version, "bytes": state.bytes.len(), "text": text, "base64": base64})))
}

/// What is kept of an entity for windows and history, in figures.
async fn kept(shared: &Shared, view: &View, key: &[u8]) -> Result<Option<Json_>, ApiError> {
    let stored = if view.kept.is_nothing() { None } else { shared.state.store.read(&[key.to_vec()]).await?.pop().flatten() };
    let Some(stored) = stored else { return Ok(None) };
    let row = FeatureRow::new(stored).map_err(|error| ApiError::internal(&error.to_string()))?;
    let newest = row.header.version.event_time;
    let entity = Entity::of_stored(&row, None, shared.schema(row.header.schema).await?.shape());
    let kept_from = entity.map_err(|error| ApiError::internal(&error.to_string()))?.kept_from().to_string();
    Ok(Some(json!({"bytes": row.packed().len(), "newest_event_time": newest.to_string(), "kept_from": kept_from})))
}
