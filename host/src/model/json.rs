//! How values are written as JSON, wherever they are shown.

use super::Value;

/// Appends a value; none is `null`. Bytes become base64, a timestamp RFC 3339, a vector a list of numbers.
pub fn push_value(out: &mut Vec<u8>, value: Option<Value<'_>>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(Value::Boolean(true)) => out.extend_from_slice(b"true"),
        Some(Value::Boolean(false)) => out.extend_from_slice(b"false"),
        Some(Value::Integer(number)) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Some(Value::Float(number)) => push_float(out, number),
        Some(Value::Timestamp(moment)) => {
            out.push(b'"');
            moment.push_text(out);
            out.push(b'"');
        }
        Some(Value::Text(text)) => push_text(out, text),
        Some(Value::Bytes(bytes)) => push_base64(out, bytes),
        Some(Value::Vector(bytes)) => {
            push_list(out, bytes.as_chunks::<4>().0.iter().map(|chunk| Value::Float(f64::from(f32::from_le_bytes(*chunk)))));
        }
        Some(Value::Numbers(numbers)) => push_list(out, numbers.iter().map(|number| Value::Float(f64::from(*number)))),
        Some(Value::List(of, mut values)) => push_list(out, std::iter::from_fn(|| Value::unpack(of, &mut values))),
    }
}

fn push_list<'v>(out: &mut Vec<u8>, values: impl Iterator<Item = Value<'v>>) {
    out.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_value(out, Some(value));
    }
    out.push(b']');
}

/// The shortest text that reads back as the same number. JSON has no NaN and no infinities, so those are texts.
fn push_float(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, &number);
    } else if number.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if number > 0.0 { b"\"Infinity\"".as_slice() } else { b"\"-Infinity\"" });
    }
}

/// Appends a text in its quotes.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// RFC 4648, with padding.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = (word >> (18 - 6 * position)) & 63;
            let digit = ALPHABET.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if position <= chunk.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_with_padding() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            push_base64(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b""), "\"\"");
        assert_eq!(text(b"f"), "\"Zg==\"");
        assert_eq!(text(b"fo"), "\"Zm8=\"");
        assert_eq!(text(b"foobar"), "\"Zm9vYmFy\"");
        assert_eq!(text(&[0xff, 0xfe, 0xfd]), "\"//79\"");
    }
}
