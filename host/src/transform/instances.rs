//! The warm instances of one transform, and the one way into them.

use std::num::NonZeroU64;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::InstancePre;
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use super::bindings::exports::gristmill::transform::{fold, migration, transform};
use super::bindings::gristmill::transform::types as wit;
use super::engine::Reservation;
use super::guest_log::GuestLog;
use super::{Error, Folded, Limits, Output, World, call, check, check_states};
use crate::model::{Batch, Column, Spec, Values, one_line};

/// `describe` runs in a memory that nothing has touched yet, and interpreters start up in it: it gets this many times the deadline of
/// a call, and no less than a second.
const DESCRIBE_DEADLINE_FACTOR: u64 = 20;
const DESCRIBE_DEADLINE_MS_MIN: u64 = 1_000;
/// Bytes copied between host and guest in one call beyond those of the output itself: a spec, a log line, the list of columns.
const COPY_BYTES_EXTRA: usize = 1 << 20;
/// Frames of the guest's stack that a trap's message names.
const FRAMES_MAX: usize = 4;
/// Longest message of a guest that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// Instances of one transform. At most as many run as the pool has set aside for it; a call beyond waits for one.
pub(super) struct Instances {
    pre: InstancePre<State>,
    exports: Exports,
    settings: String,
    limits: Limits,
    log: GuestLog,
    state: Mutex<Pool>,
    returned: Condvar,
    reservation: Reservation,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Instance>,
    /// Instances in use, those that are being made included.
    busy: u32,
}

struct Instance {
    store: Store<State>,
    guest: Guest,
    calls: u64,
}

/// Where the functions of the one interface stand that a component exports.
enum Exports {
    Transform(transform::GuestIndices),
    Fold(fold::GuestIndices, Option<migration::GuestIndices>),
}

/// The functions of one instance.
enum Guest {
    Transform(transform::Guest),
    Fold(fold::Guest, Option<migration::Guest>),
}

/// What the engine keeps for each instance.
pub(super) struct State {
    limiter: Limiter,
    log: GuestLog,
}

impl State {
    pub(super) fn log(&mut self) -> &mut GuestLog {
        &mut self.log
    }
}

impl Instances {
    pub(super) fn new(
        pre: InstancePre<State>,
        world: World,
        settings: &str,
        limits: Limits,
        log: GuestLog,
        reservation: Reservation,
    ) -> Result<Instances, Error> {
        let exports = match world {
            World::RowTransform => transform::GuestIndices::new(&pre).map(Exports::Transform),
            World::StatefulTransform => fold::GuestIndices::new(&pre).map(|fold| Exports::Fold(fold, None)),
            World::MigratingTransform => {
                fold::GuestIndices::new(&pre).and_then(|fold| Ok(Exports::Fold(fold, Some(migration::GuestIndices::new(&pre)?))))
            }
        };
        let exports = exports.map_err(|error| Error::Refused(format!("it does not export what `{world}` asks for: {error:#}")))?;
        let (state, returned) = (Mutex::default(), Condvar::new());
        Ok(Instances { pre, exports, settings: settings.to_owned(), limits, log, state, returned, reservation })
    }

    /// Makes the first instance, asks it what it is, and keeps it warm.
    pub(super) fn describe(&self) -> Result<Spec, Error> {
        let mut slot = Slot::wait(self, None)?;
        let (instance, spec) = self.instantiate()?;
        slot.keep = Some(instance);
        Ok(spec)
    }

    /// One call of a stateless transform; with an `end`, it and the wait for an instance last no longer than until then.
    pub(super) fn apply(&self, spec: &Spec, input: &Batch, end: Option<Instant>) -> Result<Output, Error> {
        let columns = call::columns(input);
        self.call(spec, input, end, |instance, rows| {
            let Guest::Transform(guest) = &instance.guest else { return Err(wrong_world()) };
            let result = guest.call_apply(&mut instance.store, transform::Batch { rows, columns: &columns });
            let checked = |output| {
                let mut output = call::output(output);
                check(&mut output, spec, input.rows, &self.limits).map(|()| output)
            };
            Ok(result.map(|result| result.map(checked)))
        })
    }

    /// One call of a stateful transform; the groups are those of [`Transform::fold`](super::Transform::fold).
    pub(super) fn fold(&self, spec: &Spec, input: &Batch, groups: &[u32], states: &Column) -> Result<Folded, Error> {
        let columns = call::columns(input);
        self.call(spec, input, None, |instance, rows| {
            let Guest::Fold(guest, _) = &instance.guest else { return Err(wrong_world()) };
            let input_batch = fold::Batch { rows, columns: &columns };
            let result = guest.call_apply(&mut instance.store, input_batch, groups, call::column(states));
            let checked = |folded: wit::Folded| {
                let mut folded = Folded { output: call::output(folded.output), states: call::column_back(folded.states) };
                check(&mut folded.output, spec, input.rows, &self.limits)?;
                check_states(&mut folded.states, groups.len().saturating_sub(1), &self.limits).map(|()| folded)
            };
            Ok(result.map(|result| result.map(checked)))
        })
    }

