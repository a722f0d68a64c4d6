//! `[transforms.NAME]`: which component runs, on what, within which limits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check_limits;
use super::problems::explain;
use super::stream::Start;
use crate::model::{Aggregation, At, FallbackKind, GroupName, InputBinding};
use crate::transform::Limits;

/// What may be configured of the bytes that windows and history of one entity take.
const ENTITY_BYTES_MAXES: std::ops::RangeInclusive<usize> = (64 << 10)..=(16 << 20);

/// `[transforms.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    /// The component's file.
    pub component: PathBuf,
    /// Whether it computes when an event comes, or when somebody asks.
    pub at: At,
    /// The stream; the component's first when absent.
    pub stream: Option<String>,
    /// A consumer group other than the stream's.
    pub group: Option<GroupName>,
    /// Where that group begins when it has no place yet; where the stream says when absent.
    pub start: Option<Start>,
    /// The stream that its rows go on to as events, in the commit that stores them.
    pub emit: Option<String>,
    /// Handed to the component as JSON.
    pub settings: Option<toml::Table>,
    /// Age in seconds beyond which a row is no answer.
    pub max_age_secs: Option<u64>,
    /// Age in seconds beyond which a row is forgotten; twice `max_age_secs` when absent.
    pub expire_secs: Option<u64>,
    /// Windowed features beside those that the component declares.
    pub aggregations: Vec<Aggregation>,
    /// How far back reads as of a moment are answered, in seconds; 0 when absent.
    pub history_secs: Option<u64>,
    /// Whether windows keep their events and are exact at both ends; false when absent.
    pub exact: Option<bool>,
    /// How far ahead of the host's clock an event may be, in seconds, where states, windows or history are kept; a day when absent.
    pub ahead_max_secs: Option<u64>,
    /// Bytes that windows and history of one entity may take; 2 MiB when absent.
    pub entity_bytes_max: Option<usize>,
    /// Time in milliseconds to find the rows at fault in one failing batch.
    pub bisect_ms_max: Option<u64>,
    /// What is served where it could not compute for a request; nothing when absent.
    pub fallback: Option<FallbackKind>,
    /// Values by feature that stand in then.
    pub fallback_values: BTreeMap<String, serde_json::Value>,
    /// What one instance may use, where it differs from `[limits]`.
    #[serde(rename = "limits")]
    limits_text: toml::Table,
    /// What one instance may use.
    #[serde(skip)]
    pub limits: Limits,
    /// Inputs that are found elsewhere than the component says, by name.
    pub inputs: BTreeMap<String, InputBinding>,
}

impl Transform {
    /// The settings as the component gets them.
    pub fn settings_json(&self) -> String {
        self.settings.as_ref().and_then(|settings| serde_json::to_string(settings).ok()).unwrap_or_default()
    }

    pub(super) fn check(&mut self, key: &str, limits: Limits, memory_bytes_max: usize, complain: &mut impl FnMut(String, String)) {
        if self.component.file_name().is_none() {
            complain(format!("{key}.component"), "name the component's file".into());
        }
        match limits_over(limits, &self.limits_text) {
            Ok(limits) => self.limits = limits,
            Err((None, message)) => complain(format!("{key}.limits"), message),
            Err((Some(name), message)) => complain(format!("{key}.limits.{name}"), message),
        }
        // What [limits] itself does wrong is said there, once.
        if !self.limits_text.is_empty() {
            check_limits(&format!("{key}.limits"), self.limits, complain);
            if self.limits.memory_bytes_max > memory_bytes_max {
                let message = format!("more than engine.memory_bytes_max, {memory_bytes_max}; raise that or lower this");
                complain(format!("{key}.limits.memory_bytes_max"), message);
            }
        }
        if let (Some(max_age), Some(expire)) = (self.max_age_secs, self.expire_secs)
            && expire < max_age
        {
            complain(format!("{key}.expire_secs"), format!("rows would be forgotten before they are too old; use at least {max_age}"));
        }
        if let Some(Err(message)) = self.entity_bytes_max.map(check_entity_bytes_max) {
            complain(format!("{key}.entity_bytes_max"), message);
        }
        for name in self.inputs.keys().filter(|name| !crate::model::is_name(name)) {
            complain(format!("{key}.inputs.{name}"), "not a name that an input can have".into());
        }
    }
}

/// Says what is wrong with a bound on the bytes of an entity: it is read and written as a whole, in one go with others.
pub fn check_entity_bytes_max(bytes: usize) -> Result<(), String> {
    let (least, most) = (ENTITY_BYTES_MAXES.start(), ENTITY_BYTES_MAXES.end());
    if ENTITY_BYTES_MAXES.contains(&bytes) { Ok(()) } else { Err(format!("{bytes} bytes; {least} to {most} are allowed")) }
}

/// The general limits with some of them replaced; on failure the key at fault and what is wrong with it.
fn limits_over(limits: Limits, replaced: &toml::Table) -> Result<Limits, (Option<String>, String)> {
    let mut table = toml::Table::try_from(limits).map_err(|error| (None, error.to_string()))?;
    table.extend(replaced.clone());
    serde_path_to_error::deserialize(table).map_err(|error| {
        let error: serde_path_to_error::Error<toml::de::Error> = error;
        let key = error.path().iter().next().map(ToString::to_string);
        (key, explain(error.inner().message()))
    })
}
