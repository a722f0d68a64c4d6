//! What is stored of the entities of a batch: read before it changes. Called where blocking is allowed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::model::{Field, Partition, Place, Schema, SchemaId};
use crate::online_store::{Error, OnlineStore};
use crate::window::Plan;

/// Values read at once. An entity has at most a few megabytes.
const READ_KEYS_MAX: usize = 1_000;

/// A schema that entities were stored under, and what it keeps.
pub(super) struct OldSchema {
    pub(super) outputs: Vec<Field>,
    pub(super) plan: Plan,
}

/// The store as the work on a batch sees it.
pub(super) struct Stored {
    store: Arc<dyn OnlineStore>,
    /// The partition whose lease is held, and the place on which what is made of it is to follow.
    after: Option<(Partition, Place)>,
    runtime: Handle,
    schemas: Mutex<HashMap<SchemaId, Arc<OldSchema>>>,
}

impl Stored {
    /// To be made on the runtime.
    pub(super) fn new(store: Arc<dyn OnlineStore>, after: Option<(Partition, Place)>) -> Stored {
        Stored { store, after, runtime: Handle::current(), schemas: Mutex::default() }
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
        for (id, Schema { features, kept, .. }) in all {
            let plan = Plan::new(&features, &kept);
            schemas.insert(id, Arc::new(OldSchema { outputs: features, plan }));
        }
        known(&schemas).ok_or_else(|| Error::Corrupt(format!("a stored entity names schema {}, which the store does not have", id.0)))
    }
}
