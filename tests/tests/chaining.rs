//! Transforms that emit their rows to another stream: whatever is killed and whenever, each row goes on exactly once; and what cannot be is refused.

#[path = "chaining/partitions.rs"]
mod partitions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gristmill::conformance::guest::{Guest, field, spec};
use gristmill::data_folder::DataFolder;
use gristmill::model::{Batch, Column, Commit, EntryId, Kind, Packed, Values};
use gristmill::online_store::OnlineStore;
use gristmill::online_store::embedded::EmbeddedStore;
use gristmill::source::embedded::{Log, Retention};
use gristmill::source::{Appender, embedded};
use gristmill::transform::Output;
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, binary, wait_for};
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::store_conformance::{partition, single};
use serde_json::{Value, json};

/// Kills in one run.
const KILLS: u64 = 15;
const EVENTS: u64 = 12_000;
const ENTITIES: u64 = 200;

fn component(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(format!("target/components/{name}.wasm"))
}

/// The first fold counts the events of each entity and emits every count; the second is keyed by the count, and counts the entities that have come to it.
fn config(store: &str, events: &str, counts: &str) -> String {
    let tally = component("conformance-tally");
    let tally = tally.display();
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.events]\nbatch_events_max = 32\n{events}\n\n\
         [streams.counts]\nbatch_events_max = 32\n{counts}\n\n\
         [transforms.tally]\nstream = \"events\"\nemit = \"counts\"\ncomponent = \"{tally}\"\n\n\
         [transforms.by_count]\nstream = \"counts\"\ncomponent = \"{tally}\"\ninputs.id.from = \"seen\"\ninputs.amount.from = \"total\"\n\
         aggregations = [{{ feature = \"n\", column = \"seen\", function = \"count\" }}]\n"
    )
}

fn redis_store(server: &RedisServer) -> String {
    format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 2000", server.url())
}

fn redis_stream(server: &RedisServer, place: &str) -> String {
    format!("type = \"redis_streams\"\nurl = \"{}\"\nplace = \"{place}\"\nblock_ms = 100", server.url())
}

/// Events: one in thirty is refused, one in a hundred cannot be read.
fn events(seed: u64) -> Vec<Value> {
    let mut seeded = Seeded(seed);
    let event = |_| {
        let id = format!("e{}", seeded.below(ENTITIES));
        match seeded.below(300) {
            0..10 => json!({"id": id, "action": "reject"}),
            10..13 => json!({"id": id, "amount": "much"}),
            _ => json!({"id": id, "amount": seeded.below(1_000)}),
        }
    };
    (0..EVENTS).map(event).collect()
}

/// By the count: how many entities have come to it, and the sum of their totals then.
fn oracle(events: &[Value]) -> BTreeMap<u64, [u64; 2]> {
    let mut tallies: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let mut counts: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
    for event in events {
        let Some(amount) = event["amount"].as_u64() else { continue };
        let [seen, total] = tallies.entry(event["id"].as_str().unwrap()).or_default();
        (*seen, *total) = (*seen + 1, *total + amount);
        let [entities, sum] = counts.entry(*seen).or_default();
        (*entities, *sum) = (*entities + 1, *sum + *total);
    }
    counts
}

