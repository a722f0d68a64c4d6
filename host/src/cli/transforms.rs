use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::{Map, Value, json};

use super::client::{Client, HostArgument, escape};
use super::{Failure, print, read_component};
use crate::model::one_line;

/// Bytes of options, escaped, that fit into the address of a request beside all else that a host takes as its head.
const QUERY_BYTES_MAX: usize = 60 << 10;

#[derive(clap::Args)]
pub(super) struct PushArguments {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The transform's name; the file's, with `_` for `-`, when absent
    #[arg(long)]
    name: Option<String>,
    /// The stream; the component's own when absent
    #[arg(long)]
    stream: Option<String>,
    /// A consumer group other than the stream's
    #[arg(long)]
    group: Option<String>,
    /// Where to begin reading, with a group of its own: beginning, end, an entry id or a moment such as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "PLACE")]
    start: Option<String>,
    /// A stream that the rows go on to as events, in the commit that stores them; an empty text ends it
    #[arg(long, value_name = "STREAM")]
    emit: Option<String>,
    /// JSON handed to the component
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Age in seconds beyond which a row is no answer
    #[arg(long, value_name = "N")]
    max_age_secs: Option<u64>,
    /// Age in seconds beyond which a row is forgotten; twice --max-age-secs, or what it was, when absent
    #[arg(long, value_name = "N")]
    expire_secs: Option<u64>,
    /// How far back reads as of a moment are answered, in seconds
    #[arg(long, value_name = "N")]
    history_secs: Option<u64>,
    /// Windowed features over the component's outputs, as [{"feature": "mean_1h", "column": "delay", "function": "mean", "window": "1h"}]
    #[arg(long, value_name = "JSON")]
    aggregations: Option<String>,
    /// Keep the events of windows instead of tiles, so that both ends are exact; `--exact=false` for tiles again
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exact: Option<bool>,
    /// How far ahead of the host's clock an event may be, in seconds, where states, windows or history are kept
    #[arg(long, value_name = "N")]
    ahead_max_secs: Option<u64>,
    /// Bytes that windows and history of one entity may take
    #[arg(long, value_name = "N")]
    entity_bytes_max: Option<usize>,
    /// Compute when an event comes (stream) or when somebody asks (request); stream, or what it was, when absent
    #[arg(long, value_name = "WHEN")]
    at: Option<String>,
    /// An input that is found elsewhere than the component says: in the events, or with --at request `view:feature` for a stored feature; or as
    /// INPUT={"from": "place", "default": "0", "epoch": "seconds"}
    #[arg(long = "input", value_name = "INPUT=PLACE")]
    inputs: Vec<String>,
    /// With --at request: what is served when it cannot compute: error, last or values
    #[arg(long, value_name = "WHAT")]
    fallback: Option<String>,
    /// Those values, as {"feature": value}
    #[arg(long, value_name = "JSON")]
    fallback_values: Option<String>,
    /// Put it into force even if it can use none of the newest events of its stream, or fails on states that are stored
    #[arg(long)]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Show this one only
    name: Option<String>,
    /// Delete it instead
    #[arg(long, requires = "name")]
    delete: bool,
    /// Print as JSON
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the versions that were ever accepted under a name
    #[command(after_help = "Example: gristmill transforms versions own")]
    Versions {
        /// The transform
        name: String,
    },
    /// Put one of them into force
    #[command(after_help = "Example: gristmill transforms activate own 3")]
    Activate {
        /// The transform
        name: String,
        /// The version's number, as listed
        version: u32,
    },
}

