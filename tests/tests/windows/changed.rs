//! A view whose windows change while it is served: what a version brings begins with what is there, is never told for a moment for which it cannot be known, and
//! means the same under one name. And what the past says of who made it, and of entities that have expired.

use std::path::Path;

use gristmill::model::Timestamp;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::forgotten::wait_until_forgotten;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

pub(crate) fn orders() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/components/bench-orders.wasm")).unwrap()
}

/// The same with another digest: a section that means nothing stands behind it.
fn orders_again() -> Vec<u8> {
    [orders().as_slice(), &[0, 6, 5], b"again"].concat()
}

pub(crate) fn host(store: &str) -> (Host, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.orders]\n");
    (Host::start(folder.path(), &config).unwrap(), folder)
}

/// Puts a component with these options: the status, and what was said.
pub(crate) fn put(host: &Host, component: &[u8], options: &[(&str, &str)]) -> (u16, String) {
    let escaped = |value: &str| value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let answer = host.send("PUT", &format!("/v1/transforms/orders?{}", options.join("&")), Some(component)).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

pub(crate) fn accepted((status, said): (u16, String)) {
    assert_eq!(status, 200, "{said}");
}

/// Windows over the totals of orders: name, function and length.
pub(crate) fn windows(all: &[(&str, &str, Option<&str>)]) -> String {
    let one = |(feature, function, window): &(&str, &str, Option<&str>)| {
        let function: Value = serde_json::from_str(function).unwrap_or(json!(function));
        let mut one = json!({"feature": feature, "column": "total", "function": function});
        if let Some(window) = window {
            one["window"] = json!(window);
        }
        one
    };
    Value::Array(all.iter().map(one).collect()).to_string()
}

/// Sends orders of these entities, each at its moment, and waits until all that was ever sent is settled.
pub(crate) fn send(host: &Host, orders: &[(&str, i64)]) {
    let settled = host.metric("gristmill_entries_settled_total");
    let order = |(id, at): &(&str, i64)| json!({"id": id, "price": 1.0, "qty": 1, "fee": 0.5, "ts": Timestamp(*at).to_string(), "country": "no", "flag": false});
    let all: Vec<Value> = orders.iter().map(order).collect();
    assert_eq!(host.post("/v1/streams/orders/events", &json!(all).to_string()).unwrap().0, 200);
    let aim = settled + orders.len() as f64;
    wait_for("the orders to be settled", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
}

/// The first result for one entity, now or as of a moment.
fn result(host: &Host, id: &str, features: &[&str], at: Option<i64>) -> Value {
    let features: Vec<String> = features.iter().map(|feature| format!("orders:{feature}")).collect();
    let at = at.map(|at| Timestamp(at).to_string());
    let body = json!({"features": features, "entities": [{"id": id}], "as_of": at, "provenance": true});
    let (status, answer) = host.post("/v1/features", &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    // Answers by column say the same.
    let by_column = json!({"features": features, "entities": [{"id": id}], "as_of": at, "provenance": true, "layout": "columns"});
    let columns = host.post("/v1/features", &by_column.to_string()).unwrap().1;
    for list in ["values", "statuses", "event_times", "provenance"] {
        let of_columns: Vec<&Value> = columns["columns"].as_array().unwrap().iter().map(|column| &column[list][0]).collect();
        assert_eq!(json!(of_columns), answer["results"][0][list], "{list} of {columns}");
    }
    answer["results"][0].clone()
}

/// Values where they are present, statuses where not.
pub(crate) fn told(host: &Host, id: &str, features: &[&str], at: Option<i64>) -> Vec<Value> {
    let result = result(host, id, features, at);
    let (values, statuses) = (result["values"].as_array().unwrap(), result["statuses"].as_array().unwrap());
    values.iter().zip(statuses).map(|(value, status)| if status == "present" { value.clone() } else { status.clone() }).collect()
}

pub(crate) fn now() -> i64 {
    Timestamp::now().0
}

#[test]
fn the_first_windows_of_a_view_begin_with_what_history_has_and_tell_nothing_from_before() {
    let server = RedisServer::start();
    for store in ["type = \"embedded\"".to_owned(), "type = \"memory\"".to_owned(), format!("type = \"redis\"\nurl = \"{}\"", server.url())]
    {
        let (host, _folder) = host(&store);
        accepted(put(&host, &orders(), &[("history_secs", "3600")]));
        let now = now();
        let ago = |minutes: i64| now - minutes * MINUTE;
        // All of `new` is within history; `old` has an order from before.
        send(&host, &[("new", ago(50)), ("new", ago(40)), ("new", ago(30)), ("new", ago(20)), ("new", ago(10))]);
        send(&host, &[("old", ago(200)), ("old", ago(150)), ("old", ago(50)), ("old", ago(10))]);
        let all = windows(&[
            ("n", "count", None),
            ("n_3h", "count", Some("3h")),
            ("n_5m", "count", Some("5m")),
            ("sum", "sum", None),
            ("last", r#"{"last_values": 2}"#, None),
        ]);
        accepted(put(&host, &orders(), &[("history_secs", "3600"), ("aggregations", &all)]));
        let features = ["n", "n_3h", "n_5m", "sum", "last", "total"];
        let check = || {
            // The same before any event came under the new version, and after.
            assert_eq!(told(&host, "new", &features, None), [json!(5), json!(5), json!(0), json!(7.5), json!([1.5, 1.5]), json!(1.5)]);
            assert_eq!(
                told(&host, "new", &features, Some(ago(24))),
                [json!(3), json!(3), json!(0), json!(4.5), json!([1.5, 1.5]), json!(1.5)]
            );
            assert_eq!(told(&host, "new", &features, Some(ago(49))), [json!(1), json!(1), json!(1), json!(1.5), json!([1.5]), json!(1.5)]);
            assert_eq!(told(&host, "new", &["n", "total"], Some(ago(55))), [json!(0), json!("not_found")]);
            // What is counted since is told now, and as of each moment since the newest order before the change.
            let since = [json!(2), json!(2), json!(0), json!(3.0), json!([1.5, 1.5])];
            assert_eq!(told(&host, "old", &features[..5], None), since);
            assert_eq!(told(&host, "old", &features[..5], Some(ago(4))), since);
            // In between only what is not older than history is known.
            let outside = json!("outside_history");
            let between = told(&host, "old", &features, Some(ago(48)));
            assert_eq!(between, [outside.clone(), outside.clone(), json!(1), outside.clone(), outside.clone(), json!(1.5)]);
            let between = result(&host, "old", &features, Some(ago(30)));
            assert_eq!(between["statuses"], json!([outside, outside, "present", outside, outside, "present"]));
            assert_eq!(between["values"], json!([null, null, 0, null, null, 1.5]));
            assert!(between["event_times"][0].is_null() && between["event_times"][2].is_string(), "{between}");
            assert!(between["provenance"][0].is_null() && between["provenance"][2].is_object(), "{between}");
            assert_eq!(told(&host, "old", &["n_5m"], Some(ago(75))), [json!("outside_history")]);
        };
        check();
        send(&host, &[("new", ago(1)), ("old", ago(1))]);
        assert_eq!(told(&host, "new", &["n", "n_3h", "n_5m"], None), [json!(6), json!(6), json!(1)]);
        assert_eq!(told(&host, "old", &["n", "n_3h", "n_5m"], None), [json!(3), json!(3), json!(1)]);
        assert_eq!(told(&host, "old", &["n", "n_3h", "n_5m"], Some(ago(4))), [json!(2), json!(2), json!(0)]);
        assert_eq!(told(&host, "old", &["n"], Some(ago(30))), [json!("outside_history")]);
        assert_eq!(told(&host, "new", &["n"], Some(ago(25))), [json!(3)]);
        host.stop();
    }
}

/// A column that was not aggregated before, in a view that has windows; and one that nobody returned before.
#[test]
fn a_window_over_another_column_begins_with_what_history_has_of_it() {
    let (host, _folder) = host("type = \"embedded\"");
    let now = now();
    let ago = |minutes: i64| now - minutes * MINUTE;
    let with = |more: &[(&str, &str)]| {
        let mut all: Vec<Value> = serde_json::from_str(&windows(&[("n", "count", None)])).unwrap();
        all.extend(more.iter().map(|(feature, column)| json!({"feature": feature, "column": column, "function": "count"})));
        Value::Array(all).to_string()
    };
    for exact in ["false", "true"] {
        let accept = |aggregations: String| {
            accepted(put(&host, &orders(), &[("history_secs", "3600"), ("exact", exact), ("aggregations", &aggregations)]));
        };
        accept(with(&[]));
        let id = format!("e{exact}");
        send(&host, &[(&id, ago(30)), (&id, ago(20))]);
        accept(with(&[("n_hours", "hour"), ("n_shares", "fee_share")]));
        send(&host, &[(&id, ago(10))]);
        assert_eq!(told(&host, &id, &["n", "n_hours", "n_shares"], None), [json!(3), json!(3), json!(3)], "exact {exact}");
        assert_eq!(told(&host, &id, &["n", "n_hours", "n_shares"], Some(ago(25))), [json!(1), json!(1), json!(1)]);
        let status = host.send("DELETE", "/v1/transforms/orders", None).unwrap().status;
        assert_eq!(status, 204);
    }
    host.stop();
}

#[test]
fn what_a_feature_is_computed_of_does_not_change_under_its_name() {
    let (host, _folder) = host("type = \"embedded\"");
    let first = windows(&[("n", "count", Some("1h")), ("ever", "count", None)]);
    accepted(put(&host, &orders(), &[("history_secs", "60"), ("aggregations", &first)]));
    send(&host, &[("a", now()), ("a", now())]);
    let of_hours = windows(&[("n", "count", Some("1h")), ("ever", "count", None)]).replace("total", "hour");
    for (options, difference) in [
        (
            windows(&[("n", "count", Some("2h")), ("ever", "count", None)]),
            "feature `n` was integer, the count of `total` over 1h and is integer, the count of `total` over 2h",
        ),
        (windows(&[("n", "count", None), ("ever", "count", None)]), "and is integer, the count of `total` since the first event"),
        (
            windows(&[("n", "count", Some("1h")), ("ever", "distinct", None)]),
            "feature `ever` was integer, the count of `total` since the first event and is integer, how many different",
        ),
        (of_hours, "the count of `hour` over 1h"),
        (windows(&[("n", "count", Some("1h"))]), "feature `ever`, integer, the count of `total` since the first event, is gone"),
    ] {
        let (status, said) = put(&host, &orders(), &[("aggregations", &options)]);
        assert_eq!(status, 409, "{said}");
        assert!(said.contains(difference) && said.contains("a name of its own") && said.contains("orders@v2"), "{said}");
    }
    let (status, said) = put(&host, &orders(), &[("exact", "true")]);
    assert!(status == 409 && said.contains("over 1h, exact at both ends") && !said.contains("`ever`"), "{status} {said}");
    assert_eq!(told(&host, "a", &["n", "ever"], None), [json!(2), json!(2)]);
    // Under a name of its own it is welcome, and a roll back goes to what there was.
    let both = windows(&[("n", "count", Some("1h")), ("ever", "count", None), ("n_2h", "count", Some("2h"))]);
    accepted(put(&host, &orders(), &[("aggregations", &both), ("history_secs", "120")]));
    let (status, answer) = host.post("/v1/transforms/orders/roll-back", "").unwrap();
    assert_eq!((status, &answer["number"]), (200, &json!(1)), "{answer}");
    assert_eq!(told(&host, "a", &["n", "ever"], None), [json!(2), json!(2)]);
    host.stop();
}

/// What is wrong with options is told for a view that is there as for one that is not.
#[test]
fn wrong_windows_are_told_as_such_whether_or_not_there_is_a_view() {
    let (host, _folder) = host("type = \"memory\"");
    let wrong = [
        (json!([{"feature": "n", "column": "total", "function": "count", "window_ms": 999}]), "a window of 999 ms"),
        (json!([{"feature": "n", "column": "total", "function": {"last_values": 1001}}]), "1 to 1000 are allowed"),
        (json!([{"feature": "n", "column": "total", "function": {"quantile": 2.0}}]), "0 to 1 is right"),
        (json!([{"feature": "n", "column": "nothing", "function": "count"}]), "there is no output \"nothing\""),
        (json!([{"feature": "n", "column": "total", "function": "count", "window": "1 hour"}]), "a number and s, m, h or d"),
        (json!([{"feature": "n", "column": "total", "function": "count", "window": "1h", "window_ms": 1000}]), "leave one out"),
    ];
    let refuse_all = || {
        for (aggregations, expected) in &wrong {
            let (status, said) = put(&host, &orders(), &[("aggregations", &aggregations.to_string())]);
            let message = serde_json::from_str::<Value>(&said).unwrap()["error"]["message"].as_str().unwrap().to_owned();
            assert!(status == 422 && message.contains(expected) && !message.contains("is gone"), "{status} {message}");
        }
    };
    refuse_all();
    accepted(put(&host, &orders(), &[("aggregations", &windows(&[("n", "count", None)]))]));
    refuse_all();
    host.stop();
}

/// A value of the past says who made it, whatever has come into force since, and whoever has written the entity again.
#[test]
fn the_past_names_the_component_that_made_it() {
    let (host, _folder) = host("type = \"embedded\"");
    let now = now();
    let ago = |minutes: i64| now - minutes * MINUTE;
    let component = |told: &Value| told["provenance"][0]["component"].as_str().unwrap().to_owned();
    let in_force = || host.get("/v1/transforms/orders").unwrap().1["component"].as_str().unwrap().to_owned();
    let history = ("history_secs", "3600");
    accepted(put(&host, &orders(), &[history]));
    let first = in_force();
    send(&host, &[("a", ago(30)), ("a", ago(25))]);
    let more = windows(&[("n", "count", None)]);
    accepted(put(&host, &orders_again(), &[history, ("aggregations", &more)]));
    let second = in_force();
    assert_ne!(first, second);
    assert_eq!(component(&result(&host, "a", &["total"], None)), first, "nothing has come since");
    send(&host, &[("a", ago(20))]);
    accepted(put(&host, &orders(), &[history, ("aggregations", &windows(&[("n", "count", None), ("sum", "sum", None)]))]));
    send(&host, &[("a", ago(10)), ("a", ago(15))]);
    for (at, made_by) in
        [(Some(ago(29)), &first), (Some(ago(25)), &first), (Some(ago(18)), &second), (Some(ago(12)), &first), (None, &first)]
    {
        assert_eq!(component(&result(&host, "a", &["total", "n"], at)), *made_by, "as of {at:?}");
    }
    // A late order of now stands beside the older ones.
    send(&host, &[("a", ago(22))]);
    assert_eq!(component(&result(&host, "a", &["total"], Some(ago(18)))), second);
    assert_eq!(told(&host, "a", &["n", "total"], Some(ago(18))), [json!(4), json!(1.5)]);
    host.stop();
}

/// An entity that has expired is not one that never was.
#[test]
fn what_has_expired_is_outside_history_with_and_without_a_max_age() {
    let server = RedisServer::start();
    let age = [("expire_secs", "1")];
    let both = [("expire_secs", "1"), ("max_age_secs", "1")];
    for (store, ages) in [
        ("type = \"memory\"".to_owned(), &age[..]),
        ("type = \"embedded\"".to_owned(), &age),
        (format!("type = \"redis\"\nurl = \"{}\"", server.url()), &age),
        ("type = \"memory\"".to_owned(), &both),
    ] {
        let (host, _folder) = host(&store);
        let aggregations = windows(&[("n", "count", Some("1s"))]);
        accepted(put(&host, &orders(), &[&[("aggregations", aggregations.as_str())], ages].concat()));
        let first = now();
        send(&host, &[("a", first)]);
        assert_eq!(told(&host, "a", &["n"], Some(first)), [json!(1)], "{store}");
        let outside = [json!("outside_history"), json!("outside_history")];
        wait_until_forgotten(&host, "a", first);
        assert_eq!(told(&host, "a", &["n", "total"], Some(first)), outside, "{store}");
        assert_eq!(told(&host, "a", &["n", "total"], None), [json!(0), json!("not_found")], "{store}");
        send(&host, &[("a", now())]);
        assert_eq!(told(&host, "a", &["n", "total"], Some(first)), outside, "{store}, and the entity has come again");
        assert_eq!(told(&host, "a", &["total"], None), [json!(1.5)]);
        // A version that keeps more, or for ever, does not know whom the one before has forgotten.
        let longer = [("expire_secs", "1"), ("history_secs", "3600"), ("aggregations", aggregations.as_str())];
        for options in [&longer[..], &longer[1..]] {
            accepted(put(&host, &orders(), options));
            let after = now();
            for id in ["a", "nobody"] {
                assert_eq!(told(&host, id, &["n", "total"], Some(first)), outside, "{store}, {id}, {options:?}");
            }
            // What it kept goes on to expire for as long as it lasts.
            assert_eq!(told(&host, "nobody", &["n", "total"], Some(after)), outside, "{store}, {options:?}");
        }
        host.stop();
    }
}
