//! The hostile guests, run on this machine's engine.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Failure, print};
use crate::conformance::{self, Check, Options};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Random files to try after the written guests
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    random: u64,
    /// The first of their seeds; a failure says the seed that shows it again, alone, with --random 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Show each written guest and how it ended
    #[arg(long, short)]
    verbose: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn conformance(arguments: &Arguments) -> Result<(), Failure> {
    let progress = ProgressBar::new(arguments.random).with_message("hostile guests");
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} random, {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    let mut groups: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    let mut failures = Vec::new();
    let tally = conformance::run(Options { random: arguments.random, seed: arguments.seed }, &mut |check: Check| {
        let (tried, failed) = groups.entry(check.group).or_default();
        *tried += 1;
        if check.group == "random" {
            progress.inc(1);
        }
        let shown = match &check.outcome {
            Ok(how) => how.clone(),
            Err(error) => {
                *failed += 1;
                failures.push(json!({"group": check.group, "guest": check.what, "problem": format!("{error:#}")}));
                format!("NOT CONTAINED: {error:#}")
            }
        };
        let is_worth_a_line = check.outcome.is_err() || (arguments.verbose && check.group != "random");
        if is_worth_a_line && !arguments.json {
            progress.suspend(|| print::line(&format!("{:13} {}: {shown}", check.group, check.what)));
        }
    })?;
    progress.finish_and_clear();
    if arguments.json {
        let groups: BTreeMap<_, _> =
            groups.iter().map(|(group, (tried, failed))| (group, json!({"tried": tried, "failed": failed}))).collect();
        print::json(&json!({"groups": groups, "random": tally.ends, "failures": failures}));
    } else {
        let rows: Vec<_> =
            groups.iter().map(|(group, (tried, failed))| vec![group.to_string(), tried.to_string(), failed.to_string()]).collect();
        print::table(&["GROUP", "TRIED", "NOT CONTAINED"], &rows);
        let ends: Vec<String> = tally.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        print::line(&format!("\nrandom files: {}", ends.join(", ")));
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(anyhow!(
        "{} guests were not contained; please report this with the version, the machine and the lines above",
        failures.len()
    )))
}
