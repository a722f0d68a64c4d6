//! A real Redis Cluster of three nodes, and where a test wants them a replica of each: started on free ports in a temporary folder and stopped with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redis::cluster::{ClusterClient, ClusterConnection};
use tempfile::TempDir;

use crate::host::{signal, wait_for};

/// Times that a node is started, each on other ports, until it finds them free.
const STARTS_MAX: usize = 5;

/// Nodes that have all slots among them.
pub struct RedisCluster {
    nodes: Vec<Node>,
    _folder: TempDir,
}

struct Node {
    port: u16,
    bus: u16,
    folder: PathBuf,
    timeout_ms: u32,
    child: Option<Child>,
}

impl RedisCluster {
    /// Starts one of three nodes, and waits until all of them agree.
    pub fn start() -> RedisCluster {
        RedisCluster::start_with(0, 5_000)
    }

    /// The same with so many replicas of each node, of which one takes the place of a node that has been silent for so many milliseconds.
    pub fn start_with(replicas: usize, timeout_ms: u32) -> RedisCluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let count = 3 * (1 + replicas);
        let nodes: Vec<Node> = (0..count).map(|index| Node::start(folder.path().join(index.to_string()), timeout_ms)).collect();
        let cluster = RedisCluster { nodes, _folder: folder };
        let addresses = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let made = create.output().expect("redis-cli is installed with redis-server");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for index in 0..count {
            cluster.wait_until_whole(index);
        }
        cluster
    }

    /// Waits until a node knows of all others and, if it is a replica, has what its master has.
    pub fn wait_until_whole(&self, index: usize) {
        wait_for("the nodes to agree", || {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut self.try_node(index)?).ok()?;
            let replication = self.replication(index)?;
            let follows = replication.contains("role:master") || replication.contains("master_link_status:up");
            (info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{}", self.nodes.len())) && follows)
                .then_some(())
        });
    }

    /// Two of its nodes, as hosts are told them.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{},redis://127.0.0.1:{}", self.nodes[0].port, self.nodes[1].port)
    }

    /// A connection that follows the slots.
    pub fn connection(&self) -> ClusterConnection {
        ClusterClient::new(self.up()).and_then(|client| client.get_connection()).expect("the cluster answers")
    }

    /// The same, if the cluster answers; it tries nothing twice.
    pub fn try_connection(&self) -> Option<ClusterConnection> {
        ClusterClient::builder(self.up()).retries(0).build().and_then(|client| client.get_connection()).ok()
    }

    fn up(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().filter(|node| node.child.is_some()).map(|node| format!("redis://127.0.0.1:{}", node.port))
    }

    /// A connection to one node.
    pub fn node(&self, index: usize) -> redis::Connection {
        self.try_node(index).expect("the node answers")
    }

    fn try_node(&self, index: usize) -> Option<redis::Connection> {
        self.nodes.get(index)?.connection()
    }

    /// The node that has this slot.
    pub fn owner(&self, slot: u16) -> usize {
        wait_for("a node to have the slot", || self.owner_now(slot))
    }

    fn owner_now(&self, slot: u16) -> Option<usize> {
        let owns = |index: &usize| {
            let slots = self.try_node(*index).and_then(|mut node| redis::cmd("CLUSTER").arg("SLOTS").query(&mut node).ok());
            let slots: Vec<Vec<redis::Value>> = slots.unwrap_or_default();
            slots.into_iter().any(|range| {
                let [redis::Value::Int(first), redis::Value::Int(last), redis::Value::Array(node), ..] = range.as_slice() else {
                    return false;
                };
                (*first..=*last).contains(&slot.into()) && node.get(1) == Some(&redis::Value::Int(self.nodes[*index].port.into()))
            })
        };
        (0..self.nodes.len()).find(owns)
    }

    /// The replicas of a node.
    pub fn replicas(&self, of: usize) -> Vec<usize> {
        let id = self.id(of);
        let known: Vec<String> = redis::cmd("CLUSTER").arg("REPLICAS").arg(id).query(&mut self.node(of)).expect("its replicas");
        let port = |line: &String| line.split([' ', '@']).nth(1)?.rsplit(':').next()?.parse::<u16>().ok();
        let ports: Vec<u16> = known.iter().filter_map(port).collect();
        (0..self.nodes.len()).filter(|index| ports.contains(&self.nodes[*index].port)).collect()
    }

    fn id(&self, index: usize) -> String {
        redis::cmd("CLUSTER").arg("MYID").query(&mut self.node(index)).expect("its id")
    }

    /// Kills a node as a crash would.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.nodes[index].child.take() {
            child.kill().expect("a running child can be killed");
            child.wait().expect("a killed child can be waited for");
        }
    }

    /// Starts it again; it has nothing, and follows whoever took its place.
    pub fn start_again(&mut self, index: usize) {
        self.nodes[index].spawn();
    }

    /// Sends a signal to a node, by its name without `SIG`.
    pub fn signal(&self, index: usize, name: &str) {
        if let Some(child) = &self.nodes[index].child {
            signal(child.id(), name);
        }
    }

    /// Moves a slot with all its keys to another node, as an operator would.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let set = |index: usize, words: &[&str]| {
            let mut set = redis::cmd("CLUSTER");
            set.arg("SETSLOT").arg(slot).arg(words).query::<()>(&mut self.node(index)).expect("the slot is set");
        };
        let (id_from, id_to) = (self.id(from), self.id(to));
        set(to, &["IMPORTING", &id_from]);
        set(from, &["MIGRATING", &id_to]);
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
        let mut masters: Vec<usize> =
            (0..self.nodes.len()).filter(|index| *index != to && *index != from && self.is_master(*index)).collect();
        masters.insert(0, from);
        masters.insert(0, to);
        masters.into_iter().for_each(|index| set(index, &["NODE", &id_to]));
    }

    /// Whether a node is up and no replica.
    pub fn is_master(&self, index: usize) -> bool {
        self.replication(index).is_some_and(|replication| replication.contains("role:master"))
    }

    /// How far a node is in what was written to it and its replicas.
    pub fn offset(&self, index: usize) -> u64 {
        let replication = self.replication(index).unwrap_or_default();
        let line = replication.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        line.and_then(|offset| offset.trim().parse().ok()).unwrap_or_default()
    }

    fn replication(&self, index: usize) -> Option<String> {
        redis::cmd("INFO").arg("replication").query(&mut self.try_node(index)?).ok()
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Node {
    /// Starts one that answers. A port that was free may be somebody else's by the time that the node wants it: then it ends, and another begins.
    fn start(folder: PathBuf, timeout_ms: u32) -> Node {
        std::fs::create_dir(&folder).expect("a folder for the node");
        for _ in 0..STARTS_MAX {
            let free = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let (port, bus) = (free(), free());
            let [port, bus] = [port, bus].map(|listener| listener.local_addr().expect("its port").port());
            let mut node = Node { port, bus, folder: folder.clone(), timeout_ms, child: None };
            node.spawn();
            let is_up = wait_for("a node to answer or to end", || {
                let has_ended = node.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
                let answers = || redis::cmd("PING").query::<String>(&mut node.connection()?).ok().map(|_| true);
                if has_ended { Some(false) } else { answers() }
            });
            if is_up {
                return node;
            }
        }
        panic!("a node has ended {STARTS_MAX} times: {}", folder.display());
    }

    fn connection(&self) -> Option<redis::Connection> {
        self.child.as_ref()?;
        let wait = std::time::Duration::from_secs(2);
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let connection = client.get_connection_with_timeout(wait).ok()?;
        connection.set_read_timeout(Some(wait)).ok()?;
        Some(connection)
    }

    fn spawn(&mut self) {
        let folder: &Path = &self.folder;
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--cluster-port", &self.bus.to_string(), "--bind", "127.0.0.1"])
            .args(["--cluster-enabled", "yes", "--cluster-node-timeout", &self.timeout_ms.to_string()])
            .args(["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .args(["--dir", &folder.display().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed; `make test` installs it");
        self.child = Some(child);
    }
}
