//! One call's data across the boundary: batches go in as slices of the host's own columns, results come back as columns of their own.

use super::Output;
use super::bindings::gristmill::transform::types as wit;
use crate::model::{Aggregate, Aggregation, Batch, Column, Field, Kind, Packed, Spec, Validity, Values};

use std::sync::Arc;

/// The columns as the guest's parameters. Nothing is copied here; the one copy is the one into the guest's memory.
pub(super) fn columns(batch: &Batch) -> Vec<wit::ColumnParam<'_>> {
    batch.columns.iter().map(|column| lower(column)).collect()
}

/// One column as a parameter.
pub(super) fn column(column: &Column) -> wit::ColumnParam<'_> {
    lower(column)
}

/// One column as it came back, not yet checked.
pub(super) fn column_back(column: wit::ColumnResult) -> Column {
    lift(column)
}

/// A result as it came back, not yet checked.
pub(super) fn output(output: wit::Output) -> Output {
    let wit::Output { batch, origins, rejected } = output;
    let columns = batch.columns.into_iter().map(|column| Arc::new(lift(column))).collect();
    let rejected = rejected.into_iter().map(|rejection| (rejection.row, rejection.reason)).collect();
    Output { batch: Batch { rows: batch.rows as usize, columns }, origins, rejected }
}

/// A spec as it came back, not yet checked.
pub(super) fn spec(spec: wit::Spec) -> Spec {
    let wit::Spec { name, version, doc, streams, entity, event_time, inputs, outputs, aggregations } = spec;
    let inputs = inputs.into_iter().map(field).collect();
    let outputs = outputs.into_iter().map(field).collect();
    let aggregations = aggregations.into_iter().map(aggregation).collect();
    Spec { name, version, doc, streams, entity, event_time, inputs, outputs, aggregations }
}

fn lower(column: &Column) -> wit::ColumnParam<'_> {
    let values = match &column.values {
        Values::Booleans(values) => wit::ValuesParam::Booleans(values),
        Values::Integers(values) => wit::ValuesParam::Integers(values),
        Values::Floats(values) => wit::ValuesParam::Floats(values),
        Values::Texts(packed) => wit::ValuesParam::Texts(lower_packed(packed)),
        Values::Blobs(packed) => wit::ValuesParam::Blobs(lower_packed(packed)),
        Values::Timestamps(values) => wit::ValuesParam::Timestamps(values),
        Values::Vectors { width, values } => wit::ValuesParam::Vectors(wit::VectorsParam { width: *width, values }),
    };
    wit::ColumnParam { values, validity: column.validity.as_ref().map(|validity| validity.bits.as_slice()) }
}

fn lower_packed(packed: &Packed) -> wit::PackedParam<'_> {
    wit::PackedParam { offsets: &packed.offsets, bytes: &packed.bytes }
}

fn lift(column: wit::ColumnResult) -> Column {
    let values = match column.values {
        wit::ValuesResult::Booleans(values) => Values::Booleans(values),
        wit::ValuesResult::Integers(values) => Values::Integers(values),
        wit::ValuesResult::Floats(values) => Values::Floats(values),
        wit::ValuesResult::Texts(packed) => Values::Texts(lift_packed(packed)),
        wit::ValuesResult::Blobs(packed) => Values::Blobs(lift_packed(packed)),
        wit::ValuesResult::Timestamps(values) => Values::Timestamps(values),
        wit::ValuesResult::Vectors(vectors) => Values::Vectors { width: vectors.width, values: vectors.values },
    };
    Column { values, validity: column.validity.map(|bits| Validity { bits }) }
}

fn lift_packed(packed: wit::PackedResult) -> Packed {
    Packed { offsets: packed.offsets, bytes: packed.bytes }
}

fn field(field: wit::Field) -> Field {
    let kind = match field.kind {
        wit::Kind::Boolean => Kind::Boolean,
        wit::Kind::Integer => Kind::Integer,
        wit::Kind::Float => Kind::Float,
        wit::Kind::Text => Kind::Text,
        wit::Kind::Bytes => Kind::Bytes,
        wit::Kind::Timestamp => Kind::Timestamp,
        wit::Kind::Vector => Kind::Vector,
    };
    Field { name: field.name, kind, nullable: field.nullable, default: field.default, width: field.width, doc: field.doc }
}

fn aggregation(aggregation: wit::Aggregation) -> Aggregation {
    let function = match aggregation.function {
        wit::Aggregate::Count => Aggregate::Count,
        wit::Aggregate::Sum => Aggregate::Sum,
        wit::Aggregate::Mean => Aggregate::Mean,
        wit::Aggregate::Min => Aggregate::Min,
        wit::Aggregate::Max => Aggregate::Max,
        wit::Aggregate::Variance => Aggregate::Variance,
        wit::Aggregate::First => Aggregate::First,
        wit::Aggregate::Last => Aggregate::Last,
        wit::Aggregate::Distinct => Aggregate::Distinct,
        wit::Aggregate::Quantile(rank) => Aggregate::Quantile(rank),
        wit::Aggregate::LastValues(count) => Aggregate::LastValues(count),
        wit::Aggregate::Top(count) => Aggregate::Top(count),
    };
    let wit::Aggregation { feature, column, window_ms, doc, .. } = aggregation;
    Aggregation { feature, column, function, window_ms, doc }
}
