//! What must be stored after what was applied: worked out event by event, as plainly as can be, and held against what is there.

use std::collections::{BTreeMap, BTreeSet};

use gristmill::model::json::push_value;
use gristmill::model::{
    DeadLetterId, DeadLetterQuery, Digest, EntryId, FeatureRow, Field, KeyPart, Kind, OwnedValue, Reason, StoredState, Timestamp, Value,
    Version, row_key, state_key,
};
use gristmill::online_store::OnlineStore;
use gristmill::window::Entity;
use serde_json::{Value as Json, json};

use super::events::{Action, BEGIN_MS, Event, KEYS, POISON, SPAN_MS};
use super::store::{Applied, Store};
use super::transforms::{Fixtures, STEP, Set, VIEWS};
use crate::oracle;

/// What is wrong, for people.
pub type Wrong = String;

#[derive(Default)]
struct Expected {
    /// Of each entity the newest row: its version, its value, and the set that made it.
    newest: BTreeMap<i64, (Version, i64, usize)>,
    windowed: BTreeMap<i64, Vec<oracle::Event>>,
    states: BTreeMap<i64, Tally>,
    /// Of each entity the newest event time that the fold has seen, in microseconds.
    seen: BTreeMap<i64, i64>,
    /// Of each entity what the fold returned, in the order of its entries, and the newest event time that its state had seen by then, which is the row's.
    returned: BTreeMap<i64, BTreeMap<EntryId, (i64, Tally)>>,
    letters: BTreeMap<(EntryId, &'static str), Reason>,
}

/// The fold's state, and what it returns.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tally {
    version: usize,
    seen: i64,
    total: f64,
    largest: f64,
}

impl Expected {
    /// One view takes one event, in the version that a set has of it.
    fn take(&mut self, view: &'static str, event: &Event, set: usize) {
        let outcome = match view {
            "tally" => self.fold(event, set),
            _ => self.row(view, event, set),
        };
        match outcome {
            Ok(()) => drop(self.letters.remove(&(event.id, view))),
            Err(reason) => drop(self.letters.insert((event.id, view), reason)),
        }
    }

    fn row(&mut self, view: &'static str, event: &Event, set: usize) -> Result<(), Reason> {
        let value = event.value.ok_or(Reason::Decode)?;
        if value == POISON {
            return Err(Reason::Trap);
        }
        let value = value + set as i64 * STEP;
        let version = Version { event_time: Timestamp(event.at), entry_id: event.id };
        if view == "newest" {
            let known = self.newest.entry(event.key).or_insert((version, value, set));
            if known.0 < version {
                *known = (version, value, set);
            }
        } else {
            let order = event.id.ms * 4 + event.id.seq;
            self.windowed.entry(event.key).or_default().push(oracle::Event {
                time: event.at,
                order,
                value: Some(OwnedValue::Integer(value)),
            });
        }
        Ok(())
    }

    fn fold(&mut self, event: &Event, set: usize) -> Result<(), Reason> {
        let amount = event.amount.ok_or(Reason::Decode)? as f64;
        let version = 1 + set.min(1);
        if version > 1 || event.action != Action::Reject {
            let seen = self.seen.entry(event.key).or_insert(i64::MIN);
            *seen = (*seen).max((event.id.ms * 1_000) as i64);
        }
        match event.action {
            Action::Reject if version == 1 => return Err(Reason::Rejected),
            Action::Reset if version == 1 => {
                self.states.remove(&event.key);
                return Ok(());
            }
            Action::Reject | Action::Reset | Action::Count => {}
        }
        let fresh = Tally { version, seen: 0, total: 0.0, largest: 0.0 };
        let before = self.states.get(&event.key).copied().unwrap_or(fresh);
        // What the second version makes of a state of the first.
        let largest = if before.version < version { before.total / before.seen as f64 } else { before.largest };
        let after = Tally { version, seen: before.seen + 1, total: before.total + amount, largest: largest.max(amount) };
        self.states.insert(event.key, after);
        let seen = self.seen.get(&event.key).copied().unwrap_or(i64::MIN);
        self.returned.entry(event.key).or_default().insert(event.id, (seen, after));
        Ok(())
    }
}

