//! Numbers and runs of bytes in the stored form of an entity.

/// Appends an unsigned number, seven bits a byte, the lowest first.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`push_number`] appends.
pub(super) fn number_bytes(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// The sign in the lowest bit, so that small numbers of either sign are small.
fn folded(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Its inverse.
pub(super) fn unfolded(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Appends a signed number; small ones of either sign are short.
pub(super) fn push_signed(out: &mut Vec<u8>, number: i64) {
    push_number(out, folded(number));
}

/// How many bytes [`push_signed`] appends.
pub(super) fn signed_bytes(number: i64) -> usize {
    number_bytes(folded(number))
}

/// How many bytes [`push_run`] appends for so many.
pub(super) fn run_bytes(bytes: usize) -> usize {
    number_bytes(bytes as u64) + bytes
}

/// Appends bytes and before them how many.
pub(super) fn push_run(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bits of the first byte of a word: the bytes that are left out are ones, or those at the low end; without them they are zeros at the high end.
const ONES: u8 = 16;
const LOW: u8 = 32;

/// How many bytes [`push_word`] appends.
pub(super) fn word_bytes(word: u64) -> u32 {
    let high = word.leading_zeros().max(word.leading_ones()) / 8;
    let low = word.trailing_zeros().max(word.trailing_ones()) / 8;
    9 - high.max(low)
}

/// Appends a word in one byte and those of its own that tell something: most numbers are round, as integers or as floats.
pub(super) fn push_word(out: &mut Vec<u8>, word: u64) {
    let (high, low) = (word.leading_zeros().max(word.leading_ones()) / 8, word.trailing_zeros().max(word.trailing_ones()) / 8);
    let bytes = word.to_le_bytes();
    if low > high {
        let ones = if word & 1 == 1 { ONES } else { 0 };
        out.push(LOW | ones | (8 - low) as u8);
        out.extend_from_slice(bytes.get(low as usize..).unwrap_or_default());
    } else {
        let ones = if word >> 63 == 1 { ONES } else { 0 };
        out.push(ones | (8 - high) as u8);
        out.extend_from_slice(bytes.get(..8 - high as usize).unwrap_or_default());
    }
}

/// Bit of the first byte of a float that is kept as a decimal: the two bits above its length say by which power of ten its digits are divided.
const DECIMAL: u8 = 64;
/// Those powers.
const TENS: [f64; 4] = [1e1, 1e2, 1e3, 1e4];
/// Bytes of the digits of a decimal, at most: from here on the float is hardly longer.
const DIGITS_BYTES_MAX: u32 = 5;

/// The digits of a float that is a number of tenths, hundredths, thousandths or ten-thousandths, and the place in [`TENS`] of what they are divided by. Rounding the digits divided
/// gives the float back, bit by bit: division is correctly rounded (IEEE 754), and that is what is looked at here.
fn decimal(number: f64) -> Option<(i64, u8)> {
    let fits = f64::from(1_u32 << 31) * f64::from(1_u32 << (8 * DIGITS_BYTES_MAX - 32));
    TENS.iter().zip(0..).find_map(|(ten, place)| {
        let digits = (number * ten).round_ties_even();
        let is_it = digits.abs() < fits && (digits / ten).to_bits() == number.to_bits();
        is_it.then_some((digits as i64, place))
    })
}

/// Appends a float: as its bits, or as the digits of a decimal where that is shorter, which amounts, delays and measurements mostly are.
pub(super) fn push_float(out: &mut Vec<u8>, number: f64) {
    let as_bits = word_bytes(number.to_bits());
    if as_bits > 3
        && let Some((digits, place)) = decimal(number)
    {
        let digits = folded(digits);
        let many = 8 - digits.leading_zeros() / 8;
        if many + 1 < as_bits {
            out.push(DECIMAL | place << 4 | many as u8);
            return out.extend_from_slice(digits.to_le_bytes().get(..many as usize).unwrap_or_default());
        }
    }
    push_word(out, number.to_bits());
}

/// Takes from the front of stored bytes; everything is `None` where they are cut short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.number().map(unfolded)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of so many bytes, the lowest first.
    #[inline]
    fn bytes(&mut self, many: u8) -> Option<u64> {
        let (told, rest) = self.0.split_at_checked(usize::from(many))?;
        let number = match self.0.first_chunk() {
            // Cheaper than to copy as many as there are.
            Some(eight) => u64::from_le_bytes(*eight) & u64::MAX.checked_shr(64 - u32::from(many) * 8).unwrap_or(0),
            None => told.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        };
        self.0 = rest;
        Some(number)
    }

    /// The inverse of [`push_word`].
    #[inline]
    pub(super) fn word(&mut self) -> Option<u64> {
        let head = self.byte()?;
        let many = (head & 15).min(8);
        let (told, bits) = (self.bytes(many)?, u32::from(many) * 8);
        let (told, left_out) = match head & LOW {
            0 => (told, u64::MAX.checked_shl(bits).unwrap_or(0)),
            _ => (told.checked_shl(64 - bits).unwrap_or(0), u64::MAX.checked_shr(bits).unwrap_or(0)),
        };
        Some(if head & ONES == 0 { told } else { told | left_out })
    }

    /// The inverse of [`push_float`].
    #[inline]
    pub(super) fn float(&mut self) -> Option<f64> {
        let head = *self.0.first()?;
        if head & DECIMAL == 0 {
            return self.word().map(f64::from_bits);
        }
        self.0 = self.0.get(1..)?;
        let digits = self.bytes((head & 15).min(8))?;
        Some(unfolded(digits) as f64 / TENS.get(usize::from(head >> 4 & 3))?)
    }

    pub(super) fn run(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (run, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(run)
    }

    /// How many things follow, no more than there are bytes for.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_come_back_as_they_were() {
        let mut words: Vec<u64> =
            (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, !(1 << bit), u64::MAX << bit, 0x0123_4567_89ab_cdef >> bit]).collect();
        words.extend([0.0, -0.0, 1.0, -1.0, 0.1, -2.5, f64::MAX, f64::NAN, f64::INFINITY, 5e-324].map(f64::to_bits));
        words.extend([i64::MIN, i64::MAX, -1, -300, 300].map(|number| number as u64));
        let mut out = Vec::new();
        for word in &words {
            let before = out.len();
            push_word(&mut out, *word);
            assert_eq!((out.len() - before) as u32, word_bytes(*word));
            let before = out.len();
            push_number(&mut out, *word);
            assert_eq!(out.len() - before, number_bytes(*word));
            push_signed(&mut out, *word as i64);
        }
        let mut reader = Reader(&out);
        for word in &words {
            assert_eq!((reader.word(), reader.number(), reader.signed()), (Some(*word), Some(*word), Some(*word as i64)));
        }
        assert!(reader.0.is_empty());
        assert_eq!((Reader(&[8, 1]).word(), Reader(&[0x80]).number()), (None, None), "cut short");
        let bytes = |word| {
            let mut out = Vec::new();
            push_word(&mut out, word);
            out.len()
        };
        assert_eq!([bytes(0), bytes(12.0_f64.to_bits()), bytes(-7_i64 as u64), bytes(0.1_f64.to_bits())], [1, 3, 2, 9]);
    }

    #[test]
    fn floats_come_back_bit_by_bit_and_decimals_are_short() {
        let bytes = |number: f64| {
            let mut out = Vec::new();
            push_float(&mut out, number);
            let mut reader = Reader(&out);
            assert_eq!((reader.float().map(f64::to_bits), reader.0.len()), (Some(number.to_bits()), 0), "{number}");
            assert!((1..out.len()).all(|length| Reader(&out[..length]).float().is_none()), "{number}, cut short");
            out.len()
        };
        assert_eq!([0.0, 12.0, 0.5, 0.1, -0.1, 499.99, -499.99, 12_345_678.9].map(bytes), [1, 3, 3, 2, 2, 4, 4, 5]);
        assert_eq!([0.1 + 0.2, 1.0 / 3.0, 1e300 / 3.0, f64::from_bits(1 << 63 | 1)].map(bytes), [9, 9, 9, 9]);
        for number in [-0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324, -5e-324, 2_f64.powi(53) + 2.0] {
            bytes(number);
        }
        // Every number of ten-thousandths, up and down, and their neighbours, which are none.
        for power in 0..62 {
            for number in [1_i64 << power, (1 << power) - 1, -(1 << power), 0x0123_4567_89ab_cdef >> power] {
                for place in 0..6 {
                    let number = number as f64 / 10_f64.powi(place);
                    for number in [number, number.next_up(), number.next_down()] {
                        bytes(number);
                    }
                }
            }
        }
    }
}
