//! Input columns: what the host sends, typed, without a copy of the values.

use std::iter;

use crate::timestamp::Timestamp;
use crate::wire::{Batch, Column, Field, Kind, Packed, Values};

/// A row that a transform reads. Derived.
pub trait Input {
    /// The columns that rows are read from.
    type Columns: InputColumns;

    /// The row, borrowing from the columns.
    type Row<'r>;

    /// Row `row`; placeholders when there is no such row.
    fn row(columns: &Self::Columns, row: usize) -> Self::Row<'_>;
}

/// The columns that a transform reads. Derived, as `XColumns` beside the row struct `X`.
pub trait InputColumns: Sized {
    /// What the spec says about them.
    fn fields() -> Vec<Field>;

    /// Takes over the columns of a batch.
    ///
    /// # Errors
    /// When the batch has other columns than the spec lists.
    fn read(batch: Batch) -> Result<Self, String>;
}

/// A value of one field of a row.
#[diagnostic::on_unimplemented(
    message = "an input field cannot be a `{Self}`",
    label = "not a type of the contract",
    note = "use bool, i64, f64, &str, &[u8], Timestamp or [f32; N], or an Option of one of them"
)]
pub trait InputValue<'r>: Sized {
    /// The column it is read from.
    type Column: ReadColumn;

    /// Whether null reaches the transform.
    const NULLABLE: bool = false;

    /// The value in row `row`; a placeholder when it is null or there is no such row.
    fn at(column: &'r Self::Column, row: usize) -> Self;
}

/// A typed column that can be taken from a batch.
pub trait ReadColumn: Sized {
    /// What its values are.
    const KIND: Kind;

    /// Numbers in one value, of vectors.
    const WIDTH: Option<u32> = None;

    /// Takes over a column; none when it holds another kind.
    fn read(column: Column) -> Option<Self>;

    /// Whether row `row` is null.
    fn is_null(&self, row: usize) -> bool;
}

impl<'r, T: InputValue<'r>> InputValue<'r> for Option<T> {
    type Column = T::Column;
    const NULLABLE: bool = true;

    fn at(column: &'r T::Column, row: usize) -> Self {
        if column.is_null(row) { None } else { Some(T::at(column, row)) }
    }
}

/// Takes the next column of a batch, for the field `name`. The derive calls it.
///
/// # Errors
/// When there is none, or it holds another kind.
pub fn next_column<C: ReadColumn>(columns: &mut impl Iterator<Item = Column>, name: &str) -> Result<C, String> {
    let column = columns.next().ok_or_else(|| format!("the batch has no column for the field {name}"))?;
    C::read(column).ok_or_else(|| format!("the column of the field {name} is not of the kind {:?}", C::KIND))
}

/// Describes a field. The derives call it.
pub fn field(name: &str, kind: Kind, nullable: bool, width: Option<u32>, default: Option<&str>, doc: &str) -> Field {
    Field { name: name.to_owned(), kind, nullable, default: default.map(str::to_owned), width, doc: doc.to_owned() }
}

#[derive(Debug, Default)]
struct Validity(Option<Vec<u8>>);

impl Validity {
    fn is_null(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|bits| bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 0))
    }
}

macro_rules! plain_column {
    ($(#[$doc:meta])* $column:ident, $value:ty, $wire:ty, $kind:ident, $variant:ident, $from_wire:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $column {
            values: Vec<$wire>,
            validity: Validity,
        }

        impl $column {
            /// Every value, one a row, as it crossed the boundary. A null has a placeholder.
            pub fn values(&self) -> &[$wire] {
                &self.values
            }

            /// The value in row `row`; none when it is null or there is no such row.
            pub fn get(&self, row: usize) -> Option<$value> {
                if self.validity.is_null(row) { None } else { self.values.get(row).copied().map($from_wire) }
            }

            /// Every row, nulls as none.
            pub fn iter(&self) -> impl Iterator<Item = Option<$value>> + '_ {
                (0..self.values.len()).map(|row| self.get(row))
            }

            /// Rows.
            pub fn len(&self) -> usize {
                self.values.len()
            }

            /// Whether there are no rows.
            pub fn is_empty(&self) -> bool {
                self.values.is_empty()
            }
        }

        impl ReadColumn for $column {
            const KIND: Kind = Kind::$kind;

            fn read(column: Column) -> Option<Self> {
                let Values::$variant(values) = column.values else { return None };
                Some(Self { values, validity: Validity(column.validity) })
            }

            fn is_null(&self, row: usize) -> bool {
                self.validity.is_null(row)
            }
        }

        impl InputValue<'_> for $value {
            type Column = $column;

            #[inline]
            fn at(column: &$column, row: usize) -> Self {
                column.values.get(row).copied().map($from_wire).unwrap_or_default()
            }
        }
    };
}

