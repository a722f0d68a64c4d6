//! What is kept of the values of one column in one tile: enough to compute a function over any number of tiles, in any order.

use std::collections::VecDeque;

use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};
use sketches_ddsketch::DDSketch;

use super::frequent::{Counts, most_frequent, read_counts};
use super::quantiles;
use super::total::{Squares, Total};
use super::wire::{Reader, push_float, push_number, push_run, push_word, word_bytes};
use crate::model::{Kind, Timestamp, Value, Version};

/// Base-two logarithm of the registers of a sketch of distinct values: a standard error of 1.04 / sqrt(2^11), 2.3 %; up to 190 values it counts
/// nearly exactly.
const DISTINCT_LOG: u8 = 11;
/// How many registers these are.
pub(super) const REGISTERS: usize = 1 << DISTINCT_LOG;

/// Which cell a function needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Count,
    Integers,
    Floats,
    Squares,
    Least,
    Greatest,
    Earliest,
    Latest,
    Distinct,
    Quantiles,
    Newest(u32),
    Frequent,
}

impl Shape {
    /// Whether what is kept in this shape can go on in the other: the newest values may become more or fewer.
    pub(super) fn answers_for(self, other: Shape) -> bool {
        self == other || matches!((self, other), (Shape::Newest(_), Shape::Newest(_)))
    }
}

/// A value and when it came.
type Stamped = (Version, Vec<u8>);

/// The newest values.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    /// How many, at most.
    many: u32,
    /// Newest first.
    kept: VecDeque<Stamped>,
    /// Older ones are not known: they were more than were kept at some time.
    known_from: Option<Version>,
}

impl Newest {
    /// Newest first.
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().map(|(_, value)| value.as_slice())
    }

    /// Of equal versions the one that is added later counts as the newer.
    fn add(&mut self, version: Version, value: impl FnOnce() -> Vec<u8>) {
        let at = self.kept.partition_point(|(known, _)| *known > version);
        if at < self.many as usize && self.known_from.is_none_or(|from| from <= version) {
            self.kept.insert(at, (version, value()));
            self.kept.truncate(self.many as usize);
        }
    }

    /// Forgets those from before a moment.
    fn forget_before(&mut self, time: i64) {
        self.kept.truncate(self.kept.partition_point(|(version, _)| version.event_time.0 >= time));
    }

    fn merge(&mut self, other: Newest) {
        self.known_from = self.known_from.max(other.known_from);
        for (version, value) in other.kept.into_iter().rev() {
            self.add(version, || value);
        }
        if let Some(from) = self.known_from {
            self.kept.retain(|(version, _)| *version >= from);
        }
    }
}

/// See the module. Values are kept in their packed form.
#[derive(Clone)]
pub(super) enum Cell {
    Count(u64),
    Integers(u64, i128),
    Floats(Total),
    Squares(Squares),
    Least(Option<i64>),
    Greatest(Option<i64>),
    Earliest(Option<Box<Stamped>>),
    Latest(Option<Box<Stamped>>),
    Distinct(Option<Box<HllSketch>>),
    Quantiles(Option<Box<DDSketch>>),
    Newest(Newest),
    Frequent(Counts),
}

impl Cell {
    pub(super) fn new(shape: Shape) -> Cell {
        match shape {
            Shape::Count => Cell::Count(0),
            Shape::Integers => Cell::Integers(0, 0),
            Shape::Floats => Cell::Floats(Total::default()),
            Shape::Squares => Cell::Squares(Squares::default()),
            Shape::Least => Cell::Least(None),
            Shape::Greatest => Cell::Greatest(None),
            Shape::Earliest => Cell::Earliest(None),
            Shape::Latest => Cell::Latest(None),
            Shape::Distinct => Cell::Distinct(None),
            Shape::Quantiles => Cell::Quantiles(None),
            Shape::Newest(many) => Cell::Newest(Newest { many, kept: VecDeque::new(), known_from: None }),
            Shape::Frequent => Cell::Frequent(Counts::default()),
        }
    }

    /// Takes in one value that is not null. Of equal versions the one that is added later counts as the newer.
    pub(super) fn add(&mut self, version: Version, value: &Value<'_>) {
        match self {
            Cell::Count(count) => *count += 1,
            Cell::Integers(count, sum) => {
                *count += 1;
                *sum += i128::from(rank(value));
            }
            Cell::Floats(total) => total.add(float(value)),
            Cell::Squares(squares) => squares.add(float(value)),
            Cell::Least(least) => *least = Some(least.map_or(rank(value), |least| least.min(rank(value)))),
            Cell::Greatest(greatest) => *greatest = (*greatest).max(Some(rank(value))),
            Cell::Earliest(Some(kept)) if kept.0 <= version => {}
            Cell::Latest(Some(kept)) if kept.0 > version => {}
            Cell::Earliest(kept) | Cell::Latest(kept) => *kept = Some(Box::new((version, packed(value)))),
            Cell::Distinct(sketch) => {
                if sketch.is_none() {
                    *sketch = HllSketch::new(DISTINCT_LOG, HllType::Hll8).ok().map(Box::new);
                }
                if let Some(sketch) = sketch {
                    sketch.update(raw_bytes::from_slice(&identity(value)));
                }
            }
            Cell::Quantiles(sketch) => {
                let number = float(value);
                if number.is_finite() {
                    sketch.get_or_insert_default().add(number);
                }
            }
            Cell::Newest(newest) => newest.add(version, || packed(value)),
            Cell::Frequent(counts) => *counts.entry(identity(value)).or_default() += 1,
        }
    }

