//! Events for a transform of each kind at once (rows of which the newest wins, and a fold with windows over what it returns), and what must come of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::flights::{self, Flight, Seeded};
use crate::host::Host;

/// One event.
#[derive(Debug, Clone)]
pub struct Mixed {
    /// For the rows; its number tells events apart.
    pub flight: Flight,
    /// The fold's entity.
    pub id: String,
    /// What the fold sums; it refuses an event without one.
    pub amount: Option<u64>,
}

/// `count` events whose numbers begin with `first`.
pub fn events(seeded: &mut Seeded, first: u64, count: u64) -> Vec<Mixed> {
    let event = |number| Mixed {
        flight: Flight {
            number,
            carrier: format!("C{}", seeded.below(40)),
            sched_dep: 1_357_000_000 + number / 4 + seeded.below(3_000),
            broken: seeded.below(50) == 0,
        },
        id: format!("e{}", seeded.below(30)),
        amount: (seeded.below(30) != 0).then(|| seeded.below(1_000)),
    };
    (first..first + count).map(event).collect()
}

impl Mixed {
    /// The same with one entity for both: everything of it can stand in one partition.
    pub fn by_carrier(self) -> Mixed {
        Mixed { id: self.flight.carrier.clone(), ..self }
    }

    /// As fields of an entry.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.flight.fields().to_vec();
        fields.extend([("number", self.flight.number.to_string()), ("id", self.id.clone())]);
        match self.amount {
            Some(amount) => fields.push(("amount", amount.to_string())),
            None => fields.push(("action", "reject".into())),
        }
        fields
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        Value::Object(self.fields().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
    }
}

/// The configuration of a host with both transforms on the stream `events`; `store` and `stream` are the rest of their sections.
pub fn config(store: &str, stream: &str) -> String {
    config_with(store, stream, "")
}

/// The same over a stream that is split by carrier, which then is the entity of both.
pub fn partitioned_config(store: &str, stream: &str, count: u32) -> String {
    config_with(store, &format!("{stream}\npartitions = {count}\npartition_by = [\"carrier\"]"), "inputs.id.from = \"carrier\"\n")
}

/// The same with the stream `counts`, described by `counts`, to which the fold emits what it returns, and a second fold over that, which is keyed by the count: how many
/// entities have come to it.
pub fn chained_config(store: &str, stream: &str, counts: &str) -> String {
    let config = config_with(store, stream, "emit = \"counts\"\n");
    format!(
        "{config}\n[streams.counts]\nbatch_events_max = 32\n{counts}\n\n[transforms.by_count]\nstream = \"counts\"\ncomponent = \"{}\"\n\
         limits = {{ deadline_ms = 10000 }}\ninputs.id.from = \"seen\"\ninputs.amount.from = \"total\"\n\
         aggregations = [{{ feature = \"n\", column = \"seen\", function = \"count\" }}]\n",
        tally("conformance-tally").display()
    )
}

/// The fold's file, in its first or second version.
pub fn tally(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(format!("target/components/{name}.wasm"))
}

/// A component with a section that means nothing: another version that does the same.
pub fn version(transform: &str, number: u8) -> Vec<u8> {
    let file = if transform == "carrier" { flights::component() } else { tally("conformance-tally") };
    let mut bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; `make plugins` builds it", file.display()));
    bytes.extend_from_slice(&[0, 3, 1, b'v', number]);
    bytes
}

fn config_with(store: &str, stream: &str, of_tally: &str) -> String {
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.events]\nbatch_events_max = 32\n{stream}\n\n\
         [transforms.carrier]\nstream = \"events\"\ncomponent = \"{}\"\nlimits = {{ deadline_ms = 10000 }}\n\n\
         [transforms.tally]\nstream = \"events\"\ncomponent = \"{}\"\n{of_tally}limits = {{ deadline_ms = 10000 }}\naggregations = [\n\
         {{ feature = \"n\", column = \"seen\", function = \"count\" }},\n\
         {{ feature = \"n_10y\", column = \"seen\", function = \"count\", window_ms = 315360000000 }},\n\
         {{ feature = \"sum\", column = \"seen\", function = \"sum\" }},\n\
         {{ feature = \"most\", column = \"total\", function = \"max\" }},\n\
         {{ feature = \"last\", column = \"total\", function = {{ \"last_values\" = 3 }} }},\n]\n",
        flights::component().display(),
        tally("conformance-tally").display()
    )
}

