//! Versions that are tried behind those in force: they are compared, they harm nothing, and take over when what is asked of them holds.

use std::path::Path;
use std::process::Command;

use gristmill::conformance::guest::Guest;
use gristmill_tests::host::{Host, binary, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

fn component(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(format!("target/components/{name}.wasm"))).unwrap()
}

fn put(host: &Host, path: &str, component: &[u8]) -> (u16, Value) {
    let answer = host.send("PUT", path, Some(component)).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Loads a component, or tries one, which must succeed.
fn load(host: &Host, path: &str, component: &[u8]) {
    let (status, answer) = put(host, path, component);
    assert_eq!(status, 200, "{path}: {answer}");
}

fn send(host: &Host, stream: &str, events: &Value) {
    let (status, answer) = host.post(&format!("/v1/streams/{stream}/events"), &events.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// The report once so many events were compared since the host was started.
fn report(host: &Host, name: &str, events: u64) -> Value {
    wait_for("the events to be compared", || {
        let (status, report) = host.get(&format!("/v1/transforms/{name}/shadow")).ok()?;
        (status == 200 && report["events"].as_u64()? >= events).then_some(report)
    })
}

fn start(folder: &Path) -> Host {
    Host::start(folder, "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n").unwrap()
}

const OTHER: &str = "%7B%22value%22:%7B%22from%22:%22other%22%7D%7D";

#[test]
fn rows_are_compared_feature_by_feature_and_the_shadow_takes_over_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path());
    let tutorial = component("tutorial");
    load(&host, "/v1/transforms/tutorial", &tutorial);
    load(&host, &format!("/v1/transforms/tutorial/shadow?inputs={OTHER}"), &tutorial);
    send(
        &host,
        "mystream",
        &json!([
            {"id": "a", "value": 1, "other": 1},
            {"id": "b", "value": 1, "other": 2},
            {"id": "c", "value": 1},
            {"id": "d", "value": "x", "other": 1},
        ]),
    );
    let seen = report(&host, "tutorial", 4);
    assert_eq!(seen["rows"], json!({"compared": 2, "equal": 1, "differing": 1, "only_live": 1, "only_shadow": 1}), "{seen}");
    let feature = &seen["features"]["feature1"];
    assert_eq!((&feature["equal"], &feature["differing"], &feature["null_live"]), (&json!(1), &json!(1), &json!(0)), "{seen}");
    let example = &feature["examples"][0];
    assert_eq!((&example["entity"], &example["live"], &example["shadow"]), (&json!({"id": "b"}), &json!(2.0), &json!(4.0)), "{seen}");
    for (side, message) in [("live", "field `value` is \"x\""), ("shadow", "field `other` (input `value`) is missing")] {
        let given_up = &seen[side]["given_up"]["decode"];
        assert!(given_up["count"] == 1 && given_up["first"].as_str().unwrap().contains(message), "{side}: {seen}");
        assert_eq!(seen[side]["rows"], 3);
    }
    // Nothing of it is served.
    assert_eq!(host.get("/v1/features/tutorial?id=b").unwrap().1["results"][0]["values"], json!([2.0, 11.0]));
    assert_eq!(host.get("/v1/features/tutorial?id=d").unwrap().1["results"][0]["statuses"], json!(["not_found", "not_found"]));
    assert_eq!(host.metric("gristmill_dead_letters_kept"), 1.0);

    let promote = |gates: Value| host.post("/v1/transforms/tutorial/shadow/promote", &gates.to_string()).unwrap();
    for (gates, reason) in [
        (json!({"differing_max": 0}), "1 rows differ, and differing_max is 0"),
        (json!({"differing_share_max": 0.4}), "0.5000 of the rows differ"),
        (json!({"rows_min": 3}), "2 rows were compared, and rows_min is 3"),
        (json!({"unmatched_max": 1}), "2 rows were made by one of them alone"),
        (json!({"memory_bytes_max": 1}), "bytes of memory are taken"),
        (json!({"slower_max": 0.0}), "times as long"),
    ] {
        let (status, answer) = promote(gates.clone());
        let said = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 409 && said.contains(reason), "{gates}: {status} {answer}");
    }
    assert_eq!(promote(json!({"differing": 0})).0, 422, "a gate that nobody knows");
    let shown = Command::new(binary()).args(["shadow", "report", "tutorial", "--host", host.url()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("{\"id\":\"b\"}") && shown.lines().any(|line| line.starts_with("differing") && line.ends_with('1')), "{shown}");

    let (status, answer) = promote(json!({"differing_max": 1, "unmatched_max": 2, "given_up_more_max": 0}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(host.get("/v1/transforms/tutorial/shadow").unwrap().0, 404, "it is the version in force now");
    send(&host, "mystream", &json!({"id": "c", "other": 5}));
    wait_for("the version that was promoted", || {
        (host.get("/v1/features/tutorial?id=c").ok()?.1["results"][0]["values"] == json!([10.0, 15.0])).then_some(())
    });
    host.stop();
}

#[test]
fn a_fold_begins_with_the_states_in_force_and_goes_on_after_a_kill() {
    let server = RedisServer::start();
    for store in ["type = \"embedded\"".to_owned(), format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 500", server.url())] {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n");
        let host = Host::start(folder.path(), &config).unwrap();
        load(&host, "/v1/transforms/tally?stream=events", &component("conformance-tally"));
        send(&host, "events", &json!([{"id": "a", "amount": 2}, {"id": "a", "amount": 4}]));
        wait_for("the first events", || (host.metric("gristmill_entries_settled_total") == 2.0).then_some(()));
        load(&host, "/v1/transforms/tally/shadow", &component("conformance-tally-2"));
        send(&host, "events", &json!([{"id": "a", "amount": 1}, {"id": "b", "amount": 1}]));
        let seen = report(&host, "tally", 2);
        assert_eq!((&seen["rows"]["equal"], &seen["added"], &seen["version"]), (&json!(2), &json!(["largest"]), &json!("2.0.0")), "{seen}");
        // It has states of its own: what the version in force undoes and ends, this one counts.
        send(&host, "events", &json!([{"id": "a", "amount": 5, "action": "reject"}, {"id": "b", "action": "reset"}]));
        let seen = report(&host, "tally", 4);
        assert_eq!((&seen["rows"]["only_shadow"], &seen["live"]["given_up"]["rejected"]["count"]), (&json!(2), &json!(1)), "{seen}");
        host.kill();
        let host = Host::start(folder.path(), &config).unwrap();
        send(&host, "events", &json!([{"id": "a", "amount": 0}, {"id": "b", "amount": 0}, {"id": "c", "amount": 0}]));
        let seen = report(&host, "tally", 3);
        assert_eq!(seen["rows"], json!({"compared": 3, "equal": 1, "differing": 2, "only_live": 0, "only_shadow": 0}), "{seen}");
        let examples = seen["features"]["seen"]["examples"].as_array().unwrap();
        let values = examples.iter().map(|example| (&example["entity"]["id"], &example["live"], &example["shadow"]));
        assert_eq!(values.collect::<Vec<_>>(), [(&json!("a"), &json!(4), &json!(5)), (&json!("b"), &json!(1), &json!(3))]);
        // The state that is promoted is that of the version in force.
        let (status, answer) = host.post("/v1/transforms/tally/shadow/promote", "{}").unwrap();
        assert_eq!(status, 200, "{answer}");
        send(&host, "events", &json!({"id": "a", "amount": 0}));
        wait_for("the version that was promoted", || {
            (host.get("/v1/features/tally?id=a&features=seen").ok()?.1["results"][0]["values"] == json!([5])).then_some(())
        });
        host.stop();
    }
}

#[test]
fn a_state_that_the_shadow_has_ended_does_not_begin_with_the_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path());
    load(&host, "/v1/transforms/tally?stream=events", &component("conformance-tally"));
    send(&host, "events", &json!([{"id": "a", "amount": 1}, {"id": "a", "amount": 1}]));
    wait_for("the first events", || (host.metric("gristmill_entries_settled_total") == 2.0).then_some(()));
    // The version in force never sees what ends the state.
    let inputs = "%7B%22action%22:%7B%22from%22:%22end%22%7D%7D";
    load(&host, &format!("/v1/transforms/tally/shadow?inputs={inputs}"), &component("conformance-tally"));
    send(&host, "events", &json!({"id": "a", "amount": 1, "end": "reset"}));
    report(&host, "tally", 1);
    send(&host, "events", &json!({"id": "a", "amount": 1}));
    let seen = report(&host, "tally", 2);
    let example = &seen["features"]["seen"]["examples"][0];
    assert_eq!((&example["live"], &example["shadow"]), (&json!(4), &json!(1)), "{seen}");
    host.stop();
}

