//! States of folds and windows: whatever is killed and whenever, every event counts once.

#[path = "states/parted.rs"]
mod parted;

use std::collections::BTreeMap;
use std::path::Path;

use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::{Batch, Column, Kind, Packed, Values};
use gristmill::transform::Output;
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// Kills in one run.
const KILLS: u64 = 50;
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
    for _ in 0..KILLS {
        let host = Host::start(folder, config).unwrap();
        let aim = (32 * (1 + seeded.below(15))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    finished(Host::start(folder, config).unwrap(), events);
}

/// What the last host serves once everything is settled is what a host without faults would.
fn finished(host: Host, events: &[Value]) {
    let expected = expected(events);
    assert_ne!(served(&host, &oracle(events)), expected, "the host was done before it was killed for the last time");
    let count = |all: &BTreeMap<String, Vec<u64>>| all.values().filter_map(|values| values.first()).sum::<u64>();
    let mut seen = BTreeMap::new();
    // The measures of the stream are from a moment ago: what was counted is not.
    wait_for("every event to be counted", || {
        seen = served(&host, &oracle(events));
        (count(&seen) >= count(&expected)).then_some(())
    });
    let wrong: Vec<_> =
        expected.iter().filter(|(id, values)| seen.get(*id) != Some(values)).map(|(id, values)| (id, values, seen.get(id))).collect();
    assert!(wrong.is_empty(), "entity, values of a run without faults, values served: {wrong:?}");
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

/// The next host stands by before the one at work is killed; each has a folder of its own.
#[test]
fn a_host_that_takes_over_goes_on_with_states_and_windows() {
    let server = RedisServer::start();
    let events = events(11);
    let mut parts = events.chunks(events.len() / 6);
    let stream = format!("type = \"redis_streams\"\nurl = \"{}\"\nblock_ms = 100", server.url());
    let config = config(&redis_store(&server).replace("2000", "500"), &stream);
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        (Host::start(folder.path(), &config).unwrap(), folder)
    };
    let mut seeded = Seeded(11);
    let mut at_work = start();
    for _ in 0..5 {
        let running = |host: &Host| host.get("/readyz").is_ok_and(|(_, ready)| ready["parts"][1]["state"] == "running");
        wait_for("the lease of the host before to end", || running(&at_work.0).then_some(()));
        let next = start();
        let aim = at_work.0.metric("gristmill_entries_settled_total") + (32 * (1 + seeded.below(30))) as f64;
        parts.next().into_iter().for_each(|part| add(&server, part));
        wait_for("the host to come some batches further", || (at_work.0.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        std::mem::replace(&mut at_work, next).0.kill();
    }
    parts.for_each(|part| add(&server, part));
    let (host, _folder) = at_work;
    finished(host, &events);
}

/// A fold whose state never changes. It can take one event at a time only, and traps on the key 13.
fn constant_fold() -> Vec<u8> {
    let texts = |text: &str| Values::Blobs(Packed { offsets: vec![0, text.len() as u32], bytes: text.as_bytes().to_vec() });
    let column = |values| std::sync::Arc::new(Column { values, validity: None });
    let output = Output { batch: Batch { rows: 1, columns: vec![column(Values::Integers(vec![1]))] }, origins: None, rejected: Vec::new() };
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), output);
    guest.states = Some(Column { values: texts("same"), validity: None });
    let key = "(i64.load (i32.load offset=4 (local.get $columns)))";
    guest.apply = format!("(if (i64.eq {key} (i64.const 13)) (then unreachable)) {}", guest.apply);
    guest.component().unwrap()
}

#[test]
fn events_that_a_fold_fails_on_stand_alone_whatever_entity_they_are_of() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("constant.wasm"), constant_fold()).unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n\n[transforms.constant]\ncomponent = \"constant.wasm\"\n\
                  aggregations = [{ feature = \"n\", column = \"value\", function = \"count\" }]\n";
    let host = Host::start(folder.path(), config).unwrap();
    let keys = [1, 13, 1, 2, 1, 13, 2, 1, 1, 3, 13, 1];
    let events: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
    assert_eq!(host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap().0, 200);
    wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == 12.0).then_some(()));
    let counts = json!({"features": ["constant:n"], "entities": [{"key": 1}, {"key": 2}, {"key": 3}, {"key": 13}]});
    let answer = host.post("/v1/features", &counts.to_string()).unwrap().1;
    let counts: Vec<Value> = answer["results"].as_array().unwrap().iter().map(|result| result["values"][0].clone()).collect();
    assert_eq!(counts, [6, 2, 1, 0].map(Value::from));
    let letters = host.get("/v1/dead-letters?limit=100").unwrap().1;
    let reasons: Vec<&Value> = letters["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["reason"]).collect();
    assert_eq!(reasons, ["trap", "trap", "trap"]);
    host.stop();
}

#[test]
fn a_state_that_stays_the_same_lives_as_long_as_its_entity_is_heard_of() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("constant.wasm"), constant_fold()).unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n\n[transforms.constant]\ncomponent = \"constant.wasm\"\nmax_age_secs = 1\nexpire_secs = 2\n";
    let host = Host::start(folder.path(), config).unwrap();
    let begun = std::time::Instant::now();
    let mut sent = 0.0;
    // Longer than the state would live without being put again.
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        host.post("/v1/streams/events/events", &json!({"key": 1}).to_string()).unwrap();
        sent += 1.0;
        wait_for("the event to be settled", || (host.metric("gristmill_entries_settled_total") >= sent).then_some(()));
        let (status, answer) = host.get("/v1/states/constant?key=1").unwrap();
        assert_eq!((status, &answer["state"]["text"]), (200, &json!("same")), "{answer}");
    }
    host.stop();
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

