//! A real Redis Cluster of three nodes, started on free ports in a temporary folder and stopped with the test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::cluster::{ClusterClient, ClusterConnection};
use tempfile::TempDir;

use crate::host::wait_for;

/// Three nodes that have all slots among them.
pub struct RedisCluster {
    nodes: Vec<Node>,
    _folder: TempDir,
}

struct Node {
    port: u16,
    child: Child,
}

impl RedisCluster {
    /// Starts it, and waits until all nodes agree.
    pub fn start() -> RedisCluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes: Vec<Node> = (0..3).map(|index| start_node(&folder.path().join(index.to_string()))).collect();
        let cluster = RedisCluster { nodes, _folder: folder };
        for index in 0..3 {
            wait_for("a node to answer", || redis::cmd("PING").query::<String>(&mut cluster.try_node(index)?).ok());
        }
        let addresses = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let made = Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output();
        let made = made.expect("redis-cli is installed with redis-server");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for index in 0..3 {
            wait_for("the nodes to agree", || {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut cluster.try_node(index)?).ok()?;
                (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")).then_some(())
            });
        }
        cluster
    }

    /// Two of its nodes, as hosts are told them.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{},redis://127.0.0.1:{}", self.nodes[0].port, self.nodes[1].port)
    }

    /// A connection that follows the slots.
    pub fn connection(&self) -> ClusterConnection {
        let client = ClusterClient::new(self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port)));
        client.and_then(|client| client.get_connection()).expect("the cluster answers")
    }

    /// A connection to one node.
    pub fn node(&self, index: usize) -> redis::Connection {
        self.try_node(index).expect("the node answers")
    }

    fn try_node(&self, index: usize) -> Option<redis::Connection> {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.nodes[index].port)).ok()?.get_connection().ok()
    }

    /// The node that has this slot.
    pub fn owner(&self, slot: u16) -> usize {
        let owns = |index: &usize| {
            let slots: Vec<(u16, u16, redis::Value)> = redis::cmd("CLUSTER").arg("SLOTS").query(&mut self.node(*index)).expect("its slots");
            slots.into_iter().any(|(first, last, node)| {
                let redis::Value::Array(node) = node else { return false };
                (first..=last).contains(&slot) && node.get(1) == Some(&redis::Value::Int(self.nodes[*index].port.into()))
            })
        };
        (0..3).find(owns).expect("a node has the slot")
    }

    /// Moves a slot with all its keys to another node, as an operator would.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let ids: Vec<String> =
            (0..3).map(|index| redis::cmd("CLUSTER").arg("MYID").query(&mut self.node(index)).expect("its id")).collect();
        let set = |index: usize, words: &[&str]| {
            let mut set = redis::cmd("CLUSTER");
            set.arg("SETSLOT").arg(slot).arg(words).query::<()>(&mut self.node(index)).expect("the slot is set");
        };
        set(to, &["IMPORTING", &ids[from]]);
        set(from, &["MIGRATING", &ids[to]]);
        loop {
            let keys: Vec<String> =
                redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100).query(&mut self.node(from)).expect("keys");
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].port).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            migrate.query::<String>(&mut self.node(from)).expect("keys are moved");
        }
        for index in [to, from, 3 - to - from] {
            set(index, &["NODE", &ids[to]]);
        }
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

fn start_node(folder: &Path) -> Node {
    std::fs::create_dir(folder).expect("a folder for the node");
    let free = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let (port, bus) = (free(), free());
    let [port, bus] = [port, bus].map(|listener| listener.local_addr().expect("its port").port());
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string(), "--bind", "127.0.0.1", "--cluster-enabled", "yes"])
        .args(["--cluster-node-timeout", "5000", "--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .args(["--dir", &folder.display().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed; `make test` installs it");
    Node { port, child }
}
