//! The stored form of an entity that keeps more than its newest row, and what changes in it.
//!
//! ```text
//! byte  0       format, 2
//!       1..29   as in a packed row: the newest version, and the schema
//!       then    the moment from which reads are exact and the one up to which tiles have everything (both signed), rows and contributions each with a count before them, and for each window its tiles
//! row           length, and the packed row
//! contribution  version, and for each column that is aggregated: 1 and the packed value, or 0
//! tile          steps from the tile before (signed), length, and its cells
//! ```

use bytes::Bytes;

use super::cell::Cell;
use super::plan::{Plan, Window};
use super::wire::{Reader, push_number, push_run, push_signed};
use crate::model::{ENTITY_FORMAT, SchemaId, Timestamp, Value, Version};

/// Bytes before what differs from a packed row.
const HEADER_BYTES: usize = 29;

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
pub struct Entity {
    /// What it was read from: most of it is only passed on.
    pub(super) stored: Bytes,
    /// Reads as of this moment and later ones are exact; microseconds.
    pub(super) kept_from: i64,
    /// Contributions up to here are in the tiles.
    pub(super) compacted_to: i64,
    /// Packed rows, oldest first.
    pub(super) rows: Vec<(Version, Bytes)>,
    /// What is not, or not only, in tiles; oldest first.
    pub(super) contributions: Vec<Contribution>,
    /// For each window its tiles, oldest first.
    pub(super) windows: Vec<Vec<Tile>>,
}

#[derive(Debug, Clone)]
pub(super) struct Contribution {
    pub(super) version: Version,
    /// For each column 1 and the packed value, or 0.
    pub(super) values: Bytes,
}

pub(super) struct Tile {
    /// Its number: event times from `number * tile` on.
    pub(super) number: i64,
    pub(super) cells: Cells,
}

/// Most tiles are only passed on.
pub(super) enum Cells {
    /// Where they begin and end in what the entity was read from.
    Stored(u32, u32),
    Open(Vec<Cell>),
}

impl Cells {
    fn open(&mut self, stored: &[u8], window: &Window) -> Option<&mut Vec<Cell>> {
        if let Cells::Stored(from, to) = *self {
            *self = Cells::Open(read_cells(within(stored, from, to), window)?);
        }
        match self {
            Cells::Open(cells) => Some(cells),
            Cells::Stored(..) => None,
        }
    }
}

pub(super) fn within(stored: &[u8], from: u32, to: u32) -> &[u8] {
    stored.get(from as usize..to as usize).unwrap_or_default()
}

pub(super) fn read_cells(bytes: &[u8], window: &Window) -> Option<Vec<Cell>> {
    let mut reader = Reader(bytes);
    window.cells.iter().map(|planned| Cell::read(planned.shape, &mut reader)).collect()
}

pub(super) fn new_cells(window: &Window) -> Vec<Cell> {
    window.cells.iter().map(|planned| Cell::new(planned.shape)).collect()
}

impl Entity {
    /// One of which nothing is known.
    pub fn new(plan: &Plan) -> Entity {
        let windows = plan.windows.iter().map(|_| Vec::new()).collect();
        Entity { stored: Bytes::new(), kept_from: i64::MIN, compacted_to: i64::MIN, rows: Vec::new(), contributions: Vec::new(), windows }
    }

    /// One that kept nothing but its newest row so far.
    pub fn of_row(plan: &Plan, version: Version, packed: Bytes) -> Entity {
        let kept_from = version.event_time.0;
        Entity { kept_from, compacted_to: kept_from, rows: vec![(version, packed)], ..Entity::new(plan) }
    }

    /// Reads the stored form.
    pub fn read(stored: &Bytes, plan: &Plan) -> Result<Entity, EntityError> {
        Entity::try_read(stored, plan).ok_or(EntityError)
    }

    fn try_read(stored: &Bytes, plan: &Plan) -> Option<Entity> {
        let mut reader = Reader(stored.get(HEADER_BYTES..)?);
        let kept_from = reader.signed()?;
        let compacted_to = reader.signed()?;
        let rows = (0..reader.count()?).map(|_| {
            let packed = stored.slice_ref(reader.run()?);
            let version = Version::from_bytes(*packed.get(1..)?.first_chunk()?);
            Some((version, packed))
        });
        let rows = rows.collect::<Option<Vec<_>>>()?;
        let contributions = (0..reader.count()?).map(|_| {
            let version = Version::from_bytes(reader.array()?);
            Some(Contribution { version, values: stored.slice_ref(reader.run()?) })
        });
        let contributions = contributions.collect::<Option<Vec<_>>>()?;
        let windows = plan.windows.iter().map(|_| {
            let mut number = 0_i64;
            let tiles = (0..reader.count()?).map(|_| {
                number = number.wrapping_add(reader.signed()?);
                let length = reader.run()?.len();
                let to = stored.len() - reader.0.len();
                Some(Tile { number, cells: Cells::Stored(u32::try_from(to - length).ok()?, u32::try_from(to).ok()?) })
            });
            tiles.collect::<Option<Vec<_>>>()
        });
        let windows = windows.collect::<Option<Vec<_>>>()?;
        Some(Entity { stored: stored.clone(), kept_from, compacted_to, rows, contributions, windows })
    }

