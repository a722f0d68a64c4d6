//! Rust: cargo, with whatever toolchain for WebAssembly this machine has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::super::{Failure, print};
use super::Plugin;

const TARGET: &str = "wasm32-unknown-unknown";

/// How Rust becomes WebAssembly here.
enum Toolchain {
    /// The target is installed.
    Installed,
    /// Debian's compiler with the sources of std, linked by rustup's tools in this folder.
    Debian(PathBuf),
}

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let folder = &plugin.folder;
    let toolchain = find(folder).map_err(Failure::Wrong)?;
    let name = library_name(folder).map_err(Failure::Wrong)?;
    if let Toolchain::Debian(_) = toolchain {
        print::note("building with Debian's Rust and its sources of std; the first time takes about two minutes");
    }
    compile(folder, &toolchain)?;
    let module = target_folder(folder)?.join(TARGET).join("release").join(format!("{name}.wasm"));
    Ok(std::fs::read(&module).with_context(|| format!("{} was not built; is `crate-type = [\"cdylib\"]` set?", module.display()))?)
}

/// The toolchain for this folder, which may choose one of its own.
fn find(folder: &Path) -> anyhow::Result<Toolchain> {
    let output = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        without_cargo_settings(&mut command);
        let output = command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let installed = || output("rustc", &["--print", "target-libdir", "--target", TARGET]).is_some_and(|path| Path::new(&path).is_dir());
    if installed() {
        return Ok(Toolchain::Installed);
    }
    if Path::new("/usr/bin/cargo").is_file() && Path::new("/usr/lib/rustlib/src/rust/library").is_dir() {
        let sysroot = output("rustc", &["--print", "sysroot"]);
        let host = output("rustc", &["-vV"]).and_then(|text| Some(text.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned()));
        if let (Some(sysroot), Some(host)) = (sysroot, host) {
            let tools: PathBuf = [&sysroot, "lib", "rustlib", &host, "bin"].iter().collect();
            if tools.join("wasm-component-ld").is_file() {
                return Ok(Toolchain::Debian(tools));
            }
        }
    }
    print::note(&format!("Rust for {TARGET} is not installed; trying `rustup target add {TARGET}`"));
    if output("rustup", &["target", "add", TARGET]).is_some() && installed() {
        return Ok(Toolchain::Installed);
    }
    bail!(
        "no Rust for {TARGET} on this machine, and it could not be installed. With rustup (https://rustup.rs) and a connection, say \
         `rustup target add {TARGET}`; where only Debian's packages can be had, keep rustup's toolchain and say \
         `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src`"
    )
}

fn compile(folder: &Path, toolchain: &Toolchain) -> anyhow::Result<()> {
    let mut command = match toolchain {
        Toolchain::Installed => Command::new("cargo"),
        Toolchain::Debian(tools) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::env::join_paths(std::iter::once(tools.join("gcc-ld")).chain(std::env::split_paths(&path)))?;
            let mut command = Command::new("/usr/bin/cargo");
            // RUSTC is set because cargo would otherwise pick rustup's compiler, which cannot build Debian's std.
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env("PATH", path);
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", tools.join("wasm-component-ld"));
            command
        }
    };
    command.args(["build", "--release", "--target", TARGET]).arg("--target-dir").arg(target_folder(folder)?);
    if let Toolchain::Debian(_) = toolchain {
        command.arg("-Zbuild-std=std,panic_abort");
    }
    for (key, value) in [("OPT_LEVEL", "3"), ("LTO", "fat"), ("CODEGEN_UNITS", "1"), ("PANIC", "abort"), ("STRIP", "symbols")] {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    without_cargo_settings(&mut command);
    let output = command.current_dir(folder).stdin(Stdio::null()).output().context("cannot start cargo; is Rust installed?")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("cargo could not build {}:\n{}", folder.display(), String::from_utf8_lossy(&output.stderr).trim_end())
}

/// A folder of its own: guests are built with other flags than the rest of a workspace.
fn target_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    Ok(folder.join("target").join("guest"))
}

/// A program started by cargo is told about that cargo's own settings, which are not this build's.
fn without_cargo_settings(command: &mut Command) {
    for inherited in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO"] {
        command.env_remove(inherited);
    }
}

/// The name that cargo gives the library's file.
fn library_name(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    let name = |section: &str| manifest.get(section).and_then(|section| section.get("name")).and_then(|name| name.as_str());
    let name = name("lib").or_else(|| name("package")).with_context(|| format!("{} names no package", path.display()))?;
    Ok(name.replace('-', "_"))
}
