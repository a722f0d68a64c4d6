use std::fmt;

use serde::{Deserialize, Serialize};

use super::ViewName;

/// What somebody may do. None implies another: a token that is to do more than one has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read features, states, descriptions, changes and metrics.
    Read,
    /// Send events.
    Write,
    /// Change transforms; see raw events; try dead letters again and drop them.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        })
    }
}

/// The views and streams that somebody may name. A transform goes by the name of its view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Views: names, or beginnings of names followed by `*`; all when absent.
    pub views: Option<Vec<String>>,
    /// Streams, in the same way.
    pub streams: Option<Vec<String>>,
}

impl Reach {
    /// Whether a view may be named; if it may, so may all of its versions.
    pub fn view(&self, name: &str) -> bool {
        is_among(self.views.as_deref(), ViewName::base_of(name))
    }

    /// Whether a stream may be named.
    pub fn stream(&self, name: &str) -> bool {
        is_among(self.streams.as_deref(), name)
    }

    /// Whether a view may be written. Who is limited to streams alone writes events alone.
    pub fn writes_view(&self, name: &str) -> bool {
        self.view(name) && (self.views.is_some() || self.streams.is_none())
    }

    /// Whether events may be sent to a stream. Who is limited to views alone writes their rows alone.
    pub fn writes_stream(&self, name: &str) -> bool {
        self.stream(name) && (self.streams.is_some() || self.views.is_none())
    }

    /// Whether there is anything that may not be named.
    pub fn is_limited(&self) -> bool {
        self.views.is_some() || self.streams.is_some()
    }
}

fn is_among(patterns: Option<&[String]>, name: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    patterns.is_none_or(|patterns| patterns.iter().any(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_beginnings() {
        let reach = Reach { views: Some(vec!["orders".into(), "team_a_*".into()]), streams: Some(vec![]) };
        for (name, allowed) in [
            ("orders", true),
            ("orders@v2", true),
            ("orders_2", false),
            ("team_a_", true),
            ("team_a_x", true),
            ("team_ab", false),
            ("", false),
        ] {
            assert_eq!(reach.view(name), allowed, "{name}");
        }
        assert!(!reach.stream("any") && Reach::default().stream("any") && reach.is_limited());
    }
}
