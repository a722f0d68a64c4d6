//! Versions whose features or inputs are others than those before: what fits, what is refused, and what becomes of old rows.

use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::{Batch, Column, Kind, Values};
use gristmill::transform::Output;
use gristmill_tests::host::{Host, wait_for};
use serde_json::{Value, json};
use std::path::Path;

const CONFIG: &str = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n";
const COUNTED: &str =
    "&aggregations=%5B%7B%22feature%22%3A%22n%22%2C%22column%22%3A%22f1%22%2C%22function%22%3A%22count%22%7D%5D&history_secs=3600";

/// A row transform that answers one event with these features: the position of each is its value.
fn component(features: &[(&str, Kind)]) -> Vec<u8> {
    let outputs: Vec<(&str, Kind, bool)> = features.iter().map(|(name, kind)| (*name, *kind, false)).collect();
    let columns = features.iter().enumerate().map(|(position, (_, kind))| {
        let values = match kind {
            Kind::Float => Values::Floats(vec![position as f64]),
            _ => Values::Integers(vec![position as i64]),
        };
        Column { values, validity: None }.into()
    });
    let output = Output { batch: Batch { rows: 1, columns: columns.collect() }, origins: None, rejected: Vec::new() };
    Guest::answering(spec(&outputs), output).component().unwrap()
}

fn put(host: &Host, more: &str, component: &[u8]) -> (u16, Value) {
    let answer = host.send("PUT", &format!("/v1/transforms/view?stream=events{more}"), Some(component)).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

fn works(host: &Host, key: usize) {
    host.post("/v1/streams/events/events", &json!({"key": key}).to_string()).unwrap();
    let path = format!("/v1/features/view?key={key}&features=f1");
    wait_for("the features of the event", || (host.get(&path).ok()?.1["results"][0]["values"] == json!([0])).then_some(()));
}

/// Each version adds a feature, and some events come.
fn old_rows_stay_readable(more: &str) {
    const VERSIONS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), CONFIG).unwrap();
    let names: Vec<String> = (1..=VERSIONS).map(|number| format!("f{number}")).collect();
    for many in 1..=VERSIONS {
        let features: Vec<(&str, Kind)> = names[..many].iter().map(|name| (name.as_str(), Kind::Integer)).collect();
        let (status, answer) = put(&host, more, &component(&features));
        assert_eq!((status, &answer["number"]), (200, &json!(many)), "{answer}");
        works(&host, many);
    }
    host.stop();
    let host = Host::start(folder.path(), CONFIG).unwrap();
    let features: Vec<String> = names.iter().map(|name| format!("view:{name}")).collect();
    let entities: Vec<Value> = (1..=VERSIONS).map(|key| json!({"key": key})).collect();
    let (status, answer) = host.post("/v1/features", &json!({"features": features, "entities": entities}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    for (index, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        let expected: Vec<Value> = (0..VERSIONS).map(|position| if position <= index { json!(position) } else { Value::Null }).collect();
        assert_eq!(result["values"], json!(expected), "the row that version {} wrote", index + 1);
    }
    if !more.is_empty() {
        host.post("/v1/streams/events/events", &json!({"key": 1}).to_string()).unwrap();
        let count = |host: &Host| {
            let counted = host.post("/v1/features", &json!({"features": ["view:n"], "entities": entities}).to_string()).unwrap().1;
            let counts = counted["results"].as_array().unwrap().iter().map(|result| result["values"][0].as_i64().unwrap());
            counts.collect::<Vec<i64>>()
        };
        let expected: Vec<i64> = std::iter::once(2).chain(std::iter::repeat_n(1, VERSIONS - 1)).collect();
        wait_for("the windows to go on from the events of the first version", || (count(&host) == expected).then_some(()));
    }
    host.stop();
}

#[test]
fn old_rows_stay_readable_after_many_changes() {
    old_rows_stay_readable("");
}

#[test]
fn old_entities_with_windows_and_history_stay_readable_after_many_changes() {
    old_rows_stay_readable(COUNTED);
}

#[test]
fn a_feature_that_is_gone_or_is_something_else_is_refused_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), CONFIG).unwrap();
    let (a, b) = (("f1", Kind::Integer), ("f2", Kind::Integer));
    assert_eq!(put(&host, COUNTED, &component(&[a, b])).0, 200);
    works(&host, 1);
    for (more, features, difference) in [
        ("", vec![a], "feature `f2`, integer, is gone"),
        ("", vec![a, ("f2", Kind::Float)], "feature `f2` was integer and is float"),
        ("&aggregations=%5B%5D", vec![a, b], "feature `n`, integer, the count of `f1` since the first event, is gone"),
    ] {
        let (status, answer) = put(&host, more, &component(&features));
        let said = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 409 && said.contains(difference) && said.contains("put it under `view@v2`"), "{status} {answer}");
        assert_eq!(answer["error"]["code"], "conflict");
    }
    let answer = host.send("PUT", "/v1/transforms/view@v2?stream=events", Some(&component(&[a]))).unwrap();
    assert_eq!(answer.status, 200, "as another version of the view it is fine");
    let (_, shown) = host.get("/v1/transforms/view").unwrap();
    assert_eq!(shown["number"], 1);
    assert!(shown["refused"].as_str().unwrap().contains("is gone"), "{shown}");
    // A roll back may take away what was added.
    assert_eq!(put(&host, "", &component(&[b, a, ("f3", Kind::Integer)])).0, 200);
    let (status, answer) = host.post("/v1/transforms/view/activate", r#"{"version": 1}"#).unwrap();
    assert!(status == 409 && answer.to_string().contains("feature `f3`, integer, is gone"), "{answer}");
    assert_eq!(host.post("/v1/transforms/view/roll-back", "").unwrap().0, 200);
    works(&host, 2);
    host.stop();
}

