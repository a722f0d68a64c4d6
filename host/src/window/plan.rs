//! What to keep for the aggregations of a view, and how its features come out of it.

use super::cell::{Cell, Shape, ranked};
use super::frequent::top;
use super::most::Growth;
use super::wire::Reader;
use crate::model::{Aggregate, Aggregation, Field, Kept, Kind, Value};

/// Tiles in a window: the tail of a window is exact to one of them.
pub(super) const TILES: i64 = 60;

/// What a view keeps, resolved against its outputs. Immutable.
#[derive(Debug)]
pub struct Plan {
    /// The outputs that are aggregated: position and kind.
    pub(super) columns: Vec<(usize, Kind)>,
    pub(super) windows: Vec<Window>,
    pub(super) features: Vec<Feature>,
    /// How far back reads are answered, in microseconds.
    pub(super) history: i64,
    pub(super) exact: bool,
    pub(super) growth: Growth,
}

/// All aggregations over windows of one length, but for lists, which are apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    /// In microseconds; `None` since the first event.
    pub(super) length: Option<i64>,
    /// Length of a tile in microseconds: a sixtieth of the window, or nothing to round to.
    pub(super) tile: i64,
    /// Whether these are lists of the newest values. A read sees the newest of what is kept and nothing beyond, so as many are kept as a list may have, each with its
    /// moment: in one cell and no tiles.
    pub(super) lists: bool,
    pub(super) cells: Vec<Planned>,
}

/// One cell of each tile.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Planned {
    /// Position among the plan's columns.
    pub(super) column: usize,
    /// The column's name, for those who compare plans.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Of a vector.
    pub(super) width: Option<u32>,
    pub(super) shape: Shape,
}

impl Planned {
    /// Whether what is kept in this cell can go on in the other.
    pub(super) fn goes_on(&self, other: &Planned) -> bool {
        (&self.name, self.kind, self.width) == (&other.name, other.kind, other.width) && self.shape.answers_for(other.shape)
    }
}

/// A windowed feature: which cell it comes out of, and how.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) window: usize,
    pub(super) cell: usize,
    pub(super) function: Aggregate,
    /// Of the column.
    kind: Kind,
}

impl Plan {
    /// The plan for what is kept, which must have been checked against the outputs.
    pub fn new(outputs: &[Field], kept: &Kept) -> Plan {
        let history = i64::try_from(kept.history_secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let mut plan =
            Plan { columns: Vec::new(), windows: Vec::new(), features: Vec::new(), history, exact: kept.exact, growth: Growth::default() };
        for aggregation in &kept.aggregations {
            let Some(output) = outputs.iter().position(|field| field.name == aggregation.column) else { continue };
            let (kind, width) = outputs.get(output).map_or((Kind::Integer, None), |field| (field.kind, field.width));
            plan.add(output, (kind, width), aggregation, &kept.aggregations);
        }
        plan.growth = Growth::of(&plan);
        plan
    }

    fn add(&mut self, output: usize, (kind, width): (Kind, Option<u32>), aggregation: &Aggregation, all: &[Aggregation]) {
        let length = aggregation.window_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000));
        let column = self.columns.iter().position(|known| *known == (output, kind)).unwrap_or_else(|| {
            self.columns.push((output, kind));
            self.columns.len() - 1
        });
        let lists = matches!(aggregation.function, Aggregate::LastValues(_));
        let window = self.windows.iter().position(|known| (known.length, known.lists) == (length, lists)).unwrap_or_else(|| {
            let tile = length.filter(|_| !self.exact).map_or(1, |length| (length / TILES).max(1));
            self.windows.push(Window { length, tile, lists, cells: Vec::new() });
            self.windows.len() - 1
        });
        // Cells are shared by functions of the same shape only: what is kept for one feature must not depend on which others there are, or it would
        // be lost when they change.
        let neighbours = all.iter().filter(|other| other.column == aggregation.column && other.window_ms == aggregation.window_ms);
        let shape = neighbours.map(|other| shape(other.function, kind)).fold(shape(aggregation.function, kind), most);
        let Some(cells) = self.windows.get_mut(window).map(|window| &mut window.cells) else { return };
        let cell = cells.iter().position(|known| known.column == column && known.shape == shape).unwrap_or_else(|| {
            cells.push(Planned { column, name: aggregation.column.clone(), kind, width, shape });
            cells.len() - 1
        });
        self.features.push(Feature { window, cell, function: aggregation.function, kind });
    }

    /// How far back reads are answered, in microseconds.
    pub fn history(&self) -> i64 {
        self.history
    }

    /// How many features there are.
    pub fn features(&self) -> usize {
        self.features.len()
    }

    /// Whether there are windows at all.
    pub fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// The longest time that an event is within a window after it happened, in microseconds; `None` for ever.
    pub fn reach(&self) -> Option<i64> {
        let reaches = self.windows.iter().map(|window| Some(window.length?.saturating_add(window.tile)));
        reaches.collect::<Option<Vec<_>>>().map(|reaches| reaches.into_iter().max().unwrap_or(0))
    }

    /// The features, in their order, out of the cells of each window; hands each to `push`.
    pub(super) fn finish(&self, cells: &[Vec<Cell>], mut push: impl FnMut(Option<Value<'_>>)) {
        for feature in &self.features {
            match cells.get(feature.window).and_then(|cells| cells.get(feature.cell)) {
                Some(cell) => feature.finish(cell, &mut push),
                None => push(None),
            }
        }
    }
}

