//! The vocabulary of Gristmill: what an event, a column, a feature row and a commit are. No I/O and no async; every part speaks these
//! words, and only these, to its neighbours.

mod access;
pub mod aggregation;
mod batch;
mod commit;
mod dead_letter;
mod disposition;
mod entity_key;
mod entry;
mod fallback;
pub mod feast;
mod feast_type;
mod feature_row;
mod format;
mod input_binding;
pub mod json;
mod one_line;
mod owned_value;
pub mod parse;
mod service;
mod spec;
mod stored_state;
mod timestamp;
mod view;
mod view_name;

pub use access::{Reach, Scope};
pub use aggregation::{Aggregate, Aggregation};
pub use batch::{Batch, Column, Packed, Validity, Values};
pub use commit::{Commit, Location, Partition, Place, Put, Puts, RowRef, Rows};
pub use dead_letter::{DeadLetter, DeadLetterId, DeadLetterQuery, Gathered, RawField, Reason};
pub use disposition::Disposition;
pub use entity_key::{KEY_BYTES_MAX, KeyError, KeyPart, push_key_part, row_key, state_key};
pub use entry::{Entries, EntryId, EntryRef, ParseEntryIdError};
pub use fallback::{At, Fallback, FallbackKind};
pub use feast_type::{FeastStatuses, FeastType, Scalar};
pub use feature_row::{ENTITY_FORMAT, FeatureRow, Header, RowError, Version, pack_row};
pub use format::Format;
pub use input_binding::{Epoch, InputBinding};
pub use one_line::one_line;
pub use owned_value::OwnedValue;
pub use service::{Service, ServiceName, Services};
pub use spec::{Field, Kind, ROW_BYTES_MAX, Spec, SpecError, is_name, is_stream_name};
pub use stored_state::StoredState;
pub use timestamp::{ParseTimestampError, Timestamp};
pub use view::{Digest, Kept, STATUSES, Schema, SchemaId, Status, Value, View};
pub use view_name::ViewName;
