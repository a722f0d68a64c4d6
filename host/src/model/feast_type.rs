//! Feast's words where they differ from ours: its types, and the statuses of its answers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Kind;

/// A type of Feast's, named as `feast.types` names it: `Int64`, `Array(Float32)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FeastType {
    /// Of the value, or of the values of a list.
    pub scalar: Scalar,
    /// Whether a value is a list.
    pub is_list: bool,
}

/// What a single value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// Bytes of any content.
    Bytes,
    /// UTF-8 text.
    String,
    /// A signed 32-bit integer.
    Int32,
    /// A signed 64-bit integer.
    Int64,
    /// A 64-bit float.
    Float64,
    /// A 32-bit float.
    Float32,
    /// True or false.
    Bool,
    /// A moment in whole seconds.
    UnixTimestamp,
}

impl Scalar {
    const ALL: [(Scalar, &'static str); 8] = [
        (Scalar::Bytes, "Bytes"),
        (Scalar::String, "String"),
        (Scalar::Int32, "Int32"),
        (Scalar::Int64, "Int64"),
        (Scalar::Float64, "Float64"),
        (Scalar::Float32, "Float32"),
        (Scalar::Bool, "Bool"),
        (Scalar::UnixTimestamp, "UnixTimestamp"),
    ];

    /// Our word for it.
    pub fn kind(self) -> Kind {
        match self {
            Scalar::Bytes => Kind::Bytes,
            Scalar::String => Kind::Text,
            Scalar::Int32 | Scalar::Int64 => Kind::Integer,
            Scalar::Float64 | Scalar::Float32 => Kind::Float,
            Scalar::Bool => Kind::Boolean,
            Scalar::UnixTimestamp => Kind::Timestamp,
        }
    }

    fn as_str(self) -> &'static str {
        Scalar::ALL.iter().find(|(scalar, _)| *scalar == self).map_or("", |(_, name)| name)
    }
}

impl FeastType {
    /// The kind of a column of such values.
    pub fn kind(self) -> Kind {
        if self.is_list { Kind::List } else { self.scalar.kind() }
    }
}

impl fmt::Display for FeastType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scalar = self.scalar.as_str();
        if self.is_list { write!(out, "Array({scalar})") } else { out.write_str(scalar) }
    }
}

impl FromStr for FeastType {
    type Err = String;

    fn from_str(text: &str) -> Result<FeastType, String> {
        let inner = text.strip_prefix("Array(").and_then(|rest| rest.strip_suffix(')'));
        let name = inner.unwrap_or(text);
        match Scalar::ALL.iter().find(|(_, known)| *known == name) {
            Some((scalar, _)) => Ok(FeastType { scalar: *scalar, is_list: inner.is_some() }),
            None => {
                let shown: String = text.chars().take(64).collect();
                let known: Vec<&str> = Scalar::ALL.iter().map(|(_, name)| *name).collect();
                Err(format!("{shown:?} is no type that is kept; known are {}, and Array(…) of each", known.join(", ")))
            }
        }
    }
}

impl Serialize for FeastType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FeastType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<FeastType, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which statuses stand in answers to Feast's own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeastStatuses {
    /// As Feast's server over its Redis store: what is not there is null, and present.
    #[default]
    Feast,
    /// All that Feast has words for: present, null value, not found, outside max age.
    Strict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for (scalar, name) in Scalar::ALL {
            for is_list in [false, true] {
                let read: FeastType = FeastType { scalar, is_list }.to_string().parse().unwrap();
                assert_eq!(read, FeastType { scalar, is_list }, "{name}");
            }
        }
        assert_eq!("Array(Float32)".parse::<FeastType>().unwrap().kind(), Kind::List);
        assert!("int64".parse::<FeastType>().unwrap_err().contains("Int64"));
        assert!("Array(Array(Int64))".parse::<FeastType>().is_err());
    }
}