#[test]
fn replays_at_the_same_time_count_every_event_once() {
    let server = RedisServer::start();
    for store in ["type = \"embedded\"".to_owned(), "type = \"memory\"".to_owned(), redis_store(&server)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tutorial.wasm"), component("tutorial")).unwrap();
        let config = format!(
            "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\n\
             aggregations = [{{ feature = \"n\", column = \"feature1\", function = \"count\" }}, {{ feature = \"sum\", column = \"feature1\", function = \"sum\" }}]\n"
        );
        let host = Host::start(folder.path(), &config).unwrap();
        let events: Vec<Value> =
            (0..60).map(|index| if index % 2 == 0 { json!({"id": "a", "value": 1}) } else { json!({"id": "a"}) }).collect();
        assert_eq!(host.post("/v1/streams/mystream/events", &json!(events).to_string()).unwrap().0, 200);
        wait_for("half of them to be dead letters", || (host.metric("gristmill_dead_letters_kept") == 30.0).then_some(()));
        // What was missing has a default now.
        let path = "/v1/transforms/tutorial?inputs=%7B%22value%22%3A%7B%22default%22%3A%225%22%7D%7D";
        assert_eq!(host.send("PUT", path, Some(&component("tutorial"))).unwrap().status, 200);
        let replayed: u64 = std::thread::scope(|scope| {
            let replay = || host.post("/v1/dead-letters/replay", r#"{"transform": "tutorial"}"#).unwrap().1["settled"].as_u64().unwrap();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(replay)).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(replayed, 30);
        let answer = host.get("/v1/features/tutorial?id=a&features=n,sum").unwrap().1;
        assert_eq!(answer["results"][0]["values"], json!([60, 360.0]), "{store}");
        host.stop();
    }
}

fn component(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(format!("target/components/{name}.wasm"))).unwrap()
}

fn push(host: &Host, name: &str) -> (u16, String) {
    let answer = host.send("PUT", "/v1/transforms/tally?stream=events", Some(&component(name))).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn send(host: &Host, amount: f64) {
    let (status, answer) = host.post("/v1/streams/events/events", &json!({"id": "a", "amount": amount}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
}

fn wait_for_features(host: &Host, expected: &Value) {
    wait_for(&format!("the features {expected}"), || {
        let (_, answer) = host.get("/v1/features/tally?id=a").ok()?;
        (answer["results"][0]["values"] == *expected).then_some(())
    });
}

/// What `POST /v1/transforms/tally/…` answers.
fn swap(host: &Host, how: &str, body: &str) -> Value {
    let (status, answer) = host.post(&format!("/v1/transforms/tally/{how}"), body).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Sends an event; its entry id once its features are there.
fn count(host: &Host, id: &str, amount: f64, expected: &Value) -> String {
    let (status, answer) = host.post("/v1/streams/events/events", &json!({"id": id, "amount": amount}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    wait_for(&format!("the features {expected} of {id}"), || {
        let (_, answer) = host.get(&format!("/v1/features/tally?id={id}&features=seen,total")).ok()?;
        (answer["results"][0]["values"] == *expected).then_some(())
    });
    answer["ids"][0].as_str().unwrap().to_owned()
}

#[test]
fn a_fold_goes_back_to_the_states_that_a_newer_version_has_replaced() {
    let server = RedisServer::start();
    for store in ["type = \"embedded\"".to_owned(), "type = \"memory\"".to_owned(), redis_store(&server)] {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n");
        let mut host = Host::start(folder.path(), &config).unwrap();
        assert_eq!(push(&host, "conformance-tally").0, 200);
        count(&host, "quiet", 5.0, &json!([1, 5.0]));
        count(&host, "a", 2.0, &json!([1, 2.0]));
        let last = count(&host, "a", 4.0, &json!([2, 6.0]));
        assert_eq!(push(&host, "conformance-tally-2").0, 200);
        count(&host, "a", 1.0, &json!([3, 7.0]));
        count(&host, "quiet", 1.0, &json!([2, 6.0]));
        let newest = count(&host, "new", 3.0, &json!([1, 3.0]));

        let back = swap(&host, "roll-back", "");
        let unseen =
            |after: &str, up_to: Value| json!({"stream": "events", "group": "gristmill", "partition": 0, "after": after, "up_to": up_to});
        assert_eq!((&back["number"], &back["unseen"]), (&json!(1), &json!([unseen(&last, Value::Null)])), "{back}");
        count(&host, "a", 10.0, &json!([3, 16.0]));
        count(&host, "new", 5.0, &json!([1, 5.0]));
        let shown = host.get("/v1/transforms/tally/versions").unwrap().1;
        let cut = shown["cuts"][0]["cuts"].as_array().unwrap().last().unwrap();
        assert_eq!((&cut["to"]["number"], &cut["unseen"]), (&json!(1), &unseen(&last, json!(newest))), "{shown}");
        if !store.contains("memory") {
            host.kill();
            host = Host::start(folder.path(), &config).unwrap();
            assert_eq!(host.get("/v1/transforms/tally").unwrap().1["number"], 1);
        }
        // One that the newer version has changed and that is heard of now for the first time since.
        count(&host, "quiet", 7.0, &json!([2, 12.0]));
        count(&host, "a", 4.0, &json!([4, 20.0]));

        let again = swap(&host, "activate", r#"{"version": 2}"#);
        assert_eq!(again["unseen"], Value::Null, "it takes over what the older version has counted: {again}");
        count(&host, "a", 1.0, &json!([5, 21.0]));
        assert_eq!(host.get("/v1/states/tally?id=a").unwrap().1["state"]["version"], "2.0.0");
        swap(&host, "roll-back", "");
        count(&host, "a", 2.0, &json!([5, 22.0]));
        count(&host, "quiet", 1.0, &json!([3, 13.0]));
        assert_eq!(host.metric("gristmill_dead_letters_kept"), 0.0);
        host.stop();
    }
}

#[test]
fn a_new_version_takes_over_the_states_of_the_one_before_and_the_old_one_is_refused() {
    let server = RedisServer::start();
    for store in ["type = \"embedded\"".to_owned(), "type = \"memory\"".to_owned(), redis_store(&server)] {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n");
        let host = Host::start(folder.path(), &config).unwrap();
        assert_eq!(push(&host, "conformance-tally").0, 200);
        send(&host, 2.0);
        send(&host, 4.0);
        wait_for_features(&host, &json!([2, 6.0]));
        assert_eq!(push(&host, "conformance-tally-2").0, 200);
        send(&host, 1.0);
        wait_for_features(&host, &json!([3, 7.0, 3.0]));
        let (status, said) = push(&host, "conformance-tally");
        assert!(status == 409 && said.contains("feature `largest`, float, is gone"), "{status} {said}");
        send(&host, 9.0);
        wait_for_features(&host, &json!([4, 16.0, 9.0]));
        let state = host.get("/v1/states/tally?id=a").unwrap().1;
        assert_eq!(state["state"]["text"], "{\"count\":4,\"sum\":16.0,\"largest\":9.0}");
        assert_eq!(state["state"]["version"], "2.0.0");
        host.stop();
    }
}

#[test]
fn a_version_that_cannot_take_over_what_is_stored_is_refused_and_the_old_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let guest = |version: &str| {
        let column = Column { values: Values::Integers(vec![14]), validity: None };
        let answer = Output { batch: Batch { rows: 1, columns: vec![column.into()] }, origins: None, rejected: vec![] };
        let mut guest = Guest::answering(spec(&[("double", Kind::Integer, false)]), answer);
        let mut state = Packed::default();
        state.push(b"four");
        guest.states = Some(Column { values: Values::Blobs(state), validity: None });
        guest.spec.version = version.into();
        guest.component().unwrap()
    };
    let answer = host.send("PUT", "/v1/transforms/tally?stream=events", Some(&guest("1.0.0"))).unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    host.post("/v1/streams/events/events", &json!({"key": 7}).to_string()).unwrap();
    wait_for("a state", || (!host.get("/v1/states/tally?key=7").ok()?.1["state"].is_null()).then_some(()));
    let answer = host.send("PUT", "/v1/transforms/tally?stream=events", Some(&guest("2.0.0"))).unwrap();
    let said = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == 422 && said.contains("exports no migration"), "{said}");
    assert_eq!(host.get("/v1/transforms/tally").unwrap().1["spec"]["version"], "1.0.0");
    host.stop();
}

/// A fold whose numbers say that its states are those of before, and that fails on every one that is not empty.
fn broken_by_states(version: &str, is_broken: bool) -> Vec<u8> {
    let column = Column { values: Values::Integers(vec![14]), validity: None };
    let answer = Output { batch: Batch { rows: 1, columns: vec![column.into()] }, origins: None, rejected: vec![] };
    let mut guest = Guest::answering(spec(&[("double", Kind::Integer, false)]), answer);
    let mut state = Packed::default();
    state.push(b"four");
    guest.states = Some(Column { values: Values::Blobs(state), validity: None });
    guest.spec.version = version.into();
    if is_broken {
        // The ninth number that crosses is how many bytes all states have.
        guest.apply = format!("(if (i32.ne (local.get 9) (i32.const 0)) (then unreachable)) {}", guest.apply);
    }
    guest.component().unwrap()
}

#[test]
fn a_version_that_fails_on_stored_states_is_refused_whatever_its_number_says() {
    for stream in ["", "partitions = 4\npartition_by = [\"key\"]\n"] {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(folder.path(), &format!("[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n{stream}")).unwrap();
        let put = |component: &[u8], more: &str| {
            let answer = host.send("PUT", &format!("/v1/transforms/tally?stream=events{more}"), Some(component)).unwrap();
            (answer.status, String::from_utf8(answer.body).unwrap())
        };
        let settled =
            |many: f64| wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == many).then_some(()));
        assert_eq!(put(&broken_by_states("1.0.0", false), "").0, 200);
        // Nothing is stored yet that it could fail on.
        let (status, said) = put(&broken_by_states("1.0.1", true), "");
        assert_eq!(status, 200, "{said}");
        assert_eq!(put(&broken_by_states("1.0.2", false), "").0, 200);
        for key in 1..=3 {
            host.post("/v1/streams/events/events", &json!({"key": key}).to_string()).unwrap();
            settled(f64::from(key));
        }
        let (status, said) = put(&broken_by_states("1.1.0", true), "");
        assert_eq!(status, 409, "{said}");
        assert!(
            said.contains("on 3 of the newest 3 events of stream `events`") && said.contains("trap") && said.contains("migration"),
            "{said}"
        );
        assert_eq!(host.get("/v1/transforms/tally").unwrap().1["spec"]["version"], "1.0.2");
        host.post("/v1/streams/events/events", &json!({"key": 1}).to_string()).unwrap();
        settled(4.0);
        assert_eq!(dead_letters(&host), Vec::<Value>::new());
        // One that can use them is welcome, and so is the other where it is asked for.
        assert_eq!(put(&broken_by_states("1.2.0", false), "").0, 200);
        let (status, said) = put(&broken_by_states("1.3.0", true), "&force=true");
        assert_eq!(status, 200, "{said}");
        host.stop();
    }
}

/// The entities whose states it fails on are not among those of the newest events.
#[test]
fn a_version_that_fails_on_states_of_long_ago_is_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n").unwrap();
    let (status, said) = push(&host, "conformance-tally");
    assert_eq!(status, 200, "{said}");
    let old: Vec<Value> = (0..3).map(|number| json!({"id": format!("aged{number}"), "amount": 1})).collect();
    let new: Vec<Value> = (0..1_000).map(|number| json!({"id": format!("new{number}"), "action": "reset"})).collect();
    for events in [&old, &new] {
        assert_eq!(host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap().0, 200);
    }
    wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == 1_003.0).then_some(()));
    let columns = [Values::Integers(vec![1]), Values::Floats(vec![1.0])].map(|values| Column { values, validity: None }.into());
    let answer = Output { batch: Batch { rows: 1, columns: columns.into() }, origins: None, rejected: vec![] };
    let mut guest = Guest::answering(spec(&[("seen", Kind::Integer, false), ("total", Kind::Float, false)]), answer);
    let (mut states, id) = (Packed::default(), gristmill::conformance::guest::field("id", Kind::Text, false));
    states.push(b"one");
    guest.states = Some(Column { values: Values::Blobs(states), validity: None });
    (guest.spec.version, guest.spec.entity, guest.spec.inputs) = ("1.1.0".into(), vec!["id".into()], vec![id]);
    guest.apply = format!("(if (i32.ne (local.get 9) (i32.const 0)) (then unreachable)) {}", guest.apply);
    let answer = host.send("PUT", "/v1/transforms/tally?stream=events", Some(&guest.component().unwrap())).unwrap();
    let said = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 409, "{said}");
    assert!(said.contains("on 3 of the newest 1000 events of stream `events`") && said.contains("trap"), "{said}");
    assert_eq!(dead_letters(&host), Vec::<Value>::new());
    host.stop();
}

#[test]
fn hosts_that_compete_are_given_no_states_and_no_windows() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let stream = format!("type = \"redis_streams\"\nurl = \"{}\"\nconsumers = \"competing\"", server.url());
    let config = format!("[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{}\n\n[streams.events]\n{stream}\n", redis_store(&server));
    let host = Host::start(folder.path(), &config).unwrap();
    let (status, said) = push(&host, "conformance-tally");
    assert!(status == 422 && said.contains("the hosts of stream `events` compete for its entries"), "{said}");
    let path = "/v1/transforms/tutorial?stream=events&history_secs=60";
    let answer = host.send("PUT", path, Some(&component("tutorial"))).unwrap();
    assert_eq!(answer.status, 422);
    host.stop();
}

