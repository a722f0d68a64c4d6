use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::body::plain_words;
use super::command::{Refusal, RefusalKind};
use crate::online_store;

/// An answer that is an error: `{"error":{"code","message","request_id"}}`. The request id is put in on the way out.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// A header of its own.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
}

/// Carries code and message from a handler to the layer that writes the body.
#[derive(Debug, Clone)]
pub(super) struct ErrorBody {
    code: &'static str,
    message: String,
}

impl ErrorBody {
    pub(super) fn to_json(&self, request_id: &str) -> String {
        json!({"error": {"code": self.code, "message": self.message, "request_id": request_id}}).to_string()
    }
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), header: None }
    }

    /// Whether the client is to change something, and not to be stopped, slowed or tried again: then what to change.
    pub(super) fn mistake(self) -> Result<String, ApiError> {
        match self.status {
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => Ok(self.message),
            _ => Err(self),
        }
    }

    /// Whether it says that the caller may not.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// Whether it says that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// 400: the body is not what it should be at all.
    pub(super) fn malformed(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// 422: the body is well formed and says something that cannot be.
    pub(super) fn unusable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable", message)
    }

    /// 404 with the name that was probably meant.
    pub(super) fn not_found<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> ApiError {
        let shown: String = name.chars().take(80).collect();
        let hint = suggestion(name, known);
        ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what} `{shown}`{hint}"))
    }

    /// 409.
    pub(super) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 413.
    pub(super) fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 429.
    pub(super) fn busy(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    }

    /// The same with another time to wait than a second.
    pub(super) fn retry_after(mut self, secs: u64) -> ApiError {
        self.header = Some((header::RETRY_AFTER, HeaderValue::from(secs)));
        self
    }

    /// 503: not the client's fault, and worth trying again.
    pub(super) fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 500: details go to the log, not to the client.
    pub(super) fn internal(detail: &str) -> ApiError {
        tracing::error!("a request failed: {detail}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the host failed; its log says more under this request's id")
    }
}

/// `; did you mean …?`, or nothing when no known name is near.
pub fn suggestion<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let measured = known.map(|known| (strsim::jaro_winkler(name, known), known));
    // Of equally near names the first, which is the first that was declared.
    let nearest = measured.reduce(|nearest, next| if next.0 > nearest.0 { next } else { nearest });
    nearest.filter(|(near, _)| *near > 0.75).map_or(String::new(), |(_, known)| format!("; did you mean `{known}`?"))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let ApiError { status, code, message, header } = self;
        let mut response = status.into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(ErrorBody { code, message });
        response
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        let text = rejection.body_text();
        let detail = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        ApiError::malformed(format!("the query string is not as it should be: {}", plain_words(detail)))
    }
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> ApiError {
        ApiError::malformed("a part of the path is not UTF-8 after percent-decoding")
    }
}

impl From<online_store::Error> for ApiError {
    fn from(error: online_store::Error) -> ApiError {
        match error {
            online_store::Error::Unreachable { .. } | online_store::Error::Refused { .. } => ApiError::unavailable(error.to_string()),
            online_store::Error::Fenced { .. }
            | online_store::Error::Held { .. }
            | online_store::Error::PlaceLost { .. }
            | online_store::Error::Astray { .. }
            | online_store::Error::Outdated { .. }
            | online_store::Error::Corrupt(_)
            | online_store::Error::Folder(_)
            | online_store::Error::Config(_) => ApiError::internal(&error.to_string()),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, code) = match refusal.kind {
            RefusalKind::Unusable => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            RefusalKind::Conflict => (StatusCode::CONFLICT, "conflict"),
            RefusalKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        ApiError::new(status, code, refusal.message)
    }
}

pub(super) async fn no_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(StatusCode::NOT_FOUND, "no_route", format!("nothing is served at {path}; /openapi.json lists what is"))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("{path} does not take {method}; /openapi.json says what it takes");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
