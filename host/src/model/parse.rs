//! The rules by which text becomes a value. Events and queries use the same ones: a join key finds the row that the same text in an event made.

use std::borrow::Cow;

use super::{Epoch, Timestamp};

/// The text that a JSON value stands for: a string without its quotes, any other value as it is written. `None` for a string that is no text,
/// such as half of a surrogate pair.
pub fn json_text(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Some(Cow::Borrowed(json)),
        Some(inner) if !inner.contains('\\') => Some(Cow::Borrowed(inner)),
        Some(_) => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

/// `true` or `false` in any case, or `1` or `0`.
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// A signed 64-bit integer; a float's text if it names one whole number.
pub fn integer(text: &[u8]) -> Option<i64> {
    if let Ok(number) = lexical_core::parse::<i64>(text) {
        return Some(number);
    }
    // Many languages write whole numbers as 12.0 once they have been floats. Beyond 2^53 such a text does not name one integer.
    let number = lexical_core::parse::<f64>(text).ok()?;
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// A float, `NaN` and infinities included.
pub fn float(text: &[u8]) -> Option<f64> {
    lexical_core::parse::<f64>(text).ok()
}

/// RFC 3339 with an offset, or a number since the Unix epoch in this unit; without a unit its size tells it.
pub fn timestamp(text: &[u8], epoch: Option<Epoch>) -> Option<Timestamp> {
    if let Ok(number) = lexical_core::parse::<i64>(text) {
        return Some(match epoch {
            None => Timestamp::from_epoch_number(number),
            Some(Epoch::Seconds) => Timestamp(number.checked_mul(1_000_000)?),
            Some(Epoch::Milliseconds) => Timestamp(number.checked_mul(1_000)?),
            Some(Epoch::Microseconds) => Timestamp(number),
            Some(Epoch::Nanoseconds) => Timestamp(number.div_euclid(1_000)),
        });
    }
    if let Ok(number) = lexical_core::parse::<f64>(text) {
        let seconds = match epoch {
            None | Some(Epoch::Seconds) => number,
            Some(Epoch::Milliseconds) => number / 1e3,
            Some(Epoch::Microseconds) => number / 1e6,
            Some(Epoch::Nanoseconds) => number / 1e9,
        };
        return Timestamp::from_epoch_seconds(seconds);
    }
    Timestamp::parse(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(integer(b"-12"), Some(-12));
        assert_eq!(integer(b"12.0"), Some(12));
        assert_eq!(integer(b"12.5"), None);
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(float(b"1e3"), Some(1000.0));
        assert!(float(b"NaN").is_some_and(f64::is_nan));
        assert_eq!(float(b"1,5"), None);
        assert_eq!(boolean(b"True"), Some(true));
        assert_eq!(boolean(b"yes"), None);
    }

    #[test]
    fn times_are_read_in_every_unit() {
        let moment = Some(Timestamp(1_678_886_400_000_000));
        assert_eq!(timestamp(b"1678886400", None), moment);
        assert_eq!(timestamp(b"1678886400000", None), moment);
        assert_eq!(timestamp(b"1678886400.0", None), moment);
        assert_eq!(timestamp(b"1678886400000000000", None), moment);
        assert_eq!(timestamp(b"2023-03-15T13:20:00Z", None), moment);
        assert_eq!(timestamp(b"2023-03-15T14:20:00+01:00", None), moment);
        assert_eq!(timestamp(b"1678886400", Some(Epoch::Milliseconds)), Some(Timestamp(1_678_886_400_000)));
        assert_eq!(timestamp(b"2023-03-15", None), None);
    }
}