/// Features of one view for these entities, and nothing else of the answer.
fn values(host: &Host, view: &str, features: &[&str], entities: &Value) -> Vec<Value> {
    let features: Vec<String> = features.iter().map(|feature| format!("{view}:{feature}")).collect();
    let (status, answer) = host.post("/v1/features", &json!({"features": features, "entities": entities}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["results"].as_array().unwrap().iter().map(|result| result["values"].clone()).collect()
}

fn dead_letters(host: &Host) -> Vec<Value> {
    let (_, letters) = host.get("/v1/dead-letters?limit=1000").unwrap();
    letters["dead_letters"].as_array().unwrap().clone()
}

/// A fold takes late events, and its windows do not: then they are dead letters of the view, and count in neither, however often they are replayed.
#[test]
fn what_the_windows_do_not_take_is_not_in_the_state_either_however_often_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sessions.wasm"), component("sessions")).unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\n\n[transforms.sessions]\ncomponent = \"sessions.wasm\"\n\
                  aggregations = [{ feature = \"n_1m\", column = \"events\", function = \"count\", window_ms = 60000 }]\n";
    let host = Host::start(folder.path(), config).unwrap();
    // One session of ann: every fourth event is too late for the window of a minute. Others of the same batch are not.
    let mut events: Vec<Value> = (0..40)
        .map(|minute| {
            let minute = if minute % 4 == 3 { minute - 3 } else { minute };
            json!({"customer": "ann", "at": format!("2026-03-01T10:{minute:02}:30Z"), "paid": 1})
        })
        .collect();
    events.extend((0..5).map(|_| json!({"customer": "bob", "at": "2026-03-01T10:00:00Z", "paid": 2})));
    assert_eq!(host.post("/v1/streams/visits/events", &json!(events).to_string()).unwrap().0, 200);
    wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == 45.0).then_some(()));
    let check = || {
        let letters = dead_letters(&host);
        assert_eq!(letters.len(), 10, "{letters:?}");
        assert!(letters.iter().all(|letter| letter["reason"] == "too_late"), "{letters:?}");
        let state = |customer: &str| -> Value {
            let shown = host.get(&format!("/v1/states/sessions?customer={customer}")).unwrap().1;
            serde_json::from_str(shown["state"]["text"].as_str().unwrap()).unwrap()
        };
        assert_eq!((&state("ann")["events"], &state("ann")["spent"]), (&json!(30), &json!(30.0)));
        assert_eq!((&state("bob")["events"], &state("bob")["spent"]), (&json!(5), &json!(10.0)));
        let found = values(&host, "sessions", &["events", "spent"], &json!([{"customer": "ann"}, {"customer": "bob"}]));
        assert_eq!(found, [json!([30, 30.0]), json!([5, 10.0])]);
    };
    check();
    for _ in 0..2 {
        let (status, answer) = host.post("/v1/dead-letters/replay", r#"{"transform": "sessions"}"#).unwrap();
        assert_eq!((status, &answer["replayed"], &answer["settled"]), (200, &json!(10), &json!(0)), "{answer}");
        check();
    }
    host.stop();
}

