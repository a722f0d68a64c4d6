//! Who may do what: tokens, their scopes and limits, bounds on clients, TLS, web pages of others, and the audit log. And those who stay: readers of
//! changes.

#[path = "access/changes.rs"]
mod changes;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use gristmill::conformance::guest::Guest;
use gristmill_tests::host::{Answer, DEADLINE, Host, wait_for};
use gristmill_tests::openapi::Description;
use gristmill_tests::token::{Token, gristmill};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Asks with a token, or without any.
fn ask(host: &Host, token: Option<&Token>, send: &str, body: Option<&Value>) -> (u16, Value) {
    let answer = ask_fully(host, token, send, body);
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn ask_fully(host: &Host, token: Option<&Token>, send: &str, body: Option<&Value>) -> Answer {
    let (method, path) = send.split_once(' ').unwrap();
    let authorization = token.map(Token::header);
    let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
    let body = body.map(Value::to_string);
    host.send_with(&headers, method, path, body.as_deref().map(str::as_bytes)).unwrap()
}

/// A host with two transforms on streams of their own.
fn start(http: &str, tokens: &[&Token]) -> (Host, TempDir) {
    start_on("127.0.0.1:0", http, tokens)
}

fn start_on(listen: &str, http: &str, tokens: &[&Token]) -> (Host, TempDir) {
    let folder = TempDir::new().unwrap();
    let host = Host::start(folder.path(), &config(folder.path(), listen, http, tokens)).unwrap();
    (host, folder)
}

fn config(folder: &Path, listen: &str, http: &str, tokens: &[&Token]) -> String {
    let tutorial = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm");
    std::fs::copy(tutorial, folder.join("tutorial.wasm")).unwrap();
    std::fs::write(folder.join("doubling.wasm"), Guest::doubling().component().unwrap()).unwrap();
    let tokens: String = tokens.iter().map(|token| token.config.as_str()).collect();
    format!(
        r#"
        [host]
        listen = "{listen}"
        data_folder = "data"
        log_format = "json"
        log = "trace"
        [streams.mystream]
        [streams.events]
        [transforms.tutorial]
        component = "tutorial.wasm"
        [transforms.doubling]
        component = "doubling.wasm"
        [http]
        {http}
        {tokens}
        "#
    )
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[test]
fn every_operation_asks_for_its_scope() {
    let expired = Token::new("expired", "read,write,admin", &["--expires", "2020-01-01T00:00:00Z"]);
    let scopes = ["read", "write", "admin"];
    let by_scope: Vec<Token> = scopes.iter().map(|scope| Token::new(scope, scope, &[])).collect();
    let unknown = Token::new("unknown", "read,write,admin", &[]);
    let mut known: Vec<&Token> = by_scope.iter().collect();
    known.push(&expired);
    let (host, _folder) = start("", &known);
    let description = Description::new(host.get("/openapi.json").unwrap().1);
    let mut secured = 0;
    for operation in description.operations() {
        let send = format!("{} {}", operation.method, operation.path);
        let body = matches!(operation.method.as_str(), "POST" | "PUT").then(|| json!({}));
        let checked = |token: Option<&Token>| {
            let answer = ask_fully(&host, token, &send, body.as_ref());
            description.check(&operation.method, &operation.path, answer.status, &answer.body).unwrap();
            answer
        };
        let Some(needed) = operation.operation["security"][0]["token"][0].as_str() else {
            assert_eq!(checked(None).status, 200, "{send}");
            continue;
        };
        secured += 1;
        for (token, challenge) in
            [(None, "Bearer realm=\"gristmill\""), (Some(&unknown), "invalid_token"), (Some(&expired), "invalid_token")]
        {
            let answer = checked(token);
            assert_eq!(answer.status, 401, "{send}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().contains(challenge), "{send}: {:?}", answer.headers);
        }
        for (scope, token) in scopes.iter().zip(&by_scope) {
            let answer = checked(Some(token));
            if *scope == needed {
                assert!(![401, 403].contains(&answer.status), "{send} with {scope}: {}", answer.status);
                continue;
            }
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 403, "{send} with {scope}: {text}");
            assert!(text.contains(&format!("the scope `{needed}`")), "{text}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().contains(&format!("scope=\"{needed}\"")));
        }
    }
    assert!(secured >= 15, "{secured}");
    for authorization in ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer \t ", &format!("Bearer {}", "x".repeat(10_000)), &unknown.text] {
        let answer = host.send_with(&[("authorization", authorization)], "GET", "/v1/views", None).unwrap();
        assert_eq!(answer.status, 401, "{authorization}");
    }
    let again = ask_fully(&host, Some(&by_scope[0]), "HEAD /v1/dead-letters", None);
    assert_eq!(again.status, 403, "HEAD is asked for what GET is");
    host.stop();
}