#[test]
fn a_shadow_that_loops_fails_no_commit_and_another_one_in_force_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path());
    load(&host, "/v1/transforms/guest", &Guest::doubling().component().unwrap());
    let mut looping = Guest::doubling();
    looping.apply = "(loop $forever (br $forever)) (unreachable)".into();
    load(&host, "/v1/transforms/guest/shadow", &looping.component().unwrap());
    let events: Vec<Value> = (0..100).map(|key| json!({"key": key})).collect();
    send(&host, "events", &json!(events));
    let seen = report(&host, "guest", 100);
    assert_eq!((&seen["rows"]["only_live"], &seen["rows"]["compared"]), (&json!(100), &json!(0)), "{seen}");
    let given_up = seen["shadow"]["given_up"].as_object().unwrap();
    assert_eq!(given_up.values().map(|one| one["count"].as_u64().unwrap()).sum::<u64>(), 100, "{seen}");
    assert_eq!(host.get("/v1/features/guest?key=99").unwrap().1["results"][0]["values"], json!([198]));
    assert_eq!(host.metric("gristmill_dead_letters_kept") + host.metric("gristmill_restarts_total"), 0.0);
    load(&host, "/v1/transforms/guest?max_age_secs=60", &Guest::doubling().component().unwrap());
    assert_eq!(host.get("/v1/transforms/guest/shadow").unwrap().0, 404, "it stood behind another binding");
    host.stop();
}

