use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::streams::StreamInfo;
use super::versions::{Unseen, Versions};
use crate::model::{
    At, DeadLetterId, DeadLetterQuery, Digest, EntryId, FallbackKind, Service, ServiceName, ShadowGates, ShadowReport, Spec,
};

/// What a request wants done to the host. Each carries the sender of its answer.
#[derive(Debug)]
pub enum Command {
    /// Put a component into force.
    PutTransform {
        /// Under this name.
        name: String,
        /// The component's bytes.
        component: Bytes,
        /// How it is bound, where the request says so.
        binding: Binding,
        /// Who asks, for the book of versions.
        by: String,
        /// What is then in force, or why the component was refused.
        reply: oneshot::Sender<Result<TransformInfo, Refusal>>,
    },
    /// Put a version into force that was accepted before.
    Activate {
        /// Of this transform.
        name: String,
        /// Its number.
        number: u32,
        /// How.
        wish: Again,
        /// What is then in force, or why it was refused.
        reply: oneshot::Sender<Result<TransformInfo, Refusal>>,
    },
    /// Tell about all versions of a transform.
    Versions {
        /// Its name.
        name: String,
        /// What was ever accepted under it.
        reply: oneshot::Sender<Result<Versions, Refusal>>,
    },
    /// End a transform.
    DeleteTransform {
        /// Its name.
        name: String,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Change how a transform stands, whatever its component.
    ChangeTransform {
        /// Its name.
        name: String,
        /// What to change.
        change: TransformChange,
        /// How it stands then, or why it was not changed.
        reply: oneshot::Sender<Result<TransformInfo, Refusal>>,
    },
    /// Try a component behind the one in force.
    PutShadow {
        /// The transform.
        name: String,
        /// The component's bytes.
        component: Bytes,
        /// How it is bound, where the request says so.
        binding: Binding,
        /// The report, with nothing counted yet, or why the component was refused.
        reply: oneshot::Sender<Result<ShadowReport, Refusal>>,
    },
    /// Tell how a shadow compares.
    ShowShadow {
        /// The transform.
        name: String,
        /// The report.
        reply: oneshot::Sender<Result<ShadowReport, Refusal>>,
    },
    /// Put a shadow into force.
    PromoteShadow {
        /// The transform.
        name: String,
        /// What must hold.
        gates: ShadowGates,
        /// Who asks, for the book of versions.
        by: String,
        /// What is then in force, or what does not hold.
        reply: oneshot::Sender<Result<TransformInfo, Refusal>>,
    },
    /// End a shadow.
    DeleteShadow {
        /// The transform.
        name: String,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Tell about all transforms.
    ListTransforms {
        /// By name.
        reply: oneshot::Sender<Vec<TransformInfo>>,
    },
    /// Tell about all streams.
    ListStreams {
        /// By name.
        reply: oneshot::Sender<Vec<StreamInfo>>,
    },
    /// Make a list of features the newest version of a service.
    PutService {
        /// Under this name.
        name: String,
        /// References of features that exist.
        features: Vec<String>,
        /// The version that has them, or why there is none.
        reply: oneshot::Sender<Result<Service, Refusal>>,
    },
    /// Forget a service, or one version of it.
    DeleteService {
        /// Its name.
        name: ServiceName,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Try dead letters again.
    Replay {
        /// Which.
        wanted: ReplayWanted,
        /// What came of it.
        reply: oneshot::Sender<Result<Replayed, Refusal>>,
    },
    /// Tell whether everything works.
    Ready {
        /// Part by part.
        reply: oneshot::Sender<Readiness>,
    },
}

/// How a version comes into force again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// As the one before: what is in force now is not what the next roll back goes to.
    Back,
    /// As one of all.
    ByNumber {
        /// Whether it may be of no use for the newest events.
        force: bool,
    },
}

/// How a transform is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransformChange {
    /// It reads nothing until it is resumed.
    Pause,
    /// It goes on where it was paused.
    Resume,
    /// Its view becomes the one that the name without a version means: at once, or as soon as it has applied what the current one has.
    Switch {
        /// Whether at once.
        now: bool,
    },
}

/// How a pushed component is bound. What is absent stays as it is for a transform that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Binding {
    /// The stream.
    pub stream: Option<String>,
    /// A consumer group other than the stream's.
    pub group: Option<String>,
    /// Where it begins, with a group of its own: `beginning`, `end`, an entry id or a moment.
    pub start: Option<String>,
    /// The stream that its rows go on to; an empty text for none.
    pub emit: Option<String>,
    /// JSON text for the component.
    pub settings: Option<String>,
    /// Age beyond which a row is no answer.
    pub max_age_secs: Option<u64>,
    /// Age beyond which a row is forgotten.
    pub expire_secs: Option<u64>,
    /// How far back reads as of a moment are answered.
    pub history_secs: Option<u64>,
    /// Windowed features beside those that the component declares: a JSON list.
    pub aggregations: Option<String>,
    /// Whether windows are exact at both ends.
    pub exact: Option<bool>,
    /// How far ahead of the host's clock an event may be.
    pub ahead_max_secs: Option<u64>,
    /// Bytes that windows and history of one entity may take.
    pub entity_bytes_max: Option<usize>,
    /// Whether it computes when an event comes, or when somebody asks.
    pub at: Option<At>,
    /// Where inputs are found: a JSON object of input bindings by input.
    pub inputs: Option<String>,
    /// What is served where it could not compute for a request.
    pub fallback: Option<FallbackKind>,
    /// Values that stand in: a JSON object by feature.
    pub fallback_values: Option<String>,
    /// Whether it may be of no use for the newest events.
    pub force: Option<bool>,
}

