//! What Feast's own server answered, asked of a host. `cases/feast/http.json` says of each exchange what Feast answered, and where this host answers
//! otherwise also what and why.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill::model::Timestamp;
use gristmill::model::feast::Registry;
use gristmill_tests::host::Host;
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

use crate::{ask, host_with, json_case, laid_out};

/// What Feast answers with 500 is the client's mistake as well, but Feast's client asks again after 500 and then forgets the message.
const MISTAKES: std::ops::Range<u64> = 400..500;

#[test]
fn a_host_answers_as_feasts_server_does() {
    let server = RedisServer::start();
    for store in [laid_out(&server), "type = \"embedded\"".to_owned(), "type = \"memory\"".to_owned()] {
        let (host, _folder) = host_with(&store, "");
        let mut failures = Vec::new();
        for exchange in json_case("http.json")["exchanges"].as_array().unwrap() {
            let (method, path) = (exchange["method"].as_str().unwrap(), exchange["path"].as_str().unwrap());
            let body = exchange["body"].as_str().map(str::as_bytes);
            // As they were captured. Some are for no route at all, and then nobody reads the rest of the connection.
            let media_type = exchange["content_type"].as_str().map(|value| ("content-type", value));
            let headers: Vec<(&str, &str)> = media_type.into_iter().chain([("connection", "close")]).collect();
            let answer = host.send_with(&headers, method, path, body).unwrap();
            if let Err(problem) = compare(exchange, u64::from(answer.status), &answer.body) {
                failures.push(format!("{}: {problem}: {}", exchange["name"], String::from_utf8_lossy(&answer.body)));
            }
        }
        assert!(failures.is_empty(), "{store}\n{}", failures.join("\n"));
        host.stop();
    }
}

fn compare(exchange: &Value, status: u64, body: &[u8]) -> Result<(), String> {
    let expected = exchange.get("here").unwrap_or(&exchange["feast"]);
    if exchange.get("here").is_some() && !expected["why"].is_string() {
        return Err("the case does not say why this host answers otherwise".into());
    }
    let wanted = expected["status"].as_u64().unwrap();
    let fits = if wanted >= 500 { MISTAKES.contains(&status) } else { status == wanted };
    if !fits {
        return Err(format!("status {status}, expected {wanted}"));
    }
    let body: Value = if body.is_empty() { json!("") } else { serde_json::from_slice(body).map_err(|error| error.to_string())? };
    let expected = &expected["body"];
    let same = match (status, expected) {
        (_, Value::Null) if exchange.get("here").is_some() => body.is_string() || body.is_object(),
        (200, expected) if expected["results"].is_array() => by_name(&body)? == by_name(expected)?,
        // What is in a class of Feast's is told as Feast tells it; all else in this host's own words.
        (200, expected) => body == *expected,
        (422, expected) if expected["detail"].is_array() => invalid(&body) == invalid(expected),
        (_, Value::String(text)) if text.contains("feast.errors") => body == *expected,
        _ => body.as_str().is_some_and(|text| !text.is_empty()),
    };
    if same { Ok(()) } else { Err(format!("expected {expected}")) }
}

/// The results by their names: their order is not the same in two of Feast's own processes.
fn by_name(body: &Value) -> Result<(BTreeMap<String, Value>, Value), String> {
    let names = body["metadata"]["feature_names"].as_array().ok_or("there are no names")?;
    let results = body["results"].as_array().ok_or("there are no results")?;
    if names.len() != results.len() {
        return Err(format!("{} names and {} results", names.len(), results.len()));
    }
    let named = names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).zip(results.iter().cloned());
    Ok((named.collect(), body["metadata"]["feature_view_metadata"].clone()))
}

/// Kind and place of the first complaint.
fn invalid(body: &Value) -> (Value, Value) {
    (body["detail"][0]["type"].clone(), body["detail"][0]["loc"].clone())
}

