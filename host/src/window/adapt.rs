//! An entity that was stored under another schema, for the one in force.

use bytes::Bytes;

use super::cell::Cell;
use super::entity::{Cells, Contribution, Entity, Tile, new_cells, read_cells, within};
use super::plan::{Plan, Window};
use crate::model::{FeatureRow, Field, Kind, SchemaId, Value};

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
    pub fn adapt(self, from: Shape<'_>, to: Shape<'_>, schema: SchemaId) -> Option<Entity> {
        let Entity { stored, kept_from, compacted_to, rows, contributions, windows } = self;
        let rows = rows.into_iter().map(|(version, packed)| Some((version, adapt_row(packed, from.outputs, to.outputs, schema)?)));
        let rows = rows.collect::<Option<Vec<_>>>()?;
        let contributions =
            contributions.iter().map(|contribution| adapt_contribution(contribution, from, to)).collect::<Option<Vec<_>>>()?;
        let windows = to.plan.windows.iter().map(|window| {
            let same = |(known, _): &(&Window, &Vec<Tile>)| {
                known.length == window.length && (known.length.is_none() || from.plan.exact == to.plan.exact)
            };
            match from.plan.windows.iter().zip(&windows).find(same) {
                Some((known, tiles)) => tiles.iter().map(|tile| adapt_tile(&stored, tile, known, window)).collect::<Option<Vec<_>>>(),
                None => Some(Vec::new()),
            }
        });
        let windows = windows.collect::<Option<Vec<_>>>()?;
        Some(Entity { stored, kept_from, compacted_to, rows, contributions, windows })
    }
}

fn adapt_tile(bytes: &[u8], tile: &Tile, from: &Window, to: &Window) -> Option<Tile> {
    let stored;
    let known: &[Cell] = match &tile.cells {
        Cells::Open(cells) => cells,
        Cells::Stored(from_byte, to_byte) => {
            stored = read_cells(within(bytes, *from_byte, *to_byte), from)?;
            &stored
        }
    };
    let mut cells = new_cells(to);
    for (cell, planned) in cells.iter_mut().zip(&to.cells) {
        let same = |(known, _): &(&super::plan::Planned, &Cell)| {
            known.name == planned.name && known.kind == planned.kind && known.shape.answers_for(planned.shape)
        };
        if let Some((_, known)) = from.cells.iter().zip(known).find(same) {
            cell.merge(known.clone());
        }
    }
    Some(Tile { number: tile.number, cells: Cells::Open(cells) })
}

fn adapt_contribution(contribution: &Contribution, from: Shape<'_>, to: Shape<'_>) -> Option<Contribution> {
    let mut rest: &[u8] = &contribution.values;
    let mut values: Vec<(&str, Kind, Option<Value<'_>>)> = Vec::new();
    for (output, kind) in &from.plan.columns {
        let (is_some, after) = rest.split_first()?;
        rest = after;
        let value = if *is_some == 0 { None } else { Some(Value::unpack(*kind, &mut rest)?) };
        values.push((&from.outputs.get(*output)?.name, *kind, value));
    }
    let mut packed = Vec::new();
    for (output, kind) in &to.plan.columns {
        let name = &to.outputs.get(*output)?.name;
        let value = values.iter().find(|(known, of, _)| known == name && of == kind).and_then(|(_, _, value)| *value);
        packed.push(u8::from(value.is_some()));
        if let Some(value) = value {
            value.pack(&mut packed);
        }
    }
    Some(Contribution { version: contribution.version, values: packed.into() })
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
