//! A Redis Cluster loses nodes, whose replicas take their place, and moves slots while events flow and hosts share the partitions. What a failover has forgotten it has
//! forgotten of stream and store alike, for they are in one slot: the features are those of the entries that are left, and the host says that it has noticed.

use std::collections::BTreeMap;

use gristmill::model::cluster_slot;
use gristmill_tests::fault_world::{copy_folder, wait_gently};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{DEADLINE, Host};
use gristmill_tests::mixed::{self, Features, Mixed};
use gristmill_tests::partitions::partition_of;
use gristmill_tests::redis_cluster::RedisCluster;
use tempfile::TempDir;

use crate::{compiled, number};

const PARTITIONS: u32 = 6;
/// Silence of a node after which its replica takes its place.
const TIMEOUT_MS: u32 = 1_000;
/// Schedules in one run.
const SCHEDULES: u64 = 2;

fn key(partition: u32) -> String {
    format!("{{events:{partition}}}")
}

fn slot(partition: u32) -> u16 {
    cluster_slot(key(partition).as_bytes())
}

fn config(cluster: &RedisCluster, place: &str) -> String {
    let url = cluster.url();
    let store = format!("type = \"redis\"\nurl = \"{url}\"\ncluster = true\nlease_ms = 1000");
    let stream = format!(
        "type = \"redis_streams\"\nurl = \"{url}\"\ncluster = true\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100\ndeliveries_max = 1000"
    );
    mixed::partitioned_config(&store, &stream, PARTITIONS)
}

/// Hosts on a cluster, and the events that were sent to it: those that arrived are in the streams.
struct World {
    cluster: RedisCluster,
    folders: Vec<TempDir>,
    hosts: Vec<Option<Host>>,
    config: String,
    seeded: Seeded,
    sent: Vec<Mixed>,
    log: Vec<String>,
}

impl World {
    fn start(seed: u64, place: &str, hosts: usize) -> World {
        let cluster = RedisCluster::start_with(1, TIMEOUT_MS);
        let config = config(&cluster, place);
        let folders: Vec<TempDir> = (0..hosts).map(|_| tempfile::tempdir().unwrap()).collect();
        let hosts = folders.iter().map(|folder| {
            copy_folder(compiled(), &folder.path().join("data/compile_cache"));
            Some(Host::start(folder.path(), &config).unwrap())
        });
        let (hosts, log) = (hosts.collect(), vec![format!("{place}, {} hosts", folders.len())]);
        World { cluster, folders, hosts, config, seeded: Seeded(seed), sent: Vec::new(), log }
    }

    fn up(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().flatten()
    }

    /// The sum over all hosts that are up.
    fn metric(&self, name: &str) -> f64 {
        self.up().map(|host| host.metric(name)).sum()
    }

    /// Sends events, each once; those of nodes that are down are gone.
    fn add(&mut self, count: u64) {
        let more = mixed::events(&mut self.seeded, self.sent.len() as u64, count).into_iter().map(Mixed::by_carrier);
        let more: Vec<Mixed> = more.collect();
        let mut connection = self.cluster.try_connection();
        for event in &more {
            let mut add = redis::cmd("XADD");
            add.arg(key(partition_of(&event.flight.carrier, PARTITIONS))).arg("*").arg(event.fields());
            if let Some(open) = &mut connection
                && add.query::<String>(open).is_err()
            {
                connection = self.cluster.try_connection();
            }
        }
        self.sent.extend(more);
    }

    /// The events that the streams have, in their order.
    fn left(&self) -> Vec<Mixed> {
        let mut connection = self.cluster.connection();
        let entries = |partition| -> Vec<(String, BTreeMap<String, String>)> {
            redis::cmd("XRANGE").arg(key(partition)).arg("-").arg("+").query(&mut connection).unwrap()
        };
        let all = (0..PARTITIONS).flat_map(entries);
        all.map(|(_, fields)| self.sent[fields["number"].parse::<usize>().unwrap()].clone()).collect()
    }

    /// A node dies, its replica takes its place, and it comes back as that one's replica.
    fn kill_node(&mut self) {
        let slot = slot(self.seeded.below(PARTITIONS.into()) as u32);
        let owner = self.cluster.owner(slot);
        self.log.push(format!("kill -9 node {owner}"));
        self.cluster.kill(owner);
        self.add(100);
        let next = self.cluster.owner(slot);
        assert_ne!(next, owner);
        self.cluster.start_again(owner);
        (0..6).for_each(|node| self.cluster.wait_until_whole(node));
    }

    fn move_slot(&mut self) {
        let slot = slot(self.seeded.below(PARTITIONS.into()) as u32);
        let owner = self.cluster.owner(slot);
        let others: Vec<usize> = (0..6).filter(|node| *node != owner && self.cluster.is_master(*node)).collect();
        let to = others[self.seeded.below(others.len() as u64) as usize];
        self.log.push(format!("slot {slot} moves from node {owner} to {to}"));
        self.cluster.move_slot(slot, to);
    }

