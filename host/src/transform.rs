//! The sandbox: components in, transforms out. Only this module and those below it know wasmtime.

use std::sync::Arc;

use crate::model::{Batch, Digest, Disposition, Spec};

/// What one instance of a transform may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory in bytes.
    pub memory_bytes_max: usize,
    /// Time for one call in milliseconds.
    pub deadline_ms: u64,
    /// Elements in all tables.
    pub table_elements_max: usize,
    /// Bytes that one call may return, all columns together.
    pub output_bytes_max: usize,
    /// Rows that one call may return for each row it was given.
    pub output_rows_per_input_max: usize,
    /// Calls after which an instance is replaced by a fresh one.
    pub instance_calls_max: u64,
    /// Log lines a second; what is beyond is counted and dropped.
    pub log_lines_per_second_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: 64 << 20,
            deadline_ms: 50,
            table_elements_max: 20_000,
            output_bytes_max: 64 << 20,
            output_rows_per_input_max: 64,
            instance_calls_max: 10_000,
            log_lines_per_second_max: 20,
        }
    }
}

/// What a transform returned for one batch, checked.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows of features, columns as the spec's outputs.
    pub batch: Batch,
    /// The input row of each output row; `None` when they are the same.
    pub origins: Option<Vec<u32>>,
    /// Input rows refused, and why.
    pub rejected: Vec<(u32, String)>,
}

/// A component that was compiled, checked and asked what it is. Calls may come from several threads at a time.
pub struct Transform {
    name: String,
    digest: Digest,
    spec: Arc<Spec>,
}

impl Transform {
    /// The name it runs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The component's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it says about itself, checked.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// Log lines beyond the limit, since it was loaded.
    pub fn log_lines_dropped(&self) -> u64 {
        0
    }

    /// Computes the rows for a batch whose columns are the spec's inputs. Blocks for at most the deadline.
    pub fn apply(&self, _input: &Batch) -> Result<Output, Error> {
        Err(Error::Guest(String::new()))
    }
}

/// What went wrong with a component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The component is refused at load; the text says why and what to change.
    #[error("{0}")]
    Refused(String),
    /// The engine itself failed.
    #[error("the Wasm engine failed: {0}")]
    Engine(String),
    /// A trap.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It ran out of time.
    #[error("it did not return within {deadline_ms} ms")]
    Deadline {
        /// The limit.
        deadline_ms: u64,
    },
    /// It ran out of memory.
    #[error("it needs more than its {memory_bytes_max} bytes of memory")]
    Memory {
        /// The limit.
        memory_bytes_max: usize,
    },
    /// It returned an error for the whole batch.
    #[error("it returned an error: {0}")]
    Guest(String),
    /// It returned something that breaks the contract.
    #[error("it returned something that breaks the contract: {0}")]
    Invalid(String),
}

impl Error {
    /// What becomes of the batch.
    pub fn disposition(&self) -> Disposition {
        match self {
            Error::Engine(_) => Disposition::Retry,
            Error::Refused(_) => Disposition::Stop,
            Error::Trap(_) | Error::Deadline { .. } | Error::Memory { .. } | Error::Guest(_) | Error::Invalid(_) => Disposition::Reject,
        }
    }
}
