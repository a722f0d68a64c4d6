//! Versions of transforms over HTTP. The work is done on the floor above.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Shared;
use super::access::Caller;
use super::body::{self, Whole};
use super::command::{Again, Command, RefusalKind, TransformInfo};
use super::error::ApiError;
use super::transforms::{all, send, stored, unknown};
use crate::model::{At, Digest, EntryId, Spec, Timestamp};

/// Everything that was ever accepted under a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versions {
    /// The transform's name.
    pub name: String,
    /// The number of the version in force; none after the transform was deleted.
    pub active: Option<u32>,
    /// The number that a roll back goes to, if there is one.
    pub back: Option<u32>,
    /// The newest first.
    pub versions: Vec<VersionInfo>,
    /// Where one of them ended and the next began, for every partition of the streams that they read.
    pub cuts: Vec<PartitionCuts>,
}

/// The cuts on one partition of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionCuts {
    /// The stream.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// Which partition, from 0.
    pub partition: u32,
    /// The oldest first.
    pub cuts: Vec<CutInfo>,
    /// Of a group that the version in force does not read with: the last entry that the last of these versions has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<EntryId>,
    /// Whether the version in force has had no event yet: its cut will be there with its first batch.
    pub pending: bool,
    /// Where that goes back behind versions whose states it does not read: what its states will not have seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
    /// Whether hosts compete for the entries of this stream: then there are no cuts, because there is no last entry of the version before.
    pub competing: bool,
}

/// Every entry up to `after` was applied by `from`, every later one by `to`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CutInfo {
    /// None where the view was not made before, or not any more.
    pub from: Option<MadeBy>,
    /// None where the view is not made from here on.
    pub to: Option<MadeBy>,
    /// The last entry before the cut; none where there was none.
    pub after: Option<EntryId>,
    /// When the first batch after it was worked on.
    pub at: Timestamp,
    /// Of a fold that has gone back behind versions whose states it does not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
}

/// Entries that the states of a fold have not seen, because it has gone back behind the versions that applied them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unseen {
    /// The stream.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// Which partition.
    pub partition: u32,
    /// All after this one; none where the fold had not applied any.
    pub after: Option<EntryId>,
    /// Up to this one; none for those up to the next batch.
    pub up_to: Option<EntryId>,
}

/// A version in a cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MadeBy {
    /// Its number on this host; none where this host does not have it, or not any more.
    pub number: Option<u32>,
    /// Its component.
    pub component: Digest,
    /// The author's word for it.
    pub version: String,
}

/// A version as it is told about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionInfo {
    /// From 1 within its name; none is used twice.
    pub number: u32,
    /// Whether it is the one in force.
    pub active: bool,
    /// Its component.
    pub component: Digest,
    /// The author's word for it.
    pub version: String,
    /// The stream that it reads; none for one that computes when somebody asks.
    pub stream: Option<String>,
    /// `declared`, `folder` or `pushed`.
    pub origin: &'static str,
    /// The name of the token that put it; `config`, `folder`, or `anyone` where there are no tokens.
    pub put_by: String,
    /// When it was accepted first.
    pub put_at: Timestamp,
    /// What is different from the version accepted before it: `component`, and options by name.
    pub changed: Vec<String>,
    /// What the component says about itself.
    pub spec: Spec,
}

/// The body of `POST /v1/transforms/{name}/activate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    version: u32,
    #[serde(default)]
    force: bool,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Versions>, ApiError> {
    let name = stored(path?.0);
    Ok(Json(of(&shared, &caller, &name).await?))
}

/// The versions of a name, or that there are none.
async fn of(shared: &Shared, caller: &Caller, name: &str) -> Result<Versions, ApiError> {
    let (reply, answer) = oneshot::channel();
    match send(shared, Command::Versions { name: name.to_owned(), reply }, answer).await? {
        Ok(versions) => Ok(versions),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Err(unknown(name, &all(shared, caller).await?)),
        Err(refusal) => Err(refusal.into()),
    }
}

pub(super) async fn activate(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Whole, ApiError>,
) -> Result<Json<TransformInfo>, ApiError> {
    let name = stored(path?.0);
    let Whole(body, _room) = body?;
    let Wanted { version, force } = body::object(&body)?;
    let versions = of(&shared, &caller, &name).await?;
    take(&shared, &caller, &versions, version, Again::ByNumber { force }).await
}

pub(super) async fn roll_back(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TransformInfo>, ApiError> {
    let name = stored(path?.0);
    let versions = of(&shared, &caller, &name).await?;
    let first = || ApiError::conflict(format!("no version of transform `{name}` was in force before; activate one by its number"));
    take(&shared, &caller, &versions, versions.back.ok_or_else(first)?, Again::Back).await
}

/// Asks for a version, if the stream that it reads is within the caller's reach.
async fn take(shared: &Shared, caller: &Caller, versions: &Versions, number: u32, wish: Again) -> Result<Json<TransformInfo>, ApiError> {
    let Versions { name, versions, .. } = versions;
    let version = versions.iter().find(|version| version.number == number);
    let missing = || ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("transform `{name}` has no version {number}"));
    let stream = version.ok_or_else(missing)?.stream.as_deref();
    caller.may_bind(stream.is_none().then_some(At::Request), stream)?;
    let (reply, answer) = oneshot::channel();
    Ok(Json(send(shared, Command::Activate { name: name.clone(), number, wish, reply }, answer).await??))
}
