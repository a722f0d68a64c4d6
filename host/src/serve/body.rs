use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::error::ApiError;

/// Bytes beyond its limit that are still read of a body, and thrown away: most clients look for an answer only once they have sent everything,
/// and take a closed connection for a failure of the network.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// Bytes of all bodies that are in memory at the same time. Every request for itself may be within its limit, and all together beyond the
/// machine's memory.
const ALL_BYTES_MAX: usize = 512 << 20;
/// What room for bodies is given out in.
const ROOM_BYTES: usize = 1_024;

/// How many bytes the body of a request may have; stands among a route's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// The whole body of a request, within its limit, and its part of the room for all bodies, to be kept for as long as the body is.
pub(super) struct Whole(pub(super) Bytes, pub(super) Room);

/// A part of the room for all bodies, given back when dropped.
#[derive(Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for all bodies of a host.
    pub(super) fn all() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(ALL_BYTES_MAX / ROOM_BYTES))
    }

    /// Grows to this many bytes, or says that the host is busy.
    fn grow(&mut self, all: &Arc<Semaphore>, bytes: usize) -> Result<(), ApiError> {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(bytes.div_ceil(ROOM_BYTES).saturating_sub(held)).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let more = Arc::clone(all).try_acquire_many_owned(missing);
        let more = more.map_err(|_| ApiError::busy("the host has as many bodies of requests in memory as it may; try again"))?;
        match &mut self.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl FromRequest<Arc<Shared>> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Whole, ApiError> {
        let BodyLimit(max) = request.extensions().get().copied().unwrap_or(BodyLimit(0));
        read(request.into_body(), max, &shared.room).await
    }
}

/// Reads a body whose limit is known.
pub(super) async fn read(mut body: impl HttpBody<Data = Bytes> + Unpin, max: usize, all: &Arc<Semaphore>) -> Result<Whole, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let too_large = || ApiError::too_large("the body is larger than this host takes; send less at a time");
    if announced > max.saturating_add(DISCARDED_BYTES_MAX) {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    let (mut received, mut room) = (0_usize, Room::default());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| ApiError::malformed("the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        received = received.saturating_add(data.len());
        if received == announced && received == data.len() && received <= max {
            // It came in one piece, as nearly all do, and takes no memory but the connection's.
            return Ok(Whole(data, room));
        }
        if received <= max {
            room.grow(all, received)?;
            // What a client announces is not taken on trust.
            whole.reserve(announced.min(max).min(1 << 20).saturating_sub(whole.len()));
            whole.extend_from_slice(&data);
        } else if received > max.saturating_add(DISCARDED_BYTES_MAX) {
            return Err(too_large());
        }
    }
    if received > max { Err(too_large()) } else { Ok(Whole(whole.into(), room)) }
}

/// Reads a body that nobody wants, up to a bound.
pub(super) async fn discard(mut body: impl HttpBody<Data = Bytes> + Unpin, bytes_max: usize) {
    let mut received = 0_usize;
    while received <= bytes_max
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        received = received.saturating_add(frame.data_ref().map_or(0, Bytes::len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_together_are_bounded() {
        let all = Room::all();
        let (mut first, mut second) = (Room::default(), Room::default());
        first.grow(&all, 1).unwrap();
        first.grow(&all, ALL_BYTES_MAX - ROOM_BYTES).unwrap();
        second.grow(&all, ROOM_BYTES).unwrap();
        second.grow(&all, ROOM_BYTES + 1).unwrap_err();
        drop(first);
        second.grow(&all, ALL_BYTES_MAX).unwrap();
    }
}