#[derive(clap::Args)]
pub(super) struct RollbackArguments {
    /// The transform
    name: String,
    /// This version instead of the one that was in force before
    version: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

/// Bindings of inputs as the host takes them.
fn bindings(inputs: &[String]) -> Result<Option<String>, Failure> {
    let pair = |text: &String| {
        let (input, from) = text.split_once('=').ok_or_else(|| Failure::Wrong(anyhow!("--input {text}: write INPUT=PLACE")))?;
        let binding = match from.strip_prefix('{') {
            None => json!({"from": from}),
            Some(_) => serde_json::from_str(from).map_err(|error| Failure::Wrong(anyhow!("--input {text}: {error}")))?,
        };
        Ok((input.to_owned(), binding))
    };
    let all = inputs.iter().map(pair).collect::<Result<Map<String, Value>, Failure>>()?;
    Ok((!all.is_empty()).then(|| Value::Object(all).to_string()))
}

pub(super) fn push(arguments: &PushArguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let component = read_component(file)?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).map(|stem| stem.replace('-', "_"));
    let name = arguments.name.clone().or(stem).ok_or_else(|| Failure::Wrong(anyhow!("give the transform a name with --name")))?;
    let options = [
        ("stream", arguments.stream.clone()),
        ("group", arguments.group.clone()),
        ("start", arguments.start.clone()),
        ("emit", arguments.emit.clone()),
        ("at", arguments.at.clone()),
        ("inputs", bindings(&arguments.inputs)?),
        ("fallback", arguments.fallback.clone()),
        ("fallback_values", arguments.fallback_values.clone()),
        ("settings", arguments.settings.clone()),
        ("max_age_secs", arguments.max_age_secs.map(|secs| secs.to_string())),
        ("expire_secs", arguments.expire_secs.map(|secs| secs.to_string())),
        ("history_secs", arguments.history_secs.map(|secs| secs.to_string())),
        ("aggregations", arguments.aggregations.clone()),
        ("force", arguments.force.then(|| "true".to_owned())),
        ("exact", arguments.exact.map(|is_exact| is_exact.to_string())),
        ("ahead_max_secs", arguments.ahead_max_secs.map(|secs| secs.to_string())),
        ("entity_bytes_max", arguments.entity_bytes_max.map(|bytes| bytes.to_string())),
    ];
    let query: Vec<String> = options.iter().filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_ref()?)))).collect();
    let query = query.join("&");
    if query.len() > QUERY_BYTES_MAX {
        let longest = options.iter().max_by_key(|(_, value)| value.as_ref().map_or(0, String::len)).map_or("", |(key, _)| key);
        return Err(Failure::Wrong(anyhow!(
            "the options are {} bytes long, escaped, and a request takes {QUERY_BYTES_MAX}, most of it `{longest}`: let the component declare its \
             aggregations, or put the options into the host's configuration",
            query.len()
        )));
    }
    let result = arguments.host.client()?.put(&format!("/v1/transforms/{}?{query}", escape(&name)), &component)?;
    say_in_force(&result, arguments.json);
    Ok(())
}

/// Tells which events the states of a fold have not seen, once it has gone back.
fn say_unseen(result: &Value) {
    let unseen = result.get("unseen").and_then(Value::as_array).cloned().unwrap_or_default();
    for partition in &unseen {
        let [stream, index, after] = ["/stream", "/partition", "/after"].map(|pointer| text(partition, pointer));
        let after = if after.is_empty() { "at all".to_owned() } else { format!("after entry {after}") };
        print::line(&format!(
            "its states have seen no event of `{stream}`, partition {index}, {after} until now: those are counted by the version before it only; start \
             over to count them (`gristmill push FILE.wasm --name {}@v2 --start beginning`)",
            text(result, "/name").split('@').next().unwrap_or_default()
        ));
    }
}

/// Tells what has come into force.
fn say_in_force(result: &Value, as_json: bool) {
    if as_json {
        print::json(result);
        return;
    }
    let [name, number, component] = ["/name", "/number", "/component"].map(|pointer| text(result, pointer));
    let place = result.get("stream").and_then(Value::as_str).map_or("for requests".to_owned(), |stream| format!("on stream `{stream}`"));
    print::line(&format!("{name} is in force {place}, version {number}, component {component}"));
    if let (Some(true), Some(stream)) = (result.get("made_stream").and_then(Value::as_bool), result.get("stream").and_then(Value::as_str)) {
        print::line(&format!("made the stream `{stream}`, which was not there before"));
    }
    say_unseen(result);
    for warning in result.get("warnings").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        print::line(&format!("warning: {warning}"));
    }
    if let Some(sample) = result.get("sample").filter(|sample| !sample.is_null()) {
        let outcome = |side: &str| ["used", "rows", "rejected", "failed"].map(|count| text(sample, &format!("/{side}/{count}")));
        let row = |side: &str, words: &str| std::iter::once(words.to_owned()).chain(outcome(side)).collect::<Vec<_>>();
        print::line(&format!("\nit reads events in another way; of the newest {}:", text(sample, "/events")));
        print::table(&["", "USED", "ROWS", "REJECTED", "FAILED"], &[row("before", "before"), row("after", "now")]);
        let reasons = sample.pointer("/after/reasons").and_then(Value::as_array).cloned().unwrap_or_default();
        reasons.iter().filter_map(Value::as_str).for_each(|reason| print::line(&one_line(reason, 400)));
    }
}

pub(super) fn rollback(arguments: &RollbackArguments) -> Result<(), Failure> {
    let client = arguments.host.client()?;
    let result = match arguments.version {
        Some(version) => activate(&client, &arguments.name, version)?,
        None => client.post_slowly(&format!("/v1/transforms/{}/roll-back", escape(&arguments.name)), &json!({}))?,
    };
    say_in_force(&result, arguments.json);
    Ok(())
}

fn activate(client: &Client, name: &str, version: u32) -> Result<Value, Failure> {
    client.post_slowly(&format!("/v1/transforms/{}/activate", escape(name)), &json!({"version": version}))
}