/// Of an entity that reaches its bound, only the events that have no room are given up, and not those that came in the same batch.
#[test]
fn an_event_that_is_too_large_for_its_entity_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("reference.wasm"), component("conformance-reference")).unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n\n[transforms.reference]\nstream = \"events\"\ncomponent = \"reference.wasm\"\nhistory_secs = 3600\n\
                  aggregations = [{ feature = \"n\", column = \"text\", function = \"count\" }, { feature = \"last\", column = \"text\", function = { last_values = 5 } },\n\
                  { feature = \"different\", column = \"text\", function = { top = 9 }, window_ms = 86400000 }]\n";
    let host = Host::start(folder.path(), config).unwrap();
    let event = |id: &str, text: String| json!({"id": id, "text": text, "whole": 1});
    // Each large one is kept twice: among the last and among the most frequent. So there is room for one, and a history would need more.
    let large = |letter: &str| letter.repeat(500_000);
    let events = [
        event("a", "one".into()),
        event("b", "one".into()),
        event("a", large("x")),
        event("a", "two".into()),
        event("a", large("y")),
        event("b", "two".into()),
        event("a", "three".into()),
        event("a", large("z")),
        event("a", "four".into()),
    ];
    assert_eq!(host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap().0, 200);
    wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == 9.0).then_some(()));
    let letters = dead_letters(&host);
    let too_large = letters.len();
    assert!(too_large > 0 && letters.iter().all(|letter| letter["reason"] == "too_large"), "{:.2000}", json!(letters).to_string());
    let found = values(&host, "reference", &["n"], &json!([{"id": "a"}, {"id": "b"}]));
    assert_eq!(found, [json!([7 - too_large]), json!([2])]);
    let last = &values(&host, "reference", &["last"], &json!([{"id": "a"}]))[0][0];
    let short: Vec<&str> = last.as_array().unwrap().iter().filter_map(Value::as_str).filter(|text| text.len() < 100).collect();
    assert_eq!(short, ["<four>", "<three>", "<two>"], "the large one that had room is among the last five");
    // Replayed, they are as large as before, and nothing counts twice.
    let (_, answer) = host.post("/v1/dead-letters/replay", r#"{"transform": "reference"}"#).unwrap();
    assert_eq!(answer["settled"], 0, "{answer}");
    assert_eq!(values(&host, "reference", &["n"], &json!([{"id": "a"}, {"id": "b"}])), found);
    host.stop();
}

/// The time that a key of a Redis store has left, in milliseconds; negative for ever.
fn time_left(server: &RedisServer, key: &str) -> i64 {
    server.run(&["PTTL", key])
}

