//! Who asks, and what they may: bearer tokens with scopes, and limits to the views and streams that a token may name.
//!
//! What an operation needs stands beside it in the table of routes. Names in paths are checked here; operations whose names stand elsewhere
//! check them by [`Caller`].

mod needs;
mod pace;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Shared;
use super::error::ApiError;
use crate::model::{At, Reach, Scope, Timestamp};

pub(super) use needs::{Names, Needs};
use pace::Paces;
pub(super) use pace::{Turn, network};
pub use tokens::Token;
use tokens::{Presented, Tokens};

/// What the host asks of those who ask.
#[derive(Debug, Clone, Default)]
pub struct AccessOptions {
    /// The tokens that it knows. Without any, everybody who reaches it may do everything.
    pub tokens: Vec<Token>,
    /// Requests a second of one token, or of one peer without any; 0 for no bound.
    pub requests_per_second_max: u64,
    /// Requests of one token, or of one peer without any, answered at the same time; 0 for no bound.
    pub client_concurrency_max: usize,
}

/// Decides about every request.
pub(super) struct Access {
    tokens: Option<Tokens>,
    paces: Option<Paces>,
}

/// Who asks, as far as the host can tell.
#[derive(Clone)]
pub(super) struct Caller {
    peer: Option<IpAddr>,
    presented: Presented,
}

impl Access {
    pub(super) fn new(options: AccessOptions) -> Access {
        let AccessOptions { tokens, requests_per_second_max, client_concurrency_max } = options;
        Access {
            paces: Paces::new(requests_per_second_max, client_concurrency_max, tokens.len()),
            tokens: (!tokens.is_empty()).then(|| Tokens::new(tokens)),
        }
    }

    /// Looks at the token of a request, if the host knows any.
    pub(super) fn caller(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Caller {
        let presented = match &self.tokens {
            None => Presented::NotAsked,
            Some(tokens) => tokens.look_up(headers.get(header::AUTHORIZATION), Timestamp::now),
        };
        Caller { peer, presented }
    }

    /// A turn among the requests of this caller; 429 when it has had too many.
    pub(super) fn turn(&self, caller: &Caller) -> Result<Option<Turn>, ApiError> {
        let Some(paces) = &self.paces else { return Ok(None) };
        let token = caller.token().map(|token| token.index);
        paces.turn(token, caller.peer).map(Some)
    }

    /// Whether the caller may do what `needs` says to what the path names.
    pub(super) fn admit(&self, caller: &Caller, needs: Needs, template: &str, path: &str) -> Result<(), ApiError> {
        if self.tokens.is_none() {
            return Ok(());
        }
        let Needs::Scope(scope, names) = needs else { return Ok(()) };
        caller.has(scope)?;
        match names {
            Names::None | Names::Handler => Ok(()),
            Names::All => caller.reaches_everything(),
            Names::View => caller.may_view(&needs::parameter(template, path).unwrap_or_default()),
            Names::Stream if scope == Scope::Write => caller.may_write_stream(&needs::parameter(template, path).unwrap_or_default()),
            Names::Stream => caller.may_stream(&needs::parameter(template, path).unwrap_or_default()),
        }
    }
}

impl Caller {
    /// Whether the host has tokens and this caller presented none that allows this.
    pub(super) fn has(&self, scope: Scope) -> Result<(), ApiError> {
        match &self.presented {
            Presented::NotAsked => Ok(()),
            Presented::Nothing => Err(unauthorized("", "this host asks for a token: send it as `authorization: Bearer …`")),
            Presented::Unknown => Err(unauthorized(", error=\"invalid_token\"", "the token is none that this host knows")),
            Presented::Expired => Err(unauthorized(", error=\"invalid_token\"", "the token has expired")),
            Presented::Known(token) if token.scopes.contains(&scope) => Ok(()),
            Presented::Known(_) => {
                let challenge = format!("Bearer realm=\"gristmill\", error=\"insufficient_scope\", scope=\"{scope}\"");
                Err(forbidden(format!("this needs a token with the scope `{scope}`")).with_header(header::WWW_AUTHENTICATE, &challenge))
            }
        }
    }

    /// The views and streams that the caller is limited to, if it is.
    pub(super) fn reach(&self) -> Option<&Reach> {
        self.token().map(|token| &token.reach).filter(|reach| reach.is_limited())
    }

