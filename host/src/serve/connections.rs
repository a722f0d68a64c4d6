//! The connections that are open: how many, whose they are, and which of them give way when there are too many. A connection costs its client nothing, so
//! that places must not go to those who came first and then say nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::access::network;

/// How long one connection that was told to give way is waited for before the next one is told.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(100);

/// All that are open.
pub(super) struct Connections {
    all_max: usize,
    peer_max: usize,
    places: Arc<Semaphore>,
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    standings: HashMap<u64, Arc<Standing>>,
    /// Those of each peer that were not told to give way.
    of_peers: HashMap<IpAddr, usize>,
    next: u64,
    /// Second in which a refused peer was logged last: one line a second is enough.
    told: u64,
}

/// How one connection stands.
pub(super) struct Standing {
    peer: IpAddr,
    began: Instant,
    /// When it began to wait for its client, in nanoseconds since `began`; 0 while a request is in hand.
    idle_since: AtomicU64,
    has_asked: AtomicBool,
    is_leaving: AtomicBool,
    /// Whether its answer goes on for as long as there is something to tell.
    pub(super) is_endless: AtomicBool,
    leave: Notify,
}

/// A connection's place among the others, given back when dropped.
pub(super) struct Place {
    pub(super) standing: Arc<Standing>,
    number: u64,
    connections: Arc<Connections>,
    _place: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(all_max: usize, peer_max: usize) -> Connections {
        let places = Arc::new(Semaphore::new(all_max.min(Semaphore::MAX_PERMITS)));
        Connections { all_max, peer_max, places, began: Instant::now(), open: Mutex::default() }
    }

    /// A place for a connection of this peer, once there is one. Of all that wait for their clients, the one that has waited longest gives way; where none
    /// of the peer's own does and it has as many as it may, there is no place.
    pub(super) async fn place(self: &Arc<Connections>, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        self.admit(peer)?;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => loop {
                self.open().dismiss(None);
                let place = Arc::clone(&self.places).acquire_owned();
                if let Ok(place) = tokio::time::timeout(LEAVING_TIMEOUT, place).await {
                    break place.ok()?;
                }
            },
        };
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        *open.of_peers.entry(peer).or_default() += 1;
        let standing = Arc::new(Standing {
            peer,
            began: self.began,
            idle_since: AtomicU64::new(nanos(self.began)),
            has_asked: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_endless: AtomicBool::new(false),
            leave: Notify::new(),
        });
        open.standings.insert(number, Arc::clone(&standing));
        Some(Place { standing, number, connections: Arc::clone(self), _place: place })
    }

    /// Whether the peer may have another one, if need be in place of one of its own.
    fn admit(&self, peer: IpAddr) -> Option<()> {
        let mut open = self.open();
        if open.of_peers.get(&peer).is_none_or(|many| *many < self.peer_max) || open.dismiss(Some(peer)) {
            return Some(());
        }
        let second = self.began.elapsed().as_secs() + 1;
        if std::mem::replace(&mut open.told, second) != second {
            let max = self.peer_max;
            tracing::warn!(%peer, "refused a connection: its address has {max} in use, as many as `http.peer_connections_max` allows");
        }
        None
    }

    /// Completes when all have ended.
    pub(super) async fn ended(&self) {
        let all = u32::try_from(self.all_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Tells the connection that has waited longest for its client to give way, of one peer or of all; whether there was any.
    fn dismiss(&mut self, peer: Option<IpAddr>) -> bool {
        let is_free = |standing: &&Arc<Standing>| {
            let is_of_peer = peer.is_none_or(|peer| standing.peer == peer);
            is_of_peer && !standing.is_leaving.load(Ordering::Relaxed) && standing.idle_since.load(Ordering::Relaxed) > 0
        };
        let longest = self.standings.values().filter(is_free).min_by_key(|standing| standing.idle_since.load(Ordering::Relaxed));
        let Some(standing) = longest.cloned() else { return false };
        standing.is_leaving.store(true, Ordering::Relaxed);
        standing.leave.notify_one();
        self.forget(standing.peer);
        true
    }

    /// One less counts for this peer.
    fn forget(&mut self, peer: IpAddr) {
        if let Some(many) = self.of_peers.get_mut(&peer) {
            *many = many.saturating_sub(1);
            if *many == 0 {
                self.of_peers.remove(&peer);
            }
        }
    }
}

impl Standing {
    /// A request has come.
    pub(super) fn asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.idle_since.store(0, Ordering::Relaxed);
    }

    /// The request has an answer, which may be endless.
    pub(super) fn answered(&self, is_endless: bool) {
        self.is_endless.store(is_endless, Ordering::Relaxed);
        if !is_endless {
            self.idle_since.store(nanos(self.began), Ordering::Relaxed);
        }
    }

    /// Whether there was ever a request.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Completes when it is to give way.
    pub(super) async fn dismissed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.standings.remove(&self.number);
        if !self.standing.is_leaving.load(Ordering::Relaxed) {
            open.forget(self.standing.peer);
        }
    }
}

/// Nanoseconds since then; never 0.
fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}
