//! An entity that was stored under another schema, for the one in force.

use bytes::Bytes;

use super::begun::Begun;
use super::cell::Cell;
use super::entity::{Entity, EntityError, packed_contribution, unpacked};
use super::plan::{Feature, Plan, Planned, Window};
use super::tiles::{TileCells, Tiles};
use crate::model::{Aggregate, FeatureRow, Field, Kind, Value, Version};

/// A view's outputs and what is kept of them, as one schema has it.
#[derive(Clone, Copy)]
pub struct Shape<'s> {
    /// The outputs.
    pub outputs: &'s [Field],
    /// The plan made of them.
    pub plan: &'s Plan,
}

impl Entity {
    /// What is stored of an entity, as the schema in force has it; `from` where it was stored under another one. A row alone is one that kept nothing else.
    pub fn of_stored(stored: &FeatureRow, from: Option<Shape<'_>>, to: Shape<'_>) -> Result<Entity, EntityError> {
        let plan = from.map_or(to.plan, |from| from.plan);
        let entity = if stored.is_entity() {
            Entity::read(stored.packed(), plan)?
        } else {
            Entity::of_row(plan, stored.header.version, stored.packed().clone())
        };
        match from {
            Some(from) => entity.adapt(from, to).ok_or(EntityError),
            None => Ok(entity),
        }
    }

    /// Carries over what both have: outputs of the same name and kind, windows of the same length over them. What is new begins with the rows that are there one
    /// by one. `None` where what is stored is not of the old shape.
    pub fn adapt(mut self, from: Shape<'_>, to: Shape<'_>) -> Option<Entity> {
        let windows = to.plan.windows.iter().map(|window| {
            let same = |(known, _): &(&Window, &Tiles)| goes_on(from.plan, known, to.plan, window);
            match from.plan.windows.iter().zip(&self.windows).find(same) {
                Some((known, tiles)) => adapt_tiles(&self.stored, tiles, known, window),
                None => Some(Tiles::default()),
            }
        });
        let windows = windows.collect::<Option<Vec<_>>>()?;
        if to.plan.history == 0 && !to.plan.has_windows() {
            // Nobody keeps it up to date any more but for its newest row: what comes late is not heard of.
            self.born = i64::MIN;
            self.keep_from(from.plan, self.newest.map_or(i64::MIN, |newest| newest.event_time.0).max(self.kept_from))?;
        }
        let rows = std::mem::take(self.rows.open()?);
        let (contributions, unknown_until) = self.adapt_contributions(&rows, from, to)?;
        let begun = self.begun_in(from, to, unknown_until);
        let rows: Option<Vec<_>> =
            rows.into_iter().map(|(version, row)| Some((version, adapt_row(row, from.outputs, to.outputs)?))).collect();
        let (rows, contributions) = (self.rows.of_same(rows?), self.contributions.of_same(contributions));
        // To be counted anew.
        Some(Entity { rows, contributions, windows, begun, bytes_most: usize::MAX, ..self })
    }

    /// The contributions for the new plan, and up to which moment they may lack what was not aggregated before. What was, they have already; the rest is taken from the
    /// rows that came with them.
    fn adapt_contributions(&mut self, rows: &[(Version, Bytes)], from: Shape<'_>, to: Shape<'_>) -> Option<(Vec<(Version, Bytes)>, i64)> {
        let known = std::mem::take(self.contributions.open()?);
        let (mut adapted, mut unknown_until) = (Vec::new(), self.kept_from);
        if !to.plan.has_windows() {
            return Some((adapted, unknown_until));
        }
        if !from.plan.has_windows() {
            for (version, row) in rows.iter().filter(|(version, _)| !self.is_past(version.event_time.0)) {
                adapted.push((*version, adapt_contribution(*version, None, Some(row), from, to)?));
            }
            return Some((adapted, unknown_until));
        }
        let mut rows = rows.iter().peekable();
        // What only exact windows have kept has no place in others, whose tiles do not know of it.
        for (version, packed) in known.iter().filter(|(version, _)| to.plan.exact || !self.is_past(version.event_time.0)) {
            while rows.next_if(|(row, _)| row < version).is_some() {}
            let row = rows.next_if(|(row, _)| row == version).map(|(_, row)| row).filter(|_| !self.is_past(version.event_time.0));
            if row.is_none() {
                unknown_until = unknown_until.max(version.event_time.0);
            }
            adapted.push((*version, adapt_contribution(*version, Some(packed), row, from, to)?));
        }
        Some((adapted, unknown_until))
    }

