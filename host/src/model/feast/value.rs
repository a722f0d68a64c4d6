//! `feast.types.Value`: one field of a oneof, and nothing at all for null.

use std::borrow::Cow;

use super::protobuf::{Wire, fields, push_bytes_field, push_varint, take_fixed, take_varint};
use super::push_number;
use crate::model::{FeastType, Field, Kind, OwnedValue, Scalar, Timestamp, Value};

/// The number of a scalar's field; a list of it stands ten further.
fn number_of(scalar: Scalar) -> u64 {
    match scalar {
        Scalar::Bytes => 1,
        Scalar::String => 2,
        Scalar::Int32 => 3,
        Scalar::Int64 => 4,
        Scalar::Float64 => 5,
        Scalar::Float32 => 6,
        Scalar::Bool => 7,
        Scalar::UnixTimestamp => 8,
    }
}

/// How far lists stand from their scalars.
const LIST: u64 = 10;
/// How far sets do. To us they are lists.
const SET: [(u64, Scalar); 8] = [
    (22, Scalar::Bytes),
    (23, Scalar::String),
    (24, Scalar::Int32),
    (25, Scalar::Int64),
    (26, Scalar::Float64),
    (27, Scalar::Float32),
    (28, Scalar::Bool),
    (29, Scalar::UnixTimestamp),
];
/// JSON, UUID, decimal: texts.
const TEXTS: [u64; 3] = [32, 36, 44];

const SCALARS: [Scalar; 8] =
    [Scalar::Bytes, Scalar::String, Scalar::Int32, Scalar::Int64, Scalar::Float64, Scalar::Float32, Scalar::Bool, Scalar::UnixTimestamp];

/// Appends a value; nothing for null. Where a type was declared it says how wide numbers are; otherwise they are as wide as ours.
pub fn encode(out: &mut Vec<u8>, value: Option<Value<'_>>, declared: Option<FeastType>) {
    let scalar_of = |kind: Kind| match declared {
        Some(declared) if declared.scalar.kind() == kind => declared.scalar,
        _ => natural(kind),
    };
    match value {
        None => {}
        Some(Value::Numbers(numbers)) => {
            let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            push_list(out, Scalar::Float32, &numbers);
        }
        Some(Value::Vector(numbers)) => push_list(out, Scalar::Float32, numbers),
        Some(Value::List(kind, mut values)) => {
            let (scalar, mut items) = (scalar_of(kind), Vec::new());
            while let Some(value) = Value::unpack(kind, &mut values) {
                push_item(&mut items, scalar, value);
            }
            if matches!(scalar, Scalar::Bytes | Scalar::String) {
                push_bytes_field(out, number_of(scalar) + LIST, &items);
            } else {
                push_list(out, scalar, &items);
            }
        }
        Some(Value::Text(text)) => push_bytes_field(out, number_of(Scalar::String), text.as_bytes()),
        Some(Value::Bytes(bytes)) => push_bytes_field(out, number_of(Scalar::Bytes), bytes),
        Some(value @ Value::Boolean(_)) => push_scalar(out, Scalar::Bool, value),
        Some(value @ Value::Integer(_)) => push_scalar(out, scalar_of(Kind::Integer), value),
        Some(value @ Value::Float(_)) => push_scalar(out, scalar_of(Kind::Float), value),
        Some(value @ Value::Timestamp(_)) => push_scalar(out, Scalar::UnixTimestamp, value),
    }
}

/// Appends a number with its field.
fn push_scalar(out: &mut Vec<u8>, scalar: Scalar, value: Value<'_>) {
    let wire = match scalar {
        Scalar::Float64 => 1,
        Scalar::Float32 => 5,
        Scalar::Bytes | Scalar::String => 2,
        Scalar::Int32 | Scalar::Int64 | Scalar::Bool | Scalar::UnixTimestamp => 0,
    };
    push_varint(out, number_of(scalar) << 3 | wire);
    push_item(out, scalar, value);
}

