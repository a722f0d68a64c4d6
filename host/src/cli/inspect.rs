use std::path::PathBuf;

use anyhow::Context;

use super::{Failure, print};
use crate::model::Field;
use crate::transform::{Engine, EngineOptions, Limits};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The component, or a core module with the contract embedded
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// JSON handed to the component
    #[arg(long, value_name = "JSON", default_value = "")]
    settings: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let component = std::fs::read(file).with_context(|| format!("cannot read {}", file.display())).map_err(Failure::Wrong)?;
    let engine = Engine::new(EngineOptions::default())?;
    let found = engine.inspect(&component, &arguments.settings, Limits::default())?;
    if arguments.json {
        print::json(&serde_json::to_value(&found)?);
        return Ok(());
    }
    let spec = &found.spec;
    print::line(&format!("{} {}", spec.name, spec.version));
    if !spec.doc.is_empty() {
        print::line(&spec.doc);
    }
    print::line(&format!("\ndigest      {}", found.digest));
    print::line(&format!("size        {} bytes{}", found.bytes, if found.wrapped { ", a core module that the host wraps" } else { "" }));
    print::line(&format!("imports     {}", if found.imports.is_empty() { "none".to_owned() } else { found.imports.join(", ") }));
    print::line(&format!("exports     {}", found.exports.join(", ")));
    print::line(&format!("streams     {}", spec.streams.join(", ")));
    print::line(&format!("entity      {}", spec.entity.join(", ")));
    print::line(&format!("event time  {}\n", spec.event_time.as_deref().unwrap_or("the entry's own")));
    let row = |role: &str, field: &Field| {
        let kind = field.width.map_or(field.kind.to_string(), |width| format!("{} of {width}", field.kind));
        let null = if field.nullable { "may be null" } else { "" };
        vec![role.to_owned(), field.name.clone(), kind, null.to_owned(), field.doc.clone()]
    };
    let inputs = spec.inputs.iter().map(|field| row("input", field));
    let rows: Vec<Vec<String>> = inputs.chain(spec.outputs.iter().map(|field| row("feature", field))).collect();
    print::table(&["", "NAME", "KIND", "NULL", "MEANING"], &rows);
    Ok(())
}
