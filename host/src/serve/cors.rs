//! Which web pages of other origins may read answers. None, unless the configuration names them.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// What a page may send, and how long a browser may remember that.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id, x-request-id");
const REMEMBERED_SECS: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may read answers, as `https://name:port`.
#[derive(Debug, Default)]
pub(super) struct Cors(pub(super) Vec<String>);

impl Cors {
    /// The origin of a request, where its pages may read the answer.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        self.0.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The answer to a browser that asks before it sends what a page wants sent. It carries no token, and nothing is done.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let origin = self.allowed(headers).filter(|_| asks)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECS);
        self.mark(&mut response, Some(origin));
        Some(response)
    }

    /// Says on an answer whose pages may read it.
    pub(super) fn mark<B>(&self, response: &mut axum::http::Response<B>, origin: Option<HeaderValue>) {
        if self.0.is_empty() {
            return;
        }
        // A cache must not hand the answer for one origin to another.
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}
