//! Whatever is killed, cut, destroyed or emptied: the features equal those of a run without faults, or the loss is counted.

use std::collections::BTreeMap;

use gristmill_tests::flights::{Flight, Seeded, flights, oracle};
use gristmill_tests::flood::{add, broken, config, dead, features, group, redis_store, redis_stream, settle};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;

/// Kills in one run.
const KILLS: u64 = 50;

fn last_delivered(server: &RedisServer) -> Option<(u64, u64)> {
    let id = group(server, "last-delivered-id")?;
    let (ms, seq) = id.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

fn parse(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
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
fn killed_with_redis_stream_and_rows_in_feasts_layout() {
    killed_over_redis(&|server| redis_store(server).replace("\"redis\"", "\"feast_redis\""), "acknowledge", 10);
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

/// Nobody was there to read them, so nobody saw them go.
#[test]
fn entries_trimmed_while_the_host_was_down_are_counted_as_lost() {
    for (place, is_one) in [("acknowledge", true), ("acknowledge", false), ("checkpoint", true), ("checkpoint", false)] {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let store = if is_one { redis_store(&server) } else { "type = \"embedded\"".into() };
        let config = config(&store, &redis_stream(&server, place));
        let all = flights(20, 400);
        let host = Host::start(folder.path(), &config).unwrap();
        add(&server, &all[..100]);
        wait_for("the first entries", || (host.metric("gristmill_entries_settled_total") == 100.0).then_some(()));
        // What the host is counted by is written with the commit, or right after it.
        wait_for("the group to be moved along", || (group(&server, "lag")? == "0").then_some(()));
        host.kill();
        add(&server, &all[100..]);
        assert_eq!(server.run::<u64>(&["XTRIM", "flights", "MAXLEN", "50"]), 350);
        let host = Host::start(folder.path(), &config).unwrap();
        wait_for("the loss to be counted", || (host.metric("gristmill_entries_lost_total") > 0.0).then_some(()));
        assert_eq!(host.metric("gristmill_entries_lost_total"), 250.0, "{place}, one server: {is_one}");
        wait_for("what is left", || (host.metric("gristmill_entries_settled_total") == 50.0).then_some(()));
        host.stop();
    }
}

/// The same for one transform alone, which was paused.
#[test]
fn entries_trimmed_while_a_transform_is_paused_are_counted_as_lost() {
    for place in ["acknowledge", "checkpoint"] {
        let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let other = format!("\n[transforms.other]\ncomponent = \"{}\"\n", gristmill_tests::flights::component().display());
        let config = config(&redis_store(&server), &redis_stream(&server, place)) + &other;
        let all = flights(20, 400);
        let host = Host::start(folder.path(), &config).unwrap();
        add(&server, &all[..100]);
        wait_for("the first entries", || (host.metric("gristmill_entries_settled_total") == 100.0).then_some(()));
        assert_eq!(host.post("/v1/transforms/other/pause", "").unwrap().0, 200);
        add(&server, &all[100..]);
        wait_for("all entries", || (host.metric("gristmill_entries_settled_total") == 400.0).then_some(()));
        assert_eq!(server.run::<u64>(&["XTRIM", "flights", "MAXLEN", "50"]), 350);
        host.kill();
        let host = Host::start(folder.path(), &config).unwrap();
        assert_eq!(host.post("/v1/transforms/other/resume", "").unwrap().0, 200);
        wait_for("what is left", || (host.metric("gristmill_entries_settled_total") == 50.0).then_some(()));
        assert_eq!(host.metric("gristmill_entries_lost_total"), 250.0, "{place}");
        host.stop();
    }
}

/// As when a replica takes a server's place that has not heard of them, while rows are elsewhere: nothing else may get their numbers.
#[test]
fn schemas_that_the_server_has_lost_are_put_back_and_rows_are_read_as_what_they_are() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&redis_store(&server), &redis_stream(&server, "acknowledge"));
    let (before, host) = (flights(18, 1_000), Host::start(folders[0].path(), &config).unwrap());
    add(&server, &before);
    settle(&host, &before);
    let schemas: BTreeMap<String, String> = server.run(&["HGETALL", "gristmill:schemas"]);
    assert_eq!(server.run::<u64>(&["DEL", "gristmill:schemas", "gristmill:schema_ids"]), 2);
    // Before they are put back another host comes with a schema of its own.
    let other =
        Host::start(folders[1].path(), &format!("[host]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{}\n", redis_store(&server))).unwrap();
    let tutorial = std::fs::read(gristmill_tests::flights::prebuilt("tutorial")).unwrap();
    let (status, answer) = other.put("/v1/transforms/tutorial", &tutorial).unwrap();
    assert_eq!(status, 200, "{answer}");
    wait_for("the schemas to be put back", || {
        let now: BTreeMap<String, String> = server.run(&["HGETALL", "gristmill:schemas"]);
        schemas.iter().all(|(number, schema)| now.get(number) == Some(schema)).then_some(())
    });
    let after = flights(19, 1_000);
    add(&server, &after);
    let all: Vec<Flight> = before.into_iter().chain(after).collect();
    settle(&host, &all);
    host.stop();
    // Whoever has never seen them reads rows as what they are.
    let host = Host::start(folders[0].path(), &config).unwrap();
    settle(&host, &all);
    other.stop();
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
    wait_for("the loss to be counted", || (host.metric("gristmill_places_lost_total") >= 1.0).then_some(()));
    wait_for("the host to be ready again", || (host.get("/readyz").ok()?.0 == 200).then_some(()));
    host.stop();
}
