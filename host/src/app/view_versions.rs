//! Versions of views, side by side: which is current, how one that starts over becomes it, and transforms that are paused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Core;
use super::binding_options::BindingOptions;
use super::book::{Pages, not_written};
use super::streams::stream_key;
use super::transforms::Registry;
use super::workers::{ConsumerGroup, Reading};
use crate::config::Start;
use crate::model::{Cuts, EntryId, Partition, Place, Timestamp, ViewName};
use crate::online_store;
use crate::serve::{Refusal, RefusalKind};

/// How often it is looked whether a version that is to become current has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time that a pause waits for all partitions to be left. What is left later is told then.
const LEAVE_WAIT: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LEAVE_LOOK: Duration = Duration::from_millis(20);

impl Core {
    /// Makes a transform read nothing more until it is resumed. It leaves the group that it reads with, if it has others, at the entry where that
    /// group is, and has a group of its own from there on. In each partition it does so when whoever works there has heard of it, which is waited for.
    pub(super) async fn pause(self: &Arc<Core>, name: &str) -> Result<(), Refusal> {
        {
            let mut registry = self.registry.lock().await;
            let reading = reader(&registry, name)?;
            if registry.book.standing.is_paused(name) {
                return Ok(());
            }
            let group = reading.group.clone();
            if self.is_competing(&group.stream) {
                let reason = "hosts compete for its entries, so no entry is the last one before it is paused";
                return Err(conflict(format!("`{name}` cannot be paused: {reason}; delete it, or set `consumers = \"single\"`")));
            }
            let own = if registry.readers_of(&group).any(|(other, _)| other != name) {
                self.check_places(&reading).await?;
                Some(format!("{}.{}.{}", self.stream_config(&group.stream).group, name, Timestamp::now().as_millis()))
            } else {
                None
            };
            let pause = |pages: &mut Pages| {
                pages.standing.paused.push(name.to_owned());
                if let Some(own) = &own {
                    pages.standing.aside.insert(name.to_owned(), own.clone());
                    pages.standing.left.insert(own.clone(), group.name.clone());
                }
            };
            registry.book.change(pause).await.map_err(|error| not_written(&error))?;
            if let (Some(own), Some(active)) = (own, registry.active.get_mut(name)) {
                let from = Some(group.name.clone());
                active.reading = Some(Reading { group: ConsumerGroup { name: own, ..group }, start: reading.start, from });
            }
            self.put_to_work(&mut registry).await.map_err(|error| unavailable(&error))?;
        }
        tracing::info!(transform = name, "paused");
        let waited = Instant::now();
        while waited.elapsed() < LEAVE_WAIT && !self.still_to_leave(name).await.is_empty() {
            tokio::time::sleep(LEAVE_LOOK).await;
        }
        if let Err(error) = self.tell_the_streams_server(name).await {
            tracing::warn!(transform = name, "the stream's server does not know yet where it left: {error:#}");
        }
        Ok(())
    }

    /// Makes the group of its own that a paused transform will go on with, where it has left. What is trimmed while nobody reads is counted by what the
    /// stream's server knows of the group from now on; without that, it is not known how much it was.
    async fn tell_the_streams_server(&self, name: &str) -> anyhow::Result<()> {
        let Some(reading) = self.registry.lock().await.active.get(name).and_then(|active| active.reading.clone()) else { return Ok(()) };
        if reading.from.is_none() {
            return Ok(());
        }
        let (partitions, config) = (self.partitions(&reading.group), self.stream_config(&reading.group.stream));
        let keys: Vec<Vec<u8>> = partitions.iter().map(Cuts::left_key).collect();
        for (partition, left) in partitions.iter().zip(self.store.as_store().read(&keys).await?) {
            let last = left.and_then(|left| std::str::from_utf8(&left).ok()?.parse::<EntryId>().ok());
            if last.is_some() {
                let open = self.open_source(&reading.group, partition.index, reading.start, &config)?;
                open(Place { last, ..Place::default() }).await?.begin().await?;
            }
        }
        Ok(())
    }

    /// A group can be left where it has a place, or where it begins with whatever is there.
    async fn check_places(&self, reading: &Reading) -> Result<(), Refusal> {
        if reading.start != Start::End {
            return Ok(());
        }
        let places = self.store.as_store().places(&self.partitions(&reading.group)).await.map_err(|error| unavailable(&error))?;
        match places.iter().position(|place| place.last.is_none()) {
            None => Ok(()),
            Some(_) if places.len() == 1 => {
                Err(unavailable(&"no event has been applied yet, so there is no place to leave at; try again after one"))
            }
            Some(index) => Err(unavailable(&format!(
                "no event has been applied yet in partition {index}, so there is no place to leave at; try again after one"
            ))),
        }
    }

