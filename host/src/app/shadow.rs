//! Versions that are tried behind those in force: how one begins, is told about, takes over, and ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Core;
use super::binding_options::BindingOptions;
use super::book::write_aside;
use super::bound::{Bound, ahead_max_secs, maker, view_of};
use super::commands;
use super::transforms::{Registry, Source};
use super::versions::{Origin, digest};
use crate::model::{Digest, SchemaId, ShadowGates, ShadowPartitions, ShadowReport, Timestamp, View};
use crate::pipeline::{Binding, Others, Shadow, difference};
use crate::serve::{self, Refusal, RefusalKind, TransformInfo};
use crate::window::Lasting;

/// Time that a shadow has for one batch, in milliseconds, beyond its deadline for a call.
const BUDGET_MS: u64 = 250;
/// Shadow states are forgotten this long after the last event of their entity, whatever has become of the shadow: a week.
const STATES_EXPIRE_SECS: u64 = 7 * 86_400;

/// A shadow as it is kept over restarts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    component: Digest,
    options: BindingOptions,
    /// Tells its states from those of shadows before it.
    number: u64,
    /// The component in force when it was put. Behind another one it means nothing.
    live: Digest,
}

/// The shadow of one transform while the host runs.
struct Running {
    kept: Kept,
    since: Timestamp,
    view: View,
}

/// All shadows, and the folder in which they are kept.
pub(super) struct Shadows {
    folder: PathBuf,
    kept: BTreeMap<String, Kept>,
    running: BTreeMap<String, Running>,
}

impl Shadows {
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Shadows> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let contents = folder.join("shadows.json");
        let kept = match std::fs::read(&contents) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", contents.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", contents.display())),
        };
        Ok(Shadows { folder, kept, running: BTreeMap::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }

    /// Whether the shadow of this number stands behind what is in force.
    pub(super) fn is_running(&self, name: &str, number: u64) -> bool {
        self.running.get(name).is_some_and(|running| running.kept.number == number)
    }

    /// The bytes of a shadow's component, which are checked against their digest.
    fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.path(name);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if self.kept.get(name).is_some_and(|kept| kept.component != digest(&bytes)) {
            bail!("{} is not the component it was; put the shadow again", path.display());
        }
        Ok(bytes)
    }

    fn keep(&mut self, name: &str, kept: Option<Kept>) -> anyhow::Result<()> {
        let mut all = self.kept.clone();
        match kept {
            Some(kept) => drop(all.insert(name.to_owned(), kept)),
            None if all.remove(name).is_none() => return Ok(()),
            None => {}
        }
        write_aside(&self.folder.join("shadows.json"), &serde_json::to_vec_pretty(&all)?)?;
        self.kept = all;
        Ok(())
    }
}

fn refused(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal { kind, message: message.into() }
}

fn no_shadow(name: &str) -> Refusal {
    refused(RefusalKind::NotFound, format!("transform `{name}` has no shadow; put one with `PUT /v1/transforms/{name}/shadow`"))
}

impl Core {
    /// Begins to try a component behind the one in force, with what differs in its binding. One that is there already is replaced.
    pub(super) async fn put_shadow(
        self: &Arc<Core>,
        name: &str,
        component: Bytes,
        binding: serve::Binding,
    ) -> Result<ShadowReport, Refusal> {
        let busy = |_| refused(RefusalKind::Unavailable, "other components are being compiled; try again");
        let _place = self.pushes.try_acquire().map_err(busy)?;
        let unusable = |error: &anyhow::Error| refused(RefusalKind::Unusable, format!("{error:#}"));
        let (live, options) = self.live(name).await?;
        let options = Self::with_binding(options, binding)?;
        let number = Timestamp::now().as_millis();
        let kept = Kept { component: digest(&component), options, number, live };
        let (bytes, shadow, view) = self.make_shadow(name, component, &kept).await.map_err(|error| unusable(&error))?;
        let mut registry = self.registry.lock().await;
        let running = Running { kept: kept.clone(), since: Timestamp::now(), view };
        registry.check_behind(name, &running).map_err(|error| unusable(&error))?;
        write_aside(&registry.shadows.path(name), &bytes).map_err(|error| unusable(&error))?;
        registry.shadows.keep(name, Some(kept)).map_err(|error| unusable(&error))?;
        self.run_shadow(&mut registry, name, shadow, running).await.map_err(|error| unusable(&error))?;
        let report = self.report(&registry, name).await;
        report.ok_or_else(|| refused(RefusalKind::Conflict, format!("transform `{name}` was removed at the same time")))
    }

    /// The component that a shadow would stand behind, and how it is bound.
    async fn live(&self, name: &str) -> Result<(Digest, BindingOptions), Refusal> {
        let registry = self.registry.lock().await;
        let Some(active) = registry.active.get(name) else {
            return Err(refused(RefusalKind::NotFound, format!("there is no transform `{name}`")));
        };
        match &active.bound {
            Bound::Stream(binding) => Ok((binding.transform.digest(), active.options.clone())),
            Bound::Requests(_) => Err(refused(
                RefusalKind::Unusable,
                format!("transform `{name}` computes when somebody asks; a shadow is given the events of a stream"),
            )),
        }
    }