    /// From when on each feature can be told, and each output is known. A feature that the old plan does not have can be told as of a moment when nothing is within its
    /// window but what it began with, or when it is there already, whatever it began with: as it was told then.
    fn begun_in(&self, from: Shape<'_>, to: Shape<'_>, unknown_until: i64) -> Begun {
        let mut begun = Begun::default();
        let Some(newest) = self.newest.map(|newest| newest.event_time.0) else { return begun };
        for (position, output) in to.outputs.iter().enumerate() {
            let before = from.outputs.iter().position(|known| is_same(known, output));
            let since = before.map_or(Some(newest), |before| self.begun.output(before));
            since.into_iter().for_each(|since| begun.with_output(position, since));
        }
        for (position, feature) in to.plan.features.iter().enumerate() {
            let since = match self.goes_on_since(from.plan, to.plan, feature) {
                Some(since) => since,
                None => {
                    let Some((window, cell)) = planned(to.plan, feature) else { continue };
                    let output = to.plan.columns.get(cell.column).and_then(|(output, _)| begun.output(*output));
                    // Of an entity that is no older than what is kept, all is known.
                    let of_rows = (self.born <= unknown_until).then_some(unknown_until);
                    let unknown_until = of_rows.max(output);
                    unknown_until.map(|time| window.first_beyond(time).map_or(newest, |complete| complete.min(newest)))
                }
            };
            since.into_iter().for_each(|since| begun.with_feature(position, since));
        }
        begun
    }

    /// From when on a feature can be told that the old plan has as well, under whatever name; nothing where it has it not.
    fn goes_on_since(&self, from: &Plan, to: &Plan, feature: &Feature) -> Option<Option<i64>> {
        let (window, cell) = planned(to, feature)?;
        let same = from.features.iter().enumerate().filter(|(_, known)| {
            planned(from, known).is_some_and(|(of, known_cell)| {
                let as_many = match (known.function, feature.function) {
                    (Aggregate::LastValues(known), Aggregate::LastValues(many)) => many <= known,
                    _ => true,
                };
                goes_on(from, of, to, window) && known_cell.goes_on(cell) && as_many
            })
        });
        same.map(|(position, _)| self.begun.feature(position)).min()
    }
}

/// Whether a window is the same in both plans.
fn goes_on(from: &Plan, known: &Window, to: &Plan, window: &Window) -> bool {
    (known.length, known.lists) == (window.length, window.lists) && (known.length.is_none() || from.exact == to.exact)
}

/// The window and the cell of a feature.
fn planned<'p>(plan: &'p Plan, feature: &Feature) -> Option<(&'p Window, &'p Planned)> {
    let window = plan.windows.get(feature.window)?;
    Some((window, window.cells.get(feature.cell)?))
}

fn is_same(known: &Field, output: &Field) -> bool {
    (&known.name, known.kind, known.width) == (&output.name, output.kind, output.width)
}

fn adapt_tiles(stored: &[u8], tiles: &Tiles, from: &Window, to: &Window) -> Option<Tiles> {
    let mut adapted = Vec::new();
    tiles.each(i64::MIN, stored, |number, cells| {
        let read;
        let known: &[Cell] = match cells {
            TileCells::Open(cells) => cells,
            TileCells::Stored(bytes) => {
                read = from.read_cells(bytes)?;
                &read
            }
        };
        adapted.push((number, adapt_cells(known, from, to)));
        Some(())
    })?;
    Some(Tiles::of(adapted.into_iter()))
}

fn adapt_cells(known: &[Cell], from: &Window, to: &Window) -> Vec<Cell> {
    let mut cells = to.new_cells();
    for (cell, planned) in cells.iter_mut().zip(&to.cells) {
        let same = |(known, _): &(&Planned, &Cell)| known.goes_on(planned);
        if let Some((_, known)) = from.cells.iter().zip(known).find(same) {
            cell.merge(known.to_go_on(planned.shape));
        }
    }
    cells
}

/// Columns that were aggregated are as they were kept, others as the row has them.
fn adapt_contribution(version: Version, packed: Option<&[u8]>, row: Option<&Bytes>, from: Shape<'_>, to: Shape<'_>) -> Option<Bytes> {
    let known = packed.map_or_else(|| Some(Vec::new()), |packed| unpacked(from.plan, packed))?;
    let row = row.map(|row| FeatureRow::new(row.clone())).transpose().ok()?;
    let of_row = row.as_ref().map_or_else(|| Some(Vec::new()), |row| values(row, from.outputs))?;
    let value = |(output, kind): &(usize, Kind)| -> Option<Value<'_>> {
        let output = to.outputs.get(*output)?;
        let is_kept = |(of, known): &(usize, Kind)| known == kind && from.outputs.get(*of).is_some_and(|known| is_same(known, output));
        let kept = packed.and_then(|_| from.plan.columns.iter().position(is_kept));
        match kept {
            Some(kept) => known.get(kept).copied().flatten(),
            None => of_row.get(from.outputs.iter().position(|known| is_same(known, output))?).copied().flatten(),
        }
    };
    Some(packed_contribution(version, to.plan.columns.iter().map(value)))
}

/// A row with the values of other outputs. It goes on naming the schema that it was made under, and so the component that made it.
fn adapt_row(packed: Bytes, from: &[Field], to: &[Field]) -> Option<Bytes> {
    let row = FeatureRow::new(packed).ok()?;
    let values = values(&row, from)?;
    let value = |field: &Field| *values.get(from.iter().position(|known| is_same(known, field))?)?;
    let mut out = Vec::new();
    FeatureRow::pack(&mut out, row.header.version, row.header.schema, to.iter().map(value));
    Some(out.into())
}

fn values<'r>(row: &'r FeatureRow, fields: &[Field]) -> Option<Vec<Option<Value<'r>>>> {
    row.values(fields.iter().map(|field| field.kind)).collect::<Result<Vec<_>, _>>().ok()
}