/// Appends a value as it stands in a list: texts and bytes each in a field, numbers bare.
fn push_item(out: &mut Vec<u8>, scalar: Scalar, value: Value<'_>) {
    match value {
        Value::Float(number) if scalar == Scalar::Float32 => out.extend_from_slice(&(number as f32).to_le_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Boolean(truth) => out.push(u8::from(truth)),
        Value::Integer(number) => push_number(out, number),
        Value::Timestamp(moment) => push_number(out, moment.0.div_euclid(1_000_000)),
        Value::Text(text) => push_bytes_field(out, 1, text.as_bytes()),
        Value::Bytes(bytes) => push_bytes_field(out, 1, bytes),
        // Lists have no lists in them.
        Value::Vector(_) | Value::Numbers(_) | Value::List(..) => {}
    }
}

/// The type under which values of a kind are written that was not declared.
fn natural(kind: Kind) -> Scalar {
    match kind {
        Kind::Boolean => Scalar::Bool,
        Kind::Integer => Scalar::Int64,
        Kind::Float | Kind::Vector => Scalar::Float64,
        Kind::Timestamp => Scalar::UnixTimestamp,
        Kind::Bytes => Scalar::Bytes,
        Kind::Text | Kind::List => Scalar::String,
    }
}

/// A message with one field of packed numbers; an empty one where there are none.
fn push_list(out: &mut Vec<u8>, scalar: Scalar, numbers: &[u8]) {
    let mut list = Vec::with_capacity(numbers.len() + 4);
    if !numbers.is_empty() {
        push_bytes_field(&mut list, 1, numbers);
    }
    push_bytes_field(out, number_of(scalar) + LIST, &list);
}

/// A value as this field has it; `None` for null, for what is cut short, and for a value of another kind.
pub fn decode<'a>(bytes: &'a [u8], field: &Field) -> Option<OwnedValue<'a>> {
    let (number, wire) = fields(bytes).last()??;
    let value = match wire {
        Wire::Bytes(text) if TEXTS.contains(&number) || number == number_of(Scalar::String) => {
            OwnedValue::Text(Cow::Borrowed(std::str::from_utf8(text).ok()?))
        }
        Wire::Bytes(bytes) if number == number_of(Scalar::Bytes) => OwnedValue::Bytes(Cow::Borrowed(bytes)),
        Wire::Bytes(list) => {
            let of_list = SCALARS.iter().find(|scalar| number_of(**scalar) + LIST == number);
            let of_set = SET.iter().find(|(set, _)| *set == number).map(|(_, scalar)| scalar);
            decode_list(list, *of_list.or(of_set)?, field)?
        }
        Wire::Fixed64(bytes) if number == number_of(Scalar::Float64) => OwnedValue::Float(f64::from_le_bytes(bytes)),
        Wire::Fixed32(bytes) if number == number_of(Scalar::Float32) => OwnedValue::Float(f64::from(f32::from_le_bytes(bytes))),
        Wire::Varint(value) => scalar_of(number, value)?,
        Wire::Fixed64(_) | Wire::Fixed32(_) => return None,
    };
    (value.kind() == field.kind).then_some(value)
}

fn scalar_of(number: u64, value: u64) -> Option<OwnedValue<'static>> {
    match SCALARS.iter().find(|scalar| number_of(**scalar) == number)? {
        Scalar::Int32 | Scalar::Int64 => Some(OwnedValue::Integer(value as i64)),
        Scalar::Bool => Some(OwnedValue::Boolean(value != 0)),
        // The least number stands for no time.
        Scalar::UnixTimestamp => Some(OwnedValue::Timestamp(Timestamp((value as i64).checked_mul(1_000_000)?))),
        Scalar::Bytes | Scalar::String | Scalar::Float64 | Scalar::Float32 => None,
    }
}

fn decode_list(list: &[u8], scalar: Scalar, field: &Field) -> Option<OwnedValue<'static>> {
    let mut packed = Vec::new();
    for item in fields(list) {
        let (1, wire) = item? else { continue };
        match (wire, scalar) {
            (Wire::Bytes(text), Scalar::String) => Value::Text(std::str::from_utf8(text).ok()?).pack(&mut packed),
            (Wire::Bytes(bytes), Scalar::Bytes) => Value::Bytes(bytes).pack(&mut packed),
            (Wire::Bytes(mut numbers), _) => {
                while !numbers.is_empty() {
                    take_number(&mut numbers, scalar)?.value().pack(&mut packed);
                }
            }
            (Wire::Varint(number), _) => scalar_of(number_of(scalar), number)?.value().pack(&mut packed),
            (Wire::Fixed64(bytes), Scalar::Float64) => Value::Float(f64::from_le_bytes(bytes)).pack(&mut packed),
            (Wire::Fixed32(bytes), Scalar::Float32) => Value::Float(f64::from(f32::from_le_bytes(bytes))).pack(&mut packed),
            (Wire::Fixed64(_) | Wire::Fixed32(_), _) => return None,
        }
    }
    if field.kind != Kind::Vector {
        return Some(OwnedValue::List(scalar.kind(), packed));
    }
    let numbers = packed.as_chunks::<8>().0.iter().flat_map(|number| (f64::from_le_bytes(*number) as f32).to_le_bytes());
    let numbers: Vec<u8> = numbers.collect();
    let is_wide = field.width.is_some_and(|width| numbers.len() == width as usize * 4);
    (scalar.kind() == Kind::Float && is_wide).then_some(OwnedValue::Vector(numbers))
}

fn take_number(numbers: &mut &[u8], scalar: Scalar) -> Option<OwnedValue<'static>> {
    match scalar {
        Scalar::Float64 => take_fixed(numbers).map(|bytes| OwnedValue::Float(f64::from_le_bytes(bytes))),
        Scalar::Float32 => take_fixed(numbers).map(|bytes| OwnedValue::Float(f64::from(f32::from_le_bytes(bytes)))),
        Scalar::Int32 | Scalar::Int64 | Scalar::Bool | Scalar::UnixTimestamp => scalar_of(number_of(scalar), take_varint(numbers)?),
        Scalar::Bytes | Scalar::String => None,
    }
}
