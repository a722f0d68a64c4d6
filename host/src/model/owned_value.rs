use std::borrow::Cow;

use super::{Kind, Timestamp, Value};

/// One value that is not null and that no column and no packed row holds: it was sent, or stands in another form than ours.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnedValue<'a> {
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A moment.
    Timestamp(Timestamp),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A vector: 4 bytes a number, little-endian.
    Vector(Vec<u8>),
    /// The kind of its values, and the values, packed.
    List(Kind, Vec<u8>),
}

impl OwnedValue<'_> {
    /// The same, borrowed.
    pub fn value(&self) -> Value<'_> {
        match self {
            OwnedValue::Boolean(truth) => Value::Boolean(*truth),
            OwnedValue::Integer(number) => Value::Integer(*number),
            OwnedValue::Float(number) => Value::Float(*number),
            OwnedValue::Timestamp(moment) => Value::Timestamp(*moment),
            OwnedValue::Text(text) => Value::Text(text),
            OwnedValue::Bytes(bytes) => Value::Bytes(bytes),
            OwnedValue::Vector(numbers) => Value::Vector(numbers),
            OwnedValue::List(of, values) => Value::List(*of, values),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            OwnedValue::Boolean(_) => Kind::Boolean,
            OwnedValue::Integer(_) => Kind::Integer,
            OwnedValue::Float(_) => Kind::Float,
            OwnedValue::Timestamp(_) => Kind::Timestamp,
            OwnedValue::Text(_) => Kind::Text,
            OwnedValue::Bytes(_) => Kind::Bytes,
            OwnedValue::Vector(_) => Kind::Vector,
            OwnedValue::List(..) => Kind::List,
        }
    }
}
