//! Where Redis is: one server, or a cluster of them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use tokio::sync::OnceCell;

use super::{Address, Commands, Connection, Error, Line, Reply};
use crate::model::{Location, cluster_slot};

/// Time to connect for queries, and for one answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries at a query that the cluster sends elsewhere, or whose node is gone.
const RETRIES: u32 = 2;

/// One server, or a cluster. Clones share what is known of it.
#[derive(Clone)]
pub struct Site {
    /// Several only of a cluster.
    addresses: Arc<Vec<Address>>,
    url: Arc<str>,
    cluster: Option<Arc<Cluster>>,
}

#[derive(Default)]
struct Cluster {
    /// The nodes that it had when it was last asked, for when those that were named are gone.
    nodes: Mutex<Vec<(String, u16)>>,
}

impl Site {
    /// Parses `redis://[user:password@]host[:port][/db]`, of a cluster several of them with commas between. The error does not repeat the
    /// text, which may hold a password.
    pub fn parse(url: &str, cluster: bool) -> Result<Site, String> {
        let parts: Vec<&str> = if cluster { url.split(',').map(str::trim).collect() } else { vec![url] };
        let addresses = parts.iter().map(|part| Address::parse(part)).collect::<Result<Vec<_>, _>>()?;
        if cluster && addresses.iter().any(|address| address.db != 0) {
            return Err("a cluster has no databases but 0; leave the database out".into());
        }
        Ok(Site { addresses: Arc::new(addresses), url: parts.join(",").into(), cluster: cluster.then(Arc::default) })
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// For comparing where a stream and a store are. Two clusters are the same if the same nodes are named.
    pub fn location(&self) -> Location {
        match self.addresses.as_slice() {
            [only] if self.cluster.is_none() => only.location(),
            _ => {
                let mut nodes: Vec<String> = self.addresses.iter().map(|address| format!("{:?}", address.location())).collect();
                nodes.sort();
                Location::Redis(format!("cluster {}", nodes.join(" ")))
            }
        }
    }

    /// A connection of its own to whoever has this key.
    pub async fn connect(&self, key: &str, name: &str) -> Result<Connection, Error> {
        let Some(cluster) = &self.cluster else {
            let only = self.addresses.first().ok_or_else(|| Error::Io("no address".into()))?;
            return Connection::open(only, name).await;
        };
        let owner = self.owner(cluster, cluster_slot(key.as_bytes())).await?;
        Connection::open(&owner, name).await
    }

    /// The node that has a slot, as the first one says that answers.
    async fn owner(&self, cluster: &Cluster, slot: u16) -> Result<Address, Error> {
        let first = self.addresses.first().ok_or_else(|| Error::Io("no address".into()))?;
        let known = cluster.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.into_iter().map(|(host, port)| Address { host, port, ..first.clone() });
        let mut failed = Error::Io("no node answers".into());
        for address in self.addresses.iter().cloned().chain(known) {
            match ask_for_slots(&address).await {
                Err(error) => failed = error,
                Ok(ranges) => {
                    let nodes = ranges.iter().map(|range| range.node.clone()).collect();
                    *cluster.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
                    let owner = ranges.into_iter().find(|range| (range.first..=range.last).contains(&i64::from(slot)));
                    let owner = owner.ok_or_else(|| Error::Server(format!("CLUSTERDOWN no node has slot {slot}")))?;
                    let (host, port) = owner.node;
                    // A node that does not know its own address leaves it out.
                    let host = if host.is_empty() { address.host } else { host };
                    return Ok(Address { host, port, ..first.clone() });
                }
            }
        }
        Err(failed)
    }

    /// Connections for queries, which are made when the first one is sent.
    pub fn queries(&self) -> Result<Queries, String> {
        let line = self.addresses.first().filter(|_| !self.is_cluster()).map(|only| Arc::new(Line::new(only.clone(), "gristmill-rows")));
        Ok(Queries { site: self.clone(), kind: Arc::new(ArcSwap::from_pointee(self.kind()?)), line })
    }

    fn kind(&self) -> Result<Kind, String> {
        if self.cluster.is_none() {
            let client = Client::open(&*self.url).map_err(|_| "not a Redis URL; write redis://HOST:PORT/DB".to_owned())?;
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(ANSWER_TIMEOUT))
                .set_number_of_retries(RETRIES as usize);
            let one = ConnectionManager::new_lazy_with_config(client, config).map_err(|error| error.to_string())?;
            return Ok(Kind::One(one));
        }
        let client = ClusterClientBuilder::new(self.url.split(','))
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(ANSWER_TIMEOUT)
            .retries(RETRIES)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Kind::Cluster(Box::new(ClusterQueries { client, connection: OnceCell::new() })))
    }
}