    /// One call that takes over states of another version.
    pub(super) fn migrate(&self, spec: &Spec, from: &str, states: &Column) -> Result<Column, Error> {
        let Values::Blobs(packed) = &states.values else { return Err(Error::Engine("states are bytes".into())) };
        let rows = packed.len();
        let nothing = Batch::default();
        self.call(spec, &nothing, None, |instance, _| {
            let Guest::Fold(_, Some(guest)) = &instance.guest else { return Err(wrong_world()) };
            let result = guest.call_migrate(&mut instance.store, from, call::column(states));
            let checked = |states: wit::ColumnResult| {
                let mut states = call::column_back(states);
                check_states(&mut states, rows, &self.limits)?;
                match &states.validity {
                    Some(_) => Err(Error::Invalid("states: a migration returned null".into())),
                    None => Ok(states),
                }
            };
            Ok(result.map(|result| result.map(checked)))
        })
    }

    /// An instance that trapped, ran out of something or broke the contract is never used again.
    fn call<T>(
        &self,
        spec: &Spec,
        input: &Batch,
        end: Option<Instant>,
        work: impl FnOnce(&mut Instance, u32) -> Result<wasmtime::Result<Result<Result<T, Error>, String>>, Error>,
    ) -> Result<T, Error> {
        let rows = u32::try_from(input.rows).map_err(|_| Error::Engine(format!("a batch of {} rows is too large", input.rows)))?;
        let mut slot = Slot::wait(self, end)?;
        let deadline_ms = self.deadline_ms(end)?;
        let mut instance = match slot.keep.take() {
            Some(instance) => instance,
            None => self.replacement(spec)?,
        };
        instance.calls += 1;
        self.arm(&mut instance.store, deadline_ms);
        let result = work(&mut instance, rows)?;
        let result = result.map_err(|error| self.explain(error, instance.store.data(), deadline_ms))?;
        let returned = match result {
            Ok(checked) => checked?,
            Err(message) => {
                // It said no and is well.
                slot.give_back(instance);
                return Err(Error::Guest(cut(&message)));
            }
        };
        slot.give_back(instance);
        Ok(returned)
    }

    /// Bytes of linear memory that an idle instance has, if one is idle.
    pub(super) fn memory_bytes(&self) -> Option<usize> {
        let pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = pool.idle.last()?.store.data().limiter.memory_bytes_left;
        Some(self.limits.memory_bytes_max.saturating_sub(left))
    }

    /// A fresh instance, which must say of itself what the first one said.
    fn replacement(&self, spec: &Spec) -> Result<Instance, Error> {
        let (instance, found) = self.instantiate().map_err(|error| match error {
            // It accepted the same settings when it was loaded.
            Error::Refused(problem) => Error::Invalid(problem),
            error @ (Error::Engine(_)
            | Error::Trap(_)
            | Error::Deadline { .. }
            | Error::Memory { .. }
            | Error::Guest(_)
            | Error::Invalid(_)) => error,
        })?;
        if found != *spec {
            return Err(Error::Invalid("it describes itself differently now than when it was loaded".into()));
        }
        Ok(instance)
    }

    fn instantiate(&self) -> Result<(Instance, Spec), Error> {
        let deadline_ms = self.limits.deadline_ms.saturating_mul(DESCRIBE_DEADLINE_FACTOR).max(DESCRIBE_DEADLINE_MS_MIN);
        let limiter = Limiter::new(&self.limits);
        let mut store = Store::new(self.pre.engine(), State { limiter, log: self.log.clone() });
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(self.limits.output_bytes_max.saturating_add(COPY_BYTES_EXTRA));
        self.arm(&mut store, deadline_ms);
        let instance = self.pre.instantiate(&mut store).map_err(|error| self.explain(error, store.data(), deadline_ms))?;
        let guest = match &self.exports {
            Exports::Transform(exports) => exports.load(&mut store, &instance).map(Guest::Transform),
            Exports::Fold(fold, migration) => {
                let migration = migration.as_ref().map(|exports| exports.load(&mut store, &instance)).transpose();
                migration.and_then(|migration| Ok(Guest::Fold(fold.load(&mut store, &instance)?, migration)))
            }
        };
        let guest = guest.map_err(|error| Error::Refused(format!("its functions are not those of the contract: {error:#}")))?;
        let described = match &guest {
            Guest::Transform(guest) => guest.call_describe(&mut store, &self.settings),
            Guest::Fold(guest, _) => guest.call_describe(&mut store, &self.settings),
        };
        match described.map_err(|error| self.explain(error, store.data(), deadline_ms))? {
            Ok(spec) => Ok((Instance { store, guest, calls: 0 }, call::spec(spec))),
            Err(message) => Err(Error::Refused(format!("it refused its settings: {}", cut(&message)))),
        }
    }

