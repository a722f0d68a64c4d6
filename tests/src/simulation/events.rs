//! Events that tell whether they were applied once, in order, and by which version.

use gristmill::model::{Entries, EntryId};

use crate::flights::Seeded;

/// The first event's time, milliseconds since the epoch.
pub const BEGIN_MS: u64 = 1_700_000_000_000;
/// Event times lie within so many milliseconds.
pub const SPAN_MS: u64 = 3 * 3_600_000;
/// Entities.
pub const KEYS: i64 = 4;

/// What the fold is told to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To count it.
    Count,
    /// To refuse it; the first version does.
    Reject,
    /// To forget the entity's state and to give no row; the first version does.
    Reset,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its entry.
    pub id: EntryId,
    /// The entity.
    pub key: i64,
    /// Its event time in microseconds: any order.
    pub at: i64,
    /// For the row transforms; `None` cannot be decoded, and they trap on 13.
    pub value: Option<i64>,
    /// For the fold; `None` cannot be decoded.
    pub amount: Option<i64>,
    /// For the fold.
    pub action: Action,
}

/// The number on which the row transforms trap.
pub const POISON: i64 = 13;

impl Event {
    /// The event number `number` of a stream.
    pub fn make(number: u64, seeded: &mut Seeded) -> Event {
        let value = match seeded.below(40) {
            0 => None,
            1 => Some(POISON),
            _ => Some(100 + seeded.below(1_000) as i64),
        };
        Event {
            id: EntryId { ms: BEGIN_MS + number / 3, seq: number % 3 },
            key: seeded.below(KEYS as u64) as i64,
            at: ((BEGIN_MS + seeded.below(SPAN_MS)) * 1_000) as i64,
            value,
            amount: (seeded.below(40) != 0).then(|| seeded.below(1_000) as i64),
            action: match seeded.below(20) {
                0 => Action::Reject,
                1 => Action::Reset,
                _ => Action::Count,
            },
        }
    }

    /// The entity as the fold knows it.
    pub fn name(key: i64) -> String {
        format!("e{key}")
    }

    /// Adds the entry that it is.
    pub fn push(&self, entries: &mut Entries) {
        let number = |number: Option<i64>| number.map_or_else(|| "much".to_owned(), |number| number.to_string());
        let action = match self.action {
            Action::Count => "",
            Action::Reject => "reject",
            Action::Reset => "reset",
        };
        let fields = [
            ("key", self.key.to_string()),
            ("at", self.at.to_string()),
            ("value", number(self.value)),
            ("id", Event::name(self.key)),
            ("amount", number(self.amount)),
            ("action", action.to_owned()),
        ];
        entries.push(self.id, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    }
}
