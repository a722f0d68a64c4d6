//! Connections, and what happens around every request: its id, its time, its place among the others, the body of its error.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service;

use super::Shared;
use super::error::{ApiError, ErrorBody};
use super::local;
use super::patient::Patient;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Time for a client to send a request's head, and then to send its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What is answered however busy the host is: whoever watches over it must not take a busy host for a dead one.
const ALWAYS_ANSWERED: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Bytes in a request's head, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Accepts until `shutdown` completes, then lets every connection finish the request it is in.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    request_timeout_ms: u64,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(connections_max));
    let patience = Duration::from_millis(request_timeout_ms);
    let (stop, stopped) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            // Answers are written whole, so waiting for more to send would only delay them.
            let _ = stream.set_nodelay(true);
            connection(Patient::new(stream, patience), router, stopped).await;
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

async fn connection(stream: Patient, router: Router, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            if let Err(never) = poll_fn(|context| Service::<Request>::poll_ready(&mut router, context)).await {
                match never {}
            }
            Ok::<Response, Infallible>(router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
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

/// What happens around every request; `paths` are the templates of the routes.
pub(super) fn layers(routes: Router<Arc<Shared>>, paths: Vec<&'static str>, shared: Arc<Shared>) -> Router<Arc<Shared>> {
    let around = Arc::new(Around {
        places: Semaphore::new(shared.state.limits.concurrency_max),
        timeout: Duration::from_millis(shared.state.limits.request_timeout_ms),
        next_id: AtomicU64::new(1),
        paths,
        shared,
    });
    routes.layer(from_fn_with_state(around, around_request))
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
}

async fn around_request(State(around): State<Arc<Around>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = around.template(&request);
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_request_id(id)).map(str::to_owned);
    let local = if around.shared.state.limits.allow_remote { Ok(()) } else { local::check(request.method(), request.headers()) };
    let response = match around.places.try_acquire() {
        _ if local.is_err() => local.into_response(),
        Err(_) if !ALWAYS_ANSWERED.contains(&route) => {
            let message = "the host answers as many requests as it may at the same time; try again";
            ApiError::busy(message).into_response()
        }
        _place => match tokio::time::timeout(around.timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => ApiError::unavailable("the request took longer than this host allows").into_response(),
        },
    };
    let response = finish(response, given, &around.next_id);
    around.shared.state.telemetry.request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
    response
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

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
