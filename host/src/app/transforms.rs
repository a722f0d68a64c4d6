//! The transforms that are in force: how one gets in, replaces another, and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::Core;
use super::binding_options::BindingOptions;
use super::bound::Bound;
use super::services::ServiceBook;
use super::shadow::Shadows;
use super::standing::StandingFile;
use super::versions::{Change, Declaration, Origin, Version, VersionBook, digest};
use super::workers::{ConsumerGroup, Reading};
use crate::model::{Timestamp, ViewName};
use crate::pipeline::{Binding, Transforms};
use crate::serve::{Catalog, Sample};
use crate::transform::Transform;

/// A transform in force.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) bound: Bound,
    /// How it reads its stream, if it has one.
    pub(super) reading: Option<Reading>,
    pub(super) options: BindingOptions,
    pub(super) origin: Origin,
    /// Its number in the book of versions.
    pub(super) number: u32,
    /// What became of a sample of events when it came into force, if it was tried.
    pub(super) sample: Option<Sample>,
    /// Why the last component offered under this name was refused, until one is accepted.
    pub(super) refused: Option<String>,
}

/// Why a component comes into force.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Somebody put it there.
    Put {
        /// From where.
        origin: Origin,
        /// Who, for the book of versions.
        by: String,
        /// Whether it may be of no use for the newest events.
        force: bool,
    },
    /// Somebody asked for this version again.
    Activated {
        /// Which.
        number: u32,
        /// Whether it may be of no use for the newest events.
        force: bool,
    },
    /// Somebody wants the one before back.
    RolledBack(u32),
    /// It was in force at the last stop.
    Resumed(u32),
}

impl Source {
    /// The configuration or the watched folder.
    pub(super) fn declared(origin: Origin) -> Source {
        let by = match origin {
            Origin::Declared => "config",
            Origin::Folder => "folder",
            Origin::Pushed => "anyone",
        };
        Source::Put { origin, by: by.to_owned(), force: false }
    }

    /// Whether it is tried on a sample of events: then whether it may fail there.
    fn is_tried(&self) -> Option<bool> {
        match self {
            Source::Put { force, .. } | Source::Activated { force, .. } => Some(*force),
            Source::RolledBack(_) | Source::Resumed(_) => None,
        }
    }

    /// Whether it was in force before.
    fn is_again(&self) -> bool {
        match self {
            Source::Put { .. } => false,
            Source::Activated { .. } | Source::RolledBack(_) | Source::Resumed(_) => true,
        }
    }

    /// Where it is declared, if that is why it comes.
    fn declaration(&self) -> Option<Origin> {
        match self {
            Source::Put { origin: origin @ (Origin::Declared | Origin::Folder), .. } => Some(*origin),
            Source::Put { origin: Origin::Pushed, .. } | Source::Activated { .. } | Source::RolledBack(_) | Source::Resumed(_) => None,
        }
    }
}

/// All transforms in force and the book of versions. Behind one lock: changes happen one after the other.
pub(super) struct Registry {
    pub(super) active: BTreeMap<String, Active>,
    /// Names under which nothing is in force because what was offered was refused.
    pub(super) refused: BTreeMap<String, String>,
    /// Transforms of the last stop that could not be put into force again, and their streams: what comes there waits for them.
    pub(super) missing: BTreeMap<String, String>,
    pub(super) services: ServiceBook,
    pub(super) standing: StandingFile,
    pub(super) book: VersionBook,
    pub(super) shadows: Shadows,
}

impl Registry {
    pub(super) fn new(book: VersionBook, services: ServiceBook, standing: StandingFile, shadows: Shadows) -> Registry {
        Registry { active: BTreeMap::new(), refused: BTreeMap::new(), missing: BTreeMap::new(), services, standing, book, shadows }
    }

    /// Tells, with the transform in force or in place of one, why what was offered is not.
    pub(super) fn refuse(&mut self, name: &str, reason: String, source: &Source) {
        match self.active.get_mut(name) {
            Some(active) => active.refused = Some(reason),
            // Whoever pushed it has been told; what was declared and is missing keeps the host from being ready.
            None if source.declaration().is_some() => drop(self.refused.insert(name.to_owned(), reason)),
            None => {}
        }
    }
}

impl Core {
    /// Takes a component into force under `name`: compiled, checked and asked aside, then swapped in between two batches. When anything about it is
    /// wrong, what was in force goes on, and the error says what to change.
    pub(super) async fn install(
        self: &Arc<Core>,
        name: &str,
        component: Vec<u8>,
        options: Option<BindingOptions>,
        source: Source,
    ) -> anyhow::Result<Active> {
        let result = self.try_install(name, component, options, &source).await;
        if let Err(error) = &result {
            tracing::warn!(transform = name, "component refused: {error:#}");
            self.telemetry.refused_components();
            self.registry.lock().await.refuse(name, format!("{error:#}"), &source);
        }
        result
    }

