//! Hosts that share a store share what is in force: what is put to one of them is on all, in every partition from an entry on that is told.

#[path = "shared/folds.rs"]
mod folds;
#[path = "shared/shadows.rs"]
mod shadows;
#[path = "shared/streams.rs"]
mod streams;

use std::collections::BTreeMap;

use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::Kind;
use gristmill_tests::flood::{redis_store, redis_stream};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::partitions::{held, wait_for_shares};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Partitions of the stream.
const PARTITIONS: u32 = 4;
/// Windows over all that the guest ever gave, by which an event that is lost or counted twice shows.
const COUNTED: &str = "aggregations=%5B%7B%22feature%22:%22n%22,%22column%22:%22value%22,%22function%22:%22count%22%7D%5D";

/// A guest that gives so many times the key.
fn times(factor: u32) -> Vec<u8> {
    let mut guest = Guest::doubling();
    guest.spec = spec(&[("value", Kind::Integer, false)]);
    guest.apply = guest.apply.replace("(i64.const 2)", &format!("(i64.const {factor})"));
    guest.component().unwrap()
}

fn config(server: &RedisServer) -> String {
    let store = redis_store(server).replace("lease_ms = 2000", "lease_ms = 1000");
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.events]\nbatch_events_max = 16\n\
         partitions = {PARTITIONS}\npartition_by = [\"key\"]\n{}\n",
        redis_stream(server, "acknowledge")
    )
}

/// Hosts on one server, each with a folder of its own.
struct Together {
    server: RedisServer,
    config: String,
    folders: Vec<TempDir>,
}

impl Together {
    fn new() -> Together {
        let server = RedisServer::start();
        Together { config: config(&server), server, folders: Vec::new() }
    }

    fn start(&mut self) -> Host {
        self.start_with(&self.config.clone())
    }

    fn start_with(&mut self, config: &str) -> Host {
        self.folders.push(TempDir::new().unwrap());
        Host::start(self.folders.last().unwrap().path(), config).unwrap()
    }

    fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.folders[index].path().join("log")).unwrap()
    }
}

