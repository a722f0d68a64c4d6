/// A moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// The moment this many microseconds after the epoch; negative is before it.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.micros
    }

    /// Seconds from `earlier` to this moment; negative when this one is earlier.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        self.micros.saturating_sub(earlier.micros) as f64 / 1e6
    }

    /// Hour of the day in UTC, 0 to 23.
    pub const fn hour_utc(self) -> i64 {
        self.micros.rem_euclid(86_400_000_000) / 3_600_000_000
    }
}
