//! What the latest flight says about an airport of departure. The event time is the scheduled departure, which cancelled flights have too.

use gristmill_sdk::prelude::*;

/// A flight, as the stream has it.
#[derive(Input)]
pub struct Flight<'a> {
    /// Airport of departure.
    pub origin: &'a str,
    /// Scheduled departure.
    pub sched_dep: Timestamp,
    /// Departure after schedule, minutes; null when cancelled.
    pub dep_delay: Option<f64>,
    /// Arrival after schedule, minutes; null when cancelled or diverted.
    pub arr_delay: Option<f64>,
}

/// Features of the airport.
#[derive(Debug, Output, PartialEq)]
pub struct Features {
    /// Departure after schedule, minutes.
    pub dep_delay_min: Option<f64>,
    /// Whether it left 15 minutes late or more, or never.
    pub disrupted: bool,
    /// Hour of the scheduled departure, UTC.
    pub hour_utc: i64,
}

/// What the latest flight says about an airport of departure.
#[transform(
    name = "airport",
    entity = "origin",
    event_time = "sched_dep",
    stream = "flights",
    aggregate(
        departures_1h = count(dep_delay_min, "1h"),
        departures_3h = count(dep_delay_min, "3h"),
        departures_24h = count(dep_delay_min, "24h"),
        mean_delay_1h = mean(dep_delay_min, "1h"),
        mean_delay_3h = mean(dep_delay_min, "3h"),
        mean_delay_24h = mean(dep_delay_min, "24h"),
    )
)]
pub fn airport(flight: Flight) -> Features {
    Features {
        dep_delay_min: flight.dep_delay,
        disrupted: flight.dep_delay.is_none_or(|minutes| minutes >= 15.0),
        hour_utc: flight.sched_dep.hour_utc(),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn a_late_flight_and_one_that_never_left_are_disruptions() {
        let sched_dep = Timestamp::from_micros(13 * 3_600_000_000);
        let flight = |dep_delay: Option<f64>| row! { "origin" => "JFK", "sched_dep" => sched_dep, "dep_delay" => dep_delay };
        let outcome = testing::run::<AirportTransform>("", &[flight(Some(-2.0)), flight(Some(40.0)), flight(None)]).unwrap();
        let disrupted: Vec<_> = outcome.rows.iter().map(|row| row.values["disrupted"].clone()).collect();
        assert_eq!(disrupted, [false.into(), true.into(), true.into()]);
        assert_eq!(outcome.rows[0].values["hour_utc"], 13.into());
    }
}
