//! Runs the whole batch path of a transform natively: events in, rows of features out, no WebAssembly.
//!
//! ```
//! # use gristmill_sdk::prelude::*;
//! use gristmill_sdk::{row, testing};
//! # #[derive(Input)] struct Reading<'a> { id: &'a str, value: f64 }
//! # #[derive(Output)] struct Features { doubled: f64 }
//! # #[transform(entity = "id")] fn double(reading: Reading) -> Features { let _ = reading.id; Features { doubled: reading.value * 2.0 } }
//! let outcome = testing::run::<DoubleTransform>("", &[row! { "id" => "a", "value" => 2.0 }]).unwrap();
//! assert_eq!(outcome.rows[0].values["doubled"], 4.0.into());
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;

use crate::fold::Fold;
#[cfg(not(target_arch = "wasm32"))]
use crate::log::Level;
use crate::transform::Transform;
use crate::wire::{Batch, Column, Field, Kind, Output, Packed, Spec, Values, Vectors};

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the contract")]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Timestamp(crate::Timestamp),
    Vector(Vec<f32>),
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from!(bool => Boolean, i64 => Integer, i32 => Integer, f64 => Float, &str => Text, String => Text, Vec<u8> => Bytes,
    crate::Timestamp => Timestamp, Vec<f32> => Vector);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Field names and values. A field that is absent is null.
pub type Row = BTreeMap<String, Value>;

/// Makes a [`Row`]: `row! { "id" => "a", "value" => 2.0 }`.
#[macro_export]
macro_rules! row {
    ($($name:literal => $value:expr),* $(,)?) => {
        $crate::testing::Row::from([$((::std::string::String::from($name), $crate::testing::Value::from($value))),*])
    };
}

/// One row of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Index of the event that it comes from.
    pub origin: usize,
    /// Its values.
    pub values: Row,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Rows of features, in order.
    pub rows: Vec<Feature>,
    /// Index and reason of each event that was refused.
    pub rejected: Vec<(usize, String)>,
}

/// Describes the transform with these settings (JSON, or empty), then applies it to one batch of events.
///
/// # Errors
/// What the transform itself says; and when an event has a value of the wrong kind, or lacks a field that takes no null and has no
/// default (the host would make it a dead letter before the transform sees it). Defaults are decoded for numbers, booleans and text.
pub fn run<T: Transform>(settings: &str, events: &[Row]) -> Result<Outcome, String> {
    let spec = T::describe(settings)?;
    let columns = spec.inputs.iter().map(|field| encode(field, events)).collect::<Result<_, _>>()?;
    Ok(outcome(&spec, T::apply(Batch { rows: events.len() as u32, columns })?))
}

/// What the host keeps between two batches of a fold: the bytes of each entity's state, by the values of its key.
pub type States = Vec<(Vec<Value>, Vec<u8>)>;

/// Describes the fold with these settings, then folds one batch of events into the states. Origins and refusals are told by the index of the event.
///
/// # Errors
/// As for [`run`].
pub fn run_fold<F: Fold>(settings: &str, events: &[Row], states: &mut States) -> Result<Outcome, String> {
    let spec = F::describe(settings)?;
    let mut entities: Vec<(Vec<Value>, Vec<usize>)> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let key: Vec<Value> = spec.entity.iter().map(|name| event.get(name).cloned().unwrap_or(Value::Null)).collect();
        match entities.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(index),
            None => entities.push((key, vec![index])),
        }
    }
    let order: Vec<usize> = entities.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
    let grouped: Vec<Row> = order.iter().filter_map(|index| events.get(*index).cloned()).collect();
    let mut groups = vec![0];
    let mut end = 0;
    for (_, rows) in &entities {
        end += rows.len() as u32;
        groups.push(end);
    }
    let kept = |key: &Vec<Value>| states.iter().find(|(known, _)| known == key).map(|(_, state)| state.clone());
    let before: Vec<Row> = entities.iter().map(|(key, _)| Row::from([("state".to_owned(), Value::from(kept(key)))])).collect();
    let field = Field { name: "state".to_owned(), kind: Kind::Bytes, nullable: true, default: None, width: None, doc: String::new() };
    let columns = spec.inputs.iter().map(|field| encode(field, &grouped)).collect::<Result<_, _>>()?;
    let folded = F::apply(Batch { rows: events.len() as u32, columns }, &groups, encode(&field, &before)?)?;
    for (group, (key, _)) in entities.into_iter().enumerate() {
        states.retain(|(known, _)| *known != key);
        if let Value::Bytes(state) = decode(&folded.states, group) {
            states.push((key, state));
        }
    }
    let mut outcome = outcome(&spec, folded.output);
    let event = |row: usize| order.get(row).copied().unwrap_or(row);
    outcome.rows.iter_mut().for_each(|row| row.origin = event(row.origin));
    outcome.rejected.iter_mut().for_each(|(row, _)| *row = event(*row));
    outcome.rows.sort_by_key(|row| row.origin);
    Ok(outcome)
}

fn outcome(spec: &Spec, output: Output) -> Outcome {
    let rows = (0..output.batch.rows as usize)
        .map(|row| Feature {
            origin: output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize)),
            values: spec
                .outputs
                .iter()
                .zip(&output.batch.columns)
                .map(|(field, column)| (field.name.clone(), decode(column, row)))
                .collect(),
        })
        .collect();
    let rejected = output.rejected.into_iter().map(|rejection| (rejection.row as usize, rejection.reason)).collect();
    Outcome { rows, rejected }
}