    /// Time for one call in milliseconds, if somebody waits until `end`.
    fn deadline_ms(&self, end: Option<Instant>) -> Result<u64, Error> {
        let Limits { deadline_ms, .. } = self.limits;
        let Some(end) = end else { return Ok(deadline_ms) };
        match end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1_000) {
            0 => Err(Error::Deadline { deadline_ms }),
            left => Ok(u64::try_from(left).unwrap_or(u64::MAX).min(deadline_ms)),
        }
    }

    /// Starts the clock of a call. The tick that is running is not counted, nor one that a woken ticker cuts short.
    fn arm(&self, store: &mut Store<State>, deadline_ms: u64) {
        store.data_mut().limiter.denied = None;
        let ticks = deadline_ms.saturating_add(2).min(u64::from(u32::MAX));
        store.set_epoch_deadline(ticks);
        self.reservation.engine.shared.ticker.want(ticks);
    }

    /// The engine's errors in our words; the only place that reads them.
    fn explain(&self, error: wasmtime::Error, state: &State, deadline_ms: u64) -> Error {
        let Limits { memory_bytes_max, table_elements_max, output_bytes_max, .. } = self.limits;
        let trap = error.downcast_ref::<Trap>().copied();
        if trap == Some(Trap::Interrupt) {
            return Error::Deadline { deadline_ms };
        }
        match state.limiter.denied {
            Some(Denied::Memory) => return Error::Memory { memory_bytes_max },
            Some(Denied::Table) => return Error::Trap(format!("it needs more than its {table_elements_max} table elements")),
            None => {}
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Error::Engine(format!("{:#}", error));
        }
        let root = error.root_cause().to_string();
        if root.contains("fuel allocated for hostcalls") {
            return Error::Invalid(format!("more than the {output_bytes_max} bytes that output_bytes_max allows"));
        }
        match (trap, error.downcast_ref::<WasmBacktrace>()) {
            // Not a trap, and not from inside the guest: the engine could not make sense of what was returned.
            (None, None) => Error::Invalid(cut(&root)),
            (_, backtrace) => Error::Trap(cut(&format!("{root}{}", frames(backtrace)))),
        }
    }

    /// How often a fresh instance takes the place of a used one; at least one call is served.
    fn is_worn(&self, instance: &Instance) -> bool {
        instance.calls >= NonZeroU64::new(self.limits.instance_calls_max).map_or(1, NonZeroU64::get)
    }
}

/// The right to use one instance. Returned when dropped, whatever happened.
struct Slot<'a> {
    instances: &'a Instances,
    /// Comes filled when a warm instance was idle; what stands here in the end is kept warm.
    keep: Option<Instance>,
}

impl<'a> Slot<'a> {
    /// Waits for one, until `end` if there is one.
    fn wait(instances: &'a Instances, end: Option<Instant>) -> Result<Slot<'a>, Error> {
        let mut pool = instances.state.lock().unwrap_or_else(PoisonError::into_inner);
        while pool.busy >= instances.reservation.instances {
            pool = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => instances.returned.wait(pool).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Err(Error::Deadline { deadline_ms: instances.limits.deadline_ms }),
                Some(left) => instances.returned.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        pool.busy += 1;
        Ok(Slot { instances, keep: pool.idle.pop() })
    }

    fn give_back(&mut self, instance: Instance) {
        if !self.instances.is_worn(&instance) {
            self.keep = Some(instance);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut pool = self.instances.state.lock().unwrap_or_else(PoisonError::into_inner);
        pool.busy -= 1;
        pool.idle.extend(self.keep.take());
        drop(pool);
        self.instances.returned.notify_one();
    }
}

/// Caps memory and tables, and remembers that it did: the guest sees only that growing failed, and mostly traps somewhere else.
struct Limiter {
    memory_bytes_left: usize,
    table_elements_left: usize,
    denied: Option<Denied>,
}

#[derive(Clone, Copy)]
enum Denied {
    Memory,
    Table,
}

impl Limiter {
    fn new(limits: &Limits) -> Limiter {
        Limiter { memory_bytes_left: limits.memory_bytes_max, table_elements_left: limits.table_elements_max, denied: None }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.memory_bytes_left, current, desired) || self.deny(Denied::Memory))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.table_elements_left, current, desired) || self.deny(Denied::Table))
    }
}

impl Limiter {
    fn deny(&mut self, denied: Denied) -> bool {
        self.denied = Some(denied);
        false
    }
}

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    let rest = left.checked_sub(desired.saturating_sub(current));
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

fn frames(backtrace: Option<&WasmBacktrace>) -> String {
    let names = backtrace.map(WasmBacktrace::frames).unwrap_or_default().iter().take(FRAMES_MAX);
    let names: Vec<_> =
        names.map(|frame| frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned)).collect();
    if names.is_empty() { String::new() } else { format!(", in {}", names.join(" called by ")) }
}

fn wrong_world() -> Error {
    Error::Engine("a stateless transform has no fold, and a stateful one nothing else".into())
}

fn cut(message: &str) -> String {
    one_line(message, MESSAGE_BYTES_MAX)
}
