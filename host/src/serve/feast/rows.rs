//! Rows that are sent instead of computed: from the columns of a request to a commit.
//!
//! They go into the store as competing writers write: each row is compared inside the store with what is there, and the newest wins; of a view with history each entity is
//! read, changed and put back, and once more where another host has done so meanwhile. So nothing needs a lease, any number of hosts may write the same view, and what is sent
//! again changes nothing: an answer of 200 says that every row is in the store or older than what is. A row has no entry in any stream; the moment of the write stands for its
//! id, so that of two rows of the same event time the one that was sent later counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::value::RawValue;

use super::Written;
use super::error::FeastError;
use super::request::Columns;
use super::shown;
use crate::model::{
    Commit, ENTITY_BYTES_MAX, EntryId, Epoch, FeastType, FeatureRow, OwnedValue, Partition, Put, Puts, Rows, Scalar, SchemaId, Timestamp,
    Version, parse,
};
use crate::online_store::{Error, Writer, Writers};
use crate::serve::Shared;
use crate::serve::error::ApiError;
use crate::serve::join_keys::{Given, key};
use crate::window::{Plan, Shape};

/// What Feast's client calls the event time.
const CLIENTS_TIMESTAMP_FIELD: &str = "event_timestamp";

/// Times that a commit is made anew because another host writes to the same entities.
const TURNS_MAX: u64 = 32;

