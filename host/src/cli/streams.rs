use serde_json::Value;

use super::client::HostArgument;
use super::transforms::text;
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Show each partition too: how far it is, and which host works on it
    #[arg(long)]
    partitions: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

pub(super) fn streams(arguments: &Arguments) -> Result<(), Failure> {
    let all = arguments.host.client()?.get("/v1/streams")?;
    if arguments.json {
        print::json(&all);
        return Ok(());
    }
    let mut rows = Vec::new();
    for stream in list(&all, "/streams") {
        let reads = |transform: &Value| match text(transform, "/emit") {
            emit if emit.is_empty() => text(transform, "/name"),
            emit => format!("{} → {emit}", text(transform, "/name")),
        };
        let reads: Vec<String> = list(&stream, "/transforms").iter().map(reads).collect();
        let names = |pointer| list(&stream, pointer).iter().map(|name| text(name, "")).collect::<Vec<_>>().join(", ");
        let of_groups = |pointer| list(&stream, "/groups").iter().map(|group| text(group, pointer)).collect::<Vec<_>>().join(", ");
        let split = match text(&stream, "/partitions") {
            count if count.is_empty() => count,
            count => format!("{count} by {}", names("/partition_by")),
        };
        rows.push(vec![
            text(&stream, "/name"),
            text(&stream, "/type"),
            split,
            names("/emitted_by"),
            reads.join(", "),
            of_groups("/state"),
            of_groups("/lag_entries"),
            of_groups("/pending_entries"),
        ]);
    }
    print::table(&["STREAM", "TYPE", "PARTITIONS", "EMITTED BY", "READ BY", "STATE", "LAG", "PENDING"], &rows);
    if arguments.partitions {
        print::line("");
        print_partitions(&all);
    }
    Ok(())
}

fn print_partitions(all: &Value) {
    let mut rows = Vec::new();
    for stream in list(all, "/streams") {
        for group in list(&stream, "/groups") {
            for partition in list(&group, "/partitions") {
                let is_here = partition.pointer("/here").and_then(Value::as_bool).unwrap_or_default();
                let mut host = text(&partition, "/held_by");
                if is_here {
                    host.push_str(" (this host)");
                }
                let of = ["/partition", "/place", "/lag_entries", "/pending_entries"].map(|pointer| text(&partition, pointer));
                rows.push([text(&stream, "/name"), text(&group, "/name")].into_iter().chain(of).chain([host.trim().to_owned()]).collect());
            }
        }
    }
    print::table(&["STREAM", "GROUP", "PARTITION", "PLACE", "LAG", "PENDING", "HELD BY"], &rows);
}

fn list(value: &Value, pointer: &str) -> Vec<Value> {
    value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}
