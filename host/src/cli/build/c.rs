//! C: one file and the SDK's header, by Zig's C compiler or by clang. Either brings a C library; the host wraps the module that comes out.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::super::Failure;
use super::{Plugin, tools, written};

const HOW: &str = "  python3 -m venv .venv && .venv/bin/pip install ziglang==0.17.1\n\n\
in the plugin's folder or one above it (Zig is a C compiler with a C library for WebAssembly; it comes from PyPI), or, for C, with\n\n  \
apt-get install --no-install-recommends clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32";

/// Bytes of stack: what is not used is not paid for, and Zig would set 16 MB aside.
const STACK: &str = "-Wl,-z,stack-size=131072";

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let folder = &plugin.folder;
    let (sdk, _) = plugin.sdk("sdk-c")?;
    let out = plugin.target()?.join("module.wasm");
    let clang = ["clang-19", "clang-20", "clang-21", "clang"].into_iter().find_map(|name| tools::find(name, folder));
    let mut command = match (zig(folder), clang) {
        (Some(zig), _) => {
            let mut command = tools::command(&zig, folder);
            command.args(["cc", "-target", "wasm32-wasi"]);
            command
        }
        (None, Some(clang)) => {
            let mut command = tools::command(&clang, folder);
            command.arg("--target=wasm32-wasi");
            command
        }
        (None, None) => return Err(missing()),
    };
    command.args(["-mexec-model=reactor", "-std=c11", "-O2", "-s", STACK, "-I"]).arg(sdk).arg(&plugin.source).arg("-o").arg(&out);
    tools::run(&mut command).map_err(explained)?;
    Ok(written(&out, "the C compiler")?)
}

/// Zig, as its own packages or PyPI's have it.
pub(super) fn zig(folder: &Path) -> Option<PathBuf> {
    ["zig", "python-zig"].into_iter().find_map(|name| tools::find(name, folder))
}

pub(super) fn missing() -> Failure {
    Failure::Wrong(anyhow!("no compiler for WebAssembly is installed. Get one with\n\n{HOW}\n"))
}

/// Puts what an unknown kind means before what the compiler says of the header's macros, which names neither the kind nor the choice.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let said = error.to_string();
    let name = |text: &str| text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').next().unwrap_or_default().to_owned();
    match said.split_once("GM_CTYPE_").map(|(_, kind)| name(kind)) {
        Some(kind) => {
            error.context(format!("there is no kind `{kind}`: a FIELD is boolean, integer, float, text, bytes, timestamp or vector"))
        }
        None => match said.split_once("undeclared identifier 'GM_").map(|(_, kind)| name(kind)) {
            Some(kind) => error.context(format!(
                "there is no `GM_{kind}`: a setting is GM_boolean, GM_integer, GM_float or GM_text, a verdict GM_ROW, GM_SKIP or GM_END"
            )),
            None => error,
        },
    }
}
