//! What transform functions may return, and how it becomes the output of a batch.

use crate::output::{Output, OutputColumns};
use crate::wire;

/// Why a row is refused; the event becomes a dead letter with this reason, its neighbours are unharmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    reason: String,
}

impl Rejected {
    /// Refuses a row. The reason is for people: why, and what would be right.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<&str> for Rejected {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Rejected {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

/// Collects the rows of a batch. The row loop of `#[transform]` feeds it.
pub struct Sink<C> {
    columns: C,
    emitted: u32,
    origins: Option<Vec<u32>>,
    rejected: Vec<wire::Rejection>,
}

impl<C: OutputColumns> Sink<C> {
    /// An empty sink with room for `rows` rows.
    pub fn with_capacity(rows: u32) -> Self {
        Self { columns: C::with_capacity(rows as usize), emitted: 0, origins: None, rejected: Vec::new() }
    }

    /// Ends the batch, which had `rows` input rows.
    pub fn finish(mut self, rows: u32) -> wire::Output {
        if self.emitted != rows && self.origins.is_none() {
            self.origins = Some((0..self.emitted).collect());
        }
        wire::Output {
            batch: wire::Batch { rows: self.emitted, columns: self.columns.finish() },
            origins: self.origins,
            rejected: self.rejected,
        }
    }

    // As long as every row gave exactly one, no list of origins is kept.
    fn emit<T: Output<Columns = C>>(&mut self, row: u32, value: T) {
        match &mut self.origins {
            Some(origins) => origins.push(row),
            None if row != self.emitted => {
                let mut origins: Vec<u32> = (0..self.emitted).collect();
                origins.push(row);
                self.origins = Some(origins);
            }
            None => {}
        }
        value.push(&mut self.columns);
        self.emitted += 1;
    }
}

/// What a row function may return.
#[diagnostic::on_unimplemented(
    message = "a transform over rows cannot return `{Self}`",
    note = "return T, Option<T> or Vec<T>, where T derives Output, or a Result of one of these with Rejected"
)]
pub trait ReturnedRows {
    /// The row of features.
    type Row: Output;

    /// Whether a row may be refused, and what was done to a state for it undone.
    const REFUSES: bool = false;

    /// Puts what input row `row` gave into the sink. Says whether the row was accepted.
    fn emit(self, row: u32, sink: &mut Sink<<Self::Row as Output>::Columns>) -> bool;
}

impl<T: Output> ReturnedRows for T {
    type Row = T;

    fn emit(self, row: u32, sink: &mut Sink<T::Columns>) -> bool {
        sink.emit(row, self);
        true
    }
}

impl<T: Output> ReturnedRows for Option<T> {
    type Row = T;

    fn emit(self, row: u32, sink: &mut Sink<T::Columns>) -> bool {
        if let Some(value) = self {
            sink.emit(row, value);
        }
        true
    }
}

impl<T: ReturnedRows> ReturnedRows for Result<T, Rejected> {
    type Row = T::Row;

    const REFUSES: bool = true;

    fn emit(self, row: u32, sink: &mut Sink<<T::Row as Output>::Columns>) -> bool {
        match self {
            Ok(value) => value.emit(row, sink),
            Err(Rejected { reason }) => {
                sink.rejected.push(wire::Rejection { row, reason });
                false
            }
        }
    }
}

impl<T: Output> ReturnedRows for Vec<T> {
    type Row = T;

    fn emit(self, row: u32, sink: &mut Sink<T::Columns>) -> bool {
        for value in self {
            sink.emit(row, value);
        }
        true
    }
}

/// What a columnar function may return: columns with as many rows as the input, or an error for the batch.
#[diagnostic::on_unimplemented(
    message = "a transform over columns cannot return `{Self}`",
    note = "return YColumns or Result<YColumns, String>, where Y derives Output"
)]
pub trait ReturnedColumns {
    /// The columns of features.
    type Columns: OutputColumns;

    /// Ends the batch, which had `rows` input rows.
    ///
    /// # Errors
    /// When the function refused the batch, or a column has another number of rows.
    fn finish_batch(self, rows: u32) -> Result<wire::Output, String>;
}

impl<C: OutputColumns> ReturnedColumns for C {
    type Columns = C;

    fn finish_batch(self, rows: u32) -> Result<wire::Output, String> {
        self.check_rows(rows as usize)?;
        Ok(wire::Output { batch: wire::Batch { rows, columns: self.finish() }, origins: None, rejected: Vec::new() })
    }
}

impl<C: OutputColumns> ReturnedColumns for Result<C, String> {
    type Columns = C;

    fn finish_batch(self, rows: u32) -> Result<wire::Output, String> {
        self?.finish_batch(rows)
    }
}
