//! Which events of a fold are refused: by windows that they are too late for, an entity that has no room, a stream that they cannot go on to.
//!
//! What is refused is not in the state either, and the state decides what is made of the events after it. So of an entity of which any event of a batch was refused the
//! events are tried one after the other, each with what those before it have left: as if each had been a batch of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::batch::{Error, Tried, Work};
use super::binding::Binding;
use super::collect::Origins;
use super::keep::{Late, keep};
use crate::model::{Commit, EntryId, Puts, Reason};

/// A row, and why it is refused.
type Refused = (usize, Reason, String);

impl Work<'_> {
    /// The rows that are refused of a part of which some were. Those that were too late are told to `late` too, for they are not among the rows any more when the rest is
    /// tried. Where the transform does not return for longer than finding the events at fault may take, the rest is decided as it was when all were tried together.
    pub(super) fn refused_of(
        &self,
        binding: &Binding,
        origins: &Origins<'_>,
        tried: Tried,
        late: &mut Late,
    ) -> Result<Vec<Refused>, Error> {
        let refused = if binding.transform.world().is_stateful() { self.one_by_one(binding, origins, tried)? } else { tried.refused };
        for (row, ..) in refused.iter().filter(|(_, reason, _)| *reason == Reason::TooLate) {
            let time = origins.version(*row).event_time;
            late.entry(key(origins, *row)).and_modify(|known| *known = time.min(*known)).or_insert(time);
        }
        Ok(refused)
    }

    fn one_by_one(&self, binding: &Binding, origins: &Origins<'_>, together: Tried) -> Result<Vec<Refused>, Error> {
        let (mut lost, lost_max) = (Duration::ZERO, Duration::from_millis(binding.bisect_ms_max));
        let troubled: BTreeSet<Vec<u8>> = together.refused.iter().map(|(row, ..)| key(origins, *row)).collect();
        // What does not return is not called again.
        let is_stuck = |reason: &Reason| matches!(reason, Reason::Deadline | Reason::NotIsolated);
        let mut refused: Vec<Refused> = together.given_up.into_iter().filter(|(_, reason, _)| is_stuck(reason)).collect();
        let stuck: BTreeSet<usize> = refused.iter().map(|(row, ..)| *row).collect();
        refused.retain(|(row, ..)| troubled.contains(&key(origins, *row)));
        let mut rows: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for row in (0..origins.batch.rows).filter(|row| !stuck.contains(row)) {
            let key = key(origins, row);
            if troubled.contains(&key) {
                rows.entry(key).or_default().push(row);
            }
        }
        let mut stored = self.stored.to_try();
        for turn in 0..rows.values().map(Vec::len).max().unwrap_or_default() {
            let mut of_turn: Vec<usize> = rows.values().filter_map(|rows| rows.get(turn).copied()).collect();
            of_turn.sort_unstable();
            if lost > lost_max {
                let is_left = |row: usize| rows.values().any(|rows| rows.iter().skip(turn).any(|left| *left == row));
                refused.extend(together.refused.iter().filter(|(row, ..)| is_left(*row)).cloned());
                break;
            }
            while !of_turn.is_empty() {
                let started = Instant::now();
                let Tried { puts, refused: of_these, given_up, .. } = self.over(&stored).try_some(binding, origins, &of_turn)?;
                if given_up.iter().any(|(_, reason, _)| is_stuck(reason)) {
                    lost += started.elapsed();
                }
                if of_these.is_empty() {
                    stored.change(&puts);
                    break;
                }
                of_turn.retain(|row| of_these.iter().all(|(refused, ..)| refused != row));
                refused.extend(of_these);
            }
        }
        if refused.is_empty() {
            // It does not do the same twice.
            return Ok(together.refused);
        }
        refused.sort_by_key(|(row, ..)| *row);
        Ok(refused)
    }

    /// Tries some rows of a part; those that are refused are told as rows of that.
    fn try_some(&self, binding: &Binding, origins: &Origins<'_>, rows: &[usize]) -> Result<Tried, Error> {
        let taken: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let batch = origins.batch.take(&taken);
        let entries: Vec<EntryId> = rows.iter().filter_map(|row| origins.entries.get(*row).copied()).collect();
        let Origins { prefix, entity, event_time, .. } = *origins;
        let some = Origins { prefix, batch: &batch, entity, event_time, entries: &entries, seen: &[] };
        let mut tried = self.try_part(binding, &some, &Late::new(), &mut Commit::default())?;
        let refused = tried.refused.into_iter();
        tried.refused = refused.filter_map(|(row, reason, message)| Some((*rows.get(row)?, reason, message))).collect();
        Ok(tried)
    }

    /// Puts what is changed by events alone that were too late.
    pub(super) fn hear_of(&self, binding: &Binding, origins: &Origins<'_>, late: &Late, puts: &mut Puts) -> Result<(), Error> {
        if let Some(plan) = binding.kept.as_ref().filter(|_| !late.is_empty()) {
            keep(binding, plan, origins, (&[], late), self.now, self.stored, puts)?;
        }
        Ok(())
    }
}

/// The key of a row's entity.
fn key(origins: &Origins<'_>, row: usize) -> Vec<u8> {
    let mut key = origins.prefix.to_vec();
    origins.push_key(&mut key, row);
    key
}
