//! Feast's protocol and Feast's layout, held against what Feast 0.67 itself answered and wrote (`cases/feast`).

mod feast {
    pub mod bytes;
    pub mod history;
    pub mod protocol;
    pub mod sdk;
    pub mod store;
}

use feast::store;

use std::path::Path;

use gristmill_tests::host::Host;
use gristmill_tests::redis_server::RedisServer;
use serde_json::Value;
use tempfile::TempDir;

/// A file of `cases/feast`.
fn case(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/feast").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json_case(name: &str) -> Value {
    serde_json::from_str(&case(name)).unwrap()
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A host with the captured project's views, its rows in the store that `store` configures.
fn host_with(store: &str, more: &str) -> (Host, TempDir) {
    let folder = TempDir::new().unwrap();
    let host = host_in(&folder, store, more);
    (host, folder)
}

fn host_in(folder: &TempDir, store: &str, more: &str) -> Host {
    let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[store]\n{store}\n{more}\n{}", case("host.toml"));
    Host::start(folder.path(), &config).unwrap()
}

/// `[store]` in Feast's layout on this server.
fn laid_out(server: &RedisServer) -> String {
    format!("type = \"feast_redis\"\nurl = \"{}\"", server.url())
}

/// A request of Feast's that must be answered with 200.
fn ask(host: &Host, path: &str, body: &Value) -> Value {
    let answer = host.send("POST", path, Some(body.to_string().as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{path} {body}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}
