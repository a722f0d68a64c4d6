//! `[[http.tokens]]` and `[http.tls]`: who may ask for what, and the certificate that the host shows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Reach, Scope, Timestamp};

/// Tokens of one host, at most: every one is compared with every token that is presented.
const TOKENS_MAX: usize = 128;

/// `[[http.tokens]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who it was given to, for the audit log.
    pub name: String,
    /// SHA-256 of the token's text.
    #[serde(deserialize_with = "hash")]
    pub sha256: Digest,
    /// What it allows; no scope implies another.
    pub scopes: BTreeSet<Scope>,
    /// The views and transforms that it is limited to.
    #[serde(default)]
    pub views: Option<Vec<String>>,
    /// The streams that it is limited to.
    #[serde(default)]
    pub streams: Option<Vec<String>>,
    /// When it ends; never when absent.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl Token {
    /// The views and streams that it is limited to.
    pub fn reach(&self) -> Reach {
        Reach { views: self.views.clone(), streams: self.streams.clone() }
    }
}

/// Never repeats what it is given: that may be the token itself.
fn hash<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let complaint = "not a SHA-256 hash; write the 64 hexadecimal digits that `gristmill token new` prints, never the token";
    String::deserialize(deserializer)?.parse().map_err(|_| serde::de::Error::custom(complaint))
}

/// `[http.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those between it and the authority, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
}

/// What is wrong with tokens, taken together.
pub(super) fn check_tokens(key: &str, tokens: &[Token], complain: &mut impl FnMut(String, String)) {
    let mut complain = |message: String| complain(format!("{key}.tokens"), message);
    if tokens.len() > TOKENS_MAX {
        complain(format!("{} tokens are given; {TOKENS_MAX} are allowed", tokens.len()));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for token in tokens {
        let name = &token.name;
        let is_plain = |name: &str| (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(name) {
            complain(format!("a token's name has 1 to 63 printable ASCII characters and no spaces, unlike {name:?}"));
        }
        if !names.insert(name) {
            complain(format!("two tokens are named `{name}`; the audit log could not tell them apart"));
        }
        if !digests.insert(token.sha256) {
            complain(format!("token `{name}` has the same sha256 as another; make one with `gristmill token new`"));
        }
        if token.scopes.is_empty() {
            complain(format!("token `{name}` has no scope; give it some of \"read\", \"write\", \"admin\""));
        }
        let is_view = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_stream = |byte: u8| byte.is_ascii_graphic();
        let views = token.views.iter().flatten().filter(|pattern| !is_pattern(pattern, is_view));
        let streams = token.streams.iter().flatten().filter(|pattern| !is_pattern(pattern, is_stream));
        for pattern in views.chain(streams) {
            complain(format!("token `{name}` is limited to {pattern:?}; write a name, or the beginning of names and `*`"));
        }
    }
}

fn is_pattern(pattern: &str, legal: impl Fn(u8) -> bool) -> bool {
    !pattern.is_empty() && pattern.strip_suffix('*').unwrap_or(pattern).bytes().all(legal)
}

/// Complains about origins that no browser would send.
pub(super) fn check_origins(key: &str, origins: &[String], complain: &mut impl FnMut(String, String)) {
    for origin in origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)) {
            let advice = "is no origin; write it as browsers do, for example \"https://dashboard.example\", without a path";
            complain(format!("{key}.cors_origins"), format!("{origin:?} {advice}"));
        }
    }
}