    async fn try_install(
        self: &Arc<Core>,
        name: &str,
        component: Vec<u8>,
        options: Option<BindingOptions>,
        source: &Source,
    ) -> anyhow::Result<Active> {
        if ViewName::parse(name).is_none_or(|name| name.version == Some(1)) {
            bail!(
                "{name:?} cannot name a transform; use 1 to 63 ASCII letters, digits and `_`, not starting with a digit, and for another version of \
                 its view `@v2`, `@v3` and so on after them"
            );
        }
        if self.written.contains_key(name) {
            bail!("`{name}` is a view that is written over HTTP, and cannot be computed too; use another name");
        }
        let in_force = self.registry.lock().await.active.get(name).cloned();
        let digest = digest(&component);
        let declaration = source.declaration().map(|origin| (Declaration { digest, options: options.clone() }, origin));
        let options = options.or_else(|| in_force.as_ref().map(|active| active.options.clone()));
        let options = options.unwrap_or_else(|| BindingOptions { limits: self.config.limits, ..BindingOptions::default() });
        let is_same = |active: &&Active| active.bound.transform().digest() == digest && active.options == options;
        if let Some(active) = in_force.as_ref().filter(is_same) {
            if let Some((declared, origin)) = declaration {
                self.registry.lock().await.book.declare(name, declared, origin)?;
            }
            return Ok(active.clone());
        }
        let (component, transform) = self.compile(name, component, &options).await?;
        self.check_features(&*self.registry.lock().await, name, transform.spec(), &options, source)?;
        let sample = match (source.is_tried(), &in_force) {
            (Some(force), Some(active)) => {
                self.try_states(name, &transform, &options, active, force).await?;
                self.try_sample(name, &transform, &options, active, force).await?
            }
            (Some(_), None) | (None, _) => None,
        };
        let mut registry = self.registry.lock().await;
        // Again, because another version may have come into force meanwhile.
        self.check_features(&registry, name, transform.spec(), &options, source)?;
        let (bound, reading) = self.bind(name, transform, &options, source.is_again(), &registry).await?;
        let declared = declaration.map(|(declared, _)| declared);
        let active = self.write_down(&mut registry, name, &component, (bound, reading, options), source, declared)?;
        self.put_into_force(&mut registry, name, Active { sample, ..active }).await
    }

    /// Gives what is about to come into force its number.
    fn write_down(
        &self,
        registry: &mut Registry,
        name: &str,
        component: &[u8],
        (bound, reading, options): (Bound, Option<Reading>, BindingOptions),
        source: &Source,
        declared: Option<Declaration>,
    ) -> anyhow::Result<Active> {
        let origin_of = |number| registry.book.history(name).and_then(|history| Some(history.version(number)?.origin));
        let (change, origin) = match source {
            Source::Put { origin, by, .. } => {
                let version = Version {
                    number: 0,
                    digest: bound.transform().digest(),
                    options: options.clone(),
                    stream: bound.stream().map(str::to_owned),
                    origin: *origin,
                    put_by: by.clone(),
                    put_at: Timestamp::now(),
                    spec: bound.transform().spec().as_ref().clone(),
                };
                (Change::Accepted { component, version: Box::new(version) }, Some(*origin))
            }
            Source::Activated { number, .. } => (Change::Activated(*number), origin_of(*number)),
            Source::RolledBack(number) => (Change::RolledBack(*number), origin_of(*number)),
            Source::Resumed(number) => (Change::Resumed(*number), origin_of(*number)),
        };
        let number = registry.book.record(name, change, declared)?;
        Ok(Active { bound, reading, options, origin: origin.unwrap_or(Origin::Pushed), number, sample: None, refused: None })
    }

