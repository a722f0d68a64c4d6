//! The HTTP interface of a real host process. What is asked and answered stands in `cases/http`; here is what runs the cases, and what cannot be
//! said as one request after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
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
fn a_busy_host_says_so_and_goes_on_answering_those_who_watch_it() {
    let (host, _folder) = start("[http]\nconcurrency_max = 1\nrequest_timeout_ms = 20000\n");
    // A request whose body never comes to its end keeps the only place.
    let mut slow = connect(&host);
    slow.write_all(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let busy = wait_for("the place to be taken", || {
        let answer = host.send("GET", "/v1/views", None).unwrap();
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((busy.status, busy.headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(serde_json::from_slice::<Value>(&busy.body).unwrap()["error"]["code"], "busy");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_ne!(host.send("GET", path, None).unwrap().status, 429, "{path}");
    }
    drop(slow);
    wait_for("the place to be free again", || (host.send("GET", "/v1/views", None).unwrap().status == 200).then_some(()));
    host.stop();
}

#[test]
fn a_request_that_takes_too_long_is_answered_all_the_same() {
    let (host, _folder) = start("[http]\nrequest_timeout_ms = 100\n");
    let mut slow = connect(&host);
    slow.write_all(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""code":"unavailable""#), "{answer}");
    host.stop();
}

#[test]
fn a_component_may_take_longer_than_other_requests_but_not_for_ever() {
    let slow_put = |host: &Host, component: &[u8]| {
        let mut client = connect(host);
        let head = format!(
            "PUT /v1/transforms/tutorial HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            component.len()
        );
        client.write_all(head.as_bytes()).unwrap();
        client
    };
    let answer = |mut client: TcpStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    };
    let component = component("tutorial");
    let (host, _folder) = start("[http]\nrequest_timeout_ms = 100\n");
    let mut put = slow_put(&host, &component);
    let mut query = connect(&host);
    query.write_all(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").unwrap();
    assert!(answer(query).starts_with("HTTP/1.1 503 "), "the time of other requests is over");
    put.write_all(&component).unwrap();
    let taken = answer(put);
    assert!(taken.starts_with("HTTP/1.1 200 "), "{taken}");
    host.stop();
    let (host, _folder) = start("[http]\nput_timeout_ms = 100\n");
    let refused = answer(slow_put(&host, &component));
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains(r#""code":"unavailable""#), "{refused}");
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
fn a_client_that_takes_nothing_loses_its_place() {
    let (host, _folder) = start("[http]\nconnections_max = 1\nrequest_timeout_ms = 100\n");
    let mut deaf = connect(&host);
    // Far more of answers than the system keeps for a client that does not read.
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    // The host may hang up before it has been asked everything.
    let _ = deaf.write_all(asked.as_bytes());
    let mut client = connect(&host);
    client.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(deaf);
    host.stop();
}

#[test]
fn those_who_say_nothing_give_way_to_those_who_ask() {
    let (host, _folder) = start("[http]\nconnections_max = 20\n");
    let mut silent: Vec<TcpStream> = (0..20).map(|_| connect(&host)).collect();
    assert_eq!(host.text("/livez").unwrap(), "ok\n");
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = silent.iter_mut().filter_map(|stream| is_open(stream).then_some(())).count();
    assert!((1..20).contains(&open), "{open} of 20 are still there: not all had run out of time");
    host.stop();
}

#[test]
fn one_address_has_its_share_of_the_connections() {
    let (host, _folder) = start("[http]\npeer_connections_max = 2\n");
    put_tutorial(&host, &component("tutorial"));
    // Who follows changes has a request in hand for as long as it stays.
    let follow = || {
        let mut reader = connect(&host);
        reader.write_all(b"GET /v1/changes?view=tutorial HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        reader.read_exact(&mut answer).map(|()| (reader, answer))
    };
    let following = wait_for("two readers", || {
        let two = [follow().ok()?, follow().ok()?];
        two.iter().for_each(|(_, answer)| assert_eq!(answer, b"HTTP/1.1 200"));
        Some(two)
    });
    let mut third = connect(&host);
    // It may be closed while this is sent.
    let _ = third.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(third.read(&mut [0; 12]).map_or(true, |bytes| bytes == 0), "a third connection of one address was answered");
    drop(following);
    wait_for("a place", || host.text("/livez").ok());
    host.stop();
}

#[test]
fn the_head_of_a_request_takes_no_longer_than_a_request_may() {
    let (host, _folder) = start("[http]\nrequest_timeout_ms = 100\n");
    let started = Instant::now();
    let mut slow = connect(&host);
    slow.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    assert_eq!(slow.read(&mut [0]).unwrap_or(0), 0);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    host.stop();
}

#[test]
fn a_client_that_takes_its_answer_too_slowly_loses_its_place() {
    let (host, _folder) = start("[http]\nrequest_timeout_ms = 1000\n");
    // With a small buffer of its own, so that the host notices each time that something was taken.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let slow = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(host.url().trim_start_matches("http://").parse().unwrap()).await.unwrap().into_std().unwrap()
    });
    slow.set_nonblocking(false).unwrap();
    let mut slow = slow;
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    // The host reads no more requests than it has answered, so this must not wait.
    let mut asking = slow.try_clone().unwrap();
    let asking = std::thread::spawn(move || drop(asking.write_all(asked.as_bytes())));
    let started = Instant::now();
    while slow.read(&mut [0; 4_096]).is_ok_and(|bytes| bytes > 0) {
        assert!(started.elapsed() < Duration::from_secs(30), "it still has its place");
        // Some 20 kB a second.
        std::thread::park_timeout(Duration::from_millis(200));
    }
    drop(slow);
    asking.join().unwrap();
    host.stop();
}

#[test]
fn a_packed_body_is_refused_by_its_header() {
    let (host, _folder) = start("");
    put_tutorial(&host, &component("tutorial"));
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for (method, path) in
        [("POST", "/v1/features"), ("POST", "/v1/streams/mystream/events"), ("PUT", "/v1/transforms/x"), ("POST", "/push")]
    {
        let answer = host.send_with(&[("content-encoding", "gzip")], method, path, Some(&gzip)).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == 415 && text.contains("`content-encoding` is \\\"gzip\\\""), "{path}: {} {text}", answer.status);
    }
    let body = br#"{"view": "tutorial", "entities": []}"#;
    assert_eq!(host.send_with(&[("content-encoding", "identity")], "POST", "/v1/features", Some(body)).unwrap().status, 200);
    host.stop();
}

#[test]
fn a_client_that_sends_far_too_much_still_gets_its_answer() {
    let (host, _folder) = start("[http]\nbody_bytes_max = 4096\ncomponent_bytes_max = 100000\n");
    let huge = vec![b' '; 32 << 20];
    for (method, path) in [("POST", "/v1/features"), ("POST", "/v1/streams/events/events"), ("PUT", "/v1/transforms/tutorial")] {
        let answer = host.send(method, path, Some(&huge)).unwrap();
        assert_eq!(answer.status, 413, "{method} {path}");
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap()["error"]["code"], "too_large");
    }
    host.stop();
}

#[test]
fn clients_that_break_the_protocol_harm_nobody() {
    let (host, _folder) = start(LIMITS);
    let long = "a".repeat(100_000);
    let many: String = (0..200).map(|number| format!("h{number}: x\r\n")).collect();
    // Half of a head each, left standing.
    let halves: Vec<TcpStream> = (0..100).map(|_| connect(&host)).collect();
    halves.iter().for_each(|mut half| half.write_all(b"GET /livez HTTP/1.1\r\nho").unwrap());
    for (sent, expected) in [
        ("\r\n\r\n\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        (format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), "HTTP/1.1 414 "),
        (format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), "HTTP/1.1 431 "),
        ("POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}".to_owned(), "HTTP/1.1 400 "),
        ("POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        ("POST /v1/features HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), "HTTP/1.1 400 "),
        ("POST /v1/features HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n".to_owned(), "HTTP/1.1 400 "),
    ] {
        let mut client = connect(&host);
        // The host may hang up before it has been told everything.
        let _ = client.write_all(sent.as_bytes());
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{}: {answer}", sent.split_at(60.min(sent.len())).0);
    }
    assert_eq!(host.send("GET", "/livez", None).unwrap().status, 200);
    drop(halves);
    host.stop();
}

#[test]
fn web_pages_of_others_are_refused() {
    let (host, _folder) = start(LIMITS);
    let address = host.url().trim_start_matches("http://").to_owned();
    let send = |head: &str, body: &str| {
        let mut client = connect(&host);
        client.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    };
    let ask = |head: &str| send(head, "");
    // A name that was made to point at the loopback.
    for path in ["/v1/views", "/metrics", "/none"] {
        let answer = ask(&format!("GET {path} HTTP/1.1\r\nhost: pages.example:7171"));
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(r#""code":"forbidden""#), "{answer}");
    }
    for head in [
        "GET /v1/views HTTP/1.1\r\nhost: localhost\r\nhost: pages.example",
        "GET http://pages.example/v1/views HTTP/1.1\r\nhost: localhost",
    ] {
        assert!(ask(head).starts_with("HTTP/1.1 403 "), "{head}");
    }
    assert!(ask("GET http://localhost/v1/views HTTP/1.1\r\nhost: localhost").starts_with("HTTP/1.1 200 "));
    // A form or a script of a page that the browser asks nobody's leave for.
    let post = format!("POST /v1/streams/events/events HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2");
    for origin in ["http://pages.example", "null", "http://127.0.0.1:1"] {
        let answer = send(&format!("{post}\r\norigin: {origin}"), "{}");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{origin}: {answer}");
    }
    assert!(send(&format!("{post}\r\norigin: http://{address}"), "{}").starts_with("HTTP/1.1 200 "));
    assert!(send(&post, "{}").starts_with("HTTP/1.1 200 "));
    let port = address.rsplit_once(':').unwrap().1;
    for name in [format!("localhost:{port}"), format!("[::1]:{port}"), "127.0.0.1".into()] {
        assert!(ask(&format!("GET /v1/views HTTP/1.1\r\nhost: {name}")).starts_with("HTTP/1.1 200 "), "{name}");
    }
    host.stop();
    let (host, _folder) = start("[http]\nallow_remote = true\n");
    assert_eq!(host.send("GET", "/livez", None).unwrap().status, 200);
    let mut client = connect(&host);
    client.write_all(b"GET /livez HTTP/1.1\r\nhost: features.example\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    host.stop();
}

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
