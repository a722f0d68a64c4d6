//! Answers: large ones, kept ones, and those in Arrow.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType;
use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::{Batch, Column, Kind, Packed, Timestamp, Values};
use gristmill::transform::Output;
use gristmill_tests::host::{Host, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{component, connect, put_tutorial, start};

#[test]
fn an_answer_is_bounded_however_often_a_long_value_is_asked_for() {
    let (host, _folder) = start("");
    let text = Values::Texts(Packed { offsets: vec![0, 1_000_000], bytes: vec![b'x'; 1_000_000] });
    let batch = Batch { rows: 1, columns: vec![Column { values: text, validity: None }.into()] };
    let guest = Guest::answering(spec(&[("text", Kind::Text, false)]), Output { batch, origins: None, rejected: vec![] });
    assert_eq!(host.put("/v1/transforms/long", &guest.component().unwrap()).unwrap().0, 200);
    host.post("/v1/streams/events/events", r#"{"key":1}"#).unwrap();
    wait_for("the row", || (host.get("/v1/features/long?key=1").unwrap().1["results"][0]["statuses"][0] == "present").then_some(()));
    let body =
        |entities: usize, features: usize| json!({"features": vec!["long:text"; features], "entities": vec![json!({"key": 1}); entities]});
    for (entities, features) in [(10_000, 1), (2, 1_000)] {
        let (status, answer) = host.post("/v1/features", &body(entities, features).to_string()).unwrap();
        assert_eq!((status, &answer["error"]["code"]), (413, &json!("too_large")), "{entities} × {features}");
    }
    assert_eq!(host.post("/v1/features", &body(2, 2).to_string()).unwrap().0, 200);
    host.stop();
}

/// Results are kept from one answer to the next. What is asked for one entity in the address is always written anew.
#[test]
fn results_that_are_kept_are_as_true_as_those_that_are_written() {
    let (host, _folder) = start("");
    put_tutorial(&host, &component("tutorial"));
    let written = |id: usize| host.text(&format!("/v1/features/tutorial?id={id}")).unwrap();
    let asked = |ids: &[usize]| {
        let entities: Vec<Value> = ids.iter().map(|id| json!({"id": id.to_string()})).collect();
        let body = json!({"view": "tutorial", "entities": entities}).to_string();
        String::from_utf8(host.send("POST", "/v1/features", Some(body.as_bytes())).unwrap().body).unwrap()
    };
    for round in 0..9_i32 {
        let changes = round as usize % 3;
        host.post("/v1/streams/mystream/events", &json!({"id": changes, "value": round + 1}).to_string()).unwrap();
        // The same as soon as it is there, and as often as it is asked for; one of them never comes.
        let first = |told: &String| serde_json::from_str::<Value>(told).unwrap()["results"][0]["values"][0].as_f64();
        let told = wait_for("the event", || Some(written(changes)).filter(|told| first(told) == Some(f64::from(round + 1) * 2.0)));
        for _ in 0..3 {
            assert_eq!(asked(&[changes]), told);
            let all: Value = serde_json::from_str(&asked(&[0, 1, 2, 3, 0])).unwrap();
            for (result, id) in all["results"].as_array().unwrap().iter().zip([0, 1, 2, 3, 0]) {
                assert_eq!(*result, serde_json::from_str::<Value>(&written(id)).unwrap()["results"][0]);
            }
        }
        assert!(told.contains("present") && asked(&[3]).contains("not_found"), "{told}");
    }
    host.stop();
}

#[test]
fn a_result_that_is_kept_grows_too_old_and_expires() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("doubling.wasm"), Guest::doubling().component().unwrap()).unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[streams.events]\n[transforms.doubling]\ncomponent = \"doubling.wasm\"\n\
                  max_age_secs = 1\nexpire_secs = 2\n";
    let host = Host::start(folder.path(), config).unwrap();
    host.post("/v1/streams/events/events", r#"{"key":1}"#).unwrap();
    for expected in ["present", "outside_max_age", "not_found"] {
        wait_for(expected, || {
            let asked = host.post("/v1/features", r#"{"view":"doubling","entities":[{"key":1}]}"#).unwrap();
            (asked.1["results"][0]["statuses"] == json!([expected])).then_some(())
        });
    }
    host.stop();
}

/// Four answers of half a million values at the same time, on a host whose workers are fewer as a rule.
#[test]
fn answers_that_take_long_hold_up_no_others() {
    const ENTITIES: usize = 5_000;
    let (host, _folder) = start("");
    put_tutorial(&host, &component("tutorial"));
    let entities: Vec<Value> = (0..ENTITIES).map(|number| json!({"id": number})).collect();
    let long = json!({"features": vec!["tutorial:feature1"; 200], "entities": entities, "layout": "columns"}).to_string();
    let head = format!("POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", long.len());
    let answered = AtomicBool::new(false);
    let (slowest, quickest_long) = std::thread::scope(|scope| {
        let ask = || {
            let (mut client, started, mut answer) = (connect(&host), Instant::now(), Vec::new());
            client.write_all([head.as_bytes(), long.as_bytes()].concat().as_slice())?;
            client.read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>((answer.starts_with(b"HTTP/1.1 200 "), answer.len(), started.elapsed()))
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let small = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !answered.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert_eq!(host.get("/v1/features/tutorial?id=1").unwrap().0, 200);
                slowest = slowest.max(started.elapsed());
            }
            slowest
        });
        let all: Vec<_> = all.into_iter().map(|long| long.join()).collect();
        answered.store(true, Ordering::Relaxed);
        let took = all.into_iter().map(|long| match long.unwrap().unwrap() {
            (true, bytes, took) if bytes > 20_000_000 => took,
            other => panic!("{other:?}"),
        });
        (small.join().unwrap(), took.min().unwrap())
    });
    assert!(slowest * 2 < quickest_long, "a small answer took {slowest:?} beside long ones of at least {quickest_long:?}");
    host.stop();
}

