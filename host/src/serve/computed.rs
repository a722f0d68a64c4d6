//! A view whose values are computed when somebody asks: the transform, where its inputs come from, and what is served when it fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::look::At;
use crate::decode::{Builder, Raw, Wanted};
use crate::model::{Batch, Fallback, FallbackKind, FeatureRow, Field, InputBinding, Reason, SchemaId, Timestamp, Value, Version, View};
use crate::telemetry::TransformTelemetry;
use crate::transform::{Applied, Error, Transform};

/// Bytes of rows computed last that are kept for one transform, about.
const LAST_BYTES_MAX: u64 = 16 << 20;
/// Rows among them, about, from which the cache guesses how many it will hold.
const LAST_ROWS: usize = 50_000;
/// A call that takes no longer costs less than giving up the thread for it does.
const QUICK_NANOS: u64 = 50_000;
/// What the cache spends on a row besides its key and bytes, about.
const OVERHEAD_BYTES: u64 = 120;

/// A transform that is bound to requests.
pub struct Computed {
    pub(super) view: Arc<View>,
    pub(super) transform: Transform,
    /// One for each input of the spec, in its order: what is wanted, and where it comes from.
    pub(super) inputs: Vec<(Wanted, From)>,
    pub(super) telemetry: TransformTelemetry,
    fallback: FallbackKind,
    values: Option<FeatureRow>,
    last: Cache<Vec<u8>, FeatureRow, Weight>,
    /// Second in which a failure was logged last: one line a second is enough.
    told: AtomicI64,
    /// Nanoseconds that a call takes at most, of late.
    longest: AtomicU64,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// The entity.
    JoinKey,
    /// What the request brings beside the entity.
    Request,
    /// The same, and the moment asked about where it brings nothing.
    RequestOrMoment,
    /// A feature of another view, as a reference.
    Feature(String),
}

#[derive(Clone)]
struct Weight;

impl Weighter<Vec<u8>, FeatureRow> for Weight {
    fn weight(&self, key: &Vec<u8>, row: &FeatureRow) -> u64 {
        OVERHEAD_BYTES + (key.len() + row.packed().len()) as u64
    }
}

impl Computed {
    /// Applies the transform within this time. It may take all of it, and other requests must not wait for that, so the thread is given up for it; unless calls of late
    /// took less than that does.
    pub(super) fn apply(&self, batch: &Batch, time_max: Duration) -> Result<Applied, Error> {
        let (longest, started) = (self.longest.load(Ordering::Relaxed), Instant::now());
        let apply = || self.transform.apply_within(batch, time_max);
        let applied = if longest < QUICK_NANOS { apply() } else { tokio::task::block_in_place(apply) };
        let took = started.elapsed();
        self.telemetry.apply_seconds(took.as_secs_f64());
        // One slow call is remembered for some hundred quick ones.
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.longest.store(took.max(longest - longest / 64), Ordering::Relaxed);
        applied
    }

    /// Binds a transform to requests; the error says what to change. An input whose binding reads `view:feature` is that feature, any other one that is no
    /// join key comes with the request.
    pub fn new(
        transform: Transform,
        bindings: &BTreeMap<String, InputBinding>,
        fallback: &Fallback,
        telemetry: TransformTelemetry,
    ) -> Result<Computed, String> {
        let spec = Arc::clone(transform.spec());
        if transform.world().is_stateful() {
            return Err("it keeps states, and requests change nothing: bind it to a stream".into());
        }
        let inputs = spec.inputs.iter().map(|field| {
            let binding = bindings.get(&field.name).cloned().unwrap_or_default();
            let from = match &binding.from {
                Some(place) if spec.entity.contains(&field.name) => {
                    return Err(format!("`inputs.{}` is a join key, which the entity brings; it cannot come from `{place}`", field.name));
                }
                _ if spec.entity.contains(&field.name) => From::JoinKey,
                Some(place) if place.contains(':') => From::Feature(place.clone()),
                _ if spec.event_time.as_ref() == Some(&field.name) => From::RequestOrMoment,
                _ => From::Request,
            };
            let field = Field { default: binding.default.or(field.default.clone()), ..field.clone() };
            Ok((Wanted { from: binding.from.unwrap_or_else(|| field.name.clone()), field, epoch: binding.epoch }, from))
        });
        let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
        for (wanted, _) in &inputs {
            check_default(wanted)?;
        }
        let of_request = inputs.iter().filter(|(_, from)| matches!(from, From::Request | From::RequestOrMoment));
        let request = of_request.map(|(wanted, from)| Field {
            name: wanted.from.clone(),
            nullable: wanted.field.nullable || *from == From::RequestOrMoment,
            ..wanted.field.clone()
        });
        let uses = inputs.iter().filter_map(|(_, from)| if let From::Feature(reference) = from { Some(reference.clone()) } else { None });
        let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
        let view = View {
            name: transform.name().to_owned(),
            doc: spec.doc.clone(),
            stream: None,
            partitioning: None,
            component: transform.digest(),
            version: spec.version.clone(),
            entity,
            features: spec.outputs.clone(),
            windows: Vec::new(),
            kept: Default::default(),
            max_age_secs: None,
            expire_secs: None,
            fold: false,
            request: request.collect(),
            uses: uses.collect(),
            types: BTreeMap::new(),
        };
        let values = standing_in(&spec.outputs, fallback)?;
        Ok(Computed {
            view: Arc::new(view),
            transform,
            inputs,
            telemetry,
            fallback: fallback.kind,
            values,
            last: Cache::with_weighter(LAST_ROWS, LAST_BYTES_MAX, Weight),
            told: AtomicI64::new(0),
            longest: AtomicU64::new(QUICK_NANOS),
        })
    }

