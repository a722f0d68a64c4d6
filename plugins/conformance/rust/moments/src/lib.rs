//! A fold over event times that hands rows on, leaves them out, refuses events and ends states, as each event asks for: what tests of late events run.

use gristmill_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Moments {
    seen: i64,
    total: i64,
}

#[derive(Input)]
struct Event<'a> {
    id: &'a str,
    #[expect(dead_code, reason = "the event time is the host's affair")]
    at: Timestamp,
    #[field(default = "")]
    action: &'a str,
    number: i64,
    #[field(default = "")]
    text: &'a str,
}

#[derive(Output)]
struct Features<'a> {
    seen: i64,
    total: i64,
    number: i64,
    text: &'a str,
}

/// Counts and sums the events of an entity.
#[fold(entity = "id", event_time = "at", stream = "moments")]
fn moments<'a>(state: &mut Option<Moments>, event: Event<'a>) -> Result<Option<Features<'a>>, Rejected> {
    let moments = state.get_or_insert_default();
    moments.seen += 1;
    moments.total += event.number;
    let features = Features { seen: moments.seen, total: moments.total, number: event.number, text: event.text };
    match event.action {
        "reject" => Err(format!("{} asks for it", event.id).into()),
        "skip" => Ok(None),
        // Whether there is a row depends on which events have been counted before.
        "third" if features.seen % 3 != 0 => Ok(None),
        "end" => {
            *state = None;
            Ok(None)
        }
        _ => Ok(Some(features)),
    }
}
