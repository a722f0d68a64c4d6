//! Transforms that come, go and change while events flow: every event reaches every transform that is in force, once.

use gristmill_tests::flights::{Flight, component};
use gristmill_tests::host::{Host, wait_for};
use serde_json::{Value, json};

/// Flights of as many carriers, so that each event leaves a trace of its own.
fn distinct(first: u64, count: u64) -> Vec<Flight> {
    let flight = |number| Flight { number, carrier: format!("C{number}"), sched_dep: 1_357_000_000 + number, broken: false };
    (first..first + count).map(flight).collect()
}

fn post(host: &Host, flights: &[Flight]) {
    for chunk in flights.chunks(1_000) {
        let lines: Vec<String> = chunk.iter().map(|flight| flight.json().to_string()).collect();
        let (status, answer) = host.post("/v1/streams/flights/events", &lines.join("\n")).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
}

/// Of how many of the flights' carriers the view has a row.
fn present(host: &Host, view: &str, flights: &[Flight]) -> usize {
    let entities: Vec<Value> = flights.iter().map(|flight| json!({"carrier": flight.carrier})).collect();
    let body = json!({"features": [format!("{view}:dep_delay_min")], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return 0 };
    answer["results"].as_array().unwrap().iter().filter(|result| result["values"][0].is_number()).count()
}

fn config(transforms: &[&str]) -> String {
    let mut config = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.flights]\nbatch_events_max = 16\n".to_owned();
    for name in transforms {
        config += &format!("\n[transforms.{name}]\ncomponent = \"{}\"\n", component().display());
    }
    config
}

#[test]
fn what_waited_in_a_stream_goes_to_every_transform_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config(&[])).unwrap();
    let flights = distinct(0, 5_000);
    post(&host, &flights);
    host.kill();
    let host = Host::start(folder.path(), &config(&["a", "b", "c"])).unwrap();
    for view in ["a", "b", "c"] {
        wait_for("the stream to be read", || (host.metric("gristmill_entries_settled_total") >= flights.len() as f64).then_some(()));
        assert_eq!(present(&host, view, &flights), flights.len(), "view {view}");
    }
    host.stop();
}

#[test]
fn a_stream_taken_up_at_its_end_keeps_what_comes_while_the_host_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (distinct(0, 100), distinct(100, 100));
    let bare = config(&[]).replace("batch_events_max", "start = \"end\"\nbatch_events_max");
    let whole = config(&["a"]).replace("batch_events_max", "start = \"end\"\nbatch_events_max");
    let host = Host::start(folder.path(), &bare).unwrap();
    post(&host, &before);
    host.stop();
    let host = Host::start(folder.path(), &whole).unwrap();
    wait_for("the host to be ready", || (host.get("/readyz").ok()?.0 == 200).then_some(()));
    host.kill();
    // As if the host had been killed after it took these and before it came to them.
    let host = Host::start(folder.path(), &bare).unwrap();
    post(&host, &after);
    host.kill();
    let host = Host::start(folder.path(), &whole).unwrap();
    wait_for("what came after the end", || (present(&host, "a", &after) == after.len()).then_some(()));
    assert_eq!(present(&host, "a", &before), 0);
    host.stop();
}

/// The component with a section that means nothing: another version that does the same.
fn version(number: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(component()).unwrap();
    bytes.extend_from_slice(&[0, 3, 1, b'v', number]);
    bytes
}

#[test]
fn versions_put_into_the_watched_folder_while_events_flow_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("watched");
    std::fs::create_dir(&watched).unwrap();
    let put = |bytes: &[u8]| {
        std::fs::write(watched.join("aside"), bytes).unwrap();
        std::fs::rename(watched.join("aside"), watched.join("a.wasm")).unwrap();
    };
    put(&version(0));
    let config = config(&[]).replace("data_folder", "transforms_folder = \"watched\"\ndata_folder");
    let host = Host::start(folder.path(), &config).unwrap();
    let mut flights = Vec::new();
    let mut flow = |until: &dyn Fn() -> bool| {
        let mut last = false;
        // Once more after the condition holds, so that the version it is about has something to do.
        while !last {
            last = until();
            let more = distinct(flights.len() as u64, 50);
            post(&host, &more);
            flights.extend(more);
        }
    };
    for number in 1..=5 {
        put(&version(number));
        flow(&|| host.metric("gristmill_swaps_total") == f64::from(number) + 1.0);
        put(b"no component");
        flow(&|| host.metric("gristmill_refused_components_total") == f64::from(number));
    }
    wait_for("everything to be settled", || (host.metric("gristmill_entries_settled_total") >= flights.len() as f64).then_some(()));
    for chunk in flights.chunks(10_000) {
        assert_eq!(present(&host, "a", chunk), chunk.len());
    }
    assert_eq!(host.metric("gristmill_rows_committed_total"), flights.len() as f64);
    assert_eq!(host.metric("gristmill_dead_letters_total"), 0.0);
    host.stop();
}

#[test]
fn a_stream_waits_for_a_pushed_transform_that_cannot_be_put_into_force_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config(&["a"])).unwrap();
    let (status, pushed) = host.put("/v1/transforms/b", &version(1)).unwrap();
    assert_eq!(status, 200);
    host.stop();
    let kept = folder.path().join(format!("data/components/{}.wasm", pushed["component"].as_str().unwrap()));
    assert!(kept.exists());
    std::fs::write(kept, b"damaged").unwrap();
    let host = Host::start(folder.path(), &config(&["a"])).unwrap();
    let flights = distinct(0, 100);
    post(&host, &flights);
    let (status, readiness) = host.get("/readyz").unwrap();
    assert!(status == 503 && readiness.to_string().contains("its stream waits"), "{readiness}");
    assert_eq!(host.put("/v1/transforms/b", &version(2)).unwrap().0, 200);
    for view in ["a", "b"] {
        wait_for("every event in every view", || (present(&host, view, &flights) == flights.len()).then_some(()));
    }
    assert_eq!(host.get("/readyz").unwrap().0, 200);
    host.stop();
}
