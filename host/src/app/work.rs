//! Which groups of which streams work on what: whatever is put into force, ends, is paused or goes on, every group then has its transforms.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Core;
use super::transforms::{Active, Registry};
use super::workers::{ConsumerGroup, Reading};
use crate::config::Start;
use crate::pipeline::{Binding, Transforms};

impl Core {
    /// Has every group work on its transforms as they are in force now, from the next batch on. One of a stream that misses a transform works on nothing:
    /// what comes there must not pass it.
    pub(super) async fn put_to_work(&self, registry: &mut Registry) -> anyhow::Result<()> {
        registry.is_at_work = false;
        let readings = registry.active.values().filter_map(|active| active.reading.clone());
        let mut groups: BTreeMap<ConsumerGroup, Reading> = readings.map(|reading| (reading.group.clone(), reading)).collect();
        for group in self.workers.lock().await.keys() {
            let idle = || Reading { group: group.clone(), start: Start::Beginning, from: None };
            groups.entry(group.clone()).or_insert_with(idle);
        }
        let is_missing = |group: &ConsumerGroup| registry.is_up && registry.missing.values().any(|stream| *stream == group.stream);
        let mut outcome = Ok(());
        for (group, reading) in &groups {
            let set = if is_missing(group) {
                Transforms::new(self.stream_format(&group.stream), Vec::new()).map_err(anyhow::Error::from)
            } else {
                self.transforms_of(registry, group, "", None)
            };
            let set = match set {
                Ok(set) => self.set_transforms(reading, set).await,
                Err(error) => Err(error),
            };
            outcome = outcome.and(set);
        }
        if outcome.is_ok() {
            registry.is_at_work = true;
            self.revisions.take_effect();
        }
        outcome
    }

    /// The transforms that a group works on: this one as it is given, if it is, and the others.
    pub(super) fn transforms_of(
        &self,
        registry: &Registry,
        group: &ConsumerGroup,
        name: &str,
        binding: Option<&Arc<Binding>>,
    ) -> anyhow::Result<Transforms> {
        let bindings = registry.bindings_of(group, name).into_iter().chain(binding.cloned()).collect();
        let set = Transforms::new(self.stream_format(&group.stream), bindings)?;
        Ok(set.of_book(&self.revisions, registry.leaving(group)))
    }

    /// Lets all pipelines begin but those of streams with a missing transform, once it is known what is in force.
    pub(super) fn release_streams(&self, registry: &Registry) {
        if registry.is_up && registry.book.is_compared() {
            let held = Some(registry.missing.values().cloned().collect());
            self.held.send_if_modified(|known| *known != held && std::mem::replace(known, held.clone()) != held);
        }
    }

    pub(super) fn no_longer_missing(&self, registry: &mut Registry, name: &str) {
        if registry.missing.remove(name).is_some() {
            self.release_streams(registry);
        }
    }
}

impl Registry {
    /// Those who read with a group and are not paused.
    pub(super) fn readers_of(&self, group: &ConsumerGroup) -> impl Iterator<Item = (&String, &Active)> {
        let reads = move |active: &Active| active.reading.as_ref().is_some_and(|reading| reading.group == *group);
        self.active.iter().filter(move |(name, active)| reads(active) && !self.book.standing.is_paused(name))
    }

    /// The groups of those that have left a group, and go on where it was then.
    fn leaving(&self, group: &ConsumerGroup) -> Vec<String> {
        let readings = self.active.values().filter_map(|active| active.reading.as_ref());
        let left = readings.filter(|reading| reading.group.stream == group.stream && reading.from.as_ref() == Some(&group.name));
        left.map(|reading| reading.group.name.clone()).collect()
    }

    /// The bindings of a group but for the one of this name.
    fn bindings_of(&self, group: &ConsumerGroup, but: &str) -> Vec<Arc<Binding>> {
        let others = self.readers_of(group).filter(|(name, _)| *name != but);
        others.filter_map(|(_, active)| active.bound.binding().cloned()).collect()
    }
}
