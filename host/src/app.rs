//! Wiring: a configuration becomes a running host. Knows every part below and decides nothing about data.

mod binding_options;
mod commands;
mod demo;
mod folder;
mod shelf;
mod streams;
mod transforms;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::model::Catalog;
use crate::online_store::OnlineStore;
use crate::serve;
use crate::telemetry::Telemetry;
use crate::transform::{Engine, EngineOptions};

pub use binding_options::BindingOptions;
pub use demo::{DemoOptions, Progress, demo};
use folder::FolderWatch;
use shelf::Shelf;
use streams::Worker;
use transforms::{Origin, Registry};

/// What every part of a running host shares.
struct Core {
    config: Config,
    folder: DataFolder,
    store: Arc<dyn OnlineStore>,
    engine: Engine,
    telemetry: Arc<Telemetry>,
    catalog: Arc<ArcSwap<Catalog>>,
    streams: Arc<ArcSwap<BTreeMap<String, serve::Stream>>>,
    registry: Mutex<Registry>,
    workers: Mutex<BTreeMap<String, Worker>>,
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
        serve::may_listen(config.host.listen, config.http.allow_remote)?;
        let core = Arc::new(Core::open(config).await?);
        core.open_appenders().await?;
        core.install_declared().await?;
        if let Some(folder) = core.config.host.transforms_folder.clone() {
            FolderWatch::start(&core, folder).await?;
        }
        core.install_pushed().await;
        core.keep_house();
        let listen = core.config.host.listen;
        let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let (commands, requests) = mpsc::channel(64);
        commands::start(&core, requests);
        let state = serve::State {
            catalog: Arc::clone(&core.catalog),
            store: Arc::clone(&core.store),
            streams: Arc::clone(&core.streams),
            telemetry: Arc::clone(&core.telemetry),
            commands,
            limits: core.config.http.limits(),
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
        workers.values().for_each(|worker| drop(worker.stop.send_replace(true)));
        let grace = Duration::from_millis(core.config.host.shutdown_grace_ms);
        let ended = async {
            for (stream, worker) in workers {
                if worker.task.await.is_err() {
                    tracing::error!(stream, "the stream's pipeline ended abnormally");
                }
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
        let folder = DataFolder::open(&config.host.data_folder, config.folder_options())?;
        let store = streams::open_store(&config, &folder).await?;
        let engine = Engine::new(EngineOptions {
            cache_folder: config.engine.compile_cache.then(|| folder.compiled()),
            instances_max: config.engine.instances_max,
            memory_bytes_max: config.engine.memory_bytes_max,
        })?;
        let shelf = Shelf::open(folder.components())?;
        Ok(Core {
            folder,
            store,
            engine,
            telemetry,
            catalog: Arc::default(),
            streams: Arc::default(),
            registry: Mutex::new(Registry::new(shelf)),
            workers: Mutex::default(),
            shutdown: watch::Sender::new(false),
            config,
        })
    }

    /// Puts the configured transforms into force. One that is refused stops the start: a configuration is either right or not used.
    async fn install_declared(self: &Arc<Core>) -> anyhow::Result<()> {
        for (name, transform) in &self.config.transforms {
            let path = &transform.component;
            let component = tokio::fs::read(path).await.with_context(|| format!("transforms.{name}: cannot read {}", path.display()))?;
            let options = BindingOptions::from_config(transform);
            self.install(name, component, Some(options), Origin::Declared).await.with_context(|| format!("transforms.{name}"))?;
        }
        Ok(())
    }
}
