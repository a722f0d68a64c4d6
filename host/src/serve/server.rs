//! Connections, and what happens around every request: its id, its time, its place among the others, the body of its error.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service;
use tower::layer::layer_fn;

use super::error::{ApiError, ErrorBody};
use super::patient::Patient;
use super::{Limits, Shared, features, local};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Time for a client to send a request's head, and then to send its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What is answered however busy the host is: whoever watches over it must not take a busy host for a dead one.
const ALWAYS_ANSWERED: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Bytes in a request's head, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Accepts until `shutdown` completes, then lets every connection finish the request it is in.
pub(super) async fn run(listener: TcpListener, edge: Edge, shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
    let Limits { connections_max, request_timeout_ms, .. } = edge.around.shared.state.limits;
    let places = Arc::new(Semaphore::new(connections_max));
    let patience = Duration::from_millis(request_timeout_ms);
    let (stop, stopped) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (edge, stopped) = (edge.clone(), stopped.clone());
        tokio::spawn(async move {
            // Answers are written whole, so waiting for more to send would only delay them.
            let _ = stream.set_nodelay(true);
            connection(Patient::new(stream, patience), edge, stopped).await;
            drop(place);
        });
    }
    stop.send_replace(true);
    // Every connection gives its place back when it ends.
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(patience, places.acquire_many(all)).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                // Out of file descriptors, as a rule: those in use will be given back.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: Patient, edge: Edge, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let edge = edge.clone();
        async move { Ok::<Response, Infallible>(edge.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopped.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// What a connection hands its requests to.
#[derive(Clone)]
pub(super) struct Edge {
    router: Router,
    around: Arc<Around>,
}

impl Edge {
    /// `paths` are the templates of the routes.
    pub(super) fn new(routes: Router<Arc<Shared>>, paths: Vec<&'static str>, shared: Arc<Shared>) -> Edge {
        let limits = &shared.state.limits;
        let around = Arc::new(Around {
            places: Semaphore::new(limits.concurrency_max),
            timeout: Duration::from_millis(limits.request_timeout_ms),
            next_id: AtomicU64::new(1),
            paths,
            shared: Arc::clone(&shared),
        });
        let of_routes = Arc::clone(&around);
        let layer = layer_fn(move |inner| Layered { inner, around: Arc::clone(&of_routes) });
        Edge { router: routes.layer(layer).with_state(shared), around }
    }

    async fn answer(mut self, request: hyper::Request<Incoming>) -> Response {
        if !self.around.shared.state.limits.allow_remote
            && let Err(refused) = local::check(request.method(), request.headers())
        {
            return self.around.answer("none", given_id(request.headers()), async { refused }).await;
        }
        if request.method() == Method::POST && request.uri().path() == features::QUERY_PATH {
            // Nearly all requests are queries, and their way through the router would take longer than many an answer.
            let given = given_id(request.headers());
            let wants_arrow = features::wants_arrow(request.headers());
            let answer = features::query(&self.around.shared, wants_arrow, request.into_body());
            return self.around.answer(features::QUERY_PATH, given, answer).await;
        }
        if let Err(never) = poll_fn(|context| Service::<Request>::poll_ready(&mut self.router, context)).await {
            match never {}
        }
        self.router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {})
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

    fn call(&mut self, request: Request) -> Self::Future {
        let route = self.around.template(&request);
        let given = given_id(request.headers());
        let (around, answer) = (Arc::clone(&self.around), self.inner.call(request));
        Box::pin(async move { Ok(around.answer(route, given, async { answer.await.unwrap_or_else(|never| match never {}) }).await) })
    }
}

struct Around {
    shared: Arc<Shared>,
    places: Semaphore,
    timeout: Duration,
    next_id: AtomicU64,
    /// The routes' templates.
    paths: Vec<&'static str>,
}

impl Around {
    /// The template that a metric's label is: one of the table's, and never what a client sent.
    fn template(&self, request: &Request) -> &'static str {
        let matched = request.extensions().get::<MatchedPath>();
        matched.and_then(|matched| self.paths.iter().find(|path| **path == matched.as_str())).copied().unwrap_or("none")
    }

    async fn answer(&self, route: &'static str, given: Option<String>, answer: impl Future<Output = impl IntoResponse>) -> Response {
        let started = Instant::now();
        let response = match self.places.try_acquire() {
            Err(_) if !ALWAYS_ANSWERED.contains(&route) => {
                let message = "the host answers as many requests as it may at the same time; try again";
                ApiError::busy(message).into_response()
            }
            _place => match tokio::time::timeout(self.timeout, answer).await {
                Ok(response) => response.into_response(),
                Err(_) => ApiError::unavailable("the request took longer than this host allows").into_response(),
            },
        };
        let response = finish(response, given, &self.next_id);
        self.shared.state.telemetry.request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
        response
    }
}

/// Puts the request's id into the answer, and into the body if that is an error.
fn finish(mut response: Response, given: Option<String>, next_id: &AtomicU64) -> Response {
    let error = response.extensions_mut().remove::<ErrorBody>();
    if error.is_none() && given.is_none() {
        return response;
    }
    let id = given.unwrap_or_else(|| format!("{:08x}", next_id.fetch_add(1, Ordering::Relaxed)));
    if let Some(error) = error {
        tracing::debug!(request_id = %id, status = response.status().as_u16(), "answered with an error");
        *response.body_mut() = Body::from(error.to_json(&id));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn given_id(headers: &HeaderMap) -> Option<String> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_request_id(id)).map(str::to_owned)
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
