//! The families of metrics, their labels and their descriptions.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StreamLabels {
    pub(super) stream: String,
    pub(super) group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransformLabels {
    pub(super) transform: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartLabels {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) transform: String,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) route: &'static str,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ValueLabels {
    pub(super) view: String,
    pub(super) status: &'static str,
}

/// Seconds, 10 µs to 168 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-5, 2.0, 25))
}

/// Seconds of a pause: finer where one is told from the next by what is promised, 0.25 ms to 10 ms, and coarser up to a minute.
fn pauses() -> Histogram {
    let fine = (1..=40).map(|quarter| f64::from(quarter) / 4_000.0);
    Histogram::new([2.5e-5, 5e-5, 1e-4].into_iter().chain(fine).chain([0.0125, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 60.0]))
}

pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone)]
pub(super) struct Families {
    pub(super) entries_read: Family<StreamLabels, Counter>,
    pub(super) entries_settled: Family<StreamLabels, Counter>,
    pub(super) entries_lost: Family<StreamLabels, Counter>,
    pub(super) places_lost: Family<StreamLabels, Counter>,
    pub(super) freshness: Histograms<StreamLabels>,
    pub(super) stage: Histograms<StageLabels>,
    pub(super) retries: Family<PartLabels, Counter>,
    pub(super) restarts: Family<PartLabels, Counter>,
    pub(super) lag_entries: Family<StreamLabels, Gauge>,
    pub(super) lag_seconds: Family<StreamLabels, Gauge<f64, AtomicU64>>,
    pub(super) pending: Family<StreamLabels, Gauge>,
    pub(super) partitions_held: Family<StreamLabels, Gauge>,
    pub(super) rows_committed: Family<TransformLabels, Counter>,
    pub(super) rows_emitted: Family<TransformLabels, Counter>,
    pub(super) dead_letters: Family<ReasonLabels, Counter>,
    pub(super) not_computed: Family<ReasonLabels, Counter>,
    pub(super) apply: Histograms<TransformLabels>,
    pub(super) transform_lag_seconds: Family<TransformLabels, Gauge<f64, AtomicU64>>,
    pub(super) swaps: Family<TransformLabels, Counter>,
    pub(super) swap_pause: Histograms<StreamLabels>,
    pub(super) log_lines_dropped: Family<TransformLabels, Gauge>,
    pub(super) refused_components: Counter,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) request_seconds: Histograms<RouteLabels>,
    pub(super) values: Family<ValueLabels, Counter>,
    pub(super) dead_letters_kept: Gauge<i64, AtomicI64>,
    pub(super) dead_letters_evicted: Gauge<i64, AtomicI64>,
}

impl Families {
    pub(super) fn new() -> Families {
        Families {
            entries_read: Family::default(),
            entries_settled: Family::default(),
            entries_lost: Family::default(),
            places_lost: Family::default(),
            freshness: Family::new_with_constructor(seconds),
            stage: Family::new_with_constructor(seconds),
            retries: Family::default(),
            restarts: Family::default(),
            lag_entries: Family::default(),
            lag_seconds: Family::default(),
            pending: Family::default(),
            partitions_held: Family::default(),
            rows_committed: Family::default(),
            rows_emitted: Family::default(),
            dead_letters: Family::default(),
            not_computed: Family::default(),
            apply: Family::new_with_constructor(seconds),
            transform_lag_seconds: Family::default(),
            swaps: Family::default(),
            swap_pause: Family::new_with_constructor(pauses),
            log_lines_dropped: Family::default(),
            refused_components: Counter::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            values: Family::default(),
            dead_letters_kept: Gauge::default(),
            dead_letters_evicted: Gauge::default(),
        }
    }

    pub(super) fn register(&self, to: &mut Registry) {
        self.register_event_path(to);
        self.register_transforms(to);
        self.register_serving(to);
    }

    fn register_event_path(&self, to: &mut Registry) {
        to.register("entries_read", "Entries read from the stream", self.entries_read.clone());
        to.register("entries_settled", "Entries whose commit the store has", self.entries_settled.clone());
        to.register("entries_lost", "Entries known to be gone from the stream that were never applied", self.entries_lost.clone());
        to.register(
            "places_lost",
            "Times the store had lost what this host committed: it was emptied or restored",
            self.places_lost.clone(),
        );
        let freshness = "Time from the oldest entry of a batch entering the stream to its features being readable";
        to.register_with_unit("freshness", freshness, Unit::Seconds, self.freshness.clone());
        to.register_with_unit("stage", "Time a batch spent in one step of the event path", Unit::Seconds, self.stage.clone());
        to.register("retries", "Tries that failed and were made again", self.retries.clone());
        to.register("restarts", "Times a pipeline started over from what is stored", self.restarts.clone());
        to.register(
            "lag_entries",
            "Entries in the stream that were not read yet; -1 when the source cannot tell",
            self.lag_entries.clone(),
        );
        to.register_with_unit("lag", "Age of the last settled entry while there are newer ones", Unit::Seconds, self.lag_seconds.clone());
        to.register("pending_entries", "Entries read and not acknowledged", self.pending.clone());
        to.register("partitions_held", "Partitions of the stream that this host works on", self.partitions_held.clone());
    }

    fn register_transforms(&self, to: &mut Registry) {
        to.register("rows_committed", "Feature rows committed", self.rows_committed.clone());
        to.register("rows_emitted", "Feature rows that went on to another stream as events", self.rows_emitted.clone());
        to.register("dead_letters", "Events given up, by reason", self.dead_letters.clone());
        to.register("not_computed", "Rows that could not be computed for requests, by reason", self.not_computed.clone());
        to.register("dead_letters_kept", "Dead letters in the store", self.dead_letters_kept.clone());
        to.register("dead_letters_evicted", "Dead letters pushed out by newer ones", self.dead_letters_evicted.clone());
        to.register_with_unit("apply", "Time one transform took for a batch", Unit::Seconds, self.apply.clone());
        to.register_with_unit(
            "transform_lag",
            "Age of the last entry settled by the transform while its stream has newer ones",
            Unit::Seconds,
            self.transform_lag_seconds.clone(),
        );
        let pause = "How much longer the first batch after a swap took than batches usually do, from taken up to committed";
        to.register_with_unit("swap_pause", pause, Unit::Seconds, self.swap_pause.clone());
        to.register("swaps", "Components put into force", self.swaps.clone());
        to.register("guest_log_lines_dropped", "Log lines beyond the transform's limit", self.log_lines_dropped.clone());
        to.register("refused_components", "Components refused", self.refused_components.clone());
    }

    fn register_serving(&self, to: &mut Registry) {
        to.register("requests", "Requests answered", self.requests.clone());
        to.register_with_unit("request", "Time to answer a request", Unit::Seconds, self.request_seconds.clone());
        to.register("values_served", "Feature values served, by status", self.values.clone());
    }
}
