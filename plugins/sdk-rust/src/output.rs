//! Output columns: filled row by row or taken from whole vectors.

use crate::timestamp::Timestamp;
use crate::wire::{Column, Field, Kind, Packed, Values, Vectors};

/// A row that a transform returns. Derived.
pub trait Output {
    /// The columns that rows are written to.
    type Columns: OutputColumns;

    /// Adds the row at the end of the columns.
    fn push(self, columns: &mut Self::Columns);
}

/// The columns that a transform returns. Derived, as `YColumns` beside the row struct `Y`.
pub trait OutputColumns: Sized {
    /// What the spec says about them.
    fn fields() -> Vec<Field>;

    /// No rows, and room for this many.
    fn with_capacity(rows: usize) -> Self;

    /// Says whether every column has this many rows.
    ///
    /// # Errors
    /// When one has not; it is named.
    fn check_rows(&self, rows: usize) -> Result<(), String>;

    /// The columns as they cross the boundary, in the order of the spec.
    fn finish(self) -> Vec<Column>;
}

/// A value of one field of a row of features.
#[diagnostic::on_unimplemented(
    message = "an output field cannot be a `{Self}`",
    label = "not a type of the contract",
    note = "use bool, i64, f64, &str, String, &[u8], Vec<u8>, Timestamp or [f32; N], or an Option of one of them"
)]
pub trait OutputValue: Sized {
    /// What builds its column.
    type Builder: BuildColumn;

    /// Whether the transform may return null.
    const NULLABLE: bool = false;

    /// Adds the value to its column.
    fn push_to(self, builder: &mut Self::Builder);
}

/// A column under construction.
pub trait BuildColumn: Sized {
    /// What its values are.
    const KIND: Kind;

    /// Numbers in one value, of vectors.
    const WIDTH: Option<u32> = None;

    /// No rows, and room for this many.
    fn with_capacity(rows: usize) -> Self;

    /// Rows so far.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a null.
    fn push_null(&mut self);

    /// The column as it crosses the boundary.
    fn finish(self) -> Column;
}

impl<T: OutputValue> OutputValue for Option<T> {
    type Builder = T::Builder;
    const NULLABLE: bool = true;

    fn push_to(self, builder: &mut T::Builder) {
        match self {
            Some(value) => value.push_to(builder),
            None => builder.push_null(),
        }
    }
}

/// Says whether a column has as many rows as its batch. The derive calls it.
///
/// # Errors
/// When it has not.
pub fn check_len(builder: &impl BuildColumn, name: &str, rows: usize) -> Result<(), String> {
    let len = builder.len();
    if len == rows { Ok(()) } else { Err(format!("the transform returned {len} rows in the column {name} for a batch of {rows}")) }
}

// Rows that are null, in order. Most columns have none, and then there is nothing to build.
#[derive(Debug, Default)]
struct Nulls(Vec<usize>);

impl Nulls {
    fn finish(self, rows: usize) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let mut bits = vec![0xff_u8; rows.div_ceil(8)];
        for row in self.0 {
            if let Some(byte) = bits.get_mut(row / 8) {
                *byte &= !(1 << (row % 8));
            }
        }
        Some(bits)
    }
}

/// A column of booleans (as bytes, 1 or 0), integers, floats or moments. Made from a `Vec`, from an iterator, or row by row.
#[derive(Debug)]
pub struct Builder<T> {
    values: Vec<T>,
    nulls: Nulls,
}

impl<T: Default> Builder<T> {
    /// Adds a value, or null.
    pub fn push(&mut self, value: Option<T>) {
        if value.is_none() {
            self.nulls.0.push(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }
}

impl<T> From<Vec<T>> for Builder<T> {
    fn from(values: Vec<T>) -> Self {
        Self { values, nulls: Nulls::default() }
    }
}

impl<T> FromIterator<T> for Builder<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::from(Vec::from_iter(values))
    }
}

impl<T: Default> FromIterator<Option<T>> for Builder<T> {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(values: I) -> Self {
        let mut builder = Self::from(Vec::new());
        values.into_iter().for_each(|value| builder.push(value));
        builder
    }
}

