//! Feast's own Python SDK reads and writes through a host, and reads in Redis what a stream computed. What it does stands in `sdk.py`.

use std::path::Path;
use std::process::{Command, Stdio};

use gristmill_tests::host::Host;
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::tools;

use crate::laid_out;
use crate::store::{TUTORIAL, ingest, put_tutorial};

#[test]
fn feasts_own_sdk_reads_and_writes() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    std::fs::copy(here.join("cases/feast/registry.db"), folder.path().join("registry.db")).unwrap();
    put_tutorial(&folder);
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[store]\n{}\n[feast]\nproject = \"labfraud\"\nregistry = \"registry.db\"\n{TUTORIAL}",
        laid_out(&server)
    );
    let host = Host::start(folder.path(), &config).unwrap();
    ingest(&host, "a", 5);
    let output = Command::new(tools::feast_python())
        .arg(here.join("tests/feast/sdk.py"))
        .args([host.url(), &format!("127.0.0.1:{}", server.port())])
        .current_dir(folder.path())
        .envs([("HOME", folder.path()), ("PYTHONWARNINGS", Path::new("ignore"))])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "all right", "{out}\n{err}");
}