#[test]
fn readiness_tells_what_the_host_is_made_of_only_to_those_who_may_read_it() {
    let (reader, limited) =
        (Token::new("reader", "read", &[]), Token::new("limited", "read", &["--view", "tutorial", "--stream", "mystream"]));
    let (host, _folder) = start("", &[&reader, &limited]);
    wait_for("the host to be ready", || (ask(&host, None, "GET /readyz", None).0 == 200).then_some(()));
    let parts = |token| {
        let (status, answer) = ask(&host, token, "GET /readyz", None);
        assert_eq!((status, &answer["ready"]), (200, &json!(true)));
        answer["parts"].as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(parts(None), [""; 0]);
    assert_eq!(parts(Some(&limited)), ["store", "stream mystream", "transform tutorial"]);
    assert_eq!(parts(Some(&reader)).len(), 5);
    host.stop();
}

#[test]
fn a_limited_token_names_nothing_beyond_its_reach() {
    let all = Token::new("all", "read,write,admin", &[]);
    let limited = Token::new("limited", "read,write,admin", &["--view", "tut*", "--stream", "mystream"]);
    let nothing = Token { text: limited.text.clone().replace("gristmill_", "other_"), config: String::new() };
    let (host, _folder) = start("", &[&all, &limited]);
    assert_eq!(ask(&host, Some(&nothing), "GET /v1/views", None).0, 401);
    let moment = "2026-01-01T00:00:00Z";
    // The whole reach first, so that everything that is cached was made for somebody who reaches it.
    for send in ["GET /v1/features/doubling?key=1", "GET /v1/views/doubling", "GET /v1/states/doubling?key=1"] {
        assert_eq!(ask(&host, Some(&all), send, None).0, 200, "{send}");
    }
    let both = json!({"features": ["tutorial:feature1", "doubling:double"], "entities": [{"id": "a", "key": 1}]});
    assert_eq!(ask(&host, Some(&all), "POST /v1/features", Some(&both)).0, 200);
    // One within reach that is computed from one beyond it.
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components/conformance-reference.wasm");
    let path = "/v1/transforms/tut_risk?at=request&inputs=%7B%22whole%22%3A%7B%22from%22%3A%22doubling%3Adouble%22%7D%7D";
    let pushed = host.send_with(&[("authorization", &all.header())], "PUT", path, Some(&std::fs::read(component).unwrap()));
    assert_eq!(pushed.unwrap().status, 200);
    let computed = json!({"features": ["tut_risk:whole"], "entities": [{"id": "a", "key": 1}]});
    assert_eq!(ask(&host, Some(&all), "POST /v1/features", Some(&computed)).0, 200);
    let queries = [
        both,
        computed,
        json!({"view": "doubling", "entities": [{"key": 1}]}),
        json!({"view": "doubling", "entities": [], "as_of": moment}),
        json!({"view": "nothing", "entities": []}),
        json!({"features": ["doubling:double"], "entities": vec![json!({"key": 1}); 100]}),
        json!({"features": ["nothing:double"], "entities": []}),
        json!({"features": ["doubling:no_such_feature"], "entities": []}),
        json!({"features": ["tutorial:feature1", "doubling"], "entities": []}),
    ];
    for query in &queries {
        let (status, answer) = ask(&host, Some(&limited), "POST /v1/features", Some(query));
        let malformed = query["features"][1] == "doubling";
        assert_eq!(status, if malformed { 422 } else { 403 }, "{query}: {answer}");
        assert!(malformed || answer["error"]["message"].as_str().unwrap().starts_with("the token does not reach view `"), "{answer}");
    }
    let paths = [
        "GET /v1/features/doubling?key=1".to_owned(),
        "GET /v1/features/%64oubling?key=1".to_owned(),
        "GET /v1/features/doubling%3Adouble?key=1".to_owned(),
        format!("GET /v1/features/doubling?key=1&as_of={moment}"),
        "GET /v1/features/doubling?key=1&features=double".to_owned(),
        "GET /v1/features/%FF?key=1".to_owned(),
        "GET /v1/states/doubling?key=1".to_owned(),
        "GET /v1/states/nothing?key=1".to_owned(),
        "GET /v1/views/doubling".to_owned(),
        "GET /v1/views/nothing".to_owned(),
        "GET /v1/transforms/doubling".to_owned(),
        "DELETE /v1/transforms/doubling".to_owned(),
        "DELETE /v1/transforms/nothing".to_owned(),
        "GET /v1/transforms/doubling/versions".to_owned(),
        "POST /v1/transforms/doubling/activate".to_owned(),
        "POST /v1/transforms/doubling/roll-back".to_owned(),
        "POST /v1/streams/events/events".to_owned(),
        "POST /v1/streams/nothing/events".to_owned(),
        "GET /v1/streams/events/events".to_owned(),
        "GET /v1/dead-letters?transform=doubling".to_owned(),
        "GET /v1/dead-letters?stream=events".to_owned(),
        "GET /v1/dead-letters/events/1-1/doubling".to_owned(),
        "GET /v1/dead-letters/mystream/1-1/doubling".to_owned(),
        "DELETE /v1/dead-letters?transform=doubling".to_owned(),
        "DELETE /v1/dead-letters?stream=nothing".to_owned(),
        "GET /metrics".to_owned(),
    ];
    for send in &paths {
        let body = send.starts_with("POST").then(|| json!({"key": 1}));
        let (status, answer) = ask(&host, Some(&limited), send, body.as_ref());
        assert_eq!((status, code(&answer)), (403, "forbidden"), "{send}: {answer}");
    }
    for body in
        [json!({"transform": "doubling"}), json!({"stream": "events"}), json!({"ids": ["mystream/1-1/tutorial", "events/1-1/doubling"]})]
    {
        assert_eq!(ask(&host, Some(&limited), "POST /v1/dead-letters/replay", Some(&body)).0, 403, "{body}");
    }
    let df = json!({"key": [1]});
    for (path, body) in [
        ("get-online-features", json!({"features": ["doubling:double"], "entities": df})),
        ("get-online-features", json!({"features": ["nothing:double"], "entities": df})),
        ("get-online-features", json!({"features": ["tutorial:feature1", "doubling:double"], "entities": {"id": ["a"], "key": [1]}})),
        ("push", json!({"push_source_name": "doubling", "df": df})),
        ("push", json!({"push_source_name": "nothing", "df": df})),
        ("write-to-online-store", json!({"feature_view_name": "doubling", "df": df})),
        ("write-to-online-store", json!({"feature_view_name": "nothing", "df": df})),
    ] {
        let (status, answer) = ask(&host, Some(&limited), &format!("POST /{path}"), Some(&body));
        assert_eq!((status, code(&answer)), (403, "forbidden"), "{path} {body}: {answer}");
    }
    let names = |token, path: &str, list: &str| {
        let (_, answer) = ask(&host, Some(token), path, None);
        let names = answer[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    for (path, list) in [("GET /v1/views", "views"), ("GET /v1/transforms", "transforms")] {
        assert_eq!(names(&all, path, list), ["doubling", "tut_risk", "tutorial"]);
        assert_eq!(names(&limited, path, list), ["tut_risk", "tutorial"]);
    }
    assert_eq!(names(&all, "GET /v1/streams", "streams"), ["events", "mystream"]);
    assert_eq!(names(&limited, "GET /v1/streams", "streams"), ["mystream"]);
    // What a name may have meant is told as far as the token reaches.
    let (_, answer) = ask(&host, Some(&limited), "GET /v1/features/tutoriel?id=1", None);
    assert_eq!(answer["error"]["message"], "there is no feature view `tutoriel`; did you mean `tutorial`?");
    let narrow = json!({"view": "tutdoubling", "entities": []});
    let (_, answer) = ask(&host, Some(&limited), "POST /v1/features", Some(&narrow));
    assert!(!answer["error"]["message"].as_str().unwrap().contains("`doubling`"), "{answer}");
    host.stop();
}

#[test]
fn a_limited_token_changes_nothing_beyond_its_reach() {
    let all = Token::new("all", "read,write,admin", &[]);
    let limited = Token::new("limited", "read,write,admin", &["--view", "tut*", "--stream", "mystream"]);
    let (host, _folder) = start("", &[&all, &limited]);
    let bad = json!([{"id": "a", "value": "x"}, {"key": "x"}]);
    for stream in ["mystream", "events"] {
        assert_eq!(ask(&host, Some(&all), &format!("POST /v1/streams/{stream}/events"), Some(&bad)).0, 200);
    }
    let letters = |token: &Token| {
        let (_, answer) = ask(&host, Some(token), "GET /v1/dead-letters", None);
        let letters = answer["dead_letters"].as_array().unwrap().clone();
        letters.iter().map(|letter| letter["stream"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("dead letters of both", || (letters(&all).len() == 4).then_some(()));
    assert_eq!(letters(&limited), ["mystream", "mystream"]);
    let (status, answer) = ask(&host, Some(&limited), "POST /v1/dead-letters/replay", Some(&json!({})));
    assert_eq!((status, &answer["replayed"]), (200, &json!(2)), "{answer}");
    let (status, answer) = ask(&host, Some(&limited), "DELETE /v1/dead-letters?limit=100", None);
    assert_eq!((status, &answer["dropped"]), (200, &json!(2)), "{answer}");
    assert_eq!(letters(&all), ["events", "events"]);

    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm")).unwrap();
    let put = |path: &str| host.send_with(&[("authorization", &limited.header())], "PUT", path, Some(&component)).unwrap().status;
    assert_eq!(put("/v1/transforms/other?stream=mystream"), 403, "another name");
    assert_eq!(put("/v1/transforms/tutorial_2"), 403, "the stream that the component names may be any");
    assert_eq!(put("/v1/transforms/tutorial_2?stream=events"), 403, "another stream");
    assert_eq!(put("/v1/transforms/tutorial_2?stream=mystream&emit=events"), 403, "a stream to emit to");
    assert_eq!(put("/v1/transforms/tutorial_2?stream=mystream"), 200);
    assert_eq!(ask(&host, Some(&limited), "DELETE /v1/transforms/tutorial_2", None).0, 204);
    let path = "/v1/transforms/tutorial_2?stream=events";
    assert_eq!(host.send_with(&[("authorization", &all.header())], "PUT", path, Some(&component)).unwrap().status, 200);
    let (_, versions) = ask(&host, Some(&limited), "GET /v1/transforms/tutorial_2/versions", None);
    let by = |index: usize| (versions["versions"][index]["put_by"].as_str(), versions["versions"][index]["stream"].as_str());
    assert_eq!((by(0), by(1)), ((Some("all"), Some("events")), (Some("limited"), Some("mystream"))), "{versions}");
    let activate = |number: u32| ask(&host, Some(&limited), "POST /v1/transforms/tutorial_2/activate", Some(&json!({"version": number}))).0;
    assert_eq!((activate(2), activate(1), activate(2)), (403, 200, 403), "a version that reads another stream");
    assert_eq!(ask(&host, Some(&limited), "POST /v1/transforms/tutorial_2/roll-back", None).0, 403);
    host.stop();
}

#[test]
fn clients_are_bounded_one_by_one() {
    let (greedy, modest) = (Token::new("greedy", "read", &[]), Token::new("modest", "read", &[]));
    let (host, _folder) = start("requests_per_second_max = 5\n", &[&greedy, &modest]);
    let (busy, served): (Vec<Answer>, Vec<Answer>) =
        (0..300).map(|_| ask_fully(&host, Some(&greedy), "GET /v1/views", None)).partition(|answer| answer.status == 429);
    assert!(!busy.is_empty() && served.len() >= 5 && served.iter().all(|answer| answer.status == 200));
    assert!(busy.iter().all(|answer| answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1));
    let query = json!({"view": "tutorial", "entities": []});
    wait_for("the query path to be bounded too", || (ask(&host, Some(&greedy), "POST /v1/features", Some(&query)).0 == 429).then_some(()));
    assert_eq!(ask(&host, Some(&modest), "POST /v1/features", Some(&query)).0, 200, "another token has a rate of its own");
    // Guessing is bounded by where it comes from, and does not take from those who have tokens.
    let guess = Token { text: "guess".into(), config: String::new() };
    wait_for("guesses to be bounded", || (ask(&host, Some(&guess), "GET /v1/views", None).0 == 429).then_some(()));
    assert_eq!(ask(&host, Some(&modest), "GET /v1/views", None).0, 200);
    for path in ["GET /livez", "GET /readyz"] {
        assert_eq!(ask(&host, None, path, None).0, 200, "{path}");
    }
    host.stop();
}

#[test]
fn requests_in_hand_are_bounded_for_each_client() {
    let (slow, other) = (Token::new("slow", "read", &[]), Token::new("other", "read", &[]));
    let (host, _folder) = start("client_concurrency_max = 1\nrequest_timeout_ms = 20000\n", &[&slow, &other]);
    let head =
        format!("POST /v1/features HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ncontent-length: 100\r\n\r\n{{", slow.header());
    let mut hung = Vec::new();
    let busy = wait_for("the only place of the client", || {
        // It may come while the question before it is still in hand, and is then refused itself.
        let mut connection = connect(&host);
        connection.write_all(head.as_bytes()).unwrap();
        hung.push(connection);
        Some(ask(&host, Some(&slow), "GET /v1/views", None)).filter(|(status, _)| *status != 200)
    });
    assert_eq!((busy.0, code(&busy.1)), (429, "busy"));
    assert_eq!(ask(&host, Some(&other), "GET /v1/views", None).0, 200);
    drop(hung);
    wait_for("the place to be free again", || (ask(&host, Some(&slow), "GET /v1/views", None).0 == 200).then_some(()));
    host.stop();
}

#[test]
fn whoever_is_refused_gets_an_answer_whatever_is_sent() {
    let reader = Token::new("reader", "read", &[]);
    let (host, _folder) = start("request_timeout_ms = 300\n", &[&reader]);
    let huge = vec![b' '; 16 << 20];
    for (method, path) in [("POST", "/v1/features"), ("POST", "/v1/streams/mystream/events"), ("PUT", "/v1/transforms/tutorial")] {
        let answer = host.send(method, path, Some(&huge)).unwrap();
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    let answer = host.send_with(&[("authorization", &reader.header())], "PUT", "/v1/transforms/tutorial", Some(&huge)).unwrap();
    assert_eq!(answer.status, 403);
    // A body that never ends is not waited for.
    let mut slow = connect(&host);
    slow.write_all(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    host.stop();
}

#[test]
fn other_machines_are_let_in_with_tokens_and_tls_only() {
    let token = Token::new("reader", "read", &[]);
    let certificate = Certificate::new();
    let refused = |http: &str, tokens: &[&Token], with_tls: bool| {
        let folder = TempDir::new().unwrap();
        certificate.write(folder.path());
        let http = if with_tls { format!("{http}\n{TLS}") } else { http.to_owned() };
        let path = folder.path().join("gristmill.toml");
        std::fs::write(&path, config(folder.path(), "0.0.0.0:0", &http, tokens)).unwrap();
        let checked = gristmill(&["check", "--config", path.to_str().unwrap()], &[]);
        (!checked.status.success()).then(|| String::from_utf8(checked.stderr).unwrap())
    };
    for (tokens, tls) in [(&[][..], false), (&[&token][..], false), (&[][..], true)] {
        assert!(refused("", tokens, tls).is_some_and(|message| message.contains("give the host tokens")), "{} {tls}", tokens.len());
    }
    assert_eq!(refused("", &[&token], true), None);
    assert_eq!(refused("allow_remote = true", &[], false), None);

    let folder = TempDir::new().unwrap();
    certificate.write(folder.path());
    let host = Host::start(folder.path(), &config(folder.path(), "0.0.0.0:0", TLS, &[&token])).unwrap();
    let address = host.url().replace("https://0.0.0.0", "https://localhost");
    let ask = |name: &str| {
        let agent = trusting(&[&certificate]);
        let request = agent.get(format!("{address}/v1/views")).header("authorization", token.header()).header("host", name);
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(ask("features.example"), 200, "names of other machines are fine here");
    host.stop();
}

/// The section of a certificate in the host's folder.
const TLS: &str = "[http.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";

/// A certificate for this machine, its own authority.
struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    fn new() -> Certificate {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        Certificate { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("certificate.pem"), &self.certificate).unwrap();
        std::fs::write(folder.join("key.pem"), &self.key).unwrap();
    }
}

/// A client that trusts these certificates and no others.
fn trusting(certificates: &[&Certificate]) -> ureq::Agent {
    let certificates: Vec<_> =
        certificates.iter().map(|one| ureq::tls::Certificate::from_pem(one.certificate.as_bytes()).unwrap()).collect();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let roots = ureq::tls::RootCerts::new_with_certs(&certificates);
    let tls = ureq::tls::TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).tls_config(tls).build().into()
}

#[test]
fn tls_keeps_others_out_and_its_certificate_is_renewed_while_the_host_runs() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let token = Token::new("reader", "read", &[]);
    let folder = TempDir::new().unwrap();
    first.write(folder.path());
    let config = config(folder.path(), "127.0.0.1:0", &format!("connections_max = 1\nrequest_timeout_ms = 200\n{TLS}"), &[&token]);
    let host = Host::start(folder.path(), &config).unwrap();
    let ask = |agent: ureq::Agent| agent.get(format!("{}/livez", host.url())).call().map(|answer| answer.status().as_u16());
    assert_eq!(ask(trusting(&[&first])).unwrap(), 200);
    ask(trusting(&[&second])).unwrap_err();
    // Plain HTTP, garbage, and a client that says nothing: none keeps the only place.
    let address = host.url().trim_start_matches("https://").to_owned();
    for sent in [&b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", b""] {
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(sent).unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(ask(trusting(&[&first])).unwrap(), 200);
    // A certificate whose key is not there yet changes nothing; both together do.
    std::fs::write(folder.path().join("certificate.pem"), &second.certificate).unwrap();
    wait_for("the pair to be refused", || {
        std::fs::read_to_string(folder.path().join("log")).unwrap().contains("the certificate in force stays").then_some(())
    });
    assert_eq!(ask(trusting(&[&first])).unwrap(), 200);
    second.write(folder.path());
    wait_for("the new certificate", || ask(trusting(&[&second])).ok());
    ask(trusting(&[&first])).unwrap_err();

    let ca = folder.path().join("certificate.pem").display().to_string();
    let get = |more: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["transforms", "--json", "--host", host.url()], more].concat();
        let output = gristmill(&arguments, environment);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(get(&["--ca", &ca], &[("GRISTMILL_TOKEN", &token.text)]).0, Some(0));
    assert_eq!(get(&["--ca", &ca, "--token-env", "MINE"], &[("MINE", &token.text)]).0, Some(0));
    assert_eq!(get(&[], &[("GRISTMILL_TOKEN", &token.text)]).0, Some(3), "the system does not trust it");
    let (status, message) = get(&["--ca", &ca], &[]);
    assert!(status == Some(2) && message.contains("GRISTMILL_TOKEN"), "{message}");
    let (status, message) = get(&["--ca", &ca, "--token-env", "MINE"], &[]);
    assert!(status == Some(2) && message.contains("`MINE` holds no token"), "{message}");
    let (status, message) = get(&["--ca", &ca], &[("GRISTMILL_TOKEN", "wrong")]);
    assert!(status == Some(2) && message.contains("none that this host knows"), "{message}");
    host.stop();
}

#[test]
fn pages_of_others_read_nothing_unless_they_are_named() {
    let page = ("origin", "https://pages.example");
    let wanted = ("access-control-request-method", "POST");
    let header = |answer: &Answer, name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (host, _folder) = start("", &[]);
    let answer = host.send_with(&[page, wanted], "OPTIONS", "/v1/features", None).unwrap();
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (403, None));
    let answer = host.send_with(&[page], "GET", "/v1/views", None).unwrap();
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (200, None));
    host.stop();

    let token = Token::new("reader", "read", &[]);
    let (host, _folder) = start("cors_origins = [\"https://pages.example\"]\n", &[&token]);
    let answer = host.send_with(&[page, wanted], "OPTIONS", "/v1/features", None).unwrap();
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin").as_deref()), (204, Some(page.1)));
    assert!(header(&answer, "access-control-allow-headers").unwrap().contains("authorization"));
    let query = json!({"view": "tutorial", "entities": []}).to_string();
    let answer = host.send_with(&[page, ("authorization", &token.header())], "POST", "/v1/features", Some(query.as_bytes())).unwrap();
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin").as_deref()), (200, Some(page.1)));
    assert_eq!(header(&answer, "vary").as_deref(), Some("origin"));
    // A page may read why it is refused, and is refused all the same.
    let answer = host.send_with(&[page], "POST", "/v1/features", Some(query.as_bytes())).unwrap();
    assert_eq!((answer.status, header(&answer, "access-control-allow-origin").as_deref()), (401, Some(page.1)));
    for origin in ["https://pages.example.evil.example", "http://pages.example", "null"] {
        let answer = host.send_with(&[("origin", origin), wanted], "OPTIONS", "/v1/features", None).unwrap();
        assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (403, None), "{origin}");
    }
    host.stop();
}

#[test]
fn administration_is_written_down_and_tokens_never_are() {
    let (reader, admin) = (Token::new("reader", "read", &[]), Token::new("operator", "admin", &[]));
    let (host, folder) = start("", &[&reader, &admin]);
    let ask = |token: Option<&Token>, id: &str, method: &str, path: &str| {
        let authorization = token.map(Token::header).unwrap_or_default();
        let headers = [("x-request-id", id), ("authorization", &authorization)];
        host.send_with(&headers[..if token.is_some() { 2 } else { 1 }], method, path, Some(b"not a component")).unwrap()
    };
    ask(Some(&admin), "one", "PUT", "/v1/transforms/tutorial?settings=do-not-write-me");
    ask(Some(&admin), "two", "DELETE", "/v1/transforms/doubling");
    ask(Some(&reader), "three", "DELETE", "/v1/transforms/tutorial");
    ask(None, "four", "POST", "/v1/dead-letters/replay");
    ask(Some(&reader), "five", "POST", "/v1/features");
    let unnamed = host.send_with(&[("authorization", &admin.header())], "DELETE", "/v1/dead-letters?limit=1", None).unwrap();
    let given = unnamed.headers["x-request-id"].to_str().unwrap().to_owned();
    let log = wait_for("the last line", || {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        log.contains(&format!("\"request_id\":\"{given}\"")).then_some(log)
    });
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audited: Vec<String> = lines
        .iter()
        .filter(|line| line["target"] == "gristmill::audit")
        .map(|line| {
            assert_eq!((&line["level"], &line["fields"]["peer"]), (&json!("INFO"), &json!("127.0.0.1")), "{line}");
            let of = |key: &str| line["fields"][key].as_str().unwrap().to_owned();
            format!("{} {} {} {} {}", of("request_id"), of("token"), of("method"), of("path"), of("outcome"))
        })
        .collect();
    assert_eq!(
        audited,
        [
            "one operator PUT /v1/transforms/tutorial refused".to_owned(),
            "two operator DELETE /v1/transforms/doubling done".to_owned(),
            "three reader DELETE /v1/transforms/tutorial denied".to_owned(),
            "four nobody POST /v1/dead-letters/replay denied".to_owned(),
            format!("{given} operator DELETE /v1/dead-letters done"),
        ]
    );
    for secret in [&reader.text, &admin.text, "do-not-write-me"] {
        assert!(!log.contains(secret.trim_start_matches("gristmill_")), "a secret stands in the log");
    }
    host.stop();
}

/// Lines of people's logs, with `GRISTMILL_LOG` as it silences the most; and requests that the host refuses for where they come from.
#[test]
fn nothing_silences_the_audit_log_and_strangers_stand_in_it() {
    let admin = Token::new("operator", "admin", &[]);
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), "127.0.0.1:0", "", &[&admin]).replace("\"json\"", "\"text\"");
    let host = Host::start_with(&[("GRISTMILL_LOG", "error".to_owned())], folder.path(), &config).unwrap();
    let ask = |id: &str, send: &str, headers: &str| {
        let mut stream = connect(&host);
        let authorization = admin.header();
        let request =
            format!("{send} HTTP/1.1\r\nx-request-id: {id}\r\nauthorization: {authorization}\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).map(str::to_owned).unwrap()
    };
    assert_eq!(ask("foreign-host", "DELETE /v1/transforms/doubling", "host: evil.example\r\n"), "403");
    assert_eq!(ask("foreign-page", "DELETE /v1/transforms/doubling", "host: localhost\r\norigin: https://evil.example\r\n"), "403");
    assert_eq!(ask("foreign-read", "GET /v1/views", "host: evil.example\r\n"), "403");
    assert_eq!(ask("own", "DELETE /v1/transforms/doubling", "host: localhost\r\n"), "204");
    let log = wait_for("the last line", || {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        log.contains("request_id=\"own\"").then_some(log)
    });
    for (id, outcome) in [("foreign-host", "denied"), ("foreign-page", "denied"), ("own", "done")] {
        let line = log.lines().find(|line| line.contains(&format!("request_id=\"{id}\""))).unwrap_or_else(|| panic!("no {id} in {log}"));
        let parts = ["gristmill::audit", "operator", "DELETE", "/v1/transforms/doubling", &format!("outcome=\"{outcome}\"")];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(!log.contains("foreign-read") && log.lines().all(|line| line.contains("gristmill::audit")), "{log}");
    host.stop();
}

#[test]
fn who_is_limited_to_streams_writes_no_views_and_the_other_way_round() {
    let streams = Token::new("streams", "write,admin", &["--stream", "mystream"]);
    let views = Token::new("views", "write", &["--view", "carts"]);
    let both = Token::new("both", "write", &["--stream", "mystream", "--view", "carts"]);
    let http = "[views.carts]\nentity = { user = \"Int64\" }\nfeatures = { items = \"Int64\" }\n";
    let (host, _folder) = start(http, &[&streams, &views, &both]);
    let row = json!({"user": [1], "items": [2], "event_timestamp": ["2026-01-02T03:04:05Z"]});
    let writes = [
        ("POST /write-to-online-store", json!({"feature_view_name": "carts", "df": row})),
        ("POST /push", json!({"push_source_name": "carts", "df": row})),
        ("POST /v1/streams/mystream/events", json!({"id": "a", "value": 1})),
    ];
    let status = |token: &Token| writes.each_ref().map(|(send, body)| ask(&host, Some(token), send, Some(body)).0);
    assert_eq!((status(&streams), status(&views), status(&both)), ([403, 403, 200], [200, 200, 403], [200, 200, 200]));
    // What computes for requests is on no stream.
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm")).unwrap();
    let put = |query: &str| {
        let path = format!("/v1/transforms/asked{query}");
        let answer = host.send_with(&[("authorization", &streams.header())], "PUT", &path, Some(&component)).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    for (query, part) in
        [("?at=request", "is on none: it takes a token without `streams`"), ("", "or take a token without `streams` for one that computes")]
    {
        let (status, answer) = put(query);
        assert!(status == 403 && answer.contains(part), "{answer}");
    }
    host.stop();
}

#[test]
fn a_token_is_shown_once_and_kept_as_its_hash() {
    let (one, other) = (gristmill(&["token", "new", "--name", "ann", "--view", "a_*,b"], &[]), Token::new("ann", "read", &[]));
    let (out, err) = (String::from_utf8(one.stdout).unwrap(), String::from_utf8(one.stderr).unwrap());
    let token = out.trim();
    assert_eq!(out.lines().count(), 1);
    assert!(token.len() == "gristmill_".len() + 64 && token != other.text && !err.contains(token), "{err}");
    for line in ["[[http.tokens]]", "name = \"ann\"", "scopes = [\"read\"]", "views = [\"a_*\",\"b\"]"] {
        assert!(err.lines().any(|given| given == line), "{line} is not in\n{err}");
    }
    let texts: BTreeSet<String> = (0..20).map(|_| Token::new("x", "read", &[]).text).collect();
    assert_eq!(texts.len(), 20);
    for wrong in [&["--name", "two words"][..], &["--scope", "all"], &["--expires", "tomorrow"], &["--view", "a*b"]] {
        let refused = gristmill(&[&["token", "new"], wrong].concat(), &[]);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
}

/// A bare connection, for what no proper client sends.
fn connect(host: &Host) -> TcpStream {
    let stream = TcpStream::connect(host.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}
