//! The sandbox: components in, transforms out. Only this module and those below it know wasmtime.

mod apply;
mod bindings;
mod bounds;
mod cache;
mod call;
mod check;
mod engine;
mod guest_log;
mod instances;
mod load;
mod world;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::model::{Batch, Column, Digest, Disposition, Spec, one_line};
use guest_log::GuestLog;
use instances::Instances;

pub use apply::Applied;
pub(crate) use apply::STUCK_CALLS;
pub use check::check;
use check::check_states;
pub use engine::{Engine, EngineOptions};

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
    /// Bytes in the state of one entity.
    pub state_bytes_max: usize,
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
            state_bytes_max: 1 << 20,
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

/// What a stateful transform returned for one batch, checked.
#[derive(Debug)]
pub struct Folded {
    /// The rows of features.
    pub output: Output,
    /// The new state of each group, bytes; null where the entity has none any more.
    pub states: Column,
}

/// Which of the contract's worlds a component is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Rows in, rows out.
    RowTransform,
    /// The host keeps a state for each entity.
    StatefulTransform,
    /// The same, and it takes over the states of the version before it.
    MigratingTransform,
}

impl World {
    /// Whether the host keeps a state for each entity.
    pub fn is_stateful(self) -> bool {
        match self {
            World::RowTransform => false,
            World::StatefulTransform | World::MigratingTransform => true,
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            World::RowTransform => "row-transform",
            World::StatefulTransform => "stateful-transform",
            World::MigratingTransform => "migrating-transform",
        })
    }
}

impl Engine {
    /// Compiles a component (or takes its code from the cache), checks it and asks it what it is. Blocks for as long as compiling takes,
    /// half a minute for a component with a whole CPython in it: call it on a thread that may block.
    ///
    /// `name` is what it runs under, `component` the file as the user gave it, `settings` a JSON text or empty.
    pub fn load(&self, name: &str, component: &[u8], settings: &str, limits: Limits) -> Result<Transform, Error> {
        Ok(self.load_and_look(name, component, settings, limits).map_err(Error::in_one_line)?.0)
    }

    /// What a component is, for people. Nothing of it runs but `describe`. Blocks as [`load`](Engine::load) does.
    pub fn inspect(&self, component: &[u8], settings: &str, limits: Limits) -> Result<Inspection, Error> {
        let (transform, checked) = self.load_and_look("inspect", component, settings, limits).map_err(Error::in_one_line)?;
        Ok(Inspection {
            digest: transform.digest,
            bytes: component.len(),
            wrapped: checked.wrapped,
            imports: checked.imports,
            exports: checked.exports,
            world: transform.world,
            memory_bytes: transform.instances.memory_bytes().unwrap_or_default(),
            spec: Spec::clone(&transform.spec),
        })
    }

    fn load_and_look<'a>(
        &self,
        name: &str,
        component: &'a [u8],
        settings: &str,
        limits: Limits,
    ) -> Result<(Transform, load::Checked<'a>), Error> {
        self.check_limits(&limits)?;
        let checked = load::check(component)?;
        let digest = Digest(Sha256::digest(component).into());
        let reservation = self.reserve()?;
        let (compiled, from_cache) = load::compile(self, digest, &checked)?;
        let pre = self.shared.linker.instantiate_pre(&compiled);
        let pre = pre.map_err(|error| Error::Refused(format!("its imports are not those of the contract: {error:#}")))?;
        let log = GuestLog::new(name, limits.log_lines_per_second_max);
        let instances = Instances::new(pre, checked.world, settings, limits, log.clone(), reservation)?;
        let spec = instances.describe()?;
        spec.check().map_err(|error| Error::Refused(format!("its spec is wrong: {error}")))?;
        let name = name.to_owned();
        let world = checked.world;
        Ok((Transform { name, digest, world, spec: Arc::new(spec), limits, log, instances, from_cache }, checked))
    }

    fn check_limits(&self, limits: &Limits) -> Result<(), Error> {
        let options = &self.shared.options;
        let fits = |name: &str, wanted: usize, holds: usize| {
            if wanted <= holds {
                return Ok(());
            }
            Err(Error::Refused(format!("its {name} is {wanted}, but the pool was made for {holds}: lower it, or raise the pool's {name}")))
        };
        fits("memory_bytes_max", limits.memory_bytes_max, options.memory_bytes_max)?;
        fits("table_elements_max", limits.table_elements_max, options.table_elements_max)
    }
}