    /// The view that it makes.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The component, compiled and checked.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// Remembers what was computed for an entity, if that may be asked for. What was computed for a moment in the past is not the last value of anything.
    pub(super) fn remember(&self, key: &[u8], row: &FeatureRow, at: At) {
        if self.fallback == FallbackKind::Last && at.is_now() {
            self.last.insert(key.to_vec(), row.clone());
        }
    }

    /// What is served where nothing could be computed, and the moment it was computed for, if ever. The past does not know what was computed since.
    pub(super) fn instead(&self, key: &[u8], at: At) -> Option<(FeatureRow, Option<Timestamp>)> {
        let last = || {
            self.last.get(key).filter(|_| at.is_now()).map(|row| (Some(row.header.version.event_time), row)).map(|(time, row)| (row, time))
        };
        match self.fallback {
            FallbackKind::Error => None,
            FallbackKind::Last => last().or_else(|| self.values.clone().map(|row| (row, None))),
            FallbackKind::Values => self.values.clone().map(|row| (row, None)),
        }
    }

    /// Counts a row that could not be computed, and logs why now and then.
    pub(super) fn failed(&self, reason: Reason, message: &str, now: Timestamp) {
        self.telemetry.not_computed(reason, 1);
        let second = now.0.div_euclid(1_000_000);
        if self.told.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(transform = self.view.name, reason = reason.as_str(), "not computed for a request: {message}");
        }
    }
}

fn check_default(wanted: &Wanted) -> Result<(), String> {
    let mut builder = Builder::new(wanted, 1);
    if wanted.field.default.is_some() {
        builder.push(None);
    }
    builder
        .finish()
        .faults
        .pop()
        .map_or(Ok(()), |fault| Err(format!("the default of input `{}` cannot be used: {}", wanted.field.name, fault.message)))
}

/// The row of the values that stand in the configuration, if any do.
fn standing_in(outputs: &[Field], fallback: &Fallback) -> Result<Option<FeatureRow>, String> {
    if let Some(unknown) = fallback.values.keys().find(|name| !outputs.iter().any(|field| field.name == **name)) {
        let known: Vec<&str> = outputs.iter().map(|field| field.name.as_str()).collect();
        return Err(format!("`fallback_values.{unknown}` names no feature of the component; it has {}", known.join(", ")));
    }
    match (fallback.kind, fallback.values.is_empty()) {
        (FallbackKind::Error, true) | (FallbackKind::Last, true) => return Ok(None),
        (FallbackKind::Error, false) => {
            return Err("`fallback_values` are never used while `fallback` is `error`; set it to `values` or `last`".into());
        }
        (FallbackKind::Values, true) => return Err("`fallback = \"values\"` needs `fallback_values`".into()),
        (FallbackKind::Last | FallbackKind::Values, false) => {}
    }
    let mut row = FeatureRow::packer(Version::MIN, SchemaId(0), outputs.len());
    for field in outputs {
        let Some(value) = fallback.values.get(&field.name) else {
            row.push(None);
            continue;
        };
        let wanted = Wanted { field: field.clone(), from: field.name.clone(), epoch: None };
        let mut builder = Builder::new(&wanted, 1);
        builder.push(Some(Raw::Json(&value.to_string())));
        let decoded = builder.finish();
        if let Some(fault) = decoded.faults.first() {
            return Err(format!("`fallback_values`: {}", fault.message));
        }
        row.push(Value::at(&decoded.column, 0));
    }
    FeatureRow::new(row.finish()).map(Some).map_err(|error| error.to_string())
}
