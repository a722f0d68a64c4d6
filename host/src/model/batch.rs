use std::sync::Arc;

use super::{Field, Kind};

/// Some events, or some rows of features, in columns. What crosses the sandbox's boundary.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Rows in every column.
    pub rows: usize,
    /// In the order in which the spec lists the fields. Shared: several transforms of a stream may read the same column.
    pub columns: Vec<Arc<Column>>,
}

/// One column of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// One value a row, placeholders for nulls included.
    pub values: Values,
    /// Which rows are not null; `None` when no row is.
    pub validity: Option<Validity>,
}

/// The values of one column; a null has a placeholder (zero, or an empty run of bytes).
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// One byte a row, 1 or 0.
    Booleans(Vec<u8>),
    /// One integer a row.
    Integers(Vec<i64>),
    /// One float a row.
    Floats(Vec<f64>),
    /// UTF-8 text.
    Texts(Packed),
    /// Bytes.
    Blobs(Packed),
    /// Microseconds since the Unix epoch, UTC.
    Timestamps(Vec<i64>),
    /// Vectors end to end.
    Vectors {
        /// Numbers in one vector.
        width: u32,
        /// `rows * width` numbers.
        values: Vec<f32>,
    },
}

/// Values of varying length: value `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// One more than there are rows; starts at 0, never falls.
    pub offsets: Vec<u32>,
    /// The values end to end.
    pub bytes: Vec<u8>,
}

impl Default for Packed {
    fn default() -> Packed {
        Packed { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Packed {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a value.
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len() as u32);
    }

    /// The value at `index`; empty when there is none.
    pub fn get(&self, index: usize) -> &[u8] {
        let bounds = self.offsets.get(index).zip(self.offsets.get(index + 1));
        bounds.and_then(|(start, end)| self.bytes.get(*start as usize..*end as usize)).unwrap_or_default()
    }
}

/// An Arrow validity bitmap: bit `i` (byte `i / 8`, least significant first) is 1 when row `i` is not null.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validity {
    /// The bitmap, at least `ceil(rows / 8)` bytes.
    pub bits: Vec<u8>,
}

impl Validity {
    /// `rows` rows, none of them null.
    pub fn all_valid(rows: usize) -> Validity {
        Validity { bits: vec![0xff; rows.div_ceil(8)] }
    }

    /// Whether row `index` is not null. Rows beyond the bitmap are null.
    pub fn is_valid(&self, index: usize) -> bool {
        self.bits.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// Marks row `index` as null.
    pub fn set_null(&mut self, index: usize) {
        if let Some(byte) = self.bits.get_mut(index / 8) {
            *byte &= !(1 << (index % 8));
        }
    }
}

impl Column {
    /// Whether row `index` is not null.
    pub fn is_valid(&self, index: usize) -> bool {
        self.validity.as_ref().is_none_or(|validity| validity.is_valid(index))
    }

    /// Nothing but nulls.
    pub fn nulls(kind: Kind, rows: usize) -> Column {
        let packed = || Packed { offsets: vec![0; rows + 1], bytes: Vec::new() };
        let values = match kind {
            Kind::Boolean => Values::Booleans(vec![0; rows]),
            Kind::Integer => Values::Integers(vec![0; rows]),
            Kind::Float => Values::Floats(vec![0.0; rows]),
            Kind::Text => Values::Texts(packed()),
            Kind::Bytes => Values::Blobs(packed()),
            Kind::Timestamp => Values::Timestamps(vec![0; rows]),
            Kind::Vector | Kind::List => Values::Vectors { width: 0, values: Vec::new() },
        };
        Column { values, validity: Some(Validity { bits: vec![0; rows.div_ceil(8)] }) }
    }

    /// Values as a field of a stream may have them, made up: no nulls, each row another.
    pub fn made_up(field: &Field, rows: usize) -> Column {
        let packed = || {
            let mut packed = Packed::default();
            (0..rows).for_each(|row| packed.push(format!("{} {row}", field.name).as_bytes()));
            packed
        };
        let width = field.width.unwrap_or(1);
        let values = match field.kind {
            Kind::Boolean => Values::Booleans((0..rows).map(|row| (row % 2) as u8).collect()),
            Kind::Integer => Values::Integers((1..=rows as i64).collect()),
            Kind::Float => Values::Floats((1..=rows).map(|row| row as f64 + 0.25).collect()),
            Kind::Text => Values::Texts(packed()),
            Kind::Bytes => Values::Blobs(packed()),
            // Seconds from the beginning of 2024 on.
            Kind::Timestamp => Values::Timestamps((0..rows as i64).map(|row| (1_704_067_200 + row) * 1_000_000).collect()),
            Kind::Vector | Kind::List => Values::Vectors { width, values: (0..rows * width as usize).map(|index| index as f32).collect() },
        };
        Column { values, validity: None }
    }

    /// The rows at `indices`, in that order. An index outside the column repeats as a placeholder.
    pub fn take(&self, indices: &[u32]) -> Column {
        let values = match &self.values {
            Values::Booleans(values) => Values::Booleans(take(values, indices)),
            Values::Integers(values) => Values::Integers(take(values, indices)),
            Values::Floats(values) => Values::Floats(take(values, indices)),
            Values::Timestamps(values) => Values::Timestamps(take(values, indices)),
            Values::Texts(packed) => Values::Texts(take_packed(packed, indices)),
            Values::Blobs(packed) => Values::Blobs(take_packed(packed, indices)),
            Values::Vectors { width, values } => {
                let row = |index: &u32| {
                    let start = *index as usize * *width as usize;
                    values.get(start..start + *width as usize).unwrap_or_default()
                };
                Values::Vectors { width: *width, values: indices.iter().flat_map(row).copied().collect() }
            }
        };
        let validity = self.validity.as_ref().map(|validity| {
            let mut taken = Validity::all_valid(indices.len());
            for (row, index) in indices.iter().enumerate() {
                if !validity.is_valid(*index as usize) {
                    taken.set_null(row);
                }
            }
            taken
        });
        Column { values, validity }
    }
}

impl Batch {
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Batch {
        Batch { rows: indices.len(), columns: self.columns.iter().map(|column| Arc::new(column.take(indices))).collect() }
    }
}

fn take<T: Copy + Default>(values: &[T], indices: &[u32]) -> Vec<T> {
    indices.iter().map(|index| values.get(*index as usize).copied().unwrap_or_default()).collect()
}

fn take_packed(packed: &Packed, indices: &[u32]) -> Packed {
    let mut taken = Packed::default();
    for index in indices {
        taken.push(packed.get(*index as usize));
    }
    taken
}
