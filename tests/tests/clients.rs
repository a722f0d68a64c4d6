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
    let said = run("node", &["generated.mjs", host.url(), &token.text, &component("plugins/prebuilt/tutorial.wasm")]);
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
    for (view, entity) in [("card", json!({"card": "c1"})), ("tutorial", json!({"id": "a"}))] {
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
    command.env("COMPONENT", component("plugins/prebuilt/tutorial.wasm"));
    complete(&folder, &mut command);
    host.stop();
}

/// A host that wants its one token, which may do everything.
fn start(more: &str) -> (Host, Token, TempDir) {
    let (folder, token) = (TempDir::new().unwrap(), Token::new("all", "read,write,admin", &[]));
    for wasm in ["plugins/prebuilt/tutorial.wasm", "target/components/payment.wasm"] {
        std::fs::copy(component(wasm), folder.path().join(Path::new(wasm).file_name().unwrap())).unwrap();
    }
    let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n{more}\n{}", token.config);
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
