//! An answer in the parts that it is made of, as connections take it: what is kept for many answers is sent from where it is.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use hyper::body::{Buf, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::room::held;
use super::told::{Generations, Place, Told};

/// What is shorter than this is copied: to hand it to the connection by itself would cost more.
const COPIED_BYTES_MAX: usize = 512;

/// A response on its way to its connection.
pub(super) type Sending = Response<Sent>;

/// The body of an answer.
pub(super) enum Sent {
    /// In one piece, or as it comes.
    Whole(Body),
    /// In parts, until they are taken.
    Parts(Option<Parts>),
}

/// The bytes of an answer, in order.
pub(super) struct Parts {
    /// Where results are that others share.
    tables: Vec<Arc<Generations>>,
    /// None is empty.
    parts: Vec<Part>,
    /// What of it has gone: so many parts, and so many bytes of the next one.
    gone: (usize, usize),
    remaining: usize,
    /// Given back when all of it has gone.
    room: Option<OwnedSemaphorePermit>,
}

enum Part {
    Own(Vec<u8>),
    /// What is told of an entity, with the comma behind it: in which table, and where.
    Told(usize, Place),
}

impl Parts {
    /// For about so many parts, some of them out of these tables.
    pub(super) fn new(tables: Vec<Arc<Generations>>, parts: usize) -> Parts {
        Parts { tables, parts: Vec::with_capacity(parts), gone: (0, 0), remaining: 0, room: None }
    }

    fn bytes<'p>(&'p self, part: &'p Part) -> &'p [u8] {
        match part {
            Part::Own(bytes) => bytes,
            Part::Told(table, place) => self.told(*table, *place).map_or(&[], Told::text),
        }
    }

    fn told(&self, table: usize, place: Place) -> Option<&Told> {
        self.tables.get(table)?.get(place)
    }

    /// Bytes that are still to go.
    pub(super) fn len(&self) -> usize {
        self.remaining
    }

    /// Appends a copy.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.remaining += bytes.len();
        match self.parts.last_mut() {
            Some(Part::Own(own)) => own.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => {
                let mut own = Vec::with_capacity(bytes.len().max(2 * COPIED_BYTES_MAX));
                own.extend_from_slice(bytes);
                self.parts.push(Part::Own(own));
            }
        }
    }

    /// Appends what is told of an entity, and a comma unless it is the last; that which it was.
    pub(super) fn push_told(&mut self, table: usize, place: Place, is_last: bool) -> Option<&Told> {
        let bytes = self.told(table, place)?.text().len();
        if bytes > COPIED_BYTES_MAX && !is_last {
            self.remaining += bytes;
            self.parts.push(Part::Told(table, place));
        } else {
            // Nobody takes the comma off what others share.
            let tables = std::mem::take(&mut self.tables);
            let text = tables.get(table).and_then(|table| table.get(place)).map_or(&[][..], Told::text);
            self.push(text.get(..bytes - usize::from(is_last)).unwrap_or_default());
            self.tables = tables;
        }
        self.told(table, place)
    }

    /// Keeps this room until all has gone, and tables only if something in them is sent.
    pub(super) fn keep(mut self, room: Option<OwnedSemaphorePermit>) -> Sent {
        if !self.parts.iter().any(|part| matches!(part, Part::Told(..))) {
            self.tables.clear();
        }
        self.room = room;
        Sent::Parts(Some(self).filter(|parts| parts.remaining > 0))
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        let (at, offset) = self.gone;
        self.parts.get(at).and_then(|part| self.bytes(part).get(offset..)).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        let mut left = bytes.min(self.remaining);
        self.remaining -= left;
        while left > 0
            && let Some(part) = self.parts.get(self.gone.0)
        {
            let rest = self.bytes(part).len() - self.gone.1;
            if left < rest {
                self.gone.1 += left;
                return;
            }
            left -= rest;
            self.gone = (self.gone.0 + 1, 0);
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (at, offset) = self.gone;
        let offsets = std::iter::once(offset).chain(std::iter::repeat(0));
        let parts = self.parts.get(at..).unwrap_or_default().iter().zip(offsets);
        let filled = slices.iter_mut().zip(parts).map(|(slice, (part, offset))| {
            *slice = IoSlice::new(self.bytes(part).get(offset..).unwrap_or_default());
        });
        filled.count()
    }
}

