//! What the windows of an entity may come to, in bytes, whatever its events: told before the first of them comes.

use super::cell::{REGISTERS, Shape};
use super::contribution::ByColumn;
use super::frequent::FREQUENT_MAX;
use super::plan::{Plan, Planned, TILES, Window};
use crate::model::{Field, Kind, Value};

/// What a text or a value of bytes is counted as: how long they get, only events tell.
const TEXT_BYTES: usize = 32;
/// Event time and entry.
const STAMP_BYTES: usize = 24;
/// Bins of a sketch of quantiles, for numbers of either sign, and what each takes while its tile has no more than some thousand events.
const BINS: usize = 2 * 2_048;
const BIN_BYTES: usize = 3;

/// The most that a tile takes beside its cells: its number, lengths, and where the others begin and end.
const TILE_BYTES: usize = 64;
/// Any number, length or float as it is stored, with what is said before it.
const WORD_BYTES: usize = 10;

/// By how much one event may make the tiles of an entity longer, in bytes.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Whatever its values are.
    fixed: usize,
    /// Columns of values that may be of any length, and in how many cells each may come to stand.
    long: Vec<(usize, usize)>,
    /// For each window what the sketches in one of its tiles may take, which are not counted event by event: one value may make a sketch much longer, and many make it no
    /// longer than this.
    pub(super) sketches: Vec<usize>,
}

impl Growth {
    pub(super) fn of(plan: &Plan) -> Growth {
        let cells = || plan.windows.iter().flat_map(|window| &window.cells);
        let is_long = |kind: Kind| matches!(kind, Kind::Text | Kind::Bytes | Kind::Vector | Kind::List);
        let holds = |shape| matches!(shape, Shape::Earliest | Shape::Latest | Shape::Newest(_) | Shape::Frequent);
        let many = |column: usize| cells().filter(|cell| cell.column == column && holds(cell.shape)).count();
        let long = plan.columns.iter().enumerate().filter(|(_, (_, kind))| is_long(*kind)).map(|(column, _)| (column, many(column)));
        let fixed = plan.windows.len() * TILE_BYTES + cells().map(|cell| cell_growth(cell.shape)).sum::<usize>();
        let sketches = plan.windows.iter().map(|window| window.cells.iter().map(|cell| sketch_bytes(cell.shape)).sum());
        Growth { fixed, long: long.filter(|(_, cells)| *cells > 0).collect(), sketches: sketches.collect() }
    }

    /// By how much these values may.
    pub(super) fn most<'v>(&self, values: &mut ByColumn<'v, impl Fn(usize) -> Option<Value<'v>>>) -> usize {
        let long = self.long.iter().map(|(column, cells)| cells * values.get(*column).map_or(0, length));
        self.fixed + long.sum::<usize>()
    }
}

/// What a value of any length takes.
fn length(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len() + WORD_BYTES,
        Value::Bytes(bytes) | Value::Vector(bytes) | Value::List(_, bytes) => bytes.len() + WORD_BYTES,
        Value::Numbers(numbers) => numbers.len() * 4 + WORD_BYTES,
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Timestamp(_) => WORD_BYTES,
    }
}

/// The most that one value adds to a cell, or that a cell takes that is new; values of any length not counted.
fn cell_growth(shape: Shape) -> usize {
    match shape {
        Shape::Count | Shape::Least | Shape::Greatest => 2 * WORD_BYTES,
        Shape::Integers => 3 * WORD_BYTES,
        Shape::Floats => 5 * WORD_BYTES,
        Shape::Squares => 7 * WORD_BYTES,
        Shape::Earliest | Shape::Latest => STAMP_BYTES + 3 * WORD_BYTES,
        Shape::Newest(_) => 2 * STAMP_BYTES + 3 * WORD_BYTES,
        Shape::Frequent => 4 * WORD_BYTES,
        Shape::Distinct | Shape::Quantiles => WORD_BYTES,
    }
}

/// The most that a sketch takes.
fn sketch_bytes(shape: Shape) -> usize {
    match shape {
        Shape::Distinct => 100 + REGISTERS,
        Shape::Quantiles => 200 + BINS * WORD_BYTES,
        Shape::Count
        | Shape::Integers
        | Shape::Floats
        | Shape::Squares
        | Shape::Least
        | Shape::Greatest
        | Shape::Earliest
        | Shape::Latest
        | Shape::Newest(_)
        | Shape::Frequent => 0,
    }
}

