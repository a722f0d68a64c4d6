//! Answers as an Arrow IPC stream of one record batch, a row for each entity: its join keys, and for each feature its value and its status. For each view
//! the event time, and when asked for where its values come from.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Float64Builder, Int64Builder, ListBuilder,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder, make_builder,
};
use arrow_array::types::Int8Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema, TimeUnit};

use super::cells;
use super::error::ApiError;
use super::join_keys::{self, Entity};
use super::look::Looked;
use super::plan::{Plan, PlannedView};
use super::respond::Tally;
use super::room::AnswerRoom;
use crate::model::{Field, Kind, Value};

/// What clients ask for in `Accept`, and are told in `Content-Type`.
pub(super) const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

/// A column that is being built.
struct Building {
    field: ArrowField,
    values: Box<dyn ArrayBuilder>,
}

impl Building {
    fn new(name: String, of: DataType, rows: usize) -> Building {
        Building { values: make_builder(&of, rows), field: ArrowField::new(name, of, true) }
    }

    fn push(&mut self, value: Option<Value<'_>>) -> Result<(), ApiError> {
        append(&mut *self.values, self.field.data_type(), value).ok_or_else(|| mismatch(self.field.name()))
    }
}

fn mismatch(name: &str) -> ApiError {
    ApiError::internal(&format!("column `{name}` of an Arrow answer is not of its type"))
}

/// Writes the whole answer; `looked` has one part for each view of each entity.
pub(super) fn write<E: AsRef<str>>(
    plan: &Plan,
    entities: impl ExactSizeIterator<Item = E>,
    looked: &[Looked],
    provenance: bool,
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<u8>, ApiError> {
    let rows = entities.len();
    let mut keys = key_columns(plan, rows);
    for entity in entities {
        let members: Entity<'_> = serde_json::from_str(entity.as_ref()).map_err(|error| ApiError::internal(&error.to_string()))?;
        for (field, column) in &mut keys {
            let given = members.get(&field.name).map(|given| join_keys::coerce(field, given, &String::new)).transpose()?;
            column.push(given.as_ref().map(join_keys::Part::value))?;
        }
    }
    let mut features: Vec<Building> = Vec::with_capacity(plan.columns.len());
    let mut statuses: Vec<StringDictionaryBuilder<Int8Type>> = Vec::with_capacity(plan.columns.len());
    for (column, name) in plan.columns.iter().zip(&plan.names) {
        let of = plan.views.get(column.view).map_or(DataType::Null, |view| data_type(&column.field, view));
        features.push(Building::new(name.clone(), of, rows));
        statuses.push(StringDictionaryBuilder::new());
    }
    let views = 0..plan.answered().count();
    let mut views: Vec<ViewColumns> = views.map(|view| ViewColumns::new(plan.view_name(view), rows, provenance)).collect();
    let mut tally = Tally::new(plan);
    let mut bytes = 0;
    for found in looked.chunks(plan.views.len().max(1)) {
        cells::each(&plan.runs, found, |index, cell| {
            bytes += 16 + cell.value.as_ref().map_or(0, length);
            room.written(bytes)?;
            tally.count(plan.columns.get(index).map_or(0, |column| column.view), cell.status);
            if let Some(statuses) = statuses.get_mut(index) {
                statuses.append(cell.status.as_str()).map_err(|error| failed(&error))?;
            }
            features.get_mut(index).map_or(Ok(()), |column| column.push(cell.value))
        })?;
        views.iter_mut().zip(found).try_for_each(|(columns, looked)| columns.push(looked))?;
    }
    tally.add();
    let mut columns: Vec<(ArrowField, ArrayRef)> = keys.into_iter().map(|(_, column)| finish(column)).collect();
    for (feature, mut statuses) in features.into_iter().zip(statuses) {
        let name = format!("{}__status", feature.field.name());
        let of = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        columns.push(finish(feature));
        columns.push((ArrowField::new(name, of, false), Arc::new(statuses.finish())));
    }
    columns.extend(views.into_iter().flat_map(|view| view.columns).map(finish));
    encode(columns).map_err(|error| failed(&error))
}

fn encode(columns: Vec<(ArrowField, ArrayRef)>) -> Result<Vec<u8>, ArrowError> {
    let (fields, arrays): (Vec<ArrowField>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    writer.into_inner()
}

fn failed(error: &ArrowError) -> ApiError {
    ApiError::internal(&error.to_string())
}

fn finish(mut column: Building) -> (ArrowField, ArrayRef) {
    (column.field, column.values.finish())
}

/// The join keys of all views, each name once.
fn key_columns(plan: &Plan, rows: usize) -> Vec<(Field, Building)> {
    let mut keys: Vec<(Field, Building)> = Vec::new();
    for view in &plan.views {
        for field in &view.view.entity {
            if !keys.iter().any(|(known, _)| known.name == field.name) {
                keys.push((field.clone(), Building::new(field.name.clone(), data_type(field, view), rows)));
            }
        }
    }
    keys
}

/// What is told once for a view: the event time, and with provenance the component and the entry.
struct ViewColumns {
    columns: Vec<Building>,
}

impl ViewColumns {
    fn new(view: &str, rows: usize, provenance: bool) -> ViewColumns {
        let told = [("event_time", moment()), ("component", DataType::Utf8), ("entry_id", DataType::Utf8)];
        let column = |(what, of): (&str, DataType)| Building::new(format!("{view}__{what}"), of, rows);
        ViewColumns { columns: told.into_iter().take(if provenance { 3 } else { 1 }).map(column).collect() }
    }

    fn push(&mut self, looked: &Looked) -> Result<(), ApiError> {
        let texts = looked.made_by.map(|made_by| (made_by.component.to_string(), made_by.entry_id.map(|id| id.to_string())));
        let values = [
            looked.event_time().map(Value::Timestamp),
            texts.as_ref().map(|(component, _)| Value::Text(component)),
            texts.as_ref().and_then(|(_, entry_id)| entry_id.as_deref().map(Value::Text)),
        ];
        self.columns.iter_mut().zip(values).try_for_each(|(column, value)| column.push(value))
    }
}

fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn data_type(field: &Field, view: &PlannedView) -> DataType {
    match field.kind {
        Kind::Vector => {
            let width = field.width.and_then(|width| i32::try_from(width).ok()).unwrap_or(0);
            DataType::FixedSizeList(Arc::new(ArrowField::new_list_field(DataType::Float32, true)), width)
        }
        Kind::List => {
            let of = view.element_of(field).map_or(DataType::Null, |of| data_type(&of, view));
            DataType::List(Arc::new(ArrowField::new_list_field(of, true)))
        }
        Kind::Boolean => DataType::Boolean,
        Kind::Integer => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Text => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Timestamp => moment(),
    }
}

fn length(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) | Value::Vector(bytes) | Value::List(_, bytes) => bytes.len(),
        Value::Numbers(numbers) => size_of_val(*numbers),
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Timestamp(_) => 8,
    }
}

