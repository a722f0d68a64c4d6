//! Rows that are sent instead of computed: from the columns of a request to a commit.
//!
//! They go into the store as competing writers write: each row is compared inside the store with what is there, and the newest wins. So nothing
//! needs a lease, any number of hosts may write the same view, and what is sent again changes nothing: an answer of 200 says that every row is
//! in the store or older than what is. A row has no entry in any stream; the moment of the write stands for its id, so that of two rows of the same event
//! time the one that was sent later counts.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Written;
use super::error::FeastError;
use super::request::Columns;
use super::shown;
use crate::model::{Commit, EntryId, Epoch, FeastType, FeatureRow, OwnedValue, Partition, Rows, Scalar, Timestamp, Version, parse};
use crate::online_store::{OnlineStore, Writer, Writers};
use crate::serve::State;
use crate::serve::error::ApiError;
use crate::serve::join_keys::{Given, key};

/// What Feast's client calls the event time.
const CLIENTS_TIMESTAMP_FIELD: &str = "event_timestamp";

/// One row, not yet packed.
pub(super) struct Row<'b> {
    key: Vec<u8>,
    event_time: Timestamp,
    values: Vec<Option<OwnedValue<'b>>>,
}

/// The rows that a request has for one view, in the order in which they were sent.
pub(super) fn read<'b>(target: &Written, frame: &Columns<'b>, rows: usize) -> Result<Vec<Row<'b>>, FeastError> {
    let view = &*target.view;
    let column = |name: &str| {
        frame.column(name).ok_or_else(|| {
            let given: Vec<&str> = frame.all.iter().map(|(name, _)| name.as_ref()).take(64).collect();
            FeastError::plain(format!("view {} needs a column '{name}'; given are '{}'", view.name, shown(&given.join("', '"))))
        })
    };
    // Feast's client calls it by one name, whatever its source does.
    let times = frame.column(CLIENTS_TIMESTAMP_FIELD).filter(|_| frame.column(&target.timestamp_field).is_none());
    let times = times.map_or_else(|| column(&target.timestamp_field), Ok)?;
    for field in &view.entity {
        column(&field.name)?;
    }
    let features = view.features.iter().map(|field| Ok((field, *view.types.get(&field.name).unwrap_or(&TEXT), column(&field.name)?)));
    let features = features.collect::<Result<Vec<_>, FeastError>>()?;
    let mut read = Vec::with_capacity(rows);
    for row in 0..rows {
        let label = || format!("row {row}");
        let key = key(view, &label, |name| frame.get(name, row).map(|raw| Given::Json(raw.get())))?;
        let time = times.get(row).copied();
        let event_time = time.and_then(event_time).ok_or_else(|| {
            let time = shown(time.map_or("", RawValue::get));
            FeastError::plain(format!("row {row}: '{}' is {time}; expected a time, RFC 3339 or without an offset", target.timestamp_field))
        })?;
        let mut bytes = 0;
        let mut values = Vec::with_capacity(features.len());
        for (field, feast_type, column) in &features {
            let json = column.get(row).map_or("null", |raw| raw.get());
            let value = sent(*feast_type, json)
                .ok_or_else(|| FeastError::plain(format!("row {row}: '{}' is {}; expected {feast_type}", field.name, shown(json))))?;
            bytes += json.len();
            values.push(value);
        }
        if bytes > crate::model::ROW_BYTES_MAX {
            return Err(FeastError::plain(format!("row {row} has {bytes} bytes; {} are allowed", crate::model::ROW_BYTES_MAX)));
        }
        read.push(Row { key, event_time, values });
    }
    Ok(read)
}

const TEXT: FeastType = FeastType { scalar: Scalar::String, is_list: false };

/// A text with or without an offset, which then is UTC; or a number since the Unix epoch in the unit that its size tells.
fn event_time(json: &RawValue) -> Option<Timestamp> {
    let text = parse::json_text(json.get()).filter(|_| json.get() != "null")?;
    Timestamp::parse_naive(&text).ok()
}

/// A value of this type; `None` where it is none, and null inside for null.
fn sent(feast_type: FeastType, json: &str) -> Option<Option<OwnedValue<'_>>> {
    if json == "null" {
        return Some(None);
    }
    if !feast_type.is_list {
        return scalar(feast_type.scalar, json).map(Some);
    }
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    let mut packed = Vec::new();
    for item in items {
        scalar(feast_type.scalar, item.get()).filter(|_| item.get() != "null")?.value().pack(&mut packed);
    }
    Some(Some(OwnedValue::List(feast_type.scalar.kind(), packed)))
}

