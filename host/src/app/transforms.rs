//! The transforms that are in force: how one gets in, replaces another, and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};

use super::Core;
use super::binding_options::BindingOptions;
use super::services::ServiceBook;
use super::shelf::{Pushed, Shelf, digest};
use crate::model::{Catalog, Column, Digest, Packed, Schema, StoredState, Values, View, aggregation, is_name, is_stream_name, state_key};
use crate::pipeline::{Binding, Transforms};
use crate::transform::{Transform, World};
use crate::window::Plan;

/// States of another version that a new one takes over for a try before it gets into force.
const STATES_TRIED: usize = 256;

/// Where a transform's component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration or the watched folder: it will come again at the next start.
    Declared,
    /// Pushed into the running host: kept on the shelf.
    Pushed,
}

/// A transform in force.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) binding: Arc<Binding>,
    pub(super) options: BindingOptions,
    pub(super) origin: Origin,
    /// What was declared under this name, whatever is in force.
    declared: Option<Digest>,
    /// Why the last component offered under this name was refused, until one is accepted.
    pub(super) refused: Option<String>,
}

/// All transforms in force and the shelf of pushed ones. Behind one lock: changes happen one after the other.
pub(super) struct Registry {
    pub(super) active: BTreeMap<String, Active>,
    /// Names under which nothing is in force because what was offered was refused.
    pub(super) refused: BTreeMap<String, String>,
    /// Pushed transforms that could not be put into force again, and their streams: what comes there waits for them.
    pub(super) missing: BTreeMap<String, String>,
    pub(super) services: ServiceBook,
    shelf: Shelf,
}

impl Registry {
    pub(super) fn new(shelf: Shelf, services: ServiceBook) -> Registry {
        Registry { active: BTreeMap::new(), refused: BTreeMap::new(), missing: BTreeMap::new(), services, shelf }
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
        origin: Origin,
    ) -> anyhow::Result<Active> {
        let result = self.try_install(name, component, options, origin).await;
        if let Err(error) = &result {
            tracing::warn!(transform = name, "component refused: {error:#}");
            self.telemetry.refused_components();
            let mut registry = self.registry.lock().await;
            match registry.active.get_mut(name) {
                Some(active) => active.refused = Some(format!("{error:#}")),
                // Whoever pushed it has been told; what was declared and is missing keeps the host from being ready.
                None if origin == Origin::Declared => drop(registry.refused.insert(name.to_owned(), format!("{error:#}"))),
                None => {}
            }
        }
        result
    }

    async fn try_install(
        self: &Arc<Core>,
        name: &str,
        component: Vec<u8>,
        options: Option<BindingOptions>,
        origin: Origin,
    ) -> anyhow::Result<Active> {
        if !is_name(name) {
            bail!("{name:?} cannot name a transform; use 1 to 63 ASCII letters, digits and `_`, not starting with a digit");
        }
        if self.written.contains_key(name) {
            bail!("`{name}` is a view that is written over HTTP, and cannot be computed too; use another name");
        }
        let in_force = self.registry.lock().await.active.get(name).cloned();
        let options = options.or_else(|| in_force.as_ref().map(|active| active.options.clone()));
        let options = options.unwrap_or_else(|| BindingOptions { limits: self.config.limits, ..BindingOptions::default() });
        let digest = digest(&component);
        if let Some(active) = in_force.filter(|active| active.binding.transform.digest() == digest && active.options == options) {
            return Ok(active);
        }
        let (component, transform) = self.compile(name, component, &options).await?;
        let mut registry = self.registry.lock().await;
        let active = self.bind(name, transform, options, origin, &registry).await?;
        let stream = active.binding.view.stream.clone();
        let moved_from = registry.active.get(name).map(|old| old.binding.view.stream.clone()).filter(|old| *old != stream);
        let mut bindings = registry.bindings_of(&stream, name);
        bindings.push(Arc::clone(&active.binding));
        let transforms = Transforms::new(self.stream_format(&stream), bindings)?;
        if origin == Origin::Pushed {
            let pushed = Pushed { digest, options: active.options.clone(), stream: stream.clone(), replaces: active.declared };
            registry.shelf.put(name, &component, pushed)?;
        }
        self.set_transforms(&stream, transforms).await?;
        if let Some(old) = moved_from {
            let rest = Transforms::new(self.stream_format(&old), registry.bindings_of(&old, name))?;
            self.set_transforms(&old, rest).await?;
        }
        registry.refused.remove(name);
        self.no_longer_missing(&mut registry, name);
        registry.active.insert(name.to_owned(), active.clone());
        self.publish(&registry);
        self.telemetry.swaps(name);
        tracing::info!(transform = name, stream, digest = %active.binding.transform.digest(), version = active.binding.view.version, "transform in force");
        Ok(active)
    }

