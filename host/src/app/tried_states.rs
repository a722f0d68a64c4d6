//! A new version of a fold is tried on states that are stored: what the numbers of versions say of them need not be so.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;

use super::Core;
use super::binding_options::BindingOptions;
use super::bound::Bound;
use super::evolve::{Incompatible, REASONS_MAX, SAMPLE_MAX, TRIAL_TIME_MAX};
use super::transforms::Active;
use crate::model::{At, Entries, Format, Reason, StoredState, View, one_line, state_key};
use crate::pipeline::trial::{Outcome, Trial};
use crate::transform::Transform;

/// States of another version that a new one takes over for a try before it gets into force.
const STATES_TRIED: usize = 256;

/// States, by entity key.
type Stored = Vec<(Vec<u8>, Bytes)>;

impl Core {
    /// Some of the states that are stored of a view.
    pub(super) async fn sample_states(&self, view: &View) -> anyhow::Result<Vec<Bytes>> {
        let (store, mut sample) = (self.store.as_store(), Vec::new());
        for prefix in state_prefixes(view) {
            let more = STATES_TRIED.saturating_sub(sample.len());
            sample.extend(store.sample(&prefix, more).await.context("cannot read the states of the online store")?);
            if sample.len() >= STATES_TRIED {
                break;
            }
        }
        sample.retain(|state| StoredState::ended(state).is_none());
        Ok(sample)
    }

    /// Runs a fold over the newest entries of its stream, with the states that are stored of their entities. Nothing is kept of it. Refuses one that fails where the
    /// version in force does not, and would not without a state.
    pub(super) async fn try_states(
        &self,
        name: &str,
        transform: &Transform,
        options: &BindingOptions,
        in_force: &Active,
        is_forced: bool,
    ) -> anyhow::Result<()> {
        let Bound::Stream(binding) = &in_force.bound else { return Ok(()) };
        let are_folds = binding.transform.world().is_stateful() && transform.world().is_stateful();
        let stream = options.stream.as_deref().or(transform.spec().streams.first().map(String::as_str)).unwrap_or_default();
        let read = self.streams.load().get(stream).cloned().filter(|_| are_folds && options.at == At::Stream && !is_forced);
        let Some(read) = read else { return Ok(()) };
        let entries = match read.appender.newest(SAMPLE_MAX).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(transform = name, stream, "cannot try it on the states of a sample of entries: {error}");
                return Ok(());
            }
        };
        let keys = keys(&binding.view, transform, &read.format, options, &entries)?;
        let (entities, keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let values = self.store.as_store().read(&keys).await.context("cannot read the states of the online store")?;
        let has_ended = |value: &Bytes| StoredState::ended(value).is_some();
        let values: Vec<Option<Bytes>> = values.into_iter().map(|value| value.filter(|value| !has_ended(value))).collect();
        // Entities that no event of these is about have states too. They are lent to those that have none: a fold is not told whose a state is.
        let mut lent = self.sample_states(&binding.view).await?;
        lent.retain(|state| !values.iter().flatten().any(|own| own == state));
        let state = |(entity, value): (Vec<u8>, Option<Bytes>)| Some((entity, value.or_else(|| lent.pop())?));
        let stored: Stored = entities.into_iter().zip(values).filter_map(state).collect();
        if stored.is_empty() {
            return Ok(());
        }
        let [before, after, without] = tokio::task::block_in_place(|| {
            let before = outcome(&binding.transform, &read.format, &in_force.options, &entries, &stored)?;
            let after = outcome(transform, &read.format, options, &entries, &stored)?;
            Ok::<_, anyhow::Error>([before, after, outcome(transform, &read.format, options, &entries, &Vec::new())?])
        })?;
        let is_used = |outcome: &Outcome, event: &usize| !outcome.given_up.contains_key(event);
        // What it rejects, it has an opinion of.
        let fails = |(event, (reason, _)): &(&usize, &(Reason, String))| {
            *reason != Reason::Rejected && is_used(&before, event) && is_used(&without, event)
        };
        let failed: Vec<&str> = after.given_up.iter().filter(fails).map(|(_, (_, message))| message.as_str()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let mut reasons: Vec<String> = failed.iter().map(|message| one_line(message, 400)).collect();
        reasons.dedup();
        reasons.truncate(REASONS_MAX);
        let (many, events, version) = (failed.len(), entries.len(), &transform.spec().version);
        Err(anyhow::Error::new(Incompatible(format!(
            "it fails on the states that are stored, as the version in force does not: on {many} of the newest {events} events of stream `{stream}`, because: {}; \
             if its states are others, give it a version whose first number that is not zero is another than in {version}, and export a migration (world \
             `migrating-transform`), put it under another name, or say `force` if these entities may be given up on",
            reasons.join("; ")
        ))))
    }
}

/// What the keys of a view's states begin with: one for each partition.
fn state_prefixes(view: &View) -> Vec<Vec<u8>> {
    let prefix = |tag: &str| state_key(format!("{tag}{}:", view.name).as_bytes());
    match &view.partitioning {
        None => vec![prefix("")],
        Some(partitioning) => (0..partitioning.count).map(|index| prefix(&partitioning.tag(index))).collect(),
    }
}

/// The entities of some entries, and where their states are.
fn keys(
    view: &View,
    transform: &Transform,
    format: &Format,
    options: &BindingOptions,
    entries: &Entries,
) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let by = view.partitioning.as_ref().map(|partitioning| partitioning.by.as_slice()).unwrap_or_default();
    let entities = Trial::new(transform, format.clone(), &options.inputs)?.entities(entries, by);
    let key = |(entity, text): (Vec<u8>, Vec<u8>)| {
        let tag =
            view.partitioning.as_ref().map(|partitioning| partitioning.tag(partitioning.partition_of_text(&text))).unwrap_or_default();
        let key = [tag.as_bytes(), view.name.as_bytes(), b":", &entity].concat();
        (entity, state_key(&key))
    };
    Ok(entities.into_iter().map(key).collect())
}

fn outcome(
    transform: &Transform,
    format: &Format,
    options: &BindingOptions,
    entries: &Entries,
    stored: &Stored,
) -> anyhow::Result<Outcome> {
    let mut trial = Trial::new(transform, format.clone(), &options.inputs)?.bounded(TRIAL_TIME_MAX);
    trial.begin_with(stored);
    trial.feed(entries).context("the trial on states that are stored failed")
}
