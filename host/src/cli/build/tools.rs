//! Finding and running the tools of a language.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use super::super::Failure;

/// Looks for a program where its package manager puts it: in the plugin's folder and those above it, in the active virtual environment, on the path.
pub(super) fn find(program: &str, folder: &Path) -> Option<PathBuf> {
    let local = folder.ancestors().flat_map(|folder| [folder.join(".venv/bin"), folder.join("node_modules/.bin")]);
    let active = std::env::var_os("VIRTUAL_ENV").map(|environment| PathBuf::from(environment).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = local.chain(active).chain(std::env::split_paths(&path)).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.and_then(|file| std::path::absolute(file).ok())
}

/// The same for a program that cannot be done without; `how` says how to get it.
pub(super) fn need(program: &str, folder: &Path, how: &str) -> Result<PathBuf, Failure> {
    find(program, folder).ok_or_else(|| Failure::Wrong(anyhow!("{program} is not installed. Get it with\n\n{how}\n")))
}

/// A command for a tool, run in a folder, told nothing by this process' standard input.
pub(super) fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    // Tools beside it, of which it may need some.
    if let Some(beside) = program.parent() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(beside.to_owned()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
    }
    command
}

/// Runs a tool to its end; what it says is shown only where it fails.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("tool")).to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // What follows is about the tool's own insides.
    let of_the_author = said.split("\nStack backtrace:").next().unwrap_or_default();
    bail!("{program} failed:\n{}", of_the_author.trim_end())
}
