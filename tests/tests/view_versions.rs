//! Versions of a view side by side, one that starts over and takes the name, and transforms that are paused: while events come, and over restarts.

use arrow_ipc::reader::StreamReader;
use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::Kind;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tempfile::TempDir;

const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A guest with the one output `name`, so many times the key.
fn times(name: &str, factor: u32) -> Vec<u8> {
    let mut guest = Guest::doubling();
    guest.spec = spec(&[(name, Kind::Integer, false)]);
    let apply = guest.apply.replace("(i64.const 2)", &format!("(i64.const {factor})"));
    assert!(apply != guest.apply || factor == 2);
    guest.apply = apply;
    guest.component().unwrap()
}

/// Windows over all that the guest ever gave, by which an event that is lost or counted twice shows.
const COUNTED: &str = "aggregations=[{\"feature\":\"n\",\"column\":\"value\",\"function\":\"count\"}]";

fn config(stream: &str, store: &str) -> String {
    format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n{store}\n[streams.events]\nbatch_events_max = 7\n{stream}\n")
}

/// The pairings that differ in how the place is kept.
fn pairings(server: &RedisServer) -> [(String, &'static str); 4] {
    let (url, other) = (server.url(), server.url().replace("/0", "/1"));
    let stream = |more: &str| format!("type = \"redis_streams\"\nurl = \"{url}\"\n{more}");
    let store = |url: &str| format!("[store]\ntype = \"redis\"\nurl = \"{url}\"\n");
    [
        (config("", ""), "everything embedded"),
        (config(&stream(""), &store(&url)), "one Redis"),
        (config(&stream("place = \"checkpoint\""), &store(&url)), "one Redis, by checkpoint"),
        (config(&stream(""), &store(&other)), "two Redis databases"),
    ]
}

fn put(host: &Host, name: &str, query: &str, component: &[u8]) -> Value {
    let query: String = query
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "=&_.".contains(c) { c.to_string() } else { format!("%{:02X}", c as u32) })
        .collect();
    let (status, answer) = host.put(&format!("/v1/transforms/{name}?{query}"), component).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

fn post(host: &Host, path: &str, body: &Value) -> (u16, Value) {
    host.post(path, &body.to_string()).unwrap()
}

fn send(host: &Host, keys: impl IntoIterator<Item = i64>) {
    let events: Vec<Value> = keys.into_iter().map(|key| json!({"key": key})).collect();
    let (status, answer) = post(host, "/v1/streams/events/events", &json!(events));
    assert_eq!(status, 200, "{answer}");
}

/// The value of one feature for each key.
fn values(host: &Host, feature: &str, keys: std::ops::Range<i64>) -> Vec<Value> {
    let entities: Vec<Value> = keys.map(|key| json!({"key": key})).collect();
    let (status, answer) = post(host, "/v1/features", &json!({"features": [feature], "entities": entities}));
    assert_eq!(status, 200, "{answer}");
    answer["results"].as_array().unwrap().iter().map(|result| result["values"][0].clone()).collect()
}

fn state(host: &Host, name: &str) -> Value {
    host.get(&format!("/v1/transforms/{name}")).unwrap().1
}

#[test]
fn a_version_starts_over_and_becomes_the_one_that_the_name_means() {
    let server = RedisServer::start();
    for (config, pairing) in pairings(&server) {
        server.run::<()>(&["FLUSHALL"]);
        let folder = TempDir::new().unwrap();
        let host = Host::start(folder.path(), &config).unwrap();
        put(&host, "orders", &format!("stream=events&{COUNTED}"), &times("value", 2));
        send(&host, 0..50);
        let all = |feature: &str, expected: &dyn Fn(i64) -> i64| {
            let wanted: Vec<Value> = (0..50).map(|key| json!(expected(key))).collect();
            wait_for(feature, || (values(&host, feature, 0..50) == wanted).then_some(()));
        };
        all("orders:value", &|key| key * 2);

        let put = put(&host, "orders@v2", "start=beginning", &times("value", 3));
        assert_eq!((&put["current"], &put["group"]), (&json!(false), &json!("gristmill.orders@v2")), "{pairing}");
        all("orders@v2:value", &|key| key * 3);
        all("orders@v2:n", &|_| 1);
        assert_eq!(values(&host, "orders:value", 3..5), [json!(6), json!(8)], "the name still means the first");

        // A service and what is asked for by the name go over together.
        assert_eq!(host.put("/v1/services/judge", br#"{"features":["orders:value"]}"#).unwrap().0, 200);
        let (status, answer) = post(&host, "/v1/transforms/orders@v2/switch", &json!({}));
        assert_eq!(status, 200, "{answer}");
        wait_for("the switch", || (state(&host, "orders@v2")["current"] == true).then_some(()));
        assert_eq!(values(&host, "orders:value", 3..5), [json!(9), json!(12)]);
        assert_eq!(values(&host, "orders@v1:value", 3..5), [json!(6), json!(8)]);
        let served = post(&host, "/v1/features", &json!({"service": "judge", "entities": [{"key": 3}]})).1;
        assert_eq!(served["results"][0]["values"], json!([9]), "{served}");

        // What is asked for by a name is answered under it, whatever it means by then: in Arrow, and to Feast's clients.
        let arrow =
            host.post_accepting(ARROW, "/v1/features", &json!({"service": "judge", "entities": [{"key": 3}]}).to_string()).unwrap().1;
        let table = StreamReader::try_new(arrow.as_slice(), None).unwrap();
        let columns: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(columns, ["key", "orders:value", "orders:value__status", "orders__event_time"]);
        let query = json!({"features": ["orders:value"], "entities": {"key": [3]}, "full_feature_names": true, "include_feature_view_version_metadata": true});
        let answer = post(&host, "/get-online-features", &query).1;
        let metadata = json!({"feature_names": ["key", "orders__value"], "feature_view_metadata": [{"name": "orders"}]});
        assert_eq!((&answer["metadata"], &answer["results"][1]["values"]), (&metadata, &json!([9])));

        // Both go on, over a restart too.
        host.stop();
        let host = Host::start(folder.path(), &config).unwrap();
        send(&host, 0..50);
        for (feature, expected) in [("orders@v1:n", 2), ("orders@v2:n", 2), ("orders:value", 9)] {
            wait_for(feature, || (values(&host, feature, 3..4) == [json!(expected)]).then_some(()));
        }
        // Without the version that is current, the name means the first again.
        assert_eq!(host.send("DELETE", "/v1/transforms/orders@v2", None).unwrap().status, 204);
        assert_eq!(values(&host, "orders:value", 3..4), [json!(6)]);
        host.stop();
    }
}

#[test]
fn a_paused_transform_loses_nothing_and_holds_up_nobody() {
    let server = RedisServer::start();
    for (config, pairing) in pairings(&server) {
        server.run::<()>(&["FLUSHALL"]);
        let folder = TempDir::new().unwrap();
        let host = Host::start(folder.path(), &config).unwrap();
        put(&host, "paused", &format!("stream=events&{COUNTED}"), &times("value", 2));
        put(&host, "other", &format!("stream=events&{COUNTED}"), &times("value", 3));
        let count = |host: &Host, feature: &str, expected: i64| {
            wait_for(&format!("{feature} over {pairing}"), || (values(host, feature, 0..20) == vec![json!(expected); 20]).then_some(()));
        };
        send(&host, 0..20);
        count(&host, "paused:n", 1);
        // While events are on their way.
        send(&host, 0..20);
        let (status, answer) = post(&host, "/v1/transforms/paused/pause", &json!({}));
        assert_eq!((status, &answer["state"]), (200, &json!("paused")), "{answer}");
        assert_eq!(post(&host, "/v1/transforms/paused/pause", &json!({})).0, 200, "it is paused already");
        send(&host, 0..20);
        count(&host, "other:n", 3);
        let before = values(&host, "paused:n", 0..20);
        host.kill();

        let host = Host::start(folder.path(), &config).unwrap();
        send(&host, 0..20);
        count(&host, "other:n", 4);
        assert_eq!(values(&host, "paused:n", 0..20), before, "it reads nothing, {pairing}");
        assert_eq!(state(&host, "paused")["state"], "paused");
        assert!(host.get("/readyz").unwrap().0 == 200, "who is paused on purpose does not make a host unready");
        assert_eq!(post(&host, "/v1/transforms/paused/resume", &json!({})).0, 200);
        count(&host, "paused:n", 4);
        send(&host, 0..20);
        count(&host, "paused:n", 5);
        count(&host, "other:n", 5);
        // It has a group of its own now, and is paused without moving.
        let group = state(&host, "paused")["group"].clone();
        assert_eq!(post(&host, "/v1/transforms/paused/pause", &json!({})).0, 200);
        assert_eq!(post(&host, "/v1/transforms/paused/resume", &json!({})).0, 200);
        assert_eq!(state(&host, "paused")["group"], group);
        send(&host, 0..20);
        count(&host, "paused:n", 6);
        host.stop();
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config("", "")).unwrap();
    put(&host, "orders", "stream=events", &times("value", 2));
    let refused = |(status, answer): (u16, Value), expected: (u16, &str)| {
        let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(status == expected.0 && message.contains(expected.1), "{status} {answer}");
    };
    for name in ["orders@v1", "orders@2", "orders@v02", "orders@"] {
        let answer = host.put(&format!("/v1/transforms/{name}?stream=events"), &times("value", 2)).unwrap();
        if name == "orders@v1" {
            assert_eq!(answer.1["name"], "orders", "another way to write the first");
        } else {
            refused(answer, (422, "`@v2`"));
        }
    }
    refused(host.put("/v1/transforms/orders@v2?start=yesterday", &times("value", 2)).unwrap(), (422, "is not a start"));
    refused(post(&host, "/v1/transforms/none/pause", &json!({})), (404, "there is no transform `none`"));
    refused(post(&host, "/v1/transforms/orders@v2/switch", &json!({})), (404, "there is no transform"));
    refused(post(&host, "/v1/transforms/orders/switch", &json!({"soon": true})), (422, "soon"));
    // A service would not find its feature.
    put(&host, "orders@v2", "", &times("other", 2));
    assert_eq!(host.put("/v1/services/judge", br#"{"features":["orders:value"]}"#).unwrap().0, 200);
    refused(post(&host, "/v1/transforms/orders@v2/switch", &json!({"now": true})), (409, "`orders@v1:value`"));
    // A group has one place.
    put(&host, "orders@v3", "start=beginning", &times("value", 2));
    refused(host.put("/v1/transforms/orders@v3?start=end", &times("value", 2)).unwrap(), (422, "start over"));
    refused(
        host.put("/v1/transforms/late?stream=events&group=gristmill.orders%40v3&start=end", &times("value", 2)).unwrap(),
        (422, "begins elsewhere"),
    );
    host.stop();
}

#[test]
fn a_version_starts_at_a_moment() {
    let folder = TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config("", "")).unwrap();
    put(&host, "orders", &format!("stream=events&{COUNTED}"), &times("value", 2));
    send(&host, 0..5);
    wait_for("the first events", || (values(&host, "orders:n", 0..5) == vec![json!(1); 5]).then_some(()));
    let (_, answer) = host.post("/v1/streams/events/events", r#"{"key":7}"#).unwrap();
    let id = answer["ids"][0].as_str().unwrap().to_owned();
    let ms: i64 = id.split('-').next().unwrap().parse().unwrap();
    let moment = gristmill::model::Timestamp(ms * 1_000).to_string();
    put(&host, "orders@v2", &format!("start={moment}"), &times("value", 3));
    wait_for("the event of that moment", || (values(&host, "orders@v2:n", 7..8) == [json!(1)]).then_some(()));
    put(&host, "orders@v3", &format!("start={id}"), &times("value", 3));
    send(&host, [8]);
    wait_for("an event after that id", || (values(&host, "orders@v3:n", 8..9) == [json!(1)]).then_some(()));
    assert_eq!(values(&host, "orders@v3:n", 7..8), [json!(0)], "the entry itself is not after it");
    host.stop();
}

#[test]
fn a_version_that_was_deleted_does_not_pass_for_one_that_starts_over() {
    let folder = TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config("", "")).unwrap();
    put(&host, "orders", &format!("stream=events&{COUNTED}"), &times("value", 2));
    put(&host, "orders@v2", "start=beginning", &times("value", 3));
    send(&host, 0..5);
    wait_for("both", || (values(&host, "orders@v2:n", 0..5) == vec![json!(1); 5]).then_some(()));
    assert_eq!(host.send("DELETE", "/v1/transforms/orders@v2", None).unwrap().status, 204);
    // Its rows are there still, and its group is where it was: nothing would be computed anew.
    let (status, answer) = host.put("/v1/transforms/orders@v2?start=beginning", &times("value", 5)).unwrap();
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 422 && message.contains("start over (`orders@v3`)") && message.contains("group=gristmill.orders@v2"), "{answer}");
    send(&host, 0..5);
    put(&host, "orders@v3", "start=beginning", &times("value", 5));
    wait_for("the one that starts over", || (values(&host, "orders@v3:n", 0..5) == vec![json!(2); 5]).then_some(()));
    assert_eq!(values(&host, "orders@v3:value", 1..3), [json!(5), json!(10)]);
    // Or it goes on, as it is told to.
    put(&host, "orders@v2", "group=gristmill.orders@v2", &times("value", 5));
    wait_for("the one that goes on", || (values(&host, "orders@v2:n", 0..5) == vec![json!(2); 5]).then_some(()));
    host.stop();
}

#[test]
fn a_version_has_caught_up_where_what_the_other_applied_was_trimmed() {
    let server = RedisServer::start();
    for (config, pairing) in &pairings(&server)[1..] {
        server.run::<()>(&["FLUSHALL"]);
        let folder = TempDir::new().unwrap();
        let host = Host::start(folder.path(), config).unwrap();
        put(&host, "orders", &format!("stream=events&{COUNTED}"), &times("value", 2));
        send(&host, 0..5);
        wait_for("the events", || (values(&host, "orders:n", 0..5) == vec![json!(1); 5]).then_some(()));
        server.run::<()>(&["XTRIM", "events", "MAXLEN", "0"]);
        put(&host, "orders@v2", "start=beginning", &times("value", 3));
        assert_eq!(post(&host, "/v1/transforms/orders@v2/switch", &json!({})).0, 200);
        wait_for(&format!("the switch, {pairing}"), || (state(&host, "orders@v2")["current"] == true).then_some(()));
        host.stop();
    }
}

#[test]
fn a_version_starts_after_an_id_that_no_entry_has() {
    let folder = TempDir::new().unwrap();
    let config = config("entries_max = 30", "");
    let host = Host::start(folder.path(), &config).unwrap();
    put(&host, "orders", &format!("stream=events&{COUNTED}"), &times("value", 2));
    let (mut ids, mut last) = (Vec::new(), 0);
    for key in 0..60 {
        let (_, answer) = host.post("/v1/streams/events/events", &json!({"key": key}).to_string()).unwrap();
        ids.push(answer["ids"][0].as_str().unwrap().to_owned());
        last = key;
    }
    wait_for("all", || (values(&host, "orders:n", last..last + 1) == [json!(1)]).then_some(()));
    let ms = |index: usize| ids[index].split('-').next().unwrap().to_owned();
    let first_of_ms = (0..60).find(|index| ms(*index) == ms(45)).unwrap() as i64;
    let lost = || host.metric("gristmill_entries_lost_total");
    let before = lost();
    // Numbers of entries that came later, a millisecond's first id as Redis has them, and one before all.
    for (version, start, first) in [(2, "1-50".to_owned(), 30), (3, format!("{}-0", ms(45)), first_of_ms), (4, "1-0".to_owned(), 30)] {
        let name = format!("orders@v{version}");
        put(&host, &name, &format!("start={start}"), &times("value", 3));
        wait_for(&name, || (values(&host, &format!("{name}:n"), last..last + 1) == [json!(1)]).then_some(()));
        let counted: Vec<i64> = (0..60).filter(|key| values(&host, &format!("{name}:n"), *key..key + 1) == [json!(1)]).collect();
        assert_eq!(counted, (first..60).collect::<Vec<_>>(), "after {start} of {ids:?}");
    }
    assert_eq!(lost(), before, "nothing between a start and the first entry after it is known to have been there");
    // One that was trimmed tells by its number how many went with it.
    put(&host, "orders@v5", &format!("start={}", ids[10]), &times("value", 3));
    wait_for("what is left", || (values(&host, "orders@v5:n", last..last + 1) == [json!(1)]).then_some(()));
    assert_eq!(lost(), before + 19.0);
    host.stop();
}

#[test]
fn cuts_of_a_group_that_was_deleted_with_its_transform_are_shown_to_their_end() {
    let folder = TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config("", "")).unwrap();
    let query = format!("stream=events&{COUNTED}");
    let applied = |feature: &str, keys: std::ops::Range<i64>| {
        let (_, answer) = post(&host, "/v1/streams/events/events", &json!(keys.clone().map(|key| json!({"key": key})).collect::<Vec<_>>()));
        wait_for(feature, || values(&host, feature, keys.clone()).iter().all(|n| *n == json!(1)).then_some(()));
        answer["ids"].as_array().unwrap().last().unwrap().clone()
    };
    ["orders", "other"].iter().for_each(|name| drop(put(&host, name, &query, &times("value", 2))));
    applied("orders:n", 0..5);
    ["pause", "resume"].iter().for_each(|what| assert_eq!(post(&host, &format!("/v1/transforms/orders/{what}"), &json!({})).0, 200));
    let swapped = applied("orders:n", 5..10);
    put(&host, "orders", "", &times("value", 3));
    let left = applied("orders:n", 10..15);
    assert_eq!(host.send("DELETE", "/v1/transforms/orders", None).unwrap().status, 204);
    applied("other:n", 15..20);
    put(&host, "orders", &query, &times("value", 4));
    applied("orders:n", 20..25);
    let (_, shown) = host.get("/v1/transforms/orders/versions").unwrap();
    let of = |is_own: bool| shown["cuts"].as_array().unwrap().iter().find(|of| (of["group"] != "gristmill") == is_own).unwrap();
    let numbers = |of: &Value| of["cuts"].as_array().unwrap().iter().map(|cut| cut["to"]["number"].clone()).collect::<Vec<_>>();
    let (own, shared) = (of(true), of(false));
    assert_eq!((numbers(own), numbers(shared)), (vec![json!(1), json!(2)], vec![json!(1), Value::Null, json!(3)]), "{shown}");
    assert_eq!((&own["cuts"][1]["after"], &own["up_to"], &shared["up_to"]), (&swapped, &left, &Value::Null), "{shown}");
    host.stop();
}
