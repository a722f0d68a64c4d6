use std::io::Write;

/// One value of an entity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// An integer.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Text or bytes.
    Bytes(&'a [u8]),
    /// Microseconds since the epoch.
    Timestamp(i64),
}

/// An entity key is longer than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entity key has {bytes} bytes; {max} are allowed")]
pub struct KeyError {
    /// Bytes in the encoded key.
    pub bytes: usize,
    /// Bytes allowed.
    pub max: usize,
}

/// Bytes in an encoded row key, view included, at most.
pub const KEY_BYTES_MAX: usize = 4_096;

/// Appends one part to a row key. The first part follows the view's `:`, the others a `|` each. Within a part, `%`, `|` and control bytes
/// are written as `%xx`, so that keys of one view are equal exactly when their values are, and are readable in any tool.
pub fn push_key_part(key: &mut Vec<u8>, first: bool, part: KeyPart<'_>) {
    if !first {
        key.push(b'|');
    }
    let written = match part {
        KeyPart::Integer(number) | KeyPart::Timestamp(number) => write!(key, "{number}"),
        KeyPart::Boolean(truth) => write!(key, "{truth}"),
        KeyPart::Bytes(bytes) if bytes.iter().any(|byte| needs_escape(*byte)) => {
            bytes.iter().try_for_each(|byte| if needs_escape(*byte) { write!(key, "%{byte:02x}") } else { key.write_all(&[*byte]) })
        }
        KeyPart::Bytes(bytes) => key.write_all(bytes),
    };
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || byte == b'%' || byte == b'|'
}

/// The key under which the state of a fold is kept for the entity of this row key. No view's name begins with `~`.
pub fn state_key(row_key: &[u8]) -> Vec<u8> {
    [b"~", row_key].concat()
}

/// A row key's tag, which only those of partitioned streams have, and the rest. No view's name begins with `{`.
pub fn split_tag(row_key: &[u8]) -> (&[u8], &[u8]) {
    let end = row_key.first().filter(|first| **first == b'{').and_then(|_| row_key.iter().position(|byte| *byte == b'}'));
    row_key.split_at_checked(end.map_or(0, |end| end + 1)).unwrap_or((&[], row_key))
}

/// The key under which a fold keeps, beside the state of an entity, the one that a version wrote whose states the present one does not share. No state has a
/// key like it.
pub fn old_state_key(row_key: &[u8]) -> Vec<u8> {
    [b"~~old:", row_key].concat()
}

/// The key under which the newest row of one entity in one view is kept: `view:part|part`. The view of a partitioned stream has the tag of
/// the entity's partition before its name.
pub fn row_key<'a>(view: &str, parts: impl IntoIterator<Item = KeyPart<'a>>) -> Result<Vec<u8>, KeyError> {
    let mut key = Vec::with_capacity(view.len() + 32);
    key.extend_from_slice(view.as_bytes());
    key.push(b':');
    for (index, part) in parts.into_iter().enumerate() {
        push_key_part(&mut key, index == 0, part);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError { bytes: key.len(), max: KEY_BYTES_MAX });
    }
    Ok(key)
}
