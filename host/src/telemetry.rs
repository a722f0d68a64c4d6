//! What the host counts about itself: shown at `/metrics`, and in the progress line of long work.
//!
//! Label values come from configuration and from names that were checked, never from requests, so that their number is bounded. Handles are
//! resolved once, and counting on the event path is then a few atomic additions.

mod families;
mod recent;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::{Reason, STATUSES, Status, Timestamp};
use families::{Families, PartLabels, ReasonLabels, RequestLabels, RouteLabels, StageLabels, StreamLabels, TransformLabels, ValueLabels};
use recent::Recent;

/// The steps of the event path that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for entries and reading them.
    Read,
    /// Entries to columns.
    Decode,
    /// All transforms of the stream.
    Apply,
    /// Until the store has it.
    Commit,
}

/// All metrics of a host.
pub struct Telemetry {
    registry: Registry,
    families: Families,
    totals: Arc<Totals>,
    /// How far behind each group is, for all handles of it.
    behind: Mutex<Groups>,
}

/// By stream and group.
type Groups = BTreeMap<(String, String), Arc<Mutex<Partitions>>>;

/// How far behind this host is on each partition that it works on.
type Partitions = BTreeMap<u32, Behind>;

/// The metrics of one consumer group of one stream.
#[derive(Clone)]
pub struct StreamTelemetry {
    labels: StreamLabels,
    families: Families,
    totals: Arc<Totals>,
    entries_read: Counter,
    entries_settled: Counter,
    entries_lost: Counter,
    freshness: Histogram,
    stages: [Histogram; 4],
    lag_entries: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
    pending: Gauge,
    settled_until: Arc<AtomicI64>,
    /// The partition that this handle is for, and how far behind this host is on all that it works on.
    partition: u32,
    behind: Arc<Mutex<Partitions>>,
    partitions_held: Gauge,
}

/// How far behind the reader of one partition is.
#[derive(Clone, Copy)]
struct Behind {
    entries: Option<u64>,
    pending: u64,
    seconds: f64,
}

/// The metrics of one transform.
#[derive(Clone)]
pub struct TransformTelemetry {
    labels: TransformLabels,
    families: Families,
    totals: Arc<Totals>,
    rows: Counter,
    emitted: Counter,
    apply: Histogram,
    lag_seconds: Gauge<f64, AtomicU64>,
}

/// Values of one view that were served.
pub struct ServedTelemetry {
    values: [Counter; STATUSES],
}

/// Sums over all streams and transforms, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Snapshot {
    /// Entries read from streams.
    pub entries_read: u64,
    /// Entries whose commit the store has.
    pub entries_settled: u64,
    /// Entries known to be lost.
    pub entries_lost: u64,
    /// Feature rows committed.
    pub rows_committed: u64,
    /// Dead letters committed.
    pub dead_letters: u64,
    /// Median time from ingest to readable over the recent batches, in seconds.
    pub freshness_p50_seconds: f64,
    /// Ninety-ninth percentile of the same.
    pub freshness_p99_seconds: f64,
}

#[derive(Default)]
struct Totals {
    entries_read: AtomicU64,
    entries_settled: AtomicU64,
    entries_lost: AtomicU64,
    rows_committed: AtomicU64,
    dead_letters: AtomicU64,
    freshness: Recent,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry::new()
    }
}

