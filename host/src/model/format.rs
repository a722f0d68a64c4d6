use serde::{Deserialize, Serialize};

/// How an event stands in the entries of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// Each field of the entry is a field of the event, as text. A value that is itself JSON can be reached into with a dotted path.
    Fields,
    /// One field of the entry holds the whole event as a JSON object; members are reached with dotted paths.
    Json {
        /// The entry's field that holds the object.
        #[serde(default = "default_field")]
        field: String,
    },
}

fn default_field() -> String {
    "data".to_owned()
}