/// As it is shown: neither users nor passwords.
impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        out.write_str(&addresses.join(","))
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Slots that one node has.
struct Slots {
    first: i64,
    last: i64,
    node: (String, u16),
}

async fn ask_for_slots(address: &Address) -> Result<Vec<Slots>, Error> {
    let mut connection = Connection::open(address, "gristmill-slots").await?;
    let mut commands = Commands::default();
    commands.command(&[b"CLUSTER", b"SLOTS"]);
    connection.send(&commands).await?;
    let odd = || Error::Protocol("CLUSTER SLOTS answered something else");
    let Reply::Array(ranges) = connection.reply(CONNECT_TIMEOUT).await?.ok()? else { return Err(odd()) };
    ranges.into_iter().map(|range| slots(range).ok_or_else(odd)).collect()
}

/// First and last slot, then the nodes, the one that takes writes first: its host, its port and more.
fn slots(range: Reply) -> Option<Slots> {
    let Reply::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let (Some(Reply::Integer(first)), Some(Reply::Integer(last)), Some(Reply::Array(node))) = (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let mut node = node.into_iter();
    let host = match node.next()? {
        Reply::Bulk(host) => String::from_utf8(host).ok()?,
        Reply::Null => String::new(),
        Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) | Reply::Error(_) => return None,
    };
    let Reply::Integer(port) = node.next()? else { return None };
    Some(Slots { first, last, node: (host, u16::try_from(port).ok()?) })
}

/// Connections for queries and administration, to one server or to all nodes of a cluster. Clones share them.
#[derive(Clone)]
pub struct Queries {
    site: Site,
    kind: Arc<ArcSwap<Kind>>,
    /// For what is read more than anything else; on a cluster there is none.
    line: Option<Arc<Line>>,
}

enum Kind {
    One(ConnectionManager),
    Cluster(Box<ClusterQueries>),
}

struct ClusterQueries {
    client: ClusterClient,
    connection: OnceCell<ClusterConnection>,
}

impl ClusterQueries {
    async fn connect(&self) -> RedisResult<ClusterConnection> {
        self.connection.get_or_try_init(|| self.client.get_async_connection()).await.cloned()
    }
}

impl Queries {
    /// Asks whoever has this key something that does not name it.
    pub async fn ask_at<T: FromRedisValue>(&mut self, key: &[u8], command: &Cmd) -> RedisResult<T> {
        let kind = self.kind.load_full();
        let Kind::Cluster(cluster) = &*kind else { return command.query_async(self).await };
        let mut connection = cluster.connect().await?;
        let route = SingleNodeRoutingInfo::SpecificNode(Route::new(cluster_slot(key), SlotAddr::Master));
        Ok(T::from_redis_value(connection.route_command(command.clone(), RoutingInfo::SingleNode(route)).await?)?)
    }

    /// The connection for rows, where there is one server.
    pub fn line(&self) -> Option<&Line> {
        self.line.as_deref()
    }

    /// Leaves the connections that there are, to connect to whoever the addresses lead to now. Queries that are under way are answered by whom they were sent to.
    pub fn connect_anew(&self) {
        self.line.iter().for_each(|line| line.leave());
        match self.site.kind() {
            Ok(kind) => self.kind.store(Arc::new(kind)),
            Err(error) => tracing::warn!("cannot connect to {} anew: {error}", self.site),
        }
    }

    /// Looks at what a query has failed of: a server that has become another's replica keeps its connections, and will take nothing on them any more.
    pub fn look_at(&self, error: &RedisError) {
        let errors = error.clone().into_server_errors();
        if errors.iter().flat_map(|errors| errors.iter()).any(|(_, error)| error.kind() == Some(ServerErrorKind::ReadOnly)) {
            self.connect_anew();
        }
    }
}

impl ConnectionLike for Queries {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let kind = self.kind.load_full();
            match &*kind {
                Kind::One(one) => one.clone().req_packed_command(command).await,
                Kind::Cluster(cluster) => cluster.connect().await?.req_packed_command(command).await,
            }
        })
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let kind = self.kind.load_full();
            match &*kind {
                Kind::One(one) => one.clone().req_packed_commands(pipeline, offset, count).await,
                Kind::Cluster(cluster) => cluster.connect().await?.req_packed_commands(pipeline, offset, count).await,
            }
        })
    }

    fn get_db(&self) -> i64 {
        match &**self.kind.load() {
            Kind::One(one) => one.get_db(),
            Kind::Cluster(_) => 0,
        }
    }
}
