//! Folding a batch: the states of its entities are read, taken over from other versions where that is needed, changed, and put back.
//!
//! A state that is written over one of a version which does not share its states leaves that one beside it, one for each entity: so that going back to
//! that version finds what it had. Such a state has not seen the events since; the cuts say which those are.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::batch::Error;
use super::binding::Binding;
use super::collect::Origins;
use super::fold::fold;
use super::stored::Stored;
use crate::model::{Column, Disposition, Packed, Put, Puts, Reason, StoredState, Timestamp, Values, old_state_key, state_key};
use crate::online_store;
use crate::transform::{Applied, World};

/// What stands for a state that has ended, where none would mean that it has not begun. No state is stored as nothing.
const END: &[u8] = b"";

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
    /// What is stored of entities whose state another version wrote.
    replaced: HashMap<Vec<u8>, Bytes>,
    /// The newest event of each entity.
    newest: HashMap<Vec<u8>, Timestamp>,
    /// Entities whose state this version cannot take over, and why.
    unusable: HashMap<Vec<u8>, (Reason, String)>,
}

/// Folds the rows of a batch into what is stored, and puts what has changed. States of entities that have none begin as those under the prefix `begins_with`.
pub(super) fn fold_into(
    binding: &Binding,
    begins_with: Option<&[u8]>,
    origins: &Origins<'_>,
    stored: &Stored,
    now: Timestamp,
    puts: &mut Puts,
) -> Result<Applied, Error> {
    let mut read = read(binding, begins_with, origins, stored)?;
    let applied = if read.unusable.is_empty() {
        fold(&binding.transform, origins, &mut read.now, Duration::from_millis(binding.bisect_ms_max))?
    } else {
        fold_the_rest(binding, origins, &mut read)?
    };
    put(binding, origins.prefix, begins_with.is_some(), &read, now, puts);
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
    let Origins { prefix, entity, event_time, .. } = *origins;
    let rest = Origins { prefix, batch: &batch, entity, event_time, entries: &entries };
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

fn read(binding: &Binding, begins_with: Option<&[u8]>, origins: &Origins<'_>, stored: &Stored) -> Result<Read, Error> {
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
    let keys_of = |prefix: &[u8]| -> Vec<Vec<u8>> { entities.iter().map(|entity| key_of(prefix, entity)).collect() };
    let mut values = stored.read(&keys_of(origins.prefix))?;
    if let Some(prefix) = begins_with.filter(|_| values.iter().any(Option::is_none)) {
        for (value, first) in values.iter_mut().zip(stored.read(&keys_of(prefix))?) {
            *value = value.take().or(first);
        }
    }
    let mut others: BTreeMap<String, Pairs> = BTreeMap::new();
    for (entity, value) in entities.into_iter().zip(values) {
        let Some(value) = value.filter(|value| value.as_ref() != END) else { continue };
        let state = StoredState::read(&value).ok_or_else(|| online_store::Error::Corrupt("a state is cut short".into()))?;
        if StoredState::is_compatible(state.version, &binding.view.version) {
            read.now.insert(entity.clone(), state.bytes.to_vec());
        } else {
            others.entry(state.version.to_owned()).or_default().push((entity.clone(), state.bytes.to_vec()));
            read.replaced.insert(entity.clone(), value.clone());
        }
        read.before.insert(entity, state.bytes.to_vec());
    }
    for (version, states) in others {
        take_over(binding, &version, states, &mut read)?;
    }
    go_back(binding, origins.prefix, stored, &mut read)?;
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

/// Entities whose state is of a version that this one goes back behind go on with the state that was there before: the one that lies beside it, or none where
/// that version wrote the first.
fn go_back(binding: &Binding, prefix: &[u8], stored: &Stored, read: &mut Read) -> Result<(), Error> {
    let behind = &binding.others.gone_back_behind;
    let is_behind = |entity: &&Vec<u8>| {
        let state = read.replaced.get(*entity).and_then(|value| StoredState::read(value));
        state.is_some_and(|state| behind.contains(state.version))
    };
    let entities: Vec<Vec<u8>> = read.unusable.keys().filter(is_behind).cloned().collect();
    if entities.is_empty() {
        return Ok(());
    }
    let keys: Vec<Vec<u8>> = entities.iter().map(|entity| old_key_of(prefix, entity)).collect();
    for (entity, value) in entities.into_iter().zip(stored.read(&keys)?) {
        let Some(value) = value else {
            read.unusable.remove(&entity);
            continue;
        };
        let state = StoredState::read(&value).ok_or_else(|| online_store::Error::Corrupt("a state is cut short".into()))?;
        let own = &binding.view.version;
        if StoredState::is_compatible(state.version, own) {
            read.unusable.remove(&entity);
            read.now.insert(entity, state.bytes.to_vec());
        } else if let Some((_, message)) = read.unusable.get_mut(&entity) {
            let kept = state.version;
            *message = format!(
                "the state that version {own} left of the entity is gone: version {kept} and another one after it have replaced it"
            );
        }
    }
    Ok(())
}

fn put(binding: &Binding, prefix: &[u8], marks_ends: bool, read: &Read, now: Timestamp, puts: &mut Puts) {
    let expires_at = |entity: &Vec<u8>| binding.expires_at(read.newest.get(entity).copied().unwrap_or(now), now);
    for (entity, state) in &read.now {
        // A state that stays what it was still lives on with its entity.
        let replaced = read.replaced.get(entity);
        if read.before.get(entity) == Some(state) && binding.expires_at(now, now).is_none() && replaced.is_none() {
            continue;
        }
        let expires_at = expires_at(entity);
        let value = StoredState { version: &binding.view.version, bytes: state }.to_bytes();
        puts.push(Put { key: key_of(prefix, entity), value: Some(value.into()), expires_at });
        // What somebody else's states began with is still where it was.
        if let Some(replaced) = replaced.filter(|_| !marks_ends) {
            puts.push(Put { key: old_key_of(prefix, entity), value: Some(replaced.clone()), expires_at });
        }
    }
    let is_gone = |entity: &&Vec<u8>| !read.now.contains_key(*entity) && !read.unusable.contains_key(*entity);
    for entity in read.before.keys().filter(is_gone) {
        let key = key_of(prefix, entity);
        puts.push(match marks_ends {
            true => Put { key, value: Some(Bytes::from_static(END)), expires_at: expires_at(entity) },
            false => Put { key, value: None, expires_at: None },
        });
        // Whoever has ended is not to come back with an old state.
        if binding.others.are_there {
            puts.push(Put { key: old_key_of(prefix, entity), value: None, expires_at: None });
        }
    }
}

fn key_of(prefix: &[u8], entity: &[u8]) -> Vec<u8> {
    state_key(&[prefix, entity].concat())
}

fn old_key_of(prefix: &[u8], entity: &[u8]) -> Vec<u8> {
    old_state_key(&[prefix, entity].concat())
}
