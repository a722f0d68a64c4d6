//! Bodies of Feast's requests, whatever their media type says, and what is wrong with them in FastAPI's words.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::error::{Class, FeastError};
use crate::model::View;
use crate::serve::brought::Brings;
use crate::serve::join_keys::{Entity, Given};

/// The members of a body.
pub(super) struct Members<'b>(Entity<'b>);

/// Columns that one request may have: all features of several views, with room to spare.
const COLUMNS_MAX: usize = 8_192;

/// Columns of equal length, in the order given.
pub(super) struct Columns<'b> {
    pub(super) all: Vec<(Cow<'b, str>, Vec<&'b RawValue>)>,
    /// Where each stands: requests are looked up in for every row.
    places: HashMap<Cow<'b, str>, usize>,
}

/// A text that is not copied unless it must be.
#[derive(Deserialize)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

impl<'b> Members<'b> {
    pub(super) fn read(body: &'b [u8]) -> Result<Members<'b>, FeastError> {
        if body.trim_ascii().is_empty() {
            return Err(FeastError::invalid("missing", &["body"], "Field required"));
        }
        serde_json::from_slice(body).map(Members).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                let message = "Input should be a valid dictionary or object to extract fields from";
                FeastError::invalid("model_attributes_type", &["body"], message)
            }
            serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
                let lines = body.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
                let place = lines.map(<[u8]>::len).sum::<usize>() + error.column();
                FeastError::Invalid(Box::new(json!({
                    "type": "json_invalid",
                    "loc": ["body", place],
                    "msg": "JSON decode error",
                    "input": {},
                    "ctx": {"error": error.to_string()},
                })))
            }
        })
    }

    /// A member that is there and not null.
    fn get(&self, name: &str) -> Option<&'b RawValue> {
        let found = self.0.0.iter().rev().find(|(member, _)| member == name);
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, FeastError> {
        match self.get(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(FeastError::invalid("bool_parsing", &["body", name], "Input should be a valid boolean")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'b, str>>, FeastError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match serde_json::from_str(value.get()) {
            Ok(Text(text)) => Ok(Some(text)),
            Err(_) => Err(FeastError::invalid("string_type", &["body", name], "Input should be a valid string")),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<Cow<'b, str>, FeastError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A list as it stands; what is in it is looked at when it is needed.
    pub(super) fn list(&self, name: &str) -> Result<Option<&'b RawValue>, FeastError> {
        match self.get(name) {
            Some(value) if !value.get().starts_with('[') => Err(not_a_list(&["body", name])),
            value => Ok(value),
        }
    }

    pub(super) fn columns(&self, name: &str) -> Result<Columns<'b>, FeastError> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        let Ok(Entity(members)) = serde_json::from_str(value.get()) else {
            return Err(FeastError::invalid("dict_type", &["body", name], "Input should be a valid dictionary"));
        };
        if members.len() > COLUMNS_MAX {
            return Err(FeastError::plain(format!("{} columns are sent; {COLUMNS_MAX} are allowed", members.len())));
        }
        let mut columns = Columns { all: Vec::with_capacity(members.len()), places: HashMap::with_capacity(members.len()) };
        for (column, values) in members {
            let values = serde_json::from_str(values.get()).map_err(|_| not_a_list(&["body", name, super::shown(&column).as_str()]))?;
            if columns.places.insert(column.clone(), columns.all.len()).is_some() {
                return Err(FeastError::plain(format!("column {} is given twice", super::shown(&column))));
            }
            columns.all.push((column, values));
        }
        Ok(columns)
    }
}

impl Brings for Columns<'_> {
    fn join_key(&self, entity: usize, name: &str) -> Option<Given<'_>> {
        self.get(name, entity).map(|raw| Given::Json(raw.get()))
    }

    fn beside(&self, entity: usize, name: &str) -> Option<Given<'_>> {
        self.join_key(entity, name)
    }
}

impl<'b> Columns<'b> {
    /// How many rows there are; at least one.
    pub(super) fn rows(&self) -> Result<usize, FeastError> {
        let mut lengths = self.all.iter().map(|(_, values)| values.len());
        let first = lengths.next().unwrap_or_default();
        if lengths.any(|length| length != first) {
            return Err(FeastError::plain("All arrays must be of the same length: every column needs one value for each row"));
        }
        if first == 0 {
            return Err(FeastError::plain("there are no rows; give each column at least one value"));
        }
        Ok(first)
    }

    pub(super) fn column(&self, name: &str) -> Option<&[&'b RawValue]> {
        self.all.get(*self.places.get(name)?).map(|(_, values)| values.as_slice())
    }

    pub(super) fn get(&self, name: &str, row: usize) -> Option<&'b RawValue> {
        self.column(name)?.get(row).copied()
    }

    /// Feast's client sends a join key that stands in its view's schema too once for each: `[1,2,1,2]` beside `[4,5]`.
    pub(super) fn undouble(&mut self, join_keys: &BTreeSet<&str>) {
        let others = self.all.iter().filter(|(column, _)| !join_keys.contains(column.as_ref()));
        let Some(rows) = others.map(|(_, values)| values.len()).next() else { return };
        for (_, values) in self.all.iter_mut().filter(|(column, _)| join_keys.contains(column.as_ref())) {
            let (first, second) = values.split_at(rows.min(values.len()));
            if first.len() == second.len() && first.iter().zip(second).all(|(one, other)| one.get() == other.get()) {
                values.truncate(rows);
            }
        }
    }

    /// What views that are computed need from the request, where it is not among the columns.
    pub(super) fn check_request_data(&self, views: &[&View]) -> Result<(), FeastError> {
        let wanted = views.iter().flat_map(|view| &view.request).filter(|field| !field.nullable && field.default.is_none());
        let absent: BTreeSet<&str> = wanted.map(|field| field.name.as_str()).filter(|name| self.column(name).is_none()).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let absent = absent.into_iter().collect::<Vec<_>>().join("', '");
        let message =
            format!("Required request data source features ['{absent}'] not found in the entity rows, but required by feature views");
        Err(FeastError::known(StatusCode::NOT_FOUND, Class::RequestDataNotFound, message))
    }

    pub(super) fn check_join_keys(&self, views: &[&View]) -> Result<(), FeastError> {
        let wanted: BTreeSet<&str> = views.iter().flat_map(|view| &view.entity).map(|field| field.name.as_str()).collect();
        let absent: Vec<&str> = wanted.iter().copied().filter(|name| self.column(name).is_none()).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let given: Vec<&str> = self.all.iter().map(|(name, _)| name.as_ref()).take(64).collect();
        let (absent, given) = (absent.join("', '"), super::shown(&given.join("', '")));
        Err(FeastError::plain(format!(
            "Missing join key values for keys: ['{absent}']. No values provided for keys: ['{absent}']. Provided join_key_values: ['{given}']"
        )))
    }
}

/// The texts of a list.
pub(super) fn texts<'b>(list: &'b RawValue, name: &str) -> Result<Vec<Cow<'b, str>>, FeastError> {
    let texts: Result<Vec<Text<'b>>, _> = serde_json::from_str(list.get());
    let texts = texts.map_err(|_| FeastError::invalid("string_type", &["body", name], "Input should be a valid list of strings"))?;
    Ok(texts.into_iter().map(|Text(text)| text).collect())
}

fn missing(name: &str) -> FeastError {
    FeastError::invalid("missing", &["body", name], "Field required")
}

fn not_a_list(place: &[&str]) -> FeastError {
    FeastError::invalid("list_type", place, "Input should be a valid list")
}
