use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::{Failure, print, read_component};
use crate::model::ENTITY_BYTES_MAX;
use crate::model::{Field, Format, Kept, aggregation, one_line};
use crate::pipeline::trial::Trial;
use crate::transform::{Engine, EngineOptions, Limits};
use crate::window::Plan;

/// Rows in the batch that is measured: as many as a host puts into one call.
const MEASURED_ROWS: usize = 1_024;
/// Bytes of one text of a component that are shown.
const SHOWN_BYTES_MAX: usize = 1_024;
/// Time spent on measuring.
const MEASURED_TIME: Duration = Duration::from_millis(500);

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
    let component = read_component(file)?;
    // Its code is compiled once for both looks at it.
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let engine = Engine::new(EngineOptions { cache_folder: Some(folder.path().join("code")), ..EngineOptions::default() })?;
    let found = engine.inspect(&component, &arguments.settings, Limits::default())?;
    let limits = Limits { deadline_ms: 10_000, log_lines_per_second_max: 0, ..Limits::default() };
    let transform = engine.load("inspect", &component, &arguments.settings, limits)?;
    let measured = Trial::new(&transform, Format::Fields, &BTreeMap::new())?.nanoseconds_per_row(MEASURED_ROWS, MEASURED_TIME);
    if arguments.json {
        let mut value = serde_json::to_value(&found)?;
        if let Some(members) = value.as_object_mut() {
            members.insert("nanoseconds_per_row".to_owned(), measured.into());
        }
        print::json(&value);
        return Ok(());
    }
    let spec = &found.spec;
    // What a component says of itself can neither forge lines nor drive a terminal.
    let foreign = |text: &str| one_line(text, SHOWN_BYTES_MAX);
    print::line(&format!("{} {}", spec.name, foreign(&spec.version)));
    if !spec.doc.is_empty() {
        spec.doc.lines().for_each(|line| print::line(&foreign(line)));
    }
    print::line(&format!("\ndigest      {}", found.digest));
    print::line(&format!("size        {} bytes{}", found.bytes, if found.wrapped { ", a core module that the host wraps" } else { "" }));
    print::line(&format!("imports     {}", if found.imports.is_empty() { "none".to_owned() } else { found.imports.join(", ") }));
    print::line(&format!("exports     {}", found.exports.join(", ")));
    print::line(&format!("world       {}", found.world));
    print::line(&format!("memory      {} bytes before the first call", found.memory_bytes));
    print::line(&match measured {
        Some(measured) => format!("speed       {measured:.0} ns a row, {MEASURED_ROWS} rows made up from its inputs in a call"),
        None => "speed       not measured: it fails on rows made up from its inputs, or takes too long".to_owned(),
    });
    print::line(&format!("streams     {}", spec.streams.join(", ")));
    print::line(&format!("entity      {}", spec.entity.join(", ")));
    print::line(&format!("event time  {}\n", spec.event_time.as_deref().unwrap_or("the entry's own")));
    let row = |role: &str, field: &Field| {
        let kind = field.width.map_or(field.kind.to_string(), |width| format!("{} of {width}", field.kind));
        let null = if field.nullable { "may be null" } else { "" };
        vec![role.to_owned(), field.name.clone(), kind, null.to_owned(), foreign(&field.doc)]
    };
    let inputs = spec.inputs.iter().map(|field| row("input", field));
    let windows = aggregation::fields(&spec.outputs, &spec.aggregations)?;
    let features = spec.outputs.iter().map(|field| row("feature", field)).chain(windows.iter().map(|field| row("window", field)));
    let rows: Vec<Vec<String>> = inputs.chain(features).collect();
    print::table(&["", "NAME", "KIND", "NULL", "MEANING"], &rows);
    let plan = Plan::new(&spec.outputs, &Kept { aggregations: spec.aggregations.clone(), ..Kept::default() });
    if let Some(warning) = plan.too_large(&spec.outputs, ENTITY_BYTES_MAX) {
        print::line(&format!("\nwarning: {warning}"));
    }
    Ok(())
}
