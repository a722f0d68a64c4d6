use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderValue;
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::model::{Digest, Reach, Scope, Timestamp};

/// Bytes in a token, at most; what is longer is none.
const TOKEN_BYTES_MAX: usize = 512;

/// A token that the host knows by its hash.
#[derive(Debug, Clone)]
pub struct Token {
    /// Who it was given to.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: Digest,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// What it may name.
    pub reach: Reach,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// A token that was presented and is known.
pub(in crate::serve) struct Known {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) scopes: BTreeSet<Scope>,
    pub(super) reach: Reach,
    expires: Option<Timestamp>,
}

impl Known {
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What a request presented.
#[derive(Clone)]
pub(super) enum Presented {
    /// The host knows no tokens.
    NotAsked,
    Nothing,
    Unknown,
    Expired,
    Known(Arc<Known>),
}

/// All tokens. A token is 32 random bytes, so that its plain hash cannot be turned back.
pub(super) struct Tokens {
    hashes: Vec<[u64; 4]>,
    known: Vec<Arc<Known>>,
}

impl Tokens {
    pub(super) fn new(tokens: Vec<Token>) -> Tokens {
        let hashes = tokens.iter().map(|token| words(&token.sha256.0)).collect();
        let known = tokens.into_iter().enumerate().map(|(index, token)| {
            let Token { name, sha256: _, scopes, reach, expires } = token;
            Arc::new(Known { index, name, scopes, reach, expires })
        });
        Tokens { hashes, known: known.collect() }
    }

    /// The token of an `Authorization` header.
    pub(super) fn look_up(&self, header: Option<&HeaderValue>, now: impl FnOnce() -> Timestamp) -> Presented {
        let Some(header) = header else { return Presented::Nothing };
        let Some(token) = bearer(header.as_bytes()) else { return Presented::Unknown };
        let hash = words(&Sha256::digest(token).into());
        // Every known hash is compared, all of each, whatever was presented: how long it takes tells nothing of them.
        let mut found = u32::MAX;
        for (index, known) in self.hashes.iter().enumerate() {
            let difference = known.iter().zip(&hash).fold(0, |difference, (known, given)| difference | (known ^ given));
            found.conditional_assign(&u32::try_from(index).unwrap_or(u32::MAX), difference.ct_eq(&0));
        }
        match self.known.get(found as usize) {
            None => Presented::Unknown,
            Some(token) if token.expires.is_some() && token.has_expired(now()) => Presented::Expired,
            Some(token) => Presented::Known(Arc::clone(token)),
        }
    }
}

/// What follows `Bearer`, in any case, and its spaces.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    let is_token = scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    is_token.then_some(token)
}

fn words(hash: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, expires: Option<Timestamp>) -> Token {
        let sha256 = Digest(Sha256::digest(text).into());
        Token { name: format!("of {text}"), sha256, scopes: [Scope::Read].into(), reach: Reach::default(), expires }
    }

    #[test]
    fn only_what_was_given_out_is_known() {
        let tokens = Tokens::new(vec![token("first", None), token("second", Some(Timestamp(10)))]);
        let look_up = |header: &'static str, now| match tokens.look_up(Some(&HeaderValue::from_static(header)), || Timestamp(now)) {
            Presented::NotAsked => "not asked".to_owned(),
            Presented::Nothing => "nothing".to_owned(),
            Presented::Unknown => "unknown".to_owned(),
            Presented::Expired => "expired".to_owned(),
            Presented::Known(token) => token.name.clone(),
        };
        for (header, now, expected) in [
            ("Bearer first", 0, "of first"),
            ("bearer  first ", 0, "of first"),
            ("Bearer second", 9, "of second"),
            ("Bearer second", 10, "expired"),
            ("Bearer firs", 0, "unknown"),
            ("Bearer firsts", 0, "unknown"),
            ("Bearer ", 0, "unknown"),
            ("Bearer", 0, "unknown"),
            ("Basic first", 0, "unknown"),
            ("first", 0, "unknown"),
        ] {
            assert_eq!(look_up(header, now), expected, "{header}");
        }
    }
}