/// Appends a value to the builder of its type; nothing where they do not belong together.
fn append(builder: &mut dyn ArrayBuilder, of: &DataType, value: Option<Value<'_>>) -> Option<()> {
    let any = builder.as_any_mut();
    match (of, value) {
        (DataType::Boolean, None) => any.downcast_mut::<BooleanBuilder>()?.append_null(),
        (DataType::Boolean, Some(Value::Boolean(truth))) => any.downcast_mut::<BooleanBuilder>()?.append_value(truth),
        (DataType::Int64, None) => any.downcast_mut::<Int64Builder>()?.append_null(),
        (DataType::Int64, Some(Value::Integer(number))) => any.downcast_mut::<Int64Builder>()?.append_value(number),
        (DataType::Float64, None) => any.downcast_mut::<Float64Builder>()?.append_null(),
        (DataType::Float64, Some(Value::Float(number))) => any.downcast_mut::<Float64Builder>()?.append_value(number),
        (DataType::Utf8, None) => any.downcast_mut::<StringBuilder>()?.append_null(),
        (DataType::Utf8, Some(Value::Text(text))) => any.downcast_mut::<StringBuilder>()?.append_value(text),
        (DataType::Binary, None) => any.downcast_mut::<BinaryBuilder>()?.append_null(),
        (DataType::Binary, Some(Value::Bytes(bytes))) => any.downcast_mut::<BinaryBuilder>()?.append_value(bytes),
        (DataType::Timestamp(..), None) => any.downcast_mut::<TimestampMicrosecondBuilder>()?.append_null(),
        (DataType::Timestamp(..), Some(Value::Timestamp(moment))) => {
            any.downcast_mut::<TimestampMicrosecondBuilder>()?.append_value(moment.0)
        }
        (DataType::FixedSizeList(_, width), value) => {
            let list = any.downcast_mut::<FixedSizeListBuilder<Box<dyn ArrayBuilder>>>()?;
            let numbers = list.values().as_any_mut().downcast_mut::<Float32Builder>()?;
            match value {
                Some(Value::Vector(bytes)) if bytes.len() == *width as usize * 4 => {
                    bytes.as_chunks::<4>().0.iter().for_each(|number| numbers.append_value(f32::from_le_bytes(*number)));
                }
                None => numbers.append_nulls(*width as usize),
                Some(_) => return None,
            }
            list.append(value.is_some());
        }
        (DataType::List(field), value) => {
            let list = any.downcast_mut::<ListBuilder<Box<dyn ArrayBuilder>>>()?;
            match value {
                Some(Value::List(of, mut values)) => {
                    while let Some(value) = Value::unpack(of, &mut values) {
                        append(&mut **list.values(), field.data_type(), Some(value))?;
                    }
                }
                None => {}
                Some(_) => return None,
            }
            list.append(value.is_some());
        }
        _ => return None,
    }
    Some(())
}
