//! What the latest flight says about a route. The event time is the scheduled departure, which cancelled flights have too.

use gristmill_sdk::prelude::*;

/// A flight, as the stream has it.
#[derive(Input)]
pub struct Flight<'a> {
    /// Airport of departure.
    pub origin: &'a str,
    /// Destination airport.
    pub dest: &'a str,
    /// Scheduled departure.
    pub sched_dep: Timestamp,
    /// Departure after schedule, minutes; null when cancelled.
    pub dep_delay: Option<f64>,
    /// Arrival after schedule, minutes; null when cancelled or diverted.
    pub arr_delay: Option<f64>,
    /// Time in the air, minutes.
    pub air_time: Option<f64>,
    /// Distance flown, miles.
    pub distance: f64,
}

/// Features of the route.
#[derive(Debug, Output, PartialEq)]
pub struct Features {
    /// Time in the air, minutes.
    pub air_time_min: Option<f64>,
    /// Mean speed over ground, miles an hour.
    pub speed_mph: Option<f64>,
    /// Arrival after schedule, minutes.
    pub arr_delay_min: Option<f64>,
    /// Whether the flight never left.
    pub cancelled: bool,
}

/// What the latest flight says about a route.
#[transform(name = "route", entity = ["origin", "dest"], event_time = "sched_dep", stream = "flights")]
pub fn route(flight: Flight) -> Features {
    Features {
        air_time_min: flight.air_time,
        speed_mph: flight.air_time.filter(|minutes| *minutes > 0.0).map(|minutes| flight.distance / minutes * 60.0),
        arr_delay_min: flight.arr_delay,
        cancelled: flight.dep_delay.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn a_route_has_two_airports_and_a_speed() {
        let flight = row! { "origin" => "EWR", "dest" => "IAH", "sched_dep" => Timestamp::default(), "dep_delay" => 2.0, "air_time" => 120.0, "distance" => 900.0 };
        let outcome = testing::run::<RouteTransform>("", &[flight]).unwrap();
        assert_eq!(outcome.rows[0].values["speed_mph"], 450.0.into());
        assert_eq!(outcome.rows[0].values["arr_delay_min"], testing::Value::Null);
    }
}
