//! Answers that break the contract, for three rows of input, and what is said of them.

use super::Row;
use super::guest::{Guest, spec};
use super::making::{from, null, one, rows, twice};
use crate::model::{Batch, Column, Kind, Packed, Validity, Values};
use crate::transform::Output;

/// Columns of another length, kind or width, or with broken insides.
pub(super) fn columns() -> Vec<Row> {
    let integers = || Values::Integers(vec![1, 2, 3]);
    let offsets = |offsets: &[u32], bytes: &[u8]| Values::Texts(Packed { offsets: offsets.to_vec(), bytes: bytes.to_vec() });
    let cases = [
        ("too few values", Kind::Integer, one(Values::Integers(vec![1, 2])), "2 values; 3 are right"),
        ("too many values", Kind::Float, one(Values::Floats(vec![0.0; 4])), "4 values; 3 are right"),
        ("another kind", Kind::Float, one(integers()), "a column of integer values; its spec says float"),
        ("a timestamp is no integer", Kind::Timestamp, one(integers()), "a column of integer values; its spec says timestamp"),
        ("not boolean", Kind::Boolean, one(Values::Booleans(vec![0, 1, 2])), "a boolean that is neither 0 nor 1"),
        ("no offsets", Kind::Text, one(offsets(&[], b"")), "0 offsets; 4 are right"),
        ("an offset too few", Kind::Text, one(offsets(&[0, 1, 2], b"ab")), "3 offsets; 4 are right"),
        ("offsets that start late", Kind::Text, one(offsets(&[1, 1, 2, 3], b"abc")), "offsets that do not start at 0"),
        ("falling offsets", Kind::Text, one(offsets(&[0, 2, 1, 3], b"abc")), "offsets that fall"),
        ("offsets beyond the end", Kind::Text, one(offsets(&[0, 1, 2, 9], b"abc")), "offsets that end at 9 for 3 bytes"),
        ("offsets before the end", Kind::Text, one(offsets(&[0, 1, 2, 2], b"abc")), "offsets that end at 2 for 3 bytes"),
        ("broken UTF-8", Kind::Text, one(offsets(&[0, 1, 2, 3], b"a\xffc")), "text that is not UTF-8 at byte 1"),
        ("a cut character", Kind::Text, one(offsets(&[0, 1, 2, 3], "é!".as_bytes())), "a text that begins inside a character"),
        ("falling offsets of bytes", Kind::Bytes, one(Values::Blobs(Packed { offsets: vec![0, 2, 1, 3], bytes: vec![0; 3] })), "that fall"),
        ("another width", Kind::Vector, one(Values::Vectors { width: 3, values: vec![0.0; 9] }), "vectors of width 3; its spec says 2"),
        ("too few numbers", Kind::Vector, one(Values::Vectors { width: 2, values: vec![0.0; 5] }), "5 numbers; 6 are right"),
        ("too many bytes", Kind::Text, one(offsets(&[0, 0, 0, 1 << 20], &[b'x'; 1 << 20])), "output_bytes_max allows 1048576"),
    ];
    cases.into_iter().map(answering).collect()
}

/// Nulls, rows, origins and rejections that do not fit.
pub(super) fn shapes() -> Vec<Row> {
    let integers = || Values::Integers(vec![1, 2, 3]);
    let cases = [
        ("a null", Kind::Integer, null(integers(), &[0b101]), "a null, but its spec says that it has none"),
        ("no bitmap", Kind::Integer, null(integers(), &[]), "a validity bitmap of 0 bytes; 3 rows need 1"),
        (
            "no columns",
            Kind::Integer,
            Output { batch: Batch { rows: 3, columns: vec![] }, ..one(integers()) },
            "0 columns; its spec has 1 outputs",
        ),
        ("too many columns", Kind::Integer, twice(one(integers())), "2 columns; its spec has 1 outputs"),
        ("other rows", Kind::Integer, rows(2), "2 rows for 3 rows of input and no origins"),
        ("too many rows", Kind::Integer, rows(193), "193 rows for 3 rows of input; output_rows_per_input_max allows 192"),
        ("too few origins", Kind::Integer, from(&[0, 1], &[]), "2 origins for 3 rows"),
        ("falling origins", Kind::Integer, from(&[0, 2, 1], &[]), "origins that fall"),
        ("an origin out of range", Kind::Integer, from(&[0, 1, 3], &[]), "origin 3; the input has 3 rows"),
        ("a rejection out of range", Kind::Integer, from(&[0, 0, 0], &[1, 7]), "a rejection of row 7"),
        ("a rejection twice", Kind::Integer, from(&[0, 0, 0], &[1, 1]), "two rejections of row 1"),
        ("a rejected origin", Kind::Integer, from(&[0, 1, 2], &[1]), "a rejection of row 1, which is also the origin"),
        (
            "a rejection without origins",
            Kind::Integer,
            Output { origins: None, ..from(&[0, 1, 2], &[2]) },
            "a rejection of row 2, which is",
        ),
    ];
    cases.into_iter().map(answering).collect()
}

/// States of a fold that do not fit, for three groups of a row each.
pub(super) fn states() -> Vec<Row> {
    let blobs = |offsets: &[u32], bytes: &[u8]| Values::Blobs(Packed { offsets: offsets.to_vec(), bytes: bytes.to_vec() });
    let cases = [
        ("a state too few", blobs(&[0, 1, 2], b"ab"), None, "states: 3 offsets; 4 are right"),
        ("a state too many", blobs(&[0, 1, 2, 3, 4], b"abcd"), None, "states: 5 offsets; 4 are right"),
        ("states of another kind", Values::Integers(vec![1, 2, 3]), None, "states: a column of integer values; its spec says bytes"),
        (
            "states that are texts",
            Values::Texts(Packed { offsets: vec![0, 1, 2, 3], bytes: b"abc".to_vec() }),
            None,
            "a column of text values",
        ),
        ("falling offsets of states", blobs(&[0, 2, 1, 3], b"abc"), None, "states: offsets that fall"),
        ("states beyond the end", blobs(&[0, 1, 2, 9], b"abc"), None, "states: offsets that end at 9 for 3 bytes"),
        ("no bitmap of states", blobs(&[0, 1, 2, 3], b"abc"), Some(vec![]), "states: a validity bitmap of 0 bytes; 3 rows need 1"),
        (
            "a state that is too large",
            blobs(&[0, 0, 0, (1 << 18) + 1], &vec![b'x'; (1 << 18) + 1]),
            None,
            "a state of 262145 bytes; state_bytes_max allows 262144",
        ),
        (
            "too many bytes of states",
            blobs(&[0, 0, 0, 1 << 20], &vec![b'x'; 1 << 20]),
            None,
            "bytes of states; output_bytes_max allows 1048576",
        ),
    ];
    let stateful = |(what, values, bits, said): (&'static str, Values, Option<Vec<u8>>, &'static str)| {
        let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), one(Values::Integers(vec![1, 2, 3])));
        guest.states = Some(Column { values, validity: bits.map(|bits| Validity { bits }) });
        (what, guest.module(), said)
    };
    cases.into_iter().map(stateful).collect()
}

fn answering((what, kind, answer, said): (&'static str, Kind, Output, &'static str)) -> Row {
    (what, Guest::answering(spec(&[("value", kind, false)]), answer).module(), said)
}
