//! What streams there are, and how transforms lead from one to another. The work is done on the floor above.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::command::Command;
use super::error::ApiError;
use super::transforms::send;
use crate::model::EntryId;

/// A stream as it is told about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// `embedded` or `redis_streams`.
    #[serde(rename = "type")]
    pub source: &'static str,
    /// Partitions that it is split into; none of one that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// The fields of events that tell the partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// Who reads it, by name.
    pub transforms: Vec<StreamReader>,
    /// The transforms whose rows go on to it, by name.
    pub emitted_by: Vec<String>,
    /// How far those are that read it; none for a stream that nothing reads.
    pub groups: Vec<StreamGroup>,
}

/// A transform that reads a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReader {
    /// Its name.
    pub name: String,
    /// The stream that its rows go on to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<String>,
}

/// How far a consumer group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamGroup {
    /// Its name.
    pub name: String,
    /// What this host does for it, in the words for transforms.
    pub state: &'static str,
    /// Entries not yet read, as known a moment ago; none where the source cannot tell.
    pub lag_entries: Option<u64>,
    /// Entries read and not acknowledged.
    pub pending_entries: u64,
    /// Each of the stream's partitions; of one that is not split, the whole of it as 0.
    pub partitions: Vec<StreamPartition>,
}

/// How far a consumer group is on one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamPartition {
    /// Its number.
    pub partition: u32,
    /// The last entry that is applied.
    pub place: Option<EntryId>,
    /// Entries not yet read; none where nobody can tell.
    pub lag_entries: Option<u64>,
    /// Entries read and not acknowledged.
    pub pending_entries: Option<u64>,
    /// The host that works on it, by its id; none where nobody does, or hosts compete.
    pub held_by: Option<String>,
    /// Whether this host does.
    pub here: bool,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let (reply, answer) = oneshot::channel();
    let mut streams = send(&shared, Command::ListStreams { reply }, answer).await?;
    streams.retain(|stream| caller.sees_stream(&stream.name));
    for stream in &mut streams {
        stream.transforms.retain(|transform| caller.sees_view(&transform.name));
        for transform in &mut stream.transforms {
            transform.emit.take_if(|emit| !caller.sees_stream(emit));
        }
        stream.emitted_by.retain(|transform| caller.sees_view(transform));
    }
    Ok(Json(json!({"streams": streams})))
}
