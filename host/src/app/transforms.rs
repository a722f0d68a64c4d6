//! The transforms that are in force: how one gets in, replaces another, and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;

use super::Core;
use super::binding_options::BindingOptions;
use super::book::{Book, Outdated, Pages};
use super::bound::Bound;
use super::shadow::Shadows;
use super::versions::{Change, Declaration, Declared, History, Origin, Version, digest};
use super::workers::Reading;
use crate::model::{Services, Timestamp, ViewName};
use crate::serve::{Catalog, Sample};
use crate::transform::Transform;
use crate::window::Forgets;

/// Times that a change is tried again because another host has changed something meanwhile: many may start at the same time.
pub(super) const TURNS_MAX: usize = 50;

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
        /// The shadow that it is promoted from, if it is one: the one that was looked at.
        shadow: Option<u64>,
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
        Source::Put { origin, by: by.to_owned(), force: false, shadow: None }
    }

    /// Whether it is tried on a sample of events: then whether it may fail there.
    fn is_tried(&self) -> Option<bool> {
        match self {
            Source::Put { force, .. } | Source::Activated { force, .. } => Some(*force),
            Source::RolledBack(_) | Source::Resumed(_) => None,
        }
    }

    /// Whether it means the same whatever other hosts do meanwhile, or is refused if it does not.
    fn is_put(&self) -> bool {
        matches!(self, Source::Put { .. })
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

/// What somebody has decided on is something else by now.
#[derive(Debug, thiserror::Error)]
#[error("transform `{0}` has been changed at the same time; look at its versions and try again")]
pub(super) struct Changed(String);

/// All transforms in force and the book of versions. Behind one lock: changes happen one after the other.
pub(super) struct Registry {
    pub(super) active: BTreeMap<String, Active>,
    /// Names under which nothing is in force because what was offered was refused.
    pub(super) refused: BTreeMap<String, String>,
    /// Transforms of the last stop that could not be put into force again, and their streams: what comes there waits for them.
    pub(super) missing: BTreeMap<String, String>,
    /// The services that the configuration describes.
    pub(super) services: Services,
    pub(super) book: Book,
    pub(super) shadows: Shadows,
    /// Whether what was in force at the last stop is in force again, as far as it can be.
    pub(super) is_up: bool,
    /// Whether all groups work on what is in force.
    pub(super) is_at_work: bool,
}

impl Registry {
    pub(super) fn new(book: Book, services: Services, shadows: Shadows) -> Registry {
        let (active, refused, missing) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Registry { active, refused, missing, services, book, shadows, is_up: false, is_at_work: true }
    }

    /// Refuses what was decided on before others have changed it.
    fn check_unchanged(&self, name: &str, source: &Source) -> Result<(), Changed> {
        let history = self.book.versions.history(name);
        let is_unchanged = match source {
            Source::Put { shadow: Some(number), .. } => self.shadows.is_running(name, *number),
            Source::RolledBack(number) => history.and_then(History::back).is_some_and(|back| back.number == *number),
            Source::Activated { number, .. } => history.is_some_and(|history| history.version(*number).is_some()),
            Source::Put { shadow: None, .. } | Source::Resumed(_) => true,
        };
        if is_unchanged { Ok(()) } else { Err(Changed(name.to_owned())) }
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
        component: impl Into<Bytes>,
        options: Option<BindingOptions>,
        source: Source,
    ) -> anyhow::Result<Active> {
        let component = component.into();
        let mut turns = 0;
        loop {
            match self.install_once(name, component.clone(), options.clone(), &source).await {
                Err(error) if error.is::<Outdated>() && source.is_put() && turns < TURNS_MAX => turns += 1,
                installed => return installed,
            }
            self.refresh().await?;
        }
    }

    /// The same; [`Outdated`] when another host has changed what is in force meanwhile.
    pub(super) async fn install_once(
        self: &Arc<Core>,
        name: &str,
        component: Bytes,
        options: Option<BindingOptions>,
        source: &Source,
    ) -> anyhow::Result<Active> {
        let result = self.try_install(name, component, options, source).await;
        if let Err(error) = &result
            && !(error.is::<Outdated>() || error.is::<Changed>())
        {
            tracing::warn!(transform = name, "component refused: {error:#}");
            self.telemetry.refused_components();
            self.registry.lock().await.refuse(name, format!("{error:#}"), source);
        }
        result
    }

    async fn try_install(
        self: &Arc<Core>,
        name: &str,
        component: Bytes,
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
            self.registry.lock().await.check_unchanged(name, source)?;
            if let Some((declared, origin)) = declaration {
                let declared = Declared { declaration: &declared, host: self.folder.host_id() };
                self.registry.lock().await.book.change(|pages| pages.versions.declare(name, declared, origin)).await?;
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
        registry.check_unchanged(name, source)?;
        // Again, because another version may have come into force meanwhile.
        self.check_features(&registry, name, transform.spec(), &options, source)?;
        let (bound, reading) = self.bind(name, transform, &options, source.is_again(), &registry).await?;
        if let (Bound::Stream(binding), Some(reading)) = (&bound, &reading) {
            // What cannot be put to work is not written down.
            self.open_stream(&reading.group.stream)?;
            if matches!(source, Source::Put { origin: Origin::Pushed, .. }) {
                self.check_begins(name, reading, &options, &registry).await?;
            }
            self.transforms_of(&registry, &reading.group, name, Some(binding))?;
        }
        let declared = declaration.map(|(declared, _)| declared);
        let active = self.write_down(&mut registry, name, &component, (bound, reading, options), source, declared).await?;
        self.put_into_force(&mut registry, name, Active { sample, ..active }).await
    }

    /// Gives what is about to come into force its number.
    async fn write_down(
        &self,
        registry: &mut Registry,
        name: &str,
        component: &[u8],
        (bound, reading, options): (Bound, Option<Reading>, BindingOptions),
        source: &Source,
        declared: Option<Declaration>,
    ) -> anyhow::Result<Active> {
        let origin_of = |number| registry.book.versions.history(name).and_then(|history| Some(history.version(number)?.origin));
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
                registry.book.keep_component(version.digest, component)?;
                (Change::Accepted(Box::new(version)), Some(*origin))
            }
            Source::Activated { number, .. } => (Change::Activated(*number), origin_of(*number)),
            Source::RolledBack(number) => (Change::RolledBack(*number), origin_of(*number)),
            Source::Resumed(number) => (Change::Resumed(*number), origin_of(*number)),
        };
        let declared = declared.as_ref().map(|declaration| Declared { declaration, host: self.folder.host_id() });
        let versions_max = registry.book.versions_max();
        let forgets = match bound.binding() {
            Some(binding) => **binding.forgets.load(),
            // Nothing is kept any more, and what was there goes on to expire.
            None => {
                registry.book.versions.history(name).map_or_else(Forgets::default, |history| history.forgets(None, false, Timestamp::now()))
            }
        };
        let number = registry.book.change(|pages| pages.versions.record(name, change, forgets, declared, versions_max)).await?;
        Ok(Active { bound, reading, options, origin: origin.unwrap_or(Origin::Pushed), number, sample: None, refused: None })
    }

    /// Swaps a transform in, from the next batch on.
    async fn put_into_force(&self, registry: &mut Registry, name: &str, active: Active) -> anyhow::Result<Active> {
        let stream = active.bound.stream().map(str::to_owned);
        registry.refused.remove(name);
        self.no_longer_missing(registry, name);
        self.forget_shadow_of_another(registry, name, active.bound.transform().digest());
        registry.active.insert(name.to_owned(), active.clone());
        self.put_to_work(registry).await?;
        self.publish(registry);
        self.telemetry.swaps(name);
        let (digest, version) = (active.bound.transform().digest(), &active.bound.view().version);
        tracing::info!(transform = name, stream, number = active.number, %digest, version, "transform in force");
        Ok(active)
    }

    /// Ends a transform. Its rows stay readable until they expire, and its view is no longer served.
    pub(super) async fn remove(self: &Arc<Core>, name: &str) -> anyhow::Result<bool> {
        let mut turns = 0;
        loop {
            match self.remove_once(name).await {
                Err(error) if error.is::<Outdated>() && turns < TURNS_MAX => turns += 1,
                removed => return removed,
            }
            self.refresh().await?;
        }
    }

    async fn remove_once(self: &Arc<Core>, name: &str) -> anyhow::Result<bool> {
        let mut registry = self.registry.lock().await;
        let versions_max = registry.book.versions_max();
        let end = |pages: &mut Pages| {
            pages.standing.forget(name);
            pages.versions.deactivate(name, versions_max)
        };
        registry.book.change(end).await?;
        let was_there = self.end(&mut registry, name);
        self.put_to_work(&mut registry).await?;
        self.publish(&registry);
        Ok(was_there)
    }

    /// Takes a transform out that the book does not have in force any more.
    pub(super) fn end(&self, registry: &mut Registry, name: &str) -> bool {
        let was_refused = registry.refused.remove(name).is_some();
        self.no_longer_missing(registry, name);
        if let Err(error) = registry.forget_shadow(name) {
            tracing::warn!(transform = name, "cannot forget its shadow: {error:#}");
        }
        let was_there = registry.active.remove(name).is_some() || was_refused;
        if was_there {
            tracing::info!(transform = name, "transform removed");
        }
        was_there
    }

    pub(super) async fn compile(&self, name: &str, component: Bytes, options: &BindingOptions) -> anyhow::Result<(Bytes, Transform)> {
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
        let forgets = registry.active.iter().filter_map(|(name, active)| Some((name.clone(), **active.bound.binding()?.forgets.load())));
        let forgets = forgets.chain(self.written.iter().map(|(name, written)| (name.clone(), written.forgets))).collect();
        let (computed, current) = (computed.collect(), registry.book.standing.current.clone());
        self.catalog.store(Arc::new(Catalog { views, computed, forgets, current, services: registry.all_services() }));
    }
}
