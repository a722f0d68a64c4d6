//! Following the book that hosts share: what another one has put into force, paused, switched to or ended, this one takes over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Core;
use super::alike::{SAID, Unlike};
use super::book::{Outdated, Pages, pages};
use super::transforms::{Active, Registry, TURNS_MAX};
use super::versions::{Origin, Version, digest};
use super::workers::Reading;
use crate::model::Digest;
use crate::online_store::redis::{RedisStore, Stamp};
use crate::transform::Transform;

/// How often it is looked whether another host has changed the book.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a transform is tried again that this host cannot put into force.
const AGAIN_EVERY: Duration = Duration::from_secs(5);
/// Time for a store to answer when a host starts; one that does not is waited for while the host runs.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What whoever compares must know.
#[derive(Default)]
pub(super) struct Following {
    /// When what is missing was last tried.
    tried: Option<Instant>,
}

/// A transform to put into force: what the book has of it, and the compiled component, or why there is none.
type Loaded = (String, Version, anyhow::Result<Transform>);

impl Core {
    /// Learns what is in force before anything is put into force. Where the store does not answer, streams wait until it does.
    pub(super) async fn begin_to_follow(self: &Arc<Core>) {
        // Who has stopped counts as being at work for a while: this host itself, as it was configured before.
        let until = Instant::now() + SAID + 2 * LOOK_EVERY;
        loop {
            let looked = tokio::time::timeout(FIRST_LOOK, self.refresh()).await;
            let Err(error) = looked.unwrap_or_else(|_| bail_late()) else { return };
            if !error.is::<Unlike>() || Instant::now() > until {
                return tracing::warn!("cannot learn from the store what is in force; streams wait until that is known: {error:#}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Everything is in force that can be: from now on streams are worked on.
    pub(super) async fn begin_to_work(self: &Arc<Core>) {
        let mut registry = self.registry.lock().await;
        registry.is_up = true;
        if let Err(error) = self.put_to_work(&mut registry).await {
            tracing::error!("not every stream can be worked on, will try again: {error:#}");
        }
        self.publish(&registry);
        self.release_streams(&registry);
    }

    /// Looks again and again, until the host stops.
    pub(super) fn follow(self: &Arc<Core>) {
        let (core, mut shutdown) = (Arc::clone(self), self.shutdown.subscribe());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = shutdown.changed() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                // Said when it begins, and shown as long as it lasts.
                let _ = core.refresh().await;
            }
        });
    }

    /// Takes over what other hosts have changed.
    pub(super) async fn refresh(self: &Arc<Core>) -> anyhow::Result<()> {
        let mut following = self.following.lock().await;
        // What they wait for is to be known of a moment after that.
        let waiting = self.waiting().await;
        let Some(store) = self.store.shared() else { return self.learn(&waiting).await };
        let caught_up = match self.check_alike(&store).await {
            Ok(()) => self.catch_up(&store, &mut following).await,
            failed => failed,
        };
        let done = match caught_up {
            Ok(()) => self.learn(&waiting).await,
            failed => failed,
        };
        let told = done.as_ref().err().map(|error| format!("{error:#}"));
        if let Ok(mut behind) = self.behind.lock() {
            if let Some(told) = told.as_ref().filter(|told| behind.as_ref() != Some(*told)) {
                tracing::warn!("cannot compare with the store what is in force, will try again: {told}");
            }
            *behind = told;
        }
        done
    }

    async fn catch_up(self: &Arc<Core>, store: &RedisStore, following: &mut Following) -> anyhow::Result<()> {
        for _ in 0..TURNS_MAX {
            let stored = store.document_stamp().await?;
            let mut registry = self.registry.lock().await;
            let known = registry.book.stamp().cloned();
            let is_older = |stored: &Stamp| known.as_ref().is_some_and(|known| known.id == stored.id && known.revision > stored.revision);
            if known == stored && (known.is_some() || registry.book.is_blank()) {
                return self.stay(registry, following).await;
            }
            if stored.as_ref().is_none_or(is_older) {
                match registry.book.bring(stored.as_ref()).await {
                    Err(error) if !error.is::<Outdated>() => return Err(error),
                    Ok(()) | Err(_) => continue,
                }
            }
            drop(registry);
            let documents = store.documents().await?;
            let Some(stamp) = documents.stamp.clone() else { continue };
            if self.take_over(known, stamp, pages(&documents)?).await? {
                following.tried = Some(Instant::now());
            }
        }
        bail!("other hosts change what is in force all the time")
    }

    /// Nothing is new. What could not be done before is tried again.
    async fn stay(self: &Arc<Core>, mut registry: tokio::sync::MutexGuard<'_, Registry>, following: &mut Following) -> anyhow::Result<()> {
        registry.book.is_as_stored();
        if !registry.is_up {
            return Ok(());
        }
        self.release_streams(&registry);
        if registry.is_at_work {
            // Nobody is in the middle of a change.
            self.revisions.take_effect();
        } else {
            self.put_to_work(&mut registry).await?;
        }
        let is_due = following.tried.is_none_or(|tried| tried.elapsed() > AGAIN_EVERY);
        let is_complete = registry.wanted(&registry.book).is_empty();
        if let (false, true, Some(stamp)) = (is_complete, is_due, registry.book.stamp().cloned()) {
            let pages = Pages::clone(&registry.book);
            drop(registry);
            self.take_over(Some(stamp.clone()), stamp, pages).await?;
            following.tried = Some(Instant::now());
        }
        Ok(())
    }

    /// Puts into force what the book has, loaded aside. Says whether it did: not if this host has changed the book meanwhile.
    async fn take_over(self: &Arc<Core>, known: Option<Stamp>, stamp: Stamp, pages: Pages) -> anyhow::Result<bool> {
        let wanted = self.registry.lock().await.wanted(&pages);
        let mut loaded = Vec::with_capacity(wanted.len());
        for (name, version) in wanted {
            let transform = self.load(&name, &version).await;
            loaded.push((name, version, transform));
        }
        let mut registry = self.registry.lock().await;
        if registry.book.stamp() != known.as_ref() {
            return Ok(false);
        }
        let changed = registry.book.versions.difference(&pages.versions);
        registry.book.take_over(stamp, pages);
        if !registry.is_up {
            return Ok(true);
        }
        registry.is_at_work = false;
        self.agree(&mut registry);
        let stayed = changed.into_iter().filter(|name| !loaded.iter().any(|(loaded, ..)| loaded == name)).collect();
        self.learn_of(&registry, &stayed).await;
        for loaded in loaded {
            self.take_into_force(&mut registry, loaded).await;
        }
        let put_to_work = self.put_to_work(&mut registry).await;
        self.publish(&registry);
        self.release_streams(&registry);
        put_to_work.map(|()| true)
    }

    async fn load(&self, name: &str, version: &Version) -> anyhow::Result<Transform> {
        let component = self.component(version.digest).await?;
        Ok(self.compile(name, component.into(), &version.options).await?.1)
    }

    /// A component that the book names, from the folder or else from where all hosts find it.
    pub(super) async fn component(&self, wanted: Digest) -> anyhow::Result<Vec<u8>> {
        let kept = self.registry.lock().await.book.read(wanted);
        let Some(store) = self.store.shared().filter(|_| kept.is_err()) else { return kept };
        let component = store.component(wanted).await?.filter(|component| digest(component) == wanted);
        let component = component.context("the store does not have the component any more; push it again")?;
        self.registry.lock().await.book.keep_component(wanted, &component)?;
        Ok(component)
    }

    /// Ends what the book does not have any more, and has the others read as it says.
    fn agree(&self, registry: &mut Registry) {
        let is_gone = |name: &&String| registry.book.versions.history(name).and_then(|history| history.active()).is_none();
        let gone: Vec<String> = registry.active.keys().chain(registry.missing.keys()).filter(is_gone).cloned().collect();
        for name in gone {
            self.end(registry, &name);
        }
        let Registry { active, book, .. } = registry;
        for (name, active) in active {
            if let Some(stream) = active.bound.stream() {
                active.reading = Some(self.reading(name, stream, &active.options, &book.standing));
            }
        }
    }

    async fn take_into_force(&self, registry: &mut Registry, (name, version, transform): Loaded) {
        // It is compared with the others, not with the one that it replaces.
        let before = registry.active.remove(&name);
        let bound = match transform {
            Ok(transform) => self.bind(&name, transform, &version.options, true, registry).await,
            Err(error) => Err(error),
        };
        match bound {
            Ok((bound, reading)) => {
                self.no_longer_missing(registry, &name);
                registry.refused.remove(&name);
                self.forget_shadow_of_another(registry, &name, version.digest);
                let (number, origin, options) = (version.number, version.origin, version.options);
                tracing::info!(transform = name, number, digest = %version.digest, "transform in force, as another host has put it there");
                // Hosts should be configured alike.
                if origin == Origin::Declared && !self.config.transforms.contains_key(&name) {
                    tracing::warn!(transform = name, "it is declared by the configuration of another host, and not by this one's");
                }
                self.telemetry.swaps(&name);
                registry.active.insert(name, Active { bound, reading, options, origin, number, sample: None, refused: None });
            }
            Err(error) => {
                let advice = "other hosts have it in force; this one works on nothing of its stream until it can too, or it is removed";
                let reason = format!("{error:#}; {advice}");
                tracing::error!(transform = name, number = version.number, "cannot be put into force: {reason}");
                self.telemetry.refused_components();
                version.stream.iter().for_each(|stream| drop(registry.missing.insert(name.clone(), stream.clone())));
                match before {
                    Some(before) => {
                        // It is not what reads that stream any more, where other hosts go on without it.
                        let is_of = |reading: &Reading| version.stream.as_ref() == Some(&reading.group.stream);
                        let reading = before.reading.clone().filter(is_of);
                        registry.active.insert(name, Active { refused: Some(reason), reading, ..before });
                    }
                    None => drop(registry.refused.insert(name, reason)),
                }
            }
        }
    }

    /// Changes the book; again, where another host has changed it meanwhile.
    pub(super) async fn change_book<T>(self: &Arc<Core>, change: impl Fn(&mut Pages) -> T) -> anyhow::Result<T> {
        let mut turns = 0;
        loop {
            let changed = self.registry.lock().await.book.change(&change).await;
            match changed {
                Err(error) if error.is::<Outdated>() && turns < TURNS_MAX => turns += 1,
                changed => return changed,
            }
            self.refresh().await?;
        }
    }
}

fn bail_late() -> anyhow::Result<()> {
    bail!("it does not answer within {} s", FIRST_LOOK.as_secs())
}

impl Registry {
    /// What pages have in force that this host has not, or has otherwise.
    fn wanted(&self, pages: &Pages) -> BTreeMap<String, Version> {
        if !self.is_up {
            return BTreeMap::new();
        }
        let is_there = |name: &str, version: &Version| {
            let active = self.active.get(name).filter(|_| !self.missing.contains_key(name));
            active.is_some_and(|active| active.bound.transform().digest() == version.digest && active.options == version.options)
        };
        let wanted = pages.versions.active().filter(|(name, version)| !is_there(name, version));
        wanted.map(|(name, version)| (name.to_owned(), version.clone())).collect()
    }
}