#[test]
fn a_state_expires_with_its_entity_windows_included() {
    let server = RedisServer::start();
    let aggregations = |window: &str| format!("aggregations = [{{ feature = \"n\", column = \"seen\", function = \"count\"{window} }}]");
    for (kept, expected) in [
        (String::new(), Some(20_000)),
        // Where the past is answered for, two seconds more: clocks may be so far apart.
        ("history_secs = 100".into(), Some(122_000)),
        // A window of an hour and its tile of a minute.
        (aggregations(", window_ms = 3600000"), Some(3_660_000)),
        (aggregations(""), None),
    ] {
        let (folder, prefix) = (tempfile::tempdir().unwrap(), format!("p{}", kept.len()));
        std::fs::write(folder.path().join("tally.wasm"), component("conformance-tally")).unwrap();
        let config = format!(
            "[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{}\nprefix = \"{prefix}\"\n\n[streams.events]\n\n[transforms.tally]\nstream = \"events\"\n\
             component = \"tally.wasm\"\nmax_age_secs = 10\n{kept}\n",
            redis_store(&server)
        );
        let host = Host::start(folder.path(), &config).unwrap();
        send(&host, 1.0);
        wait_for("the event to be settled", || (host.metric("gristmill_entries_settled_total") == 1.0).then_some(()));
        let keys: Vec<String> = server.run(&["KEYS", &format!("{prefix}*tally:a")]);
        assert_eq!(keys.len(), 2, "a row and a state: {keys:?}");
        let left: Vec<i64> = keys.iter().map(|key| time_left(&server, key)).collect();
        match expected {
            None => assert_eq!(left, [-1, -1], "{kept}"),
            Some(ms) => assert!(left.iter().all(|left| (ms - 10_000..=ms).contains(left)), "{kept}: {keys:?} have {left:?}"),
        }
        host.stop();
    }
}

#[test]
fn the_command_line_shows_a_state_as_http_does() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    assert_eq!(push(&host, "conformance-tally").0, 200);
    send(&host, 2.5);
    wait_for_features(&host, &json!([1, 2.5]));
    let gristmill = |arguments: &[&str]| {
        let output = std::process::Command::new(gristmill_tests::host::binary())
            .args(arguments)
            .args(["--host", host.url()])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (is_well, shown) = gristmill(&["state", "tally", "id=a", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(is_well);
    assert_eq!(shown, host.get("/v1/states/tally?id=a").unwrap().1);
    assert_eq!(shown["state"]["text"], "{\"seen\":1,\"total\":2.5}");
    let (is_well, shown) = gristmill(&["state", "tally", "id=a"]);
    assert!(is_well && shown.contains("{\"seen\":1,\"total\":2.5}"), "{shown}");
    let (is_well, shown) = gristmill(&["state", "tally", "id=nobody"]);
    assert!(!is_well && shown.contains("the entity has no state"), "{shown}");
    // A view that is no fold says so, and one with windows or history what they take.
    for (name, options) in [("plain", ""), ("kept", "&history_secs=3600")] {
        let answer = host.send("PUT", &format!("/v1/transforms/{name}?stream=mystream{options}"), Some(&component("tutorial"))).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(
        host.post("/v1/streams/mystream/events", &json!([{"id": "a", "value": 1}, {"id": "a", "value": 2}]).to_string()).unwrap().0,
        200
    );
    wait_for("the events to be served", || {
        (host.get("/v1/features/kept?id=a").ok()?.1["results"][0]["statuses"][0] == "present").then_some(())
    });
    let plain = host.get("/v1/states/plain?id=a").unwrap().1;
    assert_eq!([&plain["fold"], &plain["state"], &plain["kept"]], [&json!(false), &Value::Null, &Value::Null]);
    let (is_well, shown) = gristmill(&["state", "plain", "id=a"]);
    assert!(!is_well && shown.contains("the view is no fold"), "{shown}");
    let kept = host.get("/v1/states/kept?id=a").unwrap().1["kept"].clone();
    let newest = host.get("/v1/features/kept?id=a").unwrap().1["results"][0]["event_times"][0].clone();
    assert_eq!(kept["newest_event_time"], newest);
    let moment = |text: &Value| gristmill::model::Timestamp::parse(text.as_str().unwrap()).unwrap().0;
    assert_eq!(moment(&kept["newest_event_time"]) - moment(&kept["kept_from"]), 3_600_000_000, "{kept}");
    assert!(kept["bytes"].as_u64().unwrap() > 100, "{kept}");
    let (is_well, shown) = gristmill(&["state", "kept", "id=a"]);
    assert!(is_well && shown.contains(&format!("{} bytes are kept", kept["bytes"])), "{shown}");
    host.stop();
}

/// What a guest keeps is bytes, and is not to drive a terminal.
#[test]
fn a_state_is_shown_without_what_drives_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n").unwrap();
    let column = Column { values: Values::Integers(vec![14]), validity: None };
    let answer = Output { batch: Batch { rows: 1, columns: vec![column.into()] }, origins: None, rejected: vec![] };
    let mut guest = Guest::answering(spec(&[("double", Kind::Integer, false)]), answer);
    let mut state = Packed::default();
    state.push(b"red \x1b[31m\nnext");
    guest.states = Some(Column { values: Values::Blobs(state), validity: None });
    assert_eq!(host.send("PUT", "/v1/transforms/red", Some(&guest.component().unwrap())).unwrap().status, 200);
    host.post("/v1/streams/events/events", &json!({"key": 7}).to_string()).unwrap();
    wait_for("a state", || (!host.get("/v1/states/red?key=7").ok()?.1["state"].is_null()).then_some(()));
    let mut command = std::process::Command::new(gristmill_tests::host::binary());
    let output = command.args(["state", "red", "key=7", "--host", host.url()]).stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "red \\u{1b}[31m\\nnext\n");
    host.stop();
}

/// Another version with more windows, and then the same one with more and with less history again and again, while events keep coming: states and windows that stay count each event once.
#[test]
fn a_fold_that_is_swapped_while_events_flow_counts_every_event_once() {
    const SENT: usize = 12_000;
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    for store in ["type = \"embedded\"".to_owned(), redis_store(&server)] {
        let config = format!(
            "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"{}\"\n\n[store]\n{store}\n\n[streams.events]\nbatch_events_max = 16\n",
            store.len()
        );
        let host = Host::start(folder.path(), &config).unwrap();
        let put = |name: &str, more: &[(&str, u64)], history_secs: u64| {
            let window =
                |feature: &str, ms: Option<u64>| json!({"feature": feature, "column": "seen", "function": "count", "window_ms": ms});
            let mut all = vec![window("n", None), window("n_1d", Some(86_400_000))];
            all.extend(more.iter().map(|(feature, ms)| window(feature, Some(*ms))));
            let aggregations: String = json!(all).to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
            let path = format!("/v1/transforms/tally?stream=events&history_secs={history_secs}&aggregations={aggregations}");
            let answer = host.send("PUT", &path, Some(&component(name))).unwrap();
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        };
        put("conformance-tally", &[], 60);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for chunk in 0..SENT / 40 {
                    let events: Vec<Value> =
                        (0..40).map(|index| json!({"id": format!("e{}", (chunk * 7 + index) % 30), "amount": 1})).collect();
                    assert_eq!(host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap().0, 200);
                }
            });
            let settled = || host.metric("gristmill_entries_settled_total");
            wait_for("some events to be applied", || (settled() > 500.0).then_some(()));
            let mut swaps = 0;
            while !sender.is_finished() || swaps < 10 {
                put("conformance-tally-2", &[("n_1h", 3_600_000), ("n_7d", 604_800_000)], [1, 600][swaps % 2]);
                swaps += 1;
            }
            sender.join().unwrap();
        });
        wait_for("everything to be settled", || (host.metric("gristmill_entries_settled_total") == SENT as f64).then_some(()));
        let entities: Vec<Value> = (0..30).map(|entity| json!({"id": format!("e{entity}")})).collect();
        let of = |entity: usize| {
            (0..SENT / 40).flat_map(|chunk| (0..40).map(move |index| (chunk * 7 + index) % 30)).filter(|id| *id == entity).count()
        };
        let found = values(&host, "tally", &["seen", "total", "n", "n_1d"], &json!(entities));
        for (entity, found) in found.iter().enumerate() {
            let many = of(entity);
            assert_eq!(found, &json!([many, many as f64, many, many]), "e{entity}, {store}");
        }
        host.stop();
    }
}