    /// 403 for a view beyond the caller's reach, whether or not there is one of that name.
    pub(super) fn may_view(&self, name: &str) -> Result<(), ApiError> {
        let is_within = self.reach().is_none_or(|reach| reach.view(name));
        if is_within { Ok(()) } else { Err(beyond("view", name)) }
    }

    /// 403 for a stream beyond the caller's reach, whether or not there is one of that name.
    pub(super) fn may_stream(&self, name: &str) -> Result<(), ApiError> {
        let is_within = self.reach().is_none_or(|reach| reach.stream(name));
        if is_within { Ok(()) } else { Err(beyond("stream", name)) }
    }

    /// 403 for a view whose rows the caller may not write.
    pub(super) fn may_write_view(&self, name: &str) -> Result<(), ApiError> {
        self.may_view(name)?;
        match self.reach() {
            Some(reach) if !reach.writes_view(name) => {
                Err(forbidden("the token is limited to some streams, and writes to those only; to write views too it needs `views`".into()))
            }
            _ => Ok(()),
        }
    }

    fn may_write_stream(&self, name: &str) -> Result<(), ApiError> {
        self.may_stream(name)?;
        match self.reach() {
            Some(reach) if !reach.writes_stream(name) => {
                Err(forbidden("the token is limited to some views, and writes those only; to send events too it needs `streams`".into()))
            }
            _ => Ok(()),
        }
    }

    /// 403 for a transform on a stream beyond the caller's reach. Who is limited to some streams names the one it means: the component's own choice
    /// is known only when it runs. On requests there is none to name.
    pub(super) fn may_bind(&self, at: Option<At>, stream: Option<&str>) -> Result<(), ApiError> {
        match (stream, self.reach().and_then(|reach| reach.streams.as_ref())) {
            (None, Some(_)) if at == Some(At::Request) => Err(forbidden(
                "the token is limited to some streams, and what computes for requests is on none: it takes a token without `streams`".into(),
            )),
            (None, Some(_)) => Err(forbidden(
                "the token is limited to some streams; name the transform's with `?stream=`, or take a token without `streams` for one that computes \
                 for requests"
                    .into(),
            )),
            (None, None) => Ok(()),
            (Some(stream), _) => self.may_stream(stream),
        }
    }

    /// Whether a list may show a view.
    pub(super) fn sees_view(&self, name: &str) -> bool {
        self.reach().is_none_or(|reach| reach.view(name))
    }

    /// Whether a list may show a stream.
    pub(super) fn sees_stream(&self, name: &str) -> bool {
        self.reach().is_none_or(|reach| reach.stream(name))
    }

    /// Whether the token that was presented is good no longer.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.token().is_some_and(|token| token.has_expired(now))
    }

    /// The name for the book of versions.
    pub(super) fn by(&self) -> &str {
        self.token().map_or("anyone", |token| &token.name)
    }

    /// The name for the audit log.
    pub(super) fn name(&self) -> &str {
        match &self.presented {
            Presented::NotAsked => "anybody",
            Presented::Nothing => "nobody",
            Presented::Unknown => "unknown",
            Presented::Expired => "expired",
            Presented::Known(token) => &token.name,
        }
    }

    /// Where the request came from.
    pub(super) fn peer(&self) -> String {
        self.peer.map_or(String::new(), |peer| peer.to_string())
    }

    fn reaches_everything(&self) -> Result<(), ApiError> {
        match self.reach() {
            None => Ok(()),
            Some(_) => Err(forbidden("this shows every view and stream, and needs a token without limits to some of them".into())),
        }
    }

    fn token(&self) -> Option<&Arc<tokens::Known>> {
        match &self.presented {
            Presented::Known(token) => Some(token),
            Presented::NotAsked | Presented::Nothing | Presented::Unknown | Presented::Expired => None,
        }
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Caller, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::internal("a request went past the check of who asks"))
    }
}

fn unauthorized(error: &str, message: &str) -> ApiError {
    let challenge = format!("Bearer realm=\"gristmill\"{error}");
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message).with_header(header::WWW_AUTHENTICATE, &challenge)
}

fn forbidden(message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

fn beyond(what: &str, name: &str) -> ApiError {
    let shown: String = name.chars().take(80).collect();
    forbidden(format!("the token does not reach {what} `{shown}`"))
}

impl ApiError {
    /// The same with a header; one that HTTP would not allow is left out.
    fn with_header(mut self, name: header::HeaderName, value: &str) -> ApiError {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }
}
