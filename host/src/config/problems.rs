//! Errors that say where: file, line, column, key, and the word that was probably meant.

use std::fmt;
use std::path::Path;

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

    pub(super) fn new(text: &str, name: &str, problems: Vec<Problem>) -> Error {
        let line = |Problem { key, message }: Problem| match line_of(text, &key) {
            Some(line) => format!("{name}:{line}: {key}: {message}"),
            None => format!("{name}: {key}: {message}"),
        };
        Error { lines: problems.into_iter().map(line).collect() }
    }
}

/// Parses TOML into a value, with the key that an error belongs to.
pub(super) fn parse<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, Error> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| located(text, name, "", &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        located(text, name, if key == "." { "" } else { &key }, error.inner())
    })
}

fn located(text: &str, name: &str, key: &str, error: &toml::de::Error) -> Error {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let (line, column) = (before.matches('\n').count() + 1, before.chars().rev().take_while(|char| *char != '\n').count() + 1);
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    Error { lines: vec![format!("{name}:{line}:{column}: {key}{}", suggest(error.message()))] }
}

/// Turns serde's words about an unknown name into a sentence with the nearest known one.
fn suggest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown ")) else { return message.to_owned() };
    let what = if message.starts_with("unknown variant") { "value" } else { "key" };
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    match nearest.filter(|near| strsim::jaro_winkler(unknown, near) > 0.75) {
        Some(near) => format!("unknown {what} `{unknown}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{unknown}`; known are {}", known.join(", ")),
    }
}

/// The line on which a dotted key is set, or its section begins.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut current = String::new();
    let mut section_line = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = header.trim().replace(['"', '\''], "");
            if current == key || current == section {
                section_line = Some(index + 1);
            }
            if current == key {
                return section_line;
            }
        } else if current == section && line.split('=').next().is_some_and(|name| name.trim().trim_matches('"') == last) {
            return Some(index + 1);
        }
    }
    section_line
}