/// The one set that can have made a commit.
fn set_of(applied: &Applied, sets: &[Set]) -> Result<usize, Wrong> {
    let made_by = |set: &Set, component: &Digest| set.views.iter().any(|view| view.component == *component);
    let agrees = |set: &&Set| {
        applied.schemas.iter().all(|schema| set.views.iter().any(|view| view.schema == *schema))
            && applied.letters.iter().all(|(.., component)| made_by(set, component))
    };
    sets.iter().position(|set| agrees(&set)).ok_or_else(|| format!("a commit has rows of several versions: {applied:?}"))
}

/// Goes through all commits in their order: no entry twice, none before an earlier one, none left out; what follows from them.
fn follow(events: &[Event], applied: &[Applied], sets: &[Set]) -> Result<Expected, Wrong> {
    let by_id: BTreeMap<EntryId, &Event> = events.iter().map(|event| (event.id, event)).collect();
    let event = |id: &EntryId| by_id.get(id).copied().ok_or_else(|| format!("{id} was applied and is no entry"));
    let mut expected = Expected::default();
    let mut seen: BTreeSet<EntryId> = BTreeSet::new();
    let view_of = |id: &DeadLetterId| VIEWS.into_iter().find(|view| *view == id.transform).ok_or_else(|| format!("{id} is of no view"));
    let mut version = 0;
    for commit in applied {
        let set = set_of(commit, sets)?;
        if set < version && !commit.entries.is_empty() {
            return Err(format!("version {set} was applied after version {version}"));
        }
        version = version.max(set);
        for id in &commit.entries {
            if seen.last().is_some_and(|last| last >= id) {
                return Err(format!("{id} was applied twice, or after {:?}", seen.last()));
            }
            seen.insert(*id);
            let given_up = commit.letters.iter().any(|(letter, reason, _)| letter.entry_id == *id && *reason == Reason::Deliveries);
            for view in VIEWS {
                if given_up {
                    expected.letters.insert((*id, view), Reason::Deliveries);
                } else {
                    expected.take(view, event(id)?, set);
                }
            }
        }
        if commit.entries.is_empty() {
            let mut tried: Vec<&DeadLetterId> = commit.settled.iter().chain(commit.letters.iter().map(|(id, ..)| id)).collect();
            tried.sort();
            for id in tried {
                expected.take(view_of(id)?, event(&id.entry_id)?, set);
            }
        }
    }
    match by_id.keys().find(|id| !seen.contains(id)) {
        None => Ok(expected),
        Some(id) => Err(format!("{id} was never applied")),
    }
}

/// Holds rows, states, windows and dead letters against what they must be.
pub async fn check(fixtures: &Fixtures, store: &Store, events: &[Event]) -> Result<(), Wrong> {
    let expected = follow(events, &store.applied(), &fixtures.sets)?;
    for key in 0..KEYS {
        let tag = format!("entity {key}");
        check_newest(fixtures, &expected, store, key).await.map_err(|wrong| format!("newest, {tag}: {wrong}"))?;
        check_windowed(fixtures, &expected, store, key).await.map_err(|wrong| format!("windowed, {tag}: {wrong}"))?;
        check_tally(fixtures, &expected, store, key).await.map_err(|wrong| format!("tally, {tag}: {wrong}"))?;
    }
    let all = DeadLetterQuery { transform: None, stream: None, ids: None, reach: None, limit: usize::MAX, bytes_max: None };
    let letters = store.dead_letters().list(&all).await.map_err(|error| error.to_string())?;
    let mut found: Vec<(EntryId, &str, Reason)> =
        letters.iter().map(|letter| (letter.id.entry_id, letter.id.transform.as_str(), letter.reason)).collect();
    let mut wanted: Vec<(EntryId, &str, Reason)> = expected.letters.iter().map(|((id, view), reason)| (*id, *view, *reason)).collect();
    found.sort();
    wanted.sort();
    if found == wanted { Ok(()) } else { Err(format!("dead letters {found:?} instead of {wanted:?}")) }
}