/// What stands in a row of an Arrow column, as JSON has it.
fn json_of(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let list = |values: ArrayRef| (0..values.len()).map(|row| json_of(&values, row)).collect::<Value>();
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => json!(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => base64(array.as_binary::<i32>().value(row)),
        DataType::Timestamp(_, zone) => {
            assert_eq!(zone.as_deref(), Some("UTC"));
            json!(Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)).to_string())
        }
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row)),
        DataType::List(_) => list(array.as_list::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let words = array.as_dictionary::<Int8Type>();
            json_of(words.values(), words.key(row).unwrap())
        }
        other => panic!("{other}"),
    }
}

fn base64(bytes: &[u8]) -> Value {
    let mut out = Vec::new();
    gristmill::model::json::push_value(&mut out, Some(gristmill::model::Value::Bytes(bytes)));
    serde_json::from_slice(&out).unwrap()
}

/// Every kind of value, and lists of them.
#[test]
fn answers_in_arrow_say_what_answers_in_json_say() {
    let (host, _folder) = start("");
    let columns = ["truth", "whole", "real", "text", "blob", "moment", "embedding"];
    let last = |column| json!({"feature": format!("last_{column}"), "column": column, "function": {"last_values": 2}});
    let lists: Value = columns.into_iter().map(last).collect();
    let escaped: String = lists.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components/conformance-reference.wasm");
    let put = format!("/v1/transforms/reference?stream=mystream&aggregations={escaped}");
    let (status, answer) = host.put(&put, &std::fs::read(reference).unwrap()).unwrap();
    assert_eq!(status, 200, "{answer}");
    let events = json!([
        {"id": "a", "action": "keep", "truth": true, "whole": -3, "real": 0.1, "text": "döner", "blob": "AAE=",
         "moment": "2026-01-02T03:04:05.000006Z", "embedding": [1.5, -2.0, 0.0]},
        {"id": "a", "action": "keep", "truth": false, "whole": 7, "real": 2.5, "text": "", "blob": "",
         "moment": "1969-12-31T23:59:59Z", "embedding": [0.0, 0.25, 1e-3]},
        {"id": "b", "action": "keep"},
    ]);
    host.post("/v1/streams/mystream/events", &events.to_string()).unwrap();
    let entities = json!([{"id": "a"}, {"id": "b"}, {"id": "none"}]);
    let body = json!({"view": "reference", "entities": entities, "layout": "columns", "provenance": true}).to_string();
    let answer = wait_for("the rows", || {
        let (_, answer) = host.post("/v1/features", &body).unwrap();
        (answer["columns"][0]["statuses"] == json!(["present", "null", "not_found"])).then_some(answer)
    });
    let accept = "application/json;q=0.1, application/vnd.apache.arrow.stream";
    let (media_type, bytes) = host.post_accepting(accept, "/v1/features", &body).unwrap();
    assert_eq!(media_type, "application/vnd.apache.arrow.stream");
    let batches: Vec<_> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    let column = |name: &str| {
        let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no {name} in {:?}", batch.schema()));
        (0..column.len()).map(|row| json_of(column, row)).collect::<Value>()
    };
    assert_eq!(column("id"), json!(["a", "b", "none"]));
    assert_eq!(answer["features"].as_array().unwrap().len(), 14);
    for (feature, expected) in answer["features"].as_array().unwrap().iter().zip(answer["columns"].as_array().unwrap()) {
        let feature = feature.as_str().unwrap();
        assert_eq!(column(feature), expected["values"], "{feature}");
        assert_eq!(column(&format!("{feature}__status")), expected["statuses"], "{feature}");
    }
    let first = &answer["columns"][0];
    assert_eq!(column("reference__event_time"), first["event_times"]);
    assert_eq!(column("reference__entry_id")[0], first["provenance"][0]["entry_id"]);
    assert_eq!(column("reference__component")[0], first["provenance"][0]["component"]);
    assert_eq!(batch.num_columns(), 1 + 2 * 14 + 3);
    for accept in ["application/vnd.apache.arrow.stream;q=0", "application/vnd.apache.arrow.stream; q=0.1, application/json"] {
        assert_eq!(host.post_accepting(accept, "/v1/features", &body).unwrap().0, "application/json", "{accept}");
    }
    // By query string, and with nobody asked for.
    let body = json!({"view": "reference", "entities": []}).to_string();
    let (_, bytes) = host.post_accepting(accept, "/v1/features", &body).unwrap();
    let rows: usize = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 0);
}