/// Entities that are read at once, and how much one request may have read and put back.
const READ_KEYS_MAX: usize = READ_BYTES_MAX / ENTITY_BYTES_MAX;
const READ_BYTES_MAX: usize = 64 << 20;
const ENTITIES_MAX: usize = 1_000;
/// Bytes of entities after which others get their turn.
const TURN_BYTES: usize = 1 << 20;
/// How far ahead of the clock a row may be where its view keeps history: nothing of the future can be given up when there is no more room.
const AHEAD_MICROS: i64 = 86_400_000_000;

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
        if target.kept.is_some() && event_time.0 > Timestamp::now().0.saturating_add(AHEAD_MICROS) {
            let time = shown(time.map_or("", RawValue::get));
            let field = &target.timestamp_field;
            return Err(FeastError::plain(format!(
                "row {row}: '{field}' is {time}; a view that keeps history takes rows of a day ahead at most"
            )));
        }
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
    pub(super) async fn commit(&self, shared: &Shared, targets: &[&Arc<Written>], frames: &[Vec<Row<'_>>]) -> Result<(), FeastError> {
        let (mut open, state) = (self.open.lock().await, &shared.state);
        let mut writer = match open.writer.take() {
            Some(writer) => writer,
            None => state.store.writer(&written_rows(), &Writers::Competing).await.map_err(ApiError::from)?,
        };
        let mut turns = 0;
        let (mut commit, counts) = loop {
            // A writer that has read is not used again unless it commits.
            let (mut commit, counts) = made(shared, targets, frames, &mut *writer, &mut open.last).await?;
            commit.number = writer.place().commits + 1;
            match writer.commit(&commit).await {
                Ok(()) => break (commit, counts),
                // Another host has written to the same entities.
                Err(Error::Outdated { .. }) if turns < TURNS_MAX => {
                    turns += 1;
                    tokio::time::sleep(Duration::from_millis(turns)).await;
                }
                Err(Error::Outdated { .. }) => {
                    open.writer = Some(writer);
                    return Err(ApiError::unavailable("other hosts write to the same entities all the time; try again").into());
                }
                Err(error) => return Err(ApiError::from(error).into()),
            }
        };
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

/// What is to be committed, and of each view how many rows or entities.
async fn made<'t>(
    shared: &Shared,
    targets: &[&'t Arc<Written>],
    frames: &[Vec<Row<'_>>],
    writer: &mut dyn Writer,
    last: &mut EntryId,
) -> Result<(Commit, Vec<(&'t str, usize)>), FeastError> {
    let now = Timestamp::now();
    let (mut commit, mut counts, mut entities) = (Commit::default(), Vec::new(), Entities::new());
    for (target, rows) in targets.iter().zip(frames) {
        let rows = rows.iter().map(|row| {
            *last = next(*last, now);
            (Version { event_time: row.event_time, entry_id: *last }, row)
        });
        let many = match &target.kept {
            None => pack(target, rows, now, &mut commit.rows),
            Some(plan) => by_entity(target, plan, rows, &mut entities),
        };
        counts.push((target.view.name.as_str(), many));
    }
    keep(shared, &entities, writer, &mut commit.puts).await?;
    Ok((commit, counts))
}

/// Where commits of rows that are sent are counted, beside those of streams; the blank in its name is in no stream's.
pub fn written_rows() -> Partition {
    Partition { stream: "rows sent".into(), group: "feast".into(), index: 0, tag: String::new() }
}

/// Of each entity the newest row: by event time, then the later in the request. How many there are.
fn pack<'r, 'b: 'r>(target: &Written, rows: impl Iterator<Item = (Version, &'r Row<'b>)>, now: Timestamp, packed_rows: &mut Rows) -> usize {
    let mut newest: HashMap<&[u8], (Version, &Row<'_>)> = HashMap::new();
    for (version, row) in rows {
        let known = newest.entry(&row.key).or_insert((version, row));
        if known.0 < version {
            *known = (version, row);
        }
    }
    for (key, (version, row)) in &newest {
        let expires_at = target.lasting.map(|lasting| lasting.expires_at(version.event_time, now));
        packed_rows.push_with(*version, expires_at, |key_buffer, packed| {
            key_buffer.extend_from_slice(key);
            row.pack(target.schema, *version, packed);
        });
    }
    newest.len()
}

/// The rows of an entity of which more is kept than the newest, in the order in which they were sent.
struct OfEntity<'r, 'b> {
    target: &'r Written,
    plan: &'r Plan,
    rows: Vec<(Version, &'r Row<'b>)>,
}

/// By key, in the order of the keys.
type Entities<'r, 'b> = BTreeMap<&'r [u8], OfEntity<'r, 'b>>;

/// Sorts rows by their entities. How many entities there are.
fn by_entity<'r, 'b>(
    target: &'r Written,
    plan: &'r Plan,
    rows: impl Iterator<Item = (Version, &'r Row<'b>)>,
    entities: &mut Entities<'r, 'b>,
) -> usize {
    let before = entities.len();
    for (version, row) in rows {
        entities.entry(&row.key).or_insert_with(|| OfEntity { target, plan, rows: Vec::new() }).rows.push((version, row));
    }
    entities.len() - before
}

/// Adds rows to what is stored of their entities.
async fn keep(shared: &Shared, entities: &Entities<'_, '_>, writer: &mut dyn Writer, puts: &mut Puts) -> Result<(), FeastError> {
    if entities.is_empty() {
        return Ok(());
    }
    if entities.len() > ENTITIES_MAX {
        let many = entities.len();
        let message = format!("{many} entities of views that keep history are sent at once; {ENTITIES_MAX} are allowed: send fewer");
        return Err(ApiError::too_large(message).into());
    }
    let keys: Vec<Vec<u8>> = entities.keys().map(|key| key.to_vec()).collect();
    let (mut all, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for keys in keys.chunks(READ_KEYS_MAX) {
        let read = writer.read(keys).await.map_err(ApiError::from)?;
        bytes += read.iter().flatten().map(Bytes::len).sum::<usize>();
        if bytes > READ_BYTES_MAX {
            let message = format!("the entities of these rows keep more than {READ_BYTES_MAX} bytes; send fewer rows at once");
            return Err(ApiError::too_large(message).into());
        }
        all.extend(read);
    }
    // What has expired since it was read must not be taken for what had expired by then.
    let (now, mut since_turn) = (Timestamp::now(), 0);
    for ((key, of_entity), stored) in keys.into_iter().zip(entities.values()).zip(all) {
        let OfEntity { target, plan, rows } = of_entity;
        let stored = stored.map(FeatureRow::new).transpose().map_err(corrupt)?;
        let of = match stored.as_ref().map(|stored| stored.header.schema).filter(|schema| *schema != target.schema) {
            Some(schema) => Some(shared.schema(schema).await?),
            None => None,
        };
        let from = of.as_ref().map(|of| (of.shape(), of.schema.keeps_since));
        let to = Shape { outputs: &target.view.features, plan };
        let mut entity = target.forgets.entity(target.lasting, stored.as_ref(), from, to, now).map_err(corrupt)?;
        let rows = rows.iter().map(|(version, row)| {
            let mut packed = Vec::new();
            row.pack(target.schema, *version, &mut packed);
            (*version, packed.into())
        });
        entity.write(plan, rows.collect(), now).map_err(corrupt)?;
        if let Some(bytes) = entity.make_room(plan, ENTITY_BYTES_MAX, now).map_err(corrupt)? {
            let view = &target.view.name;
            let message =
                format!("an entity of view {view} would keep {bytes} bytes; {ENTITY_BYTES_MAX} are allowed: send fewer rows of the future");
            return Err(FeastError::plain(message));
        }
        let mut value = Vec::new();
        entity.push(plan, &mut value, target.schema).map_err(corrupt)?;
        since_turn += value.len();
        if since_turn > TURN_BYTES {
            since_turn = 0;
            tokio::task::yield_now().await;
        }
        let newest = entity.newest().map_or(now, Version::came);
        puts.push(Put { key, value: Some(value.into()), expires_at: target.lasting.map(|lasting| lasting.expires_at(newest, now)) });
    }
    Ok(())
}

fn corrupt(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(&error.to_string())
}

impl Row<'_> {
    fn pack(&self, schema: SchemaId, version: Version, packed: &mut Vec<u8>) {
        FeatureRow::pack(packed, version, schema, self.values.iter().map(|value| value.as_ref().map(OwnedValue::value)));
    }
}

/// An id of this moment that is greater than the last one.
fn next(last: EntryId, now: Timestamp) -> EntryId {
    let ms = now.as_millis();
    if ms > last.ms { EntryId { ms, seq: 0 } } else { EntryId { ms: last.ms, seq: last.seq.saturating_add(1) } }
}
