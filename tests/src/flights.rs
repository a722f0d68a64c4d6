//! Made-up flights for the first-party component `carrier`, with late ones and broken ones, and the features that must come of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

/// A source of numbers that are the same in every run with the same seed.
pub struct Seeded(pub u64);

impl Seeded {
    /// A number from 0 up to and without `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Flight {
    /// Tells the events apart; the departure delay that the feature must show.
    pub number: u64,
    /// The entity.
    pub carrier: String,
    /// Seconds since the epoch.
    pub sched_dep: u64,
    /// Whether its delay is not a number.
    pub broken: bool,
}

/// `count` events of 40 carriers, their times shuffled over a few hours, one in fifty broken.
pub fn flights(seed: u64, count: u64) -> Vec<Flight> {
    let mut seeded = Seeded(seed);
    let flight = |number| Flight {
        number,
        carrier: format!("C{}", seeded.below(40)),
        sched_dep: 1_357_000_000 + number / 4 + seeded.below(3_000),
        broken: seeded.below(50) == 0,
    };
    (0..count).map(flight).collect()
}

impl Flight {
    /// As fields of an entry.
    pub fn fields(&self) -> [(&'static str, String); 4] {
        let delay = if self.broken { format!("late-{}", self.number) } else { self.number.to_string() };
        [("carrier", self.carrier.clone()), ("sched_dep", self.sched_dep.to_string()), ("dep_delay", delay), ("arr_delay", "1".into())]
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        Value::Object(self.fields().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
    }
}

/// The features that a run without any fault gives: for each carrier the delay of the newest flight that is not broken, of equal times the later
/// entry. `flights` are in the order of their entries.
pub fn oracle<'f>(flights: impl IntoIterator<Item = &'f Flight>) -> BTreeMap<String, u64> {
    let mut newest: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for flight in flights.into_iter().filter(|flight| !flight.broken) {
        let known = newest.entry(flight.carrier.clone()).or_insert((0, 0));
        if flight.sched_dep >= known.0 {
            *known = (flight.sched_dep, flight.number);
        }
    }
    newest.into_iter().map(|(carrier, (_, number))| (carrier, number)).collect()
}

/// The component's file.
pub fn component() -> PathBuf {
    prebuilt("flights-carrier")
}

/// A component that is kept with the sources.
pub fn prebuilt(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt").join(format!("{name}.wasm"))
}