#[test]
fn a_declared_component_that_takes_features_away_leaves_the_version_of_the_last_stop_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{CONFIG}[streams.events]\n[transforms.view]\nstream = \"events\"\ncomponent = \"view.wasm\"\n");
    let declare = |features: &[(&str, Kind)]| std::fs::write(folder.path().join("view.wasm"), component(features)).unwrap();
    declare(&[("f1", Kind::Integer), ("f2", Kind::Integer)]);
    Host::start(folder.path(), &config).unwrap().stop();
    declare(&[("f1", Kind::Integer)]);
    let host = Host::start(folder.path(), &config).unwrap();
    let (_, shown) = host.get("/v1/transforms/view").unwrap();
    assert_eq!((&shown["number"], shown["spec"]["outputs"].as_array().unwrap().len()), (&json!(1), 2), "{shown}");
    assert!(shown["refused"].as_str().unwrap().contains("feature `f2`, integer, is gone"), "{shown}");
    works(&host, 1);
    // Nobody reads the view any more.
    assert_eq!(host.send("DELETE", "/v1/transforms/view", None).unwrap().status, 204);
    host.stop();
    let host = Host::start(folder.path(), &config).unwrap();
    let (_, shown) = host.get("/v1/transforms/view").unwrap();
    assert_eq!((&shown["number"], &shown["refused"]), (&json!(2), &Value::Null), "{shown}");
    works(&host, 1);
    host.stop();
}

#[test]
fn other_inputs_are_tried_on_the_newest_events_before_they_count() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), CONFIG).unwrap();
    let tutorial = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm")).unwrap();
    let put = |more: &str| {
        let answer = host.send("PUT", &format!("/v1/transforms/tutorial{more}"), Some(&tutorial)).unwrap();
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let from = |field: &str| format!("?inputs=%7B%22value%22%3A%7B%22from%22%3A%22{field}%22%7D%7D");
    assert_eq!(put("").0, 200);
    let (status, answer) = put(&from("amount"));
    assert_eq!((status, &answer["sample"]["events"]), (200, &json!(0)), "there is nothing to try it on: {answer}");
    assert_eq!(host.post("/v1/transforms/tutorial/roll-back", "").unwrap().0, 200);

    let events: Vec<Value> = (0..30).map(|number| json!({"id": format!("k{number}"), "value": number})).collect();
    host.post("/v1/streams/mystream/events", &json!(events).to_string()).unwrap();
    let (status, answer) = put(&from("amount"));
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 409 && said.contains("of the newest 30 events of stream `mystream` it can use none of the 30"), "{answer}");
    assert_eq!(host.get("/v1/transforms/tutorial").unwrap().1["number"], 1);
    let (status, answer) = host.post("/v1/transforms/tutorial/activate", r#"{"version": 2}"#).unwrap();
    assert_eq!(status, 409, "{answer}");
    let (status, answer) = host.post("/v1/transforms/tutorial/activate", r#"{"version": 2, "force": true}"#).unwrap();
    let outcome = |used: u64, failed: u64| json!({"used": used, "rows": used, "rejected": 0, "failed": failed});
    let fits = |answer: &Value, side: &str, expected: Value| {
        let mut outcome = answer["sample"][side].clone();
        let reasons = outcome.as_object_mut().unwrap().remove("reasons").unwrap();
        assert_eq!(outcome, expected, "{answer}");
        reasons.as_array().unwrap().len()
    };
    assert_eq!(status, 200, "{answer}");
    assert_eq!(fits(&answer, "before", outcome(30, 0)), 0);
    assert_eq!(fits(&answer, "after", outcome(0, 30)), 1, "the same reason is told once");

    let events: Vec<Value> = (0..20).map(|number| json!({"id": format!("k{number}"), "amount": number})).collect();
    host.post("/v1/streams/mystream/events", &json!(events).to_string()).unwrap();
    assert_eq!(host.post("/v1/transforms/tutorial/roll-back", "").unwrap().0, 200);
    let (status, answer) = put(&from("amount"));
    assert_eq!((status, &answer["sample"]["events"]), (409, &Value::Null), "none of those that the one in force can use: {answer}");
    let (status, answer) = put(&(from("amount") + "&force=true"));
    assert_eq!(status, 200, "{answer}");
    fits(&answer, "before", outcome(30, 20));
    fits(&answer, "after", outcome(20, 30));
    let (status, answer) = put("?inputs=%7B%22value%22%3A%7B%22from%22%3A%22amount%22%2C%22default%22%3A%221%22%7D%7D");
    assert_eq!(status, 200, "{answer}");
    fits(&answer, "after", outcome(50, 0));
    host.stop();
}