    /// Takes in what another cell of the same shape has. One of another shape changes nothing.
    pub(super) fn merge(&mut self, other: Cell) {
        match (self, other) {
            (Cell::Count(count), Cell::Count(more)) => *count += more,
            (Cell::Integers(count, sum), Cell::Integers(more, of_more)) => {
                *count += more;
                *sum += of_more;
            }
            (Cell::Floats(total), Cell::Floats(other)) => total.merge(&other),
            (Cell::Squares(squares), Cell::Squares(other)) => squares.merge(&other),
            (Cell::Least(least), Cell::Least(other)) => *least = least.iter().copied().chain(other).min(),
            (Cell::Greatest(greatest), Cell::Greatest(other)) => *greatest = (*greatest).max(other),
            (Cell::Earliest(kept), Cell::Earliest(Some(other))) if kept.as_ref().is_none_or(|kept| other.0 < kept.0) => *kept = Some(other),
            (Cell::Latest(kept), Cell::Latest(Some(other))) if kept.as_ref().is_none_or(|kept| other.0 >= kept.0) => *kept = Some(other),
            (Cell::Distinct(sketch), Cell::Distinct(Some(other))) => match sketch {
                None => *sketch = Some(other),
                Some(known) => {
                    if let Ok(mut union) = HllUnion::new(DISTINCT_LOG) {
                        union.update(known);
                        union.update(&other);
                        **known = union.to_sketch(HllType::Hll8);
                    }
                }
            },
            (Cell::Quantiles(sketch), Cell::Quantiles(Some(other))) => match sketch {
                None => *sketch = Some(other),
                // All are made with the same settings, the only thing that could differ.
                Some(known) => drop(known.merge(&other)),
            },
            (Cell::Newest(newest), Cell::Newest(other)) => newest.merge(other),
            (Cell::Frequent(counts), Cell::Frequent(other)) => {
                for (value, count) in other {
                    *counts.entry(value).or_default() += count;
                }
            }
            _ => {}
        }
    }

    /// Takes in what a cell of this shape has stored, from the front of what the reader goes along.
    pub(super) fn merge_stored(&mut self, shape: Shape, reader: &mut Reader<'_>) -> Option<()> {
        match self {
            // A read merges some hundreds of these: each is taken from where it is.
            Cell::Count(count) => *count += reader.number()?,
            Cell::Floats(total) => total.merge(&Total::read(reader)?),
            Cell::Least(least) => *least = least.iter().copied().chain(read_rank(reader)?).min(),
            Cell::Greatest(greatest) => *greatest = (*greatest).max(read_rank(reader)?),
            Cell::Frequent(counts) => read_counts(counts, reader)?,
            Cell::Integers(..)
            | Cell::Squares(_)
            | Cell::Earliest(_)
            | Cell::Latest(_)
            | Cell::Distinct(_)
            | Cell::Quantiles(_)
            | Cell::Newest(_) => self.merge(Cell::read(shape, reader)?),
        }
        Some(())
    }

    /// Forgets what is older than this moment, where each value has its own.
    pub(super) fn forget_before(&mut self, time: i64) {
        if let Cell::Newest(newest) = self {
            newest.forget_before(time);
        }
    }

