//! Dead letters over HTTP: list, show, replay, drop.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::body::{self, Whole};
use super::command::{Command, ReplayWanted};
use super::error::ApiError;
use super::transforms::send;
use crate::model::{DeadLetterId, DeadLetterQuery};

/// Dead letters shown or replayed at once, at most.
const LIMIT_MAX: usize = 10_000;

/// Bytes of events listed at once, about; one dead letter is listed however large it is.
const LISTED_BYTES_MAX: usize = 16 << 20;

/// Which dead letters.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    transform: Option<String>,
    stream: Option<String>,
    limit: Option<usize>,
}

impl Filter {
    /// Those within the caller's reach; 403 when they are named beyond it.
    fn query(self, caller: &Caller, default: usize, max: usize) -> Result<DeadLetterQuery, ApiError> {
        self.transform.iter().try_for_each(|transform| caller.may_view(transform))?;
        self.stream.iter().try_for_each(|stream| caller.may_stream(stream))?;
        let (limit, reach) = (self.limit.unwrap_or(default).min(max), caller.reach().cloned());
        Ok(DeadLetterQuery { transform: self.transform, stream: self.stream, limit, reach, ..DeadLetterQuery::default() })
    }
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(filter) = filter?;
    let letters = shared.state.store.dead_letters();
    let query = DeadLetterQuery { bytes_max: Some(LISTED_BYTES_MAX), ..filter.query(&caller, 100, LIMIT_MAX)? };
    let found = letters.list(&query).await?;
    let count = letters.count().await?;
    Ok(Json(json!({"dead_letters": found, "kept": count.kept, "evicted": count.evicted})))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((stream, entry_id, transform)) = path?;
    let id: DeadLetterId = format!("{stream}/{entry_id}/{transform}").parse().map_err(ApiError::unusable)?;
    within(&caller, &id)?;
    let query = DeadLetterQuery { ids: Some([id.clone()].into()), limit: 1, ..DeadLetterQuery::default() };
    let found = shared.state.store.dead_letters().list(&query).await?.pop();
    let found = found.ok_or_else(|| ApiError::not_found("dead letter", &id.to_string(), std::iter::empty()))?;
    Ok(Json(serde_json::to_value(found).map_err(|error| ApiError::internal(&error.to_string()))?))
}

pub(super) async fn drop(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(filter) = filter?;
    if filter.transform.is_none() && filter.stream.is_none() && filter.limit.is_none() {
        return Err(ApiError::unusable("say which dead letters to drop: transform, stream, limit, or several of them"));
    }
    let dropped = shared.state.store.dead_letters().drop(&filter.query(&caller, usize::MAX, usize::MAX)?).await?;
    Ok(Json(json!({"dropped": dropped})))
}

/// The body of a replay: ids, or a filter.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ReplayAsked {
    ids: Option<Vec<String>>,
    transform: Option<String>,
    stream: Option<String>,
    limit: Option<usize>,
}

/// 403 for a dead letter beyond the caller's reach, whether or not there is one.
fn within(caller: &Caller, id: &DeadLetterId) -> Result<(), ApiError> {
    caller.may_stream(&id.stream)?;
    caller.may_view(&id.transform)
}

pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Result<Whole, ApiError>,
) -> Result<Json<super::Replayed>, ApiError> {
    let Whole(body, _room) = body?;
    let asked: ReplayAsked = if body.is_empty() { ReplayAsked::default() } else { body::object(&body)? };
    let wanted = match asked {
        ReplayAsked { ids: Some(ids), transform: None, stream: None, limit: None } => {
            if ids.len() > LIMIT_MAX {
                return Err(ApiError::too_large(format!("{} dead letters are named; {LIMIT_MAX} are allowed", ids.len())));
            }
            let ids = ids.iter().map(|id| id.parse()).collect::<Result<Vec<_>, _>>().map_err(ApiError::unusable)?;
            ids.iter().try_for_each(|id| within(&caller, id))?;
            ReplayWanted::Ids(ids)
        }
        ReplayAsked { ids: Some(_), .. } => return Err(ApiError::unusable("give `ids` or a filter, not both")),
        ReplayAsked { ids: None, transform, stream, limit } => {
            ReplayWanted::Matching(Filter { transform, stream, limit }.query(&caller, LIMIT_MAX, LIMIT_MAX)?)
        }
    };
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(&shared, Command::Replay { wanted, reply }, answer).await??))
}
