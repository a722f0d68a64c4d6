/// The state of one entity of a fold as it is stored: the length of the version in one byte, the version of the component that wrote it, and then the
/// state itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredState<'s> {
    /// As the component's spec has it, at most 255 bytes of it.
    pub version: &'s str,
    /// What the component returned.
    pub bytes: &'s [u8],
}

impl<'s> StoredState<'s> {
    /// Reads the stored form; `None` where it is cut short.
    pub fn read(stored: &'s [u8]) -> Option<StoredState<'s>> {
        let (length, rest) = stored.split_first()?;
        let (version, bytes) = rest.split_at_checked(*length as usize)?;
        Some(StoredState { version: std::str::from_utf8(version).ok()?, bytes })
    }

    /// The stored form.
    pub fn to_bytes(self) -> Vec<u8> {
        let end = self.version.floor_char_boundary(255);
        let version = self.version.as_bytes().get(..end).unwrap_or_default();
        [&[version.len() as u8], version, self.bytes].concat()
    }
}
