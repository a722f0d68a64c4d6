//! The host trusts nothing that comes back: this checks all of it, in passes over whole columns.

use std::sync::Arc;

use super::{Error, Limits, Output};
use crate::model::{Column, Field, Kind, Packed, ROW_BYTES_MAX, Spec, Validity, Values};

/// Longest reason of a rejection that is kept, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// Checks what a transform returned for a batch of `input_rows` rows against its spec and its limits, and brings it into the one form that
/// the rest of the host relies on: bitmaps of exactly `ceil(rows / 8)` bytes and only where something is null, rejections by row, reasons
/// of at most 1 KiB. [`Transform::apply`](super::Transform::apply) has done this; it is public so that it can be tested by itself.
///
/// Returns [`Error::Invalid`] with what is wrong, and where.
pub fn check(output: &mut Output, spec: &Spec, input_rows: usize, limits: &Limits) -> Result<(), Error> {
    let rows = output.batch.rows;
    let rows_max = input_rows.saturating_mul(limits.output_rows_per_input_max);
    if rows > rows_max {
        return invalid(format!("{rows} rows for {input_rows} rows of input; output_rows_per_input_max allows {rows_max}"));
    }
    let (found, wanted) = (output.batch.columns.len(), spec.outputs.len());
    if found != wanted {
        return invalid(format!("{found} columns; its spec has {wanted} outputs"));
    }
    let mut bytes = output.origins.as_ref().map_or(0, |origins| origins.len().saturating_mul(4));
    bytes = output.rejected.iter().fold(bytes, |bytes, (_, reason)| bytes.saturating_add(reason.len() + 4));
    for (column, field) in output.batch.columns.iter_mut().zip(&spec.outputs) {
        let problem = |problem: String| Error::Invalid(format!("output `{}`: {problem}", field.name));
        bytes = bytes.saturating_add(column_bytes(column));
        check_values(&column.values, field, rows).map_err(problem)?;
        if column.validity.is_some() {
            // What has just come back is shared with nobody yet.
            Arc::get_mut(column).map_or(Ok(()), |column| check_validity(column, field, rows)).map_err(problem)?;
        }
    }
    if bytes > limits.output_bytes_max {
        return invalid(format!("{bytes} bytes; output_bytes_max allows {}", limits.output_bytes_max));
    }
    check_row_bytes(output, bytes)?;
    check_origins(output.origins.as_deref(), rows, input_rows)?;
    check_rejected(output, input_rows)
}

/// Checks the states that a stateful transform returned: one value a group, bytes or null, none larger than a state may be, all of them no more bytes
/// than a call may return.
pub(super) fn check_states(states: &mut Column, groups: usize, limits: &Limits) -> Result<(), Error> {
    let problem = |problem: String| Error::Invalid(format!("states: {problem}"));
    let field = Field { name: "states".into(), kind: Kind::Bytes, nullable: true, default: None, width: None, doc: String::new() };
    check_values(&states.values, &field, groups).map_err(problem)?;
    if states.validity.is_some() {
        check_validity(states, &field, groups).map_err(problem)?;
    }
    let bytes = column_bytes(states);
    if bytes > limits.output_bytes_max {
        return invalid(format!("{bytes} bytes of states; output_bytes_max allows {}", limits.output_bytes_max));
    }
    let Values::Blobs(packed) = &states.values else { return Ok(()) };
    let lengths = packed.offsets.iter().zip(packed.offsets.iter().skip(1)).map(|(from, to)| to.saturating_sub(*from) as usize);
    match lengths.max().filter(|largest| *largest > limits.state_bytes_max) {
        Some(largest) => invalid(format!("a state of {largest} bytes; state_bytes_max allows {}", limits.state_bytes_max)),
        None => Ok(()),
    }
}

fn invalid<T>(problem: String) -> Result<T, Error> {
    Err(Error::Invalid(problem))
}

fn column_bytes(column: &Column) -> usize {
    let values = match &column.values {
        Values::Booleans(values) => size_of_val(values.as_slice()),
        Values::Integers(values) | Values::Timestamps(values) => size_of_val(values.as_slice()),
        Values::Floats(values) => size_of_val(values.as_slice()),
        Values::Texts(packed) | Values::Blobs(packed) => size_of_val(packed.offsets.as_slice()).saturating_add(packed.bytes.len()),
        Values::Vectors { values, .. } => size_of_val(values.as_slice()),
    };
    values.saturating_add(column.validity.as_ref().map_or(0, |validity| validity.bits.len()))
}

/// That no row is larger than a row may be; `bytes` is what all of them have together.
fn check_row_bytes(output: &Output, bytes: usize) -> Result<(), Error> {
    if bytes <= ROW_BYTES_MAX {
        return Ok(());
    }
    let row_bytes = |row: usize| output.batch.columns.iter().map(|column| value_bytes(&column.values, row)).sum::<usize>();
    match (0..output.batch.rows).map(row_bytes).max() {
        Some(largest) if largest > ROW_BYTES_MAX => invalid(format!("a row of {largest} bytes; {ROW_BYTES_MAX} are allowed")),
        _ => Ok(()),
    }
}

fn value_bytes(values: &Values, row: usize) -> usize {
    match values {
        Values::Booleans(_) => 1,
        Values::Integers(_) | Values::Timestamps(_) | Values::Floats(_) => 8,
        Values::Texts(packed) | Values::Blobs(packed) => packed.get(row).len(),
        Values::Vectors { width, .. } => *width as usize * 4,
    }
}

