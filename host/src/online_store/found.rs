//! What a writer has found and makes its next commit of, for stores that only one process writes to.

use bytes::Bytes;

use super::Error;
use crate::model::split_tag;

/// See the module.
#[derive(Default)]
pub(super) struct Found(Vec<(Vec<u8>, Option<Bytes>)>);

impl Found {
    pub(super) fn add(&mut self, keys: &[Vec<u8>], values: &[Option<Bytes>]) {
        self.0.extend(keys.iter().cloned().zip(values.iter().cloned()));
    }

    /// Fails where something else is stored by now.
    pub(super) fn check(&self, stored: impl Fn(&[u8]) -> Result<Option<Bytes>, Error>) -> Result<(), Error> {
        for (key, found) in &self.0 {
            if stored(key)? != *found {
                return Err(outdated(key));
            }
        }
        Ok(())
    }
}

/// What is stored under this key has changed.
pub(super) fn outdated(key: &[u8]) -> Error {
    let view = split_tag(key).1.split(|byte| *byte == b':').next().unwrap_or_default();
    Error::Outdated { view: String::from_utf8_lossy(view).into_owned() }
}