    /// Ends a transform. Its rows stay readable until they expire, and its view is no longer served.
    pub(super) async fn remove(self: &Arc<Core>, name: &str) -> anyhow::Result<bool> {
        let mut registry = self.registry.lock().await;
        registry.shelf.remove(name)?;
        registry.refused.remove(name);
        self.no_longer_missing(&mut registry, name);
        let Some(active) = registry.active.remove(name) else { return Ok(false) };
        let stream = &active.binding.view.stream;
        let rest = Transforms::new(self.stream_format(stream), registry.bindings_of(stream, name))?;
        self.set_transforms(stream, rest).await?;
        self.publish(&registry);
        tracing::info!(transform = name, "transform removed");
        Ok(true)
    }

    /// Puts into force what was pushed before the last stop, except where something else has been declared since.
    pub(super) async fn install_pushed(self: &Arc<Core>) {
        let pushed: Vec<(String, Pushed)> = {
            let registry = self.registry.lock().await;
            registry.shelf.pushed().iter().map(|(name, pushed)| (name.clone(), pushed.clone())).collect()
        };
        for (name, pushed) in pushed {
            let (declared, component) = {
                let registry = self.registry.lock().await;
                (registry.active.get(&name).and_then(|active| active.declared), registry.shelf.read(pushed.digest))
            };
            if declared.is_some() && declared != pushed.replaces {
                tracing::info!(
                    transform = name,
                    "the component declared under this name has changed since one was pushed over it, and counts"
                );
                continue;
            }
            let installed = match component {
                Ok(component) => self.install(&name, component, Some(pushed.options.clone()), Origin::Pushed).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = installed {
                tracing::error!(transform = name, "a pushed component cannot be put into force again: {error:#}");
                let mut registry = self.registry.lock().await;
                if !registry.active.contains_key(&name) {
                    let advice = "its stream waits until one that works is pushed, or it is removed";
                    registry.refused.insert(name.clone(), format!("{error:#}; {advice}"));
                    registry.missing.insert(name, pushed.stream);
                }
            }
        }
    }

    /// Lets all pipelines begin but those of streams with a missing transform.
    pub(super) async fn release_streams(&self) {
        let registry = self.registry.lock().await;
        self.held.send_replace(Some(registry.missing.values().cloned().collect()));
    }

    fn no_longer_missing(&self, registry: &mut Registry, name: &str) {
        if registry.missing.remove(name).is_some() {
            self.held.send_replace(Some(registry.missing.values().cloned().collect()));
        }
    }

    async fn compile(&self, name: &str, component: Vec<u8>, options: &BindingOptions) -> anyhow::Result<(Vec<u8>, Transform)> {
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

    async fn bind(
        &self,
        name: &str,
        transform: Transform,
        options: BindingOptions,
        origin: Origin,
        registry: &Registry,
    ) -> anyhow::Result<Active> {
        let view = view_of(name, &transform, &options)?;
        let old = registry.active.get(name);
        if let Some(old) = old {
            let kinds = |view: &View| view.entity.iter().map(|field| (field.name.clone(), field.kind)).collect::<Vec<_>>();
            if kinds(&old.binding.view) != kinds(&view) {
                bail!("its entity differs from that of the transform in force under this name; remove that one first, or use another name");
            }
        }
        let declared = match origin {
            Origin::Declared => Some(transform.digest()),
            Origin::Pushed => old.and_then(|old| old.declared),
        };
        let schema = Schema {
            view: view.name.clone(),
            component: view.component,
            entity: view.entity.clone(),
            features: view.features.clone(),
            kept: view.kept.clone(),
            state_version: transform.world().is_stateful().then(|| view.version.clone()),
        };
        self.check_states(&view, &transform).await?;
        if (transform.world().is_stateful() || !view.kept.is_nothing()) && self.is_competing(&view.stream) {
            bail!(
                "it keeps states, windows or history, which need events in order and once each, and the hosts of stream `{}` compete for its \
                 entries: set `consumers = \"single\"` in [streams.{}]",
                view.stream,
                view.stream
            );
        }
        let kept = (!view.kept.is_nothing()).then(|| Arc::new(Plan::new(&view.features, &view.kept)));
        let schema = self.store.as_store().intern(&schema).await.context("cannot register the view with the online store")?;
        let inputs = transform.spec().inputs.iter().map(|field| options.inputs.get(&field.name).cloned().unwrap_or_default()).collect();
        let binding = Binding {
            transform,
            view: Arc::new(view),
            schema,
            inputs,
            kept,
            expire_secs: options.expire_secs(),
            bisect_ms_max: options.bisect_ms_max,
            telemetry: self.telemetry.transform(name),
        };
        Ok(Active { binding: Arc::new(binding), options, origin, declared, refused: None })
    }

    /// Refuses a fold that cannot go on from the states that are there: those of every version that was ever in force must be its own or be taken over, and a
    /// sample of what is stored is taken over for a try.
    async fn check_states(&self, view: &View, transform: &Transform) -> anyhow::Result<()> {
        if !transform.world().is_stateful() {
            return Ok(());
        }
        let store = self.store.as_store();
        let own = &view.version;
        let all = store.schemas().await.context("cannot read the schemas of the online store")?;
        let versions = all.into_iter().filter(|(_, schema)| schema.view == view.name).filter_map(|(_, schema)| schema.state_version);
        let others: BTreeSet<String> = versions.filter(|version| !StoredState::is_compatible(version, own)).collect();
        if others.is_empty() {
            return Ok(());
        }
        if transform.world() != World::MigratingTransform {
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            bail!(
                "version {own} does not read the states that version {} has written, and exports no migration: export one (world \
                 `migrating-transform`), give it a version that says that its states are the same ({}.x), or load it under another name",
                others.join(" and "),
                others.first().and_then(|version| version.rsplit_once('.')).map_or("0", |(major, _)| major)
            );
        }
        let prefix = state_key(format!("{}:", view.name).as_bytes());
        let sample = store.sample(&prefix, STATES_TRIED).await.context("cannot read the states of the online store")?;
        for from in others {
            let states = sample.iter().filter_map(|value| StoredState::read(value)).filter(|state| state.version == from);
            let mut packed = Packed::default();
            states.for_each(|state| packed.push(state.bytes));
            let many = packed.len();
            let migrated =
                tokio::task::block_in_place(|| transform.migrate(&from, &Column { values: Values::Blobs(packed), validity: None }));
            migrated.with_context(|| format!("it cannot take over {many} of the states that version {from} has written"))?;
        }
        Ok(())
    }

    pub(super) fn publish(&self, registry: &Registry) {
        let computed = registry.active.iter().map(|(name, active)| (name.clone(), Arc::clone(&active.binding.view)));
        let written = self.written.iter().map(|(name, written)| (name.clone(), Arc::clone(&written.view)));
        self.catalog.store(Arc::new(Catalog { views: computed.chain(written).collect(), services: registry.services.all() }));
    }
}

/// The view that a component makes when it is bound like this.
pub(super) fn view_of(name: &str, transform: &Transform, options: &BindingOptions) -> anyhow::Result<View> {
    let spec = transform.spec();
    let stream = options.stream.clone().or_else(|| spec.streams.first().cloned());
    let stream = stream.ok_or_else(|| anyhow!("the component names no stream; say which one it reads (`stream`)"))?;
    if !is_stream_name(&stream) {
        bail!("{stream:?} cannot name a stream; use 1 to 255 printable ASCII characters and no spaces");
    }
    if let Some(unknown) = options.inputs.keys().find(|input| !spec.inputs.iter().any(|field| field.name == **input)) {
        let inputs: Vec<&str> = spec.inputs.iter().map(|field| field.name.as_str()).collect();
        bail!("`inputs.{unknown}` names no input of the component; it has {}", inputs.join(", "));
    }
    let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
    let kept = options.kept(spec);
    let windows = aggregation::fields(&spec.outputs, &kept.aggregations)?;
    Ok(View {
        name: name.to_owned(),
        doc: spec.doc.clone(),
        stream,
        component: transform.digest(),
        version: spec.version.clone(),
        entity,
        features: spec.outputs.clone(),
        windows,
        kept,
        max_age_secs: options.max_age_secs,
        types: BTreeMap::new(),
    })
}

impl Registry {
    /// The bindings of a stream but for the one of this name.
    fn bindings_of(&self, stream: &str, but: &str) -> Vec<Arc<Binding>> {
        let others = self.active.iter().filter(|(name, active)| active.binding.view.stream == stream && *name != but);
        others.map(|(_, active)| Arc::clone(&active.binding)).collect()
    }
}