    /// Refuses to start over with a group that nobody reads with any more and that has a place: it would go on there, and not begin where it is said.
    pub(super) async fn check_begins(
        &self,
        name: &str,
        reading: &Reading,
        options: &BindingOptions,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let is_in_force = registry.book.versions.history(name).is_some_and(|history| history.active().is_some());
        let is_read = registry.active.values().any(|active| active.reading.as_ref().is_some_and(|other| other.group == reading.group));
        if options.start.is_none() || is_in_force || is_read {
            return Ok(());
        }
        let places = self.store.as_store().places(&self.partitions(&reading.group)).await.context("cannot see where its group is")?;
        if places.iter().all(|place| place.last.is_none()) {
            return Ok(());
        }
        let (group, base) = (&reading.group.name, ViewName::base_of(name));
        let is_free = |name: &String| registry.book.versions.history(name).is_none();
        let free = (2..).map(|version| ViewName::stored(base, version)).find(is_free).unwrap_or_default();
        bail!(
            "its group `{group}` has read the stream before, and would go on where it was left, beside the rows that were made then: put it under \
             another version of its view to start over (`{free}`), or go on there: say `group={group}` and no `start`"
        )
    }

    /// The partitions in which a paused transform may still be given events, because whoever works there has not heard of it yet.
    pub(super) async fn still_to_leave(&self, name: &str) -> Vec<u32> {
        let reading = {
            let registry = self.registry.lock().await;
            let active = registry.active.get(name).filter(|_| registry.book.standing.is_paused(name));
            let Some(reading) = active.and_then(|active| active.reading.clone()) else { return Vec::new() };
            reading
        };
        let partitions = self.partitions(&reading.group);
        let told = async {
            let keys: Vec<Vec<u8>> = partitions.iter().filter(|_| reading.from.is_some()).map(Cuts::left_key).collect();
            let left = self.store.as_store().read(&keys).await?;
            let held = match self.store.shared() {
                Some(store) => store.held(&partitions).await?,
                None => Vec::new(),
            };
            Ok::<_, online_store::Error>((left, held))
        };
        let Ok((left, held)) = told.await else { return partitions.iter().map(|partition| partition.index).collect() };
        let stays = |index: usize| left.get(index).is_some_and(Option::is_none) || held.get(index).copied().unwrap_or_default();
        partitions.iter().enumerate().filter(|(index, _)| stays(*index)).map(|(_, partition)| partition.index).collect()
    }

    /// Lets a paused transform go on where it left.
    pub(super) async fn resume(self: &Arc<Core>, name: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        reader(&registry, name)?;
        let changed = registry.book.change(|pages| pages.standing.paused.retain(|paused| paused != name)).await;
        changed.map_err(|error| not_written(&error))?;
        self.put_to_work(&mut registry).await.map_err(|error| unavailable(&error))?;
        tracing::info!(transform = name, "resumed");
        Ok(())
    }

