//! A plugin's data cases.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use serde_json::json;
use similar::{ChangeTag, TextDiff};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};

use super::build::{self, Plugin};
use super::{Failure, print, read_component};
use crate::app::cases::{Case, Verdict};
use crate::transform::{Engine, EngineOptions, Limits};

/// Lines of one difference that are shown.
const DIFFERENCE_LINES_MAX: usize = 40;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// A component that is built already; DIR is then only where the cases are
    #[arg(long, value_name = "FILE.wasm")]
    component: Option<PathBuf>,
    /// A data case, or a folder of them; DIR/cases when absent. May be given several times
    #[arg(long, value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Write what the component does into the cases, as what is expected from now on
    #[arg(long)]
    record: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn test(arguments: &Arguments) -> Result<(), Failure> {
    let (component, code) = match &arguments.component {
        Some(file) => (read_component(file)?, None),
        None => {
            let plugin = Plugin::find(&arguments.folder).map_err(Failure::Wrong)?;
            (build::component(&plugin)?, Some(plugin.target()?.join("code")))
        }
    };
    let places = if arguments.cases.is_empty() { vec![arguments.folder.join("cases")] } else { arguments.cases.clone() };
    let files = places.iter().map(|place| files(place)).collect::<anyhow::Result<Vec<_>>>().map_err(Failure::Wrong)?.concat();
    if files.is_empty() {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        return Err(Failure::Wrong(anyhow!("there are no data cases in {}; write one, then fill it with --record", places.join(", "))));
    }
    // Cases load the component anew, each with its settings; its code is compiled once.
    let kept = tempfile::tempdir().context("cannot make a temporary folder")?;
    let engine =
        Engine::new(EngineOptions { cache_folder: Some(code.unwrap_or_else(|| kept.path().join("code"))), ..EngineOptions::default() })?;
    let log = GuestLines::default();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(log.clone()));
    let outcomes = tracing::dispatcher::with_default(&dispatch, || run(&engine, &component, &files, &log, arguments))?;
    let failed = outcomes.iter().filter(|passed| !**passed).count();
    if failed > 0 {
        return Err(Failure::Failed(anyhow!("{failed} of {} cases failed", outcomes.len())));
    }
    if !arguments.json {
        let passed = outcomes.len();
        print::line(&format!("{passed} {} passed", if passed == 1 { "case" } else { "cases" }));
    }
    Ok(())
}

/// Runs the cases one after the other; says of each whether it passed.
fn run(engine: &Engine, component: &[u8], files: &[PathBuf], log: &GuestLines, arguments: &Arguments) -> Result<Vec<bool>, Failure> {
    let limits = Limits { log_lines_per_second_max: u32::MAX, ..Limits::default() };
    let mut outcomes = Vec::new();
    let mut told = Vec::new();
    for file in files {
        let case = Case::read(file).map_err(Failure::Wrong)?;
        let verdict = case.run(engine, component, limits, &|| log.take()).with_context(|| file.display().to_string());
        if arguments.record
            && let Ok(verdict) = &verdict
        {
            let text = case.recorded(verdict)?;
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            print::line(&format!("recorded  {}", file.display()));
            outcomes.push(true);
            continue;
        }
        let passed = verdict.as_ref().is_ok_and(Verdict::is_as_expected);
        outcomes.push(passed);
        if arguments.json {
            let found = verdict.as_ref().map_or_else(
                |error| json!({"error": format!("{error:#}")}),
                |verdict| json!({"found": verdict.found, "expected": verdict.expected}),
            );
            told.push(json!({"case": file.display().to_string(), "passed": passed, "outcome": found}));
        } else {
            tell(file, &case, &verdict);
        }
    }
    if arguments.json {
        print::json(&told.into());
    }
    Ok(outcomes)
}

fn tell(file: &Path, case: &Case, verdict: &anyhow::Result<Verdict>) {
    match verdict {
        Ok(verdict) if verdict.is_as_expected() => {
            let about = if case.about().is_empty() { String::new() } else { format!("  {}", case.about()) };
            print::line(&format!("ok      {}  {} events, {} rows{about}", file.display(), verdict.events, verdict.rows()));
        }
        Ok(verdict) => {
            print::line(&format!("FAILED  {}  {}  (- expected, + found)", file.display(), case.about()));
            difference(verdict).iter().for_each(|line| print::line(line));
        }
        Err(error) => print::line(&format!("FAILED  {error:#}")),
    }
}

/// What differs, line by line, each with the line before and the line after it.
fn difference(verdict: &Verdict) -> Vec<String> {
    let difference = TextDiff::from_lines(&verdict.expected, &verdict.found);
    let mut lines = Vec::new();
    for (index, group) in difference.grouped_ops(1).iter().enumerate() {
        if index > 0 {
            lines.push("        …".to_owned());
        }
        for change in group.iter().flat_map(|operation| difference.iter_changes(operation)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("      {sign} {}", change.value().trim_end()));
        }
    }
    let more = lines.len().saturating_sub(DIFFERENCE_LINES_MAX);
    if more > 0 {
        lines.truncate(DIFFERENCE_LINES_MAX);
        lines.push(format!("        … and {more} lines more"));
    }
    lines
}

/// Runs a plugin's own cases and tells of those that fail; how many there were, and how many failed.
pub(super) fn quick(engine: &Engine, component: &[u8], folder: &Path) -> Result<(usize, usize), Failure> {
    let place = folder.join("cases");
    if !place.is_dir() {
        return Ok((0, 0));
    }
    let log = GuestLines::default();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(log.clone()));
    let limits = Limits { log_lines_per_second_max: u32::MAX, ..Limits::default() };
    let files = files(&place)?;
    let mut failed = 0;
    for file in &files {
        let case = Case::read(file)?;
        let verdict = tracing::dispatcher::with_default(&dispatch, || case.run(engine, component, limits, &|| log.take()));
        let verdict = verdict.with_context(|| file.display().to_string());
        if !verdict.as_ref().is_ok_and(Verdict::is_as_expected) {
            failed += 1;
            tell(file, &case, &verdict);
        }
    }
    Ok((files.len(), failed))
}

/// The data cases at a place: the file itself, or those of the folder by name.
fn files(place: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let entries = std::fs::read_dir(place).with_context(|| format!("cannot read the data cases in {}", place.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

/// Takes the lines that guests log instead of printing them.
#[derive(Clone, Default)]
struct GuestLines {
    lines: Arc<Mutex<Vec<String>>>,
}

impl GuestLines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for GuestLines {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if event.metadata().target() != "guest" {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let line = format!("{} {}", event.metadata().level().as_str().to_lowercase(), message.0);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
