use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, HostArgument, escape};
use super::transforms::text;
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    host: HostArgument,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List them, newest first
    List(Filter),
    /// Show one with the event it was
    Show {
        /// stream/entry-id/transform, as listed
        id: String,
    },
    /// Try them again with the transform that is in force now
    Replay {
        /// These only, stream/entry-id/transform
        ids: Vec<String>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Forget them
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
    let client = arguments.host.client();
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
            }
            Ok(())
        }
        Action::Drop { filter, yes } => {
            if !yes {
                return Err(Failure::Wrong(anyhow::anyhow!("dropping dead letters cannot be undone; say --yes")));
            }
            let mut query = filter.query();
            if query.is_empty() {
                query = "limit=10000".into();
            }
            let outcome = client.delete(&format!("/v1/dead-letters?{query}"))?;
            print::line(&format!("{} dropped", text(&outcome, "/dropped")));
            Ok(())
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
        let id = format!("{}/{}/{}", text(letter, "/stream"), text(letter, "/entry_id"), text(letter, "/transform"));
        vec![id, text(letter, "/reason"), text(letter, "/message")]
    };
    print::table(&["ID", "REASON", "MESSAGE"], &letters.iter().map(row).collect::<Vec<_>>());
    print::note(&format!("{} of {} shown", letters.len(), text(&found, "/kept")));
    Ok(())
}