fn put(host: &Host, name: &str, query: &str, component: &[u8]) -> Value {
    let (status, answer) = host.put(&format!("/v1/transforms/{name}?{query}"), component).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

fn post(host: &Host, path: &str, body: &Value) -> Value {
    let (status, answer) = host.post(path, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

fn transform(host: &Host, name: &str) -> Value {
    host.get(&format!("/v1/transforms/{name}")).unwrap().1
}

/// Waits until all hosts have this version in force.
fn wait_for_version(hosts: &[&Host], name: &str, number: u32) {
    for host in hosts {
        wait_for("the version to be in force", || (transform(host, name)["number"] == json!(number)).then_some(()));
    }
}

/// By key, the partition and the entry id of its event.
type Sent = BTreeMap<i64, (u32, (u64, u64))>;

fn send(host: &Host, keys: std::ops::Range<i64>, sent: &mut Sent) {
    let keys: Vec<i64> = keys.collect();
    let events: Vec<Value> = keys.iter().map(|key| json!({"key": key})).collect();
    let answer = post(host, "/v1/streams/events/events", &json!(events));
    let (ids, partitions) = (answer["ids"].as_array().unwrap(), answer["partitions"].as_array().unwrap());
    for ((key, id), partition) in keys.iter().zip(ids).zip(partitions) {
        sent.insert(*key, (partition.as_u64().unwrap() as u32, parse(id)));
    }
}

fn parse(id: &Value) -> (u64, u64) {
    let (ms, seq) = id.as_str().unwrap().split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

/// The results for these keys.
fn results(host: &Host, features: &[&str], keys: std::ops::Range<i64>) -> Vec<Value> {
    let entities: Vec<Value> = keys.map(|key| json!({"key": key})).collect();
    let body = json!({"features": features, "entities": entities, "provenance": true});
    post(host, "/v1/features", &body)["results"].as_array().unwrap().clone()
}

fn values(host: &Host, feature: &str, keys: std::ops::Range<i64>) -> Vec<Value> {
    results(host, &[feature], keys).iter().map(|result| result["values"][0].clone()).collect()
}

fn wait_for_values(host: &Host, feature: &str, keys: std::ops::Range<i64>, value: impl Fn(i64) -> i64) {
    let expected: Vec<Value> = keys.clone().map(|key| json!(value(key))).collect();
    wait_for(feature, || (values(host, feature, keys.clone()) == expected).then_some(()));
}

/// Every row is of the version that the cuts of its partition name for its entry, and every event counted once. Returns the versions, by partition.
fn agree(host: &Host, name: &str, sent: &Sent) -> BTreeMap<u64, Vec<Value>> {
    let keys = 0..sent.len() as i64;
    wait_for_values(host, &format!("{name}:n"), keys.clone(), |_| 1);
    let (_, shown) = host.get(&format!("/v1/transforms/{name}/versions")).unwrap();
    let cuts: BTreeMap<u64, &Vec<Value>> = shown["cuts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| (partition["partition"].as_u64().unwrap(), partition["cuts"].as_array().unwrap()))
        .collect();
    for (key, result) in keys.zip(results(host, &[&format!("{name}:value")], 0..sent.len() as i64)) {
        let (partition, id) = sent[&key];
        let cuts = cuts[&u64::from(partition)];
        let made_by = cuts.iter().rev().find(|cut| cut["after"].is_null() || parse(&cut["after"]) < id).expect("some version made it");
        let provenance = &result["provenance"][0];
        assert_eq!((&provenance["component"], parse(&provenance["entry_id"])), (&made_by["to"]["component"], id), "{key}: {shown}");
    }
    let numbers = |cuts: &&Vec<Value>| cuts.iter().map(|cut| cut["to"]["number"].clone()).collect();
    cuts.iter().map(|(partition, cuts)| (*partition, numbers(cuts))).collect()
}

#[test]
fn what_is_put_to_one_host_is_in_force_on_all_and_cuts_are_true_while_one_is_killed() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    let (mut sent, query) = (Sent::new(), format!("stream=events&{COUNTED}"));
    put(&first, "orders", &query, &times(2));
    wait_for_version(&[&first, &second], "orders", 1);
    wait_for_shares(&[&first, &second], &[2.0, 2.0]);
    send(&first, 0..3_000, &mut sent);
    wait_for("some batches", || (second.metric("gristmill_entries_settled_total") > 100.0).then_some(()));
    // To the other one, while both are at work.
    let answer = put(&second, "orders", "", &times(3));
    assert_eq!(answer["number"], json!(2), "numbers are those of all hosts");
    wait_for_version(&[&first, &second], "orders", 2);
    send(&second, 3_000..6_000, &mut sent);
    let third = together.start();
    assert_eq!(transform(&third, "orders")["number"], json!(2), "a host begins with what is in force");
    wait_for("it to have its share", || (third.metric("gristmill_partitions_held") > 0.0).then_some(()));
    put(&third, "orders", "", &times(4));
    first.kill();
    send(&second, 6_000..9_000, &mut sent);
    wait_for_version(&[&second, &third], "orders", 3);
    wait_for_shares(&[&second, &third], &[2.0, 2.0]);
    send(&second, 9_000..9_500, &mut sent);
    let of_partitions = agree(&second, "orders", &sent);
    assert_eq!(of_partitions.len(), PARTITIONS as usize);
    for (partition, versions) in of_partitions {
        assert!(versions.is_sorted_by_key(|number| number.as_u64().unwrap()), "partition {partition} never goes back: {versions:?}");
        assert_eq!(versions.last(), Some(&json!(3)));
    }
    // Nobody is left, and then one comes with an empty folder.
    second.stop();
    third.stop();
    let fourth = together.start();
    assert_eq!(transform(&fourth, "orders")["number"], json!(3));
    send(&fourth, 9_500..10_000, &mut sent);
    agree(&fourth, "orders", &sent);
    fourth.stop();
}

#[test]
fn a_host_takes_no_partition_that_was_worked_on_by_a_newer_book() {
    let mut together = Together::new();
    let host = together.start();
    let mut sent = Sent::new();
    put(&host, "orders", &format!("stream=events&{COUNTED}"), &times(2));
    send(&host, 0..400, &mut sent);
    agree(&host, "orders", &sent);
    host.stop();
    let key = "gristmill:row:~~revision:{events:0}events/group/0";
    let revision: u64 = together.server.run(&["GET", key]);
    // As if another host had put something and worked by it since, of which this one cannot know.
    let newer = (revision + 3_600_000).to_string();
    let _: String = together.server.run(&["SET", key, &newer]);
    let host = Host::start(together.folders[0].path(), &together.config).unwrap();
    wait_for_shares(&[&host], &[3.0]);
    send(&host, 400..800, &mut sent);
    let (elsewhere, here): (Vec<i64>, Vec<i64>) = (400..800).partition(|key| sent[key].0 != 0);
    assert!(!here.is_empty());
    for key in elsewhere {
        wait_for_values(&host, "orders:n", key..key + 1, |_| 1);
    }
    assert!(here.iter().all(|key| values(&host, "orders:n", *key..key + 1) == [json!(0)]), "nothing is applied there");
    let _: String = together.server.run(&["SET", key, &revision.to_string()]);
    wait_for_shares(&[&host], &[4.0]);
    agree(&host, "orders", &sent);
    host.stop();
}

#[test]
fn versions_services_and_ends_reach_all_hosts() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    let query = format!("stream=events&{COUNTED}");
    put(&first, "orders", &query, &times(2));
    put(&second, "orders", "", &times(3));
    wait_for_version(&[&first], "orders", 2);
    post(&second, "/v1/transforms/orders/roll-back", &json!({}));
    wait_for_version(&[&first, &second], "orders", 1);
    post(&first, "/v1/transforms/orders/activate", &json!({"version": 2}));
    wait_for_version(&[&second], "orders", 2);
    let versions = |host: &Host| host.get("/v1/transforms/orders/versions").unwrap().1["versions"].clone();
    assert_eq!(versions(&first), versions(&second));
    assert_eq!(first.put("/v1/services/judge", br#"{"features":["orders:value"]}"#).unwrap().0, 200);
    wait_for("the service", || (second.get("/v1/services").unwrap().1.to_string().contains("judge")).then_some(()));
    assert_eq!(second.send("DELETE", "/v1/transforms/orders", None).unwrap().status, 204);
    wait_for("the end", || (first.get("/v1/transforms/orders").unwrap().0 == 404).then_some(()));
    // What a host finds in its own folder is what there was when it stopped; what counts is the store's.
    first.stop();
    put(&second, "late", &query, &times(5));
    let first = Host::start(together.folders[0].path(), &together.config).unwrap();
    assert_eq!(transform(&first, "late")["number"], json!(1));
    // A store that has lost it is given it again.
    let book = together.server.run::<Vec<String>>(&["KEYS", "gristmill:{book}:of:*"]).concat();
    assert_eq!(together.server.run::<i64>(&["DEL", &book]), 1);
    wait_for("the store to have it again", || (together.server.run::<i64>(&["EXISTS", &book]) == 1).then_some(()));
    let third = together.start();
    assert_eq!(transform(&third, "late")["number"], json!(1));
    [first, second, third].into_iter().for_each(Host::stop);
}

#[test]
fn puts_to_two_hosts_at_the_same_time_come_one_after_the_other() {
    let mut together = Together::new();
    let hosts = [together.start(), together.start()];
    let query = format!("stream=events&{COUNTED}");
    put(&hosts[0], "orders", &query, &times(2));
    let mut accepted = 1;
    for round in 0..3_u32 {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let puts = [0, 1].map(|index| {
                let host = &hosts[index as usize];
                scope.spawn(move || host.put("/v1/transforms/orders", &times(10 + round * 2 + index)).unwrap().0)
            });
            puts.map(|put| put.join().unwrap()).to_vec()
        });
        assert!(statuses.iter().all(|status| matches!(status, 200 | 409)) && statuses.contains(&200), "{statuses:?}");
        accepted += statuses.iter().filter(|status| **status == 200).count();
    }
    let versions = |host: &Host| host.get("/v1/transforms/orders/versions").unwrap().1;
    wait_for("both to know the same", || (versions(&hosts[0]) == versions(&hosts[1])).then_some(()));
    let numbers: Vec<Value> = versions(&hosts[0])["versions"].as_array().unwrap().iter().map(|version| version["number"].clone()).collect();
    assert_eq!(numbers, (1..=accepted).rev().map(|number| json!(number)).collect::<Vec<_>>());
    wait_for_version(&[&hosts[0], &hosts[1]], "orders", accepted as u32);
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn a_transform_is_paused_in_all_partitions_and_goes_on_where_it_left_each() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    let mut sent = Sent::new();
    for name in ["paused", "other", "alone"] {
        let group = if name == "alone" { "&group=alone" } else { "" };
        put(&first, name, &format!("stream=events&{COUNTED}{group}"), &times(2));
    }
    wait_for_shares(&[&first, &second], &[4.0, 4.0]);
    send(&first, 0..200, &mut sent);
    for feature in ["paused:n", "other:n", "alone:n"] {
        wait_for_values(&second, feature, 0..200, |_| 1);
    }
    // While events are on their way, in partitions of both.
    send(&first, 0..200, &mut sent);
    for name in ["paused", "alone"] {
        let answer = post(&first, &format!("/v1/transforms/{name}/pause"), &json!({}));
        assert_eq!((&answer["state"], &answer["leaving"]), (&json!("paused"), &Value::Null), "{answer}");
        wait_for("the other host to know", || (transform(&second, name)["state"] == "paused").then_some(()));
    }
    let frozen = ["paused:n", "alone:n"].map(|feature| values(&second, feature, 0..200));
    send(&second, 0..200, &mut sent);
    wait_for_values(&first, "other:n", 0..200, |_| 3);
    assert_eq!(["paused:n", "alone:n"].map(|feature| values(&second, feature, 0..200)), frozen);
    // A host that comes meanwhile leaves it alone too; one that goes takes nothing with it.
    let third = together.start();
    first.kill();
    wait_for_shares(&[&second, &third], &[2.0, 2.0]);
    send(&third, 0..200, &mut sent);
    wait_for_values(&third, "other:n", 0..200, |_| 4);
    assert_eq!(["paused:n", "alone:n"].map(|feature| values(&second, feature, 0..200)), frozen);
    for name in ["paused", "alone"] {
        post(&third, &format!("/v1/transforms/{name}/resume"), &json!({}));
    }
    for feature in ["paused:n", "other:n", "alone:n"] {
        wait_for_values(&second, feature, 0..200, |_| 4);
    }
    [second, third].into_iter().for_each(Host::stop);
}

#[test]
fn a_version_that_starts_over_is_switched_to_once_it_has_caught_up_in_the_partitions_of_all_hosts() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    let mut sent = Sent::new();
    put(&first, "orders", &format!("stream=events&{COUNTED}"), &times(2));
    wait_for_shares(&[&first, &second], &[2.0, 2.0]);
    send(&first, 0..4_000, &mut sent);
    wait_for_values(&second, "orders:value", 0..4_000, |key| key * 2);
    put(&second, "orders@v2", "start=beginning", &times(3));
    post(&first, "/v1/transforms/orders@v2/switch", &json!({}));
    let is_current = |host: &Host| transform(host, "orders@v2")["current"] == true;
    wait_for("the switch on the host that was asked", || is_current(&first).then_some(()));
    // Nothing is missing when the name means it.
    assert_eq!(values(&first, "orders:value", 0..4_000), (0..4_000).map(|key| json!(key * 3)).collect::<Vec<_>>());
    wait_for("the switch on the other", || is_current(&second).then_some(()));
    wait_for_shares(&[&first, &second], &[4.0, 4.0]);
    send(&second, 0..4_000, &mut sent);
    wait_for_values(&second, "orders:n", 0..4_000, |_| 2);
    wait_for_values(&first, "orders@v1:n", 0..4_000, |_| 2);
    [first, second].into_iter().for_each(Host::stop);
}

#[test]
fn a_host_that_cannot_have_what_is_in_force_works_on_nothing_and_says_so() {
    let mut together = Together::new();
    let able = together.start();
    let small = format!("{}\n[engine]\nmemory_bytes_max = 16777216\n\n[limits]\nmemory_bytes_max = 16777216\n", together.config);
    let unable = together.start_with(&small);
    put(&able, "orders", &format!("stream=events&{COUNTED}"), &times(2));
    let reason = wait_for("it to say so", || {
        let (status, ready) = unable.get("/readyz").unwrap();
        (status == 503).then(|| ready.to_string()).filter(|ready| ready.contains("transform orders"))
    });
    assert!(reason.contains("16777216") && reason.contains("works on nothing of its stream"), "{reason}");
    assert!(together.log(1).contains("cannot be put into force"));
    assert_eq!(unable.metric("gristmill_refused_components_total"), 1.0);
    wait_for_shares(&[&able], &[4.0]);
    let mut sent = Sent::new();
    send(&unable, 0..500, &mut sent);
    agree(&able, "orders", &sent);
    assert_eq!(held(&[&unable]), [0.0]);
    // Once it is gone, there is nothing that it lacks.
    assert_eq!(able.send("DELETE", "/v1/transforms/orders", None).unwrap().status, 204);
    wait_for("it to be ready", || (unable.get("/readyz").unwrap().0 == 200).then_some(()));
    [able, unable].into_iter().for_each(Host::stop);
}

#[test]
fn what_one_host_declares_is_in_force_on_all_until_none_declares_it() {
    let mut together = Together::new();
    let bare = together.config.clone();
    let declaring = format!("{bare}\n[transforms.orders]\ncomponent = \"orders.wasm\"\nstream = \"events\"\n");
    together.folders = vec![TempDir::new().unwrap(), TempDir::new().unwrap()];
    let component = |together: &Together, index: usize, factor: u32| {
        std::fs::write(together.folders[index].path().join("orders.wasm"), times(factor)).unwrap();
    };
    let start = |together: &Together, index: usize, config: &str| Host::start(together.folders[index].path(), config).unwrap();
    component(&together, 0, 2);
    component(&together, 1, 2);
    let first = start(&together, 0, &declaring);
    let second = start(&together, 1, &declaring);
    wait_for_version(&[&first, &second], "orders", 1);
    // What is put over it stays over a restart of either.
    put(&first, "orders", "", &times(3));
    wait_for_version(&[&second], "orders", 2);
    second.kill();
    let second = start(&together, 1, &declaring);
    assert_eq!(transform(&second, "orders")["number"], json!(2));
    // A changed declaration counts, and a restart of one that still has the old one does not take it back.
    first.stop();
    component(&together, 0, 4);
    let first = start(&together, 0, &declaring);
    wait_for_version(&[&first, &second], "orders", 3);
    second.kill();
    let second = start(&together, 1, &declaring);
    assert_eq!(transform(&second, "orders")["number"], json!(3));
    assert!(together.log(1).contains("another host has declared it otherwise since"));
    // It ends with the last that declares it.
    first.stop();
    let first = start(&together, 0, &bare);
    assert_eq!(transform(&first, "orders")["number"], json!(3));
    assert!(together.log(0).contains("not declared here any more, but by other hosts"));
    second.stop();
    let second = start(&together, 1, &bare);
    for host in [&first, &second] {
        wait_for("its end", || (host.get("/v1/transforms/orders").unwrap().0 == 404).then_some(()));
    }
    [first, second].into_iter().for_each(Host::stop);
}
