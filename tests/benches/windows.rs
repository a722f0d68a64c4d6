//! Windows: what an event costs beside the same windows written natively, kept in the store as ours are and kept in memory only; what it costs whatever the number
//! of entities and the length of the windows, through the embedded store; what a read of one entity with 50 windowed features costs; what an entity takes. Takes
//! about four minutes and 6 GB of disk; `GRISTMILL_BENCH_SCALE=100` does a hundredth of everything, to see that it works, and keeps no figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill::data_folder::{DataFolder, Options};
use gristmill::model::{Aggregate, Aggregation, Commit, EntryId, FeatureRow, Field, Kept, Kind, Put, SchemaId, Timestamp, Value, Version};
use gristmill::online_store::{OnlineStore, Writer, embedded};
use gristmill::window::{Entity, Plan};
use gristmill_tests::bench::keep;
use gristmill_tests::store_conformance::{partition, single};
use tokio::runtime::Runtime;

const HOUR: i64 = 3_600_000_000;
/// Events of one entity in a batch.
const BATCH: usize = 64;
/// Microseconds between two events of an entity.
const STEP: i64 = 20_000_000;
const BEGIN: i64 = 1_700_000_000_000_000;
/// Interleaved rounds of ours and the others, about a millisecond each; the best of each counts, for others use the machine too.
const ROUNDS: usize = 100;

