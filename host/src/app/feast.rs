//! Views that Feast's clients write, from the configuration to the query path.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Core;
use crate::config::{Config, WrittenView};
use crate::model::{Commit, Digest, FeastType, Field, Kept, Put, Timestamp, View};
use crate::online_store::redis::FeastLayout;
use crate::online_store::{Error, OnlineStore, Writers};
use crate::serve::{FeastOptions, Written, written_rows};
use crate::window::{Forgets, Lasting, Plan};

/// The column of the event time, unless a view says otherwise: Feast's own client always sends this one.
const TIMESTAMP_FIELD: &str = "event_timestamp";
/// How far ahead of the clock a row may be that such a view has taken.
const AHEAD_SECS: u64 = 86_400;
/// Times that something is written down anew because another host has.
const TURNS_MAX: usize = 16;

/// All views that are declared instead of computed, known to the store.
pub(super) async fn written(config: &Config, store: &dyn OnlineStore) -> anyhow::Result<BTreeMap<String, Arc<Written>>> {
    let mut all = BTreeMap::new();
    if config.views.is_empty() {
        return Ok(all);
    }
    let known = store.schemas().await.context("cannot read the schemas of the online store")?;
    for (name, section) in &config.views {
        let view = view(name, section);
        let kept = (!view.kept.is_nothing()).then(|| Plan::new(&view.features, &view.kept));
        let lasting = Lasting::new(view.expire_secs, kept.as_ref());
        let is_new = !known.iter().any(|(_, schema)| schema.view == *name);
        let forgets = Remembered::forgets(store, &view, lasting, is_new).await;
        let forgets = forgets.with_context(|| format!("cannot write down in the online store how long entities of views.{name} last"))?;
        let schema = view.schema(None, forgets.unseen_before);
        let schema = store.intern(&schema).await.with_context(|| format!("cannot register views.{name} with the online store"))?;
        let written = Written {
            view: Arc::new(view),
            schema,
            kept,
            lasting,
            forgets,
            push_source: section.push_source.clone().unwrap_or_else(|| name.clone()),
            timestamp_field: section.timestamp_field.clone().unwrap_or_else(|| TIMESTAMP_FIELD.to_owned()),
        };
        all.insert(name.clone(), Arc::new(written));
    }
    Ok(all)
}

/// How long entities of a written view last, as the store remembers it: what the configuration said before is said nowhere else.
#[derive(Serialize, Deserialize)]
struct Remembered {
    lasting: Option<Lasting>,
    /// Whether more than rows is kept.
    keeps: bool,
    forgets: Forgets,
}

impl Remembered {
    /// What may be forgotten of a view whose entities last for so long from now on, and of which more than rows is kept or not; it is written down.
    async fn forgets(store: &dyn OnlineStore, view: &View, lasting: Option<Lasting>, is_new: bool) -> anyhow::Result<Forgets> {
        let keeps = !view.kept.is_nothing();
        let mut writer = store.writer(&written_rows(), &Writers::Competing).await?;
        let key = format!("~~written:{}", view.name).into_bytes();
        for _ in 0..TURNS_MAX {
            let stored = writer.read(std::slice::from_ref(&key)).await?.pop().flatten();
            let before = stored.map(|stored| serde_json::from_slice::<Remembered>(&stored)).transpose()?;
            let is_written = before.as_ref().is_some_and(|before| (before.lasting, before.keeps) == (lasting, keeps));
            let now = Timestamp::now();
            let forgets = match before {
                Some(before) => {
                    let forgets = before.forgets.replaced(before.lasting, AHEAD_SECS, lasting, now);
                    if keeps && !before.keeps { forgets.keeping(now) } else { forgets }
                }
                None if is_new => Forgets::beginning(now),
                // It was written by a host that did not write this down; it is taken to have kept rows for as long.
                None => Forgets::default(),
            };
            if is_written {
                return Ok(forgets);
            }
            let value = serde_json::to_vec(&Remembered { lasting, keeps, forgets })?.into();
            let mut commit = Commit { number: writer.place().commits + 1, ..Commit::default() };
            commit.puts.push(Put { key: key.clone(), value: Some(value), expires_at: None });
            match writer.commit(&commit).await {
                Ok(()) => return Ok(forgets),
                Err(Error::Outdated { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("other hosts write it down all the time")
    }
}

/// How long rows are kept.
fn expire_secs(section: &WrittenView) -> Option<u64> {
    section.expire_secs.or(section.max_age_secs.map(|secs| secs.saturating_mul(2)))
}

fn view(name: &str, section: &WrittenView) -> View {
    let field = |is_nullable| move |(name, feast_type): (&String, &FeastType)| Field::plain(name, feast_type.kind(), is_nullable);
    View {
        name: name.to_owned(),
        doc: section.doc.clone(),
        stream: None,
        partitioning: None,
        component: Digest::NONE,
        version: String::new(),
        entity: section.entity.iter().map(field(false)).collect(),
        features: section.features.iter().map(field(true)).collect(),
        windows: Vec::new(),
        kept: Kept { history_secs: section.history_secs.unwrap_or(0), ..Kept::default() },
        max_age_secs: section.max_age_secs,
        expire_secs: expire_secs(section),
        fold: false,
        request: Vec::new(),
        uses: Vec::new(),
        types: section.entity.iter().chain(&section.features).map(|(name, feast_type)| (name.clone(), *feast_type)).collect(),
    }
}

/// How a store lays rows out for Feast. Types count as they were declared.
pub(super) fn layout(config: &Config, key_ttl_secs: Option<u64>) -> FeastLayout {
    let written = config.views.iter().map(|(name, section)| (name.clone(), view(name, section).types));
    let types = config.feast.types.clone().into_iter().chain(written).collect();
    FeastLayout { project: config.feast.project.clone(), key_ttl_secs, types }
}

impl Core {
    pub(super) fn feast_options(&self) -> FeastOptions {
        let feast = &self.config.feast;
        FeastOptions { project: feast.project.clone(), statuses: feast.statuses, written: self.written.clone() }
    }
}
