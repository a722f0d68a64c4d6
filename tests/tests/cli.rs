//! The command line and the configuration, as a user meets them: the built program, real files, a real host.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gristmill::config::{Config, EmbeddedStore, FeastRedisStore, RedisStore, Store, WrittenView};
use gristmill_tests::config_cases;
use gristmill_tests::host::{Host, binary, wait_for};
use serde_json::Value;

const COMMANDS: [&str; 22] = [
    "pause",
    "resume",
    "switch",
    "demo",
    "run",
    "check",
    "new",
    "build",
    "test",
    "dev",
    "inspect",
    "conformance",
    "push",
    "transforms",
    "rollback",
    "streams",
    "ingest",
    "get",
    "dead-letters",
    "state",
    "token",
    "shadow",
];
const REFERENCE: &str = include_str!("../../host/gristmill.reference.toml");

fn gristmill(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("GRISTMILL_HOST")
        .env_remove("GRISTMILL_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("the program is built")
}

fn on(host: &Host, arguments: &[&str]) -> Output {
    let mut all = arguments.to_vec();
    all.extend(["--host", host.url()]);
    gristmill(&all)
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("output is UTF-8")
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    serde_json::from_str(&out(output)).expect("output is JSON")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

fn tutorial() -> String {
    repository().join("plugins/prebuilt/tutorial.wasm").display().to_string()
}

fn embedded_host() -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), "[host]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    (folder, host)
}

#[test]
fn every_mistake_in_a_configuration_is_explained() {
    let differences = config_cases::differences().unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_reference_states_the_defaults() {
    let reference = Config::parse(REFERENCE, "reference", Path::new("")).unwrap();
    let default = Config::default();
    assert_eq!(reference.host, default.host);
    assert_eq!(reference.store, default.store);
    assert_eq!(reference.dead_letters, default.dead_letters);
    assert_eq!(reference.http, default.http);
    assert_eq!(reference.engine, default.engine);
    assert_eq!(reference.limits, default.limits);
    assert_eq!(reference.feast, default.feast);
    let carts = &reference.views["carts"];
    assert_eq!(*carts, WrittenView { entity: carts.entity.clone(), features: carts.features.clone(), ..WrittenView::default() });
    let bare = "[streams.orders]\n[streams.mystream]\ntype = \"redis_streams\"\n[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\n";
    let bare = Config::parse(bare, "bare", Path::new("")).unwrap();
    assert_eq!(reference.transforms, bare.transforms);
    assert_eq!(reference.streams.keys().collect::<Vec<_>>(), bare.streams.keys().collect::<Vec<_>>());
    for (name, stream) in &reference.streams {
        let mut plain = bare.streams[name].clone();
        assert_eq!(stream.format(), plain.format(), "{name}");
        plain.format = stream.format.clone();
        assert_eq!(*stream, plain, "{name}");
    }
}

#[test]
fn the_reference_shows_every_option_and_no_other() {
    let shown = uncommented(REFERENCE);
    for (section, keys) in [
        ("host", vec!["host"]),
        ("dead_letters", vec!["dead_letters"]),
        ("http", vec!["http"]),
        ("http.tls", vec!["http.tls"]),
        ("[http.tokens]", vec!["[http.tokens]"]),
        ("engine", vec!["engine"]),
        ("limits", vec!["limits"]),
        ("streams.x", vec!["streams.orders", "streams.mystream"]),
        ("transforms.x", vec!["transforms.tutorial"]),
        ("feast", vec!["feast"]),
        ("views.x", vec!["views.carts"]),
    ] {
        let shown: BTreeSet<String> = keys.iter().flat_map(|section| keys_of(&shown, section)).collect();
        let mut known = known_keys(section);
        if section == "http" {
            assert!(known.remove("tls") && known.remove("tokens"), "they have sections of their own");
        }
        assert_eq!(shown, known, "[{section}]");
    }
}

#[test]
fn the_reference_shows_every_kind_of_store() {
    let mut shown = keys_of(REFERENCE, "store");
    for (block, expected) in [
        ("type = \"memory\"", Store::Memory),
        ("type = \"redis\"", Store::Redis(RedisStore::default())),
        ("type = \"feast_redis\"", Store::FeastRedis(FeastRedisStore { key_ttl_secs: Some(2_592_000), ..FeastRedisStore::default() })),
        ("type = \"embedded\"", Store::Embedded(EmbeddedStore { cache_bytes: Some(64 << 20), ..EmbeddedStore::default() })),
    ] {
        let text = uncommented(REFERENCE);
        let block = text.split("[store]").skip(1).find(|rest| rest.contains(block)).expect("the reference shows it");
        let block = block.split("\n[").next().expect("a split gives one piece at least");
        let block: String = block.lines().filter(|line| !line.starts_with("url_env")).map(|line| format!("{line}\n")).collect();
        let text = format!("[store]\n{block}");
        shown.extend(keys_of(&text, "store"));
        let found = Config::parse(&text, "block", Path::new("")).unwrap().store;
        match (found, expected) {
            (Store::Redis(found), Store::Redis(expected)) => {
                assert_eq!((&found.prefix, found.lease_ms), (&expected.prefix, expected.lease_ms));
                assert_eq!(found.url.reveal(), "redis://127.0.0.1:6379/0");
            }
            (Store::FeastRedis(found), Store::FeastRedis(expected)) => {
                assert_eq!((&found.redis.prefix, found.key_ttl_secs), (&expected.redis.prefix, expected.key_ttl_secs));
            }
            (found, expected) => assert_eq!(found, expected),
        }
    }
    shown.insert("url_env".into());
    assert_eq!(shown, known_keys("store"));
}

/// The reference with its disabled settings (`#` without a space) in force, and its doubly marked comments left comments.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The keys set in one section of a text.
fn keys_of(text: &str, section: &str) -> BTreeSet<String> {
    let header = format!("[{section}]");
    let lines = text.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.starts_with('['));
    let settings = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    settings.map(|(key, _)| key.split('.').next().expect("a split gives one piece at least").to_owned()).collect()
}

