use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::is_stream_name;

/// The name of a consumer group that somebody has chosen. It stands in keys and in lines of the log, and has the rule of streams' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GroupName(String);

/// The group of a stream that names none.
impl Default for GroupName {
    fn default() -> GroupName {
        GroupName("gristmill".into())
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<GroupName, String> {
        if is_stream_name(text) {
            return Ok(GroupName(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        Err(format!("{shown:?} cannot name a consumer group; use 1 to 255 printable ASCII characters and no spaces"))
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<GroupName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Deref for GroupName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