    /// To go on in another shape: where that keeps more, what was given up stays unknown.
    pub(super) fn to_go_on(&self, shape: Shape) -> Cell {
        let mut cell = self.clone();
        if let (Cell::Newest(newest), Shape::Newest(many)) = (&mut cell, shape)
            && many > newest.many
            && newest.kept.len() >= newest.many as usize
        {
            newest.known_from = newest.known_from.max(newest.kept.back().map(|(version, _)| *version));
        }
        cell
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Count(count) => push_number(out, *count),
            Cell::Integers(count, sum) => {
                push_number(out, *count);
                out.extend_from_slice(&sum.to_le_bytes());
            }
            Cell::Floats(total) => total.push(out),
            Cell::Squares(squares) => squares.push(out),
            Cell::Least(rank) | Cell::Greatest(rank) => {
                push_rank(out, *rank);
            }
            Cell::Earliest(kept) | Cell::Latest(kept) => {
                out.push(u8::from(kept.is_some()));
                if let Some(kept) = kept {
                    push_stamped(out, kept);
                }
            }
            Cell::Distinct(sketch) => push_run(out, &sketch.as_ref().map(|sketch| sketch.serialize()).unwrap_or_default()),
            Cell::Quantiles(sketch) => push_run(out, &sketch.as_ref().map(|sketch| sketch.to_java_bytes()).unwrap_or_default()),
            Cell::Newest(Newest { kept, known_from, .. }) => {
                push_number(out, (kept.len() as u64) << 1 | u64::from(known_from.is_some()));
                known_from.iter().for_each(|from| out.extend_from_slice(&from.to_bytes()));
                kept.iter().for_each(|kept| push_stamped(out, kept));
            }
            Cell::Frequent(counts) => {
                let kept = most_frequent(counts);
                push_number(out, kept.len() as u64);
                for (count, value) in kept {
                    push_run(out, value);
                    push_number(out, count);
                }
            }
        }
    }

    pub(super) fn read(shape: Shape, reader: &mut Reader<'_>) -> Option<Cell> {
        let stamped = |reader: &mut Reader<'_>| {
            let is_some = reader.byte()? != 0;
            Some(if is_some { Some(Box::new(read_stamped(reader)?)) } else { None })
        };
        Some(match shape {
            Shape::Count => Cell::Count(reader.number()?),
            Shape::Integers => Cell::Integers(reader.number()?, i128::from_le_bytes(reader.array()?)),
            Shape::Floats => Cell::Floats(Total::read(reader)?),
            Shape::Squares => Cell::Squares(Squares::read(reader)?),
            Shape::Least => Cell::Least(read_rank(reader)?),
            Shape::Greatest => Cell::Greatest(read_rank(reader)?),
            Shape::Earliest => Cell::Earliest(stamped(reader)?),
            Shape::Latest => Cell::Latest(stamped(reader)?),
            Shape::Distinct => match reader.run()? {
                [] => Cell::Distinct(None),
                bytes => Cell::Distinct(Some(Box::new(HllSketch::deserialize(bytes).ok()?))),
            },
            Shape::Quantiles => match reader.run()? {
                [] => Cell::Quantiles(None),
                bytes => Cell::Quantiles(Some(Box::new(quantiles::read(bytes)?))),
            },
            Shape::Newest(many) => {
                let head = reader.number()?;
                let known_from = if head & 1 == 1 { Some(Version::from_bytes(reader.array()?)) } else { None };
                let kept = (0..head >> 1).map(|_| read_stamped(reader)).collect::<Option<_>>()?;
                Cell::Newest(Newest { many, kept, known_from })
            }
            Shape::Frequent => {
                let mut counts = Counts::default();
                read_counts(&mut counts, reader)?;
                Cell::Frequent(counts)
            }
        })
    }
}

/// Round integers are short as they are, floats that are round or decimals as floats.
fn push_rank(out: &mut Vec<u8>, rank: Option<i64>) {
    let Some(rank) = rank else { return out.push(0) };
    let (from, as_integer) = (out.len(), 1 + word_bytes(rank as u64) as usize);
    out.push(2);
    push_float(out, f64::from_bits(of_bits(rank) as u64));
    if out.len() - from >= as_integer {
        out.truncate(from);
        out.push(1);
        push_word(out, rank as u64);
    }
}

fn read_rank(reader: &mut Reader<'_>) -> Option<Option<i64>> {
    Some(match reader.byte()? {
        0 => None,
        1 => Some(reader.word()? as i64),
        _ => Some(of_bits(reader.float()?.to_bits() as i64)),
    })
}

fn push_stamped(out: &mut Vec<u8>, (version, value): &Stamped) {
    out.extend_from_slice(&version.to_bytes());
    push_run(out, value);
}

fn read_stamped(reader: &mut Reader<'_>) -> Option<Stamped> {
    Some((Version::from_bytes(reader.array()?), reader.run()?.to_vec()))
}

fn packed(value: &Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.pack(&mut bytes);
    bytes
}

/// The packed form in which equal values are equal: of floats, zeros without a sign and one NaN.
fn identity(value: &Value<'_>) -> Vec<u8> {
    let Value::Float(number) = *value else { return packed(value) };
    packed(&Value::Float(if number.is_nan() { f64::NAN } else { number + 0.0 }))
}

/// A number that sorts as the value does: floats as IEEE 754 orders all of them, NaN beyond the infinities whatever its sign.
fn rank(value: &Value<'_>) -> i64 {
    match *value {
        Value::Integer(number) | Value::Timestamp(Timestamp(number)) => number,
        Value::Float(number) => of_bits(if number.is_nan() { f64::NAN } else { number }.to_bits() as i64),
        Value::Boolean(_) | Value::Text(_) | Value::Bytes(_) | Value::Vector(_) | Value::Numbers(_) | Value::List(..) => 0,
    }
}

/// Its own inverse.
fn of_bits(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The value that has this rank.
pub(super) fn ranked(kind: Kind, rank: i64) -> Value<'static> {
    match kind {
        Kind::Float => Value::Float(f64::from_bits(of_bits(rank) as u64)),
        Kind::Timestamp => Value::Timestamp(Timestamp(rank)),
        Kind::Boolean | Kind::Integer | Kind::Text | Kind::Bytes | Kind::Vector | Kind::List => Value::Integer(rank),
    }
}

fn float(value: &Value<'_>) -> f64 {
    match *value {
        Value::Float(number) => number,
        Value::Integer(number) => number as f64,
        Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Vector(_)
        | Value::Numbers(_)
        | Value::List(..) => f64::NAN,
    }
}
