//! Which host works on which partition.
//!
//! Every host that takes part says so again and again, and each works out for itself, from the same list of hosts, who should have which
//! partition. Nobody decides, and nobody need agree: what a host may do is told by leases alone. So while two hosts know different lists, a
//! partition stands still for a moment at worst.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{BACKOFF_MAX, Pipeline, Stop};
use crate::online_store::{Attendant, Error, OnlineStore, Writers};

/// How often a host that is behind looks whether it has caught up.
const BEHIND_WAIT: Duration = Duration::from_millis(100);
/// Leases for which a host works on a partition that is another's turn, once it has found it abandoned.
const LEASES_FOR_OTHERS: u64 = 10;

/// Whose turn it is to work on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// This host's.
    Own,
    /// Another's. This host works on the partition only if nobody else does.
    Other,
    /// It is not known yet.
    Unknown,
}

/// What hosts share the partitions of.
pub struct Sharing {
    /// Where they find each other.
    pub store: Arc<dyn OnlineStore>,
    /// What they call it: the stream and the group.
    pub work: String,
    /// This host.
    pub host: String,
    /// How long a host is believed in that says nothing.
    pub lease_ms: u64,
}

impl Sharing {
    /// Keeps saying that this host takes part, and tells each partition whose turn it is, until `stop` turns true.
    pub async fn run(self, turns: Vec<watch::Sender<Turn>>, mut stop: watch::Receiver<bool>) {
        let mut known: Vec<Attendant> = Vec::new();
        loop {
            match self.attend(self.lease_ms).await {
                Ok(hosts) => {
                    let shown = |hosts: &[Attendant]| names(hosts).join(" ");
                    if shown(&hosts) != shown(&known) {
                        tracing::info!(work = self.work, hosts = shown(&hosts), "these hosts share the partitions");
                    }
                    known = hosts;
                    self.tell(&known, &turns);
                }
                // What is held goes on being held as long as its lease can be renewed.
                Err(error) => tracing::warn!(work = self.work, "cannot tell the other hosts that this one is there: {error}"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.until_next(&known)) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        if let Err(error) = self.attend(0).await {
            tracing::debug!(work = self.work, "could not tell the other hosts that this one goes: {error}");
        }
    }

    async fn attend(&self, remaining_ms: u64) -> Result<Vec<Attendant>, Error> {
        self.store.attend(&self.work, Attendant { host: self.host.clone(), remaining_ms }).await
    }

    fn tell(&self, hosts: &[Attendant], turns: &[watch::Sender<Turn>]) {
        let hosts = names(hosts);
        let assigned = assignment(&hosts, turns.len());
        for (partition, turn) in turns.iter().enumerate() {
            let now = match assigned.get(partition) {
                Some(host) if *host == self.host => Turn::Own,
                _ => Turn::Other,
            };
            turn.send_if_modified(|turn| std::mem::replace(turn, now) != now);
        }
    }

    /// A third of a lease; sooner when a host that has gone silent is to be forgotten.
    fn until_next(&self, known: &[Attendant]) -> Duration {
        let others = known.iter().filter(|attendant| attendant.host != self.host);
        let forgotten_ms = others.map(|attendant| attendant.remaining_ms + 1).min().unwrap_or(u64::MAX);
        Duration::from_millis((self.lease_ms / 3).min(forgotten_ms).max(10))
    }
}

fn names(hosts: &[Attendant]) -> Vec<&str> {
    hosts.iter().map(|attendant| attendant.host.as_str()).collect()
}

/// Completes when it is somebody else's turn, or this host's.
pub(super) async fn changed(turn: &mut Option<watch::Receiver<Turn>>) {
    let Some(turn) = turn else { return std::future::pending().await };
    if turn.changed().await.is_err() {
        // Nobody tells any more, because the host stops.
        std::future::pending::<()>().await;
    }
}

impl Pipeline {
    /// How to ask for the lease: at once where it is this host's turn, and else only for what is nobody's.
    pub(super) fn writers_now(&self, is_own: bool) -> Writers {
        match &self.writers {
            Writers::Single { holder, lease_ms } if !is_own => Writers::Waiting { holder: holder.clone(), lease_ms: *lease_ms },
            writers @ (Writers::Single { .. } | Writers::Waiting { .. } | Writers::Competing) => writers.clone(),
        }
    }

    /// Whether this host may work on the partition now, if the lease lets it.
    pub(super) fn may_work(&self) -> bool {
        let turn = self.turn.as_ref().map_or(Turn::Own, |turn| *turn.borrow());
        matches!(turn, Turn::Own | Turn::Other)
    }

    /// Completes when the partition is to be given up: when it becomes another host's turn, or, if it was that from the beginning and the
    /// other did not come, after some leases, for the other to be able to take it.
    pub(super) async fn turn_is_over(&self, is_own: bool) {
        let (Some(turn), Writers::Single { lease_ms, .. }) = (&self.turn, &self.writers) else { return std::future::pending().await };
        let mut turn = turn.clone();
        if is_own {
            if turn.wait_for(|turn| *turn != Turn::Own).await.is_err() {
                std::future::pending::<()>().await;
            }
        } else {
            let time = Duration::from_millis(lease_ms * LEASES_FOR_OTHERS);
            tokio::time::sleep(time).await;
        }
    }

    /// How long to wait after a session that ended only because the partition is another's; `None` where it ended for any other reason.
    ///
    /// A standby looks as often as the lease is renewed, however long it has waited, and at the moment at which the lease ends: it is to
    /// take over within the lease's time.
    pub(super) fn standby(&self, stop: &Stop) -> Option<Duration> {
        let often = self.renewal().min(BACKOFF_MAX);
        match stop {
            Stop::Store(Error::Held { remaining_ms, .. }) => Some(often.min(Duration::from_millis(remaining_ms.max(&10) + 2))),
            Stop::NotOurs => Some(often),
            Stop::Behind | Stop::Unknown(_) => Some(often.min(BEHIND_WAIT)),
            Stop::Store(_) | Stop::Source(_) | Stop::Build(_) | Stop::Interrupted(_) | Stop::Shutdown => None,
        }
    }
}

/// The host of each partition: all have the same number of them, give or take one, and when a host comes or goes few of the others'
/// partitions move. Each partition in turn goes to the host that its hash likes best among those that may have more.
fn assignment<'h>(hosts: &[&'h str], partitions: usize) -> Vec<&'h str> {
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    let (each, mut with_one_more) = (partitions / hosts.len().max(1), partitions % hosts.len().max(1));
    let mut assigned = Vec::with_capacity(partitions);
    for partition in 0..partitions {
        let share = |host: &str| shares.get(host).copied().unwrap_or(0);
        let may_have_more = |host: &&&'h str| share(host) < each || (share(host) == each && with_one_more > 0);
        let Some(host) = hosts.iter().filter(may_have_more).max_by_key(|host| liking(host, partition)).copied() else { break };
        let share = shares.entry(host).or_default();
        with_one_more -= usize::from(*share == each);
        *share += 1;
        assigned.push(host);
    }
    assigned
}

fn liking(host: &str, partition: usize) -> [u8; 32] {
    Sha256::new().chain_update(partition.to_be_bytes()).chain_update(host).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_few_partitions_move() {
        let names: Vec<String> = (0..7).map(|number| format!("host-{number}")).collect();
        let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
        for count in 1..=7 {
            for partitions in [1, 2, 3, 4, 8, 31, 256] {
                let assigned = assignment(&hosts[..count], partitions);
                assert_eq!(assigned.len(), partitions);
                let share = |host: &&str| assigned.iter().filter(|assigned| *assigned == host).count();
                let shares: Vec<usize> = hosts[..count].iter().map(share).collect();
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
            }
        }
        let (six, seven) = (assignment(&hosts[..6], 256), assignment(&hosts, 256));
        let moved = six.iter().zip(&seven).filter(|(before, after)| before != after).count();
        assert!(moved < 256 / 3, "{moved} of 256 partitions move when a seventh host comes");
        assert_eq!(assignment(&[], 3), Vec::<&str>::new());
    }
}
