//! Whatever is killed, cut, destroyed or emptied: the features equal those of a run without faults, or the loss is counted.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_tests::flights::{Flight, Seeded, component, flights, oracle};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// Kills in one run.
const KILLS: u64 = 50;

fn config(store: &str, stream: &str) -> String {
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.flights]\nbatch_events_max = 16\n{stream}\n\n\
         [transforms.carrier]\ncomponent = \"{}\"\n",
        component().display()
    )
}

fn redis_store(server: &RedisServer) -> String {
    format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 2000", server.url())
}

fn redis_stream(server: &RedisServer, place: &str) -> String {
    format!("type = \"redis_streams\"\nurl = \"{}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100", server.url())
}

/// Appends the flights to the stream `flights`; their entry ids.
fn add(server: &RedisServer, flights: &[Flight]) -> Vec<String> {
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
fn group(server: &RedisServer, field: &str) -> Option<String> {
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg("flights").query(&mut server.connection()).ok()?;
    let value = groups.into_iter().next()?.remove(field)?;
    redis::from_redis_value(value).ok()
}

fn last_delivered(server: &RedisServer) -> Option<(u64, u64)> {
    let id = group(server, "last-delivered-id")?;
    let (ms, seq) = id.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

fn parse(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

/// Waits until the host has nothing left to do.
fn settle(host: &Host, flights: &[Flight]) {
    let expected = oracle(flights);
    wait_for("the features of a run without faults", || (features(host, &expected) == expected).then_some(()));
}

/// What the host serves for the carriers.
fn features(host: &Host, carriers: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let entities: Vec<Value> = carriers.keys().map(|carrier| json!({"carrier": carrier})).collect();
    let body = json!({"features": ["carrier:dep_delay_min"], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return BTreeMap::new() };
    let results = answer["results"].as_array().unwrap().iter();
    let served =
        results.filter_map(|result| Some((result["entity"]["carrier"].as_str()?.to_owned(), result["values"][0].as_f64()? as u64)));
    served.collect()
}

/// The numbers of the broken flights among the dead letters.
fn dead(host: &Host) -> BTreeSet<String> {
    let (status, answer) = host.get("/v1/dead-letters?limit=10000").unwrap();
    assert_eq!(status, 200, "{answer}");
    let delay = |letter: &Value| letter["event"].to_string().split("late-").nth(1)?.split(['"', '\\']).next().map(str::to_owned);
    answer["dead_letters"].as_array().unwrap().iter().filter_map(delay).collect()
}

fn broken(flights: &[Flight]) -> BTreeSet<String> {
    flights.iter().filter(|flight| flight.broken).map(|flight| flight.number.to_string()).collect()
}

/// Kills a host that reads a Redis stream again and again, each time after a few more batches, at whatever it is just doing.
fn killed_over_redis(store: &dyn Fn(&RedisServer) -> String, place: &str, seed: u64) {
    eprintln!("place {place}, seed {seed}");
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let flights = flights(seed, 60_000);
    let ids: Vec<(u64, u64)> = add(&server, &flights).iter().map(|id| parse(id)).collect();
    let config = config(&store(&server), &redis_stream(&server, place));
    let mut seeded = Seeded(seed);
    let mut reached = 0;
    for _ in 0..KILLS {
        let host = Host::start(folder.path(), &config).unwrap();
        let aim = reached + 16 * (1 + seeded.below(60)) as usize;
        wait_for("the host to come some batches further", || {
            let last = last_delivered(&server)?;
            reached = ids.partition_point(|id| *id <= last);
            (reached >= aim.min(ids.len())).then_some(())
        });
        host.kill();
    }
    assert!(reached < ids.len(), "the host was done before it was killed for the last time");
    let host = Host::start(folder.path(), &config).unwrap();
    settle(&host, &flights);
    wait_for("all dead letters", || (dead(&host).len() == broken(&flights).len()).then_some(()));
    assert_eq!(dead(&host), broken(&flights));
    wait_for("nothing pending", || (group(&server, "pending")? == "0").then_some(()));
    assert_eq!(features(&host, &oracle(&flights)), oracle(&flights));
    assert_eq!(host.metric("gristmill_entries_lost_total"), 0.0);
    host.stop();
}

#[test]
fn killed_with_redis_stream_and_redis_store_acknowledging() {
    killed_over_redis(&redis_store, "acknowledge", 1);
}

#[test]
fn killed_with_redis_stream_and_redis_store_by_checkpoint() {
    killed_over_redis(&redis_store, "checkpoint", 2);
}

#[test]
fn killed_with_redis_stream_and_embedded_store() {
    killed_over_redis(&|_| "type = \"embedded\"".into(), "acknowledge", 3);
}

#[test]
fn killed_with_embedded_stream_and_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("type = \"embedded\"", "type = \"embedded\"");
    let all = flights(4, 12_000);
    let mut chunks = all.chunks(40).collect::<Vec<_>>().into_iter().peekable();
    let mut seeded = Seeded(4);
    // What was sent when the host died may be in the stream or not, so it is sent again: the same event twice changes nothing.
    let mut sent: Vec<Flight> = Vec::new();
    for kill in 0..=KILLS {
        let host = Host::start(folder.path(), &config).unwrap();
        let posts = if kill == KILLS { u64::MAX } else { 1 + seeded.below(8) };
        for _ in 0..posts {
            let Some(chunk) = chunks.next() else { break };
            let lines: Vec<String> = chunk.iter().map(|flight| flight.json().to_string()).collect();
            let (status, answer) = host.post("/v1/streams/flights/events", &lines.join("\n")).unwrap();
            assert_eq!(status, 200, "{answer}");
            sent.extend_from_slice(chunk);
        }
        if kill < KILLS {
            assert!(chunks.peek().is_some(), "the events were used up before the last kill");
            host.kill();
        } else {
            settle(&host, &sent);
            wait_for("all dead letters", || (dead(&host).len() == broken(&sent).len()).then_some(()));
            assert_eq!(dead(&host), broken(&sent));
            host.stop();
        }
    }
}

#[test]
fn redis_restarts_and_connections_are_cut() {
    let mut server = RedisServer::start_persistent();
    let folder = tempfile::tempdir().unwrap();
    let all = flights(5, 9_000);
    let host = Host::start(folder.path(), &config(&redis_store(&server), &redis_stream(&server, "acknowledge"))).unwrap();
    let (first, rest) = all.split_at(3_000);
    let (second, third) = rest.split_at(3_000);
    add(&server, first);
    wait_for("some entries to be applied", || (host.metric("gristmill_entries_settled_total") > 100.0).then_some(()));
    server.kill();
    wait_for("the host to say that it is not ready", || (host.get("/readyz").ok()?.0 == 503).then_some(()));
    server.start_again();
    add(&server, second);
    for _ in 0..20 {
        let _: i64 = server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        add(&server, &[]);
    }
    add(&server, third);
    settle(&host, &all);
    wait_for("the host to be ready again", || (host.get("/readyz").ok()?.0 == 200).then_some(()));
    wait_for("all dead letters", || (dead(&host).len() == broken(&all).len()).then_some(()));
    assert_eq!(dead(&host), broken(&all));
    assert_eq!(host.metric("gristmill_entries_lost_total"), 0.0, "nothing was lost: the server keeps everything on disk");
    host.stop();
}

#[test]
fn a_destroyed_group_is_made_again_where_it_was() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let all = flights(6, 6_000);
    let host = Host::start(folder.path(), &config(&redis_store(&server), &redis_stream(&server, "acknowledge"))).unwrap();
    for chunk in all.chunks(1_500) {
        add(&server, chunk);
        let _: i64 = server.run(&["XGROUP", "DESTROY", "flights", "group"]);
    }
    settle(&host, &all);
    wait_for("everything to be settled", || (host.metric("gristmill_entries_settled_total") >= all.len() as f64).then_some(()));
    assert_eq!(dead(&host), broken(&all));
    host.stop();
}

#[test]
fn entries_trimmed_while_pending_are_counted_as_lost() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let all = flights(7, 20_000);
    add(&server, &all);
    let config = config(&redis_store(&server), &redis_stream(&server, "acknowledge"));
    let host = Host::start(folder.path(), &config).unwrap();
    wait_for("entries to be pending", || (group(&server, "pending")?.parse::<u64>().ok()? > 0).then_some(()));
    host.kill();
    let pending: u64 = wait_for("the group", || group(&server, "pending")?.parse().ok());
    let last = group(&server, "last-delivered-id").unwrap();
    let (ms, seq) = parse(&last);
    let trimmed: u64 = server.run(&["XTRIM", "flights", "MINID", &format!("{ms}-{}", seq + 1)]);
    assert!(trimmed > 0 && pending > 0, "{trimmed} trimmed, {pending} pending");
    let host = Host::start(folder.path(), &config).unwrap();
    wait_for("the rest to be settled", || (group(&server, "lag")? == "0" && group(&server, "pending")? == "0").then_some(()));
    wait_for("the loss to be counted", || (host.metric("gristmill_entries_lost_total") == pending as f64).then_some(()));
    host.stop();
}

#[test]
fn an_emptied_server_is_noticed_and_work_goes_on() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let before = flights(8, 2_000);
    let host = Host::start(folder.path(), &config(&redis_store(&server), &redis_stream(&server, "acknowledge"))).unwrap();
    add(&server, &before);
    settle(&host, &before);
    let _: String = server.run(&["FLUSHALL"]);
    let after = flights(9, 2_000);
    add(&server, &after);
    settle(&host, &after);
    assert!(host.metric("gristmill_restarts_total") + host.metric("gristmill_entries_lost_total") > 0.0, "the loss is counted");
    wait_for("the host to be ready again", || (host.get("/readyz").ok()?.0 == 200).then_some(()));
    host.stop();
}