    /// Appends the stored form. Fails for an entity that has neither rows nor windows, of which there is nothing to store.
    pub fn push(&self, out: &mut Vec<u8>, schema: SchemaId) {
        let newest = self.newest().unwrap_or(Version::MIN);
        out.push(ENTITY_FORMAT);
        out.extend_from_slice(&newest.to_bytes());
        out.extend_from_slice(&schema.0.to_be_bytes());
        push_signed(out, self.kept_from);
        push_signed(out, self.compacted_to);
        push_number(out, self.rows.len() as u64);
        self.rows.iter().for_each(|(_, packed)| push_run(out, packed));
        push_number(out, self.contributions.len() as u64);
        for contribution in &self.contributions {
            out.extend_from_slice(&contribution.version.to_bytes());
            push_run(out, &contribution.values);
        }
        let mut open = Vec::new();
        for tiles in &self.windows {
            push_number(out, tiles.len() as u64);
            let mut before = 0_i64;
            for tile in tiles {
                push_signed(out, tile.number.wrapping_sub(before));
                before = tile.number;
                match &tile.cells {
                    Cells::Stored(from, to) => push_run(out, within(&self.stored, *from, *to)),
                    Cells::Open(cells) => {
                        open.clear();
                        cells.iter().for_each(|cell| cell.push(&mut open));
                        push_run(out, &open);
                    }
                }
            }
        }
    }

    /// The version of the newest row.
    pub fn newest(&self) -> Option<Version> {
        self.rows.last().map(|(version, _)| *version)
    }

