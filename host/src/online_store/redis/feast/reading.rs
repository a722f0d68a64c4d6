//! Reading rows out of their hashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redis::{FromRedisValue, Pipeline, Value};

use super::{Error, FeastLayout, Laid, LaidView, Own, RedisStore, newer};
use crate::model::Timestamp;
use crate::resp::{self, Commands, Line, Replies};

/// A hash of so many fields that are wanted is read whole, because Redis looks for each field of a small hash from its beginning.
const WHOLE_FIELDS_MIN: usize = 8;
/// How much more than what is wanted a hash may have, in fields and in bytes, to be read whole.
const WHOLE_TIMES_MAX: usize = 3;
/// Bytes of a hash that are no reason not to read it whole.
const WHOLE_BYTES_MIN: usize = 16 << 10;

/// Whether hashes of an entity have so much of other views that they are better not read whole.
#[derive(Default)]
pub(super) struct Crowded(AtomicBool);

/// Where one row is looked for.
struct Asked {
    hash: Option<(Arc<Laid>, Vec<u8>)>,
    is_whole: bool,
    /// Whether it may stand by itself, as in a store of type "redis".
    in_both: bool,
}

impl RedisStore {
    /// What is stored under each key, wherever it stands. One round trip.
    pub(in super::super) async fn read_laid(&self, layout: &FeastLayout, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let asked: Vec<Asked> = keys.iter().map(|key| self.asked(layout, key)).collect();
        match self.shared.queries.line() {
            Some(line) => self.read_over(line, layout, &asked, keys).await,
            None => self.read_from_cluster(layout, &asked, keys).await,
        }
    }

    fn asked(&self, layout: &FeastLayout, key: &[u8]) -> Asked {
        let view = self.shared.laid.view(key);
        let hash = view.as_ref().and_then(|view| view.laid.key(&layout.project, key));
        let in_both = hash.is_none() || view.as_ref().is_some_and(|view| view.in_both);
        let hash = view.zip(hash).map(|(LaidView { laid, .. }, hash)| (laid, hash));
        let is_whole =
            hash.as_ref().is_some_and(|(laid, _)| laid.fields.len() >= WHOLE_FIELDS_MIN && !laid.crowded.0.load(Ordering::Relaxed));
        Asked { hash, is_whole, in_both }
    }

    async fn read_over(&self, line: &Line, layout: &FeastLayout, asked: &[Asked], keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let prefix = self.shared.key("row:");
        let mut commands = Commands::default();
        for (Asked { hash, is_whole, in_both }, key) in asked.iter().zip(keys) {
            match hash {
                Some((_, hash)) if *is_whole => {
                    commands.command(&[b"HGETALL", hash]);
                }
                Some((laid, hash)) => {
                    commands.begin(laid.fields.len() + 4).arg(b"HMGET").arg(hash);
                    for name in laid.names() {
                        commands.arg(name);
                    }
                }
                None => {}
            }
            if *in_both {
                commands.begin(2).arg(b"GET").arg_joined(prefix.as_bytes(), key);
            }
        }
        let odd = |error: resp::Error| self.shared.broken("HMGET", error);
        let answer = line.ask(commands).await.map_err(odd)?;
        let (now, mut replies) = (Timestamp::now(), Replies::new(&answer));
        let mut rows = Vec::with_capacity(keys.len());
        let mut values: Vec<Option<&[u8]>> = Vec::new();
        for Asked { hash, is_whole, in_both } in asked {
            let in_hash = match hash {
                None => None,
                Some((laid, _)) => {
                    if *is_whole { laid.take_whole(&mut replies, &mut values) } else { laid.take(&mut replies, &mut values) }
                        .map_err(odd)?;
                    self.row_of(layout, laid, &values, now).await?
                }
            };
            let packed = if *in_both { replies.bulk().map_err(odd)?.map(Bytes::copy_from_slice) } else { None };
            rows.push(newer(packed, in_hash));
        }
        Ok(rows)
    }

