//! Folding a batch: the states of its entities are read, taken over from other versions where that is needed, changed, and put back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::batch::Error;
use super::binding::Binding;
use super::collect::Origins;
use super::fold::fold;
use super::stored::Stored;
use crate::model::{Column, Disposition, Packed, Put, Puts, Reason, StoredState, Timestamp, Values, state_key};
use crate::online_store;
use crate::transform::{Applied, World};

/// States by entity key.
type States = HashMap<Vec<u8>, Vec<u8>>;

/// Entity keys and states.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What is stored for the entities of a batch.
#[derive(Default)]
struct Read {
    before: States,
    /// The same, of this version.
    now: States,
    /// The newest event of each entity.
    newest: HashMap<Vec<u8>, Timestamp>,
    /// Entities whose state this version cannot take over, and why.
    unusable: HashMap<Vec<u8>, (Reason, String)>,
}

/// Folds the rows of a batch into what is stored, and puts what has changed.
pub(super) fn fold_into(
    binding: &Binding,
    origins: &Origins<'_>,
    stored: &Stored,
    now: Timestamp,
    puts: &mut Puts,
) -> Result<Applied, Error> {
    let mut read = read(binding, origins, stored)?;
    let applied = if read.unusable.is_empty() {
        fold(&binding.transform, origins, &mut read.now, Duration::from_millis(binding.bisect_ms_max))?
    } else {
        fold_the_rest(binding, origins, &mut read)?
    };
    put(binding, &read, now, puts);
    Ok(applied)
}

/// Leaves out the rows of entities whose state cannot be used.
fn fold_the_rest(binding: &Binding, origins: &Origins<'_>, read: &mut Read) -> Result<Applied, Error> {
    let (mut kept, mut given_up) = (Vec::new(), Vec::new());
    for row in 0..origins.batch.rows {
        let mut key = Vec::new();
        origins.push_key(&mut key, row);
        match read.unusable.get(&key) {
            Some((reason, message)) => given_up.push((row, *reason, message.clone())),
            None => kept.push(row as u32),
        }
    }
    let entries: Vec<_> = kept.iter().filter_map(|row| origins.entries.get(*row as usize).copied()).collect();
    let batch = origins.batch.take(&kept);
    let rest = Origins { batch: &batch, entity: origins.entity, event_time: origins.event_time, entries: &entries };
    let mut applied = fold(&binding.transform, &rest, &mut read.now, Duration::from_millis(binding.bisect_ms_max))?;
    let whole = |row: u32| kept.get(row as usize).copied().unwrap_or(row);
    for row in &mut applied.given_up {
        row.0 = whole(row.0 as u32) as usize;
    }
    for (_, output) in &mut applied.outputs {
        output.origins.iter_mut().flatten().for_each(|origin| *origin = whole(*origin));
    }
    applied.given_up.extend(given_up);
    Ok(applied)
}

fn read(binding: &Binding, origins: &Origins<'_>, stored: &Stored) -> Result<Read, Error> {
    let mut entities: Vec<Vec<u8>> = Vec::new();
    let mut read = Read::default();
    for row in 0..origins.batch.rows {
        let mut key = Vec::new();
        origins.push_key(&mut key, row);
        let time = origins.version(row).event_time;
        if let Some(newest) = read.newest.get_mut(&key) {
            *newest = time.max(*newest);
        } else {
            entities.push(key.clone());
            read.newest.insert(key, time);
        }
    }
    let keys: Vec<Vec<u8>> = entities.iter().map(|entity| key_of(binding, entity)).collect();
    let mut others: BTreeMap<String, Pairs> = BTreeMap::new();
    for (entity, value) in entities.into_iter().zip(stored.read(&keys)?) {
        let Some(value) = value else { continue };
        let state = StoredState::read(&value).ok_or_else(|| online_store::Error::Corrupt("a state is cut short".into()))?;
        if StoredState::is_compatible(state.version, &binding.view.version) {
            read.now.insert(entity.clone(), state.bytes.to_vec());
        } else {
            others.entry(state.version.to_owned()).or_default().push((entity.clone(), state.bytes.to_vec()));
        }
        read.before.insert(entity, state.bytes.to_vec());
    }
    for (version, states) in others {
        take_over(binding, &version, states, &mut read)?;
    }
    Ok(read)
}

/// States of another version become states of this one, or their entities' events are given up. A call that fails is tried state by state.
fn take_over(binding: &Binding, from: &str, states: Pairs, read: &mut Read) -> Result<(), Error> {
    if binding.transform.world() != World::MigratingTransform {
        let own = &binding.view.version;
        let message = format!("the entity's state was written by version {from}, which version {own} does not take over");
        read.unusable.extend(states.into_iter().map(|(entity, _)| (entity, (Reason::Failed, message.clone()))));
        return Ok(());
    }
    let mut packed = Packed::default();
    states.iter().for_each(|(_, state)| packed.push(state));
    match binding.transform.migrate(from, &Column { values: Values::Blobs(packed), validity: None }) {
        Ok(Column { values: Values::Blobs(migrated), .. }) => {
            let migrated = states.into_iter().enumerate().map(|(index, (entity, _))| (entity, migrated.get(index).to_vec()));
            read.now.extend(migrated);
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if error.disposition() != Disposition::Reject => Err(error.into()),
        Err(error) if states.len() <= 1 => {
            let message = format!("the entity's state of version {from} could not be taken over: {error}");
            let why = (error.reason(), message);
            read.unusable.extend(states.into_iter().map(|(entity, _)| (entity, why.clone())));
            Ok(())
        }
        Err(_) => states.into_iter().try_for_each(|state| take_over(binding, from, vec![state], read)),
    }
}

fn put(binding: &Binding, read: &Read, now: Timestamp, puts: &mut Puts) {
    for (entity, state) in &read.now {
        // A state that stays what it was still lives on with its entity.
        if read.before.get(entity) == Some(state) && binding.expires_at(now, now).is_none() {
            continue;
        }
        let value = StoredState { version: &binding.view.version, bytes: state }.to_bytes();
        let expires_at = binding.expires_at(read.newest.get(entity).copied().unwrap_or(now), now);
        puts.push(Put { key: key_of(binding, entity), value: Some(value.into()), expires_at });
    }
    let is_gone = |entity: &&Vec<u8>| !read.now.contains_key(*entity) && !read.unusable.contains_key(*entity);
    for entity in read.before.keys().filter(is_gone) {
        puts.push(Put { key: key_of(binding, entity), value: None, expires_at: None });
    }
}

fn key_of(binding: &Binding, entity: &[u8]) -> Vec<u8> {
    state_key(&[binding.view.name.as_bytes(), b":", entity].concat())
}
