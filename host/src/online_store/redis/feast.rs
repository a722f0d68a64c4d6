//! Rows as Feast keeps them: one hash for each entity of a project, shared by all views with the same join keys. In it a field for each feature, and
//! `_ts:VIEW` with the event time. Feast's own clients read them, and may write them too.
//!
//! What Feast has no place for stands beside it in a field of ours, `_PREFIX:VIEW`: the row's version with its entry id, its schema, and when it expires.
//! It counts as long as its event time is that of `_ts:VIEW`; otherwise somebody else has written the row since. Whoever else writes does
//! not tell us, so every row is compared with what is stored, by a script in the commit's transaction. States, and views that keep more than their newest row, have no
//! place in the hash and are kept as in any Redis store; of a view that has had both, the newer of the two counts.
//!
//! Feast's own writer reads, compares and then writes in steps of its own: where it writes the same entity at the same moment, an older row of its may
//! come last. Nothing that is done here can keep it from that.

mod merge;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use percent_encoding::percent_decode;
use rustc_hash::FxHashMap;

use super::{Error, RedisStore, Shared};
use crate::model::feast::{self, FeastKey};
use crate::model::{
    EntryId, FeastType, FeatureRow, Field, Header, Kind, OwnedValue, RowRef, Scalar, Schema, SchemaId, Timestamp, Version, split_tag,
};
use crate::resp::Commands;
pub(super) use merge::push_rows;
use reading::Crowded;

/// How rows are laid out for Feast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeastLayout {
    /// The project, which is part of every key.
    pub project: String,
    /// How long an entity is kept after the last row that was accepted, all of its views together, in seconds; for ever when absent. The same as Feast's `key_ttl_seconds`.
    pub key_ttl_secs: Option<u64>,
    /// Types that were declared, by view and field: numbers are 64 bits wide otherwise.
    pub types: BTreeMap<String, BTreeMap<String, FeastType>>,
}

/// The schemas whose rows are laid out for Feast.
pub(super) struct Known {
    /// The prefix of this store's own keys: hosts of other prefixes number schemas differently.
    prefix: String,
    known: RwLock<Schemas>,
}

#[derive(Default)]
struct Schemas {
    by_id: HashMap<SchemaId, Arc<Laid>>,
    /// Views that have rows in Feast's layout, or had them.
    views: BTreeMap<Vec<u8>, LaidView>,
}

#[derive(Clone)]
struct LaidView {
    /// Its newest schema of rows.
    laid: Arc<Laid>,
    /// Whether it also keeps, or kept, windows or history: then its newest row may stand in either place.
    in_both: bool,
}

/// One schema as Feast has it.
pub(super) struct Laid {
    id: SchemaId,
    entity: Vec<Field>,
    features: Vec<Field>,
    types: BTreeMap<String, FeastType>,
    /// The hash field of each feature.
    fields: Vec<[u8; 4]>,
    time_field: Vec<u8>,
    own_field: Vec<u8>,
    /// Where each of these stands.
    places: FxHashMap<Vec<u8>, usize>,
    crowded: Crowded,
}

impl Laid {
    fn new(layout: &FeastLayout, prefix: &str, id: SchemaId, schema: &Schema) -> Laid {
        let view = &schema.view;
        let mut laid = Laid {
            id,
            entity: schema.entity.clone(),
            features: schema.features.clone(),
            types: layout.types.get(view).cloned().unwrap_or_default(),
            fields: schema.features.iter().map(|field| feast::field(&format!("{view}:{}", field.name))).collect(),
            time_field: format!("_ts:{view}").into_bytes(),
            own_field: format!("_{prefix}:{view}").into_bytes(),
            places: FxHashMap::default(),
            crowded: Crowded::default(),
        };
        laid.places = laid.names().map(<[u8]>::to_vec).zip(0..).collect();
        laid
    }

