//! As much of protobuf's wire format as Feast's messages need (<https://protobuf.dev/programming-guides/encoding>).

/// What stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    /// A number, or a truth.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// The fields of a message with their numbers, in their order; `None` where it is cut short or no message, and nothing after that.
pub fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Wire<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = take_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field)
    })
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = take_varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Varint(take_varint(bytes)?),
        1 => Wire::Fixed64(take_fixed(bytes)?),
        2 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            let (field, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Wire::Bytes(field)
        }
        5 => Wire::Fixed32(take_fixed(bytes)?),
        _ => return None,
    };
    Some((tag >> 3, wire))
}

/// Takes a varint from the front; of one with more than 64 bits the rest is lost, as everywhere.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127).checked_shl(shift).unwrap_or_default();
        if byte & 128 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes some bytes from the front.
pub fn take_fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (fixed, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*fixed)
}

/// Appends a varint.
pub fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field that is a number.
pub fn push_varint_field(out: &mut Vec<u8>, field: u64, number: u64) {
    push_varint(out, field << 3);
    push_varint(out, number);
}

/// Appends a field of bytes.
pub fn push_bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    push_varint(out, field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_ends_in_nothing() {
        let mut message = Vec::new();
        push_varint_field(&mut message, 1, u64::MAX);
        push_bytes_field(&mut message, 2, b"abc");
        let all: Vec<_> = fields(&message).collect();
        assert_eq!(all, [Some((1, Wire::Varint(u64::MAX))), Some((2, Wire::Bytes(b"abc")))]);
        for cut in 0..message.len() {
            let read: Vec<_> = fields(message.split_at(cut).0).collect();
            assert!(read.len() <= 2 && read.iter().rev().skip(1).all(Option::is_some), "{read:?}");
        }
        assert_eq!(fields(&[0xff; 12]).collect::<Vec<_>>(), [None]);
    }
}
