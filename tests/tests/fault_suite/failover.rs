//! A server dies and its replica takes its place, with less than the server had: replication does not wait. What is lost is lost to the stream; the features are those
//! of what was applied, and the host says what it noticed.

use std::collections::BTreeMap;

use gristmill_tests::fault_world::{copy_folder, wait_gently};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{DEADLINE, Host};
use gristmill_tests::mixed::{self, Features, Mixed};
use gristmill_tests::proxy::Proxy;
use gristmill_tests::redis_server::RedisServer;

use crate::compiled;

/// A server and its replica, and the way of the host to the one in charge.
struct Pair {
    master: RedisServer,
    replica: RedisServer,
    proxy: Proxy,
}

impl Pair {
    fn start() -> Pair {
        let master = RedisServer::start();
        let replica = RedisServer::start();
        let _: String = replica.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        wait_gently("the replica to follow", DEADLINE, || {
            replica.run::<String>(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        })
        .unwrap();
        let proxy = Proxy::before(master.port());
        Pair { master, replica, proxy }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.proxy.port())
    }

    /// The replica does nothing any more with what it hears.
    fn fall_behind(&self) {
        self.replica.signal("STOP");
    }

    /// And hears nothing any more.
    fn cut_off(&self) {
        let _: i64 = self.master.run(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// The server dies, and the replica takes over with what it has.
    fn fail_over(mut self) -> (RedisServer, Proxy) {
        self.master.kill();
        self.replica.signal("CONT");
        let _: String = self.replica.run(&["REPLICAOF", "NO", "ONE"]);
        self.proxy.lead_to(self.replica.port());
        self.proxy.cut();
        (self.replica, self.proxy)
    }
}

fn add(server: &RedisServer, events: &[Mixed]) {
    let mut pipe = redis::pipe();
    for event in events {
        pipe.cmd("XADD").arg("events").arg("*").arg(event.fields()).ignore();
    }
    pipe.query::<()>(&mut server.connection()).unwrap();
}

fn in_stream(server: &RedisServer, all: &[Mixed]) -> Vec<Mixed> {
    let entries: Vec<(String, BTreeMap<String, String>)> = server.run(&["XRANGE", "events", "-", "+"]);
    entries.iter().map(|(_, fields)| all[fields["number"].parse::<usize>().unwrap()].clone()).collect()
}

/// Of these the replica may hear the first half.
const BEHIND: u64 = 4_000;

/// Adds events, some of which the replica never hears of; the host applies them all. Returns everything that was added.
fn lose_the_tail(pair: &Pair, host: &Host, seeded: &mut Seeded) -> Vec<Mixed> {
    let mut all = mixed::events(seeded, 0, 2_000);
    add(&pair.master, &all);
    wait_gently("the first events", DEADLINE, || (host.metric("gristmill_entries_settled_total") >= 2_000.0).then_some(())).unwrap();
    wait_gently("the replica to have them", DEADLINE, || (pair.replica.run::<u64>(&["XLEN", "events"]) == 2_000).then_some(())).unwrap();
    pair.fall_behind();
    let more = mixed::events(seeded, 2_000, BEHIND);
    let (first, second) = more.split_at(more.len() / 2);
    add(&pair.master, first);
    pair.cut_off();
    add(&pair.master, second);
    all.extend(more);
    wait_gently("all events", DEADLINE, || (host.metric("gristmill_entries_settled_total") >= all.len() as f64).then_some(())).unwrap();
    all
}

fn wait_for(host: &Host, expected: &Features) {
    let mut served = Features::default();
    let equal = wait_gently("the features", DEADLINE, || {
        served = mixed::served(host, expected);
        (served == *expected).then_some(())
    });
    equal.unwrap_or_else(|wrong| panic!("{wrong}: {:?}", served.differing(expected)));
}

fn larger(config: String) -> String {
    config.replace("batch_events_max = 32", "batch_events_max = 1000")
}

#[test]
fn stream_and_store_fail_over_together() {
    for (place, seed) in [("acknowledge", 81), ("checkpoint", 82)] {
        let (pair, folder, mut seeded) = (Pair::start(), tempfile::tempdir().unwrap(), Seeded(seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let url = pair.url();
        let stream = format!("type = \"redis_streams\"\nurl = \"{url}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100");
        let config = larger(mixed::config(&format!("type = \"redis\"\nurl = \"{url}\"\nlease_ms = 1000"), &stream));
        let host = Host::start(folder.path(), &config).unwrap();
        let mut all = lose_the_tail(&pair, &host, &mut seeded);
        let (server, _proxy) = pair.fail_over();
        let left = in_stream(&server, &all).len();
        assert!((2_000..all.len()).contains(&left), "{left} of {} events are left: the failover lost some", all.len());
        let more = mixed::events(&mut seeded, all.len() as u64, 500);
        add(&server, &more);
        all.extend(more);
        // What the replica has is what the server had at one moment, of stream and store alike.
        wait_for(&host, &mixed::expected(&in_stream(&server, &all)));
        wait_gently("the loss to be shown", DEADLINE, || (host.metric("gristmill_places_lost_total") >= 1.0).then_some(())).unwrap();
        host.stop();
    }
}

/// The store is elsewhere and has it all. What comes back after the failover was applied before, and counts once.
#[test]
fn the_stream_fails_over_and_the_store_is_ahead_of_it() {
    for (place, seed) in [("acknowledge", 83), ("checkpoint", 84)] {
        let (pair, folder, mut seeded) = (Pair::start(), tempfile::tempdir().unwrap(), Seeded(seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let stream = format!("type = \"redis_streams\"\nurl = \"{}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100", pair.url());
        let config = larger(mixed::config("type = \"embedded\"", &stream));
        let host = Host::start(folder.path(), &config).unwrap();
        let mut all = lose_the_tail(&pair, &host, &mut seeded);
        wait_for(&host, &mixed::expected(&all));
        let (server, _proxy) = pair.fail_over();
        assert!(in_stream(&server, &all).len() < all.len(), "the failover lost some");
        let more = mixed::events(&mut seeded, all.len() as u64, 500);
        add(&server, &more);
        all.extend(more);
        wait_for(&host, &mixed::expected(&all));
        host.stop();
    }
}

/// It is the store that forgets, and the stream has acknowledged what it forgets.
#[test]
fn the_store_fails_over_and_what_it_has_lost_is_read_again() {
    for (place, seed) in [("acknowledge", 85), ("checkpoint", 86)] {
        let (pair, stream, folder, mut seeded) = (Pair::start(), RedisServer::start(), tempfile::tempdir().unwrap(), Seeded(seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let url = stream.url();
        let section = format!("type = \"redis_streams\"\nurl = \"{url}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100");
        let config = larger(mixed::config(&format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 1000", pair.url()), &section));
        let host = Host::start(folder.path(), &config).unwrap();
        let mut all = mixed::events(&mut seeded, 0, 1_500);
        let (before, after) = all.split_at(500);
        add(&stream, before);
        wait_gently("the first events", DEADLINE, || (host.metric("gristmill_entries_settled_total") >= 500.0).then_some(())).unwrap();
        wait_for(&host, &mixed::expected(before));
        pair.fall_behind();
        pair.cut_off();
        add(&stream, after);
        wait_for(&host, &mixed::expected(&all));
        wait_gently("all events", DEADLINE, || (host.metric("gristmill_entries_settled_total") >= 1_500.0).then_some(())).unwrap();
        let (_server, _proxy) = pair.fail_over();
        let more = mixed::events(&mut seeded, all.len() as u64, 500);
        add(&stream, &more);
        all.extend(more);
        wait_for(&host, &mixed::expected(&all));
        wait_gently("the loss to be shown", DEADLINE, || (host.metric("gristmill_places_lost_total") >= 1.0).then_some(())).unwrap();
        assert!(host.metric("gristmill_entries_settled_total") > 2_000.0, "some were settled twice");
        host.stop();
    }
}
