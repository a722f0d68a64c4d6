//! Windows: what an event costs beside the same windows written natively, whatever the number of entities and the length of the windows; what a read of one
//! entity with 50 windowed features costs; what an entity takes. Takes about a minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill::data_folder::{DataFolder, Options};
use gristmill::model::{Aggregate, Aggregation, Commit, EntryId, FeatureRow, Field, Kept, Kind, Put, SchemaId, Timestamp, Value, Version};
use gristmill::online_store::{OnlineStore, embedded};
use gristmill::window::{Entity, Plan};
use gristmill_tests::bench::keep;
use gristmill_tests::store_conformance::{partition, single};

const HOUR_MS: u64 = 3_600_000;
/// Events of one entity in a batch, and batches.
const BATCH: usize = 64;
const BATCHES: usize = 200;
/// Seconds between two events of an entity.
const STEP_SECS: i64 = 20;
const BEGIN: i64 = 1_700_000_000_000_000;

fn output() -> Field {
    Field { name: "value".into(), kind: Kind::Float, nullable: false, default: None, width: None, doc: String::new() }
}

/// So many features over windows from an hour on, five functions for each.
fn kept(features: usize, first_window_ms: u64) -> Kept {
    let functions = [Aggregate::Count, Aggregate::Sum, Aggregate::Mean, Aggregate::Min, Aggregate::Max];
    let aggregation = |number: usize| Aggregation {
        feature: format!("f{number}"),
        column: "value".into(),
        function: functions[number % 5],
        window_ms: Some(first_window_ms * (1 + number as u64 / 5)),
        doc: String::new(),
    };
    Kept { aggregations: (0..features).map(aggregation).collect(), ..Kept::default() }
}

fn version(time: i64) -> Version {
    Version { event_time: Timestamp(time), entry_id: EntryId { ms: (time / 1_000) as u64, seq: 0 } }
}

/// Applies a batch of events to what is stored of an entity, as the event path does.
fn apply(plan: &Plan, stored: Option<&Bytes>, times: impl Iterator<Item = i64>) -> Bytes {
    let mut entity = stored.map_or_else(|| Entity::new(plan), |stored| Entity::read(stored, plan).expect("it is an entity"));
    for time in times {
        let value = time as f64 * 1e-9;
        let mut packed = Vec::with_capacity(64);
        FeatureRow::pack(&mut packed, version(time), SchemaId(1), [Some(Value::Float(value))].into_iter());
        entity.add(plan, version(time), packed.into(), Timestamp(i64::MAX), |_| Some(Value::Float(value)));
    }
    let mut out = Vec::new();
    entity.push(&mut out, SchemaId(1));
    out.into()
}

/// The same windows by hand: for each window tiles of count, sum, least and greatest, kept in memory as they are.
#[derive(Default)]
struct Native {
    windows: Vec<VecDeque<NativeTile>>,
}

/// Number, count, sum, least and greatest.
type NativeTile = (i64, u64, f64, f64, f64);

impl Native {
    fn add(&mut self, lengths: &[i64], time: i64, value: f64) {
        self.windows.resize_with(lengths.len(), VecDeque::new);
        for (tiles, length) in self.windows.iter_mut().zip(lengths) {
            let tile = time / (length / 60);
            match tiles.back_mut().filter(|last| last.0 == tile) {
                Some((_, count, sum, least, greatest)) => {
                    (*count, *sum, *least, *greatest) = (*count + 1, *sum + value, least.min(value), greatest.max(value));
                }
                None => tiles.push_back((tile, 1, value, value, value)),
            }
            while tiles.front().is_some_and(|first| first.0 < tile - 60) {
                tiles.pop_front();
            }
        }
    }
}

/// Nanoseconds an event, batches of one entity after another as the host sees a busy one; and bytes kept at the end.
fn cost(features: usize, first_window_ms: u64, batch: usize) -> (f64, usize) {
    let plan = Plan::new(&[output()], &kept(features, first_window_ms));
    let mut stored: Option<Bytes> = None;
    let mut time = BEGIN;
    let mut run = |batches: usize, stored: &mut Option<Bytes>| {
        let started = Instant::now();
        for _ in 0..batches {
            let times = (0..batch as i64).map(|index| time + index * STEP_SECS * 1_000_000);
            *stored = Some(apply(&plan, stored.as_ref(), times));
            time += batch as i64 * STEP_SECS * 1_000_000;
        }
        started.elapsed()
    };
    // Until every window has all of its tiles.
    run((10 * first_window_ms as usize / 1_000 / STEP_SECS as usize / batch).clamp(1, 20_000), &mut stored);
    let took = run(BATCHES, &mut stored);
    (took.as_nanos() as f64 / (BATCHES * batch) as f64, stored.map_or(0, |stored| stored.len()))
}