/// What the second fold has come to, by its state and by the host's own count of its rows.
fn served(host: &Host, expected: &BTreeMap<u64, [u64; 2]>) -> BTreeMap<u64, [u64; 2]> {
    let entities: Vec<Value> = expected.keys().map(|count| json!({"id": count.to_string()})).collect();
    let body = json!({"features": ["by_count:seen", "by_count:total", "by_count:n"], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return BTreeMap::new() };
    let result = |result: &Value| {
        let count = result["entity"]["id"].as_str()?.parse().ok()?;
        let values = result["values"].as_array()?;
        assert_eq!(values[0].as_u64().unwrap_or(0), values[2].as_u64()?, "the state and the window disagree: {result}");
        Some((count, [values[0].as_u64()?, values[1].as_f64()? as u64]))
    };
    answer["results"].as_array().unwrap().iter().filter_map(result).collect()
}

/// Kills the host again and again while it works, and at the end compares.
fn killed(folder: &Path, config: &str, seed: u64, events: &[Value]) {
    let expected = oracle(events);
    let mut seeded = Seeded(seed);
    for _ in 0..KILLS {
        let host = Host::start(folder, config).unwrap();
        let aim = (32 * (1 + seeded.below(24))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder, config).unwrap();
    assert_ne!(served(&host, &expected), expected, "the host was done before it was killed for the last time");
    let count = |all: &BTreeMap<u64, [u64; 2]>| all.values().map(|[entities, _]| entities).sum::<u64>();
    let mut seen = BTreeMap::new();
    wait_for("every row to be counted", || {
        seen = served(&host, &expected);
        (count(&seen) >= count(&expected)).then_some(())
    });
    assert_eq!(seen, expected);
    // Nothing comes after that which would count something twice.
    wait_for("everything to be settled", || {
        let left = host.metric("gristmill_pending_entries") + host.metric("gristmill_lag_entries");
        (left == 0.0).then_some(())
    });
    assert_eq!(served(&host, &expected), expected);
    let refused = events.iter().filter(|event| event["amount"].as_u64().is_none()).count();
    assert_eq!(host.metric("gristmill_dead_letters_kept"), refused as f64);
    host.stop();
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

#[test]
fn killed_with_everything_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let events = events(21);
    // All of them first, and nobody to read them: a request that a kill cuts off may have been carried out or not.
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.events]\n").unwrap();
    for chunk in events.chunks(2_000) {
        let (status, answer) = host.post("/v1/streams/events/events", &json!(chunk).to_string()).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    host.stop();
    killed(folder.path(), &config("type = \"embedded\"", "", ""), 21, &events);
}

fn killed_on_one_server(place: &str, seed: u64) {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let events = events(seed);
    add(&server, &events);
    let stream = redis_stream(&server, place);
    killed(folder.path(), &config(&redis_store(&server), &stream, &stream), seed, &events);
    let length: u64 = server.run(&["XLEN", "counts"]);
    assert_eq!(length, oracle(&events).values().map(|[entities, _]| entities).sum::<u64>(), "entries emitted");
}

#[test]
fn killed_on_one_server_acknowledging() {
    killed_on_one_server("acknowledge", 22);
}

#[test]
fn killed_on_one_server_by_checkpoint() {
    killed_on_one_server("checkpoint", 23);
}

/// Entries are acknowledged in a step of their own, and may come twice.
#[test]
fn killed_with_the_first_stream_elsewhere() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let events = events(24);
    add(&server, &events);
    killed(folder.path(), &config("type = \"embedded\"", &redis_stream(&server, "acknowledge"), ""), 24, &events);
    let (first, second, folder) = (RedisServer::start(), RedisServer::start(), tempfile::tempdir().unwrap());
    add(&first, &events);
    let [from, to] = [&first, &second].map(|server| redis_stream(server, "acknowledge"));
    killed(folder.path(), &config(&redis_store(&second), &from, &to), 25, &events);
    let length: u64 = second.run(&["XLEN", "counts"]);
    assert_eq!(length, oracle(&events).values().map(|[entities, _]| entities).sum::<u64>(), "entries emitted");
}

/// Rows of which the newest wins forgive an event that comes twice; what goes on does not.
#[test]
fn killed_with_rows_that_have_no_state() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let [tutorial, tally] = ["tutorial", "conformance-tally"].map(|name| component(name).display().to_string());
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\ntype = \"embedded\"\n\n[streams.events]\nbatch_events_max = 32\n{}\n\n\
         [transforms.tutorial]\nstream = \"events\"\nemit = \"features\"\ncomponent = \"{tutorial}\"\n\n\
         [transforms.tally]\nstream = \"features\"\ncomponent = \"{tally}\"\ninputs.amount.from = \"feature1\"\n",
        redis_stream(&server, "acknowledge")
    );
    let events: Vec<Value> = (0..EVENTS).map(|number| json!({"id": "a", "value": number})).collect();
    add(&server, &events);
    let served = |host: &Host| {
        let (_, answer) = host.get("/v1/features/tally?id=a").unwrap();
        let values = &answer["results"][0]["values"];
        (values[0].as_u64().unwrap_or(0), values[1].as_f64().unwrap_or(0.0) as u64)
    };
    let mut seeded = Seeded(26);
    for _ in 0..KILLS {
        let host = Host::start(folder.path(), &config).unwrap();
        let before = served(&host).0;
        let more = 32 * (1 + seeded.below(16));
        wait_for("some more events", || (served(&host).0 >= before + more).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    assert!(served(&host).0 < EVENTS, "the host was done before it was killed for the last time");
    wait_for("all events", || (served(&host).0 >= EVENTS).then_some(()));
    wait_for("everything to be settled", || {
        let left = host.metric("gristmill_pending_entries") + host.metric("gristmill_lag_entries");
        (left == 0.0).then_some(())
    });
    assert_eq!(served(&host), (EVENTS, EVENTS * (EVENTS - 1)));
    host.stop();
}

fn put(host: &Host, path: &str, component: &[u8]) -> (u16, String) {
    let answer = host.send("PUT", path, Some(component)).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[test]
fn what_is_given_up_goes_on_once_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.readings]\n").unwrap();
    let tutorial = std::fs::read(component("tutorial")).unwrap();
    let (status, said) = put(&host, "/v1/transforms/tutorial?stream=readings&emit=features", &tutorial);
    assert_eq!(status, 200, "{said}");
    host.post("/v1/streams/readings/events", r#"[{"id":"a","value":"one","better":1},{"id":"b","value":2,"better":2}]"#).unwrap();
    wait_for("both events", || (host.metric("gristmill_entries_settled_total") == 2.0).then_some(()));
    let emitted = || host.get("/v1/streams/features/events").unwrap().1["events"].as_array().unwrap().clone();
    let [only] = emitted().try_into().unwrap();
    assert_eq!((&only["event"]["id"], &only["event"]["feature1"], &only["event"]["feature2"]), (&json!("b"), &json!(4.0), &json!(12.0)));
    assert!(only["event"]["event_time"].as_str().is_some_and(|time| time.ends_with('Z')), "{only}");
    let (status, said) = put(&host, "/v1/transforms/tutorial?inputs=%7B%22value%22:%7B%22from%22:%22better%22%7D%7D", &tutorial);
    assert_eq!(status, 200, "{said}");
    for expected in [1, 0] {
        let (status, answer) = host.post("/v1/dead-letters/replay", "{}").unwrap();
        assert_eq!((status, answer["settled"].as_u64()), (200, Some(expected)), "{answer}");
    }
    let events = emitted();
    assert_eq!(events.iter().map(|event| event["event"]["id"].as_str().unwrap()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(host.metric("gristmill_rows_emitted_total"), 2.0);
    // An empty name ends it.
    assert_eq!(put(&host, "/v1/transforms/tutorial?emit=", &tutorial).0, 200);
    host.post("/v1/streams/readings/events", r#"{"id":"c","better":3}"#).unwrap();
    wait_for("the third event", || (host.metric("gristmill_entries_settled_total") == 3.0).then_some(()));
    assert_eq!(emitted().len(), 2);
    host.stop();
}

/// One output beside the key.
fn guest(output: &str, kind: Kind) -> Vec<u8> {
    let mut packed = Packed::default();
    packed.push(b"x");
    let values = if kind == Kind::Bytes { Values::Blobs(packed) } else { Values::Timestamps(vec![0]) };
    let answer =
        Output { batch: Batch { rows: 1, columns: vec![Column { values, validity: None }.into()] }, origins: None, rejected: vec![] };
    let mut guest = Guest::answering(spec(&[]), answer);
    guest.spec.outputs.push(field(output, kind, false));
    guest.component().unwrap()
}

#[test]
fn rows_that_could_not_go_on_in_the_same_step_are_refused() {
    let server = RedisServer::start();
    let other = server.url().replace("/0", "/1");
    let streams = format!(
        "[streams.near]\n{near}\n[streams.shared]\n{near}\nconsumers = \"competing\"\n[streams.far]\ntype = \"redis_streams\"\nurl = \"{other}\"\n",
        near = redis_stream(&server, "acknowledge").replace("block_ms = 100", "")
    );
    let tutorial = std::fs::read(component("tutorial")).unwrap();
    let refused = |store: &str, tries: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let streams = if store.contains("redis") { streams.clone() } else { streams.replace("consumers = \"competing\"", "") };
        let host = Host::start(folder.path(), &format!("[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{store}\n\n{streams}")).unwrap();
        for (query, reason) in tries {
            let (status, said) = put(&host, &format!("/v1/transforms/t?{query}"), &tutorial);
            assert!(status == 422 && said.contains(reason), "{store}: {query}: {status} {said}");
        }
        host.stop();
    };
    refused("type = \"memory\"", &[("emit=x", "the store is in memory")]);
    refused(
        "type = \"embedded\"",
        &[
            ("emit=near", "the store is embedded while stream `near` is in Redis"),
            ("emit=mystream", "in a circle: `mystream` → t → `mystream`"),
            ("emit=no%20name", "cannot name a stream"),
            ("emit=x&at=request", "`emit` says nothing for `at = \\\"request\\\"`"),
        ],
    );
    refused(
        &redis_store(&server),
        &[
            ("stream=near&emit=x", "the store is in Redis while stream `x` is embedded"),
            ("stream=near&emit=far", "both must be the same server and database"),
            ("stream=shared&emit=near", "the hosts of stream `shared` compete for its entries"),
        ],
    );
}

#[test]
fn circles_and_names_that_clash_are_refused_and_what_is_in_force_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let tutorial = std::fs::read(component("tutorial")).unwrap();
    for (name, query) in [("one", "stream=a&emit=b"), ("two", "stream=b&emit=c")] {
        let (status, said) = put(&host, &format!("/v1/transforms/{name}?{query}"), &tutorial);
        assert_eq!(status, 200, "{said}");
    }
    let refused = |path: &str, component: &[u8], reason: &str| {
        let (status, said) = put(&host, path, component);
        assert!(status == 422 && said.contains(reason), "{path}: {status} {said}");
    };
    refused("/v1/transforms/three?stream=c&emit=a", &tutorial, "in a circle");
    refused("/v1/transforms/one?stream=c", &tutorial, "in a circle");
    // A version that starts over emits nothing unless it is told to, and not where every row would stand twice.
    refused("/v1/transforms/one@v2?start=beginning&emit=b", &tutorial, "is a version of the same view and emits to `b` too");
    let (status, said) = put(&host, "/v1/transforms/one@v2?start=beginning", &tutorial);
    assert!(status == 200 && !said.contains("emit"), "{said}");
    assert_eq!(host.send("DELETE", "/v1/transforms/one@v2", None).unwrap().status, 204);
    refused("/v1/transforms/g?emit=d", &guest("key", Kind::Timestamp), "has the name of a join key");
    refused("/v1/transforms/g?emit=d", &guest("event_time", Kind::Timestamp), "where an emitted event has the time of its row");
    refused("/v1/transforms/g?emit=d", &guest("image", Kind::Bytes), "are JSON, which has none");
    assert_eq!(host.get("/v1/transforms/one").unwrap().1["stream"], "a");
    let host_id = std::fs::read_to_string(folder.path().join("gristmill-data/host_id")).unwrap();
    let whole = json!([{"partition": 0, "place": null, "lag_entries": 0, "pending_entries": 0, "held_by": host_id.trim(), "here": true}]);
    let group = json!([{"name": "gristmill", "state": "running", "lag_entries": 0, "pending_entries": 0, "partitions": whole}]);
    let expected = json!({"streams": [
        {"name": "a", "type": "embedded", "transforms": [{"name": "one", "emit": "b"}], "emitted_by": [], "groups": group},
        {"name": "b", "type": "embedded", "transforms": [{"name": "two", "emit": "c"}], "emitted_by": ["one"], "groups": group},
        {"name": "c", "type": "embedded", "transforms": [], "emitted_by": ["two"], "groups": []},
    ]});
    wait_for("the streams", || (host.get("/v1/streams").ok()?.1 == expected).then_some(()));
    let shown = Command::new(binary()).args(["streams", "--host", host.url()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("b ") && line.contains("two → c") && line.contains("one ")), "{shown}");
    host.stop();
}

#[test]
fn a_key_that_is_no_stream_is_waited_for_and_nothing_is_lost() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let _: String = server.run(&["SET", "counts", "something else"]);
    let stream = redis_stream(&server, "acknowledge");
    let host = Host::start(folder.path(), &config(&redis_store(&server), &stream, &stream)).unwrap();
    add(&server, &[json!({"id": "a", "amount": 1}), json!({"id": "a", "amount": 2})]);
    wait_for("the host to say what is wrong", || {
        let (status, answer) = host.get("/readyz").ok()?;
        (status == 503 && answer.to_string().contains("holds a string")).then_some(())
    });
    let _: i64 = server.run(&["DEL", "counts"]);
    wait_for("the events to go on", || (server.run::<u64>(&["XLEN", "counts"]) == 2).then_some(()));
    let expected = BTreeMap::from([(1, [1, 1]), (2, [1, 3])]);
    wait_for("the second fold", || (served(&host, &expected) == expected).then_some(()));
    host.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_sent_twice_or_too_late_emits_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(folder.path(), Default::default()).unwrap();
    let store = EmbeddedStore::open(&folder, Default::default()).unwrap();
    let log = Log::open(&folder, "to", Retention { entries_max: Some(3), ..Retention::default() }).unwrap();
    let reader = log.reader(None, embedded::Start::Oldest);
    let mut fenced = store.writer(&partition(0), &single()).await.unwrap();
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    let commit = |number: u64| {
        let mut commit = Commit { number, ..Commit::default() };
        commit.emits.to("to", None).push(EntryId::ZERO, [(&b"n"[..], number.to_string().as_bytes())]);
        commit
    };
    fenced.commit(&commit(1)).await.unwrap_err();
    for number in [1, 1, 2, 2] {
        writer.commit(&commit(number)).await.unwrap();
    }
    // Those that come by other ways stand in the same order, and the bound counts for all.
    log.append(&log.newest(1).await.unwrap()).await.unwrap();
    let read = gristmill::source::Source::read(&reader, 10).await.unwrap().entries;
    let numbers: Vec<_> = read.iter().map(|entry| entry.value(b"n").unwrap().to_vec()).collect();
    assert_eq!(numbers, [b"1", b"2", b"2"]);
    assert_eq!(read.ids().map(|id| id.seq).collect::<Vec<_>>(), [1, 2, 3]);
    writer.commit(&commit(3)).await.unwrap();
    assert_eq!(log.len(), 3);
    assert_eq!(log.last().unwrap().seq, 4);
    let mut elsewhere = Commit { number: 4, ..Commit::default() };
    elsewhere.emits.to("closed", None).push(EntryId::ZERO, [(&b"n"[..], &b"4"[..])]);
    let error = writer.commit(&elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("the log of stream `closed` is not open"), "{error}");
}
