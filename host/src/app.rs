//! Wiring: a configuration becomes a running host. Knows every part below and decides nothing about data.

mod access;
mod alike;
mod binding_options;
mod book;
mod bound;
pub mod cases;
mod chain;
mod check;
mod commands;
mod demo;
mod evolve;
mod feast;
mod folder;
mod follow;
mod others;
mod replays;
mod restart;
mod services;
mod shadow;
mod standing;
mod stream_list;
mod streams;
mod swaps;
mod transforms;
mod tried_states;
mod versions;
mod view_versions;
mod work;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::changes::{self, Changes};
use crate::config::{Config, Durability, Store};
use crate::data_folder::{self, DataFolder};
use crate::pipeline::Revisions;
use crate::serve;
use crate::serve::Catalog;
use crate::source::embedded::Log;
use crate::telemetry::Telemetry;
use crate::transform::{Engine, EngineOptions};

pub use binding_options::BindingOptions;
use book::Book;
pub use check::{Checked, check};
pub use demo::{DemoOptions, Progress, demo};
use folder::FolderWatch;
use follow::Following;
use shadow::Shadows;
use streams::OpenStore;
use transforms::Registry;
use workers::{ConsumerGroup, Worker};

/// How often expired rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Components compiled at the same time. The compiler uses all processors for one, and takes memory for each.
const COMPILING_MAX: usize = 1;
/// Pushed components in memory at the same time: being compiled, or waiting for it. A client that gives up does not end what it began.
const PUSHES_MAX: usize = 8;

/// What every part of a running host shares.
struct Core {
    config: Config,
    folder: DataFolder,
    store: OpenStore,
    engine: Engine,
    telemetry: Arc<Telemetry>,
    changes: Arc<Changes>,
    catalog: Arc<ArcSwap<Catalog>>,
    streams: Arc<ArcSwap<BTreeMap<String, serve::Stream>>>,
    logs: std::sync::Mutex<BTreeMap<String, Log>>,
    registry: Mutex<Registry>,
    /// How far this host is with the book of versions, for its pipelines.
    revisions: Arc<Revisions>,
    /// Whoever compares the book with the store's.
    following: Mutex<Following>,
    /// Why this host does not have in force what it should, if that is so.
    behind: std::sync::Mutex<Option<String>>,
    /// Views that no transform computes.
    written: BTreeMap<String, Arc<serve::Written>>,
    workers: Mutex<BTreeMap<ConsumerGroup, Worker>>,
    /// Streams whose pipelines wait, all of them at first: until all transforms of a stream are in force, its entries must not pass.
    held: watch::Sender<Option<BTreeSet<String>>>,
    /// Turns at the compiler.
    compiling: Arc<Semaphore>,
    /// Places for pushed components that wait for their turn.
    pushes: Semaphore,
    shutdown: watch::Sender<bool>,
}

/// A running host.
pub struct Host {
    core: Arc<Core>,
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
}

/// Runs a host until `shutdown` completes. `started` is told the address once everything is up.
pub async fn run(config: Config, started: impl FnOnce(SocketAddr), shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let host = Host::start(config).await?;
    started(host.address());
    shutdown.await;
    host.stop().await
}

impl Host {
    /// Opens the data folder and the store, puts all transforms into force, and listens.
    pub async fn start(config: Config) -> anyhow::Result<Host> {
        access::may_listen(&config)?;
        let tls = access::tls(&config)?;
        let config = config.with_registry().map_err(anyhow::Error::msg)?;
        let core = Arc::new(Core::open(config).await?);
        core.begin_to_follow().await;
        core.open_streams().await?;
        core.install_declared().await?;
        if let Some(folder) = core.config.host.transforms_folder.clone() {
            FolderWatch::start(&core, folder).await?;
        }
        core.resume_all().await;
        core.resume_shadows().await;
        core.begin_to_work().await;
        core.keep_house();
        core.watch_switches();
        core.follow();
        let listen = core.config.host.listen;
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error))?;
        let address = listener.local_addr()?;
        let (commands, requests) = mpsc::channel(64);
        commands::start(&core, requests);
        let state = serve::State {
            catalog: Arc::clone(&core.catalog),
            store: core.store.as_store(),
            streams: Arc::clone(&core.streams),
            telemetry: Arc::clone(&core.telemetry),
            changes: Arc::clone(&core.changes),
            commands,
            limits: limits(&core.config),
            access: access::options(&core.config),
            tls,
            cors_origins: core.config.http.cors_origins.clone(),
            feast: core.feast_options(),
        };
        let mut shutdown = core.shutdown.subscribe();
        let server = tokio::spawn(serve::serve(listener, state, async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
        }));
        tracing::info!(%address, "listening");
        Ok(Host { core, address, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes the batches in hand, answers the requests in hand, and gives up leases. Bounded by the configured grace.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Host { core, server, .. } = self;
        core.shutdown.send_replace(true);
        let workers = std::mem::take(&mut *core.workers.lock().await);
        workers.values().for_each(Worker::ask_to_stop);
        let grace = Duration::from_millis(core.config.host.shutdown_grace_ms);
        let ended = async {
            for worker in workers.into_values() {
                worker.stopped().await;
            }
            server.await
        };
        match tokio::time::timeout(grace, ended).await {
            Ok(served) => served.context("the HTTP server ended abnormally")?.context("the HTTP server failed")?,
            Err(_) => bail!("not everything ended within {} ms; nothing is lost, what was in hand is done again", grace.as_millis()),
        }
        Ok(())
    }
}