plain_column!(
    /// True or false. `values` gives 1 or 0.
    BoolColumn, bool, u8, Boolean, Booleans, |byte| byte != 0
);
plain_column!(
    /// Signed 64-bit integers.
    IntColumn, i64, i64, Integer, Integers, |value| value
);
plain_column!(
    /// 64-bit floats.
    FloatColumn, f64, f64, Float, Floats, |value| value
);
plain_column!(
    /// Moments. `values` gives microseconds since the Unix epoch.
    TimestampColumn, Timestamp, i64, Timestamp, Timestamps, Timestamp::from_micros
);

/// UTF-8 text, packed into one buffer.
#[derive(Debug)]
pub struct TextColumn {
    offsets: Vec<u32>,
    text: String,
    validity: Validity,
}

/// Bytes of any content, packed into one buffer.
#[derive(Debug)]
pub struct BytesColumn {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    validity: Validity,
}

fn range(offsets: &[u32], row: usize) -> Option<std::ops::Range<usize>> {
    Some(*offsets.get(row)? as usize..*offsets.get(row + 1)? as usize)
}

macro_rules! packed_column {
    ($column:ident, $value:ty, $buffer:ident, $kind:ident, $variant:ident, $take:expr) => {
        impl $column {
            /// The value in row `row`; none when it is null or there is no such row.
            pub fn get(&self, row: usize) -> Option<&$value> {
                if self.validity.is_null(row) { None } else { self.$buffer.get(range(&self.offsets, row)?) }
            }

            /// Every row, nulls as none.
            pub fn iter(&self) -> impl Iterator<Item = Option<&$value>> + '_ {
                let mut row = 0;
                iter::from_fn(move || {
                    let value = (row < self.len()).then(|| self.get(row));
                    row += 1;
                    value
                })
            }

            /// Where each value starts in `buffer`, and one item more: where the last one ends.
            pub fn offsets(&self) -> &[u32] {
                &self.offsets
            }

            /// Every value, end to end. A null takes no room.
            pub fn buffer(&self) -> &$value {
                &self.$buffer
            }

            /// Rows.
            pub fn len(&self) -> usize {
                self.offsets.len().saturating_sub(1)
            }

            /// Whether there are no rows.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl ReadColumn for $column {
            const KIND: Kind = Kind::$kind;

            fn read(column: Column) -> Option<Self> {
                let Values::$variant(Packed { offsets, bytes }) = column.values else { return None };
                Some(Self { offsets, $buffer: $take(bytes)?, validity: Validity(column.validity) })
            }

            fn is_null(&self, row: usize) -> bool {
                self.validity.is_null(row)
            }
        }

        impl<'r> InputValue<'r> for &'r $value {
            type Column = $column;

            #[inline]
            fn at(column: &'r $column, row: usize) -> Self {
                range(&column.offsets, row).and_then(|range| column.$buffer.get(range)).unwrap_or_default()
            }
        }
    };
}

// The buffer is checked once as a whole; single values are then cut out of it at a cost of two comparisons.
packed_column!(TextColumn, str, text, Text, Texts, |bytes| String::from_utf8(bytes).ok());
packed_column!(BytesColumn, [u8], bytes, Bytes, Blobs, Some);

/// Vectors of `N` numbers.
#[derive(Debug)]
pub struct VectorColumn<const N: usize> {
    values: Vec<f32>,
    validity: Validity,
}

impl<const N: usize> VectorColumn<N> {
    /// Every vector, end to end. A null has zeros.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The vector in row `row`; none when it is null or there is no such row.
    pub fn get(&self, row: usize) -> Option<&[f32; N]> {
        if self.validity.is_null(row) { None } else { self.values.as_chunks::<N>().0.get(row) }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(N).unwrap_or(0)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<const N: usize> ReadColumn for VectorColumn<N> {
    const KIND: Kind = Kind::Vector;
    const WIDTH: Option<u32> = Some(N as u32);

    fn read(column: Column) -> Option<Self> {
        let Values::Vectors(vectors) = column.values else { return None };
        (vectors.width as usize == N).then_some(Self { values: vectors.values, validity: Validity(column.validity) })
    }

    fn is_null(&self, row: usize) -> bool {
        self.validity.is_null(row)
    }
}

impl<const N: usize> InputValue<'_> for [f32; N] {
    type Column = VectorColumn<N>;

    fn at(column: &VectorColumn<N>, row: usize) -> Self {
        column.values.as_chunks::<N>().0.get(row).copied().unwrap_or([0.0; N])
    }
}
