//! States of folds and windows: whatever is killed and whenever, every event counts once.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// Kills in one run.
const KILLS: u64 = 25;
const EVENTS: u64 = 30_000;
const ENTITIES: u64 = 300;

/// Counts and sums the events of an entity in its own state; the host counts and sums what it returns.
fn config(store: &str, stream: &str) -> String {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/components/conformance-tally.wasm");
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.events]\nbatch_events_max = 32\n{stream}\n\n\
         [transforms.tally]\nstream = \"events\"\ncomponent = \"{}\"\naggregations = [\n\
         {{ feature = \"n\", column = \"seen\", function = \"count\" }},\n\
         {{ feature = \"n_1d\", column = \"seen\", function = \"count\", window_ms = 86400000 }},\n\
         {{ feature = \"sum\", column = \"seen\", function = \"sum\" }},\n\
         {{ feature = \"most\", column = \"total\", function = \"max\", window_ms = 86400000 }},\n]\n",
        component.display()
    )
}

/// An event: one in thirty is refused, one in a hundred cannot be read.
fn event(seeded: &mut Seeded) -> Value {
    let id = format!("e{}", seeded.below(ENTITIES));
    match seeded.below(300) {
        0..10 => json!({"id": id, "action": "reject"}),
        10..13 => json!({"id": id, "amount": "much"}),
        _ => json!({"id": id, "amount": seeded.below(1_000)}),
    }
}

/// What an entity should have come to: events, the sum of their amounts, and the sum of the counts on the way.
fn oracle(events: &[Value]) -> BTreeMap<String, [u64; 3]> {
    let mut all: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for event in events {
        let Some(amount) = event["amount"].as_u64() else { continue };
        let [seen, total, sum] = all.entry(event["id"].as_str().unwrap().to_owned()).or_default();
        *seen += 1;
        *total += amount;
        *sum += *seen;
    }
    all
}

/// What the host serves for these entities: of the fold, of the windows, and of the largest total.
fn served(host: &Host, ids: &BTreeMap<String, [u64; 3]>) -> BTreeMap<String, Vec<u64>> {
    let entities: Vec<Value> = ids.keys().map(|id| json!({"id": id})).collect();
    let features = ["seen", "total", "n", "n_1d", "sum", "most"].map(|name| format!("tally:{name}"));
    let body = json!({"features": features, "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return BTreeMap::new() };
    let result = |result: &Value| {
        let values = result["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or(-1.0) as u64).collect();
        (result["entity"]["id"].as_str().unwrap().to_owned(), values)
    };
    answer["results"].as_array().unwrap().iter().map(result).collect()
}

fn expected(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    oracle(events).into_iter().map(|(id, [seen, total, sum])| (id, vec![seen, total, seen, seen, sum, total])).collect()
}

fn events(seed: u64) -> Vec<Value> {
    let mut seeded = Seeded(seed);
    (0..EVENTS).map(|_| event(&mut seeded)).collect()
}

fn add(server: &RedisServer, events: &[Value]) {
    for chunk in events.chunks(1_000) {
        let mut pipe = redis::pipe();
        for event in chunk {
            let xadd = pipe.cmd("XADD").arg("events").arg("*");
            for (name, value) in event.as_object().unwrap() {
                xadd.arg(name).arg(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        pipe.query::<Vec<String>>(&mut server.connection()).unwrap();
    }
}

/// Kills the host again and again while it works, and at the end compares.
fn killed(folder: &Path, config: &str, seed: u64, events: &[Value]) {
    let mut seeded = Seeded(seed);
    let expected = expected(events);
    for _ in 0..KILLS {
        let host = Host::start(folder, config).unwrap();
        let aim = (32 * (1 + seeded.below(30))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder, config).unwrap();
    assert_ne!(served(&host, &oracle(events)), expected, "the host was done before it was killed for the last time");
    wait_for("the features of a run without faults", || (served(&host, &oracle(events)) == expected).then_some(()));
    let shown = host.get("/v1/states/tally?id=e7").unwrap().1;
    let [seen, total, _] = oracle(events)["e7"];
    let state: Value = serde_json::from_str(shown["state"]["text"].as_str().unwrap()).unwrap();
    assert_eq!((state["seen"].as_u64(), state["total"].as_f64()), (Some(seen), Some(total as f64)), "{shown}");
    // Nothing comes after that which would count something twice.
    wait_for("everything to be settled", || (host.metric("gristmill_pending_entries") == 0.0).then_some(()));
    assert_eq!(served(&host, &oracle(events)), expected);
    let refused = events.iter().filter(|event| event["amount"].as_u64().is_none()).count();
    assert_eq!(host.metric("gristmill_dead_letters_kept"), refused as f64);
    host.stop();
}

fn killed_over_redis(store: &dyn Fn(&RedisServer) -> String, place: &str, seed: u64) {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let events = events(seed);
    add(&server, &events);
    let stream = format!("type = \"redis_streams\"\nurl = \"{}\"\nplace = \"{place}\"\nblock_ms = 100", server.url());
    killed(folder.path(), &config(&store(&server), &stream), seed, &events);
}

fn redis_store(server: &RedisServer) -> String {
    format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 2000", server.url())
}

#[test]
fn killed_with_redis_stream_and_redis_store_acknowledging() {
    killed_over_redis(&redis_store, "acknowledge", 21);
}

#[test]
fn killed_with_redis_stream_and_redis_store_by_checkpoint() {
    killed_over_redis(&redis_store, "checkpoint", 22);
}

#[test]
fn killed_with_redis_stream_and_embedded_store_acknowledging() {
    killed_over_redis(&|_| "type = \"embedded\"".into(), "acknowledge", 23);
}

#[test]
fn killed_with_redis_stream_and_embedded_store_by_checkpoint() {
    killed_over_redis(&|_| "type = \"embedded\"".into(), "checkpoint", 24);
}

#[test]
fn killed_with_embedded_stream_and_store() {
    let folder = tempfile::tempdir().unwrap();
    let events = events(25);
    let config = config("type = \"embedded\"", "type = \"embedded\"");
    let idle = config.split("[transforms").next().unwrap();
    let host = Host::start(folder.path(), idle).unwrap();
    for chunk in events.chunks(2_000) {
        let lines: Vec<String> = chunk.iter().map(Value::to_string).collect();
        let (status, answer) = host.post("/v1/streams/events/events", &format!("[{}]", lines.join(","))).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    host.stop();
    killed(folder.path(), &config, 25, &events);
}