impl Window {
    /// The earliest event time that a read at this moment covers.
    pub(super) fn first(&self, at: i64) -> i64 {
        let Some(length) = self.length else { return i64::MIN };
        at.saturating_sub(length - 1).div_euclid(self.tile).saturating_mul(self.tile)
    }

    /// Whether a read at some moment covers this event time, or one later.
    pub(super) fn covers(&self, at: i64, time: i64) -> bool {
        // What is within the length needs no division.
        self.length.is_none_or(|length| time > at.saturating_sub(length)) || time >= self.first(at)
    }

    /// Whether there are tiles at all, and not one cell for everything.
    pub(super) fn has_tiles(&self) -> bool {
        self.length.is_some() && !self.lists
    }

    /// The number of the tile that an event time falls into.
    pub(super) fn number(&self, time: i64) -> i64 {
        if self.has_tiles() { time.div_euclid(self.tile) } else { 0 }
    }

    /// Whether an event time falls into the tile of this number.
    pub(super) fn is_within(&self, number: i64, time: i64) -> bool {
        !self.has_tiles() || (time.wrapping_sub(number.wrapping_mul(self.tile)) as u64) < self.tile as u64
    }

    /// The earliest moment at which a read covers nothing that is not later than this; `None` for never.
    pub(super) fn first_beyond(&self, time: i64) -> Option<i64> {
        let tile = time.saturating_add(1).saturating_add(self.tile - 1).div_euclid(self.tile);
        Some(tile.saturating_mul(self.tile).saturating_add(self.length? - 1))
    }

    /// The cells of a tile that has nothing in it.
    pub(super) fn new_cells(&self) -> Vec<Cell> {
        self.cells.iter().map(|planned| Cell::new(planned.shape)).collect()
    }

    /// The cells of a tile as they were stored.
    pub(super) fn read_cells(&self, stored: &[u8]) -> Option<Vec<Cell>> {
        let mut reader = Reader(stored);
        self.cells.iter().map(|planned| Cell::read(planned.shape, &mut reader)).collect()
    }
}

