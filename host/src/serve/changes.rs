//! Changes as server-sent events, for as long as a reader stays.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::access::{Caller, Turn};
use super::catalog::Catalog;
use super::error::ApiError;
use super::join_keys::push_entity;
use super::look::{At, Looking};
use super::plan::{Plan, PlannedView, view_of};
use crate::changes::{Change, ChangeId, Missed, Reader};
use crate::model::json::{push_text, push_value};
use crate::model::{FeatureRow, Timestamp, ViewName};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Views of one reader, at most.
const VIEWS_MAX: usize = 64;
/// A comment goes out when nothing else has for this long, so that whoever is between does not take the connection for dead.
const QUIET: Duration = Duration::from_secs(15);
/// Tells a browser to come back after a second.
const GREETING: &[u8] = b"retry: 1000\n";
/// What a browser takes no notice of.
const NOTHING_NEW: &[u8] = b": nothing new\n";

/// What may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    view: String,
    /// Whether each event says what its values are.
    #[serde(default)]
    kinds: bool,
}

pub(super) async fn follow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    turn: Option<Extension<Arc<Turn>>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(Wanted { view, kinds }) = wanted?;
    let views: BTreeSet<String> = view.split(',').map(str::to_owned).collect();
    if views.len() > VIEWS_MAX {
        return Err(ApiError::unusable(format!("{} views are asked for; {VIEWS_MAX} are allowed", views.len())));
    }
    let catalog = shared.state.catalog.load_full();
    views.iter().try_for_each(|view| view_of(&catalog, &caller, view).map(drop))?;
    let asked = Asked::new(views, kinds, &catalog);
    let after = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default().parse::<ChangeId>());
    let after = after.transpose().map_err(|message| ApiError::unusable(format!("`last-event-id` is {message}")))?;
    let reader = shared.state.changes.reader(asked.stored.clone(), after).map_err(|error| ApiError::busy(error.to_string()))?;
    // One piece waits while the one before is sent: a reader that is slow stays behind in the ring, not in memory of its own.
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(async move {
        tell(shared, caller, asked, reader, pieces).await;
        // Who follows has a request in hand all the while.
        drop(turn);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Pieces(body))).into_response())
}

/// A body that comes in pieces.
struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// The views of a reader, as it named them and as they are stored.
struct Asked {
    named: BTreeSet<String>,
    stored: BTreeSet<String>,
    /// Whether each event says what its values are.
    kinds: bool,
}

impl Asked {
    fn new(named: BTreeSet<String>, kinds: bool, catalog: &Catalog) -> Asked {
        let stored = named.iter().map(|name| catalog.stored_name(name).into_owned()).collect();
        Asked { named, stored, kinds }
    }

    /// Whether the names mean other versions by now.
    fn have_moved(&self, catalog: &Catalog) -> bool {
        self.named.iter().any(|name| !self.stored.contains(&*catalog.stored_name(name)))
    }
}