/// Two hosts with streams of their own and one store, in which they keep the same view: none undoes what the other has counted.
#[test]
fn two_hosts_that_write_one_view_from_two_streams_count_every_event() {
    let server = RedisServer::start();
    let start = |stream: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tally.wasm"), component("conformance-tally")).unwrap();
        let config = format!(
            "[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{}\n\n[streams.{stream}]\nbatch_events_max = 8\n\n[transforms.tally]\nstream = \"{stream}\"\n\
             component = \"tally.wasm\"\naggregations = [{{ feature = \"n\", column = \"seen\", function = \"count\" }}]\n",
            redis_store(&server)
        );
        (Host::start(folder.path(), &config).unwrap(), folder)
    };
    let hosts = [("left", start("left")), ("right", start("right"))];
    std::thread::scope(|scope| {
        for (stream, (host, _)) in &hosts {
            scope.spawn(move || {
                for chunk in 0..40 {
                    let events: Vec<Value> = (0..8).map(|index| json!({"id": format!("e{}", (chunk + index) % 10), "amount": 1})).collect();
                    assert_eq!(host.post(&format!("/v1/streams/{stream}/events"), &json!(events).to_string()).unwrap().0, 200);
                }
            });
        }
    });
    for (_, (host, _)) in &hosts {
        wait_for("everything to be settled", || (host.metric("gristmill_entries_settled_total") == 320.0).then_some(()));
    }
    let entities: Vec<Value> = (0..10).map(|entity| json!({"id": format!("e{entity}")})).collect();
    let found = values(&hosts[0].1.0, "tally", &["n"], &json!(entities));
    assert_eq!(found, vec![json!([64]); 10]);
    for (entity, _) in found.iter().enumerate() {
        let shown = hosts[1].1.0.get(&format!("/v1/states/tally?id=e{entity}")).unwrap().1;
        assert_eq!(shown["state"]["text"], "{\"seen\":64,\"total\":64.0}");
    }
    hosts.into_iter().for_each(|(_, (host, _))| host.stop());
}

/// A host with one of the examples' folds over a stream of its own, with a day of history and a window, or with nothing but rows.
fn with_fold(folder: &Path, name: &str, kept: &str) -> Host {
    std::fs::write(folder.join("fold.wasm"), component(name)).unwrap();
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n\n[transforms.fold]\nstream = \"events\"\ncomponent = \"fold.wasm\"\n{kept}\n"
    );
    Host::start(folder, &config).unwrap()
}

