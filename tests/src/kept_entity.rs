//! An entity of a view with one output, `value`, as the event path changes it: read, changed and stored again.

use gristmill::model::json::push_value;
use gristmill::model::{EntryId, FeatureRow, Field, Header, Kept, Kind, OwnedValue, SchemaId, Timestamp, Value, Version};
use gristmill::window::{Added, Entity, Plan, Shape};
use serde_json::Value as Json;

use crate::oracle::{Event, agrees, expected};

/// The entity, and what is kept of it.
pub struct KeptEntity {
    /// What the view keeps.
    pub kept: Kept,
    /// The same, resolved.
    pub plan: Plan,
    /// The one output.
    pub output: Field,
    /// As it lies in the store.
    pub stored: Option<Vec<u8>>,
    /// The time of the host.
    pub now: i64,
}

impl KeptEntity {
    /// One of which nothing is stored.
    pub fn new(kind: Kind, kept: Kept, now: i64) -> KeptEntity {
        let width = (kind == Kind::Vector).then_some(2);
        let output = Field { name: "value".into(), kind, nullable: true, default: None, width, doc: String::new() };
        KeptEntity { plan: Plan::new(std::slice::from_ref(&output), &kept), kept, output, stored: None, now }
    }

    /// The version of an event.
    pub fn version(event: &Event) -> Version {
        Version { event_time: Timestamp(event.time), entry_id: EntryId { ms: event.order, seq: 0 } }
    }

    /// What is stored, read.
    pub fn entity(&self) -> Entity {
        let Some(stored) = &self.stored else { return Entity::new(&self.plan) };
        let row = FeatureRow::new(stored.clone().into()).unwrap();
        if row.is_entity() {
            return Entity::read(row.packed(), &self.plan).unwrap();
        }
        Entity::of_row(&self.plan, row.header.version, row.packed().clone())
    }

    /// An event of a view that keeps nothing but rows: it is stored, unless what is stored is newer. Whether it was.
    pub fn add_row(&mut self, event: &Event) -> bool {
        let version = KeptEntity::version(event);
        let is_newer = self.stored.as_ref().is_none_or(|stored| Header::read(stored).unwrap().version < version);
        if is_newer {
            let mut packed = Vec::new();
            FeatureRow::pack(&mut packed, version, SchemaId(1), [event.value.as_ref().map(OwnedValue::value)].into_iter());
            self.stored = Some(packed);
        }
        is_newer
    }

    /// Stores this.
    pub fn store(&mut self, entity: &mut Entity) {
        let most = entity.bytes_most(&self.plan);
        let (mut stored, bytes) = (Vec::new(), entity.bytes(&self.plan).unwrap());
        assert!(bytes <= most, "{bytes} bytes, {most} were the most");
        entity.push(&self.plan, &mut stored, SchemaId(1)).unwrap();
        assert_eq!(stored.len(), bytes, "what it takes is told before it is packed");
        self.stored = Some(stored);
    }

    /// One batch. Those that were too late are left out of what is returned.
    pub fn add(&mut self, events: &[Event]) -> Vec<Event> {
        let mut entity = self.entity();
        let counted = events.iter().filter(|event| self.add_one(&mut entity, event) == Added::Counted).cloned().collect();
        self.store(&mut entity);
        counted
    }

    fn add_one(&self, entity: &mut Entity, event: &Event) -> Added {
        let version = KeptEntity::version(event);
        let value = || event.value.as_ref().map(OwnedValue::value);
        let mut packed = Vec::new();
        FeatureRow::pack(&mut packed, version, SchemaId(1), [value()].into_iter());
        entity.add(&self.plan, version, (version, Some(packed.into())), Timestamp(self.now), |_| value()).unwrap()
    }

    /// What is stored as another version of the view has it.
    pub fn adapted(&self, kept: Kept) -> KeptEntity {
        self.adapted_to(kept, self.output.width)
    }

    /// The same, where that version's output has this width.
    pub fn adapted_to(&self, kept: Kept, width: Option<u32>) -> KeptEntity {
        let mut new = KeptEntity::new(self.output.kind, kept, self.now);
        new.output.width = width;
        new.plan = Plan::new(std::slice::from_ref(&new.output), &new.kept);
        let (from, to) = (std::slice::from_ref(&self.output), std::slice::from_ref(&new.output));
        let (from, to) = (Shape { outputs: from, plan: &self.plan }, Shape { outputs: to, plan: &new.plan });
        let adapted = self.stored.is_some().then(|| self.entity().adapt(from, to).unwrap());
        adapted.into_iter().for_each(|mut adapted| new.store(&mut adapted));
        new
    }

    /// The windowed features at a moment, as answers have them.
    pub fn features(&self, at: i64) -> Vec<Json> {
        let mut features = Vec::new();
        let push = |value: Option<Value<'_>>| {
            let mut text = Vec::new();
            push_value(&mut text, value);
            features.push(serde_json::from_slice(&text).unwrap());
        };
        self.entity().finish(&self.plan, Timestamp(at), push).unwrap();
        features
    }

    /// The first feature that is not what the oracle makes of the events at a moment, told.
    pub fn wrong(&self, events: &[Event], at: i64) -> Option<String> {
        self.kept.aggregations.iter().zip(self.features(at)).find_map(|(aggregation, answer)| {
            let expected = expected(aggregation, self.kept.exact, events, at);
            (!agrees(&expected, &answer)).then(|| format!("{aggregation:?} at {at}: {answer} instead of {expected:?}"))
        })
    }
}
