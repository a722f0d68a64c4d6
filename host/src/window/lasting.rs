//! How long entities last, and what can be told of one that is not stored: it may have been there, and be forgotten.

use serde::{Deserialize, Serialize};

use super::adapt::Shape;
use super::entity::{Entity, EntityError};
use super::plan::Plan;
use crate::model::{FeatureRow, Timestamp, Version};

/// For how long something is to be read of an entity of which nothing more comes; in microseconds after its newest event, or after that came into the stream where it came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// Its row is shown, and windows may have something in them.
    shown: i64,
    /// How far back reads are answered as of a moment: for so much longer it is stored.
    history: i64,
}

/// How far the clocks of hosts, and that of a store's server, may be apart.
const CLOCKS_MICROS: i64 = 2_000_000;

impl Lasting {
    /// Of rows that are forgotten after so many seconds, and what is kept beside them, if anything; `None` for ever.
    pub fn new(expire_secs: Option<u64>, kept: Option<&Plan>) -> Option<Lasting> {
        let rows = micros(expire_secs?);
        let Some(plan) = kept else { return Some(Lasting { shown: rows, history: 0 }) };
        Some(Lasting { shown: rows.max(plan.reach()?), history: plan.history() })
    }

    /// When an entity may be forgotten that is stored now; and the moment of its newest event. What answers for the past is stored a little longer than is told.
    pub fn expires_at(self, newest: Timestamp, now: Timestamp) -> Timestamp {
        let clocks = if self.history > 0 { CLOCKS_MICROS } else { 0 };
        Timestamp(newest.max(now).0.saturating_add(self.stored()).saturating_add(clocks))
    }

    /// For how long it is stored.
    fn stored(self) -> i64 {
        self.shown.saturating_add(self.history)
    }

    /// Whether entities are forgotten sooner, or rows not shown any more, than of a view that lasts so long.
    pub fn is_shorter(self, other: Option<Lasting>) -> bool {
        other.is_none_or(|other| self.stored() < other.stored() || self.shown < other.shown)
    }

    /// The moment from which on a row is not shown any more.
    pub fn end(self, row: Version) -> Timestamp {
        Timestamp(row.came().0.saturating_add(self.shown))
    }
}

fn micros(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// What is known of entities of a view that are not stored: whether, and until when, they may have been there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Forgets {
    /// No entity came before this moment; `None` where that is not known.
    #[serde(default)]
    pub began: Option<Timestamp>,
    /// Until then entities may last that another version has stored which is not in force any more.
    #[serde(default)]
    pub lasts_until: Option<Timestamp>,
    /// Such versions may have forgotten entities that were there before this moment and would be there by what is in force now,
    #[serde(default)]
    pub forgotten_before: Option<Timestamp>,
    /// and none sooner than at this one; `None` where that is not known.
    #[serde(default)]
    pub forgotten_from: Option<Timestamp>,
    /// A version was in force until now that kept nothing but rows, and before this moment late events may have come that entities do not know of which were stored before: those
    /// whose schema does not name it.
    #[serde(default)]
    pub unseen_before: Option<Timestamp>,
    /// The shortest time for which such a version has shown rows, in microseconds; `None` where that is not known.
    #[serde(default)]
    pub shown_least: Option<i64>,
}

/// How much later than this one another host may learn that a version is not in force any more.
const LAG_SECS: u64 = 86_400;

/// How much later than this one another host may work on a partition by the version before.
const FOLLOWING_SECS: u64 = 60;

impl Forgets {
    /// Of a view whose first entity comes from now on.
    pub fn beginning(now: Timestamp) -> Forgets {
        Forgets { began: Some(now), ..Forgets::default() }
    }

    /// The same after a version that keeps more than rows comes into force over one that did not.
    pub fn keeping(self, now: Timestamp) -> Forgets {
        Forgets { unseen_before: Some(Timestamp(now.0.saturating_add(micros(FOLLOWING_SECS)))), ..self }
    }

