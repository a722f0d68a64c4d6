use anyhow::anyhow;
use serde_json::Value;

use super::client::{HostArgument, escape};
use super::transforms::text;
use super::{Failure, print};
use crate::model::one_line;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A view whose transform is a fold, or that has windows or history
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
    let part = |name: &str| answer.get(name).filter(|part| !part.is_null());
    let (state, kept) = (part("state"), part("kept"));
    if arguments.json {
        print::json(&answer);
    } else {
        if let Some(state) = state {
            let shown = state.get("text").filter(|text| !text.is_null()).or(state.get("base64"));
            print::line(&one_line(shown.and_then(Value::as_str).unwrap_or_default(), usize::MAX));
        }
        if let Some(kept) = kept {
            let [bytes, newest, from] = ["/bytes", "/newest_event_time", "/kept_from"].map(|pointer| text(kept, pointer));
            print::line(&format!("for windows and history {bytes} bytes are kept; newest event {newest}, answered as of {from} and later"));
        }
    }
    let missing = match (state.is_some() || kept.is_some(), answer.get("fold")) {
        (true, _) => return Ok(()),
        (false, Some(Value::Bool(false))) => {
            "the view is no fold, so it has no states; and nothing is kept of the entity for windows or history"
        }
        (false, _) => "the entity has no state",
    };
    Err(Failure::NotFound(anyhow!(missing)))
}
