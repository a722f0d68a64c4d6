use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, HostArgument, escape};
use super::transforms::text;
use super::{Failure, print};

/// Dead letters that a host drops in one request, at most.
const DROP_MAX: u64 = 10_000;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    host: HostArgument,
    /// Print as JSON
    #[arg(long, global = true, display_order = 900)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List them, newest first
    #[command(after_help = "Example: gristmill dead-letters list --transform aircraft --limit 20")]
    List(Filter),
    /// Show one with the event it was
    #[command(after_help = "Example: gristmill dead-letters show flights/1357034400000-0/aircraft")]
    Show {
        /// stream/entry-id/transform, as listed (stream/entry-id@partition/transform of a stream with partitions)
        id: String,
    },
    /// Try them again with the transform that is in force now
    #[command(after_help = "Example: gristmill dead-letters replay --transform aircraft")]
    Replay {
        /// These only, stream/entry-id/transform
        ids: Vec<String>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Forget them
    #[command(after_help = "Example: gristmill dead-letters drop --transform aircraft --yes")]
    Drop {
        #[command(flatten)]
        filter: Filter,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args, Default)]
struct Filter {
    /// Of this transform only
    #[arg(long)]
    transform: Option<String>,
    /// Of this stream only
    #[arg(long)]
    stream: Option<String>,
    /// At most this many
    #[arg(long)]
    limit: Option<usize>,
}

impl Filter {
    fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let parts = [("transform", &self.transform), ("stream", &self.stream), ("limit", &limit)];
        let parts: Vec<String> = parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_ref()?)))).collect();
        parts.join("&")
    }
}

pub(super) fn dead_letters(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.host.client()?;
    match &arguments.action {
        Action::List(filter) => list(&client, filter, arguments.json),
        Action::Show { id } => {
            let path: Vec<String> = id.rsplitn(3, '/').map(escape).collect();
            let path: Vec<String> = path.into_iter().rev().collect();
            print::json(&client.get(&format!("/v1/dead-letters/{}", path.join("/")))?);
            Ok(())
        }
        Action::Replay { ids, filter } => {
            let body = match ids.as_slice() {
                [] => json!({"transform": filter.transform, "stream": filter.stream, "limit": filter.limit}),
                ids => json!({"ids": ids}),
            };
            let outcome = client.post("/v1/dead-letters/replay", &body)?;
            if arguments.json {
                print::json(&outcome);
            } else {
                let count = |name: &str| text(&outcome, name);
                print::line(&format!(
                    "{} replayed, {} settled, {} still dead",
                    count("/replayed"),
                    count("/settled"),
                    count("/still_dead")
                ));
                if let waiting @ 1.. = outcome.pointer("/waiting").and_then(Value::as_u64).unwrap_or_default() {
                    print::note(&format!("{waiting} more are left to the hosts that hold their partitions"));
                }
            }
            Ok(())
        }
        Action::Drop { filter, yes } => {
            if !yes {
                return Err(Failure::Wrong(anyhow::anyhow!("dropping dead letters cannot be undone; say --yes")));
            }
            let dropped = drop_all(&client, filter)?;
            if arguments.json {
                print::json(&json!({"dropped": dropped}));
            } else {
                print::line(&format!("{dropped} dropped"));
            }
            Ok(())
        }
    }
}

/// Drops what matches. A host drops a bounded number at once, so it is asked until less than that is left.
fn drop_all(client: &Client, filter: &Filter) -> Result<u64, Failure> {
    let mut query = filter.query();
    if filter.limit.is_none() {
        let separator = if query.is_empty() { "" } else { "&" };
        query = format!("{query}{separator}limit={DROP_MAX}");
    }
    let mut dropped = 0;
    loop {
        let outcome = client.delete(&format!("/v1/dead-letters?{query}"))?;
        let now = outcome.pointer("/dropped").and_then(Value::as_u64).unwrap_or_default();
        dropped += now;
        if filter.limit.is_some() || now < DROP_MAX {
            return Ok(dropped);
        }
    }
}

fn list(client: &Client, filter: &Filter, as_json: bool) -> Result<(), Failure> {
    let found = client.get(&format!("/v1/dead-letters?{}", filter.query()))?;
    if as_json {
        print::json(&found);
        return Ok(());
    }
    let letters = found.pointer("/dead_letters").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |letter: &Value| {
        let partition = letter.pointer("/partition").map_or_else(String::new, |partition| format!("@{partition}"));
        let id = format!("{}/{}{partition}/{}", text(letter, "/stream"), text(letter, "/entry_id"), text(letter, "/transform"));
        vec![id, text(letter, "/reason"), text(letter, "/message")]
    };
    print::table(&["ID", "REASON", "MESSAGE"], &letters.iter().map(row).collect::<Vec<_>>());
    print::note(&format!("{} of {} shown", letters.len(), text(&found, "/kept")));
    Ok(())
}
