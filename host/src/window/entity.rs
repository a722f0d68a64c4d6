//! The stored form of an entity that keeps more than its newest row, and what changes in it.
//!
//! ```text
//! byte  0       format, 5; in 4, which is read too, no float is kept as the digits of a decimal
//!       1..29   as in a packed row: the newest version, and the schema
//!       then    the moment from which reads are exact and the earliest event time of all (both signed), rows and contributions each as a log, and the tiles
//!               of each window, and what has begun later than the entity
//! log           how many, bytes of all of them, and each with its length before it
//! contribution  version, and for each column that is aggregated: 1 and the packed value, or 0
//! tiles         see there
//! ```

use bytes::Bytes;

use super::begun::Begun;
use super::cell::Cell;
use super::contribution::{ByColumn, add, of_all};
pub(super) use super::contribution::{packed_contribution, unpacked};
use super::log::Log;
use super::plan::{Plan, Window};
use super::tiles::{TileCells, Tiles};
use super::wire::{Reader, push_signed};
use crate::model::{ENTITY_FORMAT, SchemaId, Timestamp, Value, Version};

/// Bytes before what differs from a packed row.
pub(super) const HEADER_BYTES: usize = 29;
/// The most that lengths, numbers and moments take that stand around a row, a contribution or the tiles of a window.
pub(super) const FRAME_BYTES: usize = 64;
/// Where the versions of rows and of contributions begin.
const ROW_VERSION_AT: usize = 1;
const CONTRIBUTION_VERSION_AT: usize = 0;

/// Stored bytes are not an entity of this plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored entity is cut short, or is not what its schema says")]
pub struct EntityError;

/// What became of an event's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It counts.
    Counted,
    /// No read that is still answered covers it.
    TooLate,
}

/// An entity in memory.
#[derive(Clone)]
pub struct Entity {
    /// What it was read from: most of it is only passed on.
    pub(super) stored: Bytes,
    /// The newest version of all.
    pub(super) newest: Option<Version>,
    /// Reads as of this moment and later ones are exact; microseconds. Contributions up to here are in the tiles, unless nothing was given up yet and it is
    /// the smallest number.
    pub(super) kept_from: i64,
    /// No event was earlier; microseconds.
    pub(super) born: i64,
    /// Packed rows.
    pub(super) rows: Log,
    /// What is not, or not only, in tiles.
    pub(super) contributions: Log,
    /// For each window.
    pub(super) windows: Vec<Tiles>,
    /// What is not known from the entity's beginning on.
    pub(super) begun: Begun,
    /// The stored form has no more bytes than that, and what sketches have grown by: what it had when its bytes were counted last, and what each event since may have added.
    pub(super) bytes_most: usize,
}

impl Entity {
    /// One of which nothing is known.
    pub fn new(plan: &Plan) -> Entity {
        Entity {
            stored: Bytes::new(),
            newest: None,
            kept_from: i64::MIN,
            born: i64::MAX,
            rows: Log::new(ROW_VERSION_AT),
            contributions: Log::new(CONTRIBUTION_VERSION_AT),
            windows: plan.windows.iter().map(|_| Tiles::default()).collect(),
            begun: Begun::default(),
            bytes_most: HEADER_BYTES + FRAME_BYTES * (1 + plan.windows.len()),
        }
    }

    /// The same where events may have come before this moment, and until now, that it does not know of: none of them was newer than its newest.
    pub fn unseen(mut self, plan: &Plan, before: Option<Timestamp>, now: Timestamp) -> Result<Entity, EntityError> {
        let Some(before) = before else { return Ok(self) };
        let known_from = self.newest.map_or(i64::MIN, |newest| newest.event_time.0).max(before.min(now).0);
        if known_from > self.kept_from {
            self.keep_from(plan, known_from).ok_or(EntityError)?;
        }
        Ok(Entity { born: i64::MIN, ..self })
    }

    /// The same of which no more than its newest row is stored, if that, where others may have been there before this moment: what was known of it then is forgotten.
    pub fn knowing_from(self, forgotten_before: Option<Timestamp>) -> Entity {
        Entity { kept_from: forgotten_before.map_or(self.kept_from, |before| self.kept_from.max(before.0)), ..self }
    }