/// What is served, or should be: by entity of each view, the values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// Of the carriers.
    pub carriers: BTreeMap<String, u64>,
    /// Of the fold: seen, total, both counts, sum, most, and the last totals.
    pub tallies: BTreeMap<String, Vec<Value>>,
}

/// What must come of events that were applied once each and in this order.
pub fn expected(events: &[Mixed]) -> Features {
    let mut totals: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in events {
        let Some(amount) = event.amount else { continue };
        let totals = totals.entry(&event.id).or_default();
        totals.push(totals.last().copied().unwrap_or_default() + amount);
    }
    let of = |(id, totals): (&str, Vec<u64>)| {
        let (n, last) = (totals.len() as u64, totals.last().copied().unwrap_or_default());
        let latest: Vec<f64> = totals.iter().rev().take(3).map(|total| *total as f64).collect();
        let sum = n * (n + 1) / 2;
        (id.to_owned(), vec![json!(n), json!(last as f64), json!(n), json!(n), json!(sum), json!(last as f64), json!(latest)])
    };
    Features { carriers: flights::oracle(events.iter().map(|event| &event.flight)), tallies: totals.into_iter().map(of).collect() }
}

/// What a host serves for the entities of these features; nothing while it cannot.
pub fn served(host: &Host, of: &Features) -> Features {
    let ask = |features: &[&str], name: &str, keys: Vec<&String>| {
        let entities: Vec<Value> = keys.into_iter().map(|key| json!({name: key})).collect();
        if entities.is_empty() {
            return Vec::new();
        }
        let body = json!({"features": features, "entities": entities}).to_string();
        let Ok((200, mut answer)) = host.post("/v1/features", &body) else { return Vec::new() };
        let results = answer["results"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let one = |mut result: Value| (result["entity"][name].as_str().unwrap_or_default().to_owned(), result["values"].take());
        results.into_iter().map(one).collect()
    };
    let carriers = ask(&["carrier:dep_delay_min"], "carrier", of.carriers.keys().collect());
    let features = ["seen", "total", "n", "n_10y", "sum", "most", "last"].map(|name| format!("tally:{name}"));
    let tallies = ask(&features.each_ref().map(String::as_str), "id", of.tallies.keys().collect());
    Features {
        carriers: carriers.into_iter().filter_map(|(carrier, values)| Some((carrier, values[0].as_f64()? as u64))).collect(),
        tallies: tallies.into_iter().filter_map(|(id, mut values)| Some((id, std::mem::take(values.as_array_mut()?)))).collect(),
    }
}

impl Features {
    /// What differs from what was expected, for people.
    pub fn differing(&self, expected: &Features) -> Vec<String> {
        let carriers = expected.carriers.iter().filter(|(carrier, value)| self.carriers.get(*carrier) != Some(value));
        let carriers = carriers.map(|(carrier, value)| format!("{carrier}: {:?} instead of {value}", self.carriers.get(carrier)));
        let tallies = expected.tallies.iter().filter(|(id, values)| self.tallies.get(*id) != Some(values));
        let tallies = tallies.map(|(id, values)| format!("{id}: {:?} instead of {values:?}", self.tallies.get(id)));
        carriers.chain(tallies).collect()
    }
}

/// The dead letters that must be there: transform and number of the event.
pub fn letters(events: &[Mixed]) -> BTreeSet<(String, u64)> {
    let broken = events.iter().filter(|event| event.flight.broken).map(|event| ("carrier".to_owned(), event.flight.number));
    let refused = events.iter().filter(|event| event.amount.is_none()).map(|event| ("tally".to_owned(), event.flight.number));
    broken.chain(refused).collect()
}

/// The dead letters that a host shows.
pub fn shown_letters(host: &Host) -> BTreeSet<(String, u64)> {
    let Ok((200, answer)) = host.get("/v1/dead-letters?limit=10000") else { return BTreeSet::new() };
    let one = |letter: &Value| {
        let text = letter["event"].to_string();
        let number = text.split("number").nth(1)?.chars().skip_while(|sign| !sign.is_ascii_digit()).take_while(char::is_ascii_digit);
        Some((letter["transform"].as_str()?.to_owned(), number.collect::<String>().parse().ok()?))
    };
    answer["dead_letters"].as_array().map(|letters| letters.iter().filter_map(one).collect()).unwrap_or_default()
}
