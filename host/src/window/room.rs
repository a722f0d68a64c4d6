//! How much an entity takes, and what it gives up where that is too much.

use super::entity::{Entity, EntityError, HEADER_BYTES};
use super::plan::Plan;
use super::tiles::Tiles;
use super::wire::signed_bytes;
use crate::model::Timestamp;

impl Entity {
    /// How many bytes [`Entity::push`] appends: told without copying what stays as it is.
    pub fn bytes(&mut self, plan: &Plan) -> Result<usize, EntityError> {
        self.forget_tiles(plan)?;
        let tiles: usize = self.windows.iter().map(Tiles::bytes).sum();
        let mut begun = Vec::new();
        self.begun.push(&mut begun, self.kept_from);
        let logs = self.rows.bytes() + self.contributions.bytes();
        self.bytes_most = HEADER_BYTES + signed_bytes(self.kept_from) + signed_bytes(self.born) + logs + tiles + begun.len();
        Ok(self.bytes_most)
    }

    /// No fewer than [`Entity::bytes`] tells, without counting them.
    pub fn bytes_most(&self, plan: &Plan) -> usize {
        let sketches = plan.growth.sketches.iter().zip(&self.windows).filter(|(bytes, _)| **bytes > 0);
        sketches.fold(self.bytes_most, |sum, (bytes, tiles)| sum.saturating_add(bytes * tiles.opened()))
    }

    /// Gives up the older half of the history that is kept, up to now. Says whether there was any.
    pub fn shorten_history(&mut self, plan: &Plan, now: Timestamp) -> Result<bool, EntityError> {
        let mut kept: Vec<i64> = Vec::new();
        for log in [&self.rows, &self.contributions] {
            let times = log.each(|version, _| {
                let time = version.event_time.0;
                kept.extend((time > self.kept_from && time <= now.0).then_some(time));
                Some(())
            });
            times.ok_or(EntityError)?;
        }
        kept.sort_unstable();
        let Some(middle) = kept.get(kept.len() / 2) else { return Ok(false) };
        self.keep_from(plan, *middle).ok_or(EntityError)?;
        Ok(true)
    }

    /// Shortens the history of an entity that takes more than `max` bytes, which says so, and that is better than events that do not count. The bytes that it takes without any
    /// where that is still too much.
    pub fn make_room(&mut self, plan: &Plan, max: usize, now: Timestamp) -> Result<Option<usize>, EntityError> {
        if self.bytes(plan)? <= max {
            return Ok(None);
        }
        let mut least = self.clone();
        least.give_up_history(plan, now)?;
        let bytes = least.bytes(plan)?;
        if bytes > max {
            return Ok(Some(bytes));
        }
        while self.bytes(plan)? > max {
            if !self.shorten_history(plan, now)? {
                *self = least;
                break;
            }
        }
        Ok(None)
    }

    /// Gives up all of the history that is kept, up to now. Says whether there may have been any.
    pub fn give_up_history(&mut self, plan: &Plan, now: Timestamp) -> Result<bool, EntityError> {
        let end = self.newest.map_or(i64::MIN, |newest| newest.event_time.0).min(now.0);
        let has_any = end > self.kept_from;
        if has_any {
            self.keep_from(plan, end).ok_or(EntityError)?;
        }
        Ok(has_any)
    }
}
