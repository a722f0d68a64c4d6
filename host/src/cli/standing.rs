//! How a transform stands, whatever its component: paused or not, and which version of a view is current.

use std::time::Duration;

use anyhow::anyhow;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::client::{Client, HostArgument, escape};
use super::ingest::wait;
use super::transforms::text;
use super::{Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The transform
    name: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

#[derive(clap::Args)]
pub(super) struct SwitchArguments {
    /// The version, as NAME@v2
    name: String,
    /// At once, whether or not it has caught up
    #[arg(long)]
    now: bool,
    /// Do not wait until it has caught up: the host switches by itself
    #[arg(long, conflicts_with = "now")]
    no_wait: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

pub(super) fn pause(arguments: &Arguments) -> Result<(), Failure> {
    change(arguments, "pause", "is paused; what comes waits in its stream")
}

pub(super) fn resume(arguments: &Arguments) -> Result<(), Failure> {
    change(arguments, "resume", "goes on where it was paused")
}

fn change(arguments: &Arguments, what: &str, done: &str) -> Result<(), Failure> {
    let changed = arguments.host.client()?.post(&path(&arguments.name, what), &json!({}))?;
    if arguments.json {
        print::json(&changed);
    } else {
        print::line(&format!("{} {done}", arguments.name));
        if let Some(leaving) = changed.pointer("/leaving").and_then(Value::as_array) {
            let leaving: Vec<String> = leaving.iter().map(Value::to_string).collect();
            let leaving = leaving.join(", ");
            print::line(&format!("still to be left, as soon as the hosts that work there have heard of it: partition {leaving}"));
        }
    }
    Ok(())
}

pub(super) fn switch(arguments: &SwitchArguments) -> Result<(), Failure> {
    let (name, client) = (&arguments.name, arguments.host.client()?);
    let mut one = client.post(&path(name, "switch"), &json!({"now": arguments.now}))?;
    if !arguments.no_wait {
        one = caught_up(&client, name, one)?;
    }
    if arguments.json {
        print::json(&one);
    } else if is(&one, "/current") {
        print::line(&format!("{} is the current version", text(&one, "/name")));
    } else {
        print::line(&format!("{name} becomes the current version as soon as it has caught up"));
    }
    Ok(())
}

/// Waits until the host has switched, and shows meanwhile how far the version is.
fn caught_up(client: &Client, name: &str, mut one: Value) -> Result<Value, Failure> {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    while !is(&one, "/current") {
        if !is(&one, "/switching") {
            spinner.finish_and_clear();
            return Err(Failure::Failed(anyhow!("{name} is not to become the current version any more: somebody has changed that")));
        }
        spinner.set_message(format!("{name} is catching up; applied up to {}", text(&one, "/places/0")));
        wait(Duration::from_millis(300));
        one = client.get(&format!("/v1/transforms/{}", escape(name)))?;
    }
    spinner.finish_and_clear();
    Ok(one)
}

fn is(one: &Value, pointer: &str) -> bool {
    one.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

fn path(name: &str, what: &str) -> String {
    format!("/v1/transforms/{}/{what}", escape(name))
}
