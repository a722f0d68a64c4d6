//! Versions of views, side by side: which is current, how one that starts over becomes it, and transforms that are paused.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::transforms::{Active, Registry};
use super::workers::{ConsumerGroup, Reading, Worker};
use crate::config::Start;
use crate::model::{Commit, EntryId, Partition, Place, Timestamp, ViewName};
use crate::pipeline::Health;
use crate::serve::{Refusal, RefusalKind};

/// How often it is looked whether a version that is to become current has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Core {
    /// Makes a transform read nothing more until it is resumed. It leaves the group that it reads with, if it has others, at the entry where that
    /// group is, and has a group of its own from there on.
    pub(super) async fn pause(self: &Arc<Core>, name: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        let (active, reading) = reader(&registry, name)?;
        if registry.standing.is_paused(name) {
            return Ok(());
        }
        let group = reading.group.clone();
        if self.is_competing(&group.stream) {
            let reason = "hosts compete for its entries, so no entry is the last one before it is paused";
            return Err(conflict(format!("`{name}` cannot be paused: {reason}; delete it, or set `consumers = \"single\"`")));
        }
        let mut own = None;
        if registry.readers_of(&group).any(|(other, _)| other != name) {
            let fresh = format!("{}.{}.{}", self.stream_config(&group.stream).group, name, Timestamp::now().as_millis());
            self.leave(&registry, &active, &reading, &fresh).await?;
            own = Some(fresh);
        }
        let kept = registry.standing.change(|standing| {
            standing.paused.push(name.to_owned());
            standing.aside.extend(own.clone().map(|own| (name.to_owned(), own)));
        });
        if kept.is_ok()
            && let Some(own) = own
            && let Some(active) = registry.active.get_mut(name)
        {
            active.reading = Some(Reading { group: ConsumerGroup { name: own, ..group }, start: reading.start });
        }
        // The others go on, and so does this one if it could not be kept that it is paused.
        let restarted = self.restart(&registry, &reading).await;
        kept.and(restarted).map_err(|error| unavailable(&error))?;
        tracing::info!(transform = name, "paused");
        Ok(())
    }

    /// Stops the worker of a group and gives another group the places that it has come to.
    async fn leave(&self, registry: &Registry, active: &Active, reading: &Reading, own: &str) -> Result<(), Refusal> {
        let Some(worker) = self.workers.lock().await.remove(&reading.group) else { return Ok(()) };
        let is_known = worker.holds_all();
        worker.ask_to_stop();
        let places = worker.stopped().await;
        let left = if is_known {
            self.give_places(&places, reading.start, own).await
        } else {
            let advice = "try again, or ask the host that works on it; of a stream with partitions, while one host works on all of them";
            Err(unavailable(&format!("this host does not know now how far it has come; {advice}")))
        };
        if left.is_err()
            && let Err(error) = self.restart(registry, reading).await
        {
            tracing::error!(transform = active.bound.view().name, "its group could not be started again: {error:#}");
        }
        left
    }

    async fn give_places(&self, places: &[(Partition, Option<EntryId>)], start: Start, own: &str) -> Result<(), Refusal> {
        for (partition, place) in places {
            let Some(last) = *place else {
                if start == Start::End {
                    return Err(unavailable(&"no event has been applied yet, so there is no place to leave at; try again after one"));
                }
                continue;
            };
            let of_own = Partition { group: own.to_owned(), ..partition.clone() };
            let writers = self.writers(&self.stream_config(&partition.stream));
            let store = self.store.as_store();
            let kept = async {
                let mut writer = store.writer(&of_own, &writers).await?;
                let number = writer.place().commits + 1;
                writer.commit(&Commit { number, last: Some(last), ..Commit::default() }).await?;
                writer.release().await
            };
            kept.await.map_err(|error| unavailable(&error))?;
            let config = self.stream_config(&partition.stream);
            let group = ConsumerGroup { stream: partition.stream.clone(), name: own.to_owned() };
            let open = self.open_source(&group, partition.index, start, &config).map_err(|error| unavailable(&error))?;
            let begun = async { open(Place { last: Some(last), ..Place::default() }).await?.begin().await };
            // What is trimmed while nobody reads is counted by what the stream's server knows of the group from now on. Without that, it is not known how much it was.
            if let Err(error) = begun.await {
                tracing::warn!(partition = %of_own, "the stream's server does not know of the group yet: {error}");
            }
        }
        Ok(())
    }

    /// Puts all of a group to work that are to work.
    async fn restart(&self, registry: &Registry, reading: &Reading) -> anyhow::Result<()> {
        let all = self.transforms_of(registry, &reading.group, "", None)?;
        self.set_transforms(reading, all).await
    }

    /// Lets a paused transform go on where it left.
    pub(super) async fn resume(self: &Arc<Core>, name: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        let (_, reading) = reader(&registry, name)?;
        registry.standing.change(|standing| standing.paused.retain(|paused| paused != name)).map_err(|error| unavailable(&error))?;
        self.restart(&registry, &reading).await.map_err(|error| unavailable(&error))?;
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
        if now || self.has_caught_up(&registry, name).await {
            return self.make_current(&mut registry, name);
        }
        let wait = |switching: &mut Vec<String>| {
            let base = ViewName::base_of(name);
            switching.retain(|other| ViewName::base_of(other) != base);
            switching.push(name.to_owned());
        };
        registry.standing.change(|standing| wait(&mut standing.switching)).map_err(|error| unavailable(&error))
    }

    fn make_current(&self, registry: &mut Registry, name: &str) -> Result<(), Refusal> {
        let base = ViewName::base_of(name).to_owned();
        let changed = registry.standing.change(|standing| {
            standing.switching.retain(|other| ViewName::base_of(other) != base);
            if base == name {
                standing.current.remove(&base)
            } else {
                standing.current.insert(base, name.to_owned())
            };
        });
        changed.map_err(|error| unavailable(&error))?;
        self.publish(registry);
        tracing::info!(transform = name, "is the current version of its view");
        Ok(())
    }

    /// Whether a version has applied everything that the current one has.
    async fn has_caught_up(&self, registry: &Registry, name: &str) -> bool {
        let reading = |name: &str| registry.active.get(name).and_then(|active| active.reading.as_ref());
        let (Some(own), Some(current)) = (reading(name), reading(registry.standing.current(name))) else { return true };
        if own.group == current.group || own.group.stream != current.group.stream {
            return true;
        }
        let workers = self.workers.lock().await;
        let Some(current) = workers.get(&current.group) else { return true };
        workers.get(&own.group).is_some_and(|own| is_as_far(own, current))
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
                for name in registry.standing.switching.clone() {
                    if !registry.active.contains_key(&name) || !core.has_caught_up(&registry, &name).await {
                        continue;
                    }
                    let switched = check_switch(&registry, &name).and_then(|()| core.make_current(&mut registry, &name));
                    if let Err(Refusal { message, .. }) = switched {
                        tracing::warn!(transform = name, "cannot become the current version, will try again: {message}");
                    }
                }
            }
        });
    }
}