    /// One that kept nothing but its newest row so far. What came before that is not known.
    pub fn of_row(plan: &Plan, version: Version, packed: Bytes) -> Entity {
        let bytes_most = Entity::new(plan).bytes_most + FRAME_BYTES + packed.len();
        let rows = Log::of(ROW_VERSION_AT, vec![(version, packed)]);
        Entity { newest: Some(version), kept_from: version.event_time.0, born: i64::MIN, rows, bytes_most, ..Entity::new(plan) }
    }

    /// Reads the stored form.
    pub fn read(stored: &Bytes, plan: &Plan) -> Result<Entity, EntityError> {
        Entity::try_read(stored, plan).ok_or(EntityError)
    }

    fn try_read(stored: &Bytes, plan: &Plan) -> Option<Entity> {
        let newest = Version::from_bytes(*stored.get(1..)?.first_chunk()?);
        let mut reader = Reader(stored.get(HEADER_BYTES..)?);
        let (kept_from, born) = (reader.signed()?, reader.signed()?);
        let rows = Log::read(ROW_VERSION_AT, &mut reader, stored)?;
        let contributions = Log::read(CONTRIBUTION_VERSION_AT, &mut reader, stored)?;
        let windows = plan.windows.iter().map(|_| Tiles::read(&mut reader, stored.len())).collect::<Option<Vec<_>>>()?;
        let begun = Begun::read(&mut reader)?;
        let newest = (newest != Version::MIN).then_some(newest);
        let bytes_most = stored.len();
        Some(Entity { stored: stored.clone(), newest, kept_from, born, rows, contributions, windows, begun, bytes_most })
    }

    /// Appends the stored form. What no read covers any more is left out.
    pub fn push(&mut self, plan: &Plan, out: &mut Vec<u8>, schema: SchemaId) -> Result<(), EntityError> {
        self.forget_tiles(plan)?;
        out.reserve(self.stored.len() + 512);
        out.push(ENTITY_FORMAT);
        out.extend_from_slice(&self.newest.unwrap_or(Version::MIN).to_bytes());
        out.extend_from_slice(&schema.0.to_be_bytes());
        push_signed(out, self.kept_from);
        push_signed(out, self.born);
        self.rows.push(out);
        self.contributions.push(out);
        self.windows.iter().for_each(|tiles| tiles.push(out, &self.stored));
        self.begun.push(out, self.kept_from);
        Ok(())
    }

    /// Tiles that no read covers any more.
    pub(super) fn forget_tiles(&mut self, plan: &Plan) -> Result<(), EntityError> {
        for (window, tiles) in plan.windows.iter().zip(&mut self.windows).filter(|(window, _)| window.length.is_some()) {
            tiles.drop_before(window.number(window.first(self.kept_from)), &self.stored).ok_or(EntityError)?;
        }
        Ok(())
    }

    /// The version of the newest row.
    pub fn newest(&self) -> Option<Version> {
        self.newest
    }