fn scalar(scalar: Scalar, json: &str) -> Option<OwnedValue<'_>> {
    if json.starts_with(['[', '{']) {
        return None;
    }
    let text = parse::json_text(json)?;
    Some(match scalar {
        Scalar::Bool => OwnedValue::Boolean(parse::boolean(text.as_bytes())?),
        Scalar::Int64 => OwnedValue::Integer(parse::integer(text.as_bytes())?),
        Scalar::Int32 => OwnedValue::Integer(parse::integer(text.as_bytes()).filter(|number| i32::try_from(*number).is_ok())?),
        Scalar::Float64 => OwnedValue::Float(parse::float(text.as_bytes())?),
        // What Feast keeps in four bytes comes back as those four bytes say.
        Scalar::Float32 => OwnedValue::Float(f64::from(parse::float(text.as_bytes())? as f32)),
        Scalar::UnixTimestamp => {
            let moment = parse::timestamp(text.as_bytes(), Some(Epoch::Seconds)).or_else(|| Timestamp::parse_naive(&text).ok())?;
            OwnedValue::Timestamp(Timestamp(moment.0.div_euclid(1_000_000).saturating_mul(1_000_000)))
        }
        Scalar::String if json.starts_with('"') => OwnedValue::Text(text),
        Scalar::Bytes if json.starts_with('"') => {
            use base64::Engine as _;
            OwnedValue::Bytes(base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).ok()?.into())
        }
        Scalar::String | Scalar::Bytes => return None,
    })
}

/// Puts rows into the store, one commit after the other.
#[derive(Default)]
pub(in crate::serve) struct RowWriter {
    open: tokio::sync::Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Taken out while it commits: one whose commit was interrupted is not used again.
    writer: Option<Box<dyn Writer>>,
    last: EntryId,
}

impl RowWriter {
    /// All rows of all views in one step. When it returns they can be read.
    pub(super) async fn commit(&self, state: &State, targets: &[&Arc<Written>], frames: Vec<Vec<Row<'_>>>) -> Result<(), FeastError> {
        let mut open = self.open.lock().await;
        let now = Timestamp::now();
        let (mut commit, mut counts) = (Commit::default(), Vec::new());
        for (target, rows) in targets.iter().zip(frames) {
            let before = commit.rows.len();
            pack(target, rows, now, &mut open.last, &mut commit.rows);
            counts.push((target.view.name.as_str(), commit.rows.len() - before));
        }
        let mut writer = match open.writer.take() {
            Some(writer) => writer,
            None => writer_of(&*state.store).await.map_err(ApiError::from)?,
        };
        commit.number = writer.place().commits + 1;
        writer.commit(&commit).await.map_err(ApiError::from)?;
        open.writer = Some(writer);
        drop(open);
        for (view, rows) in counts {
            state.telemetry.transform(view).rows_committed(rows as u64);
        }
        if state.changes.is_wanted() {
            state.changes.publish(&mut commit);
        }
        Ok(())
    }
}

async fn writer_of(store: &dyn OnlineStore) -> Result<Box<dyn Writer>, crate::online_store::Error> {
    // Where this writer's commits are counted, beside those of streams; the blank in its name is in no stream's.
    let partition = Partition { stream: "rows sent".into(), group: "feast".into(), index: 0, tag: String::new() };
    store.writer(&partition, &Writers::Competing).await
}

/// Of each entity the newest row: by event time, then the later in the request.
fn pack(target: &Written, rows: Vec<Row<'_>>, now: Timestamp, last: &mut EntryId, packed_rows: &mut Rows) {
    let mut newest: HashMap<Vec<u8>, (Version, Vec<Option<OwnedValue<'_>>>)> = HashMap::with_capacity(rows.len());
    for Row { key, event_time, values } in rows {
        *last = next(*last, now);
        let version = Version { event_time, entry_id: *last };
        if newest.get(&key).is_none_or(|(known, _)| *known < version) {
            newest.insert(key, (version, values));
        }
    }
    for (key, (version, values)) in newest {
        let expires_at = target.expire_secs.map(|secs| {
            let kept = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            Timestamp(version.event_time.max(now).0.saturating_add(kept))
        });
        packed_rows.push_with(version, expires_at, |key_buffer, packed| {
            key_buffer.extend_from_slice(&key);
            FeatureRow::pack(packed, version, target.schema, values.iter().map(|value| value.as_ref().map(OwnedValue::value)));
        });
    }
}

/// An id of this moment that is greater than the last one.
fn next(last: EntryId, now: Timestamp) -> EntryId {
    let ms = now.as_millis();
    if ms > last.ms { EntryId { ms, seq: 0 } } else { EntryId { ms: last.ms, seq: last.seq.saturating_add(1) } }
}