    async fn read_from_cluster(&self, layout: &FeastLayout, asked: &[Asked], keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, Error> {
        let prefix = self.shared.key("row:");
        let mut pipeline = Pipeline::new();
        for (Asked { hash, in_both, .. }, key) in asked.iter().zip(keys) {
            if let Some((laid, hash)) = hash {
                pipeline.cmd("HMGET").arg(hash.as_slice());
                for name in laid.names() {
                    pipeline.arg(name);
                }
            }
            if *in_both {
                pipeline.cmd("GET").arg([prefix.as_bytes(), key].concat());
            }
        }
        let replies: Vec<Value> = self.shared.ask_all(&pipeline, "HMGET").await?;
        let (now, mut replies) = (Timestamp::now(), replies.into_iter());
        let mut next = || replies.next().ok_or_else(|| Error::Corrupt("the server answered fewer commands than it was sent".into()));
        let odd = |error: redis::ParsingError| Error::Corrupt(error.to_string());
        let mut rows = Vec::with_capacity(keys.len());
        for Asked { hash, in_both, .. } in asked {
            let in_hash = match hash {
                None => None,
                Some((laid, _)) => {
                    let values = Vec::<Option<Vec<u8>>>::from_redis_value(next()?).map_err(odd)?;
                    let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                    self.row_of(layout, laid, &values, now).await?
                }
            };
            let packed = if *in_both { Option::<Vec<u8>>::from_redis_value(next()?).map_err(odd)? } else { None };
            rows.push(newer(packed.map(Bytes::from), in_hash));
        }
        Ok(rows)
    }

    /// The row that a hash has, under the schema that it was written under.
    async fn row_of(
        &self,
        layout: &FeastLayout,
        laid: &Arc<Laid>,
        values: &[Option<&[u8]>],
        now: Timestamp,
    ) -> Result<Option<Bytes>, Error> {
        let own = values.last().and_then(|own| Own::read((*own)?));
        match own.map(|own| own.schema).filter(|schema| *schema != laid.id) {
            Some(schema) => laid.row(&*self.shared.laid_of(layout, schema, laid).await?, values, now),
            None => laid.row(laid, values, now),
        }
    }
}

impl Laid {
    /// The fields that are read, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(<[u8; 4]>::as_slice).chain([self.time_field.as_slice(), self.own_field.as_slice()])
    }

    fn name(&self, index: usize) -> Option<&[u8]> {
        let of_rest = [&self.time_field, &self.own_field];
        let field = self.fields.get(index).map(<[u8; 4]>::as_slice);
        field.or_else(|| of_rest.get(index.checked_sub(self.fields.len())?).map(|name| name.as_slice()))
    }

