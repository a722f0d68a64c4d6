//! The HTTP edge and the query path: `parse → plan (cached, immutable) → one store read → compute what is asked of requests → write the response`.
//!
//! Administration is not done here: a request that changes the host becomes a [`Command`] to the floor above.

mod access;
mod arrow;
mod audit;
mod body;
mod brought;
mod catalog;
mod cells;
mod changes;
mod columns;
mod command;
mod compute;
mod computed;
mod connections;
mod cors;
mod edge;
mod error;
mod events;
mod feast;
mod features;
mod join_keys;
mod letters;
mod local;
mod look;
mod parts;
mod patient;
mod pieces;
mod plan;
mod plans;
mod reading;
mod respond;
mod room;
mod routes;
mod server;
mod services;
mod shadow;
mod states;
mod status;
mod streams;
mod tls;
mod told;
mod transforms;
mod versions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::changes::Changes;
use crate::decode::Route;
use crate::model::Format;
use crate::online_store::OnlineStore;
use crate::source::Appender;
use crate::telemetry::Telemetry;

use access::Access;
pub use access::{AccessOptions, Token};
pub use audit::AUDIT;
pub use catalog::Catalog;
pub use command::{
    Again, Binding, Command, PartState, Readiness, Refusal, RefusalKind, ReplayWanted, Replayed, Sample, SampleOutcome, TransformChange,
    TransformInfo,
};
pub use computed::Computed;
use cors::Cors;
use edge::Edge;
pub use error::suggestion;
pub use feast::{FeastOptions, Written, written_rows};
use pieces::Pieces;
use plans::Plans;
pub use streams::{StreamGroup, StreamInfo, StreamPartition, StreamReader};
pub use tls::{Tls, TlsError, TlsFiles};
use told::Results;
pub use versions::{CutInfo, MadeBy, PartitionCuts, Unseen, VersionInfo, Versions};

/// What the edge works with.
pub struct State {
    /// The views served now.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Where their rows are.
    pub store: Arc<dyn OnlineStore>,
    /// The streams that take events.
    pub streams: Arc<ArcSwap<BTreeMap<String, Stream>>>,
    /// Where it counts.
    pub telemetry: Arc<Telemetry>,
    /// What was committed a moment ago.
    pub changes: Arc<Changes>,
    /// To the floor above.
    pub commands: mpsc::Sender<Command>,
    /// Bounds on what comes in.
    pub limits: Limits,
    /// Who may ask.
    pub access: AccessOptions,
    /// The certificate to show; none for plain HTTP.
    pub tls: Option<Tls>,
    /// Origins whose web pages may read answers.
    pub cors_origins: Vec<String>,
    /// Feast's own protocol.
    pub feast: FeastOptions,
}

/// The writing end of a stream and how events stand in it.
#[derive(Clone)]
pub struct Stream {
    /// Appends entries.
    pub appender: Arc<dyn Appender>,
    /// How an event becomes the fields of an entry.
    pub format: Format,
    /// How its partition is told, where the stream has several.
    pub route: Option<Arc<Route>>,
}

/// Bounds on what comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the body of a query or of events.
    pub body_bytes_max: usize,
    /// Bytes in a component.
    pub component_bytes_max: usize,
    /// Entities in one query, and events in one request.
    pub entities_max: usize,
    /// Features in one query.
    pub features_max: usize,
    /// Memory for parts of answers that may be sent again, in bytes.
    pub answer_cache_bytes: u64,
    /// Connections open at the same time.
    pub connections_max: usize,
    /// The same of one peer address.
    pub peer_connections_max: usize,
    /// Requests answered at the same time; what is beyond is told to come again.
    pub concurrency_max: usize,
    /// Time for one request, from its first byte to its answer, in milliseconds.
    pub request_timeout_ms: u64,
    /// The same for one that puts a transform, whose component is compiled within it.
    pub put_timeout_ms: u64,
    /// Whether something in front says who is asking. If not, a host on the loopback answers programs of this machine only, and no web page.
    pub allow_remote: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 8 << 20,
            component_bytes_max: 64 << 20,
            entities_max: 10_000,
            features_max: 1_000,
            answer_cache_bytes: 64 << 20,
            connections_max: 4_096,
            peer_connections_max: 1_024,
            concurrency_max: 1_024,
            request_timeout_ms: 30_000,
            put_timeout_ms: 300_000,
            allow_remote: false,
        }
    }
}

