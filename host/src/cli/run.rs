use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, logging, print};
use crate::app;
use crate::config::Config;

/// What most call their configuration.
const USUAL: &str = "gristmill.toml";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration; without it everything is embedded, in ./gristmill-data
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = USUAL)]
    config: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn load(path: Option<&PathBuf>) -> Result<Config, Failure> {
    match path {
        None => Ok(Config::default()),
        Some(path) => Config::load(path).map_err(|error| Failure::Wrong(error.into())),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = load(arguments.config.as_ref())?;
    logging::start(&config.host)?;
    if arguments.config.is_none() && Path::new(USUAL).exists() {
        print::note(&format!("{USUAL} lies here and is not read: `gristmill run --config {USUAL}` reads it"));
    }
    runtime()?.block_on(async {
        let scheme = if config.http.tls.is_some() { "https" } else { "http" };
        let started = |address| print::line(&format!("listening on {scheme}://{address}"));
        app::run(config, started, interrupted()?).await
    })?;
    Ok(())
}

pub(super) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let config = load(Some(&arguments.config))?;
    let checked = app::check(&config).map_err(Failure::Wrong)?;
    if arguments.json {
        print::json(&serde_json::to_value(&checked)?);
        return Ok(());
    }
    for transform in &checked {
        let name = &transform.name;
        let reads = transform.stream.as_ref().map_or_else(|| "computes when asked".to_owned(), |stream| format!("reads `{stream}`"));
        let emits = transform.emit.as_ref().map_or_else(String::new, |stream| format!(", emits to `{stream}`"));
        print::line(&format!(
            "{name}: {reads}{emits}, {} inputs, {} features, component {}",
            transform.inputs, transform.features, transform.component
        ));
    }
    let transforms = if checked.len() == 1 { "transform" } else { "transforms" };
    print::line(&format!("{}: {} {transforms}, all right", arguments.config.display(), checked.len()));
    Ok(())
}

/// The runtime of a host: the pipeline needs threads that may block.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Completes on Ctrl-C or SIGTERM.
pub(super) fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