#[test]
fn what_cannot_be_compared_is_refused_and_a_shadow_ends_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path());
    let (tutorial, doubling) = (component("tutorial"), Guest::doubling().component().unwrap());
    load(&host, "/v1/transforms/tutorial", &tutorial);
    load(&host, "/v1/transforms/asked?at=request", &tutorial);
    for (path, component, expected, reason) in [
        ("/v1/transforms/none/shadow", &tutorial, 404, "there is no transform `none`"),
        ("/v1/transforms/asked/shadow", &tutorial, 422, "computes when somebody asks"),
        ("/v1/transforms/tutorial/shadow", &doubling, 422, "its entity differs"),
        ("/v1/transforms/tutorial/shadow?stream=x", &tutorial, 400, "unknown field `stream`"),
        ("/v1/transforms/tutorial/shadow", &b"garbage".to_vec(), 422, ""),
        ("/v1/transforms/tutorial/shadow", &Vec::new(), 400, "the body is empty"),
    ] {
        let (status, answer) = put(&host, path, component);
        assert!(status == expected && answer["error"]["message"].as_str().unwrap().contains(reason), "{path}: {status} {answer}");
    }
    let shadow = "/v1/transforms/tutorial/shadow";
    assert_eq!(host.get(shadow).unwrap().0, 404, "none of these has begun");
    load(&host, shadow, &tutorial);
    let (status, answer) = host.post(&format!("{shadow}/promote"), "").unwrap();
    assert!(status == 409 && answer.to_string().contains("0 rows were compared, and rows_min is 1"), "{answer}");
    assert_eq!(host.send("DELETE", shadow, None).unwrap().status, 204);
    assert_eq!(host.send("DELETE", shadow, None).unwrap().status, 404);
    host.kill();
    let host = start(folder.path());
    assert_eq!(host.get(shadow).unwrap().0, 404, "what was ended does not come back");
    host.stop();
}

#[test]
fn a_shadow_that_is_promoted_brings_back_nothing_that_is_deleted_or_replaced_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(folder.path());
    let version = |number: u8| [component("tutorial"), vec![0, 3, 1, b'v', number]].concat();
    let gates = r#"{"rows_min": 0}"#;
    for round in 0..6 {
        load(&host, "/v1/transforms/tutorial", &version(round * 3));
        load(&host, "/v1/transforms/tutorial/shadow", &version(round * 3 + 1));
        let other = version(round * 3 + 2);
        let before = host.get("/v1/transforms/tutorial/shadow").unwrap().1;
        let [promoted, done] = std::thread::scope(|scope| {
            let promote = scope.spawn(|| host.post("/v1/transforms/tutorial/shadow/promote", gates).unwrap().0);
            let done = scope.spawn(|| match round % 2 {
                0 => host.send("DELETE", "/v1/transforms/tutorial", None).unwrap().status,
                _ => host.put("/v1/transforms/tutorial", &other).unwrap().0,
            });
            [promote.join().unwrap(), done.join().unwrap()]
        });
        assert!(matches!(promoted, 200 | 404 | 409) && matches!(done, 200 | 204), "{promoted} {done}");
        // Whichever was first, this is what was asked for last, or what the shadow was not compared with.
        let (status, transform) = host.get("/v1/transforms/tutorial").unwrap();
        match round % 2 {
            0 => assert_eq!(status, 404, "{promoted}: {transform}"),
            _ => assert!(![&before["component"], &before["live_component"]].contains(&&transform["component"]), "{promoted}: {transform}"),
        }
    }
    host.stop();
}