/// By how much less is done than for figures.
fn scale() -> usize {
    std::env::var("GRISTMILL_BENCH_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

fn output() -> Field {
    Field { name: "value".into(), kind: Kind::Float, nullable: false, default: None, width: None, doc: String::new() }
}

/// So many features over windows from this one on, each longer by the first, five functions for each.
fn kept(features: usize, first_window: i64) -> Kept {
    let functions = [Aggregate::Count, Aggregate::Sum, Aggregate::Mean, Aggregate::Min, Aggregate::Max];
    let aggregation = |number: usize| Aggregation {
        feature: format!("f{number}"),
        column: "value".into(),
        function: functions[number % 5],
        window_ms: Some(first_window as u64 / 1_000 * (1 + number as u64 / 5)),
        doc: String::new(),
    };
    Kept { aggregations: (0..features).map(aggregation).collect(), ..Kept::default() }
}

fn plan(features: usize, first_window: i64) -> Plan {
    Plan::new(&[output()], &kept(features, first_window))
}

fn version(time: i64) -> Version {
    Version { event_time: Timestamp(time), entry_id: EntryId { ms: (time / 1_000) as u64, seq: 0 } }
}

/// An amount in cents: like most numbers it has digits, but not all that a float can have.
fn value(time: i64) -> f64 {
    (time / STEP * 7_919 % 100_000) as f64 / 100.0
}

/// Applies a batch of events to what is stored of an entity, as the event path does: only the newest becomes a row.
fn apply(plan: &Plan, stored: Option<&Bytes>, times: impl Iterator<Item = i64>) -> Bytes {
    apply_values(plan, stored, times.map(|time| (time, value(time))))
}

/// The same with a value for each.
fn apply_values(plan: &Plan, stored: Option<&Bytes>, events: impl Iterator<Item = (i64, f64)>) -> Bytes {
    let mut entity = stored.map_or_else(|| Entity::new(plan), |stored| Entity::read(stored, plan).expect("it is an entity"));
    let mut times = events.peekable();
    while let Some((time, value)) = times.next() {
        let value = Some(Value::Float(value));
        let packed = (times.peek().is_none() || plan.history() > 0).then(|| {
            let mut packed = Vec::with_capacity(64);
            FeatureRow::pack(&mut packed, version(time), SchemaId(1), [value].into_iter());
            packed.into()
        });
        entity.add(plan, version(time), (version(time), packed), Timestamp(i64::MAX), |_| value).expect("it is an entity");
    }
    let mut out = Vec::new();
    entity.push(plan, &mut out, SchemaId(1)).expect("it is an entity");
    out.into()
}

/// The same windows by hand: for each window tiles of number, count, sum, what rounding took from the sum, least and greatest.
#[derive(Default)]
struct Native {
    windows: Vec<VecDeque<NativeTile>>,
}

#[derive(Clone, Copy)]
struct NativeTile {
    number: i64,
    count: u64,
    sum: f64,
    rest: f64,
    least: f64,
    greatest: f64,
}

impl Native {
    fn add(&mut self, lengths: &[i64], time: i64, value: f64) {
        self.windows.resize_with(lengths.len(), VecDeque::new);
        for (tiles, length) in self.windows.iter_mut().zip(lengths) {
            let number = time.div_euclid(length / 60);
            let at = match tiles.back() {
                Some(newest) if newest.number == number => tiles.len() - 1,
                _ => {
                    let at = tiles.partition_point(|tile| tile.number < number);
                    if tiles.get(at).is_none_or(|tile| tile.number != number) {
                        tiles.insert(
                            at,
                            NativeTile { number, count: 0, sum: 0.0, rest: 0.0, least: f64::INFINITY, greatest: f64::NEG_INFINITY },
                        );
                    }
                    at
                }
            };
            let tile = &mut tiles[at];
            // Neumaier's compensated sum.
            let sum = tile.sum + value;
            tile.rest += if tile.sum.abs() >= value.abs() { (tile.sum - sum) + value } else { (value - sum) + tile.sum };
            (tile.count, tile.sum, tile.least, tile.greatest) = (tile.count + 1, sum, tile.least.min(value), tile.greatest.max(value));
            while tiles.front().is_some_and(|first| first.number < number - 60) {
                tiles.pop_front();
            }
        }
    }

    /// Words of 8 bytes, nothing else: the quickest form that there is.
    fn to_bytes(&self, out: &mut Vec<u8>) {
        for tiles in &self.windows {
            out.extend_from_slice(&(tiles.len() as u64).to_le_bytes());
            for tile in tiles {
                let words = [
                    tile.number as u64,
                    tile.count,
                    tile.sum.to_bits(),
                    tile.rest.to_bits(),
                    tile.least.to_bits(),
                    tile.greatest.to_bits(),
                ];
                words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            }
        }
    }

    fn read(mut bytes: &[u8]) -> Native {
        let mut left = bytes.len() / 8;
        let mut word = || {
            let (first, rest) = bytes.split_first_chunk().expect("it is whole");
            bytes = rest;
            u64::from_le_bytes(*first)
        };
        let mut windows = Vec::new();
        while left > 0 {
            let many = word() as usize;
            let tile = |_| NativeTile {
                number: word() as i64,
                count: word(),
                sum: f64::from_bits(word()),
                rest: f64::from_bits(word()),
                least: f64::from_bits(word()),
                greatest: f64::from_bits(word()),
            };
            windows.push((0..many).map(tile).collect());
            left -= 1 + many * 6;
        }
        Native { windows }
    }
}

/// Nanoseconds an event in batches of one entity after another, as a host sees a busy one: ours, natively and stored as ours is, natively in memory only; and the
/// bytes that ours keeps.
struct Costs {
    ours: f64,
    stored: f64,
    in_memory: f64,
    bytes: usize,
}

fn costs(features: usize, batch: usize) -> Costs {
    let plan = plan(features, HOUR);
    let lengths: Vec<i64> = (1..=features.div_ceil(5)).map(|many| many as i64 * HOUR).collect();
    // Until every window has all of its tiles.
    let warm: Vec<i64> = (0..lengths.len() as i64 * HOUR / STEP + 200).map(|index| BEGIN + index * STEP).collect();
    let mut ours = apply(&plan, None, warm.iter().copied());
    let mut native = Native::default();
    warm.iter().for_each(|time| native.add(&lengths, *time, value(*time)));
    let mut stored = Vec::new();
    native.to_bytes(&mut stored);
    let mut time = BEGIN + warm.len() as i64 * STEP;
    let batches = (4_000 / batch / features).max(8);
    let (mut best, events) = ([Duration::MAX; 3], (batches * batch) as f64);
    for _ in 0..(ROUNDS / scale()).max(1) {
        let times: Vec<i64> = (0..batches * batch).map(|index| time + index as i64 * STEP).collect();
        time += times.len() as i64 * STEP;
        let started = Instant::now();
        for times in times.chunks(batch) {
            ours = apply(&plan, Some(&ours), times.iter().copied());
        }
        best[0] = best[0].min(started.elapsed());
        let started = Instant::now();
        for times in times.chunks(batch) {
            let mut native = Native::read(&stored);
            times.iter().for_each(|time| native.add(&lengths, *time, value(*time)));
            let mut out = Vec::with_capacity(stored.len() + 512);
            native.to_bytes(&mut out);
            stored = out;
        }
        best[1] = best[1].min(started.elapsed());
        let started = Instant::now();
        times.iter().for_each(|time| native.add(&lengths, *time, std::hint::black_box(value(*time))));
        best[2] = best[2].min(started.elapsed());
    }
    assert!(!stored.is_empty());
    let [ours_ns, stored_ns, memory_ns] = best.map(|took| took.as_nanos() as f64 / events);
    Costs { ours: ours_ns, stored: stored_ns, in_memory: memory_ns, bytes: ours.len() }
}

/// An embedded store and the one writer to it.
struct Store {
    store: embedded::EmbeddedStore,
    writer: Box<dyn Writer>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Store {
    fn open(options: embedded::Options) -> Store {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = DataFolder::open(temp.path(), Options::default()).expect("the folder opens");
        let store = embedded::EmbeddedStore::open(&folder, options).expect("the store opens");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let writer = runtime.block_on(store.writer(&partition(0), &single())).expect("the writer opens");
        Store { store, writer, runtime, _folder: temp }
    }

    fn put(&mut self, puts: impl Iterator<Item = (Vec<u8>, Bytes)>) {
        let mut commit = Commit { number: self.writer.place().commits + 1, ..Commit::default() };
        puts.for_each(|(key, value)| commit.puts.push(Put { key, value: Some(value), expires_at: None }));
        self.runtime.block_on(self.writer.commit(&commit)).expect("the commit is applied");
    }

    /// One event of each of these entities: read, changed, committed.
    fn batch(&mut self, plan: &Plan, keys: Vec<Vec<u8>>, time: i64) {
        let stored = self.runtime.block_on(self.store.read(&keys)).expect("the read is answered");
        let puts: Vec<_> =
            keys.into_iter().zip(&stored).map(|(key, stored)| (key, apply(plan, stored.as_ref(), std::iter::once(time)))).collect();
        self.put(puts.into_iter());
    }
}

fn key(entity: u64) -> Vec<u8> {
    format!("v:{entity}").into_bytes()
}

/// Microseconds an event through the embedded store, over so many entities, and the bytes of each: ten features, the first five over a window of this length. All
/// entities have all of their tiles before the first event that counts, whatever their number: an entity that has had two events is smaller than one that has had
/// forty, and cheaper. In commits of 1,000, in no order, no entity more often than another; half of the events come before the
/// clock starts, so that tables are being merged as they will be.
fn over(entities: u64, first_window: i64, options: embedded::Options) -> (f64, usize) {
    let scale = scale() as u64;
    let (entities, events) = ((entities / scale).max(1_000), (200_000 / scale).max(2_000));
    let (mut store, plan) = (Store::open(options), plan(10, first_window));
    let before = 2 * first_window / STEP + 50;
    let whole = apply(&plan, None, (0..before).map(|index| BEGIN + index * STEP));
    for first in (0..entities).step_by(1_000) {
        store.put((first..entities.min(first + 1_000)).map(|entity| (key(entity), whole.clone())));
    }
    let mut run = |from: u64| {
        let started = Instant::now();
        for first in (from..from + events).step_by(1_000) {
            // A step that shares no factor with any number of entities here visits all of them.
            let keys = (first..first + 1_000).map(|event| key(event * 7_919_173 % entities)).collect();
            store.batch(&plan, keys, BEGIN + (before + (first / entities) as i64) * STEP);
        }
        started.elapsed()
    };
    run(0);
    (run(events).as_nanos() as f64 / events as f64 / 1e3, whole.len())
}

/// The same over more and more entities, as a line.
fn over_more_and_more(first_window: i64) -> String {
    let figures = [("10 thousand entities", 10_000), ("100 thousand", 100_000), ("a million", 1_000_000)]
        .map(|(name, entities)| (name, over(entities, first_window, embedded::Options::default())));
    let bytes = figures.first().map_or(0, |(_, (_, bytes))| *bytes);
    format!("{bytes} bytes an entity, over {}", beside(&figures.map(|(name, (micros, _))| (name, micros))))
}

/// Microseconds an event through the embedded store, a thousand entities with all tiles of five features over a window of this length.
fn through(window: i64) -> f64 {
    let (mut store, plan) = (Store::open(embedded::Options::default()), plan(5, window));
    let whole = apply(&plan, None, (0..=180).map(|index| BEGIN + index * window / 180));
    store.put((0..1_000).map(|entity| (key(entity), whole.clone())));
    let mut best = Duration::MAX;
    for round in 1..=(60 / scale() as i64).max(1) {
        let started = Instant::now();
        store.batch(&plan, (0..1_000).map(key).collect(), BEGIN + window + round * STEP);
        best = best.min(started.elapsed());
    }
    best.as_nanos() as f64 / 1e6
}

/// Microseconds of a read of one entity with 50 windowed features out of the embedded store: median and 99th percentile.
fn read() -> (f64, f64) {
    let (mut store, plan) = (Store::open(embedded::Options::default()), plan(50, HOUR));
    let stored = apply(&plan, None, (0..3_000).map(|index| BEGIN + index * STEP));
    let end = Timestamp(BEGIN + 3_000 * STEP);
    store.put((0..1_000).map(|entity| (key(entity), stored.clone())));
    let mut times: Vec<Duration> = (0..(20_000 / scale() as u64).max(100))
        .map(|index| {
            let key = vec![key(index * 7 % 1_000)];
            let started = Instant::now();
            let stored =
                store.runtime.block_on(store.store.read(&key)).expect("the read is answered").pop().flatten().expect("it is there");
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

/// Microseconds of an event that is alone in its batch where a day of history is kept, 4,320 events, and the bytes of it.
fn with_history() -> (f64, usize) {
    let plan = Plan::new(&[output()], &Kept { history_secs: 86_400, ..kept(10, HOUR) });
    let day = 86_400_000_000 / STEP;
    let mut stored = apply(&plan, None, (0..day + 100).map(|index| BEGIN + index * STEP));
    let mut best = Duration::MAX;
    for round in 0..(200 / scale() as i64).max(1) {
        let started = Instant::now();
        stored = apply(&plan, Some(&stored), std::iter::once(BEGIN + (day + 100 + round) * STEP));
        best = best.min(started.elapsed());
    }
    (best.as_nanos() as f64 / 1e3, stored.len())
}

/// Bytes that one function takes over an hour with an event of another value each second, and microseconds of a read of it, without history and with the newest 400
/// events one by one.
fn one_function(function: Aggregate) -> (usize, f64, f64) {
    let measured = |history_secs: u64| {
        let one = Aggregation { function, ..kept(1, HOUR).aggregations.remove(0) };
        let plan = Plan::new(&[output()], &Kept { aggregations: vec![one], history_secs, ..Kept::default() });
        let second = |index: i64| BEGIN + index * 1_000_000;
        let mut stored: Option<Bytes> = None;
        for index in 0..7 {
            stored = Some(apply_values(
                &plan,
                stored.as_ref(),
                (index * 600..(index + 1) * 600).map(|index| (second(index), index as f64 + 0.5)),
            ));
        }
        let (stored, mut best) = (stored.expect("there were events"), Duration::MAX);
        for _ in 0..(100 / scale()).max(1) {
            let started = Instant::now();
            let entity = Entity::read(&stored, &plan).expect("it is an entity");
            entity.finish(&plan, Timestamp(second(4_200)), |value| assert!(std::hint::black_box(value).is_some())).expect("it is whole");
            best = best.min(started.elapsed());
        }
        (stored.len(), best.as_nanos() as f64 / 1e3)
    };
    let ((bytes, without), (_, with)) = (measured(0), measured(400));
    (bytes, without, with)
}

/// A figure, and how many times the first of its line it is.
fn beside(figures: &[(&str, f64)]) -> String {
    let first = figures.first().map_or(1.0, |(_, figure)| *figure);
    let parts: Vec<String> =
        figures.iter().map(|(what, figure)| format!("{what} {figure:.1} ({:.1} times the first)", figure / first)).collect();
    parts.join("; ")
}

fn main() {
    let mut lines = vec![
        format!(
            "Events of one entity {} s apart; five functions (count, sum, mean, min, max) over each window, the first an hour, each longer by an hour. Natively, stored: the same \
             tiles written by hand for these five functions, read from bytes and written back with each batch as ours are, with compensated sums and a place for late events. In \
             memory: the same and never stored. Nanoseconds an event, the best of {ROUNDS} interleaved rounds.",
            STEP / 1_000_000
        ),
        String::new(),
        "| features | events in a batch | ours | natively, stored | ratio | natively, in memory | ratio | bytes kept | bytes a feature |"
            .into(),
        "|---|---|---|---|---|---|---|---|---|".into(),
    ];
    for (features, batch) in [(1, BATCH), (10, BATCH), (50, BATCH), (1, 1), (10, 1), (50, 1)] {
        let Costs { ours, stored, in_memory, bytes } = costs(features, batch);
        lines.push(format!(
            "| {features} | {batch} | {ours:.0} | {stored:.0} | {:.1} | {in_memory:.0} | {:.1} | {bytes} | {:.0} |",
            ours / stored,
            ours / in_memory,
            bytes as f64 / features as f64
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "Through the embedded store as it is by default (read, changed, committed), one event of an entity in a batch of 1,000, all entities with all of their tiles, µs an event \
         (reach: flat). Ten features of amounts with cents, an event of each entity every 20 s. Windows of one and two minutes, {}. Of one and two hours, {}. The store keeps up to \
         {} MB of rows in memory here; where there is room for a third of the million only, {:.1}.",
        over_more_and_more(60_000_000),
        over_more_and_more(HOUR),
        embedded::Options::default().row_cache_bytes >> 20,
        over(1_000_000, HOUR, embedded::Options { row_cache_bytes: (1 << 30) / scale() as u64, ..embedded::Options::default() }).0,
    ));
    lines.push(format!(
        "The same, five features with all of their tiles, over a window of {}.",
        beside(&[("an hour", through(HOUR)), ("a day", through(24 * HOUR)), ("90 days", through(90 * 24 * HOUR))])
    ));
    for (name, function) in [
        ("last_values 10", Aggregate::LastValues(10)),
        ("distinct", Aggregate::Distinct),
        ("top 5", Aggregate::Top(5)),
        ("quantile 0.9", Aggregate::Quantile(0.9)),
    ] {
        let (bytes, without, with) = one_function(function);
        lines.push(format!(
            "`{name}` over an hour, an event of another value each second: {bytes} bytes an entity; a read {without:.0} µs, with the newest 400 events one by one {with:.0} µs."
        ));
    }
    let (micros, bytes) = with_history();
    lines.push(format!(
        "Ten features and a day of history, 4,320 events one by one: {micros:.0} µs an event alone in its batch, {} kB kept.",
        bytes / 1_000
    ));
    let (median, p99) = read();
    lines.push(format!("A read of one entity with 50 windowed features, embedded store, in process: p50 {median:.0} µs, p99 {p99:.0} µs (reach: p50 150 µs)."));
    match scale() {
        1 => keep("windows", &lines),
        scale => lines.iter().for_each(|line| println!("{line} (1/{scale})")),
    }
}
