//! Views that are computed when they are asked for, beside what `cases/http/computed.json` says.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gristmill::conformance::guest::Guest;
use gristmill_tests::host::{Host, binary, wait_for};
use gristmill_tests::proxy::{Passing, Proxy};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// `risk` is the reference component: it doubles a number and adds a tenth. The number is a stored feature, twice what the tutorial was sent.
const RISK: &str = r#"
[transforms.risk]
at = "request"
component = "conformance-reference.wasm"
inputs.real.from = "tutorial:feature1"
"#;

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for path in ["plugins/prebuilt/tutorial.wasm", "target/components/conformance-reference.wasm"] {
        let from = root.join(path);
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    folder
}

fn config(more: &str) -> String {
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.mystream]\n\n[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\n\
         history_secs = 86400\n{more}"
    )
}

fn send(host: &Host, id: &str, value: f64) -> String {
    let (status, answer) = host.post("/v1/streams/mystream/events", &json!({"id": id, "value": value}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    wait_for("the feature", || {
        let answer = host.get(&format!("/v1/features/tutorial?id={id}")).unwrap().1;
        let result = &answer["results"][0];
        (result["values"][0] == json!(value * 2.0)).then(|| result["event_times"][0].as_str().unwrap().to_owned())
    })
}

fn gristmill(host: &Host, arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).args(["--host", host.url()]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn query(host: &Host, body: &Value) -> Value {
    let (status, answer) = host.post("/v1/features", &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

fn all(answer: &Value, what: &str) -> Vec<Value> {
    answer["results"].as_array().unwrap().iter().map(|result| result[what][0].clone()).collect()
}

#[test]
fn it_is_computed_from_what_was_stored_at_the_moment_asked_about() {
    let folder = folder();
    let host = Host::start(folder.path(), &config(RISK)).unwrap();
    let first = send(&host, "a", 1.0);
    send(&host, "a", 2.0);
    let mut asked = json!({"features": ["risk:real", "risk:moment"], "entities": [{"id": "a"}], "request": {"moment": 0}});
    assert_eq!(query(&host, &asked)["results"][0]["values"], json!([8.1, "1970-01-01T00:00:01Z"]));
    asked["as_of"] = json!(first);
    let then = &query(&host, &asked)["results"][0];
    assert_eq!(then["values"], json!([4.1, "1970-01-01T00:00:01Z"]));
    assert_eq!(then["event_times"], json!([first, first]), "it was computed for that moment");
    host.stop();
}

#[test]
fn one_component_gives_the_same_on_a_stream_and_for_a_request() {
    let folder = folder();
    let on_stream = "\n[streams.reference]\n[transforms.streamed]\ncomponent = \"conformance-reference.wasm\"\n";
    let at_request = "\n[transforms.asked]\nat = \"request\"\ncomponent = \"conformance-reference.wasm\"\n";
    let host = Host::start(folder.path(), &config(&format!("{on_stream}{at_request}"))).unwrap();
    let values =
        json!({"truth": true, "whole": i64::MIN, "real": 0.1, "text": "ü\"\n", "blob": "x", "moment": 1.5, "embedding": [0.1, -2, 1e30]});
    let mut event = values.clone();
    event["id"] = json!("a");
    host.post("/v1/streams/reference/events", &event.to_string()).unwrap();
    let streamed = wait_for("the row", || {
        let answer = query(&host, &json!({"view": "streamed", "entities": [{"id": "a"}]}));
        (answer["results"][0]["statuses"][0] == "present").then(|| answer["results"][0]["values"].clone())
    });
    let asked = query(&host, &json!({"view": "asked", "entities": [{"id": "a"}], "request": values}));
    assert_eq!(asked["results"][0]["values"], streamed);
    host.stop();
}

#[test]
fn the_last_value_is_of_the_present_and_the_past_knows_none() {
    let folder = folder();
    let risk = format!("{RISK}fallback = \"last\"\nfallback_values = {{ text = \"none\" }}\n");
    let host = Host::start(folder.path(), &config(&risk)).unwrap();
    let (first, other) = (send(&host, "a", 1.0), send(&host, "b", 5.0));
    let ask = |id: &str, as_of: Option<&str>, deadline_ms: Option<u64>| {
        let features = ["risk:real", "risk:text"];
        let body = json!({"features": features, "entities": [{"id": id}], "as_of": as_of, "deadline_ms": deadline_ms, "provenance": true});
        query(&host, &body)["results"][0].clone()
    };
    let now = ask("a", None, None);
    assert_eq!((&now["values"][0], &now["statuses"][0]), (&json!(4.1), &json!("present")));
    let late = ask("a", None, Some(0));
    assert_eq!((&late["values"][0], &late["statuses"]), (&json!(4.1), &json!(["fallback", "fallback"])));
    assert_eq!(late["provenance"], now["provenance"], "it says what made it, and when");
    let past = ask("a", Some(&first), Some(0));
    let configured = (json!([null, "none"]), json!(["fallback", "fallback"]), json!([null, null]));
    assert_eq!((past["values"].clone(), past["statuses"].clone(), past["provenance"].clone()), configured, "it was computed since");
    let past = ask("b", Some(&other), None);
    assert_eq!((&past["values"][0], &past["statuses"][0]), (&json!(20.1), &json!("present")));
    let late = ask("b", None, Some(0));
    assert_eq!((late["values"].clone(), late["statuses"].clone(), late["provenance"].clone()), configured, "it was computed of the past");
    host.stop();
}

/// A host whose store is the server that the proxy leads to.
fn redis_config(port: u16, more: &str) -> String {
    config(&format!("{more}\n[store]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:{port}/0\"\n"))
}

#[test]
fn a_deadline_runs_from_the_request_and_bounds_the_read_of_inputs() {
    let folder = folder();
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let host = Host::start(folder.path(), &redis_config(proxy.port(), RISK)).unwrap();
    send(&host, "a", 1.0);
    let computed = json!({"features": ["risk:real"], "entities": [{"id": "a"}], "deadline_ms": 50});
    let both = json!({"features": ["tutorial:feature1", "risk:real"], "entities": [{"id": "a"}], "deadline_ms": 50});
    // What is stored is waited for, and what is computed of it comes too late.
    proxy.set(Passing::After(Duration::from_millis(200)));
    let answer = query(&host, &both);
    assert_eq!((all(&answer, "values"), &answer["results"][0]["statuses"]), (vec![json!(2.0)], &json!(["present", "error"])));
    // What is computed alone does not wait for a store that says nothing.
    proxy.set(Passing::OneWay);
    assert_eq!(all(&query(&host, &computed), "statuses"), [json!("error")]);
    let mistaken = json!({"features": ["risk:real"], "entities": [{"id": "a"}], "request": {"whole": "many"}, "deadline_ms": 50});
    assert_eq!(host.post("/v1/features", &mistaken.to_string()).unwrap().0, 422, "a mistake is one, however late");
    proxy.heal();
    let again = json!({"features": ["risk:real"], "entities": [{"id": "a"}]});
    wait_for("the store", || (all(&query(&host, &again), "statuses") == [json!("present")]).then_some(()));
    host.stop();
}

#[test]
fn a_hundred_entities_of_several_views_are_one_read_of_the_store() {
    let folder = folder();
    let server = RedisServer::start();
    let windows = r#"
        [transforms.second]
        component = "tutorial.wasm"
        stream = "mystream"
        aggregations = [{ feature = "mean_1h", column = "feature1", function = "mean", window_ms = 3600000 }]
        [transforms.third]
        component = "tutorial.wasm"
        stream = "mystream"
    "#;
    let host = Host::start(folder.path(), &redis_config(server.port(), windows)).unwrap();
    send(&host, "e99", 1.0);
    let reads = || {
        let told: String = server.ask("INFO commandstats");
        let of = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        of("cmdstat_mget:")
    };
    let entities: Vec<Value> = (0..100).map(|entity| json!({"id": format!("e{entity}")})).collect();
    let body = json!({"features": ["tutorial:feature1", "second:mean_1h", "third:feature2"], "entities": entities});
    query(&host, &body);
    let before = reads();
    let answer = query(&host, &body);
    assert_eq!(answer["results"][99]["values"], json!([2.0, 2.0, 11.0]));
    assert_eq!(reads() - before, 1);
    host.stop();
}

/// Doubles a key, traps on 13, and never comes back from 14.
fn unlucky() -> Vec<u8> {
    let mut guest = Guest::doubling();
    let next = "(i64.store (local.get $at) (i64.mul";
    assert!(guest.apply.contains(next));
    let traps = "(if (i64.eq (i64.load (local.get $at)) (i64.const 13)) (then unreachable))";
    let hangs = "(if (i64.eq (i64.load (local.get $at)) (i64.const 14)) (then (loop $forever (br $forever))))";
    guest.apply = guest.apply.replace(next, &format!("{traps} {hangs} {next}"));
    guest.component().unwrap()
}

#[test]
fn an_entity_that_it_fails_on_harms_no_other() {
    let folder = folder();
    let config = config(
        "\n[transforms.unlucky]\nat = \"request\"\ncomponent = \"unlucky.wasm\"\nfallback = \"values\"\nfallback_values = { double = -1 }\n",
    );
    std::fs::write(folder.path().join("unlucky.wasm"), unlucky()).unwrap();
    let host = Host::start(folder.path(), &config).unwrap();
    let entities: Vec<Value> = [1, 13, 5, 13, -7].iter().map(|key| json!({"key": key})).collect();
    let answer = query(&host, &json!({"view": "unlucky", "entities": entities}));
    assert_eq!(all(&answer, "values"), [2, -1, 10, -1, -14].map(Value::from));
    assert_eq!(all(&answer, "statuses"), ["present", "fallback", "present", "fallback", "present"].map(Value::from));
    let count = |metric: &str, of: &str| {
        let text = host.text("/metrics").unwrap();
        let line = text.lines().find(|line| line.starts_with(metric) && line.contains(of));
        assert!(line.is_some(), "{text}");
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert_eq!(count("gristmill_not_computed_total", "reason=\"trap\""), 2.0);
    assert_eq!(count("gristmill_values_served_total", "status=\"fallback\""), 2.0);
    host.stop();
}

#[test]
fn one_that_never_comes_back_is_given_up_and_holds_up_nobody_else() {
    let folder = folder();
    // Longer than the test may take.
    let slow = "\n[transforms.unlucky]\nat = \"request\"\ncomponent = \"unlucky.wasm\"\nlimits.deadline_ms = 3600000\n";
    std::fs::write(folder.path().join("unlucky.wasm"), unlucky()).unwrap();
    let host = Host::start(folder.path(), &config(slow)).unwrap();
    send(&host, "a", 1.0);
    let body = json!({"view": "unlucky", "entities": [{"key": 14}], "deadline_ms": 5_000});
    std::thread::scope(|scope| {
        // More than there are threads that answer.
        let stuck: Vec<_> = (0..8).map(|_| scope.spawn(|| query(&host, &body))).collect();
        for _ in 0..20 {
            let answer = query(&host, &json!({"view": "tutorial", "entities": [{"id": "a"}]}));
            assert_eq!(all(&answer, "values"), [json!(2.0)]);
        }
        assert!(stuck.iter().all(|stuck| !stuck.is_finished()), "others waited until it was given up");
        let stuck: Vec<Value> = stuck.into_iter().map(|stuck| stuck.join().unwrap()).collect();
        assert!(stuck.iter().all(|answer| all(answer, "statuses") == [json!("error")]), "{stuck:?}");
    });
    let answer = query(&host, &json!({"view": "unlucky", "entities": [{"key": 4}]}));
    assert_eq!(all(&answer, "values"), [json!(8)], "it works again");
    host.stop();
}

#[test]
fn one_that_was_pushed_is_there_again_after_a_restart() {
    let folder = folder();
    let host = Host::start(folder.path(), &config("")).unwrap();
    send(&host, "a", 3.0);
    let component = folder.path().join("conformance-reference.wasm");
    let push = ["push", component.to_str().unwrap(), "--name", "risk", "--at", "request", "--input", "real=tutorial:feature1"];
    let said = gristmill(&host, &[&push[..], &["--fallback", "values", "--fallback-values", r#"{"text": "none"}"#]].concat());
    assert!(said.starts_with("risk is in force for requests, version 1, component "), "{said}");
    let said = gristmill(&host, &["get", "--features", "risk:text,risk:real", "id=a", "--request", "text=x", "--request", "whole=1"]);
    assert!(said.contains("<x>") && said.contains("12.1"), "{said}");
    let asked =
        json!({"features": ["risk:real", "risk:text"], "entities": [{"id": "a"}, {"id": "a"}], "request": [{}, {"action": "reject"}]});
    let before = all(&query(&host, &asked), "values");
    assert_eq!(before, [json!(12.1), Value::Null]);
    host.kill();
    let host = Host::start(folder.path(), &config("")).unwrap();
    let answer = wait_for("what was pushed", || {
        let (status, answer) = host.post("/v1/features", &asked.to_string()).unwrap();
        (status == 200).then_some(answer)
    });
    assert_eq!(all(&answer, "values"), before);
    assert_eq!(answer["results"][1]["values"], json!([null, "none"]));
    host.stop();
}