/// Sends events in batches of so many, each settled before the next. Returns the id of the last entry.
fn send_in_batches(host: &Host, events: &[Value], many: usize) -> String {
    let (mut sent, mut last) = (host.metric("gristmill_entries_settled_total"), String::new());
    for events in events.chunks(many) {
        let (status, answer) = host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap();
        assert_eq!(status, 200, "{answer}");
        last = answer["ids"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
        sent += events.len() as f64;
        wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") == sent).then_some(()));
    }
    last
}

/// One entity's answer, as of a moment or now.
fn features_of(host: &Host, key: &str, features: &str, as_of: Option<&str>) -> Value {
    let as_of = as_of.map_or_else(String::new, |moment| format!("&as_of={moment}"));
    let (status, answer) = host.get(&format!("/v1/features/fold?{key}&features={features}&provenance=true{as_of}")).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["results"][0].clone()
}

const FOR_A_DAY: &str =
    "history_secs = 86400\naggregations = [{ feature = \"n_1h\", column = \"COLUMN\", function = \"count\", window_ms = 3600000 }]";

#[test]
fn a_late_event_renews_a_folds_newest_row_and_no_row_of_the_past() {
    let event = |minute: u32, paid: u32| json!({"customer": "ann", "at": format!("2026-03-01T10:{minute:02}:00Z"), "paid": paid});
    let events = [event(0, 1), event(20, 2), event(5, 100)];
    for (batch, kept) in [(1, FOR_A_DAY), (3, FOR_A_DAY), (2, FOR_A_DAY), (1, ""), (3, "")] {
        let folder = tempfile::tempdir().unwrap();
        let host = with_fold(folder.path(), "sessions", &kept.replace("COLUMN", "events"));
        let last = send_in_batches(&host, &events, batch);
        let live = features_of(&host, "customer=ann", "minutes,events,spent", None);
        assert_eq!(live["values"], json!([20.0, 3, 103.0]), "batches of {batch}, {kept:?}");
        let shown = host.get("/v1/states/fold?customer=ann").unwrap().1;
        let state: Value = serde_json::from_str(shown["state"]["text"].as_str().unwrap()).unwrap();
        assert_eq!((&state["events"], &state["spent"]), (&json!(3), &json!(103.0)));
        // The row is of the newest event in it, and names the entry that made it.
        let provenance = live["provenance"].to_string();
        assert!(provenance.contains(&last) && provenance.contains("10:20:00"), "{last}: {live}");
        if kept.is_empty() {
            host.stop();
            continue;
        }
        let as_of = |minute: &str| {
            features_of(&host, "customer=ann", "events,spent,n_1h", Some(&format!("2026-03-01T10:{minute}Z")))["values"].clone()
        };
        // Windows count each event at its own time; rows have nothing in them that came after.
        assert_eq!(as_of("00:00"), json!([1, 1.0, 1]), "batches of {batch}");
        assert_eq!(as_of("10:00"), json!([1, 1.0, 2]));
        assert_eq!(as_of("19:59"), json!([1, 1.0, 2]));
        assert_eq!(as_of("20:00"), json!([3, 103.0, 3]));
        host.stop();
    }
}

#[test]
fn a_late_sale_of_a_business_day_is_in_no_row_of_before_it_was_known() {
    let event = |at: &str, amount: u32| json!({"shop": "s1", "at": at, "amount": amount});
    let events = [
        event("2026-03-01T12:00:00Z", 1),
        event("2026-03-02T12:00:00Z", 10),
        // Of the day before: it counts there, and only the newest row knows.
        event("2026-03-01T13:00:00Z", 100),
    ];
    let folder = tempfile::tempdir().unwrap();
    let host = with_fold(folder.path(), "business-days", "history_secs = 864000");
    send_in_batches(&host, &events, 1);
    let values = |as_of: Option<&str>| features_of(&host, "shop=s1", "sales,total,total_before", as_of)["values"].clone();
    assert_eq!(values(None), json!([1, 10.0, 101.0]));
    assert_eq!(values(Some("2026-03-02T12:00:00Z")), json!([1, 10.0, 101.0]));
    assert_eq!(values(Some("2026-03-02T11:59:59Z")), json!([1, 1.0, 0.0]));
    host.stop();
}

/// Sessions as plainly as can be: what each event of a customer leaves, none where it is refused.
fn sessions(events: &[(i64, i64)]) -> Vec<Option<[i64; 3]>> {
    let (mut number, mut first, mut last, mut many, mut spent) = (0, 0, 0, 0, 0);
    let step = |(at, paid): &(i64, i64)| {
        if number > 0 && *at < first - 30 {
            return None;
        }
        if number == 0 || *at > last + 30 {
            (number, first, last, many, spent) = (number + 1, *at, *at, 0, 0);
        }
        (first, last, many, spent) = (first.min(*at), last.max(*at), many + 1, spent + paid);
        Some([number, many, spent])
    };
    events.iter().map(step).collect()
}

/// Random events in any order: as of a moment stands the row of the last event, in the order of coming, when nothing later had been seen.
#[test]
fn rows_of_a_fold_as_of_any_moment_are_what_the_oracle_says_whatever_comes_late() {
    let mut seeded = Seeded(31);
    for kept in [FOR_A_DAY, "history_secs = 86400"] {
        let folder = tempfile::tempdir().unwrap();
        let host = with_fold(folder.path(), "sessions", &kept.replace("COLUMN", "events"));
        for turn in 0..6 {
            let events: Vec<(i64, i64)> = (0..30).map(|_| (seeded.below(240) as i64, seeded.below(100) as i64)).collect();
            let moment = |minute: i64| format!("2026-03-01T{:02}:{:02}:00Z", 6 + minute / 60, minute % 60);
            let sent: Vec<Value> =
                events.iter().map(|(at, paid)| json!({"customer": format!("c{turn}"), "at": moment(*at), "paid": paid})).collect();
            send_in_batches(&host, &sent, 1 + seeded.below(12) as usize);
            let (mut newest, mut rows) = (i64::MIN, Vec::new());
            for ((at, _), row) in events.iter().zip(sessions(&events)) {
                if let Some(row) = row {
                    newest = newest.max(*at);
                    rows.push((newest, row));
                }
            }
            for minute in (0..240).step_by(7).chain([239]) {
                let expected = rows
                    .iter()
                    .rev()
                    .find(|(newest, _)| *newest <= minute)
                    .map(|(_, [number, many, spent])| json!([number, many, *spent as f64]));
                let found = features_of(&host, &format!("customer=c{turn}"), "session,events,spent", Some(&moment(minute)));
                assert_eq!(found["values"], expected.unwrap_or(json!([null, null, null])), "as of minute {minute}: {events:?}");
            }
            let (_, [number, many, spent]) = rows.last().unwrap();
            let live = features_of(&host, &format!("customer=c{turn}"), "session,events,spent", None);
            assert_eq!(live["values"], json!([number, many, *spent as f64]), "{events:?}");
        }
        host.stop();
    }
}

/// What is kept of an entity lasts as long as its newest event says, and not as the last batch does.
#[test]
fn a_state_lives_as_long_as_its_entitys_newest_event_says() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sessions.wasm"), component("sessions")).unwrap();
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{}\n\n[streams.events]\n\n[transforms.sessions]\nstream = \"events\"\ncomponent = \"sessions.wasm\"\n\
         max_age_secs = 100\nexpire_secs = 100\n",
        redis_store(&server)
    );
    let host = Host::start(folder.path(), &config).unwrap();
    let moment = |ahead: i64| gristmill::model::Timestamp(gristmill::model::Timestamp::now().0 + ahead * 1_000_000).to_string();
    let event = |ahead: i64| json!({"customer": "ann", "at": moment(ahead)});
    send_in_batches(&host, &[event(1_000), event(0)], 1);
    let keys: Vec<String> = server.run(&["KEYS", "*sessions:ann"]);
    assert_eq!(keys.len(), 2, "a row and a state: {keys:?}");
    let left: Vec<i64> = keys.iter().map(|key| time_left(&server, key)).collect();
    assert!(left.iter().all(|left| (1_000_000..=1_100_000).contains(left)), "{keys:?} have {left:?}");
    host.stop();
}

