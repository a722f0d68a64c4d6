//! Zig: its compiler makes a module of the plugin and the SDK; the world goes in afterwards.

use super::super::Failure;
use super::{Plugin, c, tools, written};
use crate::conformance::guest::with_world;

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let zig = c::zig(&plugin.folder).ok_or_else(c::missing)?;
    let (sdk, _) = plugin.sdk("sdk-zig")?;
    let out = plugin.target()?.join("module.wasm");
    let (target, optimize) = (["-target", "wasm32-freestanding"], ["-O", "ReleaseFast"]);
    let mut command = tools::command(&zig, &plugin.folder);
    command.arg("build-exe").args(target).args(optimize).args(["-fstrip", "-fno-entry", "-rdynamic", "--stack", "131072"]);
    command.arg(format!("-femit-bin={}", out.display())).args(["--dep", "gristmill"]);
    command.arg(format!("-Mroot={}", plugin.folder.join(&plugin.source).display()));
    // Options before a module are that module's.
    command.args(target).args(optimize).arg(format!("-Mgristmill={}", sdk.join("gristmill.zig").display()));
    tools::run(&mut command)?;
    Ok(with_world(written(&out, "zig")?, &plugin.world)?)
}