impl Telemetry {
    /// Nothing counted yet.
    pub fn new() -> Telemetry {
        let families = Families::new();
        let mut registry = Registry::with_prefix("gristmill");
        families.register(&mut registry);
        Telemetry { registry, families, totals: Arc::default(), behind: Mutex::default() }
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The handle for one consumer group of one stream.
    pub fn stream(&self, stream: &str, group: &str) -> StreamTelemetry {
        let labels = StreamLabels { stream: stream.to_owned(), group: group.to_owned() };
        let families = &self.families;
        let StreamLabels { stream, group } = &labels;
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = Arc::clone(behind.entry((stream.clone(), group.clone())).or_default());
        let stage = |stage| families.stage.get_or_create_owned(&StageLabels { stream: stream.clone(), group: group.clone(), stage });
        StreamTelemetry {
            entries_read: families.entries_read.get_or_create_owned(&labels),
            entries_settled: families.entries_settled.get_or_create_owned(&labels),
            entries_lost: families.entries_lost.get_or_create_owned(&labels),
            freshness: families.freshness.get_or_create_owned(&labels),
            stages: ["read", "decode", "apply", "commit"].map(stage),
            lag_entries: families.lag_entries.get_or_create_owned(&labels),
            lag_seconds: families.lag_seconds.get_or_create_owned(&labels),
            pending: families.pending.get_or_create_owned(&labels),
            settled_until: Arc::default(),
            partition: 0,
            behind,
            partitions_held: families.partitions_held.get_or_create_owned(&labels),
            families: families.clone(),
            totals: Arc::clone(&self.totals),
            labels,
        }
    }

    /// The handle for one transform.
    pub fn transform(&self, transform: &str) -> TransformTelemetry {
        let labels = TransformLabels { transform: transform.to_owned() };
        TransformTelemetry {
            rows: self.families.rows_committed.get_or_create_owned(&labels),
            emitted: self.families.rows_emitted.get_or_create_owned(&labels),
            apply: self.families.apply.get_or_create_owned(&labels),
            lag_seconds: self.families.transform_lag_seconds.get_or_create_owned(&labels),
            families: self.families.clone(),
            totals: Arc::clone(&self.totals),
            labels,
        }
    }

    /// A component was put into force under this name.
    pub fn swaps(&self, transform: &str) {
        self.families.swaps.get_or_create(&TransformLabels { transform: transform.to_owned() }).inc();
    }

    /// A component was refused.
    pub fn refused_components(&self) {
        self.families.refused_components.inc();
    }

    /// Dead letters in the store now, and pushed out of it so far.
    pub fn dead_letters_kept(&self, kept: u64, evicted: u64) {
        self.families.dead_letters_kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.families.dead_letters_evicted.set(i64::try_from(evicted).unwrap_or(i64::MAX));
    }

    /// A request was answered. `route` is the route's template.
    pub fn request(&self, route: &'static str, status: u16, seconds: f64) {
        self.families.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.families.request_seconds.get_or_create(&RouteLabels { route }).observe(seconds);
    }

    /// The handle for the values of one view.
    pub fn served(&self, view: &str) -> ServedTelemetry {
        let values =
            |status: Status| self.families.values.get_or_create_owned(&ValueLabels { view: view.to_owned(), status: status.as_str() });
        ServedTelemetry { values: Status::ALL.map(values) }
    }

    /// Sums for a progress line.
    pub fn snapshot(&self) -> Snapshot {
        use std::sync::atomic::Ordering::Relaxed;
        let totals = &self.totals;
        Snapshot {
            entries_read: totals.entries_read.load(Relaxed),
            entries_settled: totals.entries_settled.load(Relaxed),
            entries_lost: totals.entries_lost.load(Relaxed),
            rows_committed: totals.rows_committed.load(Relaxed),
            dead_letters: totals.dead_letters.load(Relaxed),
            freshness_p50_seconds: totals.freshness.quantile(0.5),
            freshness_p99_seconds: totals.freshness.quantile(0.99),
        }
    }
}

impl StreamTelemetry {
    /// The handle for one partition of the stream: everything is counted together.
    pub fn partition(&self, index: u32) -> StreamTelemetry {
        StreamTelemetry { settled_until: Arc::default(), partition: index, ..self.clone() }
    }

    /// The partition is worked on here from now on, or not any more.
    pub fn holds(&self, is_held: bool) {
        if is_held {
            self.partitions_held.inc();
        } else {
            self.partitions_held.dec();
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            behind.remove(&self.partition);
            self.show(&behind);
        }
    }

