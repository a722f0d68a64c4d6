//! The development loop: build on each save, run the cases, load into a running host, show what becomes of the last events.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use notify::{RecursiveMode, Watcher};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::build::{self, Plugin};
use super::client::{Client, HostArgument, escape};
use super::{Failure, print, test};
use crate::app::cases;
use crate::transform::{Engine, EngineOptions, Limits};

/// An editor saves in several steps; this long after the last of them it is done.
const QUIET: Duration = Duration::from_millis(100);
/// Folders whose files are made, not written.
const MADE: [&str; 8] = ["target", "sdk", "node_modules", ".venv", "__pycache__", ".git", ".zig-cache", "gristmill-data"];

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The transform's name in the host; the plugin's when absent
    #[arg(long)]
    name: Option<String>,
    /// The stream whose last events are shown, and that it is bound to; the component's own when absent
    #[arg(long)]
    stream: Option<String>,
    /// JSON handed to the component
    #[arg(long, value_name = "JSON", default_value = "")]
    settings: String,
    /// Load it into the host although data cases fail
    #[arg(long)]
    force: bool,
    /// How many events are shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    last: usize,
    #[command(flatten)]
    host: HostArgument,
}

pub(super) fn dev(arguments: &Arguments) -> Result<(), Failure> {
    let plugin = Plugin::find(&arguments.folder).map_err(Failure::Wrong)?;
    let cache_folder = Some(plugin.target()?.join("code"));
    let engine = Engine::new(EngineOptions { cache_folder, ..EngineOptions::default() })?;
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Nobody listens any more when the program ends.
        let _ = event.map(|event| sender.send(event));
    })
    .context("cannot watch files")?;
    watcher.watch(&plugin.folder, RecursiveMode::Recursive).with_context(|| format!("cannot watch {}", plugin.folder.display()))?;
    print::line(&format!("watching {}; end with Ctrl-C", plugin.folder.display()));
    loop {
        let turn = Turn { arguments, plugin: &plugin, engine: &engine, client: arguments.host.client()? };
        if let Err(failure) = turn.run() {
            let (Failure::Failed(error) | Failure::Wrong(error) | Failure::Unreachable(error) | Failure::NotFound(error)) = failure;
            print::complain(&format!("{error:#}"));
        }
        if !wait(&changes, &plugin.folder) {
            return Err(Failure::Failed(anyhow!("the system has stopped telling of changed files")));
        }
    }
}

/// Waits for a file that somebody writes to change, and then until nothing changes any more. False when no change will ever be told.
fn wait(changes: &mpsc::Receiver<notify::Event>, folder: &Path) -> bool {
    let concerns = |event: &notify::Event| !event.kind.is_access() && event.paths.iter().any(|path| is_written(path, folder));
    loop {
        match changes.recv() {
            Ok(event) if concerns(&event) => break,
            Ok(_) => {}
            Err(mpsc::RecvError) => return false,
        }
    }
    while changes.recv_timeout(QUIET).is_ok() {}
    true
}

/// Whether a file in the plugin's folder is one that somebody writes, and no product of a build, of a host that keeps its data here, or of this very command.
fn is_written(path: &Path, folder: &Path) -> bool {
    let inner = path.strip_prefix(folder).unwrap_or(path);
    let is_made = inner.components().any(|part| MADE.iter().any(|made| part.as_os_str() == *made));
    !is_made && path.extension().is_none_or(|extension| extension != "wasm" && extension != "log")
}

/// One round, from the sources to what is seen.
struct Turn<'d> {
    arguments: &'d Arguments,
    plugin: &'d Plugin,
    engine: &'d Engine,
    client: Client,
}

#[derive(Deserialize)]
struct Newest {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    event: Box<RawValue>,
}

impl Turn<'_> {
    fn run(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let component = build::component(self.plugin)?;
        print::line(&format!("\nbuilt {} in {:.1} s, {} bytes", self.plugin.name, started.elapsed().as_secs_f64(), component.len()));
        let (cases, failed) = test::quick(self.engine, &component, &self.plugin.folder)?;
        if cases > 0 {
            print::line(&format!("{} of {cases} cases passed", cases - failed));
        }
        let may_be_loaded = failed == 0 || self.arguments.force;
        let transform = self.engine.load(&self.plugin.name, &component, &self.arguments.settings, Limits::default())?;
        let stream = self.arguments.stream.clone().or_else(|| transform.spec().streams.first().cloned());
        let pushed = if may_be_loaded { self.push(&component) } else { Ok(()) };
        if !may_be_loaded {
            print::note(
                "not loaded into the host: `gristmill test` shows what differs, `gristmill test --record` takes it up, --force loads it all the same",
            );
        }
        let events = match &pushed {
            Ok(()) => self.newest(stream.as_deref().unwrap_or_default())?,
            Err(Failure::Unreachable(_)) => {
                print::note("no host answers: showing the events of events.ndjson");
                self.own_events()?
            }
            Err(_) => Vec::new(),
        };
        for line in cases::preview(&transform, &events)? {
            print::line(&line);
        }
        match pushed {
            Err(Failure::Unreachable(_)) | Ok(()) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Loads the component into the host.
    fn push(&self, component: &[u8]) -> Result<(), Failure> {
        let name = self.arguments.name.as_ref().unwrap_or(&self.plugin.name);
        let options = [("stream", self.arguments.stream.as_deref()), ("settings", Some(self.arguments.settings.as_str()))];
        let given = options.iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
        let query: Vec<String> = given.map(|(key, value)| format!("{key}={}", escape(value))).collect();
        self.client.put(&format!("/v1/transforms/{}?{}", escape(name), query.join("&")), component)?;
        print::line(&format!("loaded as `{name}`"));
        Ok(())
    }

    /// The last events of the host's stream.
    fn newest(&self, stream: &str) -> Result<Vec<Box<RawValue>>, Failure> {
        let answer = self.client.get(&format!("/v1/streams/{}/events?last={}", escape(stream), self.arguments.last))?;
        let newest: Newest = serde_json::from_str(&answer.to_string()).context("the host's answer is not understood")?;
        if newest.events.is_empty() {
            print::note(&format!("no events in `{stream}` yet: `gristmill ingest {stream} events.ndjson` sends some"));
        }
        Ok(newest.events.into_iter().map(|event| event.event).collect())
    }

    /// Those that lie in the plugin's folder.
    fn own_events(&self) -> Result<Vec<Box<RawValue>>, Failure> {
        let Ok(text) = std::fs::read_to_string(self.plugin.folder.join("events.ndjson")) else { return Ok(Vec::new()) };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().rev().take(self.arguments.last).rev();
        Ok(last.map(|line| serde_json::from_str(line)).collect::<Result<_, _>>().context("events.ndjson")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_log_in_the_folder_start_no_build() {
        let folder = Path::new("/plugins/target/spending");
        for written in ["src/lib.rs", "transform.py", "plugin.toml", "cases/basic.json", "events.ndjson", "Makefile"] {
            assert!(is_written(&folder.join(written), folder), "{written}");
        }
        for made in ["gristmill-data/journal/0", "target/release/spending.d", "spending.wasm", "dev.log", "sdk/wit/transform.wit"] {
            assert!(!is_written(&folder.join(made), folder), "{made}");
        }
    }
}