    /// The same after another version comes into force over one that took events so far ahead of the clock; and for how long the entities of either last.
    pub fn replaced(self, old: Option<Lasting>, ahead_max_secs: u64, new: Option<Lasting>, now: Timestamp) -> Forgets {
        let Some(old) = old.filter(|_| old != new) else { return self };
        let late = micros(ahead_max_secs.saturating_add(LAG_SECS));
        let until = self.lasts_until.max(Some(Timestamp(now.0.saturating_add(old.stored()).saturating_add(late))));
        let from = self.began.map(|began| after(began, old));
        let replaced = Forgets { lasts_until: until, shown_least: Some(old.shown), forgotten_from: from, ..self };
        let replaced = match self.lasts_until.or(self.forgotten_before) {
            None => replaced,
            Some(_) => Forgets {
                shown_least: self.shown_least.min(replaced.shown_least),
                forgotten_from: self.forgotten_from.min(from),
                ..replaced
            },
        };
        if old.is_shorter(new) || self.lasts_until > Some(now) {
            Forgets { forgotten_before: self.forgotten_before.max(until), ..replaced }
        } else {
            replaced
        }
    }

    /// An entity of which nothing is stored now may have been there before this moment; `None` where it was not.
    pub fn before(self, lasting: Option<Lasting>, now: Timestamp) -> Option<Timestamp> {
        // What has been forgotten by now was shown until so long ago at the latest.
        let own = lasting.filter(|lasting| self.began.is_none_or(|began| now >= after(began, *lasting)));
        let own = own.map(|lasting| Timestamp(now.0.saturating_sub(lasting.history)));
        let others = self.forgotten_before.filter(|_| self.forgotten_from.is_none_or(|from| now >= from));
        own.max(others.map(|before| before.min(now)))
    }

    /// An entity as the schema in force has it, to be changed now: of what is stored of it, if anything is; that under another schema, `from`, which says since when its view kept
    /// more than rows. What may have been known of it and is not is left to be outside history.
    pub fn entity(
        self,
        lasting: Option<Lasting>,
        stored: Option<&FeatureRow>,
        from: Option<(Shape<'_>, Option<Timestamp>)>,
        to: Shape<'_>,
        now: Timestamp,
    ) -> Result<Entity, EntityError> {
        let before = self.before(lasting, now);
        let Some(stored) = stored else { return Ok(Entity::new(to.plan).knowing_from(before)) };
        let entity = Entity::of_stored(stored, from.map(|(shape, _)| shape), to)?;
        if stored.is_entity() {
            let is_of_before = from.is_some_and(|(_, keeps_since)| keeps_since != self.unseen_before);
            return entity.unseen(to.plan, self.unseen_before.filter(|_| is_of_before), now);
        }
        // Another row of its moment may have come before this one.
        let came = lasting.map(|_| stored.header.version.came().min(now));
        Ok(entity.knowing_from(before.max(came)))
    }

    /// Whether a row of an event of this moment is shown as of one that has passed, of which there were rows that came at these moments; `None` where that cannot be known: a newer
    /// one may have been there that is forgotten, or one between them. If all came later, it is taken to have come when it happened.
    pub fn shows(self, lasting: Option<Lasting>, (event_time, came): (Timestamp, &[Timestamp]), at: Timestamp) -> Option<bool> {
        let last = came.iter().filter(|came| **came <= at).max();
        let is_within = |shown: i64| at.0 < last.unwrap_or(&event_time).0.saturating_add(shown);
        let is_shown = lasting.is_none_or(|lasting| is_within(lasting.shown));
        let is_between = last.is_some() && came.iter().any(|came| *came > at);
        let is_forgotten = self.forgotten_before.is_some_and(|before| at < before) && !is_within(self.shown_least.unwrap_or(0));
        if is_shown { (!is_forgotten).then_some(true) } else { (!is_between).then_some(false) }
    }
}

/// The first of what came at this moment is forgotten.
fn after(began: Timestamp, lasting: Lasting) -> Timestamp {
    Timestamp(began.0.saturating_add(lasting.stored()))
}
