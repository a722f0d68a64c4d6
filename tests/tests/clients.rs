//! Clients that nobody here has written for these tests alone: the Python package, one that a generator makes of `/openapi.json`, and Schemathesis,
//! which sends what that file allows and what it does not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::token::Token;
use gristmill_tests::tools;
use serde_json::json;
use tempfile::TempDir;

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const TUTORIAL: &str = "plugins/prebuilt/tutorial.wasm";
const HOST: &str = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n";

#[test]
fn a_generated_client_works() {
    let (host, token, folder) = start("");
    let description = folder.path().join("openapi.json");
    std::fs::write(&description, host.send("GET", "/openapi.json", None).unwrap().body).unwrap();
    std::fs::copy(client("generated.ts"), folder.path().join("generated.ts")).unwrap();
    std::fs::write(folder.path().join("tsconfig.json"), TYPESCRIPT).unwrap();
    // Where its types are looked for.
    std::os::unix::fs::symlink(tools::folder().join("node_modules"), folder.path().join("node_modules")).unwrap();
    let run = |program: &str, arguments: &[&str]| complete(&folder, tools::environment(&mut Command::new(program)).args(arguments));
    run("openapi-ts", &["-i", "openapi.json", "-o", "host", "-c", "@hey-api/client-fetch"]);
    run("tsc", &["-p", "."]);
    run("esbuild", &["generated.ts", "--bundle", "--platform=node", "--format=esm", "--outfile=generated.mjs", "--log-level=warning"]);
    let said = run("node", &["generated.mjs", host.url(), &token.text, &component(TUTORIAL)]);
    assert_eq!(said.trim(), "all right");
    host.stop();
}

/// Strict, so that what is written in `generated.ts` is held against the types that were made.
const TYPESCRIPT: &str = r#"{
    "compilerOptions": {
        "strict": true, "noUncheckedIndexedAccess": true, "noEmit": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
        "types": ["node"]
    },
    "files": ["generated.ts"]
}"#;

/// What Schemathesis cannot know is which views a host has, so a query that the description allows may be refused (`positive_data_acceptance`). All else
/// it checks: no status from 500, every status, body, content type and header as described, what is wrong refused, and nothing without a token.
/// `GET /v1/changes` never ends; the suite of tokens reads it.
#[test]
fn schemathesis_finds_nothing() {
    let (host, token, folder) = start(
        r#"
        [transforms.card]
        component = "payment.wasm"
        aggregations = [
            { feature = "mean_30d", column = "amount", function = "mean", window_ms = 2592000000 },
            { feature = "count_30d", column = "amount", function = "count", window_ms = 2592000000 },
        ]
        [transforms.risk]
        at = "request"
        component = "payment.wasm"
        inputs.usual.from = "card:mean_30d"
        inputs.payments.from = "card:count_30d"
        [transforms.tutorial]
        component = "tutorial.wasm"
        [services.judge]
        features = ["card:mean_30d", "risk:is_unusual"]
        [views.profiles]
        entity = { id = "String" }
        features = { score = "Float64", visits = "Int64" }
        [transforms.scored]
        at = "request"
        component = "tutorial.wasm"
        inputs.value.from = "profiles:score"
        fallback = "last"
        [services.scores]
        features = ["profiles:score", "profiles:visits", "scored:feature1"]
        "#,
    );
    let authorization = token.header();
    let send = |path: &str, body: serde_json::Value| {
        let body = body.to_string();
        let answer = host.send_with(&[("authorization", &authorization)], "POST", path, Some(body.as_bytes())).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(send("/v1/streams/payments/events", json!([{"card": "c1", "amount": 10}, {"card": "c1", "amount": -1}])).0, 200);
    assert_eq!(send("/v1/streams/mystream/events", json!({"id": "a", "value": 2.5})).0, 200);
    let row = json!({"id": ["a"], "score": [0.5], "visits": [3], "event_timestamp": ["2026-01-02T03:04:05Z"]});
    assert_eq!(send("/push", json!({"push_source_name": "profiles", "df": row})).0, 200);
    for (view, entity) in [("card", json!({"card": "c1"})), ("tutorial", json!({"id": "a"})), ("scored", json!({"id": "a"}))] {
        let query = json!({"view": view, "entities": [entity]});
        wait_for(view, || send("/v1/features", query.clone()).1.contains("present").then_some(()));
    }

    let mut command = Command::new(tools::clients_python());
    command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]).arg(format!("{}/openapi.json", host.url()));
    command.args(["--header", &format!("Authorization: {authorization}")]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--max-examples",
        "60",
        "--seed",
        "1",
        "--generation-database",
        "none",
    ]);
    command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--exclude-path", "/v1/changes", "--no-color"]);
    command.args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"]);
    command.env("SCHEMATHESIS_HOOKS", "schemathesis_hooks").env("PYTHONPATH", client("")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("COMPONENT", component(TUTORIAL));
    complete(&folder, &mut command);
    host.stop();
}