/// Puts the fold of an example, or another component, with these options; the answer.
fn put(host: &Host, component_name: &str, options: &str) -> (u16, Value) {
    let answer = host.send("PUT", &format!("/v1/transforms/fold?{options}"), Some(&component(component_name))).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// An event of the distant future would close its entity until then. It waits among the dead letters, and the present goes on.
#[test]
fn an_event_too_far_ahead_waits_until_its_time_has_come_where_anything_is_kept() {
    let moment = |ahead: i64| gristmill::model::Timestamp(gristmill::model::Timestamp::now().0 + ahead * 1_000_000).to_string();
    let event = |ahead: i64, paid: u32| json!({"customer": "ann", "at": moment(ahead), "paid": paid});
    for kept in [FOR_A_DAY, ""] {
        let folder = tempfile::tempdir().unwrap();
        let host = with_fold(folder.path(), "sessions", &kept.replace("COLUMN", "events"));
        let events: Vec<Value> = [event(0, 1), event(86_000, 2), event(90_000, 4), event(400 * 86_400, 8)].into();
        send_in_batches(&host, &events, 4);
        let letters = dead_letters(&host);
        assert_eq!(letters.len(), 2, "{letters:?}");
        assert!(letters.iter().all(|letter| letter["reason"] == "too_early"), "{letters:?}");
        assert!(letters[0]["message"].as_str().unwrap().contains("ahead_max_secs"), "{letters:?}");
        assert_eq!(features_of(&host, "customer=ann", "spent", None)["values"], json!([2.0]));
        // Nearer, as time would bring them.
        assert_eq!(put(&host, "sessions", "ahead_max_secs=172800").0, 200);
        let (_, answer) = host.post("/v1/dead-letters/replay", r#"{"transform": "fold"}"#).unwrap();
        assert_eq!((&answer["replayed"], &answer["settled"]), (&json!(2), &json!(1)), "{answer}");
        assert_eq!(features_of(&host, "customer=ann", "spent", None)["values"], json!([4.0]));
        host.stop();
    }
}

/// Rows alone are given way to in time: a view that keeps nothing else takes whatever time an event says.
#[test]
fn a_view_of_nothing_but_rows_takes_events_of_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let host = with_fold(folder.path(), "conformance-reference", "");
    let sent = json!([{"id": "a", "text": "t", "whole": 1, "at": "2126-01-01T00:00:00Z"}]);
    assert_eq!(host.post("/v1/streams/events/events", &sent.to_string()).unwrap().0, 200);
    wait_for("the event to be settled", || (host.metric("gristmill_entries_settled_total") == 1.0).then_some(()));
    assert!(dead_letters(&host).is_empty());
    host.stop();
}

/// What has room counts and what has none waits, whatever comes together; more room is a setting.
#[test]
fn an_entity_takes_as_much_as_is_set_and_what_it_has_no_room_for_counts_when_there_is_more() {
    let folder = tempfile::tempdir().unwrap();
    let host = with_fold(
        folder.path(),
        "sessions",
        "entity_bytes_max = 65536\nexact = true\naggregations = [{ feature = \"n\", column = \"events\", function = \"count\", window_ms = 315360000000 }]",
    );
    let event = |customer: &str, index: u32| json!({"customer": customer, "at": format!("2026-03-01T10:{:02}:{:02}Z", index / 60 % 60, index % 60), "paid": 1});
    let mut events: Vec<Value> = (0..3_500).map(|index| event("ann", index)).collect();
    events.push(event("bob", 3_500));
    send_in_batches(&host, &events, 1_167);
    let letters = dead_letters(&host);
    let all = host.metric("gristmill_dead_letters_kept");
    assert!((1_000.0..2_500.0).contains(&all), "{all} of 3,500 events of 33 bytes had no room");
    assert!(letters.iter().all(|letter| letter["reason"] == "too_large"), "{letters:?}");
    assert!(letters[0]["message"].as_str().unwrap().contains("entity_bytes_max"), "{letters:?}");
    let counted = 3_500.0 - all;
    assert_eq!(features_of(&host, "customer=ann", "n,spent", None)["values"], json!([counted as u64, counted]));
    assert_eq!(features_of(&host, "customer=bob", "n,spent", None)["values"], json!([1, 1.0]));
    assert_eq!(put(&host, "sessions", "entity_bytes_max=1000000").0, 200);
    let (_, answer) = host.post("/v1/dead-letters/replay", r#"{"transform": "fold"}"#).unwrap();
    assert_eq!(answer["settled"].as_f64(), Some(all), "{answer}");
    assert_eq!(features_of(&host, "customer=ann", "n", None)["values"], json!([3_500]));
    for (bytes, said) in [(65_535, "65536 to 16777216 are allowed"), (16_777_217, "65536 to 16777216 are allowed")] {
        let (status, answer) = put(&host, "sessions", &format!("entity_bytes_max={bytes}"));
        assert!(status == 422 && answer.to_string().contains(said), "{answer}");
    }
    host.stop();
}

#[test]
fn windows_that_may_come_to_more_than_is_kept_of_an_entity_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let host = with_fold(folder.path(), "conformance-reference", "");
    let aggregations = |function: &str, many: u64| {
        let one = |number: u64| {
            format!("{{\"feature\":\"f{number}\",\"column\":\"text\",\"function\":{function},\"window_ms\":{}}}", number * 3_600_000)
        };
        let all: Vec<String> = (1..=many).map(one).collect();
        format!("[{}]", all.join(","))
    };
    // Another version of the view each time: features do not become others.
    let mut number = 1;
    let mut put_with = |function: &str, many: u64, more: &str| {
        let text = aggregations(function, many).replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace(' ', "%20");
        number += 1;
        let path = format!("/v1/transforms/fold@v{number}?stream=events&aggregations={text}{more}");
        let answer = host.send("PUT", &path, Some(&component("conformance-reference"))).unwrap();
        let said = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{said}");
        serde_json::from_str::<Value>(&said).unwrap()["warnings"].clone()
    };
    assert_eq!(put_with("\"count\"", 20, ""), Value::Null);
    assert_eq!(put_with("{\"last_values\":1000}", 20, ""), Value::Null, "lists have no tiles");
    let warnings = put_with("\"distinct\"", 20, "");
    let warning = warnings[0].as_str().unwrap();
    for said in ["distinct of `text`", "2097152", "entity_bytes_max", "too_large"] {
        assert!(warning.contains(said), "{warning}");
    }
    let shown = host.get("/v1/transforms").unwrap().1;
    let all: Vec<&Value> =
        shown["transforms"].as_array().unwrap().iter().map(|one| &one["warnings"]).filter(|all| !all.is_null()).collect();
    assert_eq!(all, [&warnings], "{shown}");
    assert_eq!(put_with("\"distinct\"", 20, "&entity_bytes_max=4000000"), Value::Null);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("distinct of `text`"), "{log}");
    host.stop();
}