/// Takes the lines that transforms logged on this thread, each as its level and message.
pub fn logged() -> Vec<(String, String)> {
    LINES.with(|lines| mem::take(&mut *lines.borrow_mut()))
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn keep_line(level: Level, message: &str) {
    LINES.with(|lines| lines.borrow_mut().push((format!("{level:?}").to_lowercase(), message.to_owned())));
}

thread_local! {
    static LINES: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

fn encode(field: &Field, events: &[Row]) -> Result<Column, String> {
    let mut validity = vec![0xff_u8; events.len().div_ceil(8)];
    let mut nulls = false;
    let mut values = empty(field);
    for (row, event) in events.iter().enumerate() {
        let given = event.get(&field.name).filter(|value| **value != Value::Null).cloned();
        let value = given.or_else(|| field.default.as_deref().and_then(|text| parse(field.kind, text))).unwrap_or(Value::Null);
        if value == Value::Null {
            if !field.nullable {
                return Err(format!("event {row} lacks the field {}, which takes no null", field.name));
            }
            nulls = true;
            if let Some(byte) = validity.get_mut(row / 8) {
                *byte &= !(1 << (row % 8));
            }
        }
        push(&mut values, value).map_err(|value| format!("event {row} has {value:?} in the field {}, a {:?}", field.name, field.kind))?;
    }
    Ok(Column { values, validity: nulls.then_some(validity) })
}

fn empty(field: &Field) -> Values {
    let packed = || Packed { offsets: vec![0], bytes: Vec::new() };
    match field.kind {
        Kind::Boolean => Values::Booleans(Vec::new()),
        Kind::Integer => Values::Integers(Vec::new()),
        Kind::Float => Values::Floats(Vec::new()),
        Kind::Text => Values::Texts(packed()),
        Kind::Bytes => Values::Blobs(packed()),
        Kind::Timestamp => Values::Timestamps(Vec::new()),
        Kind::Vector => Values::Vectors(Vectors { width: field.width.unwrap_or(1), values: Vec::new() }),
    }
}

fn parse(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Boolean => text.parse().ok().map(Value::Boolean),
        Kind::Integer => text.parse().ok().map(Value::Integer),
        Kind::Float => text.parse().ok().map(Value::Float),
        Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Bytes | Kind::Timestamp | Kind::Vector => None,
    }
}

// A null is pushed as its placeholder. A value of another kind comes back.
fn push(values: &mut Values, value: Value) -> Result<(), Value> {
    match (values, value) {
        (Values::Booleans(to), Value::Boolean(value)) => to.push(value.into()),
        (Values::Integers(to), Value::Integer(value)) => to.push(value),
        (Values::Floats(to), Value::Float(value)) => to.push(value),
        (Values::Floats(to), Value::Integer(value)) => to.push(value as f64),
        (Values::Timestamps(to), Value::Timestamp(value)) => to.push(value.micros()),
        (Values::Texts(to), Value::Text(value)) => push_bytes(to, value.as_bytes()),
        (Values::Blobs(to), Value::Bytes(value)) => push_bytes(to, &value),
        (Values::Vectors(to), Value::Vector(value)) if value.len() == to.width as usize => to.values.extend(value),
        (Values::Booleans(to), Value::Null) => to.push(0),
        (Values::Integers(to) | Values::Timestamps(to), Value::Null) => to.push(0),
        (Values::Floats(to), Value::Null) => to.push(0.0),
        (Values::Texts(to) | Values::Blobs(to), Value::Null) => push_bytes(to, &[]),
        (Values::Vectors(to), Value::Null) => to.values.resize(to.values.len() + to.width as usize, 0.0),
        (_, value) => return Err(value),
    }
    Ok(())
}

fn push_bytes(packed: &mut Packed, value: &[u8]) {
    packed.bytes.extend_from_slice(value);
    packed.offsets.push(packed.bytes.len() as u32);
}

fn decode(column: &Column, row: usize) -> Value {
    if column.validity.as_ref().and_then(|bits| bits.get(row / 8)).is_some_and(|byte| byte >> (row % 8) & 1 == 0) {
        return Value::Null;
    }
    match &column.values {
        Values::Booleans(values) => values.get(row).map(|value| *value != 0).into(),
        Values::Integers(values) => values.get(row).copied().into(),
        Values::Floats(values) => values.get(row).copied().into(),
        Values::Timestamps(values) => values.get(row).copied().map(crate::Timestamp::from_micros).into(),
        Values::Texts(packed) => cut(packed, row).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).into(),
        Values::Blobs(packed) => cut(packed, row).into(),
        Values::Vectors(vectors) => vectors.values.chunks(vectors.width.max(1) as usize).nth(row).map(<[f32]>::to_vec).into(),
    }
}

fn cut(packed: &Packed, row: usize) -> Option<Vec<u8>> {
    let (start, end) = (*packed.offsets.get(row)?, *packed.offsets.get(row + 1)?);
    packed.bytes.get(start as usize..end as usize).map(<[u8]>::to_vec)
}