/// The keys that a section may have, as the refusal of an unknown one lists them.
fn known_keys(section: &str) -> BTreeSet<String> {
    let text = format!("[{section}]\n\"?\" = 0\n");
    let error = Config::parse(&text, "probe", Path::new("")).unwrap_err().to_string();
    let (_, known) = error.split_once("known are ").or_else(|| error.split_once("did you mean `")).expect("the refusal names keys");
    known.trim_end_matches("`?").split(", ").map(str::to_owned).collect()
}

#[test]
fn secrets_are_not_printed() {
    let text = "[store]\ntype = \"redis\"\nurl_env = \"PATH\"\n";
    let error = Config::parse(text, "file", Path::new("")).unwrap_err().to_string();
    assert!(error.contains("store.url_env: not a Redis URL"), "{error}");
    assert!(!error.contains(&std::env::var("PATH").unwrap()), "{error}");
    let config = Config::parse("[store]\ntype = \"redis\"\nurl = \"redis://10.1.2.3\"\n", "file", Path::new("")).unwrap();
    assert!(!format!("{config:?}").contains("10.1.2.3"), "{config:?}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let all = out(&gristmill(&["--help"]));
    for command in COMMANDS {
        assert!(all.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command} is not in\n{all}");
        let help = gristmill(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(out(&help).contains(&format!("Example: gristmill {command}")), "{}", out(&help));
    }
    for action in ["versions", "activate"] {
        let help = out(&gristmill(&["transforms", action, "--help"]));
        assert!(help.contains(&format!("Example: gristmill transforms {action}")), "{help}");
    }
    for action in ["list", "show", "replay", "drop"] {
        let help = out(&gristmill(&["dead-letters", action, "--help"]));
        assert!(help.contains(&format!("Example: gristmill dead-letters {action}")), "{help}");
    }
    for action in ["put", "report", "promote", "drop"] {
        let help = out(&gristmill(&["shadow", action, "--help"]));
        assert!(help.contains(&format!("Example: gristmill shadow {action}")), "{help}");
    }
    // A command's own options come first, and which host is asked last, although the command above says it.
    let help = out(&gristmill(&["shadow", "promote", "--help"]));
    let place = |option: &str| help.find(&format!("      {option} ")).unwrap_or_else(|| panic!("no {option} in\n{help}"));
    assert!(place("--memory-bytes-max") < place("--host") && place("--slower-max") < place("--host"), "{help}");
    let listed = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // A description may go on in the next line, further in.
    let commands = listed.lines().filter(|line| !line.starts_with("   ")).count();
    assert_eq!(commands, COMMANDS.len() + 1, "a command is not in this test:\n{listed}");
    assert!(all.contains("Exit codes"), "{all}");
}

#[test]
fn wrong_arguments_and_configurations_end_with_2() {
    assert_eq!(gristmill(&["ingest"]).status.code(), Some(2));
    assert_eq!(gristmill(&["run", "--config", "/no/such/file.toml"]).status.code(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, "[host]\nlisen = 1\n").unwrap();
    let checked = gristmill(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(err(&checked).contains("wrong.toml:2:1: host.lisen: unknown key `lisen`; did you mean `listen`?"), "{}", err(&checked));
}

#[test]
fn no_host_ends_with_3() {
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("http://127.0.0.1:{port}");
    for arguments in [vec!["transforms"], vec!["get", "view", "key=1"], vec!["dead-letters", "list"], vec!["push", &tutorial()]] {
        let output = gristmill(&[arguments, vec!["--host", &host]].concat());
        assert_eq!(output.status.code(), Some(3), "{}", err(&output));
        assert!(err(&output).contains(&host), "{}", err(&output));
    }
}

#[test]
fn what_is_wrong_with_the_way_to_a_host_is_said() {
    let (_folder, host) = embedded_host();
    let bare = host.url().trim_start_matches("http://");
    let output = gristmill(&["transforms", "--host", bare]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains(&format!("write http://{bare}, or https://{bare}")), "{}", err(&output));
    let output = gristmill(&["transforms", "--host", &format!("https://{bare}")]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(err(&output).contains(&format!("name it as http://{bare}")), "{}", err(&output));
    host.stop();
    // The other way round: a host with a certificate, asked as if it had none.
    let folder = tempfile::TempDir::new().unwrap();
    let certificate = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::write(folder.path().join("certificate.pem"), certificate.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let config =
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[http.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    let host = Host::start(folder.path(), config).unwrap();
    let bare = host.url().trim_start_matches("https://");
    let output = gristmill(&["transforms", "--host", &format!("http://{bare}")]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(err(&output).contains(&format!("name it as https://{bare}")), "{}", err(&output));
    let output = gristmill(&["transforms", "--host", &format!("https://{bare}")]);
    assert!(err(&output).contains("--ca") && err(&output).contains("not trusted"), "{}", err(&output));
    // A name that it is not for is no matter of authorities.
    let authority = folder.path().join("certificate.pem");
    let other = bare.replace("127.0.0.1", "localhost");
    let output = gristmill(&["transforms", "--host", &format!("https://{other}"), "--ca", authority.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(err(&output).contains("name the host as its certificate does"), "{}", err(&output));
    host.stop();
    // What `openssl req -x509` makes by itself is a certificate of an authority.
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&authority, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let host = Host::start(folder.path(), config).unwrap();
    let output = gristmill(&["transforms", "--host", host.url(), "--ca", authority.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(err(&output).contains("CA:FALSE"), "{}", err(&output));
    host.stop();
}

#[test]
fn a_host_says_what_keeps_it_from_listening_and_which_file_it_does_not_read() {
    let (folder, host) = embedded_host();
    let address = host.url().trim_start_matches("http://");
    let path = folder.path().join("second.toml");
    std::fs::write(&path, format!("[host]\nlisten = \"{address}\"\ndata_folder = \"second\"\n")).unwrap();
    let output = gristmill(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains(address) && err(&output).contains("host.listen"), "{}", err(&output));
    host.stop();
    // Without --config nothing is read, which somebody who has just run `gristmill check` would not expect.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("gristmill.toml"), "[host]\n").unwrap();
    // It ends before it listens on the usual port: its data folder is a file.
    std::fs::write(elsewhere.path().join("gristmill-data"), "").unwrap();
    let output = Command::new(binary()).arg("run").current_dir(elsewhere.path()).stdin(Stdio::null()).output().unwrap();
    let said = err(&output);
    assert!(said.contains("gristmill run --config gristmill.toml"), "{said}");
}

#[test]
fn a_stream_that_a_push_has_made_is_said() {
    let (_folder, host) = embedded_host();
    let said = out(&on(&host, &["push", &tutorial(), "--name", "astray", "--stream", "nope"]));
    assert!(said.contains("made the stream `nope`"), "{said}");
    let said = out(&on(&host, &["push", &tutorial(), "--name", "another", "--stream", "nope"]));
    assert!(!said.contains("made the stream"), "{said}");
    host.stop();
}

#[test]
fn check_loads_what_a_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gristmill.toml");
    std::fs::copy(tutorial(), folder.path().join("tutorial.wasm")).unwrap();
    std::fs::write(&path, "[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\nstream = \"mystream\"\n").unwrap();
    let checked = json(&gristmill(&["check", "--json", "--config", path.to_str().unwrap()]));
    assert_eq!(checked[0]["name"], "tutorial");
    assert_eq!(checked[0]["stream"], "mystream");

    std::fs::write(folder.path().join("broken.wasm"), b"not wasm").unwrap();
    std::fs::write(&path, "[transforms.a]\ncomponent = \"missing.wasm\"\n[transforms.b]\ncomponent = \"broken.wasm\"\n").unwrap();
    let checked = gristmill(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(err(&checked).contains("transforms.a:") && err(&checked).contains("transforms.b:"), "{}", err(&checked));
}

#[test]
fn check_finds_features_that_no_configured_view_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gristmill.toml");
    std::fs::copy(tutorial(), folder.path().join("tutorial.wasm")).unwrap();
    let check = |text: &str| {
        let windows = "aggregations = [{ feature = \"seen\", column = \"feature1\", function = \"count\" }]";
        let views = "[views.carts]\nentity = { user = \"Int64\" }\nfeatures = { items = \"Int32\" }\n";
        let all = format!("[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\n{windows}\n{views}{text}");
        std::fs::write(&path, all).unwrap();
        gristmill(&["check", "--config", path.to_str().unwrap()])
    };
    // What is not configured may be put later, and is not looked for.
    let right = check("[services.a]\nfeatures = [\"tutorial:feature1\", \"tutorial@v1:seen\", \"carts:items\", \"later:anything\"]\n");
    assert_eq!(right.status.code(), Some(0), "{}", err(&right));
    let wrong = check(
        "[services.a]\nfeatures = [\"tutorial:featur1\"]\n[services.\"b@2\"]\nfeatures = [\"carts:total\"]\n\
         [transforms.risk]\nat = \"request\"\ncomponent = \"tutorial.wasm\"\ninputs.value.from = \"tutorial:sene\"\n",
    );
    assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
    for problem in [
        "services.a: view `tutorial` has no feature `featur1`; did you mean `feature1`?",
        "services.b@2: view `carts` has no feature `total`",
        "transforms.risk.inputs: view `tutorial` has no feature `sene`; did you mean `seen`?",
    ] {
        assert!(err(&wrong).contains(problem), "{problem}\n{}", err(&wrong));
    }
}

#[test]
fn inspect_shows_the_contract_of_a_component() {
    let shown = json(&gristmill(&["inspect", &tutorial(), "--json"]));
    assert!(!shown["imports"].to_string().contains("wasi"), "{shown}");
    assert!(!shown["spec"]["inputs"].as_array().unwrap().is_empty());
    let table = out(&gristmill(&["inspect", &tutorial()]));
    for field in shown["spec"]["outputs"].as_array().unwrap() {
        assert!(table.contains(field["name"].as_str().unwrap()), "{table}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.wasm");
    std::fs::write(&path, b"hello").unwrap();
    assert_eq!(gristmill(&["inspect", path.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(gristmill(&["inspect", "/no/such.wasm"]).status.code(), Some(2));
}

#[test]
fn build_says_what_it_cannot_build() {
    let folder = tempfile::tempdir().unwrap();
    let output = gristmill(&["build", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("Cargo.toml"), "{}", err(&output));
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let mut child =
        Command::new(binary()).args(["inspect", &tutorial()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(err(&output), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_goes_away_does_not_end_a_host() {
    let (_folder, host) = embedded_host();
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    // SIGPIPE is 13; bits count from signal 1.
    assert_ne!(ignored & (1 << 12), 0, "writing to a connection that is gone would end the host");
}

#[test]
fn events_go_in_and_features_come_out() {
    let (folder, host) = embedded_host();
    let pushed = json(&on(&host, &["push", &tutorial(), "--max-age-secs", "3600", "--json"]));
    assert_eq!(pushed["stream"], "mystream");
    let listed = out(&on(&host, &["transforms"]));
    assert!(listed.lines().any(|line| line.starts_with("tutorial ")), "{listed}");
    assert_eq!(json(&on(&host, &["transforms", "tutorial", "--json"]))["name"], "tutorial");

    json(&on(&host, &["push", &tutorial(), "--max-age-secs", "60", "--json"]));
    let versions = out(&on(&host, &["transforms", "versions", "tutorial"]));
    let rows: Vec<&str> = versions.lines().collect();
    assert!(rows[1].starts_with("*  2 ") && rows[1].ends_with("max_age_secs") && rows[2].starts_with("   1 "), "{versions}");
    assert!(rows[3].is_empty() && rows[5].ends_with("no event yet since the last swap"), "{versions}");
    let back = out(&on(&host, &["rollback", "tutorial"]));
    assert!(back.starts_with("tutorial is in force on stream `mystream`, version 1, component "), "{back}");
    assert_eq!(json(&on(&host, &["transforms", "activate", "tutorial", "2", "--json"]))["number"], 2);
    assert_eq!(json(&on(&host, &["rollback", "tutorial", "1", "--json"]))["number"], 1);
    assert_eq!(json(&on(&host, &["transforms", "versions", "tutorial", "--json"]))["active"], 1);
    assert_eq!(on(&host, &["rollback", "tutorial", "3"]).status.code(), Some(4));
    assert_eq!(on(&host, &["transforms", "activate", "tutorial"]).status.code(), Some(2));

    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("events.ndjson"), "{\"id\":\"a\",\"value\":1}\n\n{\"id\":\"b\",\"value\":2.5}\n").unwrap();
    std::fs::write(path("events.csv"), "id,value,note\nc,4,\nd,-1,seen\n").unwrap();
    let ingested = json(&on(&host, &["ingest", "mystream", &path("events.ndjson"), "--json"]));
    assert_eq!(ingested["events"], 2);
    assert!(out(&on(&host, &["ingest", "mystream", &path("events.csv")])).starts_with("2 events appended to `mystream`"));
    for (key, feature1, feature2) in [("a", 2.0, 11.0), ("b", 5.0, 12.5), ("c", 8.0, 14.0), ("d", -2.0, 9.0)] {
        let key = format!("id={key}");
        let row = wait_for("a feature row", || {
            let output = on(&host, &["get", "tutorial", &key, "--json"]);
            (output.status.code() == Some(0)).then(|| json(&output))
        });
        assert_eq!(row["features"], serde_json::json!(["tutorial:feature1", "tutorial:feature2"]));
        assert_eq!(row["results"][0]["values"], serde_json::json!([feature1, feature2]));
    }
    let one = out(&on(&host, &["get", "--features", "tutorial:feature2", "id=b"]));
    assert!(one.contains("tutorial:feature2") && one.contains("12.5") && one.contains("present"), "{one}");
    assert_eq!(on(&host, &["get", "tutorial", "id=nobody"]).status.code(), Some(4));
    host.put("/v1/services/readings", br#"{"features": ["tutorial:feature2"]}"#).unwrap();
    assert_eq!(out(&on(&host, &["get", "--service", "readings@1", "id=b"])), one);
    assert_eq!(on(&host, &["get", "--service", "readings", "tutorial", "id=b"]).status.code(), Some(2));
    assert_eq!(on(&host, &["get", "no_such_view", "id=a"]).status.code(), Some(4));

    assert_eq!(on(&host, &["transforms", "tutorial", "--delete"]).status.code(), Some(0));
    let gone = on(&host, &["transforms", "tutorial"]);
    assert_eq!(gone.status.code(), Some(4), "{}", err(&gone));
    host.stop();
}

#[test]
fn a_wrong_line_is_named_and_the_way_on_is_said() {
    let (_folder, host) = embedded_host();
    json(&on(&host, &["push", &tutorial(), "--json"]));
    let mut child = Command::new(binary())
        .args(["ingest", "mystream", "-", "--host", host.url()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..1_000 {
        stdin.write_all(b"{\"id\":\"a\",\"value\":1}\n").unwrap();
    }
    stdin.write_all(b"\n[1, 2]\n").unwrap();
    drop(stdin);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(said.contains("line 1002") && said.contains("JSON object"), "{said}");
    assert!(said.contains("--skip 1000"), "{said}");
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(table.path(), "id,value\na,1\n").unwrap();
    let output = on(&host, &["ingest", "mystream", table.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains("line 1") && err(&output).contains("--format csv"), "{}", err(&output));
}

#[test]
fn a_new_folder_says_where_its_transform_is() {
    let folder = tempfile::tempdir().unwrap();
    for (language, source) in [("rust", "src/lib.rs"), ("python", "transform.py"), ("go", "transform.go")] {
        let plugin = folder.path().join(format!("plugin_{language}"));
        let output = gristmill(&["new", "--lang", language, plugin.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let page = std::fs::read_to_string(plugin.join("README.md")).unwrap();
        assert!(page.contains(&format!("| `{source}` | the transform |")) && plugin.join(source).is_file(), "{page}");
    }
}

#[test]
fn dead_letters_are_listed_shown_and_dropped() {
    let (folder, host) = embedded_host();
    json(&on(&host, &["push", &tutorial(), "--json"]));
    let events = folder.path().join("events.ndjson");
    std::fs::write(&events, "{\"id\":\"a\",\"value\":\"many\"}\n").unwrap();
    assert_eq!(on(&host, &["ingest", "mystream", events.to_str().unwrap()]).status.code(), Some(0));
    let letters = wait_for("a dead letter", || {
        let found = json(&on(&host, &["dead-letters", "list", "--json"]));
        (!found["dead_letters"].as_array()?.is_empty()).then_some(found)
    });
    let table = out(&on(&host, &["dead-letters", "list"]));
    let id = table.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(id.starts_with("mystream/") && id.ends_with("/tutorial"), "{table}");
    let shown = json(&on(&host, &["dead-letters", "show", &id]));
    assert_eq!(shown["entry_id"], letters["dead_letters"][0]["entry_id"]);
    let replayed = json(&on(&host, &["dead-letters", "replay", &id, "--json"]));
    assert_eq!(replayed["still_dead"], 1, "{replayed}");
    // Once the transform is gone, nobody can try it again.
    assert_eq!(on(&host, &["transforms", "tutorial", "--delete"]).status.code(), Some(0));
    let gone = on(&host, &["dead-letters", "replay", &id]);
    assert_eq!(gone.status.code(), Some(2), "{}", err(&gone));
    assert!(err(&gone).contains("transform `tutorial` reads nothing of stream `mystream` any more; load it first"), "{}", err(&gone));
    assert_eq!(on(&host, &["dead-letters", "drop"]).status.code(), Some(2));
    assert_eq!(out(&on(&host, &["dead-letters", "drop", "--yes"])), "1 dropped\n");
    assert_eq!(on(&host, &["dead-letters", "show", &id]).status.code(), Some(4));
}

#[test]
fn the_demonstration_ends_with_features() {
    let shown = gristmill(&["demo", "--listen", "127.0.0.1:0", "--exit-when-done", "--rate", "0"]);
    assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
    let text = out(&shown);
    assert!(text.contains("through 4 transforms"), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("curl ")).count(), 4, "{text}");
}

#[test]
fn a_second_demonstration_says_that_the_first_still_listens_and_nothing_else() {
    let (_folder, host) = embedded_host();
    let shown = gristmill(&["demo", "--listen", host.url().trim_start_matches("http://"), "--exit-when-done"]);
    assert_eq!(shown.status.code(), Some(1), "{}", err(&shown));
    assert!(err(&shown).contains("--listen"), "{}", err(&shown));
    assert!(!err(&shown).contains("WARN"), "{}", err(&shown));
}

#[test]
fn gzipped_events_are_taken_and_what_was_sent_is_left_out() {
    let (_folder, host) = embedded_host();
    let carrier = repository().join("plugins/prebuilt/flights-carrier.wasm");
    json(&on(&host, &["push", carrier.to_str().unwrap(), "--name", "carrier", "--json"]));
    let events = repository().join("examples/flights/flights-2013-01.ndjson.gz");
    let count = |arguments: &[&str]| {
        let all = [&["ingest", "flights", events.to_str().unwrap(), "--json"], arguments].concat();
        json(&on(&host, &all))["events"].as_u64().unwrap()
    };
    let all = count(&[]);
    assert!(all > 10_000, "{all}");
    assert_eq!(count(&["--skip", &(all - 7).to_string()]), 7);
}