    /// A host dies and comes back, or sleeps past its lease.
    fn disturb_host(&mut self) {
        let at = self.seeded.below(self.hosts.len() as u64) as usize;
        if self.seeded.below(2) == 0 {
            self.log.push(format!("kill -9 host {at}"));
            self.hosts[at].take().unwrap().kill();
            self.add(200);
            self.hosts[at] = Some(Host::start(self.folders[at].path(), &self.config).unwrap());
        } else {
            self.log.push(format!("host {at} sleeps"));
            self.hosts[at].as_ref().unwrap().signal("STOP");
            gristmill_tests::fault_world::last(std::time::Duration::from_millis(500 + self.seeded.below(1_500)));
            self.hosts[at].as_ref().unwrap().signal("CONT");
        }
    }

    /// The features and dead letters are those of the entries that are left.
    fn settle(&self) -> Result<(), String> {
        let events = self.left();
        let (expected, letters) = (mixed::expected(&events), mixed::letters(&events));
        let host = self.up().next().ok_or("no host is up")?;
        let mut served = Features::default();
        wait_gently("the features of the entries that are left", DEADLINE, || {
            served = mixed::served(host, &expected);
            (served == expected).then_some(())
        })
        .map_err(|wrong| format!("{wrong}: {:?}\n  after: {}", served.differing(&expected), self.log.join("; ")))?;
        wait_gently("the dead letters", DEADLINE, || (mixed::shown_letters(host) == letters).then_some(()))
            .map_err(|wrong| format!("{wrong}\n  after: {}", self.log.join("; ")))
    }
}

fn run(seed: u64) -> Result<(), String> {
    let place = ["acknowledge", "checkpoint"][(seed % 2) as usize];
    let mut world = World::start(seed, place, 2 + (seed / 2 % 2) as usize);
    for _ in 0..5 {
        let count = 200 + world.seeded.below(300);
        world.add(count);
        match world.seeded.below(5) {
            0 | 1 => world.kill_node(),
            2 | 3 => world.move_slot(),
            _ => world.disturb_host(),
        }
    }
    world.add(100);
    world.settle()?;
    for folder in &world.folders {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
    world.hosts.into_iter().flatten().for_each(Host::stop);
    Ok(())
}

#[test]
fn nodes_of_a_cluster_die_and_slots_move_while_events_flow() {
    let seeds = match number("GRISTMILL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("GRISTMILL_SCHEDULES").map_or(SCHEDULES, |many| many.div_ceil(4)),
    };
    let wrong: Vec<(u64, String)> = seeds
        .filter_map(|seed| {
            let started = std::time::Instant::now();
            let outcome = run(seed);
            eprintln!("GRISTMILL_SEED={seed}: {} in {:?}", outcome.as_ref().err().map_or("well", String::as_str), started.elapsed());
            outcome.err().map(|why| (seed, why))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The replica has not heard of the last events when it takes over, nor of what came of them.
#[test]
fn what_a_replica_never_heard_of_is_gone_from_stream_and_store_alike_and_told() {
    for (place, seed) in [("acknowledge", 61), ("checkpoint", 62)] {
        let mut world = World::start(seed, place, 2);
        world.add(600);
        wait_gently("the first events", DEADLINE, || (world.metric("gristmill_entries_settled_total") >= 600.0).then_some(())).unwrap();
        let owner = world.cluster.owner(slot(0));
        let [replica] = world.cluster.replicas(owner).try_into().unwrap();
        let mut master = world.cluster.node(owner);
        let so_far = world.cluster.offset(owner);
        wait_gently("the replica to have it all so far", DEADLINE, || (world.cluster.offset(replica) >= so_far).then_some(())).unwrap();
        world.cluster.signal(replica, "STOP");
        let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "replica"]).query(&mut master).unwrap();
        world.add(600);
        wait_gently("all events", DEADLINE, || (world.metric("gristmill_entries_settled_total") >= 1_200.0).then_some(())).unwrap();
        world.cluster.kill(owner);
        world.cluster.signal(replica, "CONT");
        wait_gently("the replica to take over", DEADLINE, || {
            let mut node = world.cluster.node(replica);
            let _ = redis::cmd("CLUSTER").arg(&["FAILOVER", "TAKEOVER"]).query::<String>(&mut node);
            world.cluster.is_master(replica).then_some(())
        })
        .unwrap();
        world.cluster.start_again(owner);
        (0..6).for_each(|node| world.cluster.wait_until_whole(node));
        let left = world.left().len();
        assert!((600..1_200).contains(&left), "{left} of 1,200 events are left: the failover lost some");
        world.add(300);
        world.settle().unwrap();
        wait_gently("the loss to be shown", DEADLINE, || (world.metric("gristmill_places_lost_total") >= 1.0).then_some(())).unwrap();
        // What was interned before is known to a host that starts now, whatever node forgot it.
        let host = world.hosts[0].take().unwrap();
        host.kill();
        world.hosts[0] = Some(Host::start(world.folders[0].path(), &world.config).unwrap());
        world.settle().unwrap();
        world.hosts.into_iter().flatten().for_each(Host::stop);
    }
}
