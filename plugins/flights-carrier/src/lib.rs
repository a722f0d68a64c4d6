//! What the latest flight says about a carrier. The event time is the scheduled departure, which cancelled flights have too.

use gristmill_sdk::prelude::*;

/// A flight, as the stream has it.
#[derive(Input)]
pub struct Flight<'a> {
    /// Two-letter code of the carrier.
    pub carrier: &'a str,
    /// Scheduled departure.
    pub sched_dep: Timestamp,
    /// Departure after schedule, minutes; null when cancelled.
    pub dep_delay: Option<f64>,
    /// Arrival after schedule, minutes; null when cancelled or diverted.
    pub arr_delay: Option<f64>,
}

/// Features of the carrier.
#[derive(Debug, Output, PartialEq)]
pub struct Features {
    /// Departure after schedule, minutes.
    pub dep_delay_min: Option<f64>,
    /// Arrival after schedule, minutes.
    pub arr_delay_min: Option<f64>,
    /// Whether it arrived less than 15 minutes late, the usual measure of punctuality; null when it never arrived as planned.
    pub on_time: Option<bool>,
    /// Whether the flight never left.
    pub cancelled: bool,
}

/// What the latest flight says about a carrier.
#[transform(name = "carrier", entity = "carrier", event_time = "sched_dep", stream = "flights")]
pub fn carrier(flight: Flight) -> Features {
    Features {
        dep_delay_min: flight.dep_delay,
        arr_delay_min: flight.arr_delay,
        on_time: flight.arr_delay.map(|minutes| minutes < 15.0),
        cancelled: flight.dep_delay.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn less_than_a_quarter_of_an_hour_is_on_time() {
        let flight = |arr_delay: Option<f64>| row! { "carrier" => "UA", "sched_dep" => Timestamp::default(), "dep_delay" => 1.0, "arr_delay" => arr_delay };
        let outcome = testing::run::<CarrierTransform>("", &[flight(Some(14.0)), flight(Some(15.0)), flight(None)]).unwrap();
        let on_time: Vec<_> = outcome.rows.iter().map(|row| row.values["on_time"].clone()).collect();
        assert_eq!(on_time, [true.into(), false.into(), testing::Value::Null]);
    }
}
