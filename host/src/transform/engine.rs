//! The Wasm engine, narrowed. The only file that names `wasmtime::Config`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::Linker;

use super::Error;
use super::bindings::gristmill::transform::{log, types};
use super::cache::Cache;
use super::guest_log::GuestLog;
use super::instances::State;

/// What the engine may use; fixed when it starts, because the pool's address space is reserved then.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where compiled code is kept between two runs of the program; `None` compiles every time. The folder becomes readable by its
    /// owner alone, and only files that this program wrote there are used.
    pub cache_folder: Option<PathBuf>,
    /// Instances in the pool, all transforms together. By default enough for 32 transforms.
    pub instances_max: u32,
    /// Instances of one transform, and so calls to it that run at the same time; more wait. 0 stands for the number of processors.
    pub instances_per_transform_max: u32,
    /// The largest linear memory in bytes that any transform may be given.
    pub memory_bytes_max: usize,
    /// The most table elements that any transform may be given.
    pub table_elements_max: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            cache_folder: None,
            instances_max: processors().saturating_mul(INSTANCES_PER_PROCESSOR).min(INSTANCES_MAX),
            instances_per_transform_max: 0,
            memory_bytes_max: 256 << 20,
            table_elements_max: 100_000,
        }
    }
}

/// The Wasm engine: a compiler, a pool of instances and a clock. Cheap to clone; the last clone that goes, transforms included,
/// ends it.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Linker<State>,
    pub(super) cache: Option<Cache>,
    pub(super) options: EngineOptions,
    reserved: AtomicU32,
    pub(super) ticker: Ticker,
}

/// Time between two ticks of the clock that deadlines are counted in.
const TICK: Duration = Duration::from_millis(1);
/// Core modules that one component may instantiate. CPython's component has about two dozen.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;
/// Linear memories that one component may have: several when it is composed of others, as those for QuickJS are. Together they may have
/// no more bytes than one.
const MEMORIES_PER_COMPONENT_MAX: u32 = 4;
/// Tables that one component may have.
const TABLES_PER_COMPONENT_MAX: u32 = 16;
/// The most instances of a default pool: each reserves some GiB of address space, and a process has 128 TiB.
const INSTANCES_MAX: u32 = 2_048;
/// Instances in the pool for each processor, unless told otherwise.
const INSTANCES_PER_PROCESSOR: u32 = 32;
const WASM_PAGE_BYTES: usize = 65_536;

impl Engine {
    /// Starts the engine and reserves the pool's address space (not memory).
    pub fn new(mut options: EngineOptions) -> Result<Engine, Error> {
        if options.instances_per_transform_max == 0 {
            options.instances_per_transform_max = processors();
        }
        options.memory_bytes_max = options.memory_bytes_max.div_ceil(WASM_PAGE_BYTES).saturating_mul(WASM_PAGE_BYTES);
        let wasm = wasmtime::Engine::new(&config(&options)).map_err(|error| Error::Engine(format!("cannot start it: {error:#}")))?;
        let mut linker = Linker::new(&wasm);
        log::add_to_linker::<_, wasmtime::component::HasSelf<GuestLog>>(&mut linker, State::log)
            .map_err(|error| Error::Engine(format!("cannot offer the log: {error:#}")))?;
        types::add_to_linker::<_, wasmtime::component::HasSelf<GuestLog>>(&mut linker, State::log)
            .map_err(|error| Error::Engine(format!("cannot offer the types: {error:#}")))?;
        let cache = options.cache_folder.as_ref().map(|folder| Cache::open(folder, &wasm)).transpose()?;
        let ticker = Ticker::start(&wasm)?;
        Ok(Engine { shared: Arc::new(Shared { wasm, linker, cache, options, reserved: AtomicU32::new(0), ticker }) })
    }

    /// Sets instances of the pool aside for one transform.
    pub(super) fn reserve(&self) -> Result<Reservation, Error> {
        let EngineOptions { instances_max, instances_per_transform_max: wanted, .. } = self.shared.options;
        let add = |reserved: u32| reserved.checked_add(wanted).filter(|total| *total <= instances_max);
        match self.shared.reserved.try_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(Reservation { engine: self.clone(), instances: wanted }),
            Err(reserved) => Err(Error::Refused(format!(
                "the pool holds {instances_max} instances, {reserved} of them are set aside for loaded transforms, and this one needs {wanted}; \
                 raise instances_max or unload a transform"
            ))),
        }
    }
}

/// Instances of the pool that belong to one transform until this is dropped.
pub(super) struct Reservation {
    pub(super) engine: Engine,
    pub(super) instances: u32,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.engine.shared.reserved.fetch_sub(self.instances, Ordering::AcqRel);
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

fn config(options: &EngineOptions) -> wasmtime::Config {
    let instances = options.instances_max;
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT_MAX))
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_memory_size(options.memory_bytes_max)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT_MAX))
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .max_tables_per_module(TABLES_PER_COMPONENT_MAX)
        .table_elements(options.table_elements_max);
    let mut config = wasmtime::Config::new();
    config
        .strategy(wasmtime::Strategy::Cranelift)
        .allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_memory64(false)
        // The same bytes give the same answers on every processor: no bit pattern that the hardware picks reaches the guest.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false);
    config
}

/// A thread that counts milliseconds for the engine's deadlines while any is set, sleeps while none is, and ends with the engine.
pub(super) struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Clock {
    ticks: AtomicU64,
    /// No deadline that was set is later than this tick.
    wanted: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> Result<Ticker, Error> {
        let (engine, clock) = (engine.weak(), Arc::new(Clock::default()));
        let of_thread = Arc::clone(&clock);
        let tick = move || {
            while !of_thread.stopped.load(Ordering::SeqCst) {
                if of_thread.is_wanted() {
                    std::thread::park_timeout(TICK);
                    let Some(engine) = engine.upgrade() else { return };
                    engine.increment_epoch();
                    of_thread.ticks.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                // Whoever sets a deadline after this sees that somebody must be woken; whoever did so before is seen here.
                of_thread.asleep.store(true, Ordering::SeqCst);
                if !of_thread.is_wanted() && !of_thread.stopped.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                of_thread.asleep.store(false, Ordering::SeqCst);
            }
        };
        let thread = std::thread::Builder::new().name("wasm-ticker".into()).spawn(tick);
        let thread = thread.map_err(|error| Error::Engine(format!("cannot start the thread that counts deadlines: {error}")))?;
        Ok(Ticker { clock, thread: Some(thread) })
    }

    /// Sees to it that time passes for at least so many ticks.
    pub(super) fn want(&self, ticks: u64) {
        let until = self.clock.ticks.load(Ordering::SeqCst).saturating_add(ticks);
        self.clock.wanted.fetch_max(until, Ordering::SeqCst);
        if self.clock.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Clock {
    fn is_wanted(&self) -> bool {
        self.ticks.load(Ordering::SeqCst) < self.wanted.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended; either way there is nothing left to do for it.
            thread.join().ok();
        }
    }
}
