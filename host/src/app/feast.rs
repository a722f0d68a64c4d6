//! Views that Feast's clients write, from the configuration to the query path.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::Core;
use crate::config::{Config, WrittenView};
use crate::model::{Digest, FeastType, Field, Kept, Schema, View};
use crate::online_store::OnlineStore;
use crate::online_store::redis::FeastLayout;
use crate::serve::{FeastOptions, Written};
use crate::window::{Forgets, Lasting, Plan};

/// The column of the event time, unless a view says otherwise: Feast's own client always sends this one.
const TIMESTAMP_FIELD: &str = "event_timestamp";

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
        let of_view = known.iter().map(|(_, schema)| schema).filter(|schema| schema.view == *name);
        let others = of_view.filter_map(|of| Lasting::new(of.expire_secs, Some(&Plan::new(&of.features, &of.kept))));
        let forgets = Forgets::at_any_time(lasting, others);
        let schema = Schema {
            view: view.name.clone(),
            component: view.component,
            entity: view.entity.clone(),
            features: view.features.clone(),
            kept: view.kept.clone(),
            state_version: None,
            partitioning: None,
            expire_secs: view.expire_secs,
        };
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
