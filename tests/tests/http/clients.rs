//! Clients that are slow, silent, greedy or wrong, and what the host does about them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use gristmill_tests::host::{Host, wait_for};
use serde_json::Value;

use super::{LIMITS, component, connect, put_tutorial, start};

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