    async fn make_shadow(&self, name: &str, component: Bytes, kept: &Kept) -> anyhow::Result<(Bytes, Shadow, View)> {
        let hidden = format!("{name}@shadow-{}", kept.number);
        let (component, transform) = self.compile(&format!("{name}@shadow"), component, &kept.options).await?;
        let (view, stream) = view_of(name, &transform, &kept.options, &self.config)?;
        if transform.world().is_stateful() {
            if self.is_competing(&stream) {
                bail!("it keeps states, and the hosts of stream `{stream}` compete for its entries");
            }
            self.check_states(&view, &transform, false).await?;
        }
        let inputs =
            transform.spec().inputs.iter().map(|field| kept.options.inputs.get(&field.name).cloned().unwrap_or_default()).collect();
        let maker = maker(&transform, &kept.options);
        let ahead_max_secs = ahead_max_secs(&view, &transform, &kept.options);
        let binding = Binding {
            transform,
            maker,
            view: Arc::new(View { name: hidden, ..view.clone() }),
            // None of its rows is stored.
            schema: SchemaId(0),
            inputs,
            kept: None,
            entity_bytes_max: kept.options.entity_bytes_max,
            // It is given what the version in force is given.
            ahead_max_secs,
            others: Others::default(),
            emit: None,
            lasting: Lasting::new(Some(STATES_EXPIRE_SECS), None),
            forgets: ArcSwap::default(),
            bisect_ms_max: BUDGET_MS,
            shadow: ArcSwapOption::empty(),
            telemetry: self.telemetry.transform(name),
        };
        Ok((component, Shadow::new(binding, Duration::from_millis(BUDGET_MS)), view))
    }

    /// Puts a shadow behind what is in force, from the next batch on.
    async fn run_shadow(&self, registry: &mut Registry, name: &str, shadow: Shadow, running: Running) -> anyhow::Result<()> {
        let live = registry.check_behind(name, &running)?;
        live.shadow.store(Some(Arc::new(shadow)));
        self.renew_transforms(registry, name).await?;
        registry.shadows.running.insert(name.to_owned(), running);
        tracing::info!(transform = name, "shadow begins");
        Ok(())
    }

    /// Makes the set of transforms anew that this one reads with.
    async fn renew_transforms(&self, registry: &Registry, name: &str) -> anyhow::Result<()> {
        let Some((reading, Bound::Stream(binding))) =
            registry.active.get(name).and_then(|active| Some((active.reading.as_ref()?, &active.bound)))
        else {
            return Ok(());
        };
        if registry.book.standing.is_paused(name) {
            return Ok(());
        }
        self.set_transforms(reading, self.transforms_of(registry, &reading.group, name, Some(binding))?).await
    }

    /// What has come of a shadow so far.
    pub(super) async fn shadow_report(&self, name: &str) -> Result<ShadowReport, Refusal> {
        let registry = self.registry.lock().await;
        self.report(&registry, name).await.ok_or_else(|| no_shadow(name))
    }

    async fn report(&self, registry: &Registry, name: &str) -> Option<ShadowReport> {
        let mut report = registry.shadow_report(name)?;
        let group = &registry.active.get(name)?.reading.as_ref()?.group;
        let count = self.stream_config(&group.stream).partitioning(&group.stream).map_or(1, |partitioning| partitioning.count);
        let workers = self.workers.lock().await;
        let here = workers.get(group).map_or_else(Vec::new, |worker| worker.held().collect());
        report.partitions = ShadowPartitions::new(count, here, std::mem::take(&mut report.counts.of_partitions));
        Some(report)
    }

    /// Makes a shadow the version in force, if what is asked of it holds.
    pub(super) async fn promote_shadow(self: &Arc<Core>, name: &str, gates: ShadowGates, by: String) -> Result<TransformInfo, Refusal> {
        let (component, options, number) = {
            let registry = self.registry.lock().await;
            let report = self.report(&registry, name).await.ok_or_else(|| no_shadow(name))?;
            let failing = gates.failing(&report);
            if !failing.is_empty() {
                let message = format!("the shadow does not take over: {}; see `GET /v1/transforms/{name}/shadow`", failing.join("; "));
                return Err(refused(RefusalKind::Conflict, message));
            }
            let kept = registry.shadows.kept.get(name).ok_or_else(|| no_shadow(name))?;
            let (options, number) = (kept.options.clone(), kept.number);
            let component = registry.shadows.read(name).map_err(|error| refused(RefusalKind::Unavailable, format!("{error:#}")))?;
            (component, options, number)
        };
        // It was compared with what was in force when it was looked at: if that is not in force any more, the shadow is none either.
        let source = Source::Put { origin: Origin::Pushed, by, force: false, shadow: Some(number) };
        let installed = self.install(name, component, Some(options), source).await;
        let active = installed.map_err(|error| commands::refused(&error))?;
        let info = self.list().await.into_iter().find(|transform| transform.name == name);
        let info = info.ok_or_else(|| refused(RefusalKind::Conflict, format!("transform `{name}` was removed at the same time")))?;
        Ok(TransformInfo { sample: active.sample, ..info })
    }