    /// Entries came from the source.
    pub fn entries_read(&self, n: u64) {
        self.entries_read.inc_by(n);
        self.totals.entries_read.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// The store has what came of these entries, the newest of which entered the stream at `newest`.
    pub fn entries_settled(&self, n: u64, newest: Timestamp) {
        self.settled_until.store(newest.0, std::sync::atomic::Ordering::Relaxed);
        self.entries_settled.inc_by(n);
        self.totals.entries_settled.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// Entries are gone that were never applied.
    pub fn entries_lost(&self, n: u64) {
        self.entries_lost.inc_by(n);
        self.totals.entries_lost.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// The store no longer has what this host committed.
    pub fn places_lost(&self) {
        self.families.places_lost.get_or_create(&self.labels).inc();
    }

    /// Time from the oldest entry of a batch entering the stream to its features being readable.
    pub fn freshness_seconds(&self, seconds: f64) {
        self.freshness.observe(seconds);
        self.totals.freshness.observe(seconds);
    }

    /// Time a batch spent in one step.
    pub fn stage_seconds(&self, stage: Stage, seconds: f64) {
        let [read, decode, apply, commit] = &self.stages;
        let histogram = match stage {
            Stage::Read => read,
            Stage::Decode => decode,
            Stage::Apply => apply,
            Stage::Commit => commit,
        };
        histogram.observe(seconds);
    }

    /// How much longer a batch took because another version of a transform began with it.
    pub fn swap_pause_seconds(&self, seconds: f64) {
        self.families.swap_pause.get_or_create(&self.labels).observe(seconds);
    }

    /// Something failed and is tried again.
    pub fn retries(&self, part: &'static str) {
        self.families.retries.get_or_create(&self.of(part)).inc();
    }

    /// The pipeline starts over from what is stored.
    pub fn restarts(&self, part: &'static str) {
        self.families.restarts.get_or_create(&self.of(part)).inc();
    }

    fn of(&self, part: &'static str) -> PartLabels {
        let StreamLabels { stream, group } = self.labels.clone();
        PartLabels { stream, group, part }
    }

    /// How far behind the reader is, told together with those of the stream's other partitions here; returns the age in seconds of the last
    /// settled entry, 0 when there is nothing newer.
    pub fn lag(&self, entries: Option<u64>, pending: u64) -> f64 {
        let settled_until = self.settled_until.load(std::sync::atomic::Ordering::Relaxed);
        let behind = entries.unwrap_or(pending) > 0 && settled_until > 0;
        let seconds = if behind { Timestamp::now().0.saturating_sub(settled_until) as f64 / 1e6 } else { 0.0 };
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.insert(self.partition, Behind { entries, pending, seconds });
        self.show(&behind)
    }

    /// Sets the gauges for all partitions together. Returns the seconds.
    fn show(&self, behind: &Partitions) -> f64 {
        let all = || behind.values();
        // Unknown if it is for any of them.
        let entries = all().map(|behind| behind.entries).sum::<Option<u64>>();
        let pending = all().map(|behind| behind.pending).sum::<u64>();
        let seconds = all().map(|behind| behind.seconds).fold(0.0, f64::max);
        self.lag_entries.set(entries.map_or(-1, |entries| i64::try_from(entries).unwrap_or(i64::MAX)));
        self.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.lag_seconds.set(seconds);
        seconds
    }

    /// How far behind the reader of this handle's partition was when it was last looked at: entries not yet read, as far as known, and entries not acknowledged.
    /// None where this host does not read it.
    pub fn known_lag(&self) -> Option<(Option<u64>, u64)> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).get(&self.partition).map(|behind| (behind.entries, behind.pending))
    }
}

impl ServedTelemetry {
    /// Values were served; how many with each status, in the order of [`Status::ALL`].
    pub fn add(&self, counts: &[u64; STATUSES]) {
        for (counter, n) in self.values.iter().zip(counts).filter(|(_, n)| **n > 0) {
            counter.inc_by(*n);
        }
    }
}

impl TransformTelemetry {
    /// The store has these rows.
    pub fn rows_committed(&self, n: u64) {
        self.rows.inc_by(n);
        self.totals.rows_committed.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// These rows have gone on to another stream.
    pub fn rows_emitted(&self, n: u64) {
        self.emitted.inc_by(n);
    }

    /// The store has these dead letters.
    pub fn dead_letters(&self, reason: Reason, n: u64) {
        let labels = ReasonLabels { transform: self.labels.transform.clone(), reason: reason.as_str() };
        self.families.dead_letters.get_or_create(&labels).inc_by(n);
        self.totals.dead_letters.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// Rows that it could not compute for requests.
    pub fn not_computed(&self, reason: Reason, n: u64) {
        let labels = ReasonLabels { transform: self.labels.transform.clone(), reason: reason.as_str() };
        self.families.not_computed.get_or_create(&labels).inc_by(n);
    }

    /// Time the transform took for a batch.
    pub fn apply_seconds(&self, seconds: f64) {
        self.apply.observe(seconds);
    }

    /// Age of the last entry that the transform settled while there are newer ones.
    pub fn lag_seconds(&self, seconds: f64) {
        self.lag_seconds.set(seconds);
    }

    /// Log lines dropped since the component was loaded.
    pub fn log_lines_dropped(&self, total: u64) {
        self.families.log_lines_dropped.get_or_create(&self.labels).set(i64::try_from(total).unwrap_or(i64::MAX));
    }
}
