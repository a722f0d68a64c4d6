//! Swaps while events and reads flow, and what must come of them: nothing lost, nothing counted twice, no read that fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench::workspace;
use crate::host::{Host, wait_for};

/// A host with everything embedded.
pub const CONFIG: &str = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.mystream]\nbatch_events_max = 200\n";

/// Entities that the events are of; each is counted in a window of its own.
const ENTITIES: u64 = 200;
/// Events sent at once.
const EVENTS: u64 = 100;
/// Versions that take turns.
const VERSIONS: usize = 4;

/// What was seen.
pub struct Outcome {
    /// Events sent.
    pub events: u64,
    /// Reads answered, all of them as they should be.
    pub reads: u64,
    /// Time that a swap took from its request to its answer, in milliseconds.
    pub swap_ms: Vec<f64>,
    /// How much longer than usual the first batch of a version took: seconds, and how many swaps took at most that long.
    pub pauses: Vec<(f64, u64)>,
}

impl Outcome {
    /// The bound below which this part of the pauses is, in milliseconds.
    pub fn pause_ms(&self, part: f64) -> f64 {
        let all = self.pauses.last().map_or(0, |(_, count)| *count) as f64;
        self.pauses.iter().find(|(_, count)| *count as f64 >= all * part).map_or(f64::INFINITY, |(bound, _)| bound * 1_000.0)
    }

    /// Swaps that had events.
    pub fn pauses_counted(&self) -> u64 {
        self.pauses.last().map_or(0, |(_, count)| *count)
    }
}

/// The tutorial with a section that means nothing: another version that does the same.
fn version(number: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(workspace().join("plugins/prebuilt/tutorial.wasm")).expect("the component is there");
    bytes.extend_from_slice(&[0, 3, 1, b'v', number as u8]);
    bytes
}

/// Swaps so many times, between versions whose code has been compiled, and checks every event and every read.
pub fn swap_under_load(host: &Host, swaps: usize) -> Outcome {
    let windows =
        json!([{"feature": "n", "column": "feature1", "function": "count"}, {"feature": "total", "column": "feature1", "function": "sum"}]);
    let query: String = windows.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    for number in 0..VERSIONS {
        let (status, answer) =
            host.put(&format!("/v1/transforms/tutorial?aggregations={query}"), &version(number)).expect("the host answers");
        assert_eq!(status, 200, "{answer}");
    }
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let (events, swap_ms) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(host, &done));
        let reader = scope.spawn(|| read(host, &done, &reads));
        let swap_ms = (0..swaps).map(|swap| swap_once(host, swap)).collect();
        done.store(true, Ordering::Relaxed);
        reader.join().expect("no read fails");
        (sender.join().expect("every event is taken"), swap_ms)
    });
    wait_for("every event to be settled", || (host.metric("gristmill_entries_settled_total") >= events as f64).then_some(()));
    assert_eq!(host.metric("gristmill_entries_settled_total"), events as f64);
    assert_eq!(host.metric("gristmill_dead_letters_total"), 0.0);
    assert_eq!(counted(host), expected(events), "every event counts once");
    Outcome { events, reads: reads.load(Ordering::Relaxed), swap_ms, pauses: pauses(host) }
}

/// One swap: to the next version, and now and then back to the one before. Returns when the new one has had events.
fn swap_once(host: &Host, swap: usize) -> f64 {
    let settled = || host.metric("gristmill_entries_settled_total");
    let before = settled();
    let started = Instant::now();
    let (how, body) =
        if swap % 5 == 4 { ("roll-back", String::new()) } else { ("activate", json!({"version": swap % VERSIONS + 1}).to_string()) };
    let (status, answer) = host.post(&format!("/v1/transforms/tutorial/{how}"), &body).expect("the host answers");
    assert_eq!(status, 200, "{answer}");
    let took = started.elapsed().as_secs_f64() * 1_000.0;
    wait_for("events after the swap", || (settled() > before + EVENTS as f64).then_some(()));
    took
}

fn send(host: &Host, done: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        let events: Vec<Value> =
            (sent..sent + EVENTS).map(|number| json!({"id": format!("k{}", number % ENTITIES), "value": number})).collect();
        let (status, answer) = host.post("/v1/streams/mystream/events", &json!(events).to_string()).expect("the host answers");
        assert_eq!(status, 200, "{answer}");
        sent += EVENTS;
    }
    sent
}

/// Counts never go down, and no read fails.
fn read(host: &Host, done: &AtomicBool, reads: &AtomicU64) {
    let mut newest = BTreeMap::new();
    while !done.load(Ordering::Relaxed) {
        for (id, (count, _)) in counted(host) {
            let before = newest.insert(id.clone(), count).unwrap_or(0);
            assert!(count >= before, "{id}: {count} after {before}");
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// By entity, how many events are counted, and their sum.
fn counted(host: &Host) -> BTreeMap<String, (u64, f64)> {
    let entities: Vec<Value> = (0..ENTITIES).map(|number| json!({"id": format!("k{number}")})).collect();
    let body = json!({"features": ["tutorial:n", "tutorial:total"], "entities": entities}).to_string();
    let (status, answer) = host.post("/v1/features", &body).expect("the host answers");
    assert_eq!(status, 200, "{answer}");
    let result = |result: &Value| {
        let id = result["entity"]["id"].as_str().unwrap_or_default().to_owned();
        (id, (result["values"][0].as_u64().expect("a count"), result["values"][1].as_f64().unwrap_or_default()))
    };
    answer["results"].as_array().expect("results").iter().map(result).collect()
}

fn expected(events: u64) -> BTreeMap<String, (u64, f64)> {
    let mut all: BTreeMap<String, (u64, f64)> = (0..ENTITIES).map(|number| (format!("k{number}"), (0, 0.0))).collect();
    for number in 0..events {
        let (count, sum) = all.entry(format!("k{}", number % ENTITIES)).or_default();
        *count += 1;
        *sum += number as f64 * 2.0;
    }
    all
}

fn pauses(host: &Host) -> Vec<(f64, u64)> {
    let text = host.text("/metrics").unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("gristmill_swap_pause_seconds_bucket"));
    let bucket = |line: &str| {
        let bound = line.split("le=\"").nth(1)?.split('"').next()?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, line.rsplit(' ').next()?.parse().ok()?))
    };
    lines.filter_map(bucket).collect()
}
