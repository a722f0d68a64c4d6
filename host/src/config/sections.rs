//! The sections that every host has, each with its defaults. `gristmill.reference.toml` shows them all; a test keeps the two equal.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::access::{Tls, Token, check_origins, check_tokens};
use super::within;

/// `[host]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSection {
    /// Everything that the host keeps on disk.
    pub data_folder: PathBuf,
    /// Address and port of the HTTP interface.
    pub listen: SocketAddr,
    /// A watched folder: a component in it is a transform of its file's name.
    pub transforms_folder: Option<PathBuf>,
    /// What is logged, in the syntax of tracing's EnvFilter.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Time to finish what is in hand on shutdown, in milliseconds.
    pub shutdown_grace_ms: u64,
    /// Versions kept of one transform.
    pub versions_max: usize,
}

impl Default for HostSection {
    fn default() -> HostSection {
        HostSection {
            data_folder: "gristmill-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            transforms_folder: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            shutdown_grace_ms: 10_000,
            versions_max: 100,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// How many are kept; the oldest go first, and are counted.
    pub max: u64,
}

impl Default for DeadLetters {
    fn default() -> DeadLetters {
        DeadLetters { max: 100_000 }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Bytes in the body of a query or of events.
    pub body_bytes_max: usize,
    /// Bytes in a component.
    pub component_bytes_max: usize,
    /// Entities in one query.
    pub entities_max: usize,
    /// Features in one query.
    pub features_max: usize,
    /// Memory for parts of answers that may be sent again, in bytes; 0 for none.
    pub answer_cache_bytes: u64,
    /// Connections open at the same time.
    pub connections_max: usize,
    /// Connections of one peer address.
    pub peer_connections_max: usize,
    /// Requests answered at the same time.
    pub concurrency_max: usize,
    /// Time for one request in milliseconds.
    pub request_timeout_ms: u64,
    /// The same for one that puts a transform, whose component is compiled within it.
    pub put_timeout_ms: u64,
    /// Requests a second of one client, a token or a peer without any; 0 for no bound.
    pub requests_per_second_max: u64,
    /// Requests of one client answered at the same time; 0 for no bound but `concurrency_max`.
    pub client_concurrency_max: usize,
    /// Readers of changes at the same time.
    pub changes_readers_max: usize,
    /// Changes kept for readers that are slow or come back.
    pub changes_kept_max: usize,
    /// Bytes of the changes that are kept.
    pub changes_bytes_max: usize,
    /// Origins whose web pages may read answers.
    pub cors_origins: Vec<String>,
    /// Whether to listen beyond this machine without tokens and TLS, because something in front has both.
    pub allow_remote: bool,
    /// The certificate; plain HTTP without it.
    pub tls: Option<Tls>,
    /// Who may ask for what; without any, everybody who reaches the port may do everything.
    pub tokens: Vec<Token>,
}

impl Default for Http {
    fn default() -> Http {
        Http {
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
            requests_per_second_max: 0,
            client_concurrency_max: 0,
            changes_readers_max: 64,
            changes_kept_max: 10_000,
            changes_bytes_max: 16 << 20,
            cors_origins: Vec::new(),
            allow_remote: false,
            tls: None,
            tokens: Vec::new(),
        }
    }
}

impl Http {
    pub(super) fn check(&self, key: &str, complain: &mut impl FnMut(String, String)) {
        let counts = [
            ("body_bytes_max", self.body_bytes_max as u64),
            ("component_bytes_max", self.component_bytes_max as u64),
            ("entities_max", self.entities_max as u64),
            ("features_max", self.features_max as u64),
            ("connections_max", self.connections_max as u64),
            ("peer_connections_max", self.peer_connections_max as u64),
            ("concurrency_max", self.concurrency_max as u64),
            ("request_timeout_ms", self.request_timeout_ms),
            ("put_timeout_ms", self.put_timeout_ms),
            ("changes_kept_max", self.changes_kept_max as u64),
            ("changes_bytes_max", self.changes_bytes_max as u64),
        ];
        for (name, value) in counts {
            within(format!("{key}.{name}"), value, 1..=u64::MAX, complain);
        }
        check_origins(key, &self.cors_origins, complain);
        check_tokens(key, &self.tokens, complain);
    }
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Instances of all transforms together.
    pub instances_max: u32,
    /// The largest memory that any transform may be given, in bytes.
    pub memory_bytes_max: usize,
    /// Whether compiled components are kept in the data folder.
    pub compile_cache: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine { instances_max: 64, memory_bytes_max: 64 << 20, compile_cache: true }
    }
}

impl Engine {
    pub(super) fn check(&self, key: &str, complain: &mut impl FnMut(String, String)) {
        within(format!("{key}.instances_max"), self.instances_max.into(), 1..=10_000, complain);
        within(format!("{key}.memory_bytes_max"), self.memory_bytes_max as u64, 65_536..=4 << 30, complain);
    }
}