/// Whether a worker has applied what another has, in each partition.
fn is_as_far(own: &Worker, other: &Worker) -> bool {
    let pairs = own.pipelines.iter().flat_map(|own| other.pipelines.iter().map(move |other| (own, other)));
    let mut same = pairs.filter(|(own, other)| own.partition.index == other.partition.index);
    same.all(|(own, other)| *own.health.borrow() == Health::Running && *own.progress.borrow() >= *other.progress.borrow())
}

/// Services and transforms that take features of the view by its name alone must find them in the version that the name is to mean.
fn check_switch(registry: &Registry, name: &str) -> Result<(), Refusal> {
    let Some(active) = registry.active.get(name) else { return Err(unknown(name)) };
    let (base, view) = (ViewName::base_of(name), active.bound.view());
    let is_missing = |reference: &str| {
        let (of, feature) = reference.split_once(':').unwrap_or((reference, ""));
        of == base && !view.features.iter().chain(&view.windows).any(|field| field.name == feature)
    };
    let services = registry.services.all();
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
            let current = ViewName::exact(registry.standing.current(name));
            Err(conflict(format!(
                "{who} takes `{reference}`, which `{name}` does not have; let it take `{current}:{feature}`, or remove it, and switch then"
            )))
        }
    }
}

/// A transform that reads a stream.
fn reader(registry: &Registry, name: &str) -> Result<(Active, Reading), Refusal> {
    let active = registry.active.get(name).cloned().ok_or_else(|| unknown(name))?;
    match active.reading.clone() {
        Some(reading) => Ok((active, reading)),
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