/// Everything of one function over one column and one length of windows.
struct Part {
    function: &'static str,
    column: String,
    length: Option<i64>,
    cells: usize,
    bytes: usize,
}

impl Plan {
    /// The most that windows take of one entity, in bytes; what is kept one by one comes on top of it: history, and windows that are exact.
    pub fn bytes_most(&self, outputs: &[Field]) -> usize {
        self.parts(outputs).iter().map(|part| part.bytes).sum()
    }

    /// What to say where that is more than is kept of an entity: which part of it is the largest, and what to change.
    pub fn too_large(&self, outputs: &[Field], bytes_max: usize) -> Option<String> {
        let (parts, most) = (self.parts(outputs), self.bytes_most(outputs));
        let largest = parts.iter().max_by_key(|part| part.bytes).filter(|_| most > bytes_max)?;
        let Part { function, column, length, cells, bytes } = largest;
        let over = length.map_or_else(|| "since the first event".to_owned(), |length| format!("over {} s", length / 1_000_000));
        let what = match cells {
            0 | 1 => "fewer or shorter lists, or fewer columns".to_owned(),
            cells => format!("fewer windows (each keeps up to {cells} tiles), one since the first event, or fewer columns"),
        };
        Some(format!(
            "the windows of one entity may come to {most} bytes, and {bytes_max} are kept (`entity_bytes_max`), so events may become dead letters, `too_large`. \
             The largest part is {function} of `{column}` {over}, {bytes} bytes (a text counts as {TEXT_BYTES}). Take {what}, or raise `entity_bytes_max`"
        ))
    }

    fn parts(&self, outputs: &[Field]) -> Vec<Part> {
        let of_window = |window: &Window| -> Vec<Part> {
            let tiles = window.tiles(self.exact);
            let part = |planned: &Planned| {
                let column = self.columns.get(planned.column).and_then(|(output, _)| outputs.get(*output));
                let bytes = cell_bytes(planned.shape, value_bytes(planned.kind, column.and_then(|column| column.width)));
                Part {
                    function: function(planned.shape),
                    column: planned.name.clone(),
                    length: window.length,
                    cells: tiles,
                    bytes: tiles * bytes,
                }
            };
            window.cells.iter().map(part).collect()
        };
        self.windows.iter().flat_map(of_window).collect()
    }
}

impl Window {
    /// How many tiles there may be.
    fn tiles(&self, exact: bool) -> usize {
        match self.length {
            Some(_) if exact => 0,
            // One is begun and one is partly beyond the far end.
            Some(_) if self.has_tiles() => TILES as usize + 2,
            _ => 1,
        }
    }
}

fn value_bytes(kind: Kind, width: Option<u32>) -> usize {
    match kind {
        Kind::Boolean => 1,
        Kind::Integer | Kind::Float | Kind::Timestamp => 8,
        Kind::Text | Kind::Bytes | Kind::List => 4 + TEXT_BYTES,
        Kind::Vector => 4 + 4 * width.unwrap_or_default() as usize,
    }
}

fn cell_bytes(shape: Shape, value: usize) -> usize {
    match shape {
        Shape::Count => 5,
        Shape::Integers => 5 + 16,
        Shape::Floats => 5 + 3 * 9,
        Shape::Squares => 5 + 6 * 9,
        Shape::Least | Shape::Greatest => 10,
        Shape::Earliest | Shape::Latest => 2 + STAMP_BYTES + value,
        Shape::Distinct => 44 + REGISTERS,
        Shape::Quantiles => 80 + BINS * BIN_BYTES,
        Shape::Newest(many) => 3 + STAMP_BYTES + many as usize * (1 + STAMP_BYTES + value),
        Shape::Frequent => 2 + FREQUENT_MAX * (3 + value),
    }
}

fn function(shape: Shape) -> &'static str {
    match shape {
        Shape::Count => "count",
        Shape::Integers | Shape::Floats => "sum or mean",
        Shape::Squares => "variance",
        Shape::Least => "min",
        Shape::Greatest => "max",
        Shape::Earliest => "first",
        Shape::Latest => "last",
        Shape::Distinct => "distinct",
        Shape::Quantiles => "quantile",
        Shape::Newest(_) => "last_values",
        Shape::Frequent => "top",
    }
}
