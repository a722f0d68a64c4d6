//! What streams there are, and how transforms lead from one to another. The work is done on the floor above.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::command::Command;
use super::error::ApiError;
use super::transforms::send;

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