    /// The reply to HMGET.
    fn take<'r>(&self, replies: &mut Replies<'r>, values: &mut Vec<Option<&'r [u8]>>) -> Result<(), resp::Error> {
        values.clear();
        for _ in 0..replies.array()?.unwrap_or(0) {
            values.push(replies.bulk()?);
        }
        Ok(())
    }

    /// The reply to HGETALL: of all fields those that are wanted.
    fn take_whole<'r>(&self, replies: &mut Replies<'r>, values: &mut Vec<Option<&'r [u8]>>) -> Result<(), resp::Error> {
        values.clear();
        values.resize(self.fields.len() + 2, None);
        let fields = replies.array()?.unwrap_or(0) / 2;
        let (mut next, mut all_bytes, mut wanted_bytes) = (0, 0, 0);
        for _ in 0..fields {
            let (field, value) = (replies.bulk()?.unwrap_or_default(), replies.bulk()?);
            let bytes = value.map_or(0, <[u8]>::len);
            all_bytes += bytes;
            // A small hash has its fields in the order in which they were written first.
            let index = if self.name(next) == Some(field) { Some(next) } else { self.places.get(field).copied() };
            let Some(index) = index else { continue };
            next = index + 1;
            wanted_bytes += bytes;
            if let Some(slot) = values.get_mut(index) {
                *slot = value;
            }
        }
        let is_crowded = fields > (WHOLE_TIMES_MAX * values.len()) as u64 || all_bytes > WHOLE_TIMES_MAX * wanted_bytes + WHOLE_BYTES_MIN;
        if is_crowded {
            self.crowded.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Field, Kept, Kind, Schema, SchemaId};

    fn laid(features: usize) -> Laid {
        let schema = Schema {
            view: "view".into(),
            component: Digest::NONE,
            entity: vec![Field::plain("id", Kind::Integer, false)],
            features: (0..features).map(|number| Field::plain(&format!("f{number}"), Kind::Float, true)).collect(),
            kept: Kept::default(),
            state_version: None,
            partitioning: None,
            keeps_since: None,
        };
        Laid::new(&FeastLayout::default(), "gristmill", SchemaId(1), &schema)
    }

    /// A reply of texts; none is null.
    fn reply<'t>(texts: impl ExactSizeIterator<Item = Option<&'t [u8]>>) -> Vec<u8> {
        let mut reply = format!("*{}\r\n", texts.len()).into_bytes();
        for text in texts {
            match text {
                None => reply.extend_from_slice(b"$-1\r\n"),
                Some(text) => {
                    reply.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
                    reply.extend_from_slice(text);
                    reply.extend_from_slice(b"\r\n");
                }
            }
        }
        reply
    }

    #[test]
    fn a_whole_hash_has_what_its_fields_have_whatever_their_order() {
        let laid = laid(9);
        let names: Vec<Vec<u8>> = laid.names().map(<[u8]>::to_vec).collect();
        assert!(
            names.iter().enumerate().all(|(index, name)| laid.name(index) == Some(name.as_slice())) && laid.name(names.len()).is_none()
        );
        // One of them is missing, and some belong to other views.
        let mut stored: Vec<Vec<u8>> = names.iter().filter(|name| **name != names[4]).cloned().collect();
        stored.extend([b"_ts:other".to_vec(), b"abcd".to_vec()]);
        let value = |name: &[u8]| [b"value of ", name].concat();
        for turn in 0..stored.len() {
            stored.rotate_left(turn);
            let pairs: Vec<Vec<u8>> = stored.iter().flat_map(|name| [name.clone(), value(name)]).collect();
            let some: Vec<Option<Vec<u8>>> = names.iter().map(|name| stored.contains(name).then(|| value(name))).collect();
            let (whole, some) = (reply(pairs.iter().map(|text| Some(text.as_slice()))), reply(some.iter().map(Option::as_deref)));
            let (mut from_whole, mut from_some) = (vec![Some(b"left over".as_slice())], Vec::new());
            laid.take_whole(&mut Replies::new(&whole), &mut from_whole).unwrap();
            laid.take(&mut Replies::new(&some), &mut from_some).unwrap();
            assert_eq!((&from_whole, from_whole.len()), (&from_some, names.len()));
        }
        assert!(!laid.crowded.0.load(Ordering::Relaxed));
        let mut values = Vec::new();
        laid.take_whole(&mut Replies::new(b"*0\r\n"), &mut values).unwrap();
        assert_eq!(values, vec![None; names.len()]);
    }

    #[test]
    fn a_hash_that_has_far_more_than_is_wanted_is_not_read_whole_again() {
        for (fields, bytes, is_crowded) in [(30, 1, false), (40, 1, true), (2, 20_000, true)] {
            let laid = laid(9);
            let value = vec![b'x'; bytes];
            let pairs: Vec<Vec<u8>> = (0..fields).flat_map(|field| [format!("{field}").into_bytes(), value.clone()]).collect();
            let whole = reply(pairs.iter().map(|text| Some(text.as_slice())));
            laid.take_whole(&mut Replies::new(&whole), &mut Vec::new()).unwrap();
            assert_eq!(laid.crowded.0.load(Ordering::Relaxed), is_crowded, "{fields} fields of {bytes} bytes");
        }
    }
}
