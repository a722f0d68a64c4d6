use super::Timestamp;

/// The first byte of a state, which no version is as long as.
const MARK: u8 = 0;

/// The state of one entity of a fold as it is stored.
///
/// ```text
/// byte  0      0
///       1..9   the newest event time that the entity's states have seen, microseconds since the epoch, big-endian
///       9..    nothing more where the state has ended; else the length of the version in one byte, the version of the component that wrote it, and then the
///              state itself
/// ```
///
/// A state that has ended leaves the time behind: rows that the entity's next state makes must not take their places before what was seen already. States from
/// before times were kept begin with the length of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredState<'s> {
    /// As the component's spec has it, at most 255 bytes of it.
    pub version: &'s str,
    /// What the component returned.
    pub bytes: &'s [u8],
    /// The newest event time that the entity's states have seen; the smallest where that is not known.
    pub newest: Timestamp,
}

impl<'s> StoredState<'s> {
    /// Reads the stored form; `None` where it is cut short, or the state has ended.
    pub fn read(stored: &'s [u8]) -> Option<StoredState<'s>> {
        let (newest, rest) = split(stored)?;
        let (length, rest) = rest.split_first()?;
        let (version, bytes) = rest.split_at_checked(*length as usize)?;
        Some(StoredState { version: std::str::from_utf8(version).ok()?, bytes, newest })
    }

    /// Where a state has ended: the newest event time that the entity's states have seen.
    pub fn ended(stored: &[u8]) -> Option<Timestamp> {
        split(stored).filter(|(_, rest)| rest.is_empty()).map(|(newest, _)| newest)
    }

    /// What is stored where a state has ended.
    pub fn end(newest: Timestamp) -> Vec<u8> {
        [[MARK].as_slice(), &newest.0.to_be_bytes()].concat()
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
        [StoredState::end(self.newest).as_slice(), &[version.len() as u8], version, self.bytes].concat()
    }
}

/// The newest event time, and what stands behind it.
fn split(stored: &[u8]) -> Option<(Timestamp, &[u8])> {
    match stored.split_first() {
        None => Some((Timestamp(i64::MIN), stored)),
        Some((&MARK, rest)) => rest.split_first_chunk().map(|(newest, rest)| (Timestamp(i64::from_be_bytes(*newest)), rest)),
        Some(_) => Some((Timestamp(i64::MIN), stored)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_as_they_were_whether_they_go_on_or_have_ended() {
        for newest in [i64::MIN, -1, 0, 1_700_000_000_000_000].map(Timestamp) {
            let state = StoredState { version: "1.2.0", bytes: b"\0state", newest };
            let stored = state.to_bytes();
            assert_eq!((StoredState::read(&stored), StoredState::ended(&stored)), (Some(state), None));
            let ended = StoredState::end(newest);
            assert_eq!((StoredState::read(&ended), StoredState::ended(&ended)), (None, Some(newest)));
            assert_eq!(StoredState::ended(&stored[..5]), None, "cut short");
        }
        let before_times_were_kept = StoredState { version: "1.2.0", bytes: b"state", newest: Timestamp(i64::MIN) };
        assert_eq!(StoredState::read(b"\x051.2.0state"), Some(before_times_were_kept));
        assert_eq!(StoredState::ended(b""), Some(Timestamp(i64::MIN)));
    }

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