    /// The hash that a row key's entity is kept in; `None` for what is no row key of this view.
    fn key(&self, project: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (_, key) = split_tag(key);
        let (_, parts) = key.split_at_checked(key.iter().position(|byte| *byte == b':')? + 1)?;
        let parts: Vec<Vec<u8>> = parts.split(|byte| *byte == b'|').map(|part| percent_decode(part).collect()).collect();
        if parts.len() != self.entity.len() {
            return None;
        }
        let named = self.entity.iter().zip(&parts).map(|(field, part)| {
            let narrow = self.types.get(&field.name).is_some_and(|declared| declared.scalar == Scalar::Int32);
            let number = || std::str::from_utf8(part).ok()?.parse::<i64>().ok();
            let value = match field.kind {
                Kind::Integer if narrow => i32::try_from(number()?).map(FeastKey::Int32).ok()?,
                Kind::Integer => FeastKey::Int64(number()?),
                Kind::Text => FeastKey::String(std::str::from_utf8(part).ok()?),
                Kind::Bytes => FeastKey::Bytes(part),
                Kind::Boolean | Kind::Float | Kind::Timestamp | Kind::Vector | Kind::List => return None,
            };
            Some((field.name.as_str(), value))
        });
        Some(feast::redis_key(project, &named.collect::<Option<Vec<_>>>()?))
    }

    /// The row that a hash has, given the values of its features, its event time and our own field.
    fn row(&self, of: &Laid, values: &[Option<&[u8]>], now: Timestamp) -> Result<Option<Bytes>, Error> {
        let (features, rest) = values.split_at_checked(self.fields.len()).unwrap_or_default();
        let [Some(time), own] = rest else { return Ok(None) };
        let Some(event_time) = feast::decode_time(time) else { return Ok(None) };
        let own = own.and_then(Own::read).filter(|own| own.version.event_time == event_time);
        if own.as_ref().and_then(|own| own.expires_at).is_some_and(|at| at <= now) {
            return Ok(None);
        }
        let version = own.map_or(Version { event_time, entry_id: EntryId::ZERO }, |own| own.version);
        let is_same = std::ptr::eq(self, of);
        let value = |(index, field): (usize, &Field)| -> Option<OwnedValue<'_>> {
            let position = if is_same { index } else { self.features.iter().position(|known| known.name == field.name)? };
            feast::decode((*features.get(position)?)?, field)
        };
        let mut row = FeatureRow::packer(version, of.id, of.features.len());
        of.features.iter().enumerate().for_each(|field| row.push(value(field).as_ref().map(OwnedValue::value)));
        Ok(Some(row.finish()))
    }
}

/// Our own field.
struct Own {
    version: Version,
    schema: SchemaId,
    expires_at: Option<Timestamp>,
}

impl Own {
    /// Twenty-four bytes of version, four of schema, and eight of expiry where there is one, all big-endian.
    fn write(header: Header, expires_at: Option<Timestamp>) -> Vec<u8> {
        let mut bytes = header.version.to_bytes().to_vec();
        bytes.extend_from_slice(&header.schema.0.to_be_bytes());
        expires_at.into_iter().for_each(|at| bytes.extend_from_slice(&at.0.to_be_bytes()));
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Own> {
        let (version, rest) = bytes.split_first_chunk::<24>()?;
        let (schema, rest) = rest.split_first_chunk::<4>()?;
        let expires_at = rest.first_chunk::<8>().map(|at| Timestamp(i64::from_be_bytes(*at)));
        Some(Own { version: Version::from_bytes(*version), schema: SchemaId(u32::from_be_bytes(*schema)), expires_at })
    }
}

impl Known {
    pub(super) fn new(prefix: &str) -> Known {
        Known { prefix: prefix.to_owned(), known: RwLock::default() }
    }

    /// Takes a schema into force; `all` are those that rows may have been written under.
    pub(super) fn take(&self, layout: &FeastLayout, id: SchemaId, schema: &Schema, all: &[(SchemaId, Schema)]) {
        if !schema.kept.is_nothing() {
            let view = &schema.view;
            tracing::warn!(
                view,
                "keeps windows or history, which Feast's layout has no place for: only this host's own interfaces read it"
            );
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.learn(layout, &self.prefix, all);
        let of_view = || all.iter().filter(|(_, other)| other.view == schema.view);
        let in_both = of_view().any(|(_, other)| other.kept.is_nothing()) && of_view().any(|(_, other)| !other.kept.is_nothing());
        // Features are only ever added, so the widest is the newest.
        let rows = of_view().filter(|(_, other)| other.kept.is_nothing());
        let newest = rows.max_by_key(|(id, other)| (other.features.len(), *id)).map(|(id, _)| *id);
        let laid = if schema.kept.is_nothing() { Some(id) } else { newest }.and_then(|id| known.by_id.get(&id).cloned());
        if let Some(laid) = laid {
            known.views.insert(schema.view.clone().into_bytes(), LaidView { laid, in_both });
        }
    }

    fn view(&self, key: &[u8]) -> Option<LaidView> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.views.get(super::transaction::view_of(key)).cloned()
    }

