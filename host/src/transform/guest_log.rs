//! What guests say while they run: a line each in the host's log, under the transform's name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bindings::gristmill::transform::log::{Host, Level};
use crate::model::one_line;

/// Longest line that is kept, in bytes, before control characters are escaped.
const LINE_BYTES_MAX: usize = 4_096;

/// The log of one transform, shared by its instances.
#[derive(Clone)]
pub(super) struct GuestLog {
    shared: Arc<Shared>,
}

struct Shared {
    transform: String,
    bucket: Mutex<Bucket>,
    dropped: AtomicU64,
}

impl GuestLog {
    pub(super) fn new(transform: &str, lines_per_second_max: u32) -> GuestLog {
        let bucket = Mutex::new(Bucket::new(lines_per_second_max, Instant::now()));
        GuestLog { shared: Arc::new(Shared { transform: transform.to_owned(), bucket, dropped: AtomicU64::new(0) }) }
    }

    /// Lines that were not written because there were too many.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Host for GuestLog {
    fn write(&mut self, level: Level, message: String) {
        let Shared { transform, bucket, dropped } = &*self.shared;
        if !bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = one_line(&message, LINE_BYTES_MAX);
        match level {
            Level::Debug => tracing::debug!(target: "guest", %transform, "{line}"),
            Level::Info => tracing::info!(target: "guest", %transform, "{line}"),
            Level::Warn => tracing::warn!(target: "guest", %transform, "{line}"),
            Level::Error => tracing::error!(target: "guest", %transform, "{line}"),
        }
    }
}

impl super::bindings::gristmill::transform::types::Host for GuestLog {}

/// A token bucket that holds one second's worth.
struct Bucket {
    per_second: u32,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Bucket {
        Bucket { per_second, tokens: f64::from(per_second), filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).min(Duration::from_secs(1));
        self.filled = now;
        self.tokens = (self.tokens + passed.as_secs_f64() * f64::from(self.per_second)).min(f64::from(self.per_second));
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_grants_its_lines_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, start);
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        assert_eq!((0..5).filter(|_| bucket.take(start + Duration::from_secs(1))).count(), 3);
        // A long silence is no credit.
        assert_eq!((0..9).filter(|_| bucket.take(start + Duration::from_secs(60))).count(), 3);
    }
}
