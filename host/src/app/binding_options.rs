use std::collections::BTreeMap;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{self, Start};
use crate::model::{Aggregation, At, ENTITY_BYTES_MAX, Fallback, GroupName, InputBinding, Kept, Spec};
use crate::transform::Limits;

/// Time to find the rows at fault in one failing batch, in milliseconds, unless configured otherwise.
const BISECT_MS_MAX: u64 = 2_000;

/// How far ahead of the host's clock an event may be, in seconds, unless configured otherwise: a day.
const AHEAD_MAX_SECS: u64 = 86_400;

/// How a component is bound: everything about a transform except the component's bytes. Kept beside pushed components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingOptions {
    /// Whether it computes when an event comes, or when somebody asks.
    pub at: At,
    /// The stream; the component's first when absent.
    pub stream: Option<String>,
    /// A consumer group of its own, or one that it has with others that name it; the stream's when absent.
    pub group: Option<GroupName>,
    /// Where a group of its own begins that has no place yet; where the stream says when absent.
    pub start: Option<Start>,
    /// The stream that its rows go on to as events.
    pub emit: Option<String>,
    /// JSON text handed to the component; empty for none.
    pub settings: String,
    /// Age beyond which a row is no answer.
    pub max_age_secs: Option<u64>,
    /// Age beyond which a row is forgotten; twice the max age when absent.
    pub expire_secs: Option<u64>,
    /// Windowed features beside those that the component declares.
    pub aggregations: Vec<Aggregation>,
    /// How far back reads as of a moment are answered.
    pub history_secs: u64,
    /// Whether windows are exact at both ends.
    pub exact: bool,
    /// How far ahead of the host's clock an event may be, where states, windows or history are kept.
    pub ahead_max_secs: u64,
    /// Bytes that windows and history of one entity may take.
    pub entity_bytes_max: usize,
    /// Inputs that are found elsewhere than the component says, by their name.
    pub inputs: BTreeMap<String, InputBinding>,
    /// What one instance may use.
    pub limits: Limits,
    /// Time to find the rows at fault in one failing batch.
    pub bisect_ms_max: u64,
    /// What is served where it could not compute for a request.
    pub fallback: Fallback,
}

impl Default for BindingOptions {
    fn default() -> BindingOptions {
        BindingOptions {
            at: At::Stream,
            stream: None,
            group: None,
            start: None,
            emit: None,
            settings: String::new(),
            max_age_secs: None,
            expire_secs: None,
            aggregations: Vec::new(),
            history_secs: 0,
            exact: false,
            ahead_max_secs: AHEAD_MAX_SECS,
            entity_bytes_max: ENTITY_BYTES_MAX,
            inputs: BTreeMap::new(),
            limits: Limits::default(),
            bisect_ms_max: BISECT_MS_MAX,
            fallback: Fallback::default(),
        }
    }
}

impl BindingOptions {
    /// As configured.
    pub fn of(transform: &config::Transform) -> BindingOptions {
        BindingOptions {
            at: transform.at,
            stream: transform.stream.clone(),
            group: transform.group.clone(),
            start: transform.start,
            emit: transform.emit.clone(),
            settings: transform.settings_json(),
            max_age_secs: transform.max_age_secs,
            expire_secs: transform.expire_secs,
            aggregations: transform.aggregations.clone(),
            history_secs: transform.history_secs.unwrap_or(0),
            exact: transform.exact.unwrap_or(false),
            ahead_max_secs: transform.ahead_max_secs.unwrap_or(AHEAD_MAX_SECS),
            entity_bytes_max: transform.entity_bytes_max.unwrap_or(ENTITY_BYTES_MAX),
            inputs: transform.inputs.clone(),
            limits: transform.limits,
            bisect_ms_max: transform.bisect_ms_max.unwrap_or(BISECT_MS_MAX),
            fallback: Fallback { kind: transform.fallback.unwrap_or_default(), values: transform.fallback_values.clone() },
        }
    }

    /// The group that it reads with, where that is not the stream's: who begins elsewhere than the others needs a place of its own.
    pub fn own_group(&self, name: &str, shared: &str) -> Option<String> {
        self.group.as_ref().map(ToString::to_string).or_else(|| self.start.map(|_| format!("{shared}.{name}")))
    }

    /// Refuses a binding of an input that the component does not have.
    pub fn check_inputs(&self, spec: &Spec) -> anyhow::Result<()> {
        let Some(unknown) = self.inputs.keys().find(|input| !spec.inputs.iter().any(|field| field.name == **input)) else { return Ok(()) };
        let inputs: Vec<&str> = spec.inputs.iter().map(|field| field.name.as_str()).collect();
        bail!("`inputs.{unknown}` names no input of the component; it has {}", inputs.join(", "))
    }

    /// Refuses what means nothing for a transform that computes when somebody asks: nothing of it is kept. Windows that the component declares are for streams,
    /// and left out.
    pub fn check_for_requests(&self, spec: &Spec) -> anyhow::Result<()> {
        self.check_inputs(spec)?;
        let given = [
            ("stream", self.stream.is_some()),
            ("group", self.group.is_some()),
            ("start", self.start.is_some()),
            ("emit", self.emit.is_some()),
            ("max_age_secs", self.max_age_secs.is_some()),
            ("expire_secs", self.expire_secs.is_some()),
            ("history_secs", self.history_secs > 0),
            ("aggregations", !self.aggregations.is_empty()),
            ("exact", self.exact),
            ("ahead_max_secs", self.ahead_max_secs != AHEAD_MAX_SECS),
            ("entity_bytes_max", self.entity_bytes_max != ENTITY_BYTES_MAX),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => {
                bail!("`{name}` says nothing for `at = \"request\"`: what is computed when somebody asks is not kept; leave it out")
            }
            None => Ok(()),
        }
    }

    /// What the view keeps beside the newest row: the component's own aggregations first.
    pub fn kept(&self, spec: &Spec) -> Kept {
        let aggregations = spec.aggregations.iter().chain(&self.aggregations).cloned().collect();
        let kept = Kept { aggregations, history_secs: self.history_secs, exact: self.exact };
        // Without windows or history there is nothing that could be exact.
        if kept.is_nothing() { Kept::default() } else { kept }
    }

    /// Tells apart what rows depend on beside the component. Of limits they do not, as long as nothing goes wrong.
    pub fn fingerprint(&self) -> String {
        let BindingOptions { settings, inputs, aggregations, history_secs, exact, .. } = self;
        let told = serde_json::to_vec(&(settings, inputs, aggregations, history_secs, exact)).unwrap_or_default();
        Sha256::digest(told).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// How long rows are kept.
    pub fn expire_secs(&self) -> Option<u64> {
        self.expire_secs.or(self.max_age_secs.map(|secs| secs.saturating_mul(2)))
    }
}
