//! Session windows: what a customer has done since they were last away for half an hour.

use gristmill_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Microseconds in a minute.
const MINUTE: i64 = 60_000_000;

/// What the host's configuration may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A session ends when nothing has happened for this long.
    gap_minutes: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { gap_minutes: 30 }
    }
}

/// The session that goes on; times in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Session {
    number: i64,
    started: i64,
    last: i64,
    events: i64,
    spent: f64,
}

/// Something that a customer did.
#[derive(Debug, Input)]
pub struct Event<'a> {
    /// Who.
    pub customer: &'a str,
    /// When.
    pub at: Timestamp,
    /// What they paid, if they did.
    pub paid: Option<f64>,
}

/// The session that goes on.
#[derive(Debug, Output)]
pub struct Features {
    /// How many sessions there were, this one included.
    pub session: i64,
    /// When it began.
    pub started: Timestamp,
    /// How long it has lasted, minutes.
    pub minutes: f64,
    /// Events in it.
    pub events: i64,
    /// What was paid in it.
    pub spent: f64,
}

/// What a customer has done since they were last away.
#[fold(entity = "customer", event_time = "at", stream = "visits")]
pub fn sessions(state: &mut Option<Session>, event: Event, settings: &Settings) -> Result<Features, Rejected> {
    let (at, gap) = (event.at.micros(), settings.gap_minutes * MINUTE);
    let new = |number| Session { number, started: at, last: at, events: 0, spent: 0.0 };
    let mut session = match state.take() {
        None => new(1),
        Some(session) if at > session.last + gap => new(session.number + 1),
        Some(session) if at < session.started - gap => return Err("it belongs to a session that has ended".into()),
        Some(session) => session,
    };
    session.started = session.started.min(at);
    session.last = session.last.max(at);
    session.events += 1;
    session.spent += event.paid.unwrap_or_default();
    let features = Features {
        session: session.number,
        started: Timestamp::from_micros(session.started),
        minutes: (session.last - session.started) as f64 / MINUTE as f64,
        events: session.events,
        spent: session.spent,
    };
    *state = Some(session);
    Ok(features)
}
