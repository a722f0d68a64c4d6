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

    /// Whether a component of one version reads the states of another as its own: where the first number of the versions that is not zero is the same, as
    /// in semantic versioning. Versions of another form are compared as they are.
    pub fn is_compatible(one: &str, other: &str) -> bool {
        let leading = |version: &str| {
            let numbers: Vec<u64> = version.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
            let first = numbers.iter().position(|number| *number != 0)?;
            numbers.get(..=first).map(<[u64]>::to_vec)
        };
        one == other || leading(one).is_some_and(|one| Some(one) == leading(other))
    }

    /// The stored form.
    pub fn to_bytes(self) -> Vec<u8> {
        let end = self.version.floor_char_boundary(255);
        let version = self.version.as_bytes().get(..end).unwrap_or_default();
        [&[version.len() as u8], version, self.bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::StoredState;

    #[test]
    fn states_are_shared_by_versions_that_say_so() {
        for (one, other, shared) in [
            ("1.2.3", "1.9.0", true),
            ("1.2.3", "2.0.0", false),
            ("0.1.0", "0.1.7", true),
            ("0.1.0", "0.2.0", false),
            ("0.0.1", "0.0.2", false),
            ("0.0.0", "0.0.0", true),
            ("may", "may", true),
            ("may", "june", false),
            ("1", "1.5", true),
        ] {
            assert_eq!(StoredState::is_compatible(one, other), shared, "{one} and {other}");
            assert_eq!(StoredState::is_compatible(other, one), shared, "{other} and {one}");
        }
    }
}
