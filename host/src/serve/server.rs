//! Connections: accepted, encrypted where the host has a certificate, timed, and handed to the edge request by request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Limits;
use super::connections::{Connections, Standing};
use super::edge::Edge;
use super::parts::Sending;
use super::patient::Patient;
use super::tls::Tls;

/// Time for a client to agree on keys, and then to send the head of its first request; no more than a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until the head of the next one has come.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes in a request's head, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Accepts until `shutdown` completes, then lets every connection finish the request it is in.
pub(super) async fn run(
    listener: TcpListener,
    edge: Edge,
    tls: Option<Tls>,
    stop: watch::Sender<bool>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let Limits { connections_max, peer_connections_max, request_timeout_ms, .. } = *edge.limits();
    let connections = Arc::new(Connections::new(connections_max, peer_connections_max));
    let patience = Duration::from_millis(request_timeout_ms);
    let head_timeout = HEAD_TIMEOUT.min(patience);
    let following = tls.clone().map(|tls| tokio::spawn(tls.follow()));
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let (stream, peer) = accept(&listener).await;
            (stream, peer, connections.place(peer).await)
        };
        let (stream, peer, place) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let Some(place) = place else { continue };
        let (edge, tls, stopped) = (edge.clone(), tls.clone(), stop.subscribe());
        tokio::spawn(async move {
            // Answers are written whole, so waiting for more to send would only delay them.
            let _ = stream.set_nodelay(true);
            let standing = &place.standing;
            let stream = Patient::new(stream, patience, Arc::clone(standing));
            let Some(tls) = tls else { return connection(stream, edge, peer, standing, head_timeout, stopped).await };
            let agreed = tokio::select! {
                agreed = tokio::time::timeout(head_timeout, tls.acceptor().accept(stream)) => agreed,
                () = standing.dismissed() => return tracing::debug!("a connection gave way before its client had agreed on TLS"),
            };
            match agreed {
                Ok(Ok(stream)) => connection(stream, edge, peer, standing, head_timeout, stopped).await,
                Ok(Err(error)) => tracing::debug!("a client and this host did not agree on TLS: {error}"),
                Err(_) => tracing::debug!("a client took too long to agree on TLS"),
            }
        });
    }
    stop.send_replace(true);
    if let Some(following) = following {
        following.abort();
    }
    // Every connection gives its place back when it ends.
    let _ = tokio::time::timeout(patience, connections.ended()).await;
    Ok(())
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip()),
            Err(error) => {
                // Out of file descriptors, as a rule: those in use will be given back.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    edge: Edge,
    peer: IpAddr,
    standing: &Arc<Standing>,
    head_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let of_requests = Arc::clone(standing);
    let service = hyper::service::service_fn(move |request| {
        let (edge, standing) = (edge.clone(), Arc::clone(&of_requests));
        standing.asked();
        async move {
            let response = edge.answer(request, peer).await;
            standing.answered(is_endless(&response));
            Ok::<Sending, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silence(standing, head_timeout) => return tracing::debug!("a client sent no request"),
        () = standing.dismissed() => {
            if !standing.has_asked() {
                return tracing::debug!("a connection gave way before its client had asked for anything");
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = async { drop(stopped.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// Completes when the client has taken too long to ask for anything; hyper's own timer runs between requests as well.
async fn silence(standing: &Standing, head_timeout: Duration) {
    tokio::time::sleep(head_timeout).await;
    if standing.has_asked() {
        std::future::pending().await
    }
}

/// Whether an answer goes on for as long as there is something to tell.
fn is_endless(response: &Sending) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}