/// The package for Python: its types, and what its own tests ask of hosts.
#[test]
fn the_python_package_works() {
    let package = Path::new(HERE).join("../plugins/client-python");
    let certificate = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let limited = Token::new("limited", "read", &["--view", "tutorial"]);
    let (host, token, folder) = start(&format!("{PACKAGE}{}", limited.config));
    std::fs::write(folder.path().join("ca.pem"), certificate.cert.pem()).unwrap();
    let more = |http: &str, token: &str| {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("certificate.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        std::fs::copy(component(TUTORIAL), folder.path().join("tutorial.wasm")).unwrap();
        let config = format!("{HOST}\n[transforms.tutorial]\ncomponent = \"tutorial.wasm\"\n{http}\n{token}");
        (Host::start(folder.path(), &config).unwrap(), folder)
    };
    let (paced, _paced_folder) = more("[http]\nrequests_per_second_max = 2", "");
    let (encrypted, _encrypted_folder) = more("[http.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"", &token.config);
    let row = json!({"feature_view_name": "carts", "df": {"user": [1], "shop": ["s"], "items": [3], "event_timestamp": ["2026-01-02T03:04:05Z"]}});
    let authorization = token.header();
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(host.send_with(&headers, "POST", "/write-to-online-store", Some(row.to_string().as_bytes())).unwrap().status, 200);
    let hosts = json!({
        "host": host.url(), "token": token.text, "limited": limited.text, "paced": paced.url(), "encrypted": encrypted.url(),
        "ca": folder.path().join("ca.pem"), "component": component(TUTORIAL),
    });
    let mut types = Command::new(tools::clients_python());
    types.args(["-m", "mypy", "--cache-dir"]).arg(folder.path().join("mypy")).arg("--config-file").arg(package.join("pyproject.toml"));
    complete(&folder, types.arg(package.join("src")).arg(package.join("tests")).env("MYPYPATH", package.join("src")));
    let mut tests = Command::new(tools::clients_python());
    tests.args(["-W", "error", "-m", "unittest", "discover", "--start-directory"]).arg(package.join("tests"));
    tests.env("PYTHONPATH", package.join("src")).env("PYTHONDONTWRITEBYTECODE", "1").env("HOSTS", hosts.to_string());
    complete(&folder, &mut tests);
    for host in [host, paced, encrypted] {
        host.stop();
    }
}

/// One of everything, so that values of all kinds are served, and limits that a test goes beyond.
const PACKAGE: &str = r#"
[transforms.tutorial]
component = "tutorial.wasm"
history_secs = 86400
[transforms.reference]
component = "conformance-reference.wasm"
history_secs = 86400
aggregations = [
    { feature = "reals", column = "real", function = { last_values = 3 } },
    { feature = "moments", column = "moment", function = { last_values = 3 } },
    { feature = "texts", column = "text", function = { top = 3 } },
    { feature = "seen", column = "whole", function = "count" },
]
[transforms.card]
component = "payment.wasm"
aggregations = [
    { feature = "mean_30d", column = "amount", function = "mean", window_ms = 2592000000 },
    { feature = "count_30d", column = "amount", function = "count", window_ms = 2592000000 },
]
[transforms.risk]
at = "request"
component = "payment.wasm"
inputs.usual.from = "card:mean_30d"
inputs.payments.from = "card:count_30d"
fallback = "values"
fallback_values = { is_unusual = true }
limits = { deadline_ms = 5000 }
[transforms.last]
at = "request"
component = "payment.wasm"
inputs.usual.from = "card:mean_30d"
inputs.payments.from = "card:count_30d"
fallback = "last"
limits = { deadline_ms = 5000 }
[views.carts]
entity = { user = "Int64", shop = "String" }
features = { items = "Int32" }
[streams.readings]
[streams.awaited]
[http]
entities_max = 100
body_bytes_max = 300000
"#;

/// A host that wants its one token, which may do everything.
fn start(more: &str) -> (Host, Token, TempDir) {
    let (folder, token) = (TempDir::new().unwrap(), Token::new("all", "read,write,admin", &[]));
    for wasm in [TUTORIAL, "target/components/payment.wasm", "target/components/conformance-reference.wasm"] {
        std::fs::copy(component(wasm), folder.path().join(Path::new(wasm).file_name().unwrap())).unwrap();
    }
    let config = format!("{HOST}{more}\n{}", token.config);
    let host = Host::start(folder.path(), &config).unwrap();
    (host, token, folder)
}

fn client(name: &str) -> PathBuf {
    Path::new(HERE).join("tests/clients").join(name)
}

fn component(path: &str) -> String {
    Path::new(HERE).join("..").join(path).to_str().expect("a path of text").to_owned()
}

/// Runs it in the folder, which is its home too, and gives what it printed; it must succeed.
fn complete(folder: &TempDir, command: &mut Command) -> String {
    let name = command.get_program().to_owned();
    let output = command.current_dir(folder.path()).env("HOME", folder.path()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", Path::new(OsStr::new(&name)).display()));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} ended with {}\n{out}\n{err}", Path::new(&name).display(), output.status);
    out.into_owned()
}
