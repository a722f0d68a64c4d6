//! What happens around every request: who asks and whether they may, its id, its time, its place among the others, the body of its error.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tower::Service;
use tower::layer::layer_fn;

use super::access::{Caller, Needs, Turn};
use super::body::Coding;
use super::error::{ApiError, ErrorBody};
use super::parts::{Sending, Sent};
use super::routes::{Operation, QUERY};
use super::{Limits, Shared, audit, body, features, local};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is answered however busy the host is: whoever watches over it must not take a busy host for a dead one.
const ALWAYS_ANSWERED: [&str; 4] = ["/livez", "/readyz", "/metrics", "/health"];

/// What a connection hands its requests to.
#[derive(Clone)]
pub(super) struct Edge {
    router: Router,
    around: Arc<Around>,
}

impl Edge {
    /// `operations` are what the routes answer.
    pub(super) fn new(routes: Router<Arc<Shared>>, operations: Vec<Operation>, shared: Arc<Shared>) -> Edge {
        let limits = &shared.state.limits;
        let around = Arc::new(Around {
            places: Semaphore::new(limits.concurrency_max),
            timeout: Duration::from_millis(limits.request_timeout_ms),
            put_timeout: Duration::from_millis(limits.put_timeout_ms),
            next_id: AtomicU64::new(1),
            operations,
            shared: Arc::clone(&shared),
        });
        let of_routes = Arc::clone(&around);
        let layer = layer_fn(move |inner| Layered { inner, around: Arc::clone(&of_routes) });
        Edge { router: routes.layer(layer).with_state(shared), around }
    }

    /// The bounds that it works within.
    pub(super) fn limits(&self) -> &Limits {
        &self.around.shared.state.limits
    }

    pub(super) async fn answer(self, request: hyper::Request<Incoming>, peer: IpAddr) -> Sending {
        let around = Arc::clone(&self.around);
        let cors = &around.shared.cors;
        if let Some(preflight) = cors.preflight(request.method(), request.headers()) {
            return preflight.map(Sent::Whole);
        }
        let invited = cors.allowed(request.headers());
        let mut response = self.answer_to(request, peer, invited.is_some()).await;
        cors.mark(&mut response, invited);
        response
    }

    async fn answer_to(mut self, mut request: hyper::Request<Incoming>, peer: IpAddr, is_invited: bool) -> Sending {
        let shared = &self.around.shared;
        let caller = shared.access.caller(request.headers(), Some(peer));
        let local = if shared.is_local { local::check(request.method(), request.uri(), request.headers(), is_invited) } else { Ok(()) };
        if request.method() == Method::POST && request.uri().path() == features::QUERY_PATH {
            // Nearly all requests are queries, and their way through the router would take longer than many an answer.
            let asked = Asked { operation: QUERY, path: String::new(), given: given_id(request.headers()), caller: caller.clone() };
            let (wants_arrow, coding) = (features::wants_arrow(request.headers()), Coding::of(request.headers()));
            return match local.and_then(|()| self.around.admit(&asked)) {
                Ok(turn) => {
                    // On the heap, because it is large and would be moved from one future into the next.
                    let answer = Box::pin(features::query(shared, &caller, wants_arrow, coding, request.into_body()));
                    let answer = async { answer.await.unwrap_or_else(|refused| refused.into_response().map(Sent::Whole)) };
                    self.around.answer(asked, turn.map(Arc::new), answer).await
                }
                // What happens seldom has no place in the future of every query, which is moved about.
                Err(refused) => Box::pin(self.around.refuse(asked, refused, request.into_body())).await,
            };
        }
        request.extensions_mut().insert(caller);
        if let Err(refused) = local {
            // It is refused only once it is known what it asks for, because attempts to change the host are written down.
            request.extensions_mut().insert(Foreign(refused));
        }
        if let Err(never) = poll_fn(|context| Service::<Request>::poll_ready(&mut self.router, context)).await {
            match never {}
        }
        Box::pin(self.router.call(request.map(Body::new))).await.unwrap_or_else(|never| match never {}).map(Sent::Whole)
    }
}

/// Why a request is none of this machine's own.
#[derive(Clone)]
struct Foreign(ApiError);

/// A request as it is answered around its handler.
struct Asked {
    operation: Operation,
    /// What the operation's path names; empty where its template has no parameter.
    path: String,
    given: Option<String>,
    caller: Caller,
}

impl Asked {
    /// One that no operation answers.
    fn unrouted(headers: &HeaderMap, caller: Caller) -> Asked {
        let operation = Operation { method: "", path: "none", needs: Needs::Nothing };
        Asked { operation, path: String::new(), given: given_id(headers), caller }
    }
}

/// A route with what happens around it.
#[derive(Clone)]
struct Layered<S> {
    inner: S,
    around: Arc<Around>,
}

