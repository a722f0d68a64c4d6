//! What the latest flight says about an aircraft. The event time is the scheduled departure, which cancelled flights have too.

use gristmill_sdk::prelude::*;

/// A flight, as the stream has it.
#[derive(Input)]
pub struct Flight<'a> {
    /// Registration of the aircraft.
    pub tailnum: &'a str,
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
    /// Airport of departure.
    pub origin: &'a str,
    /// Destination airport.
    pub dest: &'a str,
}

/// Features of the aircraft.
#[derive(Debug, Output, PartialEq)]
pub struct Features<'a> {
    /// Where the latest flight went.
    pub last_dest: &'a str,
    /// From where to where.
    pub last_leg: String,
    /// Arrival after schedule, minutes.
    pub arr_delay_min: Option<f64>,
    /// Minutes made up in the air: departure delay less arrival delay.
    pub gained_min: Option<f64>,
    /// Mean speed over ground, miles an hour.
    pub speed_mph: Option<f64>,
    /// Whether the flight never left.
    pub cancelled: bool,
}

/// What the latest flight says about an aircraft.
#[transform(
    name = "aircraft",
    entity = "tailnum",
    event_time = "sched_dep",
    stream = "flights",
    aggregate(destinations_30d = distinct(last_dest, "30d"), last_five_legs = last_values(last_leg, 5))
)]
pub fn aircraft<'a>(flight: Flight<'a>) -> Features<'a> {
    Features {
        last_dest: flight.dest,
        last_leg: [flight.origin, "-", flight.dest].concat(),
        arr_delay_min: flight.arr_delay,
        gained_min: flight.dep_delay.zip(flight.arr_delay).map(|(departed, arrived)| departed - arrived),
        speed_mph: flight.air_time.filter(|minutes| *minutes > 0.0).map(|minutes| flight.distance / minutes * 60.0),
        cancelled: flight.dep_delay.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_gives_its_speed_and_the_minutes_gained() {
        let flight = Flight {
            tailnum: "N14228",
            origin: "EWR",
            sched_dep: Timestamp::default(),
            dep_delay: Some(2.0),
            arr_delay: Some(-3.0),
            air_time: Some(120.0),
            distance: 900.0,
            dest: "IAH",
        };
        let features = aircraft(flight);
        assert_eq!(features.last_leg, "EWR-IAH");
        assert_eq!((features.gained_min, features.speed_mph, features.cancelled), (Some(5.0), Some(450.0), false));
    }

    #[test]
    fn a_cancelled_flight_has_no_times() {
        let flight = Flight {
            tailnum: "N14228",
            origin: "EWR",
            sched_dep: Timestamp::default(),
            dep_delay: None,
            arr_delay: None,
            air_time: None,
            distance: 900.0,
            dest: "IAH",
        };
        let features = aircraft(flight);
        assert_eq!((features.arr_delay_min, features.speed_mph, features.cancelled), (None, None, true));
    }
}
