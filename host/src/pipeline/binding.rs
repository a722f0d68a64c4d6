//! A transform bound to its stream: which columns it takes from the decoded batch, whose rows it makes, how long they last.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::emit::Emit;
use super::revision::Revisions;
use super::shadow::Shadow;
use crate::decode::{DefaultError, Plan, Wanted};
use crate::model::{Format, InputBinding, KEY_BYTES_MAX, Maker, SchemaId, Spec, Timestamp, View};
use crate::telemetry::TransformTelemetry;
use crate::transform::Transform;
use crate::window::{self, Forgets, Lasting};

/// A transform with everything that the pipeline must know to run it.
pub struct Binding {
    /// The component, compiled and checked.
    pub transform: Transform,
    /// The view its rows belong to.
    pub view: Arc<View>,
    /// What makes its rows, for the record of cuts.
    pub maker: Maker,
    /// Its schema's number in the online store.
    pub schema: SchemaId,
    /// One for each input of the spec, in its order.
    pub inputs: Vec<InputBinding>,
    /// What other versions may have left.
    pub others: Others,
    /// What is kept of an entity beside its newest row, where anything is.
    pub kept: Option<Arc<window::Plan>>,
    /// Bytes that are kept of one entity beside its state, at most.
    pub entity_bytes_max: usize,
    /// How far ahead of this host's clock an event may be, in seconds, where it would move what is kept: `None` where nothing is but rows.
    pub ahead_max_secs: Option<u64>,
    /// The stream that its rows go on to, if any.
    pub emit: Option<Emit>,
    /// How long its entities last; `None` for ever.
    pub lasting: Option<Lasting>,
    /// Which may be forgotten; another host may learn more of that.
    pub forgets: ArcSwap<Forgets>,
    /// Time to spend on finding the rows at fault in one failing batch; what is then still mixed is dead-lettered together.
    pub bisect_ms_max: u64,
    /// A version that is tried behind it. Looked at when a set of transforms is made.
    pub shadow: ArcSwapOption<Shadow>,
    /// Where it counts.
    pub telemetry: TransformTelemetry,
}

/// What versions have written beside the one that is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherStates {
    /// Versions of a fold that do not share their states with it.
    pub versions: BTreeSet<String>,
    /// Those whose states it cannot take over, and goes back behind: it goes on with what was there before they came.
    pub gone_back_behind: BTreeSet<String>,
    /// The schemas of its view.
    pub schemas: BTreeSet<SchemaId>,
}

/// The same as it is known to a binding. What nobody knew of when it was bound was written by a version that has come since, and may be the one that
/// is in force: nothing is made of it before that is known.
#[derive(Default)]
pub struct Others {
    known: ArcSwap<OtherStates>,
    met: Mutex<OtherStates>,
}

impl Others {
    /// What is known when a transform is bound.
    pub fn new(known: OtherStates) -> Others {
        Others { known: ArcSwap::from_pointee(known), met: Mutex::default() }
    }

    /// What is known.
    pub fn known(&self) -> Arc<OtherStates> {
        self.known.load_full()
    }

    /// Whether something was met that is not known: until it is, nothing is to be made of it.
    pub fn wait(&self) -> bool {
        *self.met() != OtherStates::default()
    }

    /// What was met that is not known.
    pub fn met(&self) -> MutexGuard<'_, OtherStates> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is known what is in force: this is what there is beside it.
    pub fn learn(&self, known: OtherStates) {
        self.known.store(Arc::new(known));
        *self.met() = OtherStates::default();
    }

    /// Whether states of a version are known of; if not, that is remembered.
    pub(super) fn knows_version(&self, version: &str) -> bool {
        let is_known = self.known.load().versions.contains(version);
        if !is_known {
            self.met().versions.insert(version.to_owned());
        }
        is_known
    }

    /// The same for a schema.
    pub(super) fn knows_schema(&self, schema: SchemaId) -> bool {
        let is_known = self.known.load().schemas.contains(&schema);
        if !is_known {
            self.met().schemas.insert(schema);
        }
        is_known
    }
}

/// The transforms of one stream and the plan for decoding what they read. Immutable: a change makes a new set, taken up between two batches.
pub struct Transforms {
    pub(super) plan: Plan,
    pub(super) bound: Vec<Bound>,
    /// How far this host is with the book of versions that says so.
    pub(super) revisions: Arc<Revisions>,
    /// The groups of transforms that have left this one's, and go on where it was then.
    pub(super) leaving: Vec<String>,
    replaced: watch::Sender<bool>,
}

pub(super) struct Bound {
    pub(super) binding: Arc<Binding>,
    /// For each input of the spec its column in the decoded batch.
    pub(super) columns: Vec<usize>,
    /// Positions among the inputs.
    pub(super) entity: Vec<usize>,
    pub(super) event_time: Option<usize>,
    /// Those that tell the partition, where the stream has several.
    pub(super) partition_by: Vec<usize>,
    pub(super) shadow: Option<(Arc<Shadow>, Box<Bound>)>,
}

