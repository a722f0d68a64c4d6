//! The flood of flights over a stream that is split by carrier.

use std::collections::{BTreeMap, BTreeSet};

use crate::flights::{Flight, component, oracle};
use crate::flood::{broken, dead, features};
use crate::host::{Host, wait_for};

/// A host with the stream `flights` in this many partitions, small batches, and two transforms: the newest flight of each carrier, and how
/// many it had.
pub fn config(store: &str, stream: &str, count: u32) -> String {
    let component = component().display().to_string();
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.flights]\nbatch_events_max = 16\npartitions = {count}\n\
         partition_by = [\"carrier\"]\n{stream}\n\n[transforms.carrier]\ncomponent = \"{component}\"\n\n[transforms.counted]\ncomponent = \"{component}\"\n\
         aggregations = [{{ feature = \"flown\", column = \"dep_delay_min\", function = \"count\" }}]\n"
    )
}

/// The partition of an event, told anew: CRC16 as XMODEM has it, bit by bit.
pub fn partition_of(text: &str, count: u32) -> u32 {
    let crc = text.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    u32::from(crc) % count
}

/// Appends the flights where they belong, as a producer would that sends nothing through a host.
pub fn add(connection: &mut impl redis::ConnectionLike, flights: &[Flight], count: u32) {
    for flight in flights {
        let key = format!("{{flights:{}}}", partition_of(&flight.carrier, count));
        let mut add = redis::cmd("XADD");
        add.arg(key).arg("*").arg(&flight.fields());
        add.query::<String>(connection).unwrap();
    }
}

/// The same for a single server, faster.
pub fn add_at_once(connection: &mut redis::Connection, flights: &[Flight], count: u32) {
    for chunk in flights.chunks(1_000) {
        let mut pipe = redis::pipe();
        for flight in chunk {
            pipe.cmd("XADD").arg(format!("{{flights:{}}}", partition_of(&flight.carrier, count))).arg("*").arg(&flight.fields());
        }
        pipe.query::<Vec<String>>(connection).unwrap();
    }
}

/// How many flights that are not broken each carrier had.
pub fn counts(flights: &[Flight]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    flights.iter().filter(|flight| !flight.broken).for_each(|flight| *counts.entry(flight.carrier.clone()).or_default() += 1);
    counts
}

/// What the host serves as the number of flights of these carriers.
pub fn counted(host: &Host, carriers: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let entities: Vec<_> = carriers.keys().map(|carrier| serde_json::json!({"carrier": carrier})).collect();
    let body = serde_json::json!({"features": ["counted:flown"], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return BTreeMap::new() };
    let results = answer["results"].as_array().unwrap().iter();
    results.filter_map(|result| Some((result["entity"]["carrier"].as_str()?.to_owned(), result["values"][0].as_u64()?))).collect()
}

/// Waits until the host serves what a run without faults would serve: every event counted once, and all dead letters there.
pub fn settle(host: &Host, flights: &[Flight]) {
    let (newest, counts) = (oracle(flights), counts(flights));
    let mut seen = (BTreeMap::new(), BTreeMap::new());
    let started = std::time::Instant::now();
    while seen != (newest.clone(), counts.clone()) {
        assert!(started.elapsed() < std::time::Duration::from_secs(120), "served {seen:?}, expected {newest:?} and {counts:?}");
        seen = (features(host, &newest), counted(host, &counts));
    }
    let expected: BTreeSet<String> = broken(flights);
    wait_for("all dead letters", || (dead(host) == expected).then_some(()));
}

/// The partitions that the hosts work on, each.
pub fn held(hosts: &[&Host]) -> Vec<f64> {
    hosts.iter().map(|host| host.metric("gristmill_partitions_held")).collect()
}

/// Waits until the hosts have these numbers of partitions, in whatever order.
pub fn wait_for_shares(hosts: &[&Host], shares: &[f64]) {
    wait_for("the hosts to share the partitions", || {
        let mut held = held(hosts);
        held.sort_by(f64::total_cmp);
        (held == shares).then_some(())
    });
}
