use anyhow::anyhow;
use serde_json::{Map, Value, json};

use super::client::HostArgument;
use super::transforms::text;
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A view, then the entity's join keys as key=value
    #[arg(value_name = "VIEW|KEY=VALUE", required = true)]
    words: Vec<String>,
    /// These features only, as view:feature with commas between, over any number of views
    #[arg(long, value_delimiter = ',', value_name = "VIEW:FEATURE,…")]
    features: Vec<String>,
    /// The features of this service, as NAME or NAME@VERSION
    #[arg(long, value_name = "NAME", conflicts_with = "features")]
    service: Option<String>,
    /// The moment to answer for instead of the present, as 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// What the request brings to features that are computed from it
    #[arg(long = "request", value_name = "KEY=VALUE")]
    request: Vec<String>,
    /// Print the host's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

pub(super) fn get(arguments: &Arguments) -> Result<(), Failure> {
    let (keys, views): (Vec<&String>, Vec<&String>) = arguments.words.iter().partition(|word| word.contains('='));
    let pairs = keys.iter().filter_map(|word| word.split_once('='));
    let entity: Map<String, Value> = pairs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    let mut body = match (views.as_slice(), arguments.features.as_slice()) {
        ([], []) if arguments.service.is_some() => json!({"service": arguments.service, "entities": [entity]}),
        ([_, ..], _) if arguments.service.is_some() => {
            return Err(Failure::Wrong(anyhow!("--service names all features; leave the view out")));
        }
        ([view], []) => json!({"view": view, "entities": [entity]}),
        ([], [_, ..]) => json!({"features": arguments.features, "entities": [entity]}),
        ([view], features) => {
            let full = features.iter().map(|name| if name.contains(':') { name.clone() } else { format!("{view}:{name}") });
            json!({"features": full.collect::<Vec<_>>(), "entities": [entity]})
        }
        _ => {
            return Err(Failure::Wrong(anyhow!(
                "name one view and its join keys (get VIEW key=value), --features view:feature, or --service name"
            )));
        }
    };
    if let Some(as_of) = &arguments.as_of {
        body.as_object_mut().map(|members| members.insert("as_of".to_owned(), json!(as_of)));
    }
    if !arguments.request.is_empty() {
        let pair = |text: &String| {
            let (key, value) = text.split_once('=').ok_or_else(|| Failure::Wrong(anyhow!("--request {text}: write KEY=VALUE")))?;
            Ok((key.to_owned(), Value::from(value)))
        };
        let brought = arguments.request.iter().map(pair).collect::<Result<Map<String, Value>, Failure>>()?;
        body.as_object_mut().map(|members| members.insert("request".to_owned(), Value::Object(brought)));
    }
    let answer = arguments.host.client()?.post("/v1/features", &body)?;
    if arguments.json {
        print::json(&answer);
        return Ok(());
    }
    let features = answer.pointer("/features").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = features.iter().enumerate().map(|(index, feature)| {
        let of = |what: &str| text(&answer, &format!("/results/0/{what}/{index}"));
        vec![feature.as_str().unwrap_or_default().to_owned(), of("values"), of("statuses"), of("event_times")]
    });
    print::table(&["FEATURE", "VALUE", "STATUS", "EVENT TIME"], &rows.collect::<Vec<_>>());
    let found = answer.pointer("/results/0/statuses").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one != "not_found"));
    if found { Ok(()) } else { Err(Failure::NotFound(anyhow!("the host has no row for this entity"))) }
}