impl Sent {
    /// For the layers that know of bodies in one piece only.
    pub(super) fn into_body(self) -> Body {
        match self {
            Sent::Whole(body) => body,
            Sent::Parts(None) => Body::empty(),
            Sent::Parts(Some(mut parts)) => held(parts.room.take(), parts.copy_to_bytes(parts.len())),
        }
    }
}

impl HttpBody for Sent {
    type Data = SentBytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<SentBytes>, axum::Error>>> {
        match &mut *self {
            Sent::Whole(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(SentBytes::Whole))))
            }
            Sent::Parts(parts) => Poll::Ready(parts.take().map(|parts| Ok(Frame::data(SentBytes::Parts(parts))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Sent::Whole(body) => body.is_end_stream(),
            Sent::Parts(parts) => parts.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Sent::Whole(body) => body.size_hint(),
            Sent::Parts(parts) => SizeHint::with_exact(parts.as_ref().map_or(0, |parts| parts.remaining as u64)),
        }
    }
}

/// What a connection is given of an answer, and keeps until it has gone.
pub(super) enum SentBytes {
    Whole(Bytes),
    Parts(Parts),
}

impl Buf for SentBytes {
    fn remaining(&self) -> usize {
        match self {
            SentBytes::Whole(bytes) => bytes.remaining(),
            SentBytes::Parts(parts) => parts.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            SentBytes::Whole(bytes) => bytes.chunk(),
            SentBytes::Parts(parts) => parts.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            SentBytes::Whole(bytes) => bytes.advance(count),
            SentBytes::Parts(parts) => parts.advance(count),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            SentBytes::Whole(bytes) => bytes.chunks_vectored(slices),
            SentBytes::Parts(parts) => parts.chunks_vectored(slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::sync::Semaphore;

    use super::super::told::Results;
    use super::*;

    fn parts() -> (Parts, Vec<u8>) {
        let results = Results::new(1 << 20);
        let told = |byte: u8, bytes: usize| {
            let text = [vec![byte; bytes], b",".to_vec()].concat();
            results.add(Told::of_text(1, &[byte], &text)).ok().unwrap().1
        };
        let places = [told(b'a', 700), told(b'b', 900), told(b'c', 3), told(b'd', 700)];
        let mut parts = Parts::new(vec![results.load()], 0);
        parts.push(b"head");
        for place in &places[..3] {
            parts.push_told(0, *place, false);
        }
        parts.push(b"");
        parts.push_told(0, places[3], true);
        parts.push(b"]}");
        let whole = [b"head", &*vec![b'a'; 700], b",", &*vec![b'b'; 900], b",ccc,", &*vec![b'd'; 700], b"]}"].concat();
        (parts, whole)
    }

    #[test]
    fn parts_are_the_whole_however_much_is_taken_at_once() {
        for step in [1, 3, 4, 5, 500, 701, 704, 705, 706, 5_000] {
            let (mut parts, whole) = parts();
            assert_eq!((parts.len(), parts.parts.len()), (whole.len(), 4));
            let mut taken = Vec::new();
            while parts.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = parts.chunks_vectored(&mut slices);
                let together = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
                assert!(filled > 0 && slices[..filled].iter().all(|slice| !slice.is_empty()) && together.starts_with(parts.chunk()));
                let step = step.min(together.len());
                taken.extend_from_slice(&together[..step]);
                parts.advance(step);
            }
            assert_eq!(taken, whole, "{step} at once");
        }
    }

    #[test]
    fn layers_that_know_of_no_parts_are_given_the_same() {
        let (parts, whole) = parts();
        let Sent::Parts(Some(mut parts)) = parts.keep(None) else { panic!("it has parts") };
        assert_eq!(parts.copy_to_bytes(whole.len()), whole);
        assert!(Parts::new(Vec::new(), 0).keep(None).is_end_stream());
    }
    #[test]
    fn room_is_kept_until_the_last_byte_has_gone() {
        let room = Arc::new(Semaphore::new(1));
        let (parts, whole) = parts();
        let mut sent = parts.keep(Some(Arc::clone(&room).try_acquire_owned().unwrap()));
        let frame = Pin::new(&mut sent).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = frame else { panic!("it has a frame") };
        assert!(sent.is_end_stream());
        drop(sent);
        let Ok(mut bytes) = frame.into_data() else { panic!("it has data") };
        bytes.advance(whole.len() - 1);
        assert_eq!((bytes.remaining(), room.available_permits()), (1, 0));
        drop(bytes);
        assert_eq!(room.available_permits(), 1);
    }
}
