use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shared;
use super::error::ApiError;
use super::room::{Room, Rooms};

/// Bytes beyond its limit that are still read of a body, and thrown away: most clients look for an answer only once they have sent everything,
/// and take a closed connection for a failure of the network.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// How many bytes the body of a request may have; stands among a route's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// The whole body of a request, within its limit, and its part of the room for all bodies, to be kept for as long as the body is.
pub(super) struct Whole(pub(super) Bytes, pub(super) Room);

impl FromRequest<Arc<Shared>> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Whole, ApiError> {
        let BodyLimit(max) = request.extensions().get().copied().unwrap_or(BodyLimit(0));
        let coding = Coding::of(request.headers());
        read(request.into_body(), coding, max, &shared.rooms).await
    }
}

/// How a body is packed, if it is.
pub(super) struct Coding(Option<String>);

impl Coding {
    /// As the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Coding {
        let codings = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("something else"));
        let mut codings = codings.flat_map(|value| value.split(',')).map(str::trim);
        Coding(
            codings
                .find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
                .map(|coding| coding.chars().take(40).collect()),
        )
    }
}

/// Reads a body whose limit is known.
pub(super) async fn read(
    mut body: impl HttpBody<Data = Bytes> + Unpin,
    coding: Coding,
    max: usize,
    rooms: &Rooms,
) -> Result<Whole, ApiError> {
    if let Coding(Some(coding)) = coding {
        discard(body, max.saturating_add(DISCARDED_BYTES_MAX)).await;
        let message = format!("`content-encoding` is {coding:?}, and this host unpacks no bodies; send it as it is, without that header");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
    }
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
            rooms.grow_body(&mut room, received)?;
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

/// What a body says that is one JSON object. Serde would take a list of its members as well.
pub(super) fn object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        let list: Result<&RawValue, _> = serde_json::from_slice(body);
        return Err(list.map_or_else(|error| body_error(&error), |_| ApiError::unusable("the body is a list; it is to be an object")));
    }
    serde_json::from_slice(body).map_err(|error| body_error(&error))
}

/// Text that is no JSON is malformed; JSON of the wrong shape is unusable.
pub(super) fn body_error(error: &serde_json::Error) -> ApiError {
    match error.classify() {
        serde_json::error::Category::Data => {
            ApiError::unusable(format!("the body is not as it should be: {}", plain_words(&error.to_string())))
        }
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            ApiError::malformed(format!("the body is not JSON: {error}"))
        }
    }
}

/// What serde says about values, without the names of types in Rust.
pub(super) fn plain_words(message: &str) -> String {
    const WORDS: [(&str, &str); 10] = [
        ("expected u64", "expected a whole number from 0"),
        ("expected u32", "expected a whole number from 0"),
        ("expected usize", "expected a whole number from 0"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: unit value", "invalid type: null"),
    ];
    let plain = WORDS.iter().fold(message.to_owned(), |message, (word, plain)| message.replace(word, plain));
    let Some((before, after)) = plain.split_once("expected struct ") else { return plain };
    let after = after.trim_start_matches(|next: char| next.is_ascii_alphanumeric() || next == '_');
    format!("{before}expected an object{after}")
}
