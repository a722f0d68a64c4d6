//! A folder that builds.

use std::path::PathBuf;

use anyhow::anyhow;

use super::build::Language;
use super::{Failure, print, sdk};
use crate::model::is_name;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The plugin's name, and its folder's
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// What it is written in
    #[arg(long, value_name = "LANGUAGE")]
    lang: Language,
}

pub(super) fn new(arguments: &Arguments) -> Result<(), Failure> {
    let folder = &arguments.name;
    let name = folder.file_name().map(|name| name.to_string_lossy().replace('-', "_")).unwrap_or_default();
    if !is_name(&name) {
        let rule = "use letters, digits and `_`, and no digit first";
        return Err(Failure::Wrong(anyhow!("{name:?} cannot name a transform and its feature view: {rule}")));
    }
    if folder.exists() {
        return Err(Failure::Wrong(anyhow!("{} is there already; nothing was written", folder.display())));
    }
    sdk::new_plugin(folder, arguments.lang, &name)?;
    let shown = folder.display();
    print::line(&format!(
        "{shown} holds a {} plugin: its source, a unit test, a data case, events to try it with, and the SDK; README.md says more.",
        arguments.lang
    ));
    print::line(&format!("\nNext, with a host running (`gristmill run`):\n\n  cd {shown}"));
    if let Some(tools) = arguments.lang.tools() {
        print::line(&format!("  {tools}"));
    }
    print::line(&format!("  gristmill test\n  {}", arguments.lang.unit_tests()));
    print::line(&format!(
        "  gristmill build\n  gristmill push {name}.wasm\n  gristmill ingest orders events.ndjson\n  gristmill get {name} customer=ann"
    ));
    print::line("\nOr `gristmill dev`: build, test, load and look on every save.");
    Ok(())
}