impl Binding {
    /// When nothing of an entity can be read any more whose newest event is of this moment; `None` for never.
    pub fn expires_at(&self, newest: Timestamp, now: Timestamp) -> Option<Timestamp> {
        Some(self.lasting?.expires_at(newest, now))
    }

    /// The latest event time that is taken by this host's clock; `None` where any is.
    pub(super) fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        let micros = i64::try_from(self.ahead_max_secs?).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Some(Timestamp(now.0.saturating_add(micros)))
    }

    /// What whoever has put it should know: windows of an entity may come to more than is kept of one.
    pub fn warning(&self) -> Option<String> {
        self.kept.as_ref().and_then(|plan| plan.too_large(&self.view.features, self.entity_bytes_max))
    }

    /// Whether events must be applied in order and once each: it keeps more than rows of which the newest wins, or passes them on.
    pub fn is_ordered(&self) -> bool {
        self.kept.is_some() || self.emit.is_some() || self.transform.world().is_stateful() || self.has_stateful_shadow()
    }
}

impl Binding {
    fn has_stateful_shadow(&self) -> bool {
        self.shadow.load().as_ref().is_some_and(|shadow| shadow.binding.transform.world().is_stateful())
    }
}

impl Transforms {
    /// Binds transforms to the entries of one stream. Fails when a default does not decode.
    pub fn new(format: Format, bindings: Vec<Arc<Binding>>) -> Result<Transforms, DefaultError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut bound = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let shadow = binding.shadow.load_full().map(|shadow| {
                let bound = bind(Arc::clone(&shadow.binding), &mut wanted);
                (shadow, Box::new(bound))
            });
            bound.push(Bound { shadow, ..bind(binding, &mut wanted) });
        }
        let replaced = watch::Sender::new(false);
        Ok(Transforms { plan: Plan::new(format, wanted)?, bound, revisions: Arc::default(), leaving: Vec::new(), replaced })
    }

    /// The same as a book of versions has it, after transforms have left for these groups.
    pub fn of_book(self, revisions: &Arc<Revisions>, leaving: Vec<String>) -> Transforms {
        Transforms { revisions: Arc::clone(revisions), leaving, ..self }
    }

    /// Puts another set in the place of this one, from the next batch on.
    pub fn replace(slot: &ArcSwap<Transforms>, transforms: Transforms) {
        slot.swap(Arc::new(transforms)).replaced.send_replace(true);
    }

    /// Completes when another set has taken the place of this one.
    pub(super) async fn replaced(&self) {
        // The sender is this set's own, so it cannot be gone.
        let _ = self.replaced.subscribe().wait_for(|replaced| *replaced).await;
    }

    /// Whether there is nothing to run. A pipeline must not be given such a set: it would settle events that nobody has seen.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// The bindings, in the order given.
    pub fn bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.bound.iter().map(|bound| &bound.binding)
    }

    /// The same set with only the transform of this name, for a replay.
    pub(super) fn only(&self, format: Format, name: &str) -> Option<Transforms> {
        let bound = self.bindings().find(|binding| binding.view.name == name)?;
        let mut only = Transforms::new(format, vec![Arc::clone(bound)]).ok()?;
        // It has seen these events.
        only.bound.iter_mut().for_each(|bound| bound.shadow = None);
        Some(only)
    }
}

/// Finds the columns that a transform reads among those that are wanted, and adds those that are not there yet.
fn bind(binding: Arc<Binding>, wanted: &mut Vec<Wanted>) -> Bound {
    let spec = Arc::clone(binding.transform.spec());
    let columns = spec.inputs.iter().enumerate().map(|(index, field)| {
        let input = binding.inputs.get(index).cloned().unwrap_or_default();
        let mut field = field.clone();
        field.default = input.default.or(field.default);
        field.doc.clear();
        let column = Wanted { from: input.from.unwrap_or_else(|| field.name.clone()), field, epoch: input.epoch };
        wanted.iter().position(|known| *known == column).unwrap_or_else(|| {
            wanted.push(column);
            wanted.len() - 1
        })
    });
    let columns = columns.collect();
    let by = binding.view.partitioning.iter().flat_map(|partitioning| &partitioning.by);
    let partition_by = by.filter_map(|name| spec.inputs.iter().position(|field| field.name == *name)).collect();
    let (entity, event_time) = positions(&spec);
    Bound { binding, columns, entity, event_time, partition_by, shadow: None }
}

fn positions(spec: &Spec) -> (Vec<usize>, Option<usize>) {
    let position = |name: &String| spec.inputs.iter().position(|field| field.name == *name);
    (spec.entity.iter().filter_map(position).collect(), spec.event_time.as_ref().and_then(position))
}

/// Longest entity key, for messages.
pub(super) const ENTITY_KEY_BYTES_MAX: usize = KEY_BYTES_MAX;
