//! The `feast_redis` store: what stands in Redis, byte by byte, and that the newest row of an entity stays whole whatever happens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill::model::feast::{FeastKey, decode, decode_time, encode_time, field, redis_key};
use gristmill::model::{Field, Kind, OwnedValue, Timestamp};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{ask, hex, host_in, host_with, json_case, laid_out, unhex};

/// Every hash outside of the host's own prefix, its own fields left out.
fn hashes(server: &RedisServer) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut connection = server.connection();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let feasts = keys.into_iter().filter(|key| !key.starts_with(b"gristmill:"));
    let of_key = feasts.map(|key| {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap();
        let (own, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name.starts_with(b"_gristmill:"));
        assert!(!own.is_empty(), "the host's own field stands beside");
        (hex(&key), fields.iter().map(|(name, value)| (hex(name), hex(value))).collect())
    });
    of_key.collect()
}

fn expected(keys: &Value) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = keys.as_array().unwrap().iter().map(|key| {
        let fields = key["fields"].as_array().unwrap().iter().map(|field| (text(&field["field_hex"]), text(&field["value_hex"])));
        (text(&key["key_hex"]), fields.collect())
    });
    keys.collect()
}

/// The rows as the columns of a request; what the case has as hexadecimal digits is sent in base 64.
fn columns(rows: &Value) -> Value {
    let mut columns: Map<String, Value> = Map::new();
    for row in rows.as_array().unwrap() {
        for (name, value) in row.as_object().unwrap() {
            let base64 = |value: &Value| Value::from(base64(&unhex(value)));
            let value = match name.as_str() {
                "f_bytes" => base64(value),
                "l_bytes" => value.as_array().unwrap().iter().map(base64).collect(),
                _ => value.clone(),
            };
            columns.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
        }
    }
    columns.into()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of_chunk = |chunk: &[u8]| {
        let word = (0..3).fold(0, |word, index| word << 8 | usize::from(*chunk.get(index).unwrap_or(&0)));
        let digit = |index: usize| if index <= chunk.len() { DIGITS[word >> (18 - 6 * index) & 63] as char } else { '=' };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(of_chunk).collect()
}

#[test]
fn rows_stand_in_redis_as_feast_writes_them() {
    let (server, case) = (RedisServer::start(), json_case("written_v3.json"));
    let (host, _folder) = host_with(&laid_out(&server), "");
    for push in case["pushes"].as_array().unwrap() {
        ask(&host, "/push", &json!({"push_source_name": push["push_source"], "df": columns(&push["rows"])}));
    }
    let (found, expected) = (hashes(&server), expected(&case["redis"]));
    assert_eq!(found, expected);
    // And they are read as they were written, by this host and by one that wrote none of them.
    let body = json!({"features": ["all_types:f_bytes", "all_types:f_ts", "all_types:l_ts", "all_types:l_bytes", "all_types:f_int32", "driver_stats:tier"], "entities": {"driver_id": [1001]}});
    let answer = ask(&host, "/get-online-features", &body);
    let values: Vec<&Value> = answer["results"].as_array().unwrap().iter().map(|result| &result["values"][0]).collect();
    assert_eq!(json!(values), json!([1001, "AP8=", 1767323045, [1767323045, 1767323045], ["YQ==", "Yg=="], -7, "gold"]));
    host.stop();
    let (other, _folder) = host_with(&laid_out(&server), "");
    assert_eq!(ask(&other, "/get-online-features", &body), answer);
}

#[test]
fn entities_expire_as_a_whole_and_projects_are_apart() {
    let server = RedisServer::start();
    let case = json_case("written_v3.json");
    let merchants = columns(&json!([case["pushes"][1]["rows"][0]]));
    let (host, _folder) = host_with(&format!("{}\nkey_ttl_secs = 3600", laid_out(&server)), "");
    ask(&host, "/push", &json!({"push_source_name": "merchant_push", "df": merchants}));
    let key = redis_key("labfraud", &[("merchant_code", FeastKey::String("M-1"))]);
    let ttl = || redis::cmd("TTL").arg(&key).query::<i64>(&mut server.connection()).unwrap();
    assert!((3_590..=3_600).contains(&ttl()), "{}", ttl());
    let set_ttl = |secs: u32| redis::cmd("EXPIRE").arg(&key).arg(secs).query::<i64>(&mut server.connection()).unwrap();
    set_ttl(100);
    let mut older = merchants.clone();
    older["event_timestamp"] = json!(["2025-01-01T00:00:00Z"]);
    ask(&host, "/push", &json!({"push_source_name": "merchant_push", "df": older}));
    assert!(ttl() <= 100, "a row that is older than what is there keeps nothing alive");
    assert!(hashes(&server).keys().all(|key| key.ends_with(&hex(b"labfraud"))));
}

/// One row of `merchant_stats`.
fn merchant(code: &str, time: Timestamp, category: &str, risk: f64) -> Value {
    json!({"merchant_code": [code], "event_timestamp": [time.to_string()], "risk_score": [risk], "category": [category], "conv_rate": [null]})
}

fn category(host: &Host, code: &str) -> Value {
    let answer =
        ask(host, "/get-online-features", &json!({"features": ["merchant_stats:category"], "entities": {"merchant_code": [code]}}));
    answer["results"][1]["values"][0].clone()
}

#[test]
fn an_older_event_time_never_replaces_a_newer_one() {
    let server = RedisServer::start();
    let (host, _folder) = host_with(&laid_out(&server), "");
    let push = |time: i64, category: &str| {
        let df = merchant("m", Timestamp(time), category, 1.0);
        ask(&host, "/push", &json!({"push_source_name": "merchant_push", "df": df}));
    };
    // Before 1970 numbers are negative, and protobuf writes them with ten bytes.
    let times = [-2_000_001, -2_000_000, -1_999_999, -1, 0, 1, 127_999_999, 128_000_000, 1_767_323_045_678_901, 1_767_323_045_678_902];
    for (position, time) in times.iter().enumerate() {
        push(*time, &format!("at {time}"));
        assert_eq!(category(&host, "m"), format!("at {time}"), "a newer row is taken");
        times[..position].iter().for_each(|older| push(*older, "older"));
        assert_eq!(category(&host, "m"), format!("at {time}"), "older ones are not");
    }
    // Somebody else, Feast itself for instance, writes too, and says nothing of it to this host.
    let key = redis_key("labfraud", &[("merchant_code", FeastKey::String("m"))]);
    let theirs = Timestamp(1_800_000_000_000_000);
    let mut hset = redis::cmd("HSET");
    hset.arg(&key).arg("_ts:merchant_stats").arg(encode_time(theirs));
    hset.arg(&field("merchant_stats:category")[..]).arg(&b"\x12\x06theirs"[..]);
    hset.query::<i64>(&mut server.connection()).unwrap();
    assert_eq!(category(&host, "m"), "theirs");
    push(theirs.0, "the same time");
    assert_eq!(category(&host, "m"), "theirs", "of the same event time theirs was first");
    push(theirs.0 - 1, "older");
    assert_eq!(category(&host, "m"), "theirs");
    push(theirs.0 + 1, "newer");
    assert_eq!(category(&host, "m"), "newer");
    push(theirs.0 + 1, "corrected");
    assert_eq!(category(&host, "m"), "corrected", "of two of this host's own the later");
}

#[test]
fn rows_stay_whole_and_the_newest_wins_among_hosts_that_are_killed() {
    const CODES: usize = 20;
    let server = RedisServer::start();
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let mut newest = 0;
    for round in 0..6_i64 {
        let hosts = folders.each_ref().map(|folder| host_in(folder, &laid_out(&server), ""));
        let (done, urls) = (AtomicBool::new(false), hosts.each_ref().map(|host| host.url().to_owned()));
        let victim = hosts.into_iter();
        let answered = std::thread::scope(|scope| {
            let senders: Vec<_> = urls
                .iter()
                .enumerate()
                .map(|(who, url)| {
                    scope.spawn({
                        let done = &done;
                        move || send_until_gone(url, round * 1_000_000 + who as i64, CODES, done)
                    })
                })
                .collect();
            wait_for("rows of this round", || whole(&server).into_iter().any(|time| time > round * 1_000_000 + 20).then_some(()));
            victim.for_each(Host::kill);
            done.store(true, Ordering::Relaxed);
            senders.into_iter().map(|sender| sender.join().unwrap()).max().unwrap()
        });
        let times = whole(&server);
        assert_eq!(times.len(), CODES);
        assert!(times.iter().all(|time| *time >= answered && *time >= newest), "{answered} was answered, and {times:?} are stored");
        newest = answered;
    }
}

/// Sends rows with event times that go up and down until the host is gone; the greatest that was answered.
fn send_until_gone(url: &str, from: i64, codes: usize, done: &AtomicBool) -> i64 {
    let (mut answered, mut number) = (0, from);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    while !done.load(Ordering::Relaxed) {
        number += 2;
        for time in [number, number - 8] {
            let codes: Vec<String> = (0..codes).map(|code| format!("m{code}")).collect();
            let (times, words) = (vec![Timestamp(time * 1_000).to_string(); codes.len()], vec![format!("{time}"); codes.len()]);
            let risks = vec![time as f64; codes.len()];
            let df = json!({"merchant_code": codes, "event_timestamp": times, "risk_score": risks, "category": words, "conv_rate": risks});
            let body = json!({"feature_view_name": "merchant_stats", "df": df}).to_string();
            match agent.post(format!("{url}/write-to-online-store")).send(body) {
                Ok(answer) if answer.status() == 200 => answered = answered.max(time),
                Ok(answer) => panic!("{}", answer.status()),
                Err(_) => return answered,
            }
        }
    }
    answered
}

/// The event times of all merchants in Redis; each row must be of one write.
fn whole(server: &RedisServer) -> Vec<i64> {
    let mut connection = server.connection();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*merchant_code*").query(&mut connection).unwrap();
    let time_of = |key: &Vec<u8>| {
        let names = ["risk_score", "category", "conv_rate"].map(|name| field(&format!("merchant_stats:{name}")));
        let mut hmget = redis::cmd("HMGET");
        hmget.arg(key).arg("_ts:merchant_stats");
        names.iter().for_each(|name| _ = hmget.arg(&name[..]));
        let values: Vec<Vec<u8>> = hmget.query(&mut server.connection()).unwrap();
        let time = decode_time(&values[0]).unwrap().0 / 1_000;
        let value = |index: usize, kind| decode(&values[index], &Field::plain("x", kind, true)).unwrap();
        assert_eq!(value(1, Kind::Float), OwnedValue::Float(time as f64), "risk_score");
        assert_eq!(value(2, Kind::Text), OwnedValue::Text(time.to_string().into()), "category");
        assert_eq!(value(3, Kind::Float), OwnedValue::Float(f64::from(time as f32)), "conv_rate");
        time
    };
    keys.iter().map(time_of).collect()
}

pub const TUTORIAL: &str = "[streams.mystream]\n[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\nstream = \"mystream\"\n";

pub fn put_tutorial(folder: &TempDir) {
    let prebuilt = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm");
    std::fs::copy(prebuilt, folder.path().join("tutorial.wasm")).unwrap();
}

fn with_tutorial(folder: &TempDir, server: &RedisServer, more: &str) -> Host {
    put_tutorial(folder);
    host_in(folder, &laid_out(server), &format!("{TUTORIAL}{more}"))
}

fn feature1(host: &Host, id: &str) -> Value {
    ask(host, "/get-online-features", &json!({"features": ["tutorial:feature1"], "entities": {"id": [id]}}))["results"][1]["values"][0]
        .clone()
}

pub fn ingest(host: &Host, id: &str, value: i64) {
    let (status, answer) = host.post("/v1/streams/mystream/events", &json!({"id": id, "value": value}).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    wait_for("the event", || (feature1(host, id) == json!(value as f64 * 2.0)).then_some(()));
}

#[test]
fn what_a_stream_computed_stands_in_redis_as_feast_reads_it() {
    let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
    let host = with_tutorial(&folder, &server, "");
    ingest(&host, "a", 5);
    let key = redis_key("labfraud", &[("id", FeastKey::String("a"))]);
    let mut hmget = redis::cmd("HMGET");
    hmget.arg(&key).arg("_ts:tutorial").arg(&field("tutorial:feature1")[..]).arg(&field("tutorial:feature2")[..]);
    let values: Vec<Vec<u8>> = hmget.query(&mut server.connection()).unwrap();
    let float = Field::plain("x", Kind::Float, true);
    assert_eq!(decode(&values[1], &float), Some(OwnedValue::Float(10.0)));
    assert_eq!(decode(&values[2], &float), Some(OwnedValue::Float(15.0)));
    // What is written over HTTP has no place in a view that events give.
    let answer = host.send("POST", "/push", Some(br#"{"push_source_name":"tutorial","df":{"id":["a"]}}"#)).unwrap();
    assert_eq!(answer.status, 409, "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn a_view_goes_from_rows_to_windows_and_back() {
    let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
    let windows = "history_secs = 3600\naggregations = [{ feature = \"n\", column = \"feature1\", function = \"count\" }]\n";
    let host = with_tutorial(&folder, &server, "");
    ingest(&host, "a", 1);
    ingest(&host, "b", 1);
    host.stop();
    let host = with_tutorial(&folder, &server, windows);
    assert_eq!((feature1(&host, "a"), feature1(&host, "b")), (json!(2.0), json!(2.0)), "rows are still there");
    ingest(&host, "a", 2);
    ingest(&host, "c", 1);
    let counts = ask(&host, "/get-online-features", &json!({"features": ["tutorial:n"], "entities": {"id": ["c", "nobody"]}}));
    assert_eq!(counts["results"][1]["values"], json!([1, 0]), "windows are features like any others");
    host.stop();
    let host = with_tutorial(&folder, &server, "");
    assert_eq!((feature1(&host, "a"), feature1(&host, "b")), (json!(4.0), json!(2.0)), "the newer of the two");
    ingest(&host, "a", 3);
    host.stop();
    let host = with_tutorial(&folder, &server, windows);
    assert_eq!((feature1(&host, "a"), feature1(&host, "b")), (json!(6.0), json!(2.0)));
}

#[test]
fn what_feasts_layout_cannot_tell_apart_is_refused() {
    let server = RedisServer::start();
    for (view, part) in [
        ("pairs", "features `f16095` and `f83047` of view `pairs` have the same 32-bit hash"),
        ("other", ""),
        ("keys", "has no keys of that kind"),
    ] {
        let entity = if view == "keys" { "Bool" } else { "Int64" };
        let views = format!("[views.{view}]\nentity = {{ id = \"{entity}\" }}\nfeatures = {{ f16095 = \"Int64\", f83047 = \"Int64\" }}\n");
        let folder = TempDir::new().unwrap();
        let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[store]\n{}\n{views}", laid_out(&server));
        match Host::start(folder.path(), &config) {
            Ok(_) => assert!(part.is_empty(), "{view} was not refused"),
            Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{error}"),
        }
    }
}
