//! The HTTP interface of a real host process. What is asked and answered stands in `cases/http`; here is what runs the cases, and what cannot be
//! said as one request after the other.

#[path = "http/answers.rs"]
mod answers;
#[path = "http/clients.rs"]
mod clients;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill::conformance::guest::Guest;
use gristmill_tests::host::{Answer, DEADLINE, Host, wait_for};
use gristmill_tests::openapi::Description;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Small limits, so that a case can go beyond them.
const LIMITS: &str = "[http]\nbody_bytes_max = 4096\nentities_max = 50\nfeatures_max = 8\n";

/// A folder of cases: steps that are taken one after the other on a host of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the case shows.
    shows: String,
    steps: Vec<Step>,
}

/// One request and what must come back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `METHOD /path`; `$name` stands for what an earlier answer put there.
    send: String,
    /// Text as it stands, any other value as JSON.
    body: Option<Value>,
    /// Instead of `body`: so many bytes of white space.
    body_bytes: Option<usize>,
    /// Instead of `body`: a component by name.
    component: Option<String>,
    status: u16,
    /// Headers that must be among those of the answer.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `"*"` stands for anything, `"*text*"` for a text that contains it, `"$name"` for a text that is kept under the name. An object with the
    /// member `"..."` may have other members. A text that is not JSON is compared as it is.
    #[serde(default)]
    answer: Option<Value>,
    /// Whether to ask again until the answer fits.
    #[serde(default)]
    until: bool,
}

#[test]
fn answers_are_as_the_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/http");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let (mut asked, mut failures) = (BTreeSet::new(), Vec::new());
    for path in &paths {
        let case: Case =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (host, _folder) = start(LIMITS);
        let description = Description::new(host.get("/openapi.json").unwrap().1);
        let mut kept = BTreeMap::new();
        for (index, step) in case.steps.iter().enumerate() {
            let place = format!("{} (step {}, {}; {})", path.display(), index + 1, step.send, case.shows);
            if step.until {
                wait_for(&place, || take(&host, &description, step, &mut kept).ok());
            } else if let Err(message) = take(&host, &description, step, &mut kept) {
                failures.push(format!("{place}: {message}"));
            }
            asked.extend(description.template_of(&step.send));
        }
        host.stop();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let (host, _folder) = start(LIMITS);
    let description = Description::new(host.get("/openapi.json").unwrap().1);
    let all: BTreeSet<String> =
        description.operations().iter().map(|operation| format!("{} {}", operation.method, operation.template)).collect();
    assert_eq!(asked, all, "the cases ask for every operation");
}

#[test]
fn the_description_holds() {
    let (host, _folder) = start(LIMITS);
    let description = Description::new(host.get("/openapi.json").unwrap().1);
    assert!(description.check_examples().unwrap() > 20);
    for operation in description.operations() {
        let body = matches!(operation.method.as_str(), "POST" | "PUT").then_some(b"{".as_slice());
        let answer = host.send(&operation.method, &operation.path, body).unwrap();
        let code = serde_json::from_slice::<Value>(&answer.body).ok().map(|body| body["error"]["code"].clone());
        assert!(answer.status != 405 && code != Some("no_route".into()), "{} {}", operation.method, operation.path);
        description.check(&operation.method, &operation.path, answer.status, &answer.body).unwrap();
    }
}

#[test]
fn a_swap_under_load_loses_nothing_and_doubles_nothing() {
    const BATCH: usize = 50;
    const SWAPS: usize = 12;
    let (host, _folder) = start("");
    put_tutorial(&host, &component("tutorial"));
    let done = AtomicBool::new(false);
    let event = |number: usize| json!({"id": format!("k{number}"), "value": number});
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                let events: Vec<Value> = (sent..sent + BATCH).map(event).collect();
                let (status, answer) = host.post("/v1/streams/mystream/events", &json!(events).to_string()).unwrap();
                assert_eq!((status, answer["ids"].as_array().map(Vec::len)), (200, Some(BATCH)), "{answer}");
                sent += BATCH;
            }
            sent
        });
        let digests: BTreeSet<String> = (0..SWAPS)
            .map(|swap| {
                let settled = host.metric("gristmill_entries_settled_total");
                let info = put_tutorial(&host, &other_bytes(&component("tutorial"), swap));
                // The next swap comes only when the new component has had events of its own.
                wait_for("events after the swap", || (host.metric("gristmill_entries_settled_total") > settled).then_some(()));
                info["component"].as_str().unwrap().to_owned()
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(digests.len(), SWAPS, "every swap put another component into force");
        sender.join().unwrap()
    });
    for metric in ["gristmill_entries_settled_total", "gristmill_rows_committed_total"] {
        wait_for(metric, || (host.metric(metric) >= sent as f64).then_some(()));
    }
    assert_eq!(host.metric("gristmill_entries_settled_total"), sent as f64);
    assert_eq!(host.metric("gristmill_rows_committed_total"), sent as f64, "one row for each event, as each has an entity of its own");
    assert_eq!(host.metric("gristmill_dead_letters_total"), 0.0);
    for start in (0..sent).step_by(1_000) {
        let numbers = start..(start + 1_000).min(sent);
        let entities: Vec<Value> = numbers.clone().map(|number| json!({"id": format!("k{number}")})).collect();
        let (_, answer) = host.post("/v1/features", &json!({"features": ["tutorial:feature1"], "entities": entities}).to_string()).unwrap();
        for (number, result) in numbers.zip(answer["results"].as_array().unwrap()) {
            assert_eq!(result["values"], json!([number as f64 * 2.0]), "k{number}");
        }
    }
    host.stop();
}

