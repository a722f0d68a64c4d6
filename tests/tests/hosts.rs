//! Hosts that share a stream, and what holds them together: the lease, and the group.

use std::collections::BTreeSet;

use gristmill::conformance::guest::Guest;
use gristmill_tests::flights::{Flight, flights, oracle};
use gristmill_tests::flood::{add, broken, config, dead, features, group, redis_store, redis_stream, settle};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;

/// Doubles the key, and loops for ever on -1.
fn looping_on_one_key() -> Guest {
    let mut guest = Guest::doubling();
    let check = "(if (i64.eq (i64.load (local.get $at)) (i64.const -1)) (then (loop $forever (br $forever))))";
    guest.apply = guest.apply.replace("(i64.store (local.get $at) (i64.mul", &format!("{check} (i64.store (local.get $at) (i64.mul"));
    guest
}

#[test]
fn a_batch_may_take_longer_than_the_lease() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("guest.wasm"), looping_on_one_key().component().unwrap()).unwrap();
    let mut pipe = redis::pipe();
    for key in [1, 2, 3, 4, -1, 6, 7, 8, 9, -1, 11] {
        pipe.cmd("XADD").arg("events").arg("*").arg("key").arg(key);
    }
    pipe.query::<Vec<String>>(&mut server.connection()).unwrap();
    let url = server.url();
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\ntype = \"redis\"\nurl = \"{url}\"\nlease_ms = 100\n\n\
         [streams.events]\ntype = \"redis_streams\"\nurl = \"{url}\"\n\n[transforms.guest]\ncomponent = \"guest.wasm\"\nbisect_ms_max = 60000\n\
         limits = {{ deadline_ms = 150 }}\n"
    );
    let host = Host::start(folder.path(), &config).unwrap();
    wait_for("the batch to be committed", || (host.metric("gristmill_entries_settled_total") == 11.0).then_some(()));
    assert_eq!(host.metric("gristmill_dead_letters_total"), 2.0, "only the events at fault are given up");
    assert_eq!(host.metric("gristmill_restarts_total"), 0.0);
    host.stop();
}

/// Of two hosts one is killed in the middle of a flood; the other one finishes it. Both are configured alike.
fn one_of_two_is_killed(seed: u64, more: &str, wait_for_second: impl FnOnce(&Host)) {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&redis_store(&server), &format!("{}\n{more}", redis_stream(&server, "acknowledge")));
    let all = flights(seed, 40_000);
    let (first, second) = all.split_at(1_000);
    add(&server, first);
    let killed = Host::start(folders[0].path(), &config).unwrap();
    settle(&killed, first);
    let survivor = Host::start(folders[1].path(), &config).unwrap();
    wait_for_second(&survivor);
    add(&server, second);
    wait_for("the host to be in the middle of it", || (killed.metric("gristmill_entries_settled_total") > 3_000.0).then_some(()));
    killed.kill();
    finish(&server, &survivor, &all);
    survivor.stop();
}

fn finish(server: &RedisServer, survivor: &Host, all: &[Flight]) {
    wait_for("everything to be settled", || (group(server, "lag")? == "0" && group(server, "pending")? == "0").then_some(()));
    assert_eq!(features(survivor, &oracle(all)), oracle(all));
    let (dead, broken): (BTreeSet<String>, BTreeSet<String>) = (dead(survivor), broken(all));
    assert_eq!(dead, broken);
    assert_eq!(survivor.metric("gristmill_entries_lost_total"), 0.0);
}

#[test]
fn a_standby_takes_over_from_a_killed_host() {
    one_of_two_is_killed(10, "", |second| {
        wait_for("the second host to stand by", || {
            let (status, answer) = second.get("/readyz").ok()?;
            (status == 200 && answer.to_string().contains("standing_by")).then_some(())
        });
        assert_eq!(second.metric("gristmill_entries_read_total"), 0.0);
    });
}

#[test]
fn a_standby_has_dead_letters_replayed_by_the_host_at_work() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&redis_store(&server), &redis_stream(&server, "acknowledge"));
    let hosts = folders.each_ref().map(|folder| Host::start(folder.path(), &config).unwrap());
    add(&server, &[Flight { number: 1, carrier: "C1".into(), sched_dep: 1_357_000_000, broken: true }]);
    wait_for("the dead letter", || (dead(&hosts[0]).len() == 1 && dead(&hosts[1]).len() == 1).then_some(()));
    let told = hosts.each_ref().map(|host| host.get("/v1/streams").unwrap().1["streams"][0]["groups"][0]["partitions"][0].clone());
    assert!(told[0]["held_by"].is_string() && told[0]["held_by"] == told[1]["held_by"], "{told:?}");
    assert_ne!(told[0]["here"], told[1]["here"]);
    for host in &hosts {
        let answer = host.post("/v1/dead-letters/replay", "{}").unwrap();
        assert_eq!(answer, (200, serde_json::json!({"replayed": 1, "settled": 0, "still_dead": 1})));
    }
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn competing_hosts_finish_what_a_killed_one_left() {
    one_of_two_is_killed(11, "consumers = \"competing\"\nclaim_idle_ms = 500", |second| {
        wait_for("the second host to work", || (second.get("/readyz").ok()?.0 == 200).then_some(()));
    });
}

#[test]
fn a_host_that_slept_longer_than_its_lease_commits_nothing_more() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&redis_store(&server), &redis_stream(&server, "acknowledge"));
    let all = flights(12, 40_000);
    let hosts = folders.each_ref().map(|folder| Host::start(folder.path(), &config).unwrap());
    add(&server, &all);
    let working = wait_for("one to be in the middle of it", || {
        hosts.iter().position(|host| host.metric("gristmill_entries_settled_total") > 1_000.0)
    });
    let (sleeper, other) = (&hosts[working], &hosts[1 - working]);
    signal(sleeper, "-STOP");
    wait_for("the other one to take over", || (other.metric("gristmill_entries_settled_total") > 100.0).then_some(()));
    signal(sleeper, "-CONT");
    finish(&server, other, &all);
    wait_for("the sleeper to stand by", || sleeper.get("/readyz").ok()?.1.to_string().contains("standing_by").then_some(()));
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn a_server_that_may_evict_is_warned_of() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("guest.wasm"), Guest::doubling().component().unwrap()).unwrap();
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{}\n\n[transforms.guest]\ncomponent = \"guest.wasm\"\n",
        redis_store(&server)
    );
    let warned = |log: &std::path::Path| std::fs::read_to_string(log).unwrap().matches("set maxmemory-policy to noeviction").count();
    for (policy, warnings) in [("noeviction", 0), ("allkeys-lru", 1)] {
        let _: String = server.ask("CONFIG SET maxmemory 1gb");
        let _: String = server.ask(&format!("CONFIG SET maxmemory-policy {policy}"));
        let host = Host::start(folder.path(), &config).unwrap();
        wait_for("the stream to be worked on", || {
            let ready = host.get("/readyz").ok()?.1;
            ready["parts"].as_array()?.iter().any(|part| part["part"] == "stream events" && part["state"] == "running").then_some(())
        });
        host.stop();
        assert_eq!(warned(&folder.path().join("log")), warnings, "{policy}");
    }
}

fn signal(host: &Host, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &host.pid().to_string()]).status().unwrap().success());
}