    fn by_id(&self, id: SchemaId) -> Option<Arc<Laid>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }
}

impl Schemas {
    /// Remembers the schemas of rows; those of windows and history have no place in hashes.
    fn learn(&mut self, layout: &FeastLayout, prefix: &str, all: &[(SchemaId, Schema)]) {
        for (id, schema) in all.iter().filter(|(_, schema)| schema.kept.is_nothing()) {
            self.by_id.entry(*id).or_insert_with(|| Arc::new(Laid::new(layout, prefix, *id, schema)));
        }
    }
}

/// Refuses a schema whose entities Feast has no keys for, or of whose features Feast takes one for the other.
pub(super) fn check(schema: &Schema) -> Result<(), Error> {
    let view = &schema.view;
    let mut names = HashMap::new();
    for feature in schema.features.iter().map(|field| &field.name).filter(|_| schema.kept.is_nothing()) {
        if let Some(other) = names.insert(feast::field(&format!("{view}:{feature}")), feature) {
            return Err(Error::Config(format!(
                "features `{other}` and `{feature}` of view `{view}` have the same 32-bit hash, which is all that a store of type \"feast_redis\" keeps of their names: rename one of them"
            )));
        }
    }
    let has_key = |kind: Kind| matches!(kind, Kind::Integer | Kind::Text | Kind::Bytes);
    if let Some(field) = schema.entity.iter().find(|field| schema.kept.is_nothing() && !has_key(field.kind)) {
        let (name, kind) = (&field.name, field.kind);
        return Err(Error::Config(format!(
            "the entity of view `{view}` has the {kind} `{name}`, and a store of type \"feast_redis\" has no keys of that kind: make it a text or an integer, or use type = \"redis\""
        )));
    }
    Ok(())
}

/// The one with the greater version. Of equal ones the first, which may have more than a row.
pub(super) fn newer(packed: Option<Bytes>, in_hash: Option<Bytes>) -> Option<Bytes> {
    let version = |row: &Option<Bytes>| Header::read(row.as_deref()?).ok().map(|header| header.version);
    if version(&in_hash) > version(&packed) { in_hash } else { packed }
}

impl Shared {
    /// A schema that rows were written under before; the one in force where nobody knows it any more.
    async fn laid_of(&self, layout: &FeastLayout, id: SchemaId, in_force: &Arc<Laid>) -> Result<Arc<Laid>, Error> {
        if let Some(laid) = self.laid.by_id(id) {
            return Ok(laid);
        }
        let all = self.all_schemas().await?;
        let mut known = self.laid.known.write().unwrap_or_else(PoisonError::into_inner);
        known.learn(layout, &self.laid.prefix, &all);
        Ok(known.by_id.get(&id).unwrap_or(in_force).clone())
    }

    /// The hash where the row of this key stands or may have stood, if there is one.
    pub(super) fn hash_of(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.laid.view(key)?.laid.key(&self.options.feast.as_ref()?.project, key)
    }

    /// Takes a row out of its hash whose entity is put elsewhere: it would come back when that expires.
    pub(super) fn push_leaving(&self, commands: &mut Commands, key: &[u8]) {
        let Some((hash, view)) = self.hash_of(key).zip(self.laid.view(key)) else { return };
        commands.begin(view.laid.fields.len() + 4).arg(b"HDEL").arg(&hash);
        for name in view.laid.names() {
            commands.arg(name);
        }
    }

    /// The schema and the hash of a row that is laid out for Feast.
    pub(super) fn laid_row(&self, row: &RowRef<'_>) -> Option<(Arc<Laid>, Vec<u8>)> {
        let layout = self.options.feast.as_ref()?;
        let header = Header::read(row.packed).ok()?;
        let laid = self.laid.by_id(header.schema)?;
        let hash = laid.key(&layout.project, row.key)?;
        Some((laid, hash))
    }
}
