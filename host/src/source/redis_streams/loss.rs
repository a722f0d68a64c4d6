//! Telling from a stream's own counters what was trimmed before it was read.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::admin::{GroupState, StreamState};
use crate::model::EntryId;

/// How many entries of the stream's whole history lie at or before the reader's place, where that is known.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    passed: Option<u64>,
    /// Where the group stood when it was last looked at.
    looked_at: Option<EntryId>,
}

/// Entries that nobody will ever read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// They went between two reads: the group has passed more entries than were handed out.
    pub(super) skipped: u64,
    /// They went and the next read will pass over them.
    pub(super) unread: u64,
}

impl Ledger {
    /// The ledger of a reader that begins here; what was trimmed before it began was never its own to lose. A group that was moved here says how many entries that was after.
    pub(super) fn at(stream: Option<&StreamState>, place: EntryId, group: Option<&GroupState>) -> Ledger {
        let Some(stream) = stream else { return Ledger { passed: Some(0), looked_at: None } };
        let known = group.filter(|group| group.last_delivered == place).and_then(|group| group.entries_read);
        let passed = if let Some(known) = known {
            Some(known)
        } else if stream.last <= place {
            Some(stream.added)
        } else if place == EntryId::ZERO {
            Some(stream.added.saturating_sub(stream.length))
        } else {
            None
        };
        Ledger { passed, looked_at: None }
    }

    /// The entries at or before the place, where that is known.
    pub(super) fn passed(&self) -> Option<u64> {
        self.passed
    }

    /// New entries were handed out.
    pub(super) fn handed_out(&mut self, entries: u64) {
        self.passed = self.passed.map(|passed| passed + entries);
    }

    /// Where the group stood when it was last looked at: entries up to here are counted, whoever holds them.
    pub(super) fn looked_at(&self) -> Option<EntryId> {
        self.looked_at
    }

    /// Whether the group has passed more entries than were handed out.
    pub(super) fn is_short_of(&self, group: &GroupState) -> bool {
        self.passed.zip(group.entries_read).is_some_and(|(passed, read)| read > passed)
    }

    /// Compares what was handed out with what the group has passed, for a group that only this reader should read from. `held_by_others` are
    /// entries after the last look that were handed to other consumers: they are pending, not lost.
    pub(super) fn audit_group(&mut self, stream: &StreamState, group: &GroupState, held_by_others: u64) -> Lost {
        self.looked_at = Some(group.last_delivered);
        let Some(read) = group.entries_read else {
            self.passed = None;
            return Lost::default();
        };
        let skipped = self.passed.map_or(0, |passed| read.saturating_sub(passed + held_by_others));
        let all_unread_are_left = stream.first.is_none_or(|first| first > group.last_delivered) && stream.last > group.last_delivered;
        let unread = if all_unread_are_left { stream.added.saturating_sub(read).saturating_sub(stream.length) } else { 0 };
        self.passed = Some(read + unread);
        Lost { skipped, unread }
    }

    /// The same for a reader without a group, which knows its count once it has caught up with the stream.
    pub(super) fn audit_place(&mut self, stream: &StreamState, place: EntryId) -> Lost {
        if stream.last <= place {
            self.passed = Some(stream.added);
            return Lost::default();
        }
        let Some(passed) = self.passed.filter(|_| stream.first.is_none_or(|first| first > place)) else { return Lost::default() };
        let unread = stream.added.saturating_sub(passed).saturating_sub(stream.length);
        self.passed = Some(passed + unread);
        Lost { skipped: 0, unread }
    }
}

/// How many entries lie up to where reading is, and up to the ends of the latest deliveries.
#[derive(Default)]
pub(super) struct Ends(Mutex<Option<u64>>, Mutex<VecDeque<(EntryId, u64)>>);

impl Ends {
    pub(super) fn reach(&self, passed: Option<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = passed;
    }

    pub(super) fn reached(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember(&self, last: Option<EntryId>, passed: Option<u64>) {
        let Some(end) = last.zip(passed) else { return };
        let mut ends = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push_back(end);
        if ends.len() > super::reader::RECENT_MAX {
            ends.pop_front();
        }
    }

    pub(super) fn passed(&self, last: EntryId) -> Option<u64> {
        let ends = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().find(|(end, _)| *end == last).map(|(_, passed)| *passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn stream(first: u64, last: u64, length: u64, added: u64) -> StreamState {
        StreamState { first: Some(id(first)), last: id(last), length, added }
    }

    fn group(last_delivered: u64, entries_read: u64) -> GroupState {
        GroupState { last_delivered: id(last_delivered), entries_read: Some(entries_read), lag: None, pending: 0 }
    }

    #[test]
    fn trimmed_before_read_is_counted_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.audit_group(&stream(1, 10, 10, 10), &group(4, 4), 0), Lost::default());
        assert_eq!(ledger.audit_group(&stream(8, 10, 3, 10), &group(4, 4), 0), Lost { skipped: 0, unread: 3 });
        assert_eq!(ledger.audit_group(&stream(8, 10, 3, 10), &group(4, 7), 0), Lost::default(), "the group was moved over the gap");
        ledger.handed_out(3);
        assert_eq!(ledger.audit_group(&stream(8, 10, 3, 10), &group(10, 10), 0), Lost::default());
    }

    #[test]
    fn trimmed_and_passed_over_between_two_looks_is_counted() {
        let mut ledger = Ledger::default();
        ledger.audit_group(&stream(1, 4, 4, 4), &group(4, 4), 0);
        ledger.handed_out(2);
        assert_eq!(ledger.audit_group(&stream(9, 10, 2, 10), &group(10, 10), 0), Lost { skipped: 4, unread: 0 });
    }

    #[test]
    fn what_another_consumer_holds_is_not_lost() {
        let mut ledger = Ledger::default();
        ledger.audit_group(&stream(1, 4, 4, 4), &group(4, 4), 0);
        ledger.handed_out(2);
        assert!(ledger.is_short_of(&group(10, 10)));
        assert_eq!(ledger.audit_group(&stream(1, 10, 10, 10), &group(10, 10), 4), Lost::default());
        assert_eq!(ledger.looked_at(), Some(id(10)));
        assert!(!ledger.is_short_of(&group(10, 10)), "what was claimed up to here is not counted again");
    }

    #[test]
    fn a_reader_without_a_group_counts_from_where_it_caught_up() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.audit_place(&stream(5, 10, 6, 10), id(2)), Lost::default(), "nothing is known yet");
        ledger.audit_place(&stream(5, 10, 6, 10), id(10));
        assert_eq!(ledger.audit_place(&stream(15, 20, 6, 20), id(10)), Lost { skipped: 0, unread: 4 });
        ledger.handed_out(6);
        assert_eq!(ledger.audit_place(&stream(15, 20, 6, 20), id(20)), Lost::default());
    }
}