/// The host was told to listen where others can reach it, and neither has what that takes nor was told that something else has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "listening on {0} would let everybody who reaches it read features and replace transforms; listen on 127.0.0.1, or give the host tokens (`gristmill token new`) and a certificate (http.tls), or set http.allow_remote = true behind something that terminates TLS and checks who is asking"
)]
pub struct RemoteError(pub SocketAddr);

/// Whether it is safe to listen there: beyond the loopback it takes tokens and TLS, or somebody who vouches for what is in front.
pub fn may_listen(address: SocketAddr, allow_remote: bool, has_tokens: bool, has_tls: bool) -> Result<(), RemoteError> {
    if allow_remote || address.ip().is_loopback() || (has_tokens && has_tls) { Ok(()) } else { Err(RemoteError(address)) }
}

/// Serves until `shutdown` completes, then answers what was asked before it.
pub async fn serve(listener: TcpListener, mut state: State, shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
    let is_local = !state.limits.allow_remote && listener.local_addr()?.ip().is_loopback();
    let tls = state.tls.take();
    let stop = watch::Sender::new(false);
    let edge = edge(state, is_local, stop.subscribe());
    server::run(listener, edge, tls, stop, shutdown).await
}

/// Everything the host answers.
fn edge(mut state: State, is_local: bool, stopped: watch::Receiver<bool>) -> Edge {
    let table = routes::routes(&state.limits);
    let operations = table.iter().map(|route| route.operation).collect();
    let routes = table.into_iter().fold(Router::new(), |router, route| router.route(route.operation.path, route.answer));
    let routes = routes.method_not_allowed_fallback(error::method_not_allowed).fallback(error::no_route);
    let routes = routes.layer(Extension(body::BodyLimit(state.limits.body_bytes_max)));
    // Most answers are made of results; pieces are for those of several views.
    let (pieces, results) = (state.limits.answer_cache_bytes / 4, state.limits.answer_cache_bytes / 4 * 3);
    let (pieces, results) = (Pieces::new(pieces), Results::new(results));
    let access = Access::new(std::mem::take(&mut state.access));
    let cors = Cors(std::mem::take(&mut state.cors_origins));
    let [feature_plans, view_plans, service_plans, feast_plans] = [(); 4].map(|()| Plans::default());
    let rooms = room::Rooms::new();
    let schemas = Default::default();
    let row_writer = feast::RowWriter::default();
    let shared = Shared {
        state,
        access,
        cors,
        is_local,
        stopped,
        feature_plans,
        view_plans,
        service_plans,
        feast_plans,
        row_writer,
        pieces,
        results,
        rooms,
        schemas,
    };
    Edge::new(routes, operations, Arc::new(shared))
}

/// The state and what is cached beside it.
struct Shared {
    state: State,
    access: Access,
    cors: Cors,
    /// Whether only programs of this machine may ask.
    is_local: bool,
    /// Turns true when the host stops; what would go on for good ends then.
    stopped: watch::Receiver<bool>,
    /// By the text of the list of features.
    feature_plans: Plans,
    /// By the view's name.
    view_plans: Plans,
    /// By the service's name as it was asked for.
    service_plans: Plans,
    /// By the text of the list of features in Feast's own requests.
    feast_plans: Plans,
    /// For rows that are sent instead of computed.
    row_writer: feast::RowWriter,
    pieces: Pieces,
    results: Results,
    /// Memory that all requests share.
    rooms: room::Rooms,
    schemas: ArcSwap<BTreeMap<crate::model::SchemaId, Arc<look::StoredSchema>>>,
}