    /// Swaps a transform in, from the next batch on.
    async fn put_into_force(&self, registry: &mut Registry, name: &str, active: Active) -> anyhow::Result<Active> {
        let stream = active.bound.stream().map(str::to_owned);
        let group = active.reading.as_ref().map(|reading| &reading.group);
        let moved_from = registry.active.get(name).and_then(|old| old.reading.clone()).filter(|old| Some(&old.group) != group);
        if let (Bound::Stream(binding), Some(reading)) = (&active.bound, &active.reading)
            && !registry.standing.is_paused(name)
        {
            self.set_transforms(reading, self.transforms_of(registry, &reading.group, name, Some(binding))?).await?;
        }
        if let Some(old) = moved_from {
            self.set_rest(registry, &old, name).await?;
        }
        registry.refused.remove(name);
        self.no_longer_missing(registry, name);
        self.forget_shadow_of_another(registry, name, active.bound.transform().digest());
        registry.active.insert(name.to_owned(), active.clone());
        self.publish(registry);
        self.telemetry.swaps(name);
        let (digest, version) = (active.bound.transform().digest(), &active.bound.view().version);
        tracing::info!(transform = name, stream, number = active.number, %digest, version, "transform in force");
        Ok(active)
    }

    /// Ends a transform. Its rows stay readable until they expire, and its view is no longer served.
    pub(super) async fn remove(self: &Arc<Core>, name: &str) -> anyhow::Result<bool> {
        let mut registry = self.registry.lock().await;
        registry.book.deactivate(name)?;
        registry.refused.remove(name);
        self.no_longer_missing(&mut registry, name);
        registry.forget_shadow(name)?;
        let Some(active) = registry.active.remove(name) else { return Ok(false) };
        registry.standing.change(|standing| standing.forget(name))?;
        if let Some(reading) = &active.reading {
            self.set_rest(&registry, reading, name).await?;
        }
        self.publish(&registry);
        tracing::info!(transform = name, "transform removed");
        Ok(true)
    }

    /// Leaves a group to the transforms that it has beside this one.
    pub(super) async fn set_rest(&self, registry: &Registry, reading: &Reading, but: &str) -> anyhow::Result<()> {
        let rest = self.transforms_of(registry, &reading.group, but, None)?;
        self.set_transforms(reading, rest).await
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
        Ok(Transforms::new(self.stream_format(&group.stream), bindings)?)
    }

    /// Lets all pipelines begin but those of streams with a missing transform.
    pub(super) async fn release_streams(&self) {
        let registry = self.registry.lock().await;
        self.held.send_replace(Some(registry.missing.values().cloned().collect()));
    }

    pub(super) fn no_longer_missing(&self, registry: &mut Registry, name: &str) {
        if registry.missing.remove(name).is_some() {
            self.held.send_replace(Some(registry.missing.values().cloned().collect()));
        }
    }

    pub(super) async fn compile(&self, name: &str, component: Vec<u8>, options: &BindingOptions) -> anyhow::Result<(Vec<u8>, Transform)> {
        let (engine, settings, limits, name) = (self.engine.clone(), options.settings.clone(), options.limits, name.to_owned());
        let turn = Arc::clone(&self.compiling).acquire_owned().await.context("compiling was interrupted")?;
        let compiled = tokio::task::spawn_blocking(move || {
            // Given back when the compiler is done, whether or not anybody still waits for it.
            let _turn = turn;
            let transform = engine.load(&name, &component, &settings, limits)?;
            Ok::<_, crate::transform::Error>((component, transform))
        });
        Ok(compiled.await.context("compiling was interrupted")??)
    }

    pub(super) fn publish(&self, registry: &Registry) {
        let made = registry.active.iter().map(|(name, active)| (name.clone(), Arc::clone(active.bound.view())));
        let written = self.written.iter().map(|(name, written)| (name.clone(), Arc::clone(&written.view)));
        let views = made.chain(written).collect();
        let computed = registry.active.iter().filter_map(|(name, active)| match &active.bound {
            Bound::Stream(_) => None,
            Bound::Requests(computed) => Some((name.clone(), Arc::clone(computed))),
        });
        let current = registry.standing.current.clone();
        self.catalog.store(Arc::new(Catalog { views, computed: computed.collect(), current, services: registry.services.all() }));
    }
}

impl Registry {
    /// Those who read with a group and are not paused.
    pub(super) fn readers_of(&self, group: &ConsumerGroup) -> impl Iterator<Item = (&String, &Active)> {
        let reads = move |active: &Active| active.reading.as_ref().is_some_and(|reading| reading.group == *group);
        self.active.iter().filter(move |(name, active)| reads(active) && !self.standing.is_paused(name))
    }

    /// The bindings of a group but for the one of this name.
    fn bindings_of(&self, group: &ConsumerGroup, but: &str) -> Vec<Arc<Binding>> {
        let others = self.readers_of(group).filter(|(name, _)| *name != but);
        let bindings = others.filter_map(|(_, active)| match &active.bound {
            Bound::Stream(binding) => Some(Arc::clone(binding)),
            Bound::Requests(_) => None,
        });
        bindings.collect()
    }
}