impl Core {
    async fn open(config: Config) -> anyhow::Result<Core> {
        let telemetry = Arc::new(Telemetry::new());
        let folder = DataFolder::open(&config.host.data_folder, folder_options(&config))?;
        let store = OpenStore::open(&config, &folder).await?;
        let engine = Engine::new(EngineOptions {
            cache_folder: config.engine.compile_cache.then(|| folder.compile_cache()),
            instances_max: config.engine.instances_max,
            memory_bytes_max: config.engine.memory_bytes_max,
            ..EngineOptions::default()
        })?;
        let revisions = Arc::new(Revisions::default());
        let book = Book::open(folder.components(), config.host.versions_max, store.shared(), folder.host_id(), &revisions)?;
        let shadows = Shadows::open(folder.path().join("shadows"))?;
        let written = feast::written(&config, &*store.as_store()).await?;
        Ok(Core {
            written,
            folder,
            store,
            engine,
            telemetry,
            changes: Arc::new(Changes::new(changes_options(&config))),
            catalog: Arc::default(),
            streams: Arc::default(),
            logs: std::sync::Mutex::default(),
            registry: Mutex::new(Registry::new(book, services::declared(&config), shadows)),
            revisions,
            following: Mutex::default(),
            behind: std::sync::Mutex::default(),
            workers: Mutex::default(),
            held: watch::Sender::new(None),
            compiling: Arc::new(Semaphore::new(COMPILING_MAX)),
            pushes: Semaphore::new(PUSHES_MAX),
            shutdown: watch::Sender::new(false),
            config,
        })
    }

    /// Forgets what has expired, now and then, until the host stops.
    fn keep_house(self: &Arc<Core>) {
        let (core, mut shutdown) = (Arc::clone(self), self.shutdown.subscribe());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = shutdown.changed() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
                if let Err(error) = core.store.sweep().await {
                    tracing::warn!("cannot forget expired rows, will try again: {error}");
                }
            }
        });
    }
}

/// Why an address cannot be listened on, and what to change.
fn cannot_listen(listen: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let kind = error.kind();
    let change = if kind == std::io::ErrorKind::AddrInUse {
        "; another program listens there, perhaps another host: stop it, or choose another port with host.listen (`gristmill demo` has --listen)"
    } else if kind == std::io::ErrorKind::AddrNotAvailable {
        "; it is no address of this machine: choose one that is with host.listen"
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "; ports below 1024 are not for everybody: choose another with host.listen"
    } else {
        ""
    };
    anyhow!("cannot listen on {listen}: {error}{change}")
}

fn folder_options(config: &Config) -> data_folder::Options {
    let mut options = data_folder::Options::default();
    if let Store::Embedded(store) = &config.store {
        options.durability = match store.durability {
            Durability::Sync => data_folder::Durability::Sync,
            Durability::Buffer => data_folder::Durability::Interval { sync_ms: store.sync_every_ms },
        };
    }
    options
}

fn changes_options(config: &Config) -> changes::Options {
    let http = &config.http;
    changes::Options { readers_max: http.changes_readers_max, kept_max: http.changes_kept_max, bytes_max: http.changes_bytes_max }
}

fn limits(config: &Config) -> serve::Limits {
    let http = &config.http;
    serve::Limits {
        body_bytes_max: http.body_bytes_max,
        component_bytes_max: http.component_bytes_max,
        entities_max: http.entities_max,
        features_max: http.features_max,
        answer_cache_bytes: http.answer_cache_bytes,
        connections_max: http.connections_max,
        peer_connections_max: http.peer_connections_max,
        concurrency_max: http.concurrency_max,
        request_timeout_ms: http.request_timeout_ms,
        put_timeout_ms: http.put_timeout_ms,
        allow_remote: http.allow_remote,
    }
}