    /// Adds a row that an event gave: its packed form, which replaces one of the same version, and the values of the columns that the plan names,
    /// by their position among the outputs. `now` bounds how far an event out of the future can push what is kept.
    pub fn add<'v>(
        &mut self,
        plan: &Plan,
        version: Version,
        packed: Bytes,
        now: Timestamp,
        value: impl Fn(usize) -> Option<Value<'v>>,
    ) -> Added {
        let time = version.event_time.0;
        if plan.has_windows() && !plan.windows.iter().any(|window| time >= window.first(self.kept_from, plan.exact)) {
            return Added::TooLate;
        }
        self.keep_row(version, packed);
        if !plan.has_windows() {
            self.advance(plan, now);
            return Added::Counted;
        }
        let mut values = Vec::new();
        for (output, _) in &plan.columns {
            let value = value(*output);
            values.push(u8::from(value.is_some()));
            if let Some(value) = value {
                value.pack(&mut values);
            }
        }
        let contribution = Contribution { version, values: values.into() };
        self.advance(plan, now);
        let is_past = time <= self.compacted_to;
        if is_past {
            self.compact(plan, &contribution);
        }
        if !is_past || plan.exact {
            let at = self.contributions.partition_point(|known| known.version <= version);
            self.contributions.insert(at, contribution);
        }
        Added::Counted
    }

    fn keep_row(&mut self, version: Version, packed: Bytes) {
        let at = self.rows.partition_point(|(known, _)| *known < version);
        // Older than the oldest that is kept, which is the newest row at the first moment that can be asked for.
        if at == 0 && self.rows.first().is_some_and(|(oldest, _)| oldest.event_time.0 <= self.kept_from && *oldest != version) {
            return;
        }
        match self.rows.get_mut(at) {
            Some(row) if row.0 == version => row.1 = packed,
            _ => self.rows.insert(at, (version, packed)),
        }
    }

    /// Moves what is kept along with the newest event, compacts what has become old enough, and drops what no read covers any more.
    fn advance(&mut self, plan: &Plan, now: Timestamp) {
        let newest = self.rows.last().map_or(i64::MIN, |(version, _)| version.event_time.0);
        let kept_from = newest.min(now.0).saturating_sub(plan.history);
        if kept_from <= self.kept_from {
            return;
        }
        self.keep_from(plan, kept_from);
    }

    /// Gives up the older half of the history that is kept, up to now. Says whether there was any.
    pub fn shorten_history(&mut self, plan: &Plan, now: Timestamp) -> bool {
        let times = self.rows.iter().map(|(version, _)| version.event_time.0);
        let mut kept: Vec<i64> = times.chain(self.contributions.iter().map(|one| one.version.event_time.0)).collect();
        kept.retain(|time| *time > self.kept_from && *time <= now.0);
        kept.sort_unstable();
        match kept.get(kept.len() / 2) {
            Some(middle) => self.keep_from(plan, *middle),
            None => return false,
        }
        true
    }

    fn keep_from(&mut self, plan: &Plan, kept_from: i64) {
        self.kept_from = kept_from;
        let old = self.rows.partition_point(|(version, _)| version.event_time.0 <= kept_from);
        self.rows.drain(..old.saturating_sub(1));
        let from = self.contributions.partition_point(|known| known.version.event_time.0 <= self.compacted_to);
        let to = self.contributions.partition_point(|known| known.version.event_time.0 <= kept_from);
        let due: Vec<Contribution> = self.contributions.get(from..to).unwrap_or_default().to_vec();
        due.iter().for_each(|contribution| self.compact(plan, contribution));
        self.compacted_to = kept_from;
        if plan.exact {
            let first = plan.windows.iter().filter(|window| window.length.is_some()).map(|window| window.first(kept_from, true)).min();
            let gone = first.unwrap_or(i64::MAX);
            self.contributions.retain(|known| known.version.event_time.0 >= gone.min(kept_from.saturating_add(1)));
        } else {
            self.contributions.drain(..to);
        }
        for (window, tiles) in plan.windows.iter().zip(&mut self.windows) {
            let first = window.first(kept_from, plan.exact).div_euclid(window.tile(plan.exact));
            let gone = if window.length.is_some() { tiles.partition_point(|tile| tile.number < first) } else { 0 };
            tiles.drain(..gone);
        }
    }

    /// Puts a contribution into the tiles that reads may still cover.
    fn compact(&mut self, plan: &Plan, contribution: &Contribution) {
        let time = contribution.version.event_time.0;
        for (window, tiles) in plan.windows.iter().zip(&mut self.windows) {
            // Windows that are exact take their contributions as they are; what lasts for ever has nothing to be exact about.
            if (plan.exact && window.length.is_some()) || time < window.first(self.kept_from, plan.exact) {
                continue;
            }
            let number = if window.length.is_some() { time.div_euclid(window.tile(plan.exact)) } else { 0 };
            let at = tiles.partition_point(|tile| tile.number < number);
            if tiles.get(at).is_none_or(|tile| tile.number != number) {
                tiles.insert(at, Tile { number, cells: Cells::Open(new_cells(window)) });
            }
            if let Some(cells) = tiles.get_mut(at).and_then(|tile| tile.cells.open(&self.stored, window)) {
                add(plan, window, cells, contribution);
            }
        }
    }

    /// Whether a read as of this moment is exact.
    pub fn answers(&self, at: Timestamp) -> bool {
        at.0 >= self.kept_from
    }

    /// The earliest moment that is answered.
    pub fn kept_from(&self) -> Timestamp {
        Timestamp(self.kept_from)
    }

    /// The newest row of all.
    pub fn newest_row(&self) -> Option<&Bytes> {
        self.rows.last().map(|(_, packed)| packed)
    }

    /// The newest row at a moment.
    pub fn row(&self, at: Timestamp) -> Option<&Bytes> {
        let newer = self.rows.partition_point(|(version, _)| version.event_time <= at);
        newer.checked_sub(1).and_then(|newest| self.rows.get(newest)).map(|(_, packed)| packed)
    }

    /// The windowed features at a moment, in the order of the plan.
    pub fn finish(&self, plan: &Plan, at: Timestamp, push: impl FnMut(Option<Value<'_>>)) -> Result<(), EntityError> {
        let mut finished = Vec::with_capacity(plan.windows.len());
        for (window, tiles) in plan.windows.iter().zip(&self.windows) {
            let mut cells = new_cells(window);
            let first = window.first(at.0, plan.exact);
            let first_tile = first.div_euclid(window.tile(plan.exact));
            for tile in tiles.iter().filter(|tile| window.length.is_none() || tile.number >= first_tile) {
                match &tile.cells {
                    Cells::Open(more) => cells.iter_mut().zip(more).for_each(|(cell, more)| cell.merge(more.clone())),
                    Cells::Stored(from, to) => {
                        let mut reader = Reader(within(&self.stored, *from, *to));
                        for (cell, planned) in cells.iter_mut().zip(&window.cells) {
                            cell.merge(Cell::read(planned.shape, &mut reader).ok_or(EntityError)?);
                        }
                    }
                }
            }
            let is_exact = plan.exact && window.length.is_some();
            for contribution in &self.contributions {
                let time = contribution.version.event_time.0;
                if time <= at.0 && time >= first && (is_exact || time > self.compacted_to) {
                    add(plan, window, &mut cells, contribution);
                }
            }
            finished.push(cells);
        }
        plan.finish(&finished, push);
        Ok(())
    }
}

/// Adds a contribution's values to the cells of a tile.
fn add(plan: &Plan, window: &Window, cells: &mut [Cell], contribution: &Contribution) {
    let mut rest: &[u8] = &contribution.values;
    for (column, (_, kind)) in plan.columns.iter().enumerate() {
        let Some((is_some, after)) = rest.split_first() else { return };
        rest = after;
        if *is_some == 0 {
            continue;
        }
        let Some(value) = Value::unpack(*kind, &mut rest) else { return };
        for (_, cell) in window.cells.iter().zip(cells.iter_mut()).filter(|(planned, _)| planned.column == column) {
            cell.add(contribution.version, value);
        }
    }
}
