//! From entries and requests to columns: each field that some transform of the stream reads is found and decoded once, whatever the number of transforms.
//!
//! A value that does not decode is a fault of its row in that column. It harms only the transforms that read the column, and only on that row.

mod column;
mod json;
mod route;

use std::sync::Arc;

use crate::model::{Column, Entries, Epoch, Field, Format};

pub use column::{Builder, Fault, Raw};
use json::Paths;
pub use route::Route;

/// One column to be decoded: a declared input, bound to a place in the event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The input as the component declares it, with the default that is in force.
    pub field: Field,
    /// Where it stands in the event: a field's name, or a dotted path into JSON.
    pub from: String,
    /// The unit of numbers, for timestamps; `None` tells it by their size.
    pub epoch: Option<Epoch>,
}

/// What to look for in the entries of one stream. Made once for a set of transforms.
#[derive(Debug)]
pub struct Plan {
    format: Format,
    wanted: Vec<Wanted>,
    paths: Paths,
}

/// The default of an input does not decode as the input's own kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the default of input `{input}` cannot be used: {message}")]
pub struct DefaultError {
    /// The input.
    pub input: String,
    /// What is wrong with it.
    pub message: String,
}

/// One column and the rows of it that did not decode (they hold placeholders).
#[derive(Debug)]
pub struct Decoded {
    /// The values.
    pub column: Arc<Column>,
    /// Faulty rows, ascending.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Plans the decoding of `wanted` from entries of this format.
    pub fn new(format: Format, wanted: Vec<Wanted>) -> Result<Plan, DefaultError> {
        for column in &wanted {
            let mut builder = Builder::new(column, 1);
            if column.field.default.is_some() {
                builder.push(None);
            }
            if let Some(fault) = builder.finish().faults.pop() {
                return Err(DefaultError { input: column.field.name.clone(), message: fault.message });
            }
        }
        let paths = Paths::new(&format, &wanted);
        Ok(Plan { format, wanted, paths })
    }

    /// Decodes all wanted columns, in the order in which they were given.
    pub fn decode(&self, entries: &Entries) -> Vec<Decoded> {
        let mut builders: Vec<Builder<'_>> = self.wanted.iter().map(|wanted| Builder::new(wanted, entries.len())).collect();
        match &self.format {
            Format::Fields => self.decode_fields(entries, &mut builders),
            Format::Json { field } => self.decode_json(field, entries, &mut builders),
        }
        builders.into_iter().map(Builder::finish).collect()
    }

    /// Column by column, because the entries of a stream nearly always have the same fields in the same order: the place where a field
    /// stood in the last entry is where it stands in the next.
    fn decode_fields(&self, entries: &Entries, builders: &mut [Builder<'_>]) {
        for (index, builder) in builders.iter_mut().enumerate() {
            let name = builder.wanted().from.as_bytes();
            let nested = self.paths.nested(index);
            let mut guess = 0;
            for entry in entries.iter() {
                let value = match entry.field(guess) {
                    Some((found, value)) if found == name => Some(value),
                    _ => {
                        let position = entry.fields().position(|(found, _)| found == name);
                        guess = position.unwrap_or(guess);
                        position.and_then(|position| entry.field(position)).map(|(_, value)| value)
                    }
                };
                match (value, nested) {
                    (Some(value), _) => builder.push(Some(Raw::Plain(value))),
                    (None, None) => builder.push(None),
                    (None, Some((outer, path))) => match entry.value(outer.as_bytes()).map(|text| json::find(text, path)) {
                        None => builder.push(None),
                        Some(Ok(found)) => builder.push(found.map(Raw::Json)),
                        Some(Err(problem)) => builder.fault(format!("field `{outer}` is not a JSON object: {problem}")),
                    },
                }
            }
        }
    }

    fn decode_json(&self, field: &str, entries: &Entries, builders: &mut [Builder<'_>]) {
        let mut found = Vec::new();
        for entry in entries.iter() {
            let Some(text) = entry.value(field.as_bytes()) else {
                let problem = format!("the entry has no field `{field}`, which should hold the event as a JSON object");
                builders.iter_mut().for_each(|builder| builder.fault(problem.clone()));
                continue;
            };
            found.clear();
            found.resize(builders.len(), None);
            match self.paths.find_all(text, &mut found) {
                Ok(()) => builders.iter_mut().zip(&found).for_each(|(builder, raw)| builder.push(raw.map(Raw::Json))),
                Err(problem) => {
                    let problem = format!("field `{field}` is not a JSON object: {problem}");
                    builders.iter_mut().for_each(|builder| builder.fault(problem.clone()));
                }
            }
        }
    }
}
