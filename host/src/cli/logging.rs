use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{HostSection, LogFormat};

/// Starts writing the log to standard error, as configured; the environment variable `GRISTMILL_LOG` overrides what is logged.
pub(super) fn start(host: &HostSection) -> Result<(), Failure> {
    let filter = std::env::var("GRISTMILL_LOG").unwrap_or_else(|_| host.log.clone());
    // The database's own log is about files, not about features.
    let filter = format!("fjall=warn,lsm_tree=warn,{filter}");
    let filter = EnvFilter::try_new(&filter).map_err(|error| Failure::Wrong(anyhow::anyhow!("host.log: {filter:?}: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Programs tell the audit log from the rest by it.
        .with_target(host.log_format == LogFormat::Json)
        // A line that cannot be written would be reported on standard error, where it cannot be written either, and that panics.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match host.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| Failure::Failed(anyhow::anyhow!("cannot start the log: {error}")))
}
