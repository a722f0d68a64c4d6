//! An entity that was stored under another schema, for the one in force.

use bytes::Bytes;

use super::cell::Cell;
use super::entity::{Entity, packed_contribution, unpacked};
use super::plan::{Plan, Planned, Window};
use super::tiles::{TileCells, Tiles};
use crate::model::{FeatureRow, Field, SchemaId, Value, Version};

/// A view's outputs and what is kept of them, as one schema has it.
#[derive(Clone, Copy)]
pub struct Shape<'s> {
    /// The outputs.
    pub outputs: &'s [Field],
    /// The plan made of them.
    pub plan: &'s Plan,
}

impl Entity {
    /// Carries over what both have: outputs of the same name and kind, windows of the same length over them. A window that is new begins empty. `None` where
    /// what is stored is not of the old shape.
    pub fn adapt(mut self, from: Shape<'_>, to: Shape<'_>, schema: SchemaId) -> Option<Entity> {
        let windows = to.plan.windows.iter().map(|window| {
            let same = |(known, _): &(&Window, &Tiles)| {
                (known.length, known.lists) == (window.length, window.lists) && (known.length.is_none() || from.plan.exact == to.plan.exact)
            };
            match from.plan.windows.iter().zip(&self.windows).find(same) {
                Some((known, tiles)) => adapt_tiles(&self.stored, tiles, known, window),
                None => Some(Tiles::default()),
            }
        });
        let windows = windows.collect::<Option<Vec<_>>>()?;
        if to.plan.history == 0 && !to.plan.has_windows() {
            // Nobody keeps it up to date any more but for its newest row.
            self.keep_from(from.plan, self.newest.map_or(i64::MIN, |newest| newest.event_time.0).max(self.kept_from))?;
        }
        let rows = std::mem::take(self.rows.open()?).into_iter();
        let rows: Option<Vec<_>> = rows.map(|(version, row)| Some((version, adapt_row(row, from.outputs, to.outputs, schema)?))).collect();
        let contributions = std::mem::take(self.contributions.open()?);
        // What only exact windows have kept has no place in others, whose tiles do not know of it.
        let stays = |version: &Version| to.plan.exact || !self.is_past(version.event_time.0);
        let contributions = contributions.iter().filter(|(version, _)| stays(version));
        let contributions: Option<Vec<_>> =
            contributions.map(|(version, packed)| Some((*version, adapt_contribution(*version, packed, from, to)?))).collect();
        let (rows, contributions) = (self.rows.of_same(rows?), self.contributions.of_same(contributions?));
        Some(Entity { rows, contributions, windows, ..self })
    }
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
        let same = |(known, _): &(&Planned, &Cell)| {
            known.name == planned.name && known.kind == planned.kind && known.shape.answers_for(planned.shape)
        };
        if let Some((_, known)) = from.cells.iter().zip(known).find(same) {
            cell.merge(known.to_go_on(planned.shape));
        }
    }
    cells
}

fn adapt_contribution(version: Version, packed: &[u8], from: Shape<'_>, to: Shape<'_>) -> Option<Bytes> {
    let known = unpacked(from.plan, packed)?;
    let value = |(output, kind): &(usize, crate::model::Kind)| -> Option<Value<'_>> {
        let name = &to.outputs.get(*output)?.name;
        let is_same =
            |(output, of): &(usize, crate::model::Kind)| of == kind && from.outputs.get(*output).is_some_and(|field| field.name == *name);
        known.get(from.plan.columns.iter().position(is_same)?).copied().flatten()
    };
    Some(packed_contribution(version, to.plan.columns.iter().map(value)))
}

fn adapt_row(packed: Bytes, from: &[Field], to: &[Field], schema: SchemaId) -> Option<Bytes> {
    let row = FeatureRow::new(packed).ok()?;
    let values = row.values(from.iter().map(|field| field.kind)).collect::<Result<Vec<_>, _>>().ok()?;
    let value = |field: &Field| {
        let known = from.iter().position(|known| (&known.name, known.kind, known.width) == (&field.name, field.kind, field.width))?;
        *values.get(known)?
    };
    let mut out = Vec::new();
    FeatureRow::pack(&mut out, row.header.version, schema, to.iter().map(value));
    Some(out.into())
}