async fn read(store: &Store, key: Vec<u8>) -> Option<bytes::Bytes> {
    // From behind the failures.
    store.shared.inner.read(&[key]).await.expect("memory never fails").pop().flatten()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), Wrong> {
    if found == wanted { Ok(()) } else { Err(format!("{what} {found:?} instead of {wanted:?}")) }
}

fn values(row: &FeatureRow, kinds: &[Kind]) -> Result<Vec<Json>, Wrong> {
    let values = row.values(kinds.iter().copied());
    values.map(|value| value.map(json_of).map_err(|error| error.to_string())).collect()
}

fn json_of(value: Option<Value<'_>>) -> Json {
    let mut text = Vec::new();
    push_value(&mut text, value);
    serde_json::from_slice(&text).expect("what is written is JSON")
}

async fn check_newest(fixtures: &Fixtures, expected: &Expected, store: &Store, key: i64) -> Result<(), Wrong> {
    let stored = read(store, row_key("newest", [KeyPart::Integer(key)]).expect("the key is short")).await;
    let found = stored.map(|stored| -> Result<_, Wrong> {
        let row = FeatureRow::new(stored).map_err(|error| error.to_string())?;
        let values = values(&row, &[Kind::Integer])?;
        Ok((row.header.version, values, row.header.schema))
    });
    let wanted = expected.newest.get(&key).map(|(version, value, set)| {
        let [newest, ..] = &fixtures.sets.get(*set).expect("it was in force").views;
        (*version, vec![json!(value)], newest.schema)
    });
    same("the row", found.transpose()?, wanted)
}

/// The entity that is stored, and the version of the view under which it is.
async fn entity<'f>(fixtures: &'f Fixtures, store: &Store, view: usize, key: Vec<u8>) -> Result<Option<(Entity, usize, &'f Set)>, Wrong> {
    let Some(stored) = read(store, key).await else { return Ok(None) };
    let header = gristmill::model::Header::read(&stored).map_err(|error| error.to_string())?;
    let number = fixtures.sets.iter().position(|set| set.views.get(view).is_some_and(|view| view.schema == header.schema));
    let set = number.and_then(|number| Some((number, fixtures.sets.get(number)?)));
    let (number, set) = set.ok_or_else(|| format!("schema {:?} is of no version", header.schema))?;
    let plan = &set.views.get(view).expect("there are three").plan;
    Ok(Some((Entity::read(&stored, plan).map_err(|error| error.to_string())?, number, set)))
}

/// The windows at several moments, none of them before the newest event.
fn check_windows(entity: &Entity, set: &Set, view: usize, columns: &BTreeMap<&str, Vec<oracle::Event>>) -> Result<(), Wrong> {
    let view = set.views.get(view).expect("there are three");
    let end = ((BEGIN_MS + SPAN_MS) * 1_000) as i64;
    for at in [end, end + 1_234_567_890, end + 90_000_000_000] {
        let mut answers = Vec::new();
        entity.finish(&view.plan, Timestamp(at), |value| answers.push(json_of(value))).map_err(|error| error.to_string())?;
        for (aggregation, answer) in view.kept.aggregations.iter().zip(&answers) {
            let events = columns.get(aggregation.column.as_str()).map(Vec::as_slice).unwrap_or_default();
            let expected = oracle::expected(aggregation, view.kept.exact, events, at);
            if !oracle::agrees(&expected, answer) {
                return Err(format!("{} at {at} is {answer} instead of {expected:?}", aggregation.feature));
            }
        }
    }
    Ok(())
}