fn shape(function: Aggregate, kind: Kind) -> Shape {
    match function {
        Aggregate::Count => Shape::Count,
        Aggregate::Sum | Aggregate::Mean if kind == Kind::Integer => Shape::Integers,
        Aggregate::Sum | Aggregate::Mean => Shape::Floats,
        Aggregate::Variance => Shape::Squares,
        Aggregate::Min => Shape::Least,
        Aggregate::Max => Shape::Greatest,
        Aggregate::First => Shape::Earliest,
        Aggregate::Last => Shape::Latest,
        Aggregate::Distinct => Shape::Distinct,
        Aggregate::Quantile(_) => Shape::Quantiles,
        Aggregate::LastValues(many) => Shape::Newest(many),
        Aggregate::Top(_) => Shape::Frequent,
    }
}

/// Of two shapes of newest values the one that has more.
fn most(own: Shape, other: Shape) -> Shape {
    match (own, other) {
        (Shape::Newest(few), Shape::Newest(many)) => Shape::Newest(few.max(many)),
        _ => own,
    }
}

impl Feature {
    fn finish(&self, cell: &Cell, push: &mut impl FnMut(Option<Value<'_>>)) {
        match (self.function, cell) {
            (Aggregate::Count, Cell::Count(count)) => push(integer(*count)),
            (Aggregate::Sum | Aggregate::Mean, Cell::Integers(0, _)) => push(None),
            (Aggregate::Sum, Cell::Integers(_, sum)) => push(i64::try_from(*sum).ok().map(Value::Integer)),
            (Aggregate::Mean, Cell::Integers(count, sum)) => push(Some(Value::Float(mean(*sum, *count)))),
            (Aggregate::Sum | Aggregate::Mean, Cell::Floats(total)) => {
                let value = if self.function == Aggregate::Sum { total.sum() } else { total.mean() };
                push((total.count > 0).then_some(Value::Float(value)));
            }
            (Aggregate::Variance, Cell::Squares(squares)) => {
                push((squares.total.count > 0).then(|| Value::Float(squares.variance())));
            }
            (Aggregate::Min, Cell::Least(rank)) | (Aggregate::Max, Cell::Greatest(rank)) => push(rank.map(|rank| ranked(self.kind, rank))),
            (Aggregate::First, Cell::Earliest(kept)) | (Aggregate::Last, Cell::Latest(kept)) => {
                push(kept.as_ref().and_then(|kept| Value::unpack(self.kind, &mut kept.1.as_slice())));
            }
            (Aggregate::Distinct, Cell::Distinct(sketch)) => {
                let estimate = sketch.as_ref().map_or(0.0, |sketch| sketch.composite_estimate());
                push(integer(estimate.round() as u64));
            }
            (Aggregate::Quantile(at), Cell::Quantiles(sketch)) => {
                let value = sketch.as_ref().and_then(|sketch| sketch.quantile(at).ok().flatten());
                push(value.map(Value::Float));
            }
            (Aggregate::LastValues(many), Cell::Newest(newest)) => {
                push(Some(Value::List(self.kind, &joined(newest.values().take(many as usize)))));
            }
            (Aggregate::Top(many), Cell::Frequent(counts)) => {
                push(Some(Value::List(self.kind, &joined(top(counts, many as usize).into_iter()))));
            }
            _ => push(None),
        }
    }
}

/// The float nearest to the quotient, rounded once. `count` is not 0.
fn mean(sum: i128, count: u64) -> f64 {
    let (magnitude, count) = (sum.unsigned_abs(), u128::from(count.max(1)));
    // So far to the left that the quotient has at least 64 bits. What remains can only matter where it decides a tie, and there one bit says enough.
    let shift = magnitude.leading_zeros().min(127);
    let scaled = magnitude << shift;
    let quotient = (scaled / count) | u128::from(!scaled.is_multiple_of(count));
    let mean = quotient as f64 * 2_f64.powi(-(shift as i32));
    if sum < 0 { -mean } else { mean }
}

fn integer(number: u64) -> Option<Value<'static>> {
    Some(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn joined<'v>(values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    values.flatten().copied().collect()
}
