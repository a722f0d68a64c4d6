//! Folding a batch: the states of its entities are read, taken over from other versions where that is needed, changed, and put back.
//!
//! A state that is written over one of a version which does not share its states leaves that one beside it, one for each entity: so that going back to
//! that version finds what it had. Such a state has not seen the events since; the cuts say which those are.
//!
//! A row that a fold returns is made of everything that its entity's states have seen, so its event time is the newest of those, whichever event made it: a late
//! event renews the newest row, and no row of the past ever has anything in it that came after it. That time is stored with the state and outlives it.

use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// The newest event time that the states of each entity have seen, as it is stored.
    newest: HashMap<Vec<u8>, Timestamp>,
    /// Entities whose state this version cannot take over, and why.
    unusable: HashMap<Vec<u8>, (Reason, String)>,
}

/// Folds the rows of a batch into what is stored, and puts what has changed. States of entities that have none begin as those under the prefix `begins_with`.
/// Returns beside the outputs for each row of the batch the newest event time that the states of its entity have seen by then.
pub(super) fn fold_into(
    binding: &Binding,
    begins_with: Option<&[u8]>,
    origins: &Origins<'_>,
    stored: &Stored,
    now: Timestamp,
    puts: &mut Puts,
) -> Result<(Applied, Vec<Timestamp>), Error> {
    let mut read = read(binding, begins_with, origins, stored)?;
    let applied = if read.unusable.is_empty() {
        fold(&binding.transform, origins, &mut read.now, Duration::from_millis(binding.bisect_ms_max))?
    } else {
        fold_the_rest(binding, origins, &mut read)?
    };
    let (seen, newest) = seen(origins, &applied, &read.newest);
    Puttable { binding, prefix: origins.prefix, is_others: begins_with.is_some(), read: &read, newest: &newest, now }.put(puts);
    Ok((applied, seen))
}

/// The newest event time that the states of each row's entity have seen up to it, and of each entity in the end. What was given up was not seen.
fn seen(origins: &Origins<'_>, applied: &Applied, stored: &HashMap<Vec<u8>, Timestamp>) -> (Vec<Timestamp>, HashMap<Vec<u8>, Timestamp>) {
    let given_up: HashSet<usize> = applied.given_up.iter().map(|(row, ..)| *row).collect();
    let mut newest: HashMap<Vec<u8>, Timestamp> = HashMap::new();
    let mut key = Vec::new();
    let mut seen = Vec::with_capacity(origins.batch.rows);
    for row in 0..origins.batch.rows {
        let time = origins.version(row).event_time;
        if given_up.contains(&row) {
            seen.push(time);
            continue;
        }
        key.clear();
        origins.push_key(&mut key, row);
        let time = match newest.get_mut(&key) {
            Some(newest) => {
                *newest = time.max(*newest);
                *newest
            }
            None => {
                let time = stored.get(&key).map_or(time, |stored| time.max(*stored));
                newest.insert(key.clone(), time);
                time
            }
        };
        seen.push(time);
    }
    (seen, newest)
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
    let rest = Origins { prefix, batch: &batch, entity, event_time, entries: &entries, seen: &[] };
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
    let (mut entities, mut known): (Vec<Vec<u8>>, HashSet<Vec<u8>>) = (Vec::new(), HashSet::new());
    let mut read = Read::default();
    for row in 0..origins.batch.rows {
        let mut key = Vec::new();
        origins.push_key(&mut key, row);
        if known.insert(key.clone()) {
            entities.push(key);
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
        let Some(value) = value else { continue };
        if let Some(newest) = StoredState::ended(&value) {
            read.newest.insert(entity, newest);
            continue;
        }
        let state = StoredState::read(&value).ok_or_else(|| online_store::Error::Corrupt("a state is cut short".into()))?;
        read.newest.insert(entity.clone(), state.newest);
        let is_own = StoredState::is_compatible(state.version, &binding.view.version);
        if !is_own && begins_with.is_none() && !binding.others.knows_version(state.version) {
            return Err(Error::unknown(&binding.view, &format!("states of version {}", state.version)));
        }
        if is_own {
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
    let behind = &binding.others.known().gone_back_behind;
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

/// What has come of the states of a batch.
struct Puttable<'p> {
    binding: &'p Binding,
    prefix: &'p [u8],
    /// Whether states began as somebody else's, which are left as they are.
    is_others: bool,
    read: &'p Read,
    /// The newest event time that the states of each entity have seen now.
    newest: &'p HashMap<Vec<u8>, Timestamp>,
    now: Timestamp,
}

impl Puttable<'_> {
    fn put(&self, puts: &mut Puts) {
        let Puttable { binding, prefix, read, .. } = *self;
        for (entity, state) in &read.now {
            let replaced = read.replaced.get(entity);
            if read.before.get(entity) == Some(state) && replaced.is_none() && self.is_as_it_was(entity) {
                continue;
            }
            let (newest, expires_at) = self.newest(entity);
            let value = StoredState { version: &binding.view.version, bytes: state, newest }.to_bytes();
            puts.push(Put { key: key_of(prefix, entity), value: Some(value.into()), expires_at });
            // What somebody else's states began with is still where it was.
            if let Some(replaced) = replaced.filter(|_| !self.is_others) {
                puts.push(Put { key: old_key_of(prefix, entity), value: Some(replaced.clone()), expires_at });
            }
        }
        let has_none = |entity: &&Vec<u8>| !read.now.contains_key(*entity) && !read.unusable.contains_key(*entity);
        for entity in self.newest.keys().filter(has_none) {
            let has_ended = read.before.contains_key(entity);
            if !has_ended && self.is_as_it_was(entity) {
                continue;
            }
            let (newest, expires_at) = self.newest(entity);
            puts.push(Put { key: key_of(prefix, entity), value: Some(StoredState::end(newest).into()), expires_at });
            // Whoever has ended is not to come back with an old state.
            if has_ended && !binding.others.known().versions.is_empty() {
                puts.push(Put { key: old_key_of(prefix, entity), value: None, expires_at: None });
            }
        }
    }

    /// The newest event time that the entity's states have seen, and until when they are kept: like its rows, which have that time.
    fn newest(&self, entity: &[u8]) -> (Timestamp, Option<Timestamp>) {
        let newest = self.newest.get(entity).or_else(|| self.read.newest.get(entity)).copied().unwrap_or(Timestamp(i64::MIN));
        (newest, self.binding.expires_at(newest, self.now))
    }

    /// Whether nothing but the state itself could have to be stored. One that stays what it was still lives on with its entity.
    fn is_as_it_was(&self, entity: &[u8]) -> bool {
        let is_known = self.newest.get(entity).is_none_or(|newest| self.read.newest.get(entity) == Some(newest));
        is_known && self.binding.expires_at(self.now, self.now).is_none()
    }
}

fn key_of(prefix: &[u8], entity: &[u8]) -> Vec<u8> {
    state_key(&[prefix, entity].concat())
}

fn old_key_of(prefix: &[u8], entity: &[u8]) -> Vec<u8> {
    old_state_key(&[prefix, entity].concat())
}