fn check_values(values: &Values, field: &Field, rows: usize) -> Result<(), String> {
    let kind = match values {
        Values::Booleans(_) => Kind::Boolean,
        Values::Integers(_) => Kind::Integer,
        Values::Floats(_) => Kind::Float,
        Values::Texts(_) => Kind::Text,
        Values::Blobs(_) => Kind::Bytes,
        Values::Timestamps(_) => Kind::Timestamp,
        Values::Vectors { .. } => Kind::Vector,
    };
    if kind != field.kind {
        return Err(format!("a column of {kind} values; its spec says {}", field.kind));
    }
    match values {
        Values::Booleans(values) => {
            check_length("values", values.len(), rows)?;
            if values.iter().fold(0, |all, value| all | value) > 1 {
                return Err("a boolean that is neither 0 nor 1".into());
            }
            Ok(())
        }
        Values::Integers(values) | Values::Timestamps(values) => check_length("values", values.len(), rows),
        Values::Floats(values) => check_length("values", values.len(), rows),
        Values::Texts(packed) => {
            check_offsets(packed, rows)?;
            check_text(packed)
        }
        Values::Blobs(packed) => check_offsets(packed, rows),
        Values::Vectors { width, values } => {
            let wanted = field.width.unwrap_or_default();
            if *width != wanted {
                return Err(format!("vectors of width {width}; its spec says {wanted}"));
            }
            check_length("numbers", values.len(), rows.saturating_mul(wanted as usize))
        }
    }
}

fn check_length(what: &str, found: usize, wanted: usize) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{found} {what}; {wanted} are right")) }
}

fn check_offsets(packed: &Packed, rows: usize) -> Result<(), String> {
    let Packed { offsets, bytes } = packed;
    check_length("offsets", offsets.len(), rows.saturating_add(1))?;
    if offsets.first() != Some(&0) {
        return Err("offsets that do not start at 0".into());
    }
    if !rises(offsets) {
        return Err("offsets that fall".into());
    }
    match offsets.last() {
        Some(last) if *last as usize == bytes.len() => Ok(()),
        last => Err(format!("offsets that end at {} for {} bytes", last.copied().unwrap_or_default(), bytes.len())),
    }
}

/// Whether no number is smaller than the one before. Looks at all of them, because a loop without a way out is done many at a time.
fn rises(numbers: &[u32]) -> bool {
    let next = numbers.get(1..).unwrap_or_default();
    numbers.iter().zip(next).fold(true, |rises, (number, next)| rises & (number <= next))
}

/// The whole buffer at once, and then only that no value begins inside a character: together that makes each value UTF-8.
fn check_text(packed: &Packed) -> Result<(), String> {
    let text = std::str::from_utf8(&packed.bytes).map_err(|error| format!("text that is not UTF-8 at byte {}", error.valid_up_to()))?;
    if text.is_ascii() || packed.offsets.iter().fold(true, |whole, offset| whole & text.is_char_boundary(*offset as usize)) {
        return Ok(());
    }
    Err("a text that begins inside a character".into())
}

fn check_validity(column: &mut Column, field: &Field, rows: usize) -> Result<(), String> {
    let Some(Validity { bits }) = &column.validity else { return Ok(()) };
    let wanted = rows.div_ceil(8);
    let Some(used) = bits.get(..wanted) else {
        return Err(format!("a validity bitmap of {} bytes; {rows} rows need {wanted}", bits.len()));
    };
    let (whole, rest) = used.split_at_checked(rows / 8).unwrap_or((used, &[]));
    let rest_mask = (1_u8 << (rows % 8)) - 1;
    let all_valid = whole.iter().fold(0xff, |all, byte| all & byte) == 0xff && rest.iter().all(|byte| byte & rest_mask == rest_mask);
    if !all_valid && !field.nullable {
        return Err("a null, but its spec says that it has none".into());
    }
    let surplus = bits.len() > wanted;
    if all_valid || surplus {
        match &mut column.validity {
            Some(validity) if !all_valid => validity.bits.truncate(wanted),
            validity => *validity = None,
        }
    }
    Ok(())
}

fn check_origins(origins: Option<&[u32]>, rows: usize, input_rows: usize) -> Result<(), Error> {
    let Some(origins) = origins else {
        if rows == input_rows {
            return Ok(());
        }
        return invalid(format!("{rows} rows for {input_rows} rows of input and no origins; without origins they must be as many"));
    };
    if origins.len() != rows {
        return invalid(format!("{} origins for {rows} rows", origins.len()));
    }
    if !rises(origins) {
        return invalid("origins that fall".into());
    }
    match origins.last() {
        Some(last) if *last as usize >= input_rows => invalid(format!("origin {last}; the input has {input_rows} rows")),
        _ => Ok(()),
    }
}

fn check_rejected(output: &mut Output, input_rows: usize) -> Result<(), Error> {
    let rejected = &mut output.rejected;
    rejected.sort_by_key(|(row, _)| *row);
    let mut before = None;
    for (row, reason) in rejected {
        let row = *row;
        if row as usize >= input_rows {
            return invalid(format!("a rejection of row {row}; the input has {input_rows} rows"));
        }
        if before.replace(row) == Some(row) {
            return invalid(format!("two rejections of row {row}"));
        }
        if output.origins.as_ref().is_none_or(|origins| origins.binary_search(&row).is_ok()) {
            return invalid(format!("a rejection of row {row}, which is also the origin of an output row"));
        }
        if reason.len() > REASON_BYTES_MAX {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
    }
    Ok(())
}
