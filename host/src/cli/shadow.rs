use std::path::PathBuf;

use serde_json::{Map, Value};

use super::client::{HostArgument, escape};
use super::transforms::text;
use super::{Failure, print, read_component};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print as JSON
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Try a component behind the one in force: it is given the same events, and nothing of it is served
    #[command(after_help = "Example: gristmill shadow put payment payment-2.wasm")]
    Put {
        /// The transform
        name: String,
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// JSON handed to the component; that of the version in force when absent
        #[arg(long, value_name = "JSON")]
        settings: Option<String>,
    },
    /// Show how it compares
    #[command(after_help = "Example: gristmill shadow report payment")]
    Report {
        /// The transform
        name: String,
    },
    /// Put it into force, if what is asked of it holds
    #[command(after_help = "Example: gristmill shadow promote payment --rows-min 10000 --differing-share-max 0.001")]
    Promote {
        /// The transform
        name: String,
        #[command(flatten)]
        gates: Gates,
    },
    /// End it
    #[command(after_help = "Example: gristmill shadow drop payment")]
    Drop {
        /// The transform
        name: String,
    },
}

#[derive(clap::Args)]
struct Gates {
    /// Rows compared, at least; 1 when absent
    #[arg(long, value_name = "N")]
    rows_min: Option<u64>,
    /// Partitions of the stream compared by the host that is asked, at least; all of them when absent
    #[arg(long, value_name = "N")]
    partitions_min: Option<u64>,
    /// Events that it was not given, at most; 0 when absent
    #[arg(long, value_name = "N")]
    skipped_max: Option<u64>,
    /// Rows that differ, at most
    #[arg(long, value_name = "N")]
    differing_max: Option<u64>,
    /// Rows that differ out of all that were compared, at most
    #[arg(long, value_name = "SHARE")]
    differing_share_max: Option<f64>,
    /// Rows that only one of the two made, at most
    #[arg(long, value_name = "N")]
    unmatched_max: Option<u64>,
    /// Events that it could not use beyond those that the version in force could not, at most
    #[arg(long, value_name = "N")]
    given_up_more_max: Option<u64>,
    /// How many times as long it may take
    #[arg(long, value_name = "TIMES")]
    slower_max: Option<f64>,
    /// Memory of an instance, at most
    #[arg(long, value_name = "BYTES")]
    memory_bytes_max: Option<u64>,
}

impl Gates {
    fn body(&self) -> Value {
        let whole = [
            ("rows_min", self.rows_min),
            ("partitions_min", self.partitions_min),
            ("skipped_max", self.skipped_max),
            ("differing_max", self.differing_max),
            ("unmatched_max", self.unmatched_max),
            ("given_up_more_max", self.given_up_more_max),
            ("memory_bytes_max", self.memory_bytes_max),
        ];
        let whole = whole.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        let parts = [("differing_share_max", self.differing_share_max), ("slower_max", self.slower_max)];
        let parts = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        Value::Object(whole.chain(parts).collect::<Map<String, Value>>())
    }
}

pub(super) fn shadow(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.host.client()?;
    let path = |name: &str| format!("/v1/transforms/{}/shadow", escape(name));
    let report = match &arguments.command {
        Command::Put { name, file, settings } => {
            let query = settings.as_ref().map_or_else(String::new, |settings| format!("?settings={}", escape(settings)));
            client.put(&format!("{}{query}", path(name)), &read_component(file)?)?
        }
        Command::Report { name } => client.get(&path(name))?,
        Command::Promote { name, gates } => {
            let transform = client.post(&format!("{}/promote", path(name)), &gates.body())?;
            if arguments.json {
                print::json(&transform);
            } else {
                print::line(&format!("{name} is in force now, component {}", text(&transform, "/component")));
            }
            return Ok(());
        }
        Command::Drop { name } => {
            client.delete(&path(name))?;
            print::line(&format!("the shadow of {name} has ended"));
            return Ok(());
        }
    };
    if arguments.json {
        print::json(&report)
    } else {
        show(&report)
    }
    Ok(())
}

fn show(report: &Value) {
    for (label, pointer) in [
        ("name", "/name"),
        ("component", "/component"),
        ("version", "/version"),
        ("since", "/since"),
        ("events", "/events"),
        ("skipped", "/skipped"),
        ("because", "/skipped_reason"),
        ("compared", "/rows/compared"),
        ("equal", "/rows/equal"),
        ("differing", "/rows/differing"),
        ("only live", "/rows/only_live"),
        ("only shadow", "/rows/only_shadow"),
    ] {
        let value = text(report, pointer);
        if !value.is_empty() {
            print::line(&format!("{label:<12} {value}"));
        }
    }
    for (label, pointer) in [("added", "/added"), ("removed", "/removed"), ("retyped", "/retyped")] {
        let names = report.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            print::line(&format!("{label:<12} {}", names.join(", ")));
        }
    }
    let unseen = report.pointer("/partitions/unseen").and_then(Value::as_array).into_iter().flatten();
    let unseen: Vec<String> = unseen.map(Value::to_string).collect();
    if !unseen.is_empty() {
        let count = text(report, "/partitions/count");
        print::line(&format!("{:<12} {} of {count}, which other hosts work on: they are not compared here", "unseen", unseen.join(", ")));
    }
    let side = |name: &str, memory: &str| {
        let given_up = report.pointer(&format!("/{name}/given_up")).and_then(Value::as_object);
        let given_up: u64 = given_up.into_iter().flat_map(Map::values).filter_map(|one| one.pointer("/count")?.as_u64()).sum();
        vec![
            name.to_owned(),
            text(report, &format!("/{name}/rows")),
            text(report, &format!("/{name}/seconds")),
            given_up.to_string(),
            text(report, memory),
        ]
    };
    print::table(&["SIDE", "ROWS", "SECONDS", "GIVEN UP", "MEMORY"], &[side("live", "/memory_bytes/0"), side("shadow", "/memory_bytes/1")]);
    let features = report.pointer("/features").and_then(Value::as_object).into_iter().flatten();
    let row = |(name, counts): (&String, &Value)| {
        let example = counts.pointer("/examples/0").map_or_else(String::new, |example| {
            format!(
                "{} {}: {} → {}",
                text(example, "/entity"),
                text(example, "/entry_id"),
                text(example, "/live"),
                text(example, "/shadow")
            )
        });
        vec![name.clone(), text(counts, "/equal"), text(counts, "/differing"), example]
    };
    print::table(&["FEATURE", "EQUAL", "DIFFERING", "FOR EXAMPLE"], &features.map(row).collect::<Vec<_>>());
}
