//! What other versions have left of a view, as bindings know it: looked at when one is bound, when other versions have been in force meanwhile, and
//! when something is met that was not there then.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Core;
use super::transforms::Registry;
use crate::model::StoredState;
use crate::pipeline::Binding;

impl Core {
    /// The bindings in force that wait for it to be known what they have met.
    pub(super) async fn waiting(&self) -> Vec<Arc<Binding>> {
        let registry = self.registry.lock().await;
        registry.bindings().filter(|(_, binding)| binding.others.wait()).map(|(_, binding)| Arc::clone(binding)).collect()
    }

    /// What is in force is known to be in force since they met it. So what they met is of a version that was, and is gone back behind where it cannot
    /// be taken over.
    pub(super) async fn learn(&self, waiting: &[Arc<Binding>]) -> anyhow::Result<()> {
        for binding in waiting {
            let met = binding.others.met().clone();
            let mut known = self.check_states(&binding.view, &binding.transform, true).await?;
            let unheard_of = |version: &&String| !known.versions.contains(*version);
            let own = &binding.view.version;
            let versions: BTreeSet<String> =
                met.versions.iter().filter(unheard_of).filter(|version| !StoredState::is_compatible(version, own)).cloned().collect();
            known.gone_back_behind.extend(versions.iter().cloned());
            known.versions.extend(versions);
            known.schemas.extend(met.schemas);
            tracing::info!(transform = binding.view.name, versions = ?known.versions, "what other versions have left of it is known");
            binding.others.learn(known);
        }
        Ok(())
    }

    /// Other versions of these have been in force, and those that are in force now were all the time on this host. Should it fail, it is looked at when
    /// something is met.
    pub(super) async fn learn_of(&self, registry: &Registry, names: &BTreeSet<String>) {
        for (name, binding) in registry.bindings().filter(|(name, _)| names.contains(*name)) {
            let history = registry.book.versions.history(name);
            history.into_iter().for_each(|history| binding.forgets.store(Arc::new(history.forgets)));
        }
        let bindings: Vec<Arc<Binding>> =
            registry.bindings().filter(|(name, _)| names.contains(*name)).map(|(_, binding)| Arc::clone(binding)).collect();
        if let Err(error) = self.learn(&bindings).await {
            tracing::warn!("cannot see what other versions have left, will look when it is met: {error:#}");
        }
    }
}

impl Registry {
    fn bindings(&self) -> impl Iterator<Item = (&String, &Arc<Binding>)> {
        self.active.iter().filter_map(|(name, active)| Some((name, active.bound.binding()?)))
    }
}
