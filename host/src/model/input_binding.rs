use serde::{Deserialize, Serialize};

/// How one input of a transform is found in the events, where that differs from what the component declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputBinding {
    /// Name or dotted path in the event; the input's own name when absent.
    pub from: Option<String>,
    /// Replaces the component's default.
    pub default: Option<String>,
    /// Unit of times given as numbers; told by their size when absent.
    pub epoch: Option<Epoch>,
}

/// The unit of times that are numbers since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Epoch {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}
