//! `[feast]` and `[views.NAME]`: Feast's own protocol, and the views that are written through it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::within;
use crate::model::{FeastStatuses, FeastType, Kind, is_name};

/// Features of one view, and fields of one entity, at most.
const FIELDS_MAX: usize = 1_024;

/// `[feast]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feast {
    /// The project's name, for messages and for the keys of a `feast_redis` store.
    pub project: String,
    /// Which statuses stand in answers.
    pub statuses: FeastStatuses,
    /// A registry file, whose views and services are taken in when the host starts.
    pub registry: Option<PathBuf>,
    /// Feast's words for the types of views that transforms compute, by view and field; out of the registry.
    #[serde(skip)]
    pub types: BTreeMap<String, BTreeMap<String, FeastType>>,
}

impl Default for Feast {
    fn default() -> Feast {
        Feast { project: "default".into(), statuses: FeastStatuses::Feast, registry: None, types: BTreeMap::new() }
    }
}

impl Feast {
    pub(super) fn check(&self, key: &str, complain: &mut impl FnMut(String, String)) {
        if self.project.is_empty() || !self.project.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            complain(format!("{key}.project"), "a project's name has ASCII letters, digits and `_`, at least one".into());
        }
    }
}

/// `[views.NAME]`: a view that no transform computes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenView {
    /// For people.
    pub doc: String,
    /// The join keys, and Feast's words for their types.
    pub entity: BTreeMap<String, FeastType>,
    /// The features, and Feast's words for their types.
    pub features: BTreeMap<String, FeastType>,
    /// The push source that feeds it; its own name when absent.
    pub push_source: Option<String>,
    /// The column of the event time; `event_timestamp` when absent.
    pub timestamp_field: Option<String>,
    /// Age in seconds beyond which a row is no answer.
    pub max_age_secs: Option<u64>,
    /// Age in seconds beyond which a row is forgotten; twice `max_age_secs` when absent.
    pub expire_secs: Option<u64>,
    /// How far back reads as of a moment are answered, in seconds before an entity's newest row.
    pub history_secs: Option<u64>,
}

impl WrittenView {
    pub(super) fn check(&self, name: &str, complain: &mut impl FnMut(String, String)) {
        let key = format!("views.{name}");
        if !is_name(name) {
            complain(key.clone(), "a view's name has 1 to 63 ASCII letters, digits and `_`, and does not start with a digit".into());
        }
        for (role, fields) in [("entity", &self.entity), ("features", &self.features)] {
            let key = format!("{key}.{role}");
            within(key.clone(), fields.len() as u64, 1..=FIELDS_MAX as u64, complain);
            for name in fields.keys().filter(|name| !is_name(name)) {
                complain(key.clone(), format!("{name:?} is not a name; use 1 to 63 ASCII letters, digits and `_`"));
            }
        }
        for (field, feast_type) in &self.entity {
            if feast_type.is_list || feast_type.kind() == Kind::Float {
                complain(
                    format!("{key}.entity.{field}"),
                    format!("{feast_type} cannot be a join key; use String, an integer, Bytes or Bool"),
                );
            }
        }
        if let Some(both) = self.entity.keys().find(|field| self.features.contains_key(*field)) {
            complain(format!("{key}.features.{both}"), "a join key of the same view has this name".into());
        }
    }
}
