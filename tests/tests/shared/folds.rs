//! States of several versions where hosts are not all at the same one.

use std::path::Path;

use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::partitions::wait_for_shares;
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

use super::{PARTITIONS, Together, post, put, transform, wait_for_version};

/// Entities, spread over all partitions.
const IDS: i64 = 40;

fn tally(suffix: &str) -> Vec<u8> {
    let file = format!("target/components/conformance-tally{suffix}.wasm");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file)).unwrap()
}

fn event(id: i64) -> Value {
    json!({"id": format!("e{id}"), "amount": 1})
}

fn send(host: &Host, stream: &str, ids: std::ops::Range<i64>) {
    let events: Vec<Value> = ids.map(event).collect();
    post(host, &format!("/v1/streams/{stream}/events"), &json!(events));
}

fn seen(host: &Host, ids: std::ops::Range<i64>) -> Vec<Value> {
    let entities: Vec<Value> = ids.map(|id| json!({"id": format!("e{id}")})).collect();
    let answer = post(host, "/v1/features", &json!({"features": ["tally:seen"], "entities": entities}));
    answer["results"].as_array().unwrap().iter().map(|result| result["values"][0].clone()).collect()
}

fn wait_for_seen(host: &Host, ids: std::ops::Range<i64>, many: i64) {
    let expected: Vec<Value> = ids.clone().map(|_| json!(many)).collect();
    wait_for("the fold to have seen them", || (seen(host, ids.clone()) == expected).then_some(()));
}

fn dead(host: &Host) -> Value {
    host.get("/v1/dead-letters?limit=100").unwrap().1["dead_letters"].clone()
}

#[test]
fn a_host_that_slept_while_a_version_came_and_went_goes_back_behind_its_states() {
    let mut together = Together::new();
    together.config = together.config.replace("[\"key\"]", "[\"id\"]");
    let (first, second) = (together.start(), together.start());
    put(&first, "tally", "stream=events", &tally(""));
    wait_for_version(&[&first, &second], "tally", 1);
    wait_for_shares(&[&first, &second], &[2.0, 2.0]);
    send(&first, "events", 0..IDS);
    wait_for_seen(&first, 0..IDS, 1);
    second.signal("STOP");
    wait_for_shares(&[&first], &[4.0]);
    put(&first, "tally", "", &tally("-2"));
    send(&first, "events", 0..IDS);
    wait_for_seen(&first, 0..IDS, 2);
    post(&first, "/v1/transforms/tally/roll-back", &json!({}));
    first.stop();
    second.signal("CONT");
    wait_for_shares(&[&second], &[4.0]);
    // The version that was in force on this host all the time goes on with what it had left, on the partitions where another was in force too.
    send(&second, "events", 0..IDS);
    send(&second, "events", 0..IDS);
    wait_for_seen(&second, 0..IDS, 3);
    assert_eq!(dead(&second), json!([]));
    let shown = second.get("/v1/transforms/tally/versions").unwrap().1;
    let cuts = shown["cuts"].as_array().unwrap();
    assert_eq!(cuts.len(), PARTITIONS as usize);
    assert!(cuts.iter().all(|cuts| !cuts["cuts"].as_array().unwrap().last().unwrap()["unseen"].is_null()), "{shown}");
    second.stop();
}

#[test]
fn what_a_replay_has_written_is_not_met_by_a_host_that_does_not_know_of_it() {
    let mut together = Together::new();
    together.config = together.config.replace("[\"key\"]", "[\"id\"]");
    let host = together.start();
    put(&host, "tally", "stream=events", &tally(""));
    post(&host, "/v1/streams/events/events", &json!([{"id": "e0", "amount": 1}, {"id": "e0", "action": "reject", "amount": 1}]));
    wait_for("the dead letter", || (dead(&host).as_array().unwrap().len() == 1).then_some(()));
    put(&host, "tally", "", &tally("-2"));
    // Nothing has come since: the replay is the first that the version does.
    assert_eq!(post(&host, "/v1/dead-letters/replay", &json!({"transform": "tally"}))["settled"], json!(1));
    let partition = revisions(&together.server);
    let book = together.server.run::<Vec<String>>(&["KEYS", "gristmill:{book}:of:*"]).concat();
    let of_book: String = together.server.run(&["HGET", &book, "revision"]);
    assert_eq!(partition, [of_book], "the partition says by which revision it was worked on");
    host.stop();
}

/// By which revisions of the book the partitions were worked on.
fn revisions(server: &RedisServer) -> Vec<String> {
    let keys: Vec<String> = server.run(&["KEYS", "gristmill:row:~~revision:*"]);
    keys.iter().map(|key| server.run::<String>(&["GET", key])).collect()
}

#[test]
fn a_host_that_meets_states_of_a_version_that_it_does_not_know_waits_until_it_does() {
    let mut together = Together::new();
    let (before, streams) = together.config.split_once("[streams.events]").unwrap();
    let streams = streams.replace(&format!("partitions = {PARTITIONS}\npartition_by = [\"key\"]\n"), "");
    together.config = format!("{before}[streams.one]{streams}\n[streams.other]{streams}");
    let _: String = together.server.run(&["ACL", "SETUSER", "late", "on", ">late", "~*", "&*", "+@all"]);
    let url = together.server.url();
    let late = together.config.replace(&format!("url = \"{url}\""), "url_env = \"LATE\"");
    let (folder, url) = (tempfile::tempdir().unwrap(), url.replace("redis://", "redis://late:late@"));
    let late = Host::start_with(&[("LATE", url)], folder.path(), &late).unwrap();
    put(&late, "tally", "stream=one", &tally(""));
    send(&late, "one", 0..1);
    wait_for_seen(&late, 0..1, 1);
    let host = together.start();
    // The late one works on, and cannot look into the book.
    let _: String = together.server.run(&["ACL", "SETUSER", "late", "resetkeys", "~gristmill:[^{]*", "~[^g]*"]);
    wait_for("it to say so", || (late.get("/readyz").unwrap().0 == 503).then_some(()));
    put(&host, "tally", "stream=other", &tally("-2"));
    send(&host, "other", 0..1);
    wait_for_seen(&host, 0..1, 2);
    send(&host, "one", 0..1);
    wait_for("it to meet the other version", || {
        late.get("/readyz").unwrap().1.to_string().contains("of which this host does not know yet").then_some(())
    });
    assert_eq!((dead(&host), seen(&host, 0..1)), (json!([]), vec![json!(2)]));
    let _: String = together.server.run(&["ACL", "SETUSER", "late", "~*"]);
    wait_for_version(&[&late], "tally", 2);
    // What came to the stream that it is not of any more is not its own.
    send(&late, "other", 0..1);
    wait_for_seen(&late, 0..1, 3);
    assert_eq!(dead(&late), json!([]));
    assert_eq!(transform(&late, "tally")["stream"], json!("other"));
    [late, host].into_iter().for_each(Host::stop);
}
