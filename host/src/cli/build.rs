//! From a plugin's folder to a component, with the toolchain of its language.

mod c;
mod go;
mod javascript;
mod plugin;
mod python;
mod rust;
mod sections;
mod tools;
mod zig;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use super::{Failure, print};
use crate::model::Digest;
pub(super) use plugin::{Language, Plugin};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the component goes; NAME.wasm in the plugin's folder when absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn build(arguments: &Arguments) -> Result<(), Failure> {
    let plugin = Plugin::find(&arguments.folder).map_err(Failure::Wrong)?;
    let component = component(&plugin)?;
    let out = arguments.out.clone().unwrap_or_else(|| plugin.folder.join(format!("{}.wasm", plugin.name)));
    std::fs::write(&out, &component).with_context(|| format!("cannot write {}", out.display()))?;
    print::line(&format!("{} ({} bytes, {})", out.display(), component.len(), Digest(Sha256::digest(&component).into())));
    Ok(())
}

/// Builds a plugin and gives the component's bytes. Shows that it is at work.
pub(super) fn component(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let spinner = ProgressBar::new_spinner().with_message(format!("building {} ({})", plugin.name, plugin.language));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let built = match plugin.language {
        Language::Rust => rust::build(plugin),
        Language::Python => python::build(plugin),
        Language::JavaScript | Language::TypeScript => javascript::build(plugin),
        Language::C => c::build(plugin),
        Language::Zig => zig::build(plugin),
        Language::Go => go::build(plugin),
    };
    spinner.finish_and_clear();
    built
}

/// What a tool has written, with a message that names the tool where it has not.
fn written(path: &Path, tool: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| anyhow!("{tool} ended well and wrote no {}: {error}", path.display()))
}
