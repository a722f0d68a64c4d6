//! From an event to its partition.

use std::borrow::Cow;

use super::Wanted;
use super::json::{self, Paths};
use crate::model::{EntryRef, Field, Format, KeyPart, Kind, Partitioning, parse};

/// How the events of a partitioned stream are told apart, before anything is known of the transforms that will read them: by the texts of
/// some fields as they stand in the event, whatever their kinds.
#[derive(Debug)]
pub struct Route {
    format: Format,
    partitioning: Partitioning,
    paths: Paths,
}

impl Route {
    /// For events of this format; fields are names, or dotted paths into JSON.
    pub fn new(format: Format, partitioning: Partitioning) -> Route {
        let wanted = |name: &String| Wanted { field: Field::plain(name, Kind::Text, false), from: name.clone(), epoch: None };
        let wanted: Vec<Wanted> = partitioning.by.iter().map(wanted).collect();
        Route { paths: Paths::new(&format, &wanted), format, partitioning }
    }

    /// The fields that tell the partition.
    pub fn by(&self) -> &[String] {
        &self.partitioning.by
    }

    /// How many partitions there are.
    pub fn count(&self) -> u32 {
        self.partitioning.count
    }

    /// The partition that an event belongs into. The error says what it lacks.
    pub fn partition(&self, entry: &EntryRef<'_>) -> Result<u32, String> {
        let texts = match &self.format {
            Format::Json { field } => self.in_json(entry, field)?,
            Format::Fields => self.in_fields(entry)?,
        };
        for (name, text) in self.partitioning.by.iter().zip(&texts) {
            if text.is_none() {
                let count = self.partitioning.count;
                return Err(format!("it has no `{name}`, which tells into which of the stream's {count} partitions it belongs"));
            }
        }
        Ok(self.partitioning.partition_of(texts.iter().flatten().map(|text| KeyPart::Bytes(text))))
    }

    fn in_json<'e>(&self, entry: &EntryRef<'e>, field: &str) -> Result<Vec<Option<Cow<'e, [u8]>>>, String> {
        let text = entry.value(field.as_bytes()).ok_or_else(|| format!("it has no field `{field}`, which should hold a JSON object"))?;
        let mut found = vec![None; self.partitioning.by.len()];
        self.paths.find_all(text, &mut found).map_err(|error| format!("it is not a JSON object: {error}"))?;
        self.partitioning.by.iter().zip(found).map(|(name, found)| plain(name, found)).collect()
    }

    fn in_fields<'e>(&self, entry: &EntryRef<'e>) -> Result<Vec<Option<Cow<'e, [u8]>>>, String> {
        let texts = self.partitioning.by.iter().enumerate().map(|(index, name)| {
            if let Some(value) = entry.value(name.as_bytes()) {
                return Ok(Some(Cow::Borrowed(value)));
            }
            let Some((outer, path)) = self.paths.nested(index) else { return Ok(None) };
            let Some(text) = entry.value(outer.as_bytes()) else { return Ok(None) };
            let found = json::find(text, path).map_err(|error| format!("field `{outer}` is not a JSON object: {error}"))?;
            plain(name, found)
        });
        texts.collect()
    }
}

/// The text of a JSON value: what a string says, and any other as it is written.
fn plain<'e>(name: &str, found: Option<&'e str>) -> Result<Option<Cow<'e, [u8]>>, String> {
    match found {
        None | Some("null") => Ok(None),
        Some(value) if value.starts_with(['{', '[']) => Err(format!("`{name}` is a JSON object or list, which tells no partition")),
        Some(value) => Ok(parse::json_text(value).map(|text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entries, EntryId};

    fn route(format: Format, by: &[&str]) -> Route {
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        Route::new(format, Partitioning { key: "k".into(), count: 251, by })
    }

    fn partition(route: &Route, fields: &[(&str, &str)]) -> Result<u32, String> {
        let mut entries = Entries::default();
        entries.push(EntryId::ZERO, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        route.partition(&entries.get(0).unwrap())
    }

    #[test]
    fn the_same_values_are_in_the_same_partition_however_they_are_written() {
        let flat = route(Format::Fields, &["user", "item.id"]);
        let json = route(Format::Json { field: "data".into() }, &["user", "item.id"]);
        let expected = flat.partitioning.partition_of([KeyPart::Bytes(b"ann|e"), KeyPart::Integer(7)]);
        assert_eq!(partition(&flat, &[("user", "ann|e"), ("item", r#"{"id":7}"#)]), Ok(expected));
        assert_eq!(partition(&json, &[("data", r#"{"item":{"id":7},"user":"ann|e"}"#)]), Ok(expected));
        assert_eq!(partition(&json, &[("data", r#"{"item":{"id":"7"},"user":"ann\u007ce"}"#)]), Ok(expected));
    }

    #[test]
    fn an_event_without_the_fields_is_refused() {
        let flat = route(Format::Fields, &["user"]);
        assert!(partition(&flat, &[("item", "x")]).unwrap_err().contains("no `user`"));
        let json = route(Format::Json { field: "data".into() }, &["user"]);
        assert!(partition(&json, &[("data", r#"{"user":null}"#)]).unwrap_err().contains("no `user`"));
        assert!(partition(&json, &[("data", r#"{"user":[1]}"#)]).unwrap_err().contains("list"));
        assert!(partition(&json, &[("data", "7")]).unwrap_err().contains("not a JSON object"));
    }
}