macro_rules! plain_builder {
    ($value:ty, $kind:ident, $variant:ident, $to_wire:expr) => {
        impl BuildColumn for Builder<$value> {
            const KIND: Kind = Kind::$kind;

            fn with_capacity(rows: usize) -> Self {
                Self::from(Vec::with_capacity(rows))
            }

            fn len(&self) -> usize {
                self.values.len()
            }

            fn push_null(&mut self) {
                self.push(None);
            }

            fn finish(self) -> Column {
                let validity = self.nulls.finish(self.values.len());
                Column { values: Values::$variant($to_wire(self.values)), validity }
            }
        }

        impl OutputValue for $value {
            type Builder = Builder<$value>;

            #[inline]
            fn push_to(self, builder: &mut Builder<$value>) {
                builder.values.push(self);
            }
        }
    };
}

plain_builder!(bool, Boolean, Booleans, |values: Vec<bool>| values.into_iter().map(u8::from).collect());
plain_builder!(i64, Integer, Integers, |values| values);
plain_builder!(f64, Float, Floats, |values| values);
plain_builder!(Timestamp, Timestamp, Timestamps, |values: Vec<Timestamp>| values.into_iter().map(Timestamp::micros).collect());

/// A column of text or of bytes, packed into one buffer. `TEXT` says which.
#[derive(Debug)]
pub struct BytesBuilder<const TEXT: bool> {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    nulls: Nulls,
}

impl<const TEXT: bool> BytesBuilder<TEXT> {
    fn push_bytes(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len() as u32);
    }
}

impl<const TEXT: bool> BuildColumn for BytesBuilder<TEXT> {
    const KIND: Kind = if TEXT { Kind::Text } else { Kind::Bytes };

    fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, bytes: Vec::with_capacity(rows * 8), nulls: Nulls::default() }
    }

    fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn push_null(&mut self) {
        self.nulls.0.push(self.len());
        self.push_bytes(&[]);
    }

    fn finish(self) -> Column {
        let validity = self.nulls.finish(self.offsets.len().saturating_sub(1));
        let packed = Packed { offsets: self.offsets, bytes: self.bytes };
        Column { values: if TEXT { Values::Texts(packed) } else { Values::Blobs(packed) }, validity }
    }
}

impl<V: OutputValue<Builder = BytesBuilder<TEXT>>, const TEXT: bool> FromIterator<V> for BytesBuilder<TEXT> {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let values = values.into_iter();
        let mut builder = Self::with_capacity(values.size_hint().0);
        values.for_each(|value| value.push_to(&mut builder));
        builder
    }
}

macro_rules! packed_value {
    ($value:ty, $text:literal, $value_name:ident => $bytes:expr) => {
        impl OutputValue for $value {
            type Builder = BytesBuilder<$text>;

            #[inline]
            fn push_to(self, builder: &mut Self::Builder) {
                let $value_name = &self;
                builder.push_bytes($bytes);
            }
        }
    };
}

packed_value!(&str, true, text => text.as_bytes());
packed_value!(String, true, text => text.as_bytes());
packed_value!(&[u8], false, bytes => bytes);
packed_value!(Vec<u8>, false, bytes => bytes);

/// A column of vectors of `N` numbers.
#[derive(Debug)]
pub struct VectorBuilder<const N: usize> {
    values: Vec<f32>,
    rows: usize,
    nulls: Nulls,
}

impl<const N: usize> BuildColumn for VectorBuilder<N> {
    const KIND: Kind = Kind::Vector;
    const WIDTH: Option<u32> = Some(N as u32);

    fn with_capacity(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows * N), rows: 0, nulls: Nulls::default() }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn push_null(&mut self) {
        self.nulls.0.push(self.rows);
        [0.0; N].push_to(self);
    }

    fn finish(self) -> Column {
        let validity = self.nulls.finish(self.rows);
        Column { values: Values::Vectors(Vectors { width: N as u32, values: self.values }), validity }
    }
}

impl<const N: usize> OutputValue for [f32; N] {
    type Builder = VectorBuilder<N>;

    fn push_to(self, builder: &mut VectorBuilder<N>) {
        builder.values.extend_from_slice(&self);
        builder.rows += 1;
    }
}