#[test]
fn no_body_makes_the_host_fail() {
    let (host, _folder) = start("");
    put_tutorial(&host, &component("tutorial"));
    let description = Description::new(host.get("/openapi.json").unwrap().1);
    let paths = prop::sample::select(vec![
        ("POST", "/v1/features"),
        ("POST", "/v1/streams/mystream/events"),
        ("POST", "/v1/streams/fields/events"),
        ("POST", "/v1/dead-letters/replay"),
        ("PUT", "/v1/transforms/tutorial"),
        ("PUT", "/v1/transforms/another"),
    ]);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(paths, body()), |((method, path), body)| {
        let answer = host.send(method, path, Some(&body)).unwrap();
        prop_assert!(answer.status < 500, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        description.check(method, path, answer.status, &answer.body).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    outcome.unwrap();
    // Whatever became of those bodies, the host goes on.
    host.post("/v1/streams/mystream/events", r#"{"id":"after","value":1}"#).unwrap();
    wait_for("the event after", || (host.get("/v1/features/tutorial?id=after").unwrap().1["results"][0]["values"][0] == 2.0).then_some(()));
    assert_eq!(host.get("/readyz").unwrap().0, 200);
    host.stop();
}

#[test]
fn no_path_and_no_query_string_makes_the_host_fail() {
    let (host, _folder) = start(LIMITS);
    let description = Description::new(host.get("/openapi.json").unwrap().1);
    let escape = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let part =
        move || prop_oneof![prop::collection::vec(any::<u8>(), 1..12).prop_map(escape), "[a-z0-9-]{1,8}", Just("doubling".to_owned())];
    let routes = prop::sample::select(vec![
        ("GET", "/v1/features/A?B=C"),
        ("GET", "/v1/features/doubling?key=A&features=B"),
        ("GET", "/v1/features/carrier?carrier=A"),
        ("GET", "/v1/views/A"),
        ("GET", "/v1/transforms/A"),
        ("DELETE", "/v1/transforms/unknownA"),
        ("GET", "/v1/dead-letters?transform=A&stream=B"),
        ("GET", "/v1/dead-letters?limit=A"),
        ("GET", "/v1/dead-letters/A/B/C"),
        ("GET", "/v1/dead-letters/A/1-1/C"),
        ("DELETE", "/v1/dead-letters?transform=A&B=C"),
        ("GET", "/A/B?C"),
    ]);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(routes, part(), part(), part()), |((method, template), a, b, c)| {
        let path: String = template.chars().fold(String::new(), |path, letter| match letter {
            'A' => path + &a,
            'B' => path + &b,
            'C' => path + &c,
            other => path + &other.to_string(),
        });
        let answer = host.send(method, &path, None).unwrap();
        prop_assert!(answer.status < 500, "{method} {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        description.check(method, &path, answer.status, &answer.body).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    outcome.unwrap();
    assert_eq!(host.get("/readyz").unwrap().0, 200);
    host.stop();
}

#[test]
fn a_log_that_cannot_be_written_harms_nobody() {
    let folder = TempDir::new().unwrap();
    // As a full disk is: every line fails.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let config = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\nlog = \"debug\"\n";
    let host = Host::start_logging_to(full, folder.path(), config).unwrap();
    assert_eq!(host.put("/v1/transforms/garbage", b"garbage").unwrap().0, 422);
    put_tutorial(&host, &component("tutorial"));
    host.post("/v1/streams/mystream/events", r#"[{"id":"a"},{"id":"b","value":1}]"#).unwrap();
    wait_for("the row", || (host.get("/v1/features/tutorial?id=b").unwrap().1["results"][0]["values"][0] == 2.0).then_some(()));
    host.stop();
}

#[test]
fn services_last_over_restarts_and_those_of_the_configuration_count() {
    let features = |host: &Host, name: &str| {
        let (status, answer) = host.get(&format!("/v1/services/{name}")).unwrap();
        if status == 200 { answer["features"].to_string() } else { status.to_string() }
    };
    let folder = TempDir::new().unwrap();
    let config = |services: &str| format!("{services}\n[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n");
    let host = Host::start(folder.path(), &config("[services.desk]\nfeatures = [\"tutorial:feature1\"]")).unwrap();
    put_tutorial(&host, &component("tutorial"));
    let (status, answer) = host.put("/v1/services/desk", br#"{"features": ["tutorial:feature2"]}"#).unwrap();
    assert_eq!((status, &answer["version"]), (200, &json!(2)), "{answer}");
    assert_eq!(host.delete("/v1/services/desk@1").unwrap().0, 409, "it stands in the configuration");
    host.kill();
    let host = Host::start(folder.path(), &config("[services.\"desk@2\"]\nfeatures = [\"tutorial:feature1\", \"no:such\"]")).unwrap();
    assert_eq!(features(&host, "desk"), r#"["tutorial:feature1","no:such"]"#, "the configuration's version 2");
    assert_eq!(features(&host, "desk@1"), "404");
    let (status, answer) = host.post("/v1/features", r#"{"service": "desk", "entities": []}"#).unwrap();
    assert_eq!(status, 404, "{answer}");
    host.kill();
    let host = Host::start(folder.path(), &config("")).unwrap();
    assert_eq!(features(&host, "desk"), r#"["tutorial:feature2"]"#, "what was put is there again");
    host.stop();
}

#[test]
fn a_request_id_comes_back() {
    let (host, _folder) = start(LIMITS);
    let ask = |id: &str| {
        let mut client = connect(&host);
        client
            .write_all(format!("GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("given-7");
    assert!(answer.contains("x-request-id: given-7\r\n") && answer.contains(r#""request_id":"given-7""#), "{answer}");
    for bad in [r#"a"b"#, "a b", &"a".repeat(129)] {
        let answer = ask(bad);
        assert!(!answer.contains(bad) && answer.contains("x-request-id: 0000000"), "{answer}");
    }
    host.stop();
}

/// A bare connection, for what no proper client sends.
fn connect(host: &Host) -> TcpStream {
    let stream = TcpStream::connect(host.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Bodies of no shape, of any JSON, and of nearly the right shape.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["tutorial", "tutorial:feature1", "doubling:double", "mystream/1-1/tutorial", "a"]).prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec!["features", "view", "entities", "as_of", "id", "key", "value", "ids", "transform", "stream", "limit"])
            .prop_map(str::to_owned),
        ".{0,4}"
    ];
    let any_json = leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(Value::from_iter),
        ]
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any_json.clone().prop_map(|json| json.to_string().into_bytes()),
        prop::collection::vec(any_json.clone(), 0..4)
            .prop_map(|entities| json!({"view": "tutorial", "entities": entities}).to_string().into()),
        any_json.clone().prop_map(|key| json!({"view": "doubling", "entities": [{"key": key}]}).to_string().into()),
        any_json.prop_map(|value| json!({"id": "a", "value": value}).to_string().into()),
    ]
}

/// A host with a declared transform over flights whose rows are soon too old, one whose key is an integer, and a stream for the tutorial's.
fn start(more: &str) -> (Host, TempDir) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("carrier.wasm"), component("flights-carrier")).unwrap();
    std::fs::write(folder.path().join("doubling.wasm"), Guest::doubling().component().unwrap()).unwrap();
    let config = format!(
        r#"{more}
        [host]
        listen = "127.0.0.1:0"
        data_folder = "data"
        [streams.mystream]
        [streams.flights]
        [streams.events]
        [streams.fields]
        format = {{ type = "fields" }}
        [transforms.carrier]
        component = "carrier.wasm"
        max_age_secs = 60
        [transforms.doubling]
        component = "doubling.wasm"
        [views.cart]
        push_source = "carts"
        entity = {{ user = "Int64" }}
        features = {{ items = "Int32", seen = "Array(String)", total = "Float32" }}
        "#
    );
    let host = Host::start(folder.path(), &config).unwrap();
    (host, folder)
}

/// A component by its name in the cases.
fn component(name: &str) -> Vec<u8> {
    let prebuilt = |name: &str| {
        let folder = if name.starts_with("conformance-") { "target/components" } else { "plugins/prebuilt" };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{folder}/{name}.wasm"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    match name {
        "garbage" => b"\x00asm is not what follows".to_vec(),
        "cut" => prebuilt("tutorial").split_at(1_000).0.to_vec(),
        "importing" => wat::parse_str(r#"(component (import "wasi:filesystem/types@0.2.0" (instance)))"#).unwrap(),
        "core module" => wat::parse_str("(module)").unwrap(),
        "tutorial again" => other_bytes(&prebuilt("tutorial"), 1),
        name => prebuilt(name),
    }
}

/// The same component with another digest: a custom section follows.
fn other_bytes(component: &[u8], number: usize) -> Vec<u8> {
    let name = format!("variant{number:04}");
    let mut bytes = component.to_vec();
    bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
    bytes.extend(name.as_bytes());
    bytes
}

fn put_tutorial(host: &Host, component: &[u8]) -> Value {
    let (status, info) = host.put("/v1/transforms/tutorial", component).unwrap();
    assert_eq!(status, 200, "{info}");
    info
}

/// Takes one step; the error says how the answer differs.
fn take(host: &Host, description: &Description, step: &Step, kept: &mut BTreeMap<String, String>) -> Result<(), String> {
    let (method, path) = step.send.split_once(' ').unwrap();
    let body = match (&step.body, step.body_bytes, &step.component) {
        (Some(Value::String(text)), None, None) => Some(put_in(text, kept).into_bytes()),
        (Some(json), None, None) => Some(put_in(&json.to_string(), kept).into_bytes()),
        (None, Some(bytes), None) => Some(vec![b' '; bytes]),
        (None, None, Some(name)) => Some(component(name)),
        _ => None,
    };
    let path = put_in(path, kept);
    let answer = host.send(method, &path, body.as_deref()).unwrap();
    let Answer { status, headers, body } = &answer;
    let text = String::from_utf8_lossy(body);
    if *status != step.status {
        return Err(format!("status {status}, expected {}: {text}", step.status));
    }
    description.check(method, &path, *status, body).map_err(|error| format!("{error:#}: {text}"))?;
    for (name, value) in &step.headers {
        let found = headers.get(name).and_then(|value| value.to_str().ok());
        if found != Some(value) {
            return Err(format!("header {name} is {found:?}, expected {value:?}"));
        }
    }
    let Some(expected) = &step.answer else { return Ok(()) };
    let actual = serde_json::from_slice(body).unwrap_or_else(|_| Value::from(text.as_ref()));
    let mut found = kept.clone();
    fits(expected, &actual, "", &mut found).map_err(|problem| format!("{problem}; the whole answer is {text}"))?;
    *kept = found;
    Ok(())
}

/// Replaces `$name` by what is kept.
fn put_in(text: &str, kept: &BTreeMap<String, String>) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn fits(expected: &Value, actual: &Value, place: &str, kept: &mut BTreeMap<String, String>) -> Result<(), String> {
    match (expected, actual) {
        (Value::String(any), _) if any == "*" => Ok(()),
        (Value::String(name), Value::String(text)) if name.starts_with('$') => {
            let known = kept.entry(name.clone()).or_insert_with(|| text.clone());
            if known == text { Ok(()) } else { Err(format!("{place} is {text}, expected {known}")) }
        }
        (Value::String(pattern), Value::String(text)) if pattern.len() > 2 && pattern.starts_with('*') && pattern.ends_with('*') => {
            if text.contains(pattern.trim_matches('*')) { Ok(()) } else { Err(format!("{place} is {text:?}, expected {pattern:?}")) }
        }
        (Value::Object(expected), Value::Object(actual)) => {
            let open = expected.contains_key("...");
            if let Some(name) = actual.keys().find(|name| !open && !expected.contains_key(*name)) {
                return Err(format!("{place}.{name} is not expected"));
            }
            let mut members = expected.iter().filter(|(name, _)| *name != "...");
            members.try_for_each(|(name, expected)| {
                let actual = actual.get(name).ok_or_else(|| format!("{place}.{name} is missing"))?;
                fits(expected, actual, &format!("{place}.{name}"), kept)
            })
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut items = expected.iter().zip(actual).enumerate();
            items.try_for_each(|(index, (expected, actual))| fits(expected, actual, &format!("{place}[{index}]"), kept))
        }
        _ if expected == actual => Ok(()),
        _ => Err(format!("{place} is {actual}, expected {expected}")),
    }
}
