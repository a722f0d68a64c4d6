use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// The text is neither RFC 3339 nor a number of seconds, milliseconds, microseconds or nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; write RFC 3339 with an offset (2013-01-01T05:15:00Z) or a number since the Unix epoch")]
pub struct ParseTimestampError(pub String);

impl Timestamp {
    /// The present, by the system's clock.
    pub fn now() -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    /// From milliseconds since the epoch; saturates.
    pub fn from_millis(ms: u64) -> Timestamp {
        Timestamp(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    /// Milliseconds since the epoch, rounded down; 0 for moments before it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.div_euclid(1_000)).unwrap_or(0)
    }

    /// From a number since the epoch whose unit is told by its size: below 10^11 seconds (until the year 5138), below 10^14
    /// milliseconds, below 10^17 microseconds, else nanoseconds. Negative numbers likewise.
    pub fn from_epoch_number(number: i64) -> Timestamp {
        match number.unsigned_abs() {
            0..100_000_000_000 => Timestamp(number.saturating_mul(1_000_000)),
            100_000_000_000..100_000_000_000_000 => Timestamp(number.saturating_mul(1_000)),
            100_000_000_000_000..100_000_000_000_000_000 => Timestamp(number),
            _ => Timestamp(number.div_euclid(1_000)),
        }
    }

    /// From a number of seconds since the epoch with a fraction.
    pub fn from_epoch_seconds(seconds: f64) -> Option<Timestamp> {
        let micros = (seconds * 1e6).round();
        (micros.is_finite() && micros.abs() < 9.2e18).then_some(Timestamp(micros as i64))
    }

    /// Appends the text that [`fmt::Display`] writes, and faster.
    pub fn push_text(self, out: &mut Vec<u8>) {
        const PRINTER: jiff::fmt::temporal::DateTimePrinter = jiff::fmt::temporal::DateTimePrinter::new();
        let printed = jiff::Timestamp::from_microsecond(self.0).and_then(|moment| PRINTER.print_timestamp(&moment, &mut *out));
        if printed.is_err() {
            out.extend_from_slice(self.0.to_string().as_bytes());
        }
    }

    /// Appends RFC 3339 in UTC with no, three or six digits of a fraction, as protobuf's JSON has it.
    pub fn push_grouped_text(self, out: &mut Vec<u8>) {
        let precision = match self.0.rem_euclid(1_000_000) {
            0 => 0,
            micros if micros % 1_000 == 0 => 3,
            _ => 6,
        };
        let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(precision));
        let printed = jiff::Timestamp::from_microsecond(self.0).and_then(|moment| printer.print_timestamp(&moment, &mut *out));
        if printed.is_err() {
            out.extend_from_slice(self.0.to_string().as_bytes());
        }
    }

    /// Parses what [`Timestamp::parse`] does, and a date with or without a time that names no offset, which is UTC.
    pub fn parse_naive(text: &str) -> Result<Timestamp, ParseTimestampError> {
        Timestamp::parse(text).or_else(|error| {
            let civil = text.parse::<jiff::civil::DateTime>().ok();
            let moment = civil.and_then(|civil| jiff::tz::Offset::UTC.to_timestamp(civil).ok());
            moment.map(|moment| Timestamp(moment.as_microsecond())).ok_or(error)
        })
    }

    /// Parses RFC 3339 with an offset, or a whole number since the epoch (see [`Timestamp::from_epoch_number`]).
    pub fn parse(text: &str) -> Result<Timestamp, ParseTimestampError> {
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Timestamp::from_epoch_number(number));
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(moment) => Ok(Timestamp(moment.as_microsecond())),
            Err(_) => Err(ParseTimestampError(text.chars().take(64).collect())),
        }
    }
}

/// RFC 3339 in UTC with as many digits of the second as needed; the bare number of microseconds outside the years -9999 to 9999.
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => write!(out, "{moment}"),
            Err(_) => write!(out, "{}", self.0),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).map_err(serde::de::Error::custom)
    }
}
