//! From the join keys of a request to the keys of the store.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ApiError, suggestion};
use crate::model::json::{push_text, push_value};
use crate::model::{Field, KeyPart, Kind, Partitioning, Timestamp, Value, View, parse, row_key, split_tag};

/// Characters of a bad value that are shown.
pub(super) const SHOWN_CHARS: usize = 80;
/// Members of an object that are compared one by one.
const FEW_MEMBERS: usize = 16;

/// An entity's members in the order given.
pub(super) struct Entity<'b>(pub(super) Vec<(Cow<'b, str>, &'b RawValue)>);

impl<'b> Entity<'b> {
    pub(super) fn get(&self, name: &str) -> Option<Given<'b>> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| Given::Json(value.get()))
    }
}

impl Entity<'_> {
    /// Refuses a member that stands twice: nobody could say which one was meant. (Feast's clients are read as Feast reads them, which takes the last.)
    pub(super) fn check_once(&self, label: &impl Fn() -> String) -> Result<(), ApiError> {
        let double = if self.0.len() <= FEW_MEMBERS {
            self.0
                .iter()
                .enumerate()
                .find(|(index, (name, _))| self.0.iter().take(*index).any(|(before, _)| before == name))
                .map(|(_, one)| one)
        } else {
            let mut seen = HashSet::with_capacity(self.0.len());
            self.0.iter().find(|member| {
                let (name, _) = *member;
                !seen.insert(name)
            })
        };
        match double {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(SHOWN_CHARS).collect();
                Err(ApiError::unusable(format!("{}: `{shown}` stands in it twice", label())))
            }
        }
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Entity<'b> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entity<'b>, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Entity<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object of join keys")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Name<'n>(#[serde(borrow)] Cow<'n, str>);
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Entity(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The members of a query string by name. Clients that are made of the description write `entity[id]=a` for what people write `id=a`.
pub(super) fn in_query(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut members = BTreeMap::new();
    for (name, value) in pairs {
        let bare = name.strip_prefix("entity[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned).unwrap_or(name);
        let shown: String = bare.chars().take(SHOWN_CHARS).collect();
        if members.insert(bare, value).is_some() {
            return Err(ApiError::unusable(format!("the query: `{shown}` stands in it twice")));
        }
    }
    Ok(members)
}

/// A join key's value as the request has it: the text of a JSON value, or bare text out of a URL.
#[derive(Clone, Copy)]
pub(super) enum Given<'b> {
    Json(&'b str),
    Plain(&'b str),
}

/// Appends the row keys of all views for one of a request's entities.
pub(super) fn entity_keys(views: &[&View], index: usize, raw: &RawValue, keys: &mut Vec<Vec<u8>>) -> Result<(), ApiError> {
    let members: Entity<'_> = serde_json::from_str(raw.get())
        .map_err(|error| ApiError::unusable(format!("entities[{index}] is not an object of join keys: {error}")))?;
    let label = || format!("entities[{index}]");
    members.check_once(&label)?;
    check_known(views, members.0.iter().map(|(name, _)| name.as_ref()), &label)?;
    for view in views {
        keys.push(key(view, &label, |name| members.get(name))?);
    }
    Ok(())
}

/// The row key of one view for one entity.
pub(super) fn key<'b>(view: &View, label: &impl Fn() -> String, get: impl Fn(&str) -> Option<Given<'b>>) -> Result<Vec<u8>, ApiError> {
    let values = view.entity.iter().map(|field| match get(&field.name) {
        Some(value) => coerce(field, value, label),
        None => {
            let (name, view) = (&field.name, &view.name);
            Err(ApiError::unusable(format!("{} has no `{name}`, which view `{view}` needs", label())))
        }
    });
    let values = values.collect::<Result<Vec<Part<'b>>, _>>()?;
    let key = match &view.partitioning {
        None => row_key(&view.name, values.iter().map(Part::key_part)),
        Some(partitioning) => row_key(&(tag(view, partitioning, &values) + &view.name), values.iter().map(Part::key_part)),
    };
    key.map_err(|error| ApiError::unusable(format!("{}: {error}", label())))
}

/// The tag of the partition that the entity of these values belongs to.
fn tag(view: &View, partitioning: &Partitioning, values: &[Part<'_>]) -> String {
    let value = |name: &String| values.get(view.entity.iter().position(|field| field.name == *name)?).map(Part::key_part);
    partitioning.tag(partitioning.partition_of(partitioning.by.iter().filter_map(value)))
}

/// A join key's value.
pub(super) enum Part<'b> {
    Integer(i64),
    Boolean(bool),
    Timestamp(Timestamp),
    /// Of texts and bytes.
    Text(Cow<'b, str>, Kind),
}

impl Part<'_> {
    fn key_part(&self) -> KeyPart<'_> {
        match self {
            Part::Integer(number) => KeyPart::Integer(*number),
            Part::Boolean(truth) => KeyPart::Boolean(*truth),
            Part::Timestamp(moment) => KeyPart::Timestamp(moment.0),
            Part::Text(text, _) => KeyPart::Bytes(text.as_bytes()),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Part::Integer(number) => Value::Integer(*number),
            Part::Boolean(truth) => Value::Boolean(*truth),
            Part::Timestamp(moment) => Value::Timestamp(*moment),
            Part::Text(text, Kind::Bytes) => Value::Bytes(text.as_bytes()),
            Part::Text(text, _) => Value::Text(text),
        }
    }
}

/// Reads a join key by the rules by which events are read, so that a key finds the row that the same text in an event made.
pub(super) fn coerce<'b>(field: &Field, given: Given<'b>, label: &impl Fn() -> String) -> Result<Part<'b>, ApiError> {
    let text = match given {
        Given::Plain(text) => Some(Cow::Borrowed(text)),
        Given::Json("null") => None,
        // An event's list or object would be a key as it is written. Nobody who asks means that; who does gives it as text.
        Given::Json(json) if json.starts_with(['[', '{']) => None,
        // It comes back in the answer, and most who read that could not read the number.
        Given::Json(json) if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && !is_finite(json) => None,
        Given::Json(json) => parse::json_text(json),
    };
    let part = text.and_then(|text| match field.kind {
        Kind::Integer => parse::integer(text.as_bytes()).map(Part::Integer),
        Kind::Boolean => parse::boolean(text.as_bytes()).map(Part::Boolean),
        Kind::Timestamp => parse::timestamp(text.as_bytes(), None).map(Part::Timestamp),
        Kind::Text | Kind::Bytes => Some(Part::Text(text, field.kind)),
        // A spec that was checked has no such entity.
        Kind::Float | Kind::Vector | Kind::List => None,
    });
    part.ok_or_else(|| {
        let (Given::Json(text) | Given::Plain(text)) = given;
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        ApiError::unusable(format!("{}: `{}` is {shown}; expected {}", label(), field.name, field.kind))
    })
}