    /// Ends a shadow. Its states are forgotten after a while.
    pub(super) async fn delete_shadow(&self, name: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        if registry.shadow_report(name).is_none() {
            return Err(no_shadow(name));
        }
        let ended = self.end_shadow(&mut registry, name).await;
        ended.map_err(|error| refused(RefusalKind::Unavailable, format!("{error:#}")))
    }

    /// A shadow stands behind one component: once another one is in force, it means nothing any more.
    pub(super) fn forget_shadow_of_another(&self, registry: &mut Registry, name: &str, live: Digest) {
        let was_running = registry.shadows.running.remove(name).is_some();
        if (was_running || registry.shadows.kept.get(name).is_some_and(|kept| kept.live != live))
            && let Err(error) = registry.forget_shadow(name)
        {
            tracing::warn!(transform = name, "cannot forget its shadow: {error:#}");
        }
    }

    async fn end_shadow(&self, registry: &mut Registry, name: &str) -> anyhow::Result<()> {
        registry.forget_shadow(name)?;
        let Some(Bound::Stream(live)) = registry.active.get(name).map(|active| active.bound.clone()) else { return Ok(()) };
        live.shadow.store(None);
        self.renew_transforms(registry, name).await
    }

    /// Goes on with the shadows that there were before the last stop, where the versions that they stood behind are in force again.
    pub(super) async fn resume_shadows(self: &Arc<Core>) {
        let all = self.registry.lock().await.shadows.kept.clone();
        for (name, kept) in all {
            if let Err(error) = self.resume_shadow(&name, kept).await {
                tracing::warn!(transform = name, "its shadow does not go on: {error:#}");
                if let Err(error) = self.registry.lock().await.forget_shadow(&name) {
                    tracing::warn!(transform = name, "cannot forget its shadow: {error:#}");
                }
            }
        }
    }

    async fn resume_shadow(self: &Arc<Core>, name: &str, kept: Kept) -> anyhow::Result<()> {
        let (live, _) = self.live(name).await.map_err(|refusal| anyhow!(refusal.message))?;
        if live != kept.live {
            bail!("another version is in force than it stood behind");
        }
        let component = self.registry.lock().await.shadows.read(name)?;
        let (_, shadow, view) = self.make_shadow(name, component.into(), &kept).await?;
        let mut registry = self.registry.lock().await;
        self.run_shadow(&mut registry, name, shadow, Running { kept, since: Timestamp::now(), view }).await
    }
}

impl Registry {
    /// Takes a shadow out of the books; whatever is in force now goes on without.
    pub(super) fn forget_shadow(&mut self, name: &str) -> anyhow::Result<()> {
        self.shadows.running.remove(name);
        self.shadows.keep(name, None)?;
        match std::fs::remove_file(self.shadows.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What a shadow stands behind, if it can.
    fn check_behind(&self, name: &str, shadow: &Running) -> anyhow::Result<Arc<Binding>> {
        let Some(Bound::Stream(live)) = self.active.get(name).map(|active| active.bound.clone()) else {
            bail!("transform `{name}` was removed at the same time");
        };
        if live.transform.digest() != shadow.kept.live {
            bail!("another version was put into force at the same time; put the shadow again");
        }
        let kinds = |view: &View| view.entity.iter().map(|field| (field.name.clone(), field.kind)).collect::<Vec<_>>();
        if kinds(&live.view) != kinds(&shadow.view) {
            bail!("its entity differs from that of the transform in force, so there is nothing to compare");
        }
        Ok(live)
    }

    fn shadow_report(&self, name: &str) -> Option<ShadowReport> {
        let running = self.shadows.running.get(name)?;
        let active = self.active.get(name)?;
        let Bound::Stream(live) = &active.bound else { return None };
        let shadow = live.shadow.load_full()?;
        let [added, removed, retyped] = difference(&live.view.features, &running.view.features);
        Some(ShadowReport {
            name: name.to_owned(),
            component: running.kept.component,
            version: running.view.version.clone(),
            live_component: live.transform.digest(),
            since: running.since,
            added,
            removed,
            retyped,
            aggregations_differ: live.view.kept != running.view.kept,
            memory_bytes: [live.transform.memory_bytes(), shadow.binding.transform.memory_bytes()],
            partitions: ShadowPartitions::default(),
            counts: shadow.counts(),
        })
    }
}
