//! The toolchains of guest languages, as `plugins/tools.sh` has installed them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lets a command find the tools, and lets them keep what they keep in `target/`: nothing goes into the home folder.
pub fn environment(command: &mut Command) -> &mut Command {
    let tools = folder();
    assert!(tools.join(".venv/bin/componentize-py").is_file(), "the toolchains are missing: run `sh plugins/tools.sh`, or `make test`");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [tools.join(".venv/bin"), tools.join("node_modules/.bin")].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).expect("the path can be made longer"));
    // Zig builds its C library once and keeps it; Go its standard library.
    command.env("ZIG_GLOBAL_CACHE_DIR", tools.join("zig-cache"));
    command.env("GOCACHE", tools.join("go-cache")).env("GOPATH", tools.join("go")).env("XDG_CONFIG_HOME", tools.join("config"));
    command.envs([("GOENV", "off"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=mod")])
}

/// The Python that has Feast, as `tests/setup.sh` has installed it.
pub fn feast_python() -> PathBuf {
    python("feast")
}

/// The Python that has what clients need and are tested with, as `tests/setup.sh` has installed it.
pub fn clients_python() -> PathBuf {
    python("clients")
}

fn python(environment: &str) -> PathBuf {
    let python = folder().join(environment).join("bin/python");
    assert!(python.is_file(), "{environment} is missing in target/tools: run `sh tests/setup.sh`, or `make test`");
    python
}

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools")
}
