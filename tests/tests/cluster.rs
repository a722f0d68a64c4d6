//! Streams and store on a Redis Cluster: everything of a partition is in one slot.

use gristmill::model::cluster_slot;
use gristmill_tests::flights::flights;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::partitions::{add, config, settle, wait_for_shares};
use gristmill_tests::redis_cluster::RedisCluster;
use serde_json::json;

fn on_cluster(cluster: &RedisCluster, place: &str, count: u32) -> String {
    let url = cluster.url();
    let store = format!("type = \"redis\"\nurl = \"{url}\"\ncluster = true\nlease_ms = 1000");
    let stream =
        format!("type = \"redis_streams\"\nurl = \"{url}\"\ncluster = true\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100");
    config(&store, &stream, count)
}

#[test]
fn hosts_share_a_stream_on_a_cluster_and_take_over_from_a_killed_one() {
    for place in ["acknowledge", "checkpoint"] {
        let cluster = RedisCluster::start();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let config = on_cluster(&cluster, place, 6);
        let [killed, other] = folders.each_ref().map(|folder| Host::start(folder.path(), &config).unwrap());
        wait_for_shares(&[&killed, &other], &[3.0, 3.0]);
        let all = flights(31, 6_000);
        add(&mut cluster.connection(), &all[..3_000], 6);
        wait_for("the host to be at work", || (killed.metric("gristmill_entries_settled_total") > 100.0).then_some(()));
        killed.kill();
        add(&mut cluster.connection(), &all[3_000..], 6);
        settle(&other, &all);
        assert_eq!(other.metric("gristmill_entries_lost_total"), 0.0);
        assert_eq!(other.get("/readyz").unwrap().0, 200);
        // Acknowledging is part of the commit.
        let pending = |partition: u32| {
            let mut pending = redis::cmd("XPENDING");
            let key = format!("{{flights:{partition}}}");
            let (pending, ..): (u64, redis::Value, redis::Value, redis::Value) =
                pending.arg(key).arg("group").query(&mut cluster.connection()).unwrap();
            pending
        };
        assert_eq!((0..6).map(pending).sum::<u64>(), 0);
        // What is sent over HTTP comes where it belongs, on whichever node that is.
        let lines: Vec<String> = all[..200].iter().map(|flight| flight.json().to_string()).collect();
        assert_eq!(other.post("/v1/streams/flights/events", &lines.join("\n")).unwrap().0, 200);
        wait_for("those too", || (other.metric("gristmill_lag_entries") == 0.0).then_some(()));
        let (_, newest) = other.get("/v1/streams/flights/events?last=100").unwrap();
        assert_eq!(newest["events"].as_array().unwrap().len(), 100);
        let (_, letters) = other.get("/v1/dead-letters?limit=3").unwrap();
        let id = |letter: &serde_json::Value| {
            format!("flights/{}@{}/{}", letter["entry_id"].as_str().unwrap(), letter["partition"], letter["transform"].as_str().unwrap())
        };
        let ids: Vec<String> = letters["dead_letters"].as_array().unwrap().iter().map(id).collect();
        let (status, answer) = other.post("/v1/dead-letters/replay", &json!({"ids": ids}).to_string()).unwrap();
        assert_eq!((status, &answer["replayed"]), (200, &json!(3)), "{answer}");
        other.stop();
    }
}

#[test]
fn a_slot_moves_to_another_node_while_its_partition_is_worked_on() {
    let cluster = RedisCluster::start();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &on_cluster(&cluster, "acknowledge", 3)).unwrap();
    let all = flights(32, 4_000);
    let mut connection = cluster.connection();
    for (round, chunk) in all.chunks(1_000).enumerate() {
        add(&mut connection, chunk, 3);
        for partition in 0..3 {
            let slot = cluster_slot(format!("{{flights:{partition}}}").as_bytes());
            cluster.move_slot(slot, (cluster.owner(slot) + 1 + round % 2) % 3);
        }
    }
    settle(&host, &all);
    assert_eq!(host.metric("gristmill_entries_lost_total"), 0.0);
    host.stop();
}

#[test]
fn a_stream_without_partitions_has_no_place_on_a_cluster() {
    let cluster = RedisCluster::start();
    let folder = tempfile::tempdir().unwrap();
    let more =
        format!("partitions = 2\npartition_by = [\"carrier\"]\ntype = \"redis_streams\"\nurl = \"{}\"\ncluster = true", cluster.url());
    let config = format!("{}\n[streams.more]\n{more}\n", on_cluster(&cluster, "acknowledge", 2));
    let host = Host::start(folder.path(), &config).unwrap();
    let component = std::fs::read(gristmill_tests::flights::component()).unwrap();
    let (status, answer) = host.put("/v1/transforms/other?stream=elsewhere", &component).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("commit reaches no further than a partition"), "{answer}");
    // Nor is there a transaction from one partition to another.
    let (status, answer) = host.put("/v1/transforms/other?stream=flights&emit=more", &component).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("reaches no further than the slot of its own partition, where stream `more` is not"), "{answer}");
    host.stop();
}
