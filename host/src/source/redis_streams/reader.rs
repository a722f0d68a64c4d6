//! What a reader remembers between two reads.

use std::collections::VecDeque;
use std::time::Instant;

use super::admin::StreamState;
use super::fence::Fence;
use super::fit::Fit;
use super::loss::Ledger;
use crate::model::{Entries, EntryId};
use crate::resp::Connection;

/// Deliveries that can be on their way at the same time, with one to spare: one is being read, one waits, one is worked on.
pub(super) const RECENT_MAX: usize = 4;

/// Where one reader is.
pub(super) struct Reader {
    pub(super) connection: Option<Connection>,
    /// What keeps others from reading at the same time; competing readers have none.
    pub(super) fence: Option<Fence>,
    pub(super) phase: Phase,
    /// Everything up to here is applied or with the pipeline; `None` until that is known. Where a lost group is made again, and where a reader
    /// without a group goes on.
    pub(super) cursor: Option<EntryId>,
    /// The greatest id handed out by this reader.
    pub(super) handed: EntryId,
    /// The ids of each of the latest deliveries, ascending: what may not be settled yet.
    pub(super) recent: VecDeque<Vec<EntryId>>,
    /// Whether stream and group were looked at since the reader was made or lost its connection.
    pub(super) prepared: bool,
    pub(super) tended: Option<Instant>,
    pub(super) ledger: Ledger,
    /// Entries ever added to the stream when it was last looked at.
    pub(super) added: u64,
    pub(super) fit: Fit,
    pub(super) lost: u64,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Entries pending for this consumer after this id.
    Pending(EntryId),
    /// Entries pending for others who, as this is the stream's only reader now, will not come back to them.
    Left,
    /// New entries.
    New,
}

impl Reader {
    pub(super) fn new(place: Option<EntryId>) -> Reader {
        Reader {
            connection: None,
            fence: None,
            phase: Phase::Pending(EntryId::ZERO),
            cursor: place,
            handed: EntryId::ZERO,
            recent: VecDeque::new(),
            prepared: false,
            tended: None,
            ledger: Ledger::default(),
            added: 0,
            fit: Fit::default(),
            lost: 0,
        }
    }

    /// Remembers entries that go to the pipeline; `last` is the last id that was looked at.
    pub(super) fn hand_out(&mut self, entries: &Entries, last: EntryId) {
        self.handed = self.handed.max(last);
        self.cursor = self.cursor.max(Some(last));
        self.remember(entries);
    }

    /// Remembers that the pipeline may have these entries and not have settled them.
    pub(super) fn remember(&mut self, entries: &Entries) {
        if entries.is_empty() {
            return;
        }
        self.recent.push_back(entries.ids().collect());
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// Whether this entry is on its way through the pipeline.
    pub(super) fn is_on_its_way(&self, id: EntryId) -> bool {
        self.recent.iter().any(|ids| ids.binary_search(&id).is_ok())
    }

    /// Forgets the places of a stream that is no more.
    pub(super) fn begin_anew(&mut self) {
        self.cursor = Some(EntryId::ZERO);
        self.handed = EntryId::ZERO;
        self.recent.clear();
    }

    /// Compares the stream's counter with what it was; whether the stream is another one now. What the old one still held is lost, as far as is
    /// known.
    pub(super) fn look(&mut self, stream: Option<&StreamState>) -> bool {
        let added = stream.map_or(0, |stream| stream.added);
        let before = std::mem::replace(&mut self.added, added);
        if added >= before {
            return false;
        }
        self.lost += before.saturating_sub(self.ledger.passed().unwrap_or(before)).max(1);
        self.ledger = Ledger::default();
        true
    }
}
