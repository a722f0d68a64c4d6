//! A failover that parts what is read from what is committed: connections that were there before stay with the server that was replaced.

use std::path::Path;

use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::proxy::Proxy;
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// Entities with a state, and with windows.
const IDS: i64 = 20;

fn send(host: &Host) {
    let events: Vec<Value> = (0..IDS).map(|id| json!({"id": format!("e{id}"), "amount": 1})).collect();
    assert_eq!(host.post("/v1/streams/events/events", &json!(events).to_string()).unwrap().0, 200);
}

/// What the fold has seen, what it has given, and what a window has counted.
fn wait_for_counts(host: &Host, many: u64) {
    let entities: Vec<Value> = (0..IDS).map(|id| json!({"id": format!("e{id}")})).collect();
    let body = json!({"features": ["tally:seen", "tally:total", "tally:n"], "entities": entities}).to_string();
    wait_for("every event to be counted once", || {
        let Ok((200, answer)) = host.post("/v1/features", &body) else { return None };
        let counts = |result: &Value| result["values"].as_array().unwrap().iter().all(|value| value.as_f64() == Some(many as f64));
        answer["results"].as_array().unwrap().iter().all(counts).then_some(())
    });
}

fn settled(host: &Host, batches: i64) {
    wait_for("the events to be settled", || (host.metric("gristmill_entries_settled_total") >= (batches * IDS) as f64).then_some(()));
}

/// A server, its replica, and what leads to whichever counts.
fn replicated() -> (RedisServer, RedisServer, Proxy) {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let _: String = second.run(&["REPLICAOF", "127.0.0.1", &first.port().to_string()]);
    let proxy = Proxy::before(first.port());
    (first, second, proxy)
}

fn start(folder: &Path, proxy: &Proxy) -> Host {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/components/conformance-tally.wasm");
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\nlease_ms = 20000\n\n[streams.events]\n\n\
         [transforms.tally]\nstream = \"events\"\ncomponent = \"{}\"\n\
         aggregations = [{{ feature = \"n\", column = \"seen\", function = \"count\" }}]\n",
        proxy.port(),
        component.display()
    );
    Host::start(folder, &config).unwrap()
}

fn wait_for_replica(first: &RedisServer) {
    wait_for("the replica to have everything", || (first.run::<i64>(&["WAIT", "1", "1000"]) == 1).then_some(()));
}

/// A host that has counted once, and whose address leads from now on to the replica, which takes writes of its own.
fn parted(folder: &Path) -> (RedisServer, RedisServer, Proxy, Host) {
    let (first, second, proxy) = replicated();
    let host = start(folder, &proxy);
    send(&host);
    wait_for_counts(&host, 1);
    wait_for_replica(&first);
    let _: String = second.run(&["REPLICAOF", "NO", "ONE"]);
    proxy.lead_to(second.port());
    (first, second, proxy, host)
}

/// The old server goes on as if nothing had happened, and queries of the host with it.
#[test]
fn no_state_is_made_of_what_a_replaced_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, _second, _proxy, host) = parted(folder.path());
    first.cut("gristmill-writer");
    for batch in 2..5 {
        send(&host);
        settled(&host, batch);
    }
    first.kill();
    wait_for_counts(&host, 4);
    host.stop();
}

/// The old server follows the new one, a little behind, and takes no writes.
#[test]
fn no_state_is_made_of_what_a_replica_answers_that_was_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, _proxy, host) = parted(folder.path());
    let _: String = first.run(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    for batch in 2..5 {
        send(&host);
        settled(&host, batch);
    }
    wait_for_counts(&host, 4);
    host.stop();
}
