//! Write Gristmill transforms in Rust: a typed function over rows or over columns, and nothing else.
//!
//! ```
//! use gristmill_sdk::prelude::*;
//!
//! #[derive(Input)]
//! struct Reading<'a> {
//!     id: &'a str,
//!     value: f64,
//!     at: Timestamp,
//! }
//!
//! #[derive(Output)]
//! struct Features {
//!     /// Twice the value.
//!     doubled: f64,
//! }
//!
//! /// Doubles a reading.
//! #[transform(entity = "id", event_time = "at", stream = "readings")]
//! fn double(reading: Reading) -> Features {
//!     let _ = (reading.id, reading.at);
//!     Features { doubled: reading.value * 2.0 }
//! }
//!
//! assert_eq!(double(Reading { id: "a", value: 2.0, at: Timestamp::default() }).doubled, 4.0);
//! ```
//!
//! The function stays an ordinary function, so its unit tests are ordinary tests. [`testing`] runs the whole batch path natively.
//!
//! Field types: `bool`, `i64`, `f64`, `&str` (outputs also `String`), `&[u8]` (outputs also `Vec<u8>`), [`Timestamp`],
//! `[f32; N]`, and `Option` of each where null is a legal value.
//!
//! A row function returns `T`, `Option<T>` (none: the row is filtered out), `Vec<T>` (several rows from one event), or a `Result` of one of these with
//! [`Rejected`] (the event becomes a dead letter with that reason). A columnar function, `#[transform(columns, ..)]`, takes
//! `&XColumns` and returns `YColumns`: the structs that the derives make beside the row structs `X` and `Y`.
//!
//! A function over a state and a row, `#[fold(..)] fn name(state: &mut Option<S>, row: X) -> Y`, makes a stateful transform: it is called for one event after
//! the other of an entity, in order, with the state that the host keeps for that entity, see [`State`].

#[doc(hidden)]
pub mod bindings;
mod fold;
#[doc(hidden)]
pub mod fold_bindings;
mod input;
pub mod log;
#[doc(hidden)]
pub mod migration_bindings;
mod output;
mod returned;
pub mod settings;
pub mod testing;
mod timestamp;
mod transform;

pub use fold::{Fold, Migration, State};
pub use gristmill_sdk_macros::{Input, Output, fold, transform};
pub use input::{
    BoolColumn, BytesColumn, FloatColumn, Input, InputColumns, InputValue, IntColumn, TextColumn, TimestampColumn, VectorColumn,
};
pub use output::{Builder, BytesBuilder, Output, OutputColumns, OutputValue, VectorBuilder};
pub use returned::{Rejected, ReturnedColumns, ReturnedRows, Sink};
pub use timestamp::Timestamp;
pub use transform::{Meta, Transform, Windowed};

/// The types that cross the boundary, as the contract defines them. Only benches and tools need them.
pub mod wire {
    pub use crate::bindings::gristmill::transform::types::{
        Aggregate, Aggregation, Batch, Column, Field, Folded, Kind, Output, Packed, Rejection, Spec, Values, Vectors,
    };
}

/// What a transform usually needs.
pub mod prelude {
    pub use crate::{Input, Output, Rejected, Timestamp, fold, log, transform};
}

// What the macros expand to; not for people.
#[doc(hidden)]
pub mod private {
    pub use crate::bindings::export;
    pub use crate::fold::{States, migrate};
    pub use crate::fold_bindings::export as export_fold;
    pub use crate::input::{ReadColumn, field, next_column};
    pub use crate::migration_bindings::export as export_migrating;
    pub use crate::output::{BuildColumn, check_len};
}
