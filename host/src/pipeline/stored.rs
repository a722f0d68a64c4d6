//! What is stored of the entities of a batch: read before it changes. Called where blocking is allowed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::model::{Field, Partition, Place, Puts, Schema, SchemaId, Timestamp};
use crate::online_store::{Error, OnlineStore};
use crate::window::Plan;

/// Values read at once. An entity has at most a few megabytes.
const READ_KEYS_MAX: usize = 1_000;

/// A schema that entities were stored under, and what it keeps.
pub(super) struct OldSchema {
    pub(super) outputs: Vec<Field>,
    pub(super) plan: Plan,
    pub(super) keeps_since: Option<Timestamp>,
}

/// The store as the work on a batch sees it.
pub(super) struct Stored {
    store: Arc<dyn OnlineStore>,
    /// The partition whose lease is held, and the place on which what is made of it is to follow.
    after: Option<(Partition, Place)>,
    runtime: Handle,
    schemas: Mutex<HashMap<SchemaId, Arc<OldSchema>>>,
    /// What is seen in place of what the store has.
    changed: HashMap<Vec<u8>, Option<Bytes>>,
}

impl Stored {
    /// To be made on the runtime.
    pub(super) fn new(store: Arc<dyn OnlineStore>, after: Option<(Partition, Place)>) -> Stored {
        Stored { store, after, runtime: Handle::current(), schemas: Mutex::default(), changed: HashMap::new() }
    }

    /// The same, to be tried things on: what is changed here changes nothing else.
    pub(super) fn to_try(&self) -> Stored {
        let (store, after, runtime) = (Arc::clone(&self.store), self.after.clone(), self.runtime.clone());
        Stored { store, after, runtime, schemas: Mutex::default(), changed: HashMap::new() }
    }

    /// From now on what is put is seen as if it was stored.
    pub(super) fn change(&mut self, puts: &Puts) {
        self.changed.extend(puts.iter().map(|put| (put.key.clone(), put.value.clone())));
    }

    /// What is stored under each key.
    pub(super) fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(READ_KEYS_MAX) {
            let read = match &self.after {
                Some((partition, place)) => self.store.read_after(partition, *place, keys),
                None => self.store.read(keys),
            };
            values.extend(self.runtime.block_on(read)?);
        }
        if !self.changed.is_empty() {
            let changed = keys.iter().map(|key| self.changed.get(key));
            values
                .iter_mut()
                .zip(changed)
                .filter_map(|(value, changed)| Some((value, changed?)))
                .for_each(|(value, changed)| value.clone_from(changed));
        }
        Ok(values)
    }

    /// A schema that is not the one in force.
    pub(super) fn schema(&self, id: SchemaId) -> Result<Arc<OldSchema>, Error> {
        let known = |known: &HashMap<SchemaId, Arc<OldSchema>>| known.get(&id).cloned();
        if let Some(found) = known(&self.schemas.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let all = self.runtime.block_on(self.store.schemas())?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, Schema { features, kept, keeps_since, .. }) in all {
            let plan = Plan::new(&features, &kept);
            schemas.insert(id, Arc::new(OldSchema { outputs: features, plan, keeps_since }));
        }
        known(&schemas).ok_or_else(|| Error::Corrupt(format!("a stored entity names schema {}, which the store does not have", id.0)))
    }
}
