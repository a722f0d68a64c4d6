//! Rows that are sent instead of computed.

use bytes::Bytes;

use super::entity::{Entity, EntityError, HEADER_BYTES};
use super::plan::Plan;
use crate::model::{Timestamp, Version};

impl Entity {
    /// Puts rows that were sent, and are no events: the newest of each moment counts. One that says what is there already changes nothing. Nothing is computed of them.
    pub fn write(&mut self, plan: &Plan, mut sent: Vec<(Version, Bytes)>, now: Timestamp) -> Result<(), EntityError> {
        sent.sort_by_key(|(version, _)| *version);
        let (Some((first, _)), Some((last, _))) = (sent.first(), sent.last()) else { return Ok(()) };
        self.born = self.born.min(first.event_time.0);
        self.newest = self.newest.max(Some(*last));
        let kept_from = self.kept_from;
        let newest_of_the_past = self.rows.newest_version_until(kept_from);
        sent.retain(|(version, _)| version.event_time.0 > kept_from || newest_of_the_past.is_none_or(|known| known <= *version));
        let rows = self.rows.open().ok_or(EntityError)?;
        let mut known = std::mem::take(rows).into_iter().peekable();
        for (version, packed) in sent {
            while let Some(row) = known.next_if(|(known, _)| *known <= version) {
                rows.push(row);
            }
            let before = rows.iter().rev().take_while(|(known, _)| known.event_time == version.event_time).count();
            match rows.last() {
                Some((_, known)) if before > 0 && known.get(HEADER_BYTES..) == packed.get(HEADER_BYTES..) => {}
                _ => {
                    // The first of a moment tells when it came.
                    rows.truncate(rows.len() - before.saturating_sub(1));
                    rows.push((version, packed));
                }
            }
        }
        rows.extend(known);
        self.advance(plan, now).and_then(|()| self.rows.keep_from(self.kept_from)).ok_or(EntityError)
    }

    /// When the rows of events of this moment came that are kept.
    pub fn came(&self, event_time: Timestamp) -> Vec<Timestamp> {
        self.rows.came(event_time)
    }
}