/// What a component is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Inspection {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Length of the file in bytes.
    pub bytes: usize,
    /// Whether the file is a core module that the host wrapped into a component.
    pub wrapped: bool,
    /// Names of what it imports.
    pub imports: Vec<String>,
    /// Names of what it exports.
    pub exports: Vec<String>,
    /// The world that it is built for.
    pub world: World,
    /// Linear memory in bytes that an instance has before its first call.
    pub memory_bytes: usize,
    /// What it says about itself, checked.
    pub spec: Spec,
}

/// A component that was compiled, checked and asked what it is. Calls may come from several threads at a time; as many run at once as the
/// engine has instances for a transform, and the others wait.
pub struct Transform {
    name: String,
    digest: Digest,
    world: World,
    spec: Arc<Spec>,
    limits: Limits,
    log: GuestLog,
    instances: Instances,
    from_cache: bool,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Transform").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Transform {
    /// The name it runs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The component's digest: SHA-256 of the file as the user gave it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The world that it is built for.
    pub fn world(&self) -> World {
        self.world
    }

    /// What it says about itself, checked.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// What one instance of it may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether its compiled code came from the cache.
    pub fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// Lines that it logged beyond its rate and that were not written, since it was loaded.
    pub fn log_lines_dropped(&self) -> u64 {
        self.log.lines_dropped()
    }

    /// Bytes of linear memory that an idle instance has, if one is idle.
    pub fn memory_bytes(&self) -> Option<usize> {
        self.instances.memory_bytes()
    }

    /// Computes the rows for a batch whose columns are the spec's inputs, in that order. Blocks for at most the deadline, plus the wait for
    /// an instance when more threads call than there are instances.
    pub fn apply(&self, input: &Batch) -> Result<Output, Error> {
        self.check_columns(input)?;
        self.instances.apply(&self.spec, input, None)
    }

    /// Folds a batch into the states of its entities. Group `g` is the rows `groups[g]..groups[g + 1]` of one entity, in the order of their entries;
    /// `states` has a value of bytes for each group, null where the entity has no state yet. Blocks as [`apply`](Transform::apply) does.
    pub fn fold(&self, input: &Batch, groups: &[u32], states: &Column) -> Result<Folded, Error> {
        self.check_columns(input)?;
        self.instances.fold(&self.spec, input, groups, states)
    }

    /// Converts states that the version `from` of this transform has written, bytes without nulls, into states of this one.
    pub fn migrate(&self, from: &str, states: &Column) -> Result<Column, Error> {
        self.instances.migrate(&self.spec, from, states)
    }

    fn check_columns(&self, input: &Batch) -> Result<(), Error> {
        let (found, wanted) = (input.columns.len(), self.spec.inputs.len());
        if found == wanted {
            return Ok(());
        }
        Err(Error::Engine(format!("the batch has {found} columns and the spec of `{}` has {wanted} inputs", self.name)))
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

/// Longest reason of a refusal that is told, in bytes.
const REFUSAL_BYTES_MAX: usize = 4_096;

impl Error {
    /// A refusal repeats names out of the component, which may hold anything.
    fn in_one_line(self) -> Error {
        if let Error::Refused(reason) = &self { Error::Refused(one_line(reason, REFUSAL_BYTES_MAX)) } else { self }
    }

    /// What becomes of the batch.
    pub fn disposition(&self) -> Disposition {
        match self {
            Error::Engine(_) => Disposition::Retry,
            Error::Refused(_) => Disposition::Stop,
            Error::Trap(_) | Error::Deadline { .. } | Error::Memory { .. } | Error::Guest(_) | Error::Invalid(_) => Disposition::Reject,
        }
    }
}