impl<S> Service<Request> for Layered<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(caller) = request.extensions().get::<Caller>().cloned() else {
            return Box::pin(async { Ok(ApiError::internal("a request went past the check of who asks").into_response()) });
        };
        let mut asked = Asked::unrouted(request.headers(), caller);
        if let Some(operation) = self.around.operation(&request) {
            asked.operation = operation;
            asked.path = request.uri().path().to_owned();
        }
        let around = Arc::clone(&self.around);
        let local = request.extensions_mut().remove::<Foreign>().map_or(Ok(()), |Foreign(refused)| Err(refused));
        match local.and_then(|()| around.admit(&asked)) {
            Ok(turn) => {
                let turn = turn.map(Arc::new);
                if let Some(turn) = &turn {
                    // For an answer that outlasts its handler.
                    request.extensions_mut().insert(Arc::clone(turn));
                }
                let answer = self.inner.call(request);
                let answer = async { answer.await.unwrap_or_else(|never| match never {}).map(Sent::Whole) };
                Box::pin(async move { Ok(around.answer(asked, turn, answer).await.map(Sent::into_body)) })
            }
            Err(refused) => Box::pin(async move { Ok(around.refuse(asked, refused, request.into_body()).await.map(Sent::into_body)) }),
        }
    }
}

struct Around {
    shared: Arc<Shared>,
    places: Semaphore,
    timeout: Duration,
    /// For what compiles a component.
    put_timeout: Duration,
    next_id: AtomicU64,
    operations: Vec<Operation>,
}

impl Around {
    /// What the request asks for: one of the table's operations, and for the metrics never what a client sent.
    fn operation(&self, request: &Request) -> Option<Operation> {
        let matched = request.extensions().get::<MatchedPath>()?;
        let method = match request.method() {
            &Method::HEAD => "GET",
            method => method.as_str(),
        };
        let of_path = || self.operations.iter().filter(|operation| operation.path == matched.as_str());
        let exact = of_path().find(|operation| operation.method == method);
        // A method that the path does not take is counted under the path, and needs nothing to be told so.
        exact.copied().or_else(|| of_path().next().map(|operation| Operation { method: "", path: operation.path, needs: Needs::Nothing }))
    }

    /// Whether the request may be answered at all: by how often its client asks, and by what it may.
    fn admit(&self, asked: &Asked) -> Result<Option<Turn>, ApiError> {
        let Asked { operation: Operation { path: route, needs, .. }, caller, path, .. } = asked;
        let access = &self.shared.access;
        let turn = if ALWAYS_ANSWERED.contains(route) { None } else { access.turn(caller)? };
        access.admit(caller, *needs, route, path)?;
        Ok(turn)
    }

    /// Says no. What is still being sent is thrown away, because most clients look for an answer only once they have sent everything.
    async fn refuse(&self, asked: Asked, refused: ApiError, body: impl HttpBody<Data = Bytes> + Unpin) -> Sending {
        let started = Instant::now();
        let _ = tokio::time::timeout(self.timeout, body::discard(body, self.shared.state.limits.component_bytes_max)).await;
        self.finished(asked, refused.into_response().map(Sent::Whole), started)
    }

    async fn answer(&self, asked: Asked, turn: Option<Arc<Turn>>, answer: impl Future<Output = Sending>) -> Sending {
        let started = Instant::now();
        let timeout = if asked.operation.compiles() { self.put_timeout } else { self.timeout };
        let response = match self.places.try_acquire() {
            Err(_) if !ALWAYS_ANSWERED.contains(&asked.operation.path) => {
                let message = "the host answers as many requests as it may at the same time; try again";
                ApiError::busy(message).into_response().map(Sent::Whole)
            }
            _place => match tokio::time::timeout(timeout, answer).await {
                Ok(response) => response,
                Err(_) => ApiError::unavailable("the request took longer than this host allows").into_response().map(Sent::Whole),
            },
        };
        drop(turn);
        self.finished(asked, response, started)
    }

    fn finished(&self, asked: Asked, response: Sending, started: Instant) -> Sending {
        let Asked { operation, path, given, caller } = asked;
        let is_audited = audit::is_due(operation);
        let (response, id) = finish(response, given, is_audited, &self.next_id);
        if is_audited {
            audit::record(&caller, operation, &path, response.status(), id.as_deref().unwrap_or_default());
        }
        self.shared.state.telemetry.request(operation.path, response.status().as_u16(), started.elapsed().as_secs_f64());
        response
    }
}

/// Puts the request's id into the answer, and into the body if that is an error. One that needs none is not given one, unless it is named elsewhere.
fn finish(mut response: Sending, given: Option<String>, is_named: bool, next_id: &AtomicU64) -> (Sending, Option<String>) {
    let error = response.extensions_mut().remove::<ErrorBody>();
    if error.is_none() && given.is_none() && !is_named {
        return (response, None);
    }
    let id = given.unwrap_or_else(|| format!("{:08x}", next_id.fetch_add(1, Ordering::Relaxed)));
    if let Some(error) = error {
        tracing::debug!(request_id = %id, status = response.status().as_u16(), "answered with an error");
        *response.body_mut() = Sent::Whole(Body::from(error.to_json(&id)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    (response, Some(id))
}

fn given_id(headers: &HeaderMap) -> Option<String> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_request_id(id)).map(str::to_owned)
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
