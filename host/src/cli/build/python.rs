//! Python: componentize-py puts the plugin, the SDK and CPython into one component.

mod lock;

use std::ffi::OsStr;

use anyhow::{Context, anyhow};

use super::super::Failure;
use super::{Plugin, tools, written};

const HOW: &str = "  python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1\n\n\
in the plugin's folder or one above it (it comes from PyPI; Debian's python3-venv has what makes the environment)";

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let tool = tools::need("componentize-py", &plugin.folder, HOW)?;
    let (sdk, _) = plugin.sdk("sdk-python")?;
    let module = plugin.source.file_stem().and_then(OsStr::to_str);
    let module = module.ok_or_else(|| Failure::Wrong(anyhow!("{} cannot be the name of a Python module", plugin.source.display())))?;
    let out = plugin.target()?.join("component.wasm");
    let mut command = tools::command(&tool, &plugin.folder);
    command.args(["-q", "-w", &plugin.world, "componentize", "--stub-wasi", "-p"]).arg(sdk.join("src"));
    command.arg("-p").arg(plugin.folder.join(&plugin.source).parent().unwrap_or(&plugin.folder)).arg(module).arg("-o").arg(&out);
    tools::run(&mut command).map_err(|error| explained(error, plugin))?;
    Ok(lock::kept(&written(&out, "componentize-py")?).context("what componentize-py made cannot be read")?)
}

/// The tool asks the module for the class of the world that it was told; an SDK's decorator has made the one of the other world, or none was used.
fn explained(error: anyhow::Error, plugin: &Plugin) -> anyhow::Error {
    let said = error.to_string();
    let advice = if said.contains("has no attribute 'Transform'") {
        "it has no `@transform` function; if it has a `@fold`, write `world = \"stateful-transform\"` into plugin.toml"
    } else if said.contains("has no attribute 'Fold'") {
        "it has no `@fold` function; if it has a `@transform`, write `world = \"row-transform\"` into plugin.toml"
    } else {
        return error;
    };
    anyhow!("{} does not fit the world `{}`: {advice}", plugin.source.display(), plugin.world)
}