#[test]
fn doubles_keep_their_decimal_point_and_event_times_their_fractions() {
    let (host, _folder) = host_with("type = \"memory\"", "");
    let df = json!({
        "merchant_code": ["a", "b", "c"],
        "risk_score": [2, 1e300, -0.0],
        "category": ["x", null, ""],
        "conv_rate": [1, 0.1, null],
        "event_timestamp": ["2026-01-02T03:04:05.5", "2026-01-02 03:04:05.000001", "2026-01-02T03:04:05+01:00"],
        "created": [null, null, null]
    });
    ask(&host, "/write-to-online-store", &json!({"feature_view_name": "merchant_stats", "df": df, "allow_registry_cache": false}));
    let body =
        json!({"features": ["merchant_stats:risk_score", "merchant_stats:conv_rate"], "entities": {"merchant_code": ["a", "b", "c"]}});
    let answer = host.send("POST", "/get-online-features", Some(body.to_string().as_bytes())).unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    for part in [
        r#""values":[2.0,1e+300,-0.0]"#,
        r#""values":[1.0,0.10000000149011612,null]"#,
        r#""event_timestamps":["2026-01-02T03:04:05.500Z","2026-01-02T03:04:05.000001Z","2026-01-02T02:04:05Z"]"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn strict_statuses_say_what_is_missing_and_what_is_old() {
    let config = "[views.aged]\nmax_age_secs = 60\npush_source = \"aged\"\nentity = { id = \"Int64\" }\nfeatures = { x = \"Int64\", y = \"Int64\" }\n";
    for (statuses, words) in [
        ("strict", ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]),
        ("feast", ["PRESENT", "PRESENT", "PRESENT", "OUTSIDE_MAX_AGE"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[feast]\nstatuses = \"{statuses}\"\n{config}");
        let host = Host::start(folder.path(), &text).unwrap();
        let now = Timestamp::now();
        let (now, old) = (now.to_string(), Timestamp(now.0 - 90_000_000).to_string());
        let df = json!({"id": [1, 2, 3], "x": [1, null, 3], "y": [1, 2, 3], "event_timestamp": [now, now, old]});
        ask(&host, "/push", &json!({"push_source_name": "aged", "df": df}));
        let answer = ask(&host, "/get-online-features", &json!({"features": ["aged:x"], "entities": {"id": [1, 2, 99, 3]}}));
        assert_eq!(answer["results"][1]["statuses"], json!(words));
        assert_eq!(answer["results"][1]["values"], json!([1, null, null, null]));
    }
}

#[test]
fn what_comes_from_a_hostile_client_is_refused_by_name() {
    let limits = "[http]\nbody_bytes_max = 4194304\nentities_max = 1000\nfeatures_max = 8\n";
    let (host, _folder) = host_with("type = \"memory\"", limits);
    let (get, push, write) = ("/get-online-features", "/push", "/write-to-online-store");
    let many: Vec<usize> = (0..1_001).collect();
    let times = vec!["2026-01-02T03:04:05Z"; 1_001];
    let row = |more: Value| {
        let mut df = json!({"merchant_code": ["a"], "risk_score": [1.0], "category": ["x"], "conv_rate": [1.0], "event_timestamp": ["2026-01-02T03:04:05Z"]});
        df.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"push_source_name": "merchant_push", "df": df})
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": many}}), 413, "entities"),
        (get, json!({"features": vec!["driver_stats:tier"; 9], "entities": {"driver_id": [1]}}), 400, "9 features"),
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": [1, 2], "x": [1]}}), 400, "same length"),
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": [[1]]}}), 400, "driver_id"),
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": [{"a": 1}]}}), 400, "driver_id"),
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": [1e300]}}), 400, "driver_id"),
        (get, json!({"features": [1], "entities": {"driver_id": [1]}}), 422, "string"),
        (get, json!({"features": {"a": 1}, "entities": {"driver_id": [1]}}), 422, "list"),
        (get, json!({"features": [":"], "entities": {"driver_id": [1]}}), 404, "Feature view"),
        (get, json!({"features": [], "entities": {"driver_id": [1]}}), 400, "features"),
        (get, json!({"feature_service": 7, "entities": {"driver_id": [1]}}), 422, "string"),
        (get, json!({"feature_service": "a@b@c", "entities": {"driver_id": [1]}}), 404, "Feature service"),
        (get, json!({"features": ["driver_stats:tier"], "entities": {"driver_id": [1]}, "full_feature_names": "x"}), 422, "boolean"),
        (get, json!([]), 422, "dictionary"),
        (
            push,
            json!({"push_source_name": "merchant_push", "df": {"merchant_code": many, "risk_score": many, "category": many, "conv_rate": many, "event_timestamp": times}}),
            413,
            "rows",
        ),
        (push, row(json!({"risk_score": ["much"]})), 400, "risk_score"),
        (push, row(json!({"risk_score": [[1.0]]})), 400, "risk_score"),
        (push, row(json!({"risk_score": [{}]})), 400, "risk_score"),
        (push, row(json!({"category": [1]})), 400, "category"),
        (push, row(json!({"event_timestamp": ["yesterday"]})), 400, "event_timestamp"),
        (push, row(json!({"event_timestamp": [null]})), 400, "event_timestamp"),
        (push, row(json!({"event_timestamp": [true]})), 400, "event_timestamp"),
        (push, row(json!({"event_timestamp": ["9999999-01-01T00:00:00"]})), 400, "event_timestamp"),
        (push, row(json!({"merchant_code": [null]})), 400, "merchant_code"),
        (push, row(json!({"merchant_code": ["x".repeat(100_000)]})), 400, "key"),
        (push, row(json!({"category": ["x".repeat(2_000_000)]})), 400, "bytes"),
        (push, json!({"push_source_name": "merchant_push", "df": {}}), 400, "rows"),
        (push, json!({"push_source_name": "merchant_push", "df": [1]}), 422, "dictionary"),
        (write, json!({"feature_view_name": null, "df": {}}), 422, "required"),
        (write, json!({"feature_view_name": "x".repeat(100_000), "df": {"a": [1]}}), 404, "recognize"),
    ];
    for (path, body, status, part) in cases {
        refused(&host, path, &body.to_string(), status, part);
    }
    for (path, body) in [(get, format!("{{\"features\":{deep}}}")), (push, format!("{{\"df\":{deep}}}")), (write, deep.clone())] {
        refused(&host, path, &body, 422, "");
    }
    refused(&host, get, r#"{"entities":{"driver_id":["\ud800"]},"features":["driver_stats:tier"]}"#, 400, "driver_id");
    refused(&host, push, r#"{"push_source_name":"merchant_push","df":{"a":[1],"a":[2]}}"#, 400, "twice");
    let columns: Vec<String> = (0..100_000).map(|number| format!("\"c{number}\":[]")).collect();
    for (path, rest) in [(get, r#""features":["driver_stats:tier"],"entities":"#), (push, r#""push_source_name":"merchant_push","df":"#)] {
        refused(&host, path, &format!("{{{rest}{{{}}}}}", columns.join(",")), 400, "100000 columns");
    }
    let twice = json!({"features": vec!["driver_stats:tier"; 2], "entities": {"driver_id": [1]}}).to_string();
    refused(&host, get, &twice, 400, "Duplicate");
    assert_eq!(
        ask(&host, get, &json!({"features": ["merchant_stats:category"], "entities": {"merchant_code": ["a"]}}))["results"][1]["values"],
        json!([null]),
        "nothing of all that was written"
    );
    host.stop();
}

fn refused(host: &Host, path: &str, body: &str, status: u16, part: &str) {
    let answer = host.send("POST", path, Some(body.as_bytes())).unwrap();
    let text = String::from_utf8_lossy(&answer.body);
    let shown: String = body.chars().take(200).collect();
    assert_eq!(answer.status, status, "{path} {shown}: {text}");
    assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "Feast's client reads every answer as JSON: {text}");
    assert!(text.to_lowercase().contains(&part.to_lowercase()) && text.len() < 2_000, "{path} {shown}: {part} is not in {text}");
}

#[test]
fn a_registry_gives_views_services_and_types() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/feast");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(cases.join("registry.db"), folder.path().join("registry.db")).unwrap();
    let config = |more: &str| {
        format!(
            "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[feast]\nproject = \"labfraud\"\nregistry = \"registry.db\"\n{more}"
        )
    };
    let host = Host::start(folder.path(), &config("statuses = \"strict\"\n")).unwrap();
    let (_, views) = host.get("/v1/views").unwrap();
    let views: BTreeMap<&str, &Value> =
        views["views"].as_array().unwrap().iter().map(|view| (view["name"].as_str().unwrap(), view)).collect();
    let names: Vec<&str> = views.keys().copied().collect();
    assert_eq!(
        names,
        ["driver_merchant_stats", "driver_stats", "merchant_stats", "tutorial", "zone_stats"],
        "those that are online and have an entity"
    );
    let types = json!({"driver_id": "Int64", "conv_rate": "Float32", "avg_amount": "Float64", "trips_today": "Int64", "tier": "String",
        "is_active": "Bool", "recent_amounts": "Array(Float64)", "last_login": "UnixTimestamp"});
    assert_eq!((&views["driver_stats"]["types"], &views["driver_stats"]["max_age_secs"]), (&types, &json!(7_200)));
    assert_eq!(views["driver_merchant_stats"]["max_age_secs"], json!(null), "no ttl is no bound");
    assert_eq!(views["zone_stats"]["types"], json!({"zone_id": "Int32", "load": "Int32", "blob": "Bytes"}), "what is kept of it");
    let (_, services) = host.get("/v1/services").unwrap();
    let fraud = json!({"services": [{"name": "fraud_svc", "version": 1, "features": ["driver_stats:conv_rate", "driver_stats:tier",
        "merchant_stats:risk_score", "driver_merchant_stats:pair_count", "driver_merchant_stats:pair_amount"]}]});
    assert_eq!(services, fraud, "without one that renames views, and one of types that are not kept");
    let now = Timestamp::now().to_string();
    let df = json!({"merchant_code": ["m"], "risk_score": [0.5], "category": ["x"], "event_timestamp": [now]});
    ask(&host, "/push", &json!({"push_source_name": "merchant_push", "df": df}));
    let answer = ask(
        &host,
        "/get-online-features",
        &json!({"feature_service": "fraud_svc", "entities": {"driver_id": [1], "merchant_code": ["m"]}}),
    );
    assert_eq!((&answer["results"][4]["values"], &answer["results"][4]["statuses"]), (&json!([0.5]), &json!(["PRESENT"])));
    host.stop();
    // Feast's own server leaves the ttl aside, and so does a host that answers as it does. What the file says itself counts.
    let own = "[views.merchant_stats]\nentity = { code = \"Int64\" }\nfeatures = { x = \"Int64\" }\n";
    let host = Host::start(folder.path(), &config(own)).unwrap();
    let (_, view) = host.get("/v1/views/driver_stats").unwrap();
    assert_eq!(view["max_age_secs"], json!(null));
    let (_, view) = host.get("/v1/views/merchant_stats").unwrap();
    assert_eq!(view["types"], json!({"code": "Int64", "x": "Int64"}));
    assert_eq!(host.get("/v1/services").unwrap().1, json!({"services": []}), "what it asks for is not served here");
    host.stop();
    let whole = std::fs::read(cases.join("registry.db")).unwrap();
    for (bytes, part) in [
        (&whole[..whole.len() - 1], "no Feast registry"),
        (b"SQLite format 3\0".as_slice(), "registry_type"),
        (b"".as_slice(), "has no views in project `labfraud`"),
    ] {
        std::fs::write(folder.path().join("registry.db"), bytes).unwrap();
        let error = Host::start(folder.path(), &config("")).err().expect("the host does not start").to_string();
        assert!(error.contains("feast.registry") && error.contains(part), "{error}");
    }
    for end in 0..whole.len() {
        // Whatever is cut off, reading ends.
        let _ = Registry::read(&whole[..end]);
    }
}