pub(super) fn transforms(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.host.client()?;
    match &arguments.action {
        Some(Action::Versions { name }) => return versions(&client, name, arguments.json),
        Some(Action::Activate { name, version }) => {
            say_in_force(&activate(&client, name, *version)?, arguments.json);
            return Ok(());
        }
        None => {}
    }
    let Some(name) = &arguments.name else {
        let all = client.get("/v1/transforms")?;
        if arguments.json {
            print::json(&all);
            return Ok(());
        }
        let transforms = all.pointer("/transforms").and_then(Value::as_array).cloned().unwrap_or_default();
        let row = |transform: &Value| {
            let digest: String = text(transform, "/component").chars().take(12).collect();
            vec![text(transform, "/name"), text(transform, "/state"), text(transform, "/stream"), text(transform, "/spec/version"), digest]
        };
        print::table(&["NAME", "STATE", "STREAM", "VERSION", "COMPONENT"], &transforms.iter().map(row).collect::<Vec<_>>());
        return Ok(());
    };
    if arguments.delete {
        client.delete(&format!("/v1/transforms/{}", escape(name)))?;
        print::line(&format!("{name} is deleted; its rows stay in the store until they expire"));
        return Ok(());
    }
    let one = client.get(&format!("/v1/transforms/{}", escape(name)))?;
    if arguments.json {
        print::json(&one);
        return Ok(());
    }
    for (label, pointer) in [
        ("name", "/name"),
        ("state", "/state"),
        ("reason", "/reason"),
        ("refused", "/refused"),
        ("stream", "/stream"),
        ("group", "/group"),
        ("current", "/current"),
        ("switching", "/switching"),
        ("emit", "/emit"),
        ("component", "/component"),
        ("origin", "/origin"),
        ("number", "/number"),
        ("version", "/spec/version"),
        ("doc", "/spec/doc"),
    ] {
        let value = text(&one, pointer);
        if !value.is_empty() {
            print::line(&format!("{label:<10} {value}"));
        }
    }
    Ok(())
}

fn versions(client: &Client, name: &str, as_json: bool) -> Result<(), Failure> {
    let found = client.get(&format!("/v1/transforms/{}/versions", escape(name)))?;
    if as_json {
        print::json(&found);
        return Ok(());
    }
    let list = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |version: &Value| {
        let mark = if version.get("active") == Some(&Value::Bool(true)) { "*" } else { "" };
        let digest: String = text(version, "/component").chars().take(12).collect();
        let changed: Vec<String> = list(version, "/changed").iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let [number, said, at, by] = ["/number", "/version", "/put_at", "/put_by"].map(|pointer| text(version, pointer));
        vec![mark.to_owned(), number, said, digest, at, by, changed.join(", ")]
    };
    let rows: Vec<Vec<String>> = list(&found, "/versions").iter().map(row).collect();
    print::table(&["", "NUMBER", "VERSION", "COMPONENT", "SINCE", "BY", "CHANGED"], &rows);
    let cuts: Vec<Vec<String>> = list(&found, "/cuts").iter().flat_map(|partition| cuts(partition, &list(partition, "/cuts"))).collect();
    if !cuts.is_empty() {
        print::line("");
        print::table(&["STREAM", "PARTITION", "FROM", "TO", "AFTER ENTRY", "AT"], &cuts);
    }
    Ok(())
}

/// The cuts of a partition, and the one that waits for an event.
fn cuts(partition: &Value, cuts: &[Value]) -> Vec<Vec<String>> {
    let [stream, index] = ["/stream", "/partition"].map(|pointer| text(partition, pointer));
    let maker = |cut: &Value, side: &str| match cut.pointer(side) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(maker) if maker.pointer("/number").is_some_and(Value::is_number) => text(maker, "/number"),
        Some(maker) => text(maker, "/component").chars().take(12).collect(),
    };
    let row = |cut: &Value| {
        let after = text(cut, "/after");
        let after = if after.is_empty() { "none".to_owned() } else { after };
        vec![stream.clone(), index.clone(), maker(cut, "/from"), maker(cut, "/to"), after, text(cut, "/at")]
    };
    let said = |words: &str| vec![stream.clone(), index.clone(), String::new(), String::new(), words.to_owned(), String::new()];
    let left = text(partition, "/up_to");
    let left = (!left.is_empty()).then(|| {
        vec![stream.clone(), index.clone(), maker(cuts.last().unwrap_or(&Value::Null), "/to"), "none".into(), left, String::new()]
    });
    let is = |pointer: &str| partition.pointer(pointer) == Some(&Value::Bool(true));
    let pending = is("/pending").then(|| said("no event yet since the last swap"));
    let competing = is("/competing").then(|| said("hosts compete for its entries: there are no cuts"));
    cuts.iter().map(row).chain(left).chain(pending).chain(competing).collect()
}

/// The text at a place in a value; empty when there is none.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
