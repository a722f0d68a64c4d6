//! States of folds: read for the entities of a batch, and put back where they changed.

use std::collections::HashMap;

use super::binding::Binding;
use super::collect::Origins;
use super::stored::Stored;
use crate::model::{Put, Puts, StoredState, Timestamp, state_key};
use crate::online_store::Error;

/// States by entity key.
type States = HashMap<Vec<u8>, Vec<u8>>;

/// The states of the entities of a batch.
pub(super) struct Batch {
    before: States,
    /// To be changed.
    pub(super) now: States,
}

/// Reads the states of all entities of a batch.
pub(super) fn read(binding: &Binding, origins: &Origins<'_>, stored: &Stored) -> Result<Batch, Error> {
    let mut entities: Vec<Vec<u8>> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for row in 0..origins.batch.rows {
        let mut key = Vec::new();
        origins.push_key(&mut key, row);
        if known.insert(key.clone()) {
            entities.push(key);
        }
    }
    let keys: Vec<Vec<u8>> = entities.iter().map(|entity| key_of(binding, entity)).collect();
    let mut before = States::new();
    for (entity, value) in entities.into_iter().zip(stored.read(&keys)?) {
        let Some(value) = value else { continue };
        let state = StoredState::read(&value).ok_or_else(|| Error::Corrupt("a state is cut short".into()))?;
        before.insert(entity, state.bytes.to_vec());
    }
    Ok(Batch { now: before.clone(), before })
}

impl Batch {
    /// Puts what has changed.
    pub(super) fn put(&self, binding: &Binding, now: Timestamp, puts: &mut Puts) {
        for (entity, state) in &self.now {
            if self.before.get(entity) == Some(state) {
                continue;
            }
            let value = StoredState { version: &binding.view.version, bytes: state }.to_bytes();
            let expires_at = binding.expire_secs.map(|secs| {
                let micros = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                Timestamp(now.0.saturating_add(micros))
            });
            puts.push(Put { key: key_of(binding, entity), value: Some(value.into()), expires_at });
        }
        for entity in self.before.keys().filter(|entity| !self.now.contains_key(*entity)) {
            puts.push(Put { key: key_of(binding, entity), value: None, expires_at: None });
        }
    }
}

fn key_of(binding: &Binding, entity: &[u8]) -> Vec<u8> {
    state_key(&[binding.view.name.as_bytes(), b":", entity].concat())
}
