use serde_json::Value;

use super::client::HostArgument;
use super::transforms::text;
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
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
    let list = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for stream in list(&all, "/streams") {
        let reads = |transform: &Value| match text(transform, "/emit") {
            emit if emit.is_empty() => text(transform, "/name"),
            emit => format!("{} → {emit}", text(transform, "/name")),
        };
        let reads: Vec<String> = list(&stream, "/transforms").iter().map(reads).collect();
        let from: Vec<String> = list(&stream, "/emitted_by").iter().map(|name| text(name, "")).collect();
        let of_groups = |pointer| list(&stream, "/groups").iter().map(|group| text(group, pointer)).collect::<Vec<_>>().join(", ");
        rows.push(vec![
            text(&stream, "/name"),
            text(&stream, "/type"),
            from.join(", "),
            reads.join(", "),
            of_groups("/state"),
            of_groups("/lag_entries"),
            of_groups("/pending_entries"),
        ]);
    }
    print::table(&["STREAM", "TYPE", "EMITTED BY", "READ BY", "STATE", "LAG", "PENDING"], &rows);
    Ok(())
}
