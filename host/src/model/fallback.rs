use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// When a transform computes its features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// When an event comes.
    #[default]
    Stream,
    /// When somebody asks.
    Request,
}

/// What is served where features could not be computed for a request: in time, or at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fallback {
    /// What to look for.
    pub kind: FallbackKind,
    /// Values by feature: for [`FallbackKind::Values`], and for [`FallbackKind::Last`] where nothing was computed before. A feature that is not named is null.
    pub values: BTreeMap<String, serde_json::Value>,
}

/// What to look for where features could not be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackKind {
    /// Nothing: the status is `error`.
    #[default]
    Error,
    /// What was computed last for the same entity.
    Last,
    /// Values that stand in the configuration.
    Values,
}