/// Sends events until the reader goes, its token ends, or the host stops; and until a name that it gave means another version of the view: it comes back,
/// with the id of the last change that it has seen, and goes on with that. With the greeting, and whenever
/// nothing was told for a while, goes the place alone, so that a reader goes on from there, and not from what it was told last, which may be kept no longer.
async fn tell(shared: Arc<Shared>, caller: Caller, asked: Asked, mut reader: Reader, pieces: mpsc::Sender<Bytes>) {
    let mut stopped = shared.stopped.clone();
    let (mut piece, mut told_at) = (GREETING.to_vec(), Instant::now());
    loop {
        let taken = reader.take();
        if !piece.is_empty() {
            piece.extend_from_slice(format!("id: {}\n\n", taken.after).as_bytes());
        }
        match taken.missed {
            None => {}
            Some(Missed::Slow(count)) => push_missed(&mut piece, taken.after, Some(count), "slow"),
            Some(Missed::NotKept) => push_missed(&mut piece, taken.after, None, "not_kept"),
        }
        for (id, change) in &taken.changes {
            match push_change(&mut piece, &shared, &caller, *id, change, asked.kinds).await {
                Ok(()) => {}
                // A view that ended a moment ago has no readers any more, whatever it told last.
                Err(error) if error.is_not_found() => {}
                Err(_) => push_missed(&mut piece, *id, Some(1), "failed"),
            }
        }
        if caller.has_expired(Timestamp::now()) || asked.have_moved(&shared.state.catalog.load()) {
            return;
        }
        if piece.is_empty() {
            tokio::select! {
                () = reader.news() => {}
                // News of other views is none here, and must not put this off.
                () = tokio::time::sleep_until(told_at + QUIET) => piece.extend_from_slice(NOTHING_NEW),
                () = pieces.closed() => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        } else {
            told_at = Instant::now();
            let sent = tokio::select! {
                sent = pieces.send(std::mem::take(&mut piece).into()) => sent,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

fn push_missed(out: &mut Vec<u8>, id: ChangeId, count: Option<u64>, reason: &str) {
    let count = count.map_or("null".to_owned(), |count| count.to_string());
    out.extend_from_slice(format!("id: {id}\nevent: missed\ndata: {{\"count\":{count},\"reason\":\"{reason}\"}}\n\n").as_bytes());
}

/// One event: the row that the commit brought, as a read would answer with it now. A row that a read would leave out is left out here too.
async fn push_change(
    out: &mut Vec<u8>,
    shared: &Shared,
    caller: &Caller,
    id: ChangeId,
    change: &Change,
    kinds: bool,
) -> Result<(), ApiError> {
    let (catalog, telemetry) = (shared.state.catalog.load_full(), &*shared.state.telemetry);
    let view: &str = &change.view;
    let exact = ViewName::exact(view);
    let plan = shared.view_plans.get(&catalog, &exact, |catalog| Plan::of_view(catalog, telemetry, caller, &exact))?;
    let Some(planned) = plan.views.first() else { return Ok(()) };
    let row = FeatureRow::new(change.value.clone()).map_err(|error| ApiError::internal(&error.to_string()))?;
    let (header, schema, at) = (row.header, shared.schema(row.header.schema).await?, At::Now(Timestamp::now()));
    let looked = if row.is_entity() {
        planned.entity(&row, &schema, at)?.0
    } else {
        planned.row(row, plan.mapping(header.schema, &schema.schema), at)
    };
    let Looking::Found(row, ..) = &looked.row else { return Ok(()) };
    let version = row.header.version;
    let start = out.len();
    out.extend_from_slice(format!("id: {id}\nevent: change\ndata: {{\"view\":").as_bytes());
    push_text(out, view);
    out.extend_from_slice(b",\"entity\":");
    push_entity(out, &planned.view, &change.key);
    out.extend_from_slice(b",\"features\":{");
    let mut separator = "";
    for (part, is_windowed) in [(&looked.row, false), (&looked.windows, true)] {
        let Looking::Found(row, mapping, _) = part else { continue };
        let values = row.values(mapping.kinds.iter().copied()).take(mapping.needed).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(|error| {
            out.truncate(start);
            ApiError::internal(&error.to_string())
        })?;
        let fields = if is_windowed { &planned.view.windows } else { &planned.view.features };
        let offset = if is_windowed { planned.view.features.len() } else { 0 };
        for (field, position) in fields.iter().zip(mapping.positions.iter().skip(offset)) {
            out.extend_from_slice(separator.as_bytes());
            push_text(out, &field.name);
            out.push(b':');
            push_value(out, position.and_then(|position| *values.get(position)?));
            separator = ",";
        }
    }
    out.push(b'}');
    if kinds {
        push_kinds(out, planned);
    }
    out.extend_from_slice(format!(",\"event_time\":\"{}\",\"entry_id\":\"{}\"}}\n\n", version.event_time, version.entry_id).as_bytes());
    Ok(())
}

fn push_kinds(out: &mut Vec<u8>, planned: &PlannedView) {
    out.extend_from_slice(b",\"kinds\":{");
    for (index, field) in planned.view.features.iter().chain(&planned.view.windows).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_text(out, &field.name);
        out.push(b':');
        push_text(out, &planned.kind_of(field));
    }
    out.push(b'}');
}