    /// Adds a row that an event gave, and the values of the columns that the plan names, by their position among the outputs. The row may be of a newer version
    /// than the event: one of a fold has what came before it in it. Windows count it at `version` all the same. There need be no packed form where a row of a later moment of the
    /// same batch takes its place at every moment that is answered once that has been added, which must be before the entity is stored. `now` bounds how far an event
    /// out of the future can push what is kept.
    pub fn add<'v>(
        &mut self,
        plan: &Plan,
        version: Version,
        (row, packed): (Version, Option<Bytes>),
        now: Timestamp,
        value: impl Fn(usize) -> Option<Value<'v>>,
    ) -> Result<Added, EntityError> {
        let time = version.event_time.0;
        let is_covered = !plan.has_windows() || plan.windows.iter().any(|window| window.covers(self.kept_from, time));
        if !(is_covered || row == version && self.is_newest_of_the_past(version)) {
            return Ok(Added::TooLate);
        }
        self.try_add(plan, version, (row, packed), now, value).ok_or(EntityError)?;
        Ok(Added::Counted)
    }

    /// Whether a row that is no longer within any window is still the one that reads see as of the earliest moment that is answered.
    fn is_newest_of_the_past(&self, version: Version) -> bool {
        version.event_time.0 <= self.kept_from && self.rows.newest_version_until(self.kept_from).is_none_or(|known| known <= version)
    }

    /// An event of this moment was there, though it does not count: it was too late. Says whether that changes since when something is known of the entity.
    pub fn heard_of(&mut self, time: Timestamp) -> bool {
        let is_earlier = time.0 < self.born;
        self.born = self.born.min(time.0);
        if is_earlier {
            self.bytes_most = self.bytes_most.saturating_add(FRAME_BYTES);
        }
        is_earlier
    }

    fn try_add<'v>(
        &mut self,
        plan: &Plan,
        version: Version,
        (row, packed): (Version, Option<Bytes>),
        now: Timestamp,
        value: impl Fn(usize) -> Option<Value<'v>>,
    ) -> Option<()> {
        let (before, is_newest) = (self.newest, self.newest.is_none_or(|newest| newest < version));
        self.born = self.born.min(version.event_time.0);
        self.newest = self.newest.max(Some(row));
        if row.event_time > version.event_time && before.is_some_and(|before| before.event_time == row.event_time && before < row) {
            // Renewed for a late event: no moment sees the row before, but the first of them tells when it came. They would add up for as long as an event out of the future is
            // the newest.
            self.rows.drop_renewed(row.event_time.0)?;
        }
        let packed = packed.unwrap_or_default();
        self.bytes_most = self.bytes_most.saturating_add(FRAME_BYTES + packed.len());
        self.keep_row(row, packed, before.is_none_or(|newest| newest < row))?;
        self.advance(plan, now)?;
        if row.event_time.0 <= self.kept_from {
            // Of what is past only the newest row can still be asked for.
            self.rows.keep_from(self.kept_from)?;
        }
        if !plan.has_windows() {
            return Some(());
        }
        let of_column = |column: usize| plan.columns.get(column).and_then(|(output, _)| value(*output));
        let is_past = self.is_past(version.event_time.0);
        if is_past {
            self.compact(plan, version, &mut ByColumn::new(of_column))?;
        }
        // What only windows without an end cover is in their tiles now, and they have no others.
        let ending = || plan.windows.iter().filter(|window| window.length.is_some());
        if !is_past || plan.exact && ending().any(|window| window.covers(self.kept_from, version.event_time.0)) {
            let contribution = packed_contribution(version, (0..plan.columns.len()).map(of_column));
            self.bytes_most = self.bytes_most.saturating_add(FRAME_BYTES + contribution.len());
            if is_newest {
                self.contributions.push_newest(version, contribution);
            } else {
                self.contributions.insert(version, contribution)?;
            }
        }
        Some(())
    }

    /// Whether contributions of this moment are in the tiles.
    pub(super) fn is_past(&self, time: i64) -> bool {
        time <= self.kept_from && self.kept_from != i64::MIN
    }

    fn keep_row(&mut self, version: Version, packed: Bytes, is_newest: bool) -> Option<()> {
        if is_newest {
            self.rows.push_newest(version, packed);
            return Some(());
        }
        let kept_from = self.kept_from;
        let rows = self.rows.open()?;
        // Rows of one event stand in the order in which the transform returned them.
        let at = rows.partition_point(|(known, _)| *known <= version);
        let is_past = |version: &Version| version.event_time.0 <= kept_from;
        if at == 0 && rows.first().is_some_and(|(oldest, _)| is_past(oldest)) {
            return Some(());
        }
        match rows.get_mut(..at)?.last_mut() {
            Some(row) if row.0 == version && is_past(&version) => row.1 = packed,
            _ => rows.insert(at, (version, packed)),
        }
        Some(())
    }

    /// Moves what is kept along with the newest event.
    pub(super) fn advance(&mut self, plan: &Plan, now: Timestamp) -> Option<()> {
        let newest = self.newest.map_or(i64::MIN, |version| version.event_time.0);
        let kept_from = newest.min(now.0).saturating_sub(plan.history);
        if kept_from > self.kept_from { self.keep_from(plan, kept_from) } else { Some(()) }
    }

    /// Compacts what has become old enough, and forgets rows and contributions that no read covers any more.
    pub(super) fn keep_from(&mut self, plan: &Plan, kept_from: i64) -> Option<()> {
        self.rows.keep_from(kept_from)?;
        let before = std::mem::replace(&mut self.kept_from, kept_from);
        if !plan.exact {
            let due = self.contributions.take_while(|version| version.event_time.0 <= kept_from)?;
            return due.iter().try_for_each(|(version, values)| self.compact(plan, *version, &mut of_all(&unpacked(plan, values)?)));
        }
        // Windows that are exact take their contributions as they are; what lasts for ever has nothing to be exact about.
        let mut due: Vec<(Version, Bytes)> = Vec::new();
        if plan.windows.iter().any(|window| window.length.is_none()) {
            self.contributions.each(|version, values| {
                let is_due = version.event_time.0 <= kept_from && (version.event_time.0 > before || before == i64::MIN);
                due.extend(is_due.then(|| (version, Bytes::copy_from_slice(values))));
                Some(())
            })?;
        }
        due.iter().try_for_each(|(version, values)| self.compact(plan, *version, &mut of_all(&unpacked(plan, values)?)))?;
        let first = plan.windows.iter().filter(|window| window.length.is_some()).map(|window| window.first(kept_from)).min();
        let gone = first.unwrap_or(i64::MAX).min(kept_from.saturating_add(1));
        self.contributions.take_while(|version| version.event_time.0 < gone)?;
        Some(())
    }

    /// Puts a contribution into the tiles that reads may still cover.
    fn compact<'v>(&mut self, plan: &Plan, version: Version, values: &mut ByColumn<'v, impl Fn(usize) -> Option<Value<'v>>>) -> Option<()> {
        let time = version.event_time.0;
        self.bytes_most = self.bytes_most.saturating_add(plan.growth.most(values));
        for (window, tiles) in plan.windows.iter().zip(&mut self.windows) {
            if (!plan.exact || window.length.is_none()) && window.covers(self.kept_from, time) {
                add(window, tiles.cells_at(time, &self.stored, window)?, version, values);
            }
        }
        Some(())
    }

    /// Whether a read as of this moment is exact.
    pub fn answers(&self, at: Timestamp) -> bool {
        at.0 >= self.kept_from
    }

    /// Whether a windowed feature, by its position in the plan, can be told as of this moment: one that began later than the entity cannot before it is complete, or
    /// began.
    pub fn tells(&self, feature: usize, at: Timestamp) -> bool {
        self.begun.feature(feature).is_none_or(|from| at.0 >= from)
    }

    /// The earliest moment that is answered.
    pub fn kept_from(&self) -> Timestamp {
        Timestamp(self.kept_from)
    }

    /// The earliest event time of all: before it, nothing was known of the entity. The smallest number where that cannot be told.
    pub fn born(&self) -> Timestamp {
        Timestamp(self.born)
    }

    /// The newest row of all.
    pub fn newest_row(&self) -> Option<Bytes> {
        self.rows.newest_until(i64::MAX)
    }

    /// The newest row at a moment.
    pub fn row(&self, at: Timestamp) -> Option<Bytes> {
        self.rows.newest_until(at.0)
    }

    /// The windowed features at a moment, in the order of the plan.
    pub fn finish(&self, plan: &Plan, at: Timestamp, push: impl FnMut(Option<Value<'_>>)) -> Result<(), EntityError> {
        plan.finish(&self.cells(plan, at.0).ok_or(EntityError)?, push);
        Ok(())
    }

    /// What each window has at a moment.
    fn cells(&self, plan: &Plan, at: i64) -> Option<Vec<Vec<Cell>>> {
        let mut finished: Vec<Vec<Cell>> = plan.windows.iter().map(Window::new_cells).collect();
        for ((window, tiles), cells) in plan.windows.iter().zip(&self.windows).zip(&mut finished) {
            let first = if window.length.is_some() { window.number(window.first(at)) } else { i64::MIN };
            tiles.each(first, &self.stored, |_, tile| {
                let mut reader = match tile {
                    TileCells::Open(more) => {
                        cells.iter_mut().zip(more).for_each(|(cell, more)| cell.merge(more.clone()));
                        return Some(());
                    }
                    TileCells::Stored(stored) => Reader(stored),
                };
                cells.iter_mut().zip(&window.cells).try_for_each(|(cell, planned)| cell.merge_stored(planned.shape, &mut reader))
            })?;
            cells.iter_mut().for_each(|cell| cell.forget_before(window.first(at)));
        }
        let first: Vec<i64> = plan.windows.iter().map(|window| window.first(at)).collect();
        self.contributions.each(|version, values| {
            let time = version.event_time.0;
            if time > at || (!plan.exact && self.is_past(time)) {
                return Some(());
            }
            let values = unpacked(plan, values)?;
            let mut values = of_all(&values);
            for ((window, first), cells) in plan.windows.iter().zip(&first).zip(&mut finished) {
                if time >= *first && (!self.is_past(time) || window.length.is_some()) {
                    add(window, cells, version, &mut values);
                }
            }
            Some(())
        })?;
        Some(finished)
    }
}
