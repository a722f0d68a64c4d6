//! A window of one's own: what a shop has sold in its business day, which begins when the calendar on its wall says so, and in the one before.

use gristmill_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Microseconds in a minute and in a day.
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;

/// What the host's configuration may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// When a business day begins, by the clock on the wall.
    begins_at_hour: i64,
    /// How far that clock is ahead of UTC.
    utc_offset_minutes: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { begins_at_hour: 4, utc_offset_minutes: 0 }
    }
}

/// Two days of one shop; the beginning of the later one in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Days {
    began: i64,
    sales: i64,
    total: f64,
    before: f64,
}

/// Something was sold.
#[derive(Debug, Input)]
pub struct Sale<'a> {
    /// Where.
    pub shop: &'a str,
    /// When.
    pub at: Timestamp,
    /// For how much.
    pub amount: f64,
}

/// The business day that goes on.
#[derive(Debug, Output)]
pub struct Features {
    /// When it began.
    pub began: Timestamp,
    /// Sales in it.
    pub sales: i64,
    /// What they came to.
    pub total: f64,
    /// What those of the day before came to.
    pub total_before: f64,
}

/// What a shop has sold in its business day, and in the one before.
#[fold(entity = "shop", event_time = "at", stream = "sales")]
pub fn business_days(state: &mut Option<Days>, sale: Sale, settings: &Settings) -> Result<Features, Rejected> {
    let shift = settings.begins_at_hour * 60 * MINUTE - settings.utc_offset_minutes * MINUTE;
    let began = (sale.at.micros() - shift).div_euclid(DAY) * DAY + shift;
    let mut days = match state.take() {
        None => Days { began, sales: 0, total: 0.0, before: 0.0 },
        Some(days) if began == days.began + DAY => Days { began, sales: 0, total: 0.0, before: days.total },
        Some(days) if began > days.began => Days { began, sales: 0, total: 0.0, before: 0.0 },
        Some(days) if began < days.began - DAY => return Err("the books of that day are closed".into()),
        Some(days) => days,
    };
    if began == days.began {
        days.sales += 1;
        days.total += sale.amount;
    } else {
        days.before += sale.amount;
    }
    let features = Features { began: Timestamp::from_micros(days.began), sales: days.sales, total: days.total, total_before: days.before };
    *state = Some(days);
    Ok(features)
}
