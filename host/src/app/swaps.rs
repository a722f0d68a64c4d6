//! Versions on request: which there are, one of them into force again, back to the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::Core;
use super::binding_options::BindingOptions;
use super::bound::{Bound, maker};
use super::commands::refused;
use super::standing::Standing;
use super::transforms::{Active, Source};
use super::versions::{History, Version};
use super::workers::ConsumerGroup;
use crate::model::{Cut, Cuts, EntryId, Maker, Partition};
use crate::online_store;
use crate::serve::{Again, CutInfo, MadeBy, PartitionCuts, Refusal, RefusalKind, TransformInfo, Unseen, VersionInfo, Versions};

impl Core {
    /// Puts a version into force that was accepted before.
    pub(super) async fn activate(self: &Arc<Core>, name: &str, number: u32, wish: Again) -> Result<TransformInfo, Refusal> {
        let _place = self.place_to_compile()?;
        let version = {
            let registry = self.registry.lock().await;
            let history = registry.book.versions.history(name);
            if wish == Again::Back && history.and_then(History::back).is_none_or(|back| back.number != number) {
                return Err(conflict(format!("transform `{name}` has been changed at the same time; look at its versions and try again")));
            }
            let version = history.and_then(|history| history.version(number)).cloned();
            let missing = || not_found(format!("transform `{name}` has no version {number}; see /v1/transforms/{name}/versions"));
            version.ok_or_else(missing)?
        };
        let component = self.component(version.digest).await.map_err(|error| conflict(format!("{error:#}")))?;
        let source = match wish {
            Again::Back => Source::RolledBack(number),
            Again::ByNumber { force } => Source::Activated { number, force },
        };
        let active = self.install(name, component, Some(version.options), source).await.map_err(|error| refused(&error))?;
        let unseen = self.versions(name).await?.cuts.into_iter().filter_map(|partition| partition.unseen).collect();
        Ok(TransformInfo { sample: active.sample, unseen, ..self.info(name).await? })
    }

    /// All versions of a name, the newest first, and where one ended and the next began.
    pub(super) async fn versions(&self, name: &str) -> Result<Versions, Refusal> {
        let (history, active) = {
            let registry = self.registry.lock().await;
            let history = registry.book.versions.history(name).filter(|history| !history.versions.is_empty()).cloned();
            let active = registry.active.get(name).cloned();
            (history.ok_or_else(|| not_found(format!("there is no transform `{name}`")))?, active)
        };
        let cuts = self.cuts(name, &history, active.as_ref()).await;
        Ok(Versions {
            name: name.to_owned(),
            active: history.active,
            back: history.back().map(|version| version.number),
            versions: infos(&history),
            cuts: cuts.map_err(|error| Refusal { kind: RefusalKind::Unavailable, message: error.to_string() })?,
        })
    }

