//! How often and how much at once one client may ask: a client is a token, or a peer that presented none that is known.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use quick_cache::sync::Cache;

use crate::serve::error::ApiError;

/// Peers remembered at the same time; of more, those that have not asked for the longest time are forgotten, and begin anew.
const PEERS_MAX: usize = 16_384;
const SECOND_NANOS: u64 = 1_000_000_000;

/// All clients.
pub(super) struct Paces {
    /// Time that one request takes of a client's second, in nanoseconds; 0 for no bound.
    interval_nanos: u64,
    concurrency_max: usize,
    tokens: Vec<Arc<Pace>>,
    peers: Cache<IpAddr, Arc<Pace>>,
    began: Instant,
}

/// One client.
#[derive(Default)]
struct Pace {
    /// When all requests so far would have been due, had they come evenly: a token bucket in one word.
    due_nanos: AtomicU64,
    in_hand: AtomicUsize,
}

/// A request that is being answered.
pub(in crate::serve) struct Turn(Arc<Pace>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Paces {
    /// `None` when nothing is bounded.
    pub(super) fn new(requests_per_second_max: u64, concurrency_max: usize, tokens: usize) -> Option<Paces> {
        if requests_per_second_max == 0 && concurrency_max == 0 {
            return None;
        }
        Some(Paces {
            interval_nanos: SECOND_NANOS.checked_div(requests_per_second_max).unwrap_or(0),
            concurrency_max: if concurrency_max == 0 { usize::MAX } else { concurrency_max },
            tokens: (0..tokens).map(|_| Arc::default()).collect(),
            peers: Cache::new(PEERS_MAX),
            began: Instant::now(),
        })
    }

    pub(super) fn turn(&self, token: Option<usize>, peer: Option<IpAddr>) -> Result<Turn, ApiError> {
        let pace = match token.and_then(|token| self.tokens.get(token)) {
            Some(pace) => Arc::clone(pace),
            None => self.peer(peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        };
        let turn = Turn(pace);
        if turn.0.in_hand.fetch_add(1, Ordering::Relaxed) >= self.concurrency_max {
            return Err(ApiError::busy(format!(
                "this client has {} requests in hand already; wait for their answers",
                self.concurrency_max
            )));
        }
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        turn.0.take(now, self.interval_nanos).map_err(|wait_nanos| {
            let wait_secs = wait_nanos.div_ceil(SECOND_NANOS).max(1);
            ApiError::busy("this client asks more often than it may; come again later").retry_after(wait_secs)
        })?;
        Ok(turn)
    }

    fn peer(&self, peer: IpAddr) -> Arc<Pace> {
        match self.peers.get_or_insert_with(&network(peer), || Ok::<_, std::convert::Infallible>(Arc::default())) {
            Ok(pace) => pace,
            Err(never) => match never {},
        }
    }
}

/// Who a peer is taken for: whoever has one address of a network of IPv6 has all of it.
pub(in crate::serve) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

impl Pace {
    /// Takes one request's time out of a bucket that holds a second; how long to wait where there is not enough.
    fn take(&self, now: u64, interval: u64) -> Result<(), u64> {
        if interval == 0 {
            return Ok(());
        }
        let room = SECOND_NANOS.max(interval);
        let next = |due: u64| {
            let after = due.max(now).saturating_add(interval);
            if after - now > room { Err(after - now - room) } else { Ok(after) }
        };
        let mut due = self.due_nanos.load(Ordering::Relaxed);
        loop {
            let after = next(due)?;
            match self.due_nanos.compare_exchange_weak(due, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(changed) => due = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_second_and_fills_evenly() {
        let pace = Pace::default();
        let interval = SECOND_NANOS / 4;
        let taken = |now: u64| (0..10).take_while(|_| pace.take(now, interval).is_ok()).count();
        assert_eq!(taken(0), 4);
        assert_eq!(pace.take(0, interval), Err(interval));
        assert_eq!(taken(interval), 1);
        assert_eq!(taken(interval + 100 * SECOND_NANOS), 4, "what was not used is not saved up");
    }

    #[test]
    fn peers_are_told_apart_and_forgotten_when_there_are_too_many() {
        let paces = Paces::new(1, 0, 1).unwrap();
        let turn = |peer: &str| paces.turn(None, Some(peer.parse().unwrap())).is_ok();
        assert!(turn("10.0.0.1") && !turn("10.0.0.1") && !turn("::ffff:10.0.0.1") && turn("10.0.0.2"));
        assert!(turn("2001:db8::1") && !turn("2001:db8::2") && turn("2001:db8:1::1"));
        assert!(paces.turn(Some(0), None).is_ok() && paces.turn(Some(0), None).is_err());
        for peer in 0..100_000_u32 {
            let _ = paces.turn(None, Some(IpAddr::V4(peer.into())));
        }
        assert!(paces.peers.len() <= PEERS_MAX + 1);
    }

    #[test]
    fn turns_are_given_back() {
        let paces = Paces::new(0, 1, 1).unwrap();
        let turn = paces.turn(Some(0), None).unwrap();
        assert!(paces.turn(Some(0), None).is_err());
        drop(turn);
        assert!(paces.turn(Some(0), None).is_ok());
    }
}
