//! Changes as server-sent events: what comes, where it goes on, and readers that are slow, many, or not allowed.

use std::io::{BufRead, BufReader};
use std::path::Path;

use gristmill_tests::host::{DEADLINE, Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

use super::{Token, ask, code, config, connect, start};

/// An open stream of events.
struct Events(Box<dyn BufRead + Send>);

/// One of them.
#[derive(Debug)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Events {
    /// Follows views; once this returns, nothing is missed any more.
    fn follow(host: &Host, token: Option<&Token>, views: &str, after: Option<&str>) -> Events {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build().into();
        let mut request = agent.get(format!("{}/v1/changes?view={views}", host.url()));
        if let Some(token) = token {
            request = request.header("authorization", token.header());
        }
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events(Box::new(BufReader::new(response.into_body().into_reader())))
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.next_or_place()?;
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    /// The same, or an id without data.
    fn next_or_place(&mut self) -> Option<Event> {
        let mut event = Event { id: String::new(), name: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            // A host that stops may cut the last piece short.
            if !self.0.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if event.id.is_empty() => {}
                _ => return Some(event),
            }
        }
    }

    fn change(&mut self) -> Event {
        let event = self.next().expect("the stream goes on");
        assert_eq!(event.name, "change", "{event:?}");
        event
    }

    /// Reads until so many changes were told or counted as missed; how many were missed.
    fn account_for(&mut self, total: u64) -> u64 {
        let (mut told, mut missed) = (0, 0);
        while told + missed < total {
            let event = self.next().expect("the stream goes on");
            match event.name.as_str() {
                "missed" => {
                    assert_eq!(event.data["reason"], "slow");
                    missed += event.data["count"].as_u64().unwrap();
                }
                _ => told += 1,
            }
        }
        assert_eq!(told + missed, total);
        missed
    }
}