/// A transform as it is told about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransformInfo {
    /// Its name and its view's.
    pub name: String,
    /// `running`, `standing_by`, `waiting`, `starting`, `stopped`, `paused` or `refused`.
    pub state: &'static str,
    /// Why, when it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the component that was offered last was refused, when the one before it is still in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The stream that it reads; none for one that computes when somebody asks.
    pub stream: Option<String>,
    /// The consumer group that it reads with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The last entry that it has applied, of each partition that this host works on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<u32, EntryId>,
    /// Whether the view's name without a version means this one.
    pub current: bool,
    /// Whether it becomes that as soon as it has caught up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub switching: bool,
    /// The stream that its rows go on to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<String>,
    /// The component in force.
    pub component: Option<Digest>,
    /// `declared`, `folder` or `pushed`.
    pub origin: Option<&'static str>,
    /// Its number among the versions of its name.
    pub number: Option<u32>,
    /// What became of the newest events of its stream when it came into force, where it reads them in another way than the version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Whether putting it has made its stream, which no section of the configuration describes and nothing has read or written before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub made_stream: bool,
    /// Of a fold that has just gone back behind versions whose states it does not read: what its states have not seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Of a paused one: the partitions in which it may still be given events, because the host that works there has not heard of it yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<u32>,
    /// What may go wrong with it, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the component says about itself.
    pub spec: Option<Spec>,
}

/// What two versions make of the same events. Folds begin without states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// How many.
    pub events: usize,
    /// The version that was in force.
    pub before: SampleOutcome,
    /// The one that has come into force.
    pub after: SampleOutcome,
}

/// What one version makes of some events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleOutcome {
    /// Events that it can use.
    pub used: usize,
    /// Rows that it makes of them.
    pub rows: usize,
    /// Events that it rejects.
    pub rejected: usize,
    /// Events that do not decode, or on which it fails.
    pub failed: usize,
    /// The first reasons why.
    pub reasons: Vec<String>,
}

/// Which dead letters to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayWanted {
    /// These.
    Ids(Vec<DeadLetterId>),
    /// All that match.
    Matching(DeadLetterQuery),
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Replayed {
    /// Tried again.
    pub replayed: u64,
    /// Used this time.
    pub settled: u64,
    /// Dead letters again.
    pub still_dead: u64,
    /// Left to the hosts that hold their partitions, which have not come to them yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub waiting: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whose mistake it is.
    pub kind: RefusalKind,
    /// What to change.
    pub message: String,
}

/// Whose mistake a refusal speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was sent cannot be used.
    Unusable,
    /// What was named does not exist.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// The host cannot do it now.
    Unavailable,
}

/// Whether everything works, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether all parts do.
    pub ready: bool,
    /// The parts.
    pub parts: Vec<PartState>,
}

/// One part of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartState {
    /// `store`, `stream NAME` or `transform NAME`.
    pub part: String,
    /// Whether it works.
    pub ready: bool,
    /// What it is doing, or what is wrong.
    pub state: String,
}
