//! The three shapes of Feast's errors.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::serve::error::ApiError;

/// An answer that is an error.
#[derive(Debug)]
pub(in crate::serve) enum FeastError {
    /// One that Feast's client raises again as the same class: a JSON text with JSON in it.
    Known { status: StatusCode, class: Class, message: String },
    /// Any other mistake of the client: a JSON text.
    Plain(StatusCode, String),
    /// The body is not what it should be: what is wrong, as FastAPI tells it.
    Invalid(Box<Value>),
    /// What is no matter of the request's contents: who asks, how often, how much, and what the host cannot do now.
    Other(ApiError),
}

/// A class of `feast.errors`.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) enum Class {
    FeatureViewNotFound,
    FeatureServiceNotFound,
    FeatureNameCollision,
    ObjectNotFound,
    PushSourceNotFound,
    RequestDataNotFound,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Class::FeatureViewNotFound => "FeatureViewNotFoundException",
            Class::FeatureServiceNotFound => "FeatureServiceNotFoundException",
            Class::FeatureNameCollision => "FeatureNameCollisionError",
            Class::ObjectNotFound => "FeastObjectNotFoundException",
            Class::PushSourceNotFound => "PushSourceNotFoundException",
            Class::RequestDataNotFound => "RequestDataNotFoundInEntityRowsException",
        }
    }
}

impl FeastError {
    pub(super) fn known(status: StatusCode, class: Class, message: String) -> FeastError {
        FeastError::Known { status, class, message }
    }

    pub(super) fn plain(message: impl Into<String>) -> FeastError {
        FeastError::Plain(StatusCode::BAD_REQUEST, message.into())
    }

    /// Something in the body is wrong: `kind` and `place` in FastAPI's words.
    pub(super) fn invalid(kind: &str, place: &[&str], message: &str) -> FeastError {
        FeastError::Invalid(Box::new(json!({"type": kind, "loc": place, "msg": message})))
    }
}

impl From<ApiError> for FeastError {
    fn from(error: ApiError) -> FeastError {
        error.mistake().map_or_else(FeastError::Other, FeastError::plain)
    }
}

impl IntoResponse for FeastError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            FeastError::Known { status, class, message } => {
                // Written as Python writes it, member by member.
                let inner = format!("{{\"module\": \"feast.errors\", \"class\": \"{}\", \"message\": {}}}", class.as_str(), json!(message));
                (status, Value::String(inner))
            }
            FeastError::Plain(status, message) => (status, Value::String(message)),
            FeastError::Invalid(detail) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"detail": [*detail]})),
            FeastError::Other(error) => return error.into_response(),
        };
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}