fn post(host: &Host, stream: &str, events: &Value) -> Vec<String> {
    let (status, answer) = host.post(&format!("/v1/streams/{stream}/events"), &events.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn changes_come_once_they_can_be_read_and_go_on_where_they_stopped() {
    let (host, folder) = start("", &[]);
    let mut both = Events::follow(&host, None, "tutorial,doubling", None);
    let mut one = Events::follow(&host, None, "doubling", None);
    let mut first = String::new();
    for (index, id) in ["a", "b|c%7c\n\u{1f33e}", "\"quoted\""].iter().enumerate() {
        let ids = post(&host, "mystream", &json!({"id": id, "value": index}));
        let change = both.change();
        let value = index as f64;
        let mut data = change.data;
        let event_time = data.as_object_mut().unwrap().remove("event_time").unwrap();
        assert!(event_time.as_str().unwrap().ends_with('Z'), "{event_time}");
        let features = json!({"feature1": value * 2.0, "feature2": value + 10.0});
        assert_eq!(data, json!({"view": "tutorial", "entity": {"id": id}, "features": features, "entry_id": ids[0]}));
        let query = json!({"features": ["tutorial:feature1"], "entities": [{"id": id}]}).to_string();
        assert_eq!(host.post("/v1/features", &query).unwrap().1["results"][0]["values"], json!([value * 2.0]), "it can be read by then");
        if first.is_empty() {
            first = change.id;
        }
    }
    post(&host, "events", &json!({"key": 7}));
    for events in [&mut both, &mut one] {
        assert_eq!(events.change().data["entity"], json!({"key": 7}), "of the views asked for, and in the kinds of the view");
    }
    drop((both, one));
    post(&host, "mystream", &json!({"id": "while away", "value": 1}));
    let settled = || (host.metric("gristmill_entries_settled_total") == 5.0).then_some(());
    wait_for("the event while nobody listens", settled);
    let mut again = Events::follow(&host, None, "tutorial", Some(&first));
    let ids: Vec<Value> = (0..3).map(|_| again.change().data["entity"]["id"].clone()).collect();
    assert_eq!(ids, [json!("b|c%7c\n\u{1f33e}"), json!("\"quoted\""), json!("while away")]);
    host.stop();
    assert!(again.next().is_none(), "a host that stops ends the stream");

    let config = std::fs::read_to_string(folder.path().join("gristmill.toml")).unwrap();
    let host = Host::start(folder.path(), &config).unwrap();
    let mut after_restart = Events::follow(&host, None, "tutorial", Some(&first));
    let missed = after_restart.next().unwrap();
    assert_eq!((missed.name.as_str(), missed.data), ("missed", json!({"count": null, "reason": "not_kept"})));
    post(&host, "mystream", &json!({"id": "after", "value": 1}));
    assert_eq!(after_restart.change().data["entity"]["id"], "after");
    host.stop();
}

#[test]
fn a_reader_has_a_place_from_the_beginning_and_is_told_that_nothing_is_new_however_busy_others_are() {
    let (host, _folder) = start("", &[]);
    let mut first = Events::follow(&host, None, "tutorial", None);
    let place = first.next_or_place().unwrap();
    assert_eq!((place.name.as_str(), &place.data), ("", &Value::Null));
    drop(first);
    post(&host, "mystream", &json!({"id": "while away", "value": 1}));
    let settled = || (host.metric("gristmill_entries_settled_total") == 1.0).then_some(());
    wait_for("the event while nobody listens", settled);
    let mut again = Events::follow(&host, None, "tutorial", Some(&place.id));
    assert_eq!(again.next_or_place().unwrap().id, place.id);
    let change = again.change();
    assert_eq!(change.data["entity"]["id"], "while away");

    let quiet = std::thread::spawn(move || again.next_or_place());
    wait_for("a place beyond the changes of others", || {
        post(&host, "events", &json!({"key": 1}));
        quiet.is_finished().then_some(())
    });
    let place = quiet.join().unwrap().unwrap();
    assert!(place.name.is_empty() && place.id != change.id, "{place:?} after {change:?}");
    post(&host, "mystream", &json!({"id": "later", "value": 1}));
    assert_eq!(Events::follow(&host, None, "tutorial", Some(&place.id)).change().data["entity"]["id"], "later");
    host.stop();
}

#[test]
fn a_change_that_cannot_be_read_is_counted_as_missed() {
    let server = RedisServer::start();
    let folder = tempfile::TempDir::new().unwrap();
    let store = format!("[store]\ntype = \"redis\"\nurl = \"{}\"\n", server.url());
    let host = Host::start(folder.path(), &format!("{store}{}", config(folder.path(), "127.0.0.1:0", "", &[]))).unwrap();
    let mut events = Events::follow(&host, None, "tutorial", None);
    // Nobody has read a row so far, so that the host does not know by heart what stands in them.
    for number in server.run::<Vec<String>>(&["HKEYS", "gristmill:schemas"]) {
        assert_eq!(server.run::<u64>(&["HSET", "gristmill:schemas", &number, "no schema"]), 0);
    }
    post(&host, "mystream", &json!({"id": "a", "value": 1}));
    let missed = events.next().unwrap();
    assert_eq!((missed.name.as_str(), missed.data), ("missed", json!({"count": 1, "reason": "failed"})));
    host.stop();
}

#[test]
fn a_view_with_windows_tells_its_row_and_its_windows_as_they_are_then() {
    let (host, _folder) = start("", &[]);
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/flights-airport.wasm")).unwrap();
    let (status, info) = host.put("/v1/transforms/airport?history_secs=86400", &component).unwrap();
    assert_eq!(status, 200, "{info}");
    let view = host.get("/v1/views/airport").unwrap().1;
    let names =
        |key: &str| view[key].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(!names("windows").is_empty());
    let stream = view["stream"].as_str().unwrap();
    let mut events = Events::follow(&host, None, "airport&kinds=true", None);
    let now = jiff::Timestamp::now().to_string();
    let flight = json!({"origin": "EWR", "sched_dep": now, "dep_delay": 4, "carrier": "UA", "dest": "IAH", "tailnum": "N1", "air_time": 227, "distance": 1400, "arr_delay": 11});
    post(&host, stream, &flight);
    let change = events.change().data;
    let told = change["features"].as_object().unwrap();
    let (answer, all) = (host.get("/v1/features/airport?origin=EWR").unwrap().1, [names("features"), names("windows")].concat());
    assert_eq!(told.keys().cloned().collect::<std::collections::BTreeSet<_>>(), all.iter().cloned().collect());
    for (index, name) in all.iter().enumerate() {
        assert_eq!(told[name], answer["results"][0]["values"][index], "{name}: what a read answers at that moment");
    }
    let mut kinds: std::collections::BTreeMap<String, Value> = serde_json::from_value(change["kinds"].clone()).unwrap();
    for field in ["features", "windows"].iter().flat_map(|key| view[key].as_array().unwrap()) {
        let kind = kinds.remove(field["name"].as_str().unwrap()).unwrap();
        assert!(kind == field["kind"] || field["kind"] == "list" && kind.as_str().unwrap().starts_with("list<"), "{field} {kind}");
    }
    assert!(kinds.is_empty(), "{kinds:?}");
    assert!(names("windows").iter().any(|name| told[name] == 1), "a window counts the event: {change}");
    assert_eq!(change["entity"], json!({"origin": "EWR"}));
    host.stop();
}

#[test]
fn readers_that_are_slow_hold_nobody_up_and_are_told_what_they_missed() {
    const EVENTS: usize = 500;
    const BATCHES: usize = 20;
    let (host, _folder) = start("changes_kept_max = 100\nrequest_timeout_ms = 60000\n", &[]);
    // Deaf ones: far more is sent than the system keeps for them.
    let mut deaf: Vec<Events> = (0..10).map(|_| Events::follow(&host, None, "tutorial", None)).collect();
    let mut quick = Events::follow(&host, None, "doubling", None);
    for batch in 0..BATCHES {
        let events = (0..EVENTS).map(|event| json!({"id": format!("{batch}-{event}-{}", "x".repeat(4_000)), "value": 1})).collect();
        post(&host, "mystream", &events);
    }
    let total = (BATCHES * EVENTS) as f64;
    wait_for("all events to be settled, whoever reads", || (host.metric("gristmill_entries_settled_total") == total).then_some(()));
    for events in &mut deaf {
        assert!(events.account_for(total as u64) > 0);
    }
    post(&host, "events", &json!({"key": 1}));
    assert_eq!(quick.change().data["view"], "doubling", "what others missed is no concern of this reader");
    host.stop();
}

#[test]
fn readers_are_as_many_as_may_be_and_ask_for_what_they_may() {
    let (reader, writer) = (Token::new("reader", "read", &[]), Token::new("writer", "write,admin", &[]));
    let limited = Token::new("limited", "read", &["--view", "tut*"]);
    let (host, _folder) = start("changes_readers_max = 2\n", &[&reader, &writer, &limited]);
    for (token, path, status) in [
        (None, "view=tutorial", 401),
        (Some(&writer), "view=tutorial", 403),
        (Some(&limited), "view=doubling", 403),
        (Some(&limited), "view=tutorial,doubling", 403),
        (Some(&limited), "view=nothing", 403),
        (Some(&limited), "view=tutoriel", 404),
        (Some(&reader), "view=tutorial,", 404),
        (Some(&reader), "", 400),
        (Some(&reader), "view=tutorial&since=1", 400),
    ] {
        let (found, answer) = ask(&host, token, &format!("GET /v1/changes?{path}"), None);
        assert_eq!(found, status, "{path}: {answer}");
    }
    let many = (0..65).map(|index| format!("v{index}")).collect::<Vec<_>>().join(",");
    assert_eq!(ask(&host, Some(&reader), &format!("GET /v1/changes?view={many}"), None).0, 422);
    for id in ["x", "1", "1-", "-1-1-1", "99999999999999999999-1", "\u{e9}"] {
        let headers = [("authorization", reader.header()), ("last-event-id", id.to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(host.send_with(&headers, "GET", "/v1/changes?view=tutorial", None).unwrap().status, 422, "{id}");
    }
    let first = Events::follow(&host, Some(&reader), "tutorial", None);
    let mut second = Events::follow(&host, Some(&limited), "tutorial", None);
    let third = || ask(&host, Some(&reader), "GET /v1/changes?view=nothing", None).0 == 404;
    assert!(third(), "what is wrong is told before there is a place");
    let (status, answer) = ask(&host, Some(&reader), "GET /v1/changes?view=tutorial", None);
    assert_eq!((status, code(&answer)), (429, "busy"), "{answer}");
    drop(first);
    let mut head = connect(&host);
    wait_for("the place to be free again", || {
        // HEAD has no events that would have to be waited for.
        use std::io::{Read, Write};
        write!(head, "HEAD /v1/changes?view=tutorial HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n", reader.header()).unwrap();
        let mut answer = [0; 4_096];
        let bytes = head.read(&mut answer).unwrap();
        answer[..bytes].starts_with(b"HTTP/1.1 200 ").then_some(())
    });
    let sent = ask(&host, Some(&writer), "POST /v1/streams/mystream/events", Some(&json!({"id": "a", "value": 1})));
    assert_eq!(sent.0, 200);
    assert_eq!(second.change().data["view"], "tutorial");
    host.stop();
}

#[test]
fn a_reader_has_a_request_in_hand() {
    let (reader, other) = (Token::new("reader", "read", &[]), Token::new("other", "read", &[]));
    let (host, _folder) = start("client_concurrency_max = 1\n", &[&reader, &other]);
    let events = Events::follow(&host, Some(&reader), "tutorial", None);
    for send in ["GET /v1/views", "GET /v1/changes?view=tutorial"] {
        assert_eq!(ask(&host, Some(&reader), send, None).0, 429, "{send}");
    }
    assert_eq!(ask(&host, Some(&other), "GET /v1/views", None).0, 200);
    drop(events);
    wait_for("the client's place", || (ask(&host, Some(&reader), "GET /v1/views", None).0 == 200).then_some(()));
    host.stop();
}

#[test]
fn a_stream_ends_when_its_token_does() {
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5)).to_string();
    let (short, writer) = (Token::new("short", "read", &["--expires", &soon]), Token::new("writer", "write", &[]));
    let folder = tempfile::TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config(folder.path(), "127.0.0.1:0", "", &[&short, &writer])).unwrap();
    let mut events = Events::follow(&host, Some(&short), "tutorial", None);
    let ended = std::thread::spawn(move || while events.next().is_some() {});
    wait_for("the end of the stream", || {
        assert_eq!(ask(&host, Some(&writer), "POST /v1/streams/mystream/events", Some(&json!({"id": "a", "value": 1}))).0, 200);
        ended.is_finished().then_some(())
    });
    assert_eq!(ask(&host, Some(&short), "GET /v1/changes?view=tutorial", None).0, 401);
    host.stop();
}