/// Appends the entity of a row key as the object that a query would name it by.
pub(super) fn push_entity(out: &mut Vec<u8>, view: &View, key: &[u8]) {
    let parts = split_tag(key).1.get(view.name.len() + 1..).unwrap_or_default().split(|byte| *byte == b'|');
    out.push(b'{');
    for (index, (field, part)) in view.entity.iter().zip(parts).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_text(out, &field.name);
        out.push(b':');
        let text: Vec<u8> = percent_decode(part).collect();
        let text = String::from_utf8_lossy(&text);
        match field.kind {
            Kind::Integer | Kind::Boolean => out.extend_from_slice(text.as_bytes()),
            Kind::Timestamp => push_value(out, text.parse().ok().map(|micros| Value::Timestamp(Timestamp(micros)))),
            Kind::Text | Kind::Bytes | Kind::Float | Kind::Vector | Kind::List => push_text(out, &text),
        }
    }
    out.push(b'}');
}

/// Whether a number of JSON is one that a float can hold.
fn is_finite(json: &str) -> bool {
    json.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether the view's entity has a field of this name.
pub(super) fn is_join_key(view: &View, name: &str) -> bool {
    view.entity.iter().any(|field| field.name == name)
}

/// Refuses a member that is a join key of no view asked for: it is a misspelt one.
pub(super) fn check_known<'n>(views: &[&View], names: impl Iterator<Item = &'n str>, label: &impl Fn() -> String) -> Result<(), ApiError> {
    let join_keys = || views.iter().flat_map(|view| &view.entity).map(|field| field.name.as_str());
    for name in names {
        if !join_keys().any(|known| known == name) {
            let shown: String = name.chars().take(80).collect();
            let hint = suggestion(name, join_keys());
            let all: BTreeSet<&str> = join_keys().collect();
            let all = || all.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            let hint = if hint.is_empty() { format!("; known are {}", all()) } else { hint };
            return Err(ApiError::unusable(format!("{}: `{shown}` is a join key of no view asked for{hint}", label())));
        }
    }
    Ok(())
}