    /// The cuts of a view on every partition that one of its versions reads, with the group that it has now or had.
    async fn cuts(&self, name: &str, history: &History, active: Option<&Active>) -> Result<Vec<PartitionCuts>, online_store::Error> {
        let partitions = {
            let registry = self.registry.lock().await;
            let groups = |version: &Version| -> Vec<ConsumerGroup> {
                let Some(stream) = &version.stream else { return Vec::new() };
                let standings = [&registry.book.standing as &Standing, &Standing::default()];
                let known = standings.map(|standing| self.reading(name, stream, &version.options, standing).group);
                let past = registry.book.standing.past.get(name).into_iter().flatten();
                let past = past.map(|group| ConsumerGroup { stream: stream.clone(), name: group.clone() });
                known.into_iter().chain(past).collect()
            };
            let groups: BTreeSet<ConsumerGroup> = history.versions.iter().flat_map(groups).collect();
            groups.iter().flat_map(|group| self.partitions(group)).collect::<Vec<Partition>>()
        };
        let in_force = active.and_then(|active| Some(active.reading.as_ref()?.group.clone()));
        let maker = active.map(|active| maker(active.bound.transform(), &active.options));
        let keys: Vec<Vec<u8>> = partitions.iter().map(|partition| Cuts::key(partition, name)).collect();
        // First, so that everything up to a place was applied by what the cuts say.
        let places = self.store.as_store().places(&partitions).await?;
        let stored = self.store.as_store().read(&keys).await?;
        let mut all = Vec::new();
        for ((Partition { stream, group, index, .. }, stored), place) in partitions.into_iter().zip(stored).zip(places) {
            let cuts = stored.map(|stored| Cuts::read(&stored)).transpose().map_err(online_store::Error::Corrupt)?.unwrap_or_default();
            let is_read = in_force.as_ref().is_some_and(|of| (&of.stream, &of.name) == (&stream, &group));
            let competing = self.is_competing(&stream);
            if cuts.0.is_empty() && !is_read {
                continue;
            }
            let pending = is_read && !competing && cuts.maker() != maker.as_ref();
            let unseen = |after: Option<EntryId>, up_to: Option<EntryId>| {
                let (stream, group) = (stream.clone(), group.clone());
                Unseen { stream, group, partition: index, after, up_to }
            };
            let goes_back = |active: &&Active| match (&active.bound, cuts.maker()) {
                (Bound::Stream(binding), Some(last)) => binding.others.known().gone_back_behind.contains(&last.version),
                (Bound::Stream(_) | Bound::Requests(_), _) => false,
            };
            let version = active.filter(|_| pending).filter(goes_back).map(|active| &active.bound.view().version);
            let infos = cuts.0.iter().enumerate().map(|(many, cut)| {
                let to = cut.to.as_ref().filter(|_| cut.goes_back);
                info(history, cut, to.map(|to| unseen(cuts.unseen_after(&to.version, many), cut.after)))
            });
            all.push(PartitionCuts {
                pending,
                unseen: version.map(|version| unseen(cuts.unseen_after(version, usize::MAX), None)),
                cuts: infos.collect(),
                // The first batch without it may be to come, or nobody reads with the group any more.
                up_to: place.last.filter(|_| !is_read && !competing && cuts.maker().is_some()),
                stream,
                group,
                partition: index,
                competing,
            });
        }
        Ok(all)
    }
}

fn info(history: &History, cut: &Cut, unseen: Option<Unseen>) -> CutInfo {
    let made_by = |maker: &Maker| {
        let is_it = |version: &&Version| version.digest == maker.component && version.options.fingerprint() == maker.options;
        // Of several that differ in nothing that rows depend on, the newest.
        let number = history.versions.iter().rev().find(is_it).map(|version| version.number);
        MadeBy { number, component: maker.component, version: maker.version.clone() }
    };
    CutInfo { from: cut.from.as_ref().map(made_by), to: cut.to.as_ref().map(made_by), after: cut.after, at: cut.at, unseen }
}

fn not_found(message: String) -> Refusal {
    Refusal { kind: RefusalKind::NotFound, message }
}

fn conflict(message: String) -> Refusal {
    Refusal { kind: RefusalKind::Conflict, message }
}

fn infos(history: &History) -> Vec<VersionInfo> {
    let before = std::iter::once(None).chain(history.versions.iter().map(Some));
    let infos = history.versions.iter().zip(before).map(|(version, before)| VersionInfo {
        number: version.number,
        active: history.active == Some(version.number),
        component: version.digest,
        version: version.spec.version.clone(),
        stream: version.stream.clone(),
        origin: version.origin.as_str(),
        put_by: version.put_by.clone(),
        put_at: version.put_at,
        changed: before.map_or_else(Vec::new, |before| changed(before, version)),
        spec: version.spec.clone(),
    });
    let mut infos: Vec<VersionInfo> = infos.collect();
    infos.reverse();
    infos
}

/// What is different between two versions, in the words of the configuration. Only the names: settings may be nobody's business.
fn changed(before: &Version, after: &Version) -> Vec<String> {
    let options = |options: &BindingOptions| match serde_json::to_value(options) {
        Ok(Value::Object(options)) => options,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (old, new) = (options(&before.options), options(&after.options));
    let component = (before.digest != after.digest).then(|| "component".to_owned());
    component.into_iter().chain(new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, _)| key.clone())).collect()
}
