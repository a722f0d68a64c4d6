//! The next version of `tally`: it keeps the largest amount too, and takes over the states of the first.

use gristmill_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Tally {
    count: i64,
    sum: f64,
    largest: f64,
}

#[derive(Input)]
struct Event<'a> {
    #[expect(dead_code, reason = "the entity is the host's affair")]
    id: &'a str,
    amount: Option<f64>,
}

#[derive(Output)]
struct Features {
    seen: i64,
    total: f64,
    largest: f64,
}

/// Counts, sums and compares the events of an entity.
#[fold(name = "tally", entity = "id", stream = "tally", migrate = from_before)]
fn tally(state: &mut Option<Tally>, event: Event) -> Features {
    let tally = state.get_or_insert_default();
    let amount = event.amount.unwrap_or_default();
    *tally = Tally { count: tally.count + 1, sum: tally.sum + amount, largest: tally.largest.max(amount) };
    Features { seen: tally.count, total: tally.sum, largest: tally.largest }
}

fn from_before(from: &str, state: &[u8]) -> Result<Tally, String> {
    #[derive(Deserialize)]
    struct Before {
        seen: i64,
        total: f64,
    }
    if !from.starts_with("1.") {
        return Err(format!("version {from} is not known here"));
    }
    let Before { seen, total } = serde_json::from_slice(state).map_err(|error| error.to_string())?;
    // The largest amount so far is at least the mean.
    let mean = if seen == 0 { 0.0 } else { total / seen as f64 };
    Ok(Tally { count: seen, sum: total, largest: mean })
}