async fn check_windowed(fixtures: &Fixtures, expected: &Expected, store: &Store, key: i64) -> Result<(), Wrong> {
    let found = entity(fixtures, store, 1, row_key("windowed", [KeyPart::Integer(key)]).expect("the key is short")).await?;
    match (found, expected.windowed.get(&key)) {
        (None, None) => Ok(()),
        (Some((entity, _, set)), Some(events)) => check_windows(&entity, set, 1, &BTreeMap::from([("value", events.clone())])),
        (found, wanted) => Err(format!("there is one: {}; there should be: {}", found.is_some(), wanted.is_some())),
    }
}

async fn check_tally(fixtures: &Fixtures, expected: &Expected, store: &Store, key: i64) -> Result<(), Wrong> {
    let name = Event::name(key);
    let key_of = || row_key("tally", [KeyPart::Bytes(name.as_bytes())]).expect("the key is short");
    let stored = read(store, state_key(&key_of())).await;
    let ended = stored.as_ref().and_then(|stored| StoredState::ended(stored));
    let state = stored.as_ref().filter(|_| ended.is_none()).map(|stored| StoredState::read(stored).expect("a state is whole"));
    same("the newest event seen", ended.or(state.map(|state| state.newest)), expected.seen.get(&key).copied().map(Timestamp))?;
    let state = state.map(|state| (state.version.starts_with("2."), serde_json::from_slice::<Json>(state.bytes).expect("a state is JSON")));
    let wanted = expected.states.get(&key).map(|tally| match tally.version {
        1 => (false, json!({"seen": tally.seen, "total": tally.total})),
        _ => (true, json!({"count": tally.seen, "sum": tally.total, "largest": tally.largest})),
    });
    same("the state", state, wanted)?;
    let found = entity(fixtures, store, 2, key_of()).await?;
    let (entity, number, set, returned) = match (found, expected.returned.get(&key)) {
        (None, None) => return Ok(()),
        (Some((entity, number, set)), Some(returned)) => (entity, number, set, returned),
        (found, wanted) => return Err(format!("there is one: {}; there should be: {}", found.is_some(), wanted.is_some())),
    };
    let column = |value: fn(&Tally) -> OwnedValue<'static>| {
        let event = |(id, (_, tally)): (&EntryId, &(i64, Tally))| oracle::Event {
            time: (id.ms * 1_000) as i64,
            order: id.ms * 4 + id.seq,
            value: Some(value(tally)),
        };
        returned.iter().map(event).collect::<Vec<_>>()
    };
    let columns = BTreeMap::from([
        ("seen", column(|tally| OwnedValue::Integer(tally.seen))),
        ("total", column(|tally| OwnedValue::Float(tally.total))),
    ]);
    check_windows(&entity, set, 2, &columns)?;
    // An early event that is replayed after an event that ended the state has a row newer than all before that end.
    let (_, (_, last)) = returned.iter().max_by_key(|(id, (seen, _))| (*seen, **id)).ok_or("nothing was returned")?;
    let row = FeatureRow::new(entity.newest_row().ok_or("there is no row")?).map_err(|error| error.to_string())?;
    // Of the version that the entity was last put under, which may be a later one than the row was made by: what that one adds is null then.
    let features = set_features(number.min(1) + 1);
    let kinds: Vec<Kind> = features.iter().map(|field| field.kind).collect();
    let made = [json!(last.seen), json!(last.total), if last.version == 1 { Json::Null } else { json!(last.largest) }];
    let wanted: Vec<Json> = made.into_iter().take(kinds.len()).collect();
    same("the newest row", values(&row, &kinds)?, wanted)
}

/// What each version of the fold returns.
fn set_features(version: usize) -> Vec<Field> {
    let field = |name, kind| gristmill::conformance::guest::field(name, kind, false);
    let mut fields = vec![field("seen", Kind::Integer), field("total", Kind::Float)];
    if version > 1 {
        fields.push(field("largest", Kind::Float));
    }
    fields
}
