//! Connections: accepted, encrypted where the host has a certificate, timed, and handed to the edge request by request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Limits;
use super::edge::Edge;
use super::patient::Patient;
use super::tls::Tls;

/// Time for a client to send a request's head, and then to send its next one; and to agree on keys before that.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
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
    let Limits { connections_max, request_timeout_ms, .. } = *edge.limits();
    let places = Arc::new(Semaphore::new(connections_max));
    let patience = Duration::from_millis(request_timeout_ms);
    let following = tls.clone().map(|tls| tokio::spawn(tls.follow()));
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (edge, tls, stopped) = (edge.clone(), tls.clone(), stop.subscribe());
        tokio::spawn(async move {
            // Answers are written whole, so waiting for more to send would only delay them.
            let _ = stream.set_nodelay(true);
            let stream = Patient::new(stream, patience);
            match tls {
                None => connection(stream, edge, peer, stopped).await,
                Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT.min(patience), tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, edge, peer, stopped).await,
                    Ok(Err(error)) => tracing::debug!("a client and this host did not agree on TLS: {error}"),
                    Err(_) => tracing::debug!("a client took too long to agree on TLS"),
                },
            }
            drop(place);
        });
    }
    stop.send_replace(true);
    if let Some(following) = following {
        following.abort();
    }
    // Every connection gives its place back when it ends.
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(patience, places.acquire_many(all)).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip(), place),
            Err(error) => {
                // Out of file descriptors, as a rule: those in use will be given back.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, edge: Edge, peer: IpAddr, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let edge = edge.clone();
        async move { Ok::<Response, Infallible>(edge.answer(request, peer).await) }
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