    /// Makes a version the one that the view's name means: at once, or as soon as it has applied all that the one before has.
    pub(super) async fn switch(self: &Arc<Core>, name: &str, now: bool) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        if !registry.active.contains_key(name) {
            return Err(unknown(name));
        }
        check_switch(&registry, name)?;
        if now || self.has_caught_up(&registry, name).await.map_err(|error| unavailable(&error))? {
            return self.make_current(&mut registry, name).await;
        }
        let wait = |switching: &mut Vec<String>| {
            let base = ViewName::base_of(name);
            switching.retain(|other| ViewName::base_of(other) != base);
            switching.push(name.to_owned());
        };
        registry.book.change(|pages| wait(&mut pages.standing.switching)).await.map_err(|error| not_written(&error))
    }

    async fn make_current(&self, registry: &mut Registry, name: &str) -> Result<(), Refusal> {
        let base = ViewName::base_of(name).to_owned();
        let make = |Pages { standing, .. }: &mut Pages| {
            standing.switching.retain(|other| ViewName::base_of(other) != base);
            if base == name {
                standing.current.remove(&base);
            } else {
                standing.current.insert(base, name.to_owned());
            }
        };
        registry.book.change(make).await.map_err(|error| not_written(&error))?;
        self.publish(registry);
        tracing::info!(transform = name, "is the current version of its view");
        Ok(())
    }

    /// Whether a version has applied everything that the current one has, in every partition and by whatever host.
    async fn has_caught_up(&self, registry: &Registry, name: &str) -> Result<bool, online_store::Error> {
        let reading = |name: &str| registry.active.get(name).and_then(|active| active.reading.as_ref());
        let (Some(own), Some(current)) = (reading(name), reading(registry.book.standing.current(name))) else { return Ok(true) };
        if own.group == current.group || own.group.stream != current.group.stream {
            return Ok(true);
        }
        let (store, partitions) = (self.store.as_store(), self.partitions(&own.group));
        let places = store.places(&partitions).await?;
        let wanted = store.places(&self.partitions(&current.group)).await?;
        let is_as_far = |own_place: &Place, wanted: &Place| match (own_place.last, wanted.last, own.start) {
            (_, None, _) => true,
            (Some(own), Some(wanted), _) => own >= wanted,
            // There is nothing for it in between.
            (None, Some(wanted), Start::After(start)) => start >= wanted,
            (None, Some(_), Start::Beginning | Start::End) => false,
        };
        for ((place, wanted), partition) in places.iter().zip(&wanted).zip(&partitions) {
            if !is_as_far(place, wanted) && !self.has_nothing_left(&own.group, partition, place).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a stream has nothing more for a group: what others have applied in between was trimmed.
    async fn has_nothing_left(&self, group: &ConsumerGroup, partition: &Partition, place: &Place) -> bool {
        let onlooker = self.workers.lock().await.get(group).and_then(|worker| worker.onlooker.clone());
        let Some(onlooker) = onlooker else { return false };
        let key = stream_key(&group.stream, &self.stream_config(&group.stream), partition.index);
        // What cannot be told now is told in a moment.
        onlooker.lag(&key, place.last).await.is_ok_and(|lag| lag.entries == Some(0) && lag.pending == 0)
    }

    /// Switches to what was to become current once it has caught up, until the host stops.
    pub(super) fn watch_switches(self: &Arc<Core>) {
        let (core, mut shutdown) = (Arc::clone(self), self.shutdown.subscribe());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = shutdown.changed() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let mut registry = core.registry.lock().await;
                for name in registry.book.standing.switching.clone() {
                    // What cannot be read now is read in a moment.
                    if !registry.active.contains_key(&name) || !core.has_caught_up(&registry, &name).await.unwrap_or_default() {
                        continue;
                    }
                    let switched = match check_switch(&registry, &name) {
                        Ok(()) => core.make_current(&mut registry, &name).await,
                        Err(refusal) => Err(refusal),
                    };
                    // Another host may have been first.
                    if let Err(Refusal { message, .. }) = switched {
                        tracing::warn!(transform = name, "cannot become the current version, will try again: {message}");
                    }
                }
            }
        });
    }
}

/// Services and transforms that take features of the view by its name alone must find them in the version that the name is to mean.
fn check_switch(registry: &Registry, name: &str) -> Result<(), Refusal> {
    let Some(active) = registry.active.get(name) else { return Err(unknown(name)) };
    let (base, view) = (ViewName::base_of(name), active.bound.view());
    let is_missing = |reference: &str| {
        let (of, feature) = reference.split_once(':').unwrap_or((reference, ""));
        of == base && !view.features.iter().chain(&view.windows).any(|field| field.name == feature)
    };
    let services = registry.all_services();
    let of_services = services.iter().flat_map(|service| {
        service.features.iter().map(|reference| (format!("service `{}@{}`", service.name, service.version), reference.clone()))
    });
    let of_transforms = registry.active.iter().flat_map(|(other, active)| {
        active.bound.view().uses.iter().map(move |reference| (format!("transform `{other}`"), reference.clone()))
    });
    match of_services.chain(of_transforms).find(|(_, reference)| is_missing(reference)) {
        None => Ok(()),
        Some((who, reference)) => {
            let feature = reference.split_once(':').map_or("", |(_, feature)| feature);
            let current = ViewName::exact(registry.book.standing.current(name));
            Err(conflict(format!(
                "{who} takes `{reference}`, which `{name}` does not have; let it take `{current}:{feature}`, or remove it, and switch then"
            )))
        }
    }
}

/// A transform that reads a stream.
fn reader(registry: &Registry, name: &str) -> Result<Reading, Refusal> {
    let active = registry.active.get(name).ok_or_else(|| unknown(name))?;
    match active.reading.clone() {
        Some(reading) => Ok(reading),
        None => Err(conflict(format!("`{name}` computes when somebody asks, and reads no stream: there is nothing to pause"))),
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal { kind: RefusalKind::NotFound, message: format!("there is no transform `{name}`") }
}

fn conflict(message: String) -> Refusal {
    Refusal { kind: RefusalKind::Conflict, message }
}

fn unavailable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal { kind: RefusalKind::Unavailable, message: format!("{error:#}") }
}
