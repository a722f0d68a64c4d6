use anyhow::anyhow;
use serde_json::Value;

use super::client::{HostArgument, escape};
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A view whose transform is a fold
    view: String,
    /// The entity's join keys
    #[arg(value_name = "KEY=VALUE", required = true)]
    keys: Vec<String>,
    /// Print the host's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

pub(super) fn state(arguments: &Arguments) -> Result<(), Failure> {
    let pairs = arguments.keys.iter().map(|word| word.split_once('=').ok_or_else(|| anyhow!("`{word}` is no join key; write key=value")));
    let pairs: Vec<(&str, &str)> = pairs.collect::<Result<_, _>>().map_err(Failure::Wrong)?;
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    let answer = arguments.host.client()?.get(&format!("/v1/states/{}?{}", escape(&arguments.view), query.join("&")))?;
    let state = answer.get("state").filter(|state| !state.is_null());
    if arguments.json {
        print::json(&answer);
    } else if let Some(state) = state {
        let shown = state.get("text").filter(|text| !text.is_null()).or(state.get("base64"));
        print::line(shown.and_then(Value::as_str).unwrap_or_default());
    }
    if state.is_some() { Ok(()) } else { Err(Failure::NotFound(anyhow!("the entity has no state"))) }
}
