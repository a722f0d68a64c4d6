use std::io::IsTerminal;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use super::Failure;
use crate::config::{HostSection, LogFormat};
use crate::serve::AUDIT;

/// Starts writing the log to standard error, as configured; the environment variable `GRISTMILL_LOG` overrides what is logged. Neither silences the audit
/// log, which is written in full.
pub(super) fn start(host: &HostSection) -> Result<(), Failure> {
    let filter = std::env::var("GRISTMILL_LOG").unwrap_or_else(|_| host.log.clone());
    // The database's own log is about files, not about features.
    let filter = format!("fjall=warn,lsm_tree=warn,{filter}");
    let filter = EnvFilter::try_new(&filter).map_err(|error| Failure::Wrong(anyhow::anyhow!("host.log: {filter:?}: {error}")))?;
    let is_audit = |metadata: &Metadata<'_>| metadata.target() == AUDIT;
    let log = lines(host.log_format, host.log_format == LogFormat::Json);
    let log = log.with_filter(filter.and(filter_fn(move |metadata| !is_audit(metadata))));
    let audit = lines(host.log_format, true).with_filter(filter_fn(is_audit));
    let started = registry().with(log).with(audit).try_init();
    started.map_err(|error| Failure::Failed(anyhow::anyhow!("cannot start the log: {error}")))
}

/// Writes lines, with what they stand under if they are to show it.
fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(format: LogFormat, with_target: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(with_target)
        // A line that cannot be written would be reported on standard error, where it cannot be written either, and that panics.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}
