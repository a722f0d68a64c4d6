//! What a Feast registry says of views and services: the file that `feast apply` writes, one `feast.core.Registry`.

use super::protobuf::{Wire, fields};
use crate::model::{FeastType, Scalar};

/// All that is read of a registry, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Feature views, stream feature views among them.
    pub views: Vec<RegisteredView>,
    /// Feature services.
    pub services: Vec<RegisteredService>,
}

/// A feature view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisteredView {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// For people.
    pub doc: String,
    /// Join keys with their types; no type is one that is not kept here.
    pub entity: Vec<(String, Option<FeastType>)>,
    /// Features with their types.
    pub features: Vec<(String, Option<FeastType>)>,
    /// Age in seconds beyond which Feast's offline joins leave a row aside; 0 for none.
    pub ttl_secs: u64,
    /// Whether it is served at all.
    pub is_online: bool,
    /// The source that pushes into it; empty for none.
    pub push_source: String,
    /// The column of the event time in its batch source.
    pub timestamp_field: String,
}

/// A feature service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisteredService {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// `view:feature`, in its order.
    pub features: Vec<String>,
    /// Whether it renames views or join keys, which services here do not.
    pub renames: bool,
}

/// Where a message has what is read of it: the numbers of its fields.
struct Places {
    entity: u64,
    doc: u64,
    ttl: u64,
    batch_source: u64,
    stream_source: u64,
    online: u64,
}

const VIEW: Places = Places { entity: 12, doc: 10, ttl: 6, batch_source: 7, stream_source: 9, online: 8 };
const STREAM_VIEW: Places = Places { entity: 5, doc: 6, ttl: 9, batch_source: 10, stream_source: 11, online: 12 };
/// `feast.core.DataSource.SourceType` of a push source.
const PUSH_SOURCE: u64 = 9;

impl Registry {
    /// Reads a registry; `None` where the bytes are none.
    pub fn read(bytes: &[u8]) -> Option<Registry> {
        let mut registry = Registry::default();
        for field in fields(bytes) {
            match field? {
                (6, Wire::Bytes(view)) => registry.views.push(read_view(spec(view)?, &VIEW)?),
                (14, Wire::Bytes(view)) => registry.views.push(read_view(spec(view)?, &STREAM_VIEW)?),
                (7, Wire::Bytes(service)) => registry.services.push(read_service(spec(service)?)?),
                _ => {}
            }
        }
        Some(registry)
    }
}

/// Every object of a registry has its description in field 1.
fn spec(object: &[u8]) -> Option<&[u8]> {
    let mut spec: &[u8] = &[];
    for field in fields(object) {
        if let (1, Wire::Bytes(bytes)) = field? {
            spec = bytes;
        }
    }
    Some(spec)
}

fn read_view(spec: &[u8], places: &Places) -> Option<RegisteredView> {
    let mut view = RegisteredView::default();
    for field in fields(spec) {
        match field? {
            (1, Wire::Bytes(name)) => view.name = text(name)?,
            (2, Wire::Bytes(project)) => view.project = text(project)?,
            (4, Wire::Bytes(feature)) => view.features.push(read_column(feature)?),
            (number, Wire::Bytes(column)) if number == places.entity => view.entity.push(read_column(column)?),
            (number, Wire::Bytes(doc)) if number == places.doc => view.doc = text(doc)?,
            (number, Wire::Bytes(ttl)) if number == places.ttl => view.ttl_secs = number_in(ttl, 1)?,
            (number, Wire::Bytes(source)) if number == places.batch_source => view.timestamp_field = text_in(source, 3)?,
            (number, Wire::Bytes(source)) if number == places.stream_source && number_in(source, 1)? == PUSH_SOURCE => {
                view.push_source = text_in(source, 20)?;
            }
            (number, Wire::Varint(online)) if number == places.online => view.is_online = online != 0,
            _ => {}
        }
    }
    Some(view)
}

/// Name and type of a feature or a join key.
fn read_column(column: &[u8]) -> Option<(String, Option<FeastType>)> {
    Some((text_in(column, 1)?, feast_type(number_in(column, 2)?)))
}

fn read_service(spec: &[u8]) -> Option<RegisteredService> {
    let mut service = RegisteredService::default();
    for field in fields(spec) {
        match field? {
            (1, Wire::Bytes(name)) => service.name = text(name)?,
            (2, Wire::Bytes(project)) => service.project = text(project)?,
            (3, Wire::Bytes(projection)) => {
                let view = text_in(projection, 1)?;
                for field in fields(projection) {
                    match field? {
                        (2, Wire::Bytes(feature)) => service.features.push(format!("{view}:{}", text_in(feature, 1)?)),
                        (3, Wire::Bytes(alias)) if !alias.is_empty() => service.renames = true,
                        (4, Wire::Bytes(_)) => service.renames = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(service)
}

/// The type of this number in `feast.types.ValueType`, if values of it are kept here.
fn feast_type(number: u64) -> Option<FeastType> {
    let scalar = |number: u64| {
        Some(match number {
            1 => Scalar::Bytes,
            2 => Scalar::String,
            3 => Scalar::Int32,
            4 => Scalar::Int64,
            5 => Scalar::Float64,
            6 => Scalar::Float32,
            7 => Scalar::Bool,
            8 => Scalar::UnixTimestamp,
            _ => return None,
        })
    };
    let one = scalar(number).map(|scalar| FeastType { scalar, is_list: false });
    one.or_else(|| scalar(number.checked_sub(10)?).map(|scalar| FeastType { scalar, is_list: true }))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The text in a field of a message; empty when it is not there.
fn text_in(message: &[u8], number: u64) -> Option<String> {
    let mut found: &[u8] = &[];
    for field in fields(message) {
        match field? {
            (at, Wire::Bytes(bytes)) if at == number => found = bytes,
            _ => {}
        }
    }
    text(found)
}

/// The number in a field of a message; 0 when it is not there.
fn number_in(message: &[u8], number: u64) -> Option<u64> {
    let mut found = 0;
    for field in fields(message) {
        match field? {
            (at, Wire::Varint(value)) if at == number => found = value,
            _ => {}
        }
    }
    Some(found)
}