#[test]
fn what_is_computed_for_a_request_finds_its_data_among_the_entities() {
    let folder = tempfile::tempdir().unwrap();
    crate::store::put_tutorial(&folder);
    let live = "[transforms.live]\nat = \"request\"\ncomponent = \"tutorial.wasm\"\n";
    let host = crate::host_in(&folder, "type = \"memory\"", live);
    let body = |entities: Value| json!({"features": ["live:feature1", "merchant_stats:category"], "entities": entities});
    let answer = ask(&host, "/get-online-features", &body(json!({"id": ["a", "b"], "value": [5, "2.5"], "merchant_code": ["m", "m"]})));
    let (results, _) = by_name(&answer).unwrap();
    let names: Vec<&str> = results.keys().map(String::as_str).collect();
    assert_eq!(names, ["category", "feature1", "id", "merchant_code"], "what was brought to compute with is no result");
    assert_eq!((&results["feature1"]["values"], &results["feature1"]["statuses"]), (&json!([10.0, 5.0]), &json!(["PRESENT", "PRESENT"])));
    let absent = "Required request data source features ['value'] not found in the entity rows, but required by feature views";
    refused(&host, "/get-online-features", &body(json!({"id": ["a"], "merchant_code": ["m"]})).to_string(), 404, absent);
    refused(&host, "/get-online-features", &body(json!({"id": ["a"], "value": ["x"], "merchant_code": ["m"]})).to_string(), 400, "value");
}
