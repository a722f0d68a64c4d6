//! Errors that say where: file, line, column, key, what is wrong, and the word that was probably meant.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Problems that are looked for in one file, at most.
const PROBLEMS_MAX: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, dotted.
    pub key: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// A configuration that cannot be used: everything that was found wrong with it, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    lines: Vec<String>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.lines.join("\n"))
    }
}

impl Error {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
        Error { lines: vec![format!("{}: cannot be read: {error}", path.display())] }
    }
}

/// A file as TOML, which remembers where everything stands.
pub(super) struct Document<'t> {
    text: &'t str,
    name: &'t str,
    table: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str, name: &'t str) -> Result<Document<'t>, Error> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Document { text, name, table }),
            Err(error) => {
                let (line, column) = line_column(text, error.span().map_or(0, |span| span.start));
                let message = error.message().trim().replace('\n', "; ");
                Err(Error { lines: vec![format!("{name}:{line}:{column}: not TOML: {message}")] })
            }
        }
    }

    /// The values, and what is wrong with them. A key that is wrong is taken out and the rest is looked at again, so that one reading shows
    /// everything; no value comes back when something is wrong that cannot be taken out.
    pub(super) fn values<T: serde::de::DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        let mut table = self.table.clone();
        let mut problems = Vec::new();
        while problems.len() < PROBLEMS_MAX {
            let deserializer = toml::Deserializer::from(table.clone());
            let error = match serde_path_to_error::deserialize::<_, T>(deserializer) {
                Ok(values) => return (Some(values), problems),
                Err(error) => error,
            };
            let message = error.inner().message().to_owned();
            let key = self.key_at_fault(&error.path().to_string(), &message);
            let removed = remove(table.get_mut(), &key);
            // What is missing is no news where something was taken out.
            let inside = format!("{key}.");
            if !(message.starts_with("missing field") && problems.iter().any(|problem: &Problem| problem.key.starts_with(&inside))) {
                problems.push(Problem { key, message: explain(&message) });
            }
            if !removed {
                break;
            }
        }
        (None, problems)
    }

    /// The keys of a section, such as `streams.orders`.
    pub(super) fn keys(&self, section: &str) -> Vec<&str> {
        match find(self.table.get_ref(), section).map(|(_, value)| value.get_ref()) {
            Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().as_ref()).collect(),
            _ => Vec::new(),
        }
    }

    /// Problems in the order of the file, each with its place.
    pub(super) fn error(&self, problems: Vec<Problem>) -> Error {
        let mut placed: Vec<((usize, usize), Problem)> =
            problems.into_iter().map(|problem| (line_column(self.text, self.offset(&problem.key)), problem)).collect();
        placed.sort_by_key(|(place, _)| *place);
        let line = |((line, column), Problem { key, message })| format!("{}:{line}:{column}: {key}: {message}", self.name);
        Error { lines: placed.into_iter().map(line).collect() }
    }

    /// A name in the message leads further than the path where a whole section is refused.
    fn key_at_fault(&self, path: &str, message: &str) -> String {
        let path = if path == "." { "" } else { path };
        if message.starts_with("missing field") {
            return path.to_owned();
        }
        let inner = message.split('`').nth(1).map(|name| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") });
        inner.filter(|inner| find(self.table.get_ref(), inner).is_some()).unwrap_or_else(|| path.to_owned())
    }

    /// Where a key stands, or the nearest section around it.
    fn offset(&self, key: &str) -> usize {
        let mut key = key;
        loop {
            if let Some((name, _)) = find(self.table.get_ref(), key) {
                return name.span().start;
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return 0,
            }
        }
    }
}

type Entry<'a, 't> = (&'a Spanned<Cow<'t, str>>, &'a Spanned<DeValue<'t>>);

/// The entry of a dotted key; names that hold dots themselves are found too.
fn find<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<Entry<'a, 't>> {
    table.iter().find_map(|(name, value)| {
        let rest = key.strip_prefix(name.get_ref().as_ref())?;
        if rest.is_empty() {
            return Some((name, value));
        }
        let DeValue::Table(inner) = value.get_ref() else { return None };
        find(inner, rest.strip_prefix('.')?)
    })
}

/// Takes a dotted key out; whether it was there.
fn remove(table: &mut DeTable<'_>, key: &str) -> bool {
    let Some((name, rest)) = table.keys().find_map(|name| {
        let rest = key.strip_prefix(name.get_ref().as_ref())?;
        (rest.is_empty() || rest.starts_with('.')).then(|| (name.clone(), rest.trim_start_matches('.').to_owned()))
    }) else {
        return false;
    };
    if !rest.is_empty()
        && let Some(DeValue::Table(inner)) = table.get_mut(&name).map(Spanned::get_mut)
        && remove(inner, &rest)
    {
        return true;
    }
    table.remove(&name).is_some()
}

fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    (before.matches('\n').count() + 1, before.chars().rev().take_while(|char| *char != '\n').count() + 1)
}

/// Turns serde's words into a sentence for somebody who does not know the types behind the file.
pub(super) fn explain(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    if message.starts_with("unknown ") {
        return suggest(&message);
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    if message.contains("socket address") {
        return "not an address and port; write for example \"127.0.0.1:7171\"".into();
    }
    let found = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match found.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, expected)) => format!("expected {}, found {}", plain(expected), found.replace("string ", "the text ")),
        None => message,
    }
}

/// What serde expected, in words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "string" => "a text in quotes",
        "a map" => "a section",
        other if other.starts_with("struct ") => "a section",
        other if other.starts_with("enum ") => "one of the documented words in quotes",
        other => other,
    }
}

/// The nearest known name to an unknown one, or all that are known.
fn suggest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first() else { return message.to_owned() };
    let is_value = message.starts_with("unknown variant");
    let what = if is_value { "value" } else { "key" };
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    let all = known.join(", ");
    match nearest.filter(|near| strsim::jaro_winkler(unknown, near) > 0.75) {
        Some(near) if is_value => format!("unknown {what} `{unknown}`; did you mean `{near}`? Known are {all}"),
        Some(near) => format!("unknown {what} `{unknown}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{unknown}`; known are {all}"),
    }
}
