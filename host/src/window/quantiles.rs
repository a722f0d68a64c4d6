//! Sketches of quantiles as they are stored. Whoever unpacks them takes any number for the bin of a value, and runs out of its bins with some that no value has. So they are
//! looked through before: what is in an online store may have been damaged, or be somebody else's.

use sketches_ddsketch::DDSketch;

use super::wire::{Reader, unfolded};

/// What begins each part, see `DDSketchWithExactSummaryStatistics` of DataDog's sketches-java.
const COUNT: u8 = 0xa0;
const ZEROS: u8 = 0x04;
const SUM: u8 = 0x84;
const LEAST: u8 = 0x88;
const GREATEST: u8 = 0x8c;
const MAPPING: u8 = 0x02;
const ABOVE_ZERO: u8 = 0x05;
const BELOW_ZERO: u8 = 0x07;

/// What values and bins have to do with each other: a bin is this much wider than the one before.
const GAMMA: f64 = (1.0 + 0.01) / (1.0 - 0.01);
/// No finite number has a bin further from that of 1.
const BIN_MAX: u64 = 1 << 16;

/// A sketch as the host has stored it; nothing where it has not.
pub(super) fn read(bytes: &[u8]) -> Option<DDSketch> {
    let mut reader = Reader(bytes);
    // A sketch that is stored has values, and how many stands first.
    let mut part = Some(reader.byte().filter(|first| *first == COUNT)?);
    while let Some(begun) = part {
        match begun {
            COUNT | ZEROS => drop(number(&mut reader)?),
            SUM | LEAST | GREATEST => drop(reader.array::<8>()?),
            MAPPING => {
                let gamma = f64::from_le_bytes(reader.array()?);
                let offset = f64::from_le_bytes(reader.array()?);
                [gamma, offset].eq(&[GAMMA, 0.0]).then_some(())?;
            }
            ABOVE_ZERO | BELOW_ZERO => bins(&mut reader)?,
            _ => return None,
        }
        part = reader.byte();
    }
    DDSketch::from_java_bytes(bytes).ok()
}

/// How many, and of each the steps from the one before and how many values are in it.
fn bins(reader: &mut Reader<'_>) -> Option<()> {
    let mut bin = 0_i64;
    for _ in 0..number(reader)? {
        let steps = number(reader)?;
        bin = bin.checked_add(unfolded(steps))?;
        number(reader)?;
        if bin.unsigned_abs() > BIN_MAX {
            return None;
        }
    }
    Some(())
}

/// Seven bits a byte, the lowest first, and eight in a ninth. Of a float only how long it is counts here.
fn number(reader: &mut Reader<'_>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..56).step_by(7) {
        let byte = reader.byte()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    Some(number | u64::from(reader.byte()?) << 56)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_read_and_bins_that_no_value_has_are_not() {
        let mut sketch = DDSketch::default();
        for number in [0.0, 1.0, -1.0, 0.1, 1e-9, f64::MAX, f64::MIN, 5e-324, -12.5, 1e15] {
            sketch.add(number);
            let stored = sketch.to_java_bytes();
            assert_eq!(read(&stored).unwrap().to_java_bytes(), stored);
            assert!((0..stored.len()).all(|length| read(&stored[..length]).is_none_or(|cut| cut.to_java_bytes().len() <= length + 32)));
        }
        let mut some = DDSketch::default();
        some.add(1.0);
        let some = some.to_java_bytes();
        let begin = some.iter().rposition(|byte| *byte == ABOVE_ZERO).unwrap();
        // A bin at the one end of what can be counted, and one at the other.
        let far = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        let ends = [&some[..begin], &[ABOVE_ZERO, 2], &far, &[0x02, 0xfd, 0xff, 0xff, 0xff, 0x1f, 0x02]].concat();
        assert!(read(&ends).is_none());
        assert!(read(&[&some[..], &[ABOVE_ZERO]].concat()).is_none() && read(&some[2..]).is_none() && read(&[]).is_none());
        let another = GAMMA.next_up().to_le_bytes();
        let at = some.windows(8).position(|bytes| bytes == GAMMA.to_le_bytes()).unwrap();
        assert!(read(&[&some[..at], &another, &some[at + 8..]].concat()).is_none(), "it could not be merged with others");
    }
}
