use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::connections::Standing;

/// Bytes a second that a client takes of an answer at least, once it has used up its patience.
const BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// A connection that breaks when its client takes an answer too slowly: such a client would keep its place and the answer's memory for good, and a few of
/// them all places. It is waited for as long as a request may take, and for each byte that it takes a little longer. Who follows what goes on for good is
/// slow at nobody's expense, and has to take something within that time only.
pub(super) struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// What is left of it.
    left: Duration,
    /// Runs while the client takes nothing: since when, and until there is no patience left.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
    standing: Arc<Standing>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, patience: Duration, standing: Arc<Standing>) -> Patient {
        Patient { stream, patience, left: patience, stalled: None, standing }
    }

    fn watch(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Some((since, _)) = self.stalled.take() {
                let bytes = written.as_ref().map_or(0, |bytes| u64::try_from(*bytes).unwrap_or(u64::MAX));
                let earned = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / BYTES_PER_SECOND_MIN);
                let left = self.left.saturating_sub(since.elapsed()).saturating_add(earned);
                self.left = if self.standing.is_endless.load(Ordering::Relaxed) { self.patience } else { left.min(self.patience) };
            }
            return Poll::Ready(written);
        }
        let left = self.left;
        let (_, until) = self.stalled.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes its answer too slowly")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
