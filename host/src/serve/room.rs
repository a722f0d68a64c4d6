//! Memory that all requests share, so that many of them, each within its own bounds, are not more together than the machine has: bodies that come in, and
//! answers until they have been sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Bytes of all bodies that are in memory at the same time.
const BODIES_BYTES_MAX: usize = 512 << 20;
/// Bytes of all answers, and of the rows that they are written from.
const ANSWERS_BYTES_MAX: usize = 1 << 30;
/// Bytes in one answer, at most: the same long value may be asked for any number of times.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Bytes that an answer may have without being counted: most have less, and their number is bounded.
const SMALL_BYTES: usize = 256 << 10;
/// What room is given out in.
const UNIT_BYTES: usize = 1_024;
/// What an answer that grows takes at once.
const STEP_BYTES: usize = 1 << 20;

/// The room of a host.
pub(super) struct Rooms {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Rooms {
    pub(super) fn new() -> Rooms {
        let of = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT_BYTES));
        Rooms { bodies: of(BODIES_BYTES_MAX), answers: of(ANSWERS_BYTES_MAX) }
    }

    /// Has the room of a body that comes in grow to this many bytes.
    pub(super) fn grow_body(&self, room: &mut Room, bytes: usize) -> Result<(), ApiError> {
        room.grow(&self.bodies, "bodies of requests", bytes)
    }

    /// For an answer.
    pub(super) fn answer(&self) -> AnswerRoom<'_> {
        AnswerRoom { all: &self.answers, room: Room::default(), granted: SMALL_BYTES, read: 0 }
    }
}

/// A part of the room, given back when dropped.
#[derive(Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Grows to this many bytes, or says that the host is busy.
    fn grow(&mut self, all: &Arc<Semaphore>, what: &str, bytes: usize) -> Result<(), ApiError> {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(bytes.div_ceil(UNIT_BYTES).saturating_sub(held)).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let more = Arc::clone(all).try_acquire_many_owned(missing);
        let more = more.map_err(|_| ApiError::busy(format!("the host has as many {what} in memory as it may; try again")))?;
        match &mut self.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// The room of one answer, and of what it is written from.
pub(super) struct AnswerRoom<'r> {
    all: &'r Arc<Semaphore>,
    room: Room,
    granted: usize,
    read: usize,
}

impl AnswerRoom<'_> {
    /// So many more bytes of rows were read.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.read += bytes;
        self.written(0)
    }

    /// So many bytes are written by now.
    pub(super) fn written(&mut self, bytes: usize) -> Result<(), ApiError> {
        let all = self.read.saturating_add(bytes);
        if all <= self.granted {
            return Ok(());
        }
        if bytes.max(self.read) > ANSWER_BYTES_MAX {
            let message = format!("the answer would have more than {ANSWER_BYTES_MAX} bytes; ask for fewer entities or features at a time");
            return Err(ApiError::too_large(message));
        }
        let granted = all.next_multiple_of(STEP_BYTES);
        self.room.grow(self.all, "answers", granted)?;
        self.granted = granted;
        Ok(())
    }

    /// The body of an answer, which keeps its room until it has been sent.
    pub(super) fn body(self, answer: Vec<u8>) -> Body {
        held(self.room.0, answer.into())
    }

    /// What an answer holds of all room, if it is not small: to be kept until it has been sent.
    pub(super) fn into_permit(self) -> Option<OwnedSemaphorePermit> {
        self.room.0
    }
}

/// A body that keeps its room, if it has any, until it has been sent.
pub(super) fn held(room: Option<OwnedSemaphorePermit>, answer: Bytes) -> Body {
    match room {
        None => Body::from(answer),
        Some(room) => Body::new(Held { rest: answer, _room: room }),
    }
}

/// An answer that is handed out in pieces, each when the one before has gone, so that it is here and counted for as long as its client takes.
struct Held {
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.rest.len().min(SMALL_BYTES);
        let piece = self.rest.split_to(piece);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_together_are_bounded() {
        let rooms = Rooms::new();
        let (mut first, mut second) = (Room::default(), Room::default());
        rooms.grow_body(&mut first, 1).unwrap();
        rooms.grow_body(&mut first, BODIES_BYTES_MAX - UNIT_BYTES).unwrap();
        rooms.grow_body(&mut second, UNIT_BYTES).unwrap();
        rooms.grow_body(&mut second, UNIT_BYTES + 1).unwrap_err();
        drop(first);
        rooms.grow_body(&mut second, BODIES_BYTES_MAX).unwrap();
    }

    #[test]
    fn all_answers_together_are_bounded_and_small_ones_are_free() {
        let rooms = Rooms::new();
        let mut several: Vec<AnswerRoom<'_>> = (0..4).map(|_| rooms.answer()).collect();
        several.iter_mut().for_each(|answer| answer.written(ANSWER_BYTES_MAX).unwrap());
        several[0].written(ANSWER_BYTES_MAX + 1).unwrap_err();
        let mut more = rooms.answer();
        more.written(SMALL_BYTES).unwrap();
        more.read(1).unwrap();
        more.written(SMALL_BYTES).unwrap_err();
        let body = several.remove(0).body(vec![0; ANSWER_BYTES_MAX]);
        more.written(SMALL_BYTES).unwrap_err();
        drop(body);
        more.written(SMALL_BYTES).unwrap();
        more.read(ANSWER_BYTES_MAX).unwrap_err();
    }
}
