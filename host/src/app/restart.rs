//! What is in force when a host starts: what is declared, unless something else was put over it since, and everything else that was in force at the last stop.

use std::sync::Arc;

use anyhow::Context;

use super::Core;
use super::binding_options::BindingOptions;
use super::evolve::Incompatible;
use super::transforms::{Active, Source};
use super::versions::{Declaration, Declared, Origin, Version, digest};

impl Core {
    /// Puts the configured transforms into force. One that is refused stops the start: a configuration is either right or not used.
    pub(super) async fn install_declared(self: &Arc<Core>) -> anyhow::Result<()> {
        for (name, transform) in &self.config.transforms {
            let path = &transform.component;
            let component = tokio::fs::read(path).await.with_context(|| format!("transforms.{name}: cannot read {}", path.display()))?;
            let options = BindingOptions::of(transform);
            self.declare(name, component, Some(options), Origin::Declared).await.with_context(|| format!("transforms.{name}"))?;
        }
        Ok(())
    }

    /// Takes into force what is declared under a name; at the start, what was put over it before the last stop, if it is declared as it was then.
    pub(super) async fn declare(
        self: &Arc<Core>,
        name: &str,
        component: Vec<u8>,
        options: Option<BindingOptions>,
        origin: Origin,
    ) -> anyhow::Result<Active> {
        let declaration = Declaration { digest: digest(&component), options: options.clone() };
        let before = {
            let registry = self.registry.lock().await;
            let history = registry.book.versions.history(name).filter(|_| !registry.active.contains_key(name));
            let known = history.filter(|history| history.is_known(&declaration, self.folder.host_id()));
            if known.is_some_and(|history| history.declared.as_ref() != Some(&declaration)) {
                tracing::warn!(
                    transform = name,
                    "another host has declared it otherwise since; that is in force, and not what is declared here"
                );
            }
            known.and_then(|history| history.active().cloned())
        };
        if let Some(version) = before {
            let declared = Declared { declaration: &declaration, host: self.folder.host_id() };
            self.change_book(|pages| pages.versions.declare_again(name, declared)).await?;
            match self.reinstate(name, &version).await {
                Ok(active) => return Ok(active),
                Err(error) => tracing::error!(
                    transform = name,
                    "what was put over the declared component is of no use, which counts again: {error:#}"
                ),
            }
        }
        let error = match self.install(name, component, options, Source::declared(origin)).await {
            Err(error) if error.is::<Incompatible>() => error,
            installed => return installed,
        };
        // Whoever reads the view is not to pay for what has been declared: the version of the last stop goes on, and tells what was refused.
        let kept = {
            let registry = self.registry.lock().await;
            let history = registry.book.versions.history(name).filter(|_| !registry.active.contains_key(name));
            history.and_then(|history| history.active().cloned())
        };
        match kept {
            Some(version) => self.reinstate(name, &version).await,
            None => Err(error),
        }
    }

    /// Puts into force what else was in force at the last stop.
    pub(super) async fn resume_all(self: &Arc<Core>) {
        let all: Vec<(String, Version)> = {
            let registry = self.registry.lock().await;
            let missing = registry.book.versions.active().filter(|(name, _)| !registry.active.contains_key(*name));
            missing.map(|(name, version)| (name.to_owned(), version.clone())).collect()
        };
        for (name, version) in all {
            let is_undeclared = {
                let registry = self.registry.lock().await;
                registry.book.versions.follows_declaration(&name) && !registry.refused.contains_key(&name)
            };
            if is_undeclared && self.undeclare(&name).await {
                continue;
            }
            let Err(error) = self.reinstate(&name, &version).await else { continue };
            tracing::error!(transform = name, "what was in force cannot be put into force again: {error:#}");
            let mut registry = self.registry.lock().await;
            let advice = "its stream waits until one that works is pushed, or it is removed";
            registry.refused.insert(name.clone(), format!("{error:#}; {advice}"));
            version.stream.into_iter().for_each(|stream| drop(registry.missing.insert(name.clone(), stream)));
        }
    }

    /// What came with a declaration goes with it, once no host has one any more. Says whether it has gone.
    async fn undeclare(self: &Arc<Core>, name: &str) -> bool {
        let versions_max = self.config.host.versions_max;
        match self.change_book(|pages| pages.versions.undeclare(name, self.folder.host_id(), versions_max)).await {
            Ok(true) => {
                tracing::info!(transform = name, "the transform is not declared any more, and ends; its versions are kept");
                true
            }
            Ok(false) => {
                tracing::warn!(transform = name, "the transform is not declared here any more, but by other hosts, and goes on");
                false
            }
            Err(error) => {
                tracing::warn!(transform = name, "cannot write down that the transform is not declared any more: {error:#}");
                false
            }
        }
    }

    /// Puts the version into force that was in force at the last stop. What was offered since and refused is still told.
    async fn reinstate(self: &Arc<Core>, name: &str, version: &Version) -> anyhow::Result<Active> {
        let component = self.component(version.digest).await?;
        let refused = self.registry.lock().await.refused.get(name).cloned();
        let active = self.install(name, component, Some(version.options.clone()), Source::Resumed(version.number)).await?;
        if let (Some(reason), Some(active)) = (refused, self.registry.lock().await.active.get_mut(name)) {
            active.refused = Some(reason);
        }
        Ok(active)
    }
}