fn native(features: usize) -> f64 {
    let lengths: Vec<i64> = (0..features.div_ceil(5)).map(|window| (1 + window as i64) * HOUR_MS as i64 * 1_000).collect();
    let mut entity = Native::default();
    let mut time = BEGIN;
    let mut run = |events: usize| {
        let started = Instant::now();
        for _ in 0..events {
            entity.add(&lengths, time, std::hint::black_box(time as f64 * 1e-9));
            time += STEP_SECS * 1_000_000;
        }
        started.elapsed()
    };
    run(10_000);
    run(200_000).as_nanos() as f64 / 200_000.0
}

/// Microseconds of a read of one entity with 50 windowed features out of the embedded store: median and 99th percentile.
fn read() -> (f64, f64) {
    let temp = tempfile::tempdir().expect("a folder");
    let folder = DataFolder::open(temp.path(), Options::default()).expect("the folder opens");
    let store = embedded::EmbeddedStore::open(&folder, embedded::Options::default()).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let plan = Plan::new(&[output()], &kept(50, HOUR_MS));
    let mut writer = runtime.block_on(store.writer(&partition(0), &single())).expect("the writer opens");
    let stored = apply(&plan, None, (0..3_000).map(|index| BEGIN + index * STEP_SECS * 1_000_000));
    let end = Timestamp(BEGIN + 3_000 * STEP_SECS * 1_000_000);
    let mut commit = Commit { number: 1, ..Commit::default() };
    (0..1_000)
        .for_each(|entity| commit.puts.push(Put { key: format!("v:{entity}").into(), value: Some(stored.clone()), expires_at: None }));
    runtime.block_on(writer.commit(&commit)).expect("the commit is applied");
    let mut times: Vec<Duration> = (0..20_000)
        .map(|index| {
            let key = vec![format!("v:{}", index * 7 % 1_000).into_bytes()];
            let started = Instant::now();
            let stored = runtime.block_on(store.read(&key)).expect("the read is answered").pop().flatten().expect("it is there");
            let entity = Entity::read(&stored, &plan).expect("it is an entity");
            let mut values = 0;
            entity.finish(&plan, end, |value| values += usize::from(value.is_some())).expect("it is whole");
            assert_eq!(values, 50);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |rank: f64| times[(rank * (times.len() - 1) as f64) as usize].as_nanos() as f64 / 1e3;
    (at(0.5), at(0.99))
}

/// Nanoseconds an event over so many entities, one event of each a batch at most, through the embedded store and without it.
fn over(entities: u64) -> f64 {
    let plan = Plan::new(&[output()], &kept(10, HOUR_MS));
    let mut stored: HashMap<u64, Bytes> = HashMap::new();
    let mut time = BEGIN;
    let mut run = |events: u64, stored: &mut HashMap<u64, Bytes>| {
        let started = Instant::now();
        for event in 0..events {
            let entity = event.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entities;
            let new = apply(&plan, stored.get(&entity), std::iter::once(time));
            stored.insert(entity, new);
            time += 1_000;
        }
        started.elapsed()
    };
    run(entities.min(1_000_000), &mut stored);
    run(300_000, &mut stored).as_nanos() as f64 / 300_000.0
}

fn main() {
    let mut lines = vec![
        format!(
            "Events of one entity {STEP_SECS} s apart, {BATCH} in a batch; five functions (count, sum, mean, min, max) over each window, the shortest an hour; natively: the same tiles in memory, never stored."
        ),
        String::new(),
        "| features | ns an event | natively | ratio | ns an event, alone in its batch | bytes kept | bytes a feature |".into(),
        "|---|---|---|---|---|---|---|".into(),
    ];
    for features in [1, 10, 50] {
        let ((ours, bytes), by_hand) = (cost(features, HOUR_MS, BATCH), native(features));
        let (alone, _) = cost(features, HOUR_MS, 1);
        lines.push(format!(
            "| {features} | {ours:.0} | {by_hand:.0} | {:.1} | {alone:.0} | {bytes} | {:.0} |",
            ours / by_hand,
            bytes as f64 / features as f64
        ));
    }
    lines.push(String::new());
    let days = |days: u64| cost(5, days * 24 * HOUR_MS, BATCH).0;
    lines.push(format!(
        "Five features over a window of an hour: {:.0} ns an event; of a day: {:.0}; of 90 days: {:.0}.",
        cost(5, HOUR_MS, BATCH).0,
        days(1),
        days(90)
    ));
    lines.push(format!(
        "Ten features, an event alone in its batch, over 10 thousand entities: {:.0} ns; over a million: {:.0} ns.",
        over(10_000),
        over(1_000_000)
    ));
    let (median, p99) = read();
    lines.push(format!("A read of one entity with 50 windowed features, embedded store, in process: p50 {median:.0} µs, p99 {p99:.0} µs (reach: p50 150 µs)."));
    keep("windows", &lines);
}
