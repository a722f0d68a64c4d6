//! Who changed the host, or tried to: one line for every administrative request, whatever became of it. Neither tokens nor bodies nor query
//! strings, which may carry settings, are part of it.

use axum::http::StatusCode;

use super::access::{Caller, Needs};
use super::routes::Operation;
use crate::model::Scope;

/// What the lines stand under. They are written whatever else is logged.
pub const AUDIT: &str = "gristmill::audit";

/// Whether an operation belongs into the audit log.
pub(super) fn is_due(operation: Operation) -> bool {
    matches!(operation.needs, Needs::Scope(Scope::Admin, _))
}

/// Writes the line.
pub(super) fn record(caller: &Caller, operation: Operation, path: &str, status: StatusCode, request_id: &str) {
    let outcome = match status.as_u16() {
        ..400 => "done",
        401 | 403 => "denied",
        400..500 => "refused",
        _ => "failed",
    };
    let (token, peer, method, status) = (caller.name(), caller.peer(), operation.method, status.as_u16());
    tracing::info!(target: AUDIT, token, peer, method, path, outcome, status, request_id, "an administrative request");
}
