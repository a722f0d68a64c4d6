//! A host, a flood of flights, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::flights::{Flight, component, oracle};
use crate::host::{Host, wait_for};
use crate::redis_server::RedisServer;

/// A host with the stream `flights`, small batches and the transform `carrier`; `store` and `stream` are the rest of their sections.
pub fn config(store: &str, stream: &str) -> String {
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.flights]\nbatch_events_max = 16\n{stream}\n\n\
         [transforms.carrier]\ncomponent = \"{}\"\n",
        component().display()
    )
}

/// The section of a store in this server.
pub fn redis_store(server: &RedisServer) -> String {
    format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 2000", server.url())
}

/// The section of a stream in this server.
pub fn redis_stream(server: &RedisServer, place: &str) -> String {
    format!("type = \"redis_streams\"\nurl = \"{}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100", server.url())
}

/// Appends the flights to the stream `flights`; their entry ids.
pub fn add(server: &RedisServer, flights: &[Flight]) -> Vec<String> {
    let mut connection = server.connection();
    let mut ids = Vec::new();
    for chunk in flights.chunks(1_000) {
        let mut pipe = redis::pipe();
        for flight in chunk {
            pipe.cmd("XADD").arg("flights").arg("*").arg(&flight.fields());
        }
        ids.extend(pipe.query::<Vec<String>>(&mut connection).unwrap());
    }
    ids
}

/// A group's counter, by name.
pub fn group(server: &RedisServer, field: &str) -> Option<String> {
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg("flights").query(&mut server.connection()).ok()?;
    let value = groups.into_iter().next()?.remove(field)?;
    redis::from_redis_value(value).ok()
}

/// Waits until the host has nothing left to do.
pub fn settle(host: &Host, flights: &[Flight]) {
    let expected = oracle(flights);
    wait_for("the features of a run without faults", || (features(host, &expected) == expected).then_some(()));
}

/// What the host serves for the carriers.
pub fn features(host: &Host, carriers: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let entities: Vec<Value> = carriers.keys().map(|carrier| json!({"carrier": carrier})).collect();
    let body = json!({"features": ["carrier:dep_delay_min"], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return BTreeMap::new() };
    let results = answer["results"].as_array().unwrap().iter();
    let served =
        results.filter_map(|result| Some((result["entity"]["carrier"].as_str()?.to_owned(), result["values"][0].as_f64()? as u64)));
    served.collect()
}

/// The numbers of the broken flights among the dead letters.
pub fn dead(host: &Host) -> BTreeSet<String> {
    let (status, answer) = host.get("/v1/dead-letters?limit=10000").unwrap();
    assert_eq!(status, 200, "{answer}");
    let delay = |letter: &Value| letter["event"].to_string().split("late-").nth(1)?.split(['"', '\\']).next().map(str::to_owned);
    answer["dead_letters"].as_array().unwrap().iter().filter_map(delay).collect()
}

/// The numbers of the broken flights.
pub fn broken(flights: &[Flight]) -> BTreeSet<String> {
    flights.iter().filter(|flight| flight.broken).map(|flight| flight.number.to_string()).collect()
}
