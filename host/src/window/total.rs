//! Sums of floats that come out the same whatever the order.
//!
//! A sum is kept as two floats, together about 106 bits (Dekker, "A floating-point technique for extending the available precision", 1971; Knuth's
//! two-sum). Adding costs at most 2^-104 of the sum of magnitudes, so two orders of the same `n` numbers differ by no more than `n * 2^-103` of it, and
//! by one unit in the last place of the answer where that is the larger. Huge numbers go into a pair of their own, scaled down, so that nothing
//! overflows on the way that the whole sum would not.

use super::wire::{Reader, push_float, push_number, push_word};

/// An unevaluated sum of two floats, the second less than half a unit in the last place of the first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pair {
    high: f64,
    low: f64,
}

impl Pair {
    pub(super) fn add(&mut self, number: f64) {
        let (sum, error) = two_sum(self.high, number);
        let low = self.low + error;
        // Enough here, and half the work: algorithm 4 of Joldes, Muller and Popescu, "Tight and rigorous error bounds for basic building blocks of
        // double-word arithmetic", 2017; off by at most 2^-105 of the sum.
        self.high = sum + low;
        self.low = low - (self.high - sum);
    }

    /// Adds a product exactly: its rounding error is added too.
    pub(super) fn add_square(&mut self, number: f64) {
        let square = number * number;
        self.add(square);
        self.add(number.mul_add(number, -square));
    }

    pub(super) fn merge(&mut self, other: Pair) {
        self.add(other.high);
        if other.low != 0.0 {
            self.add(other.low);
        }
    }

    pub(super) fn value(self) -> f64 {
        self.high + self.low
    }

    /// This times a float, to about 106 bits.
    fn times(self, number: f64) -> Pair {
        let product = self.high * number;
        let error = self.high.mul_add(number, -product);
        let mut pair = Pair { high: product, low: 0.0 };
        pair.add(error);
        pair.add(self.low * number);
        pair
    }

    fn divided(self, number: f64) -> Pair {
        let first = self.high / number;
        let mut rest = self;
        let back = Pair { high: first, low: 0.0 }.times(number);
        rest.add(-back.high);
        rest.add(-back.low);
        let mut pair = Pair { high: first, low: 0.0 };
        pair.add(rest.value() / number);
        pair
    }

    fn push(self, out: &mut Vec<u8>) {
        push_float(out, self.high);
        push_word(out, self.low.to_bits());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Pair> {
        Some(Pair { high: reader.float()?, low: reader.float()? })
    }
}

/// A sum as it is rounded, and what rounding took from it.
fn two_sum(one: f64, other: f64) -> (f64, f64) {
    let sum = one + other;
    let part = sum - one;
    (sum, (one - (sum - part)) + (other - part))
}

/// Numbers from here on are huge.
const HUGE: f64 = f64::from_bits((1023 + 900) << 52);
/// What huge numbers are scaled by: 2^-600, and back.
const DOWN: f64 = f64::from_bits((1023 - 600) << 52);
const UP: f64 = f64::from_bits((1023 + 600) << 52);
/// Numbers from here on have squares that are beyond what a pair can add up: 2^480.
const SQUARES_MAX: f64 = f64::from_bits((1023 + 480) << 52);

const NAN: u8 = 1;
const INFINITE: u8 = 2;
const MINUS_INFINITE: u8 = 4;
const HAS_HUGE: u8 = 8;
const HAS_LOW: u8 = 16;
const BEYOND: u8 = 32;

/// How many numbers, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Total {
    pub(super) count: u64,
    sum: Pair,
    huge: Pair,
    flags: u8,
}

impl Total {
    pub(super) fn add(&mut self, number: f64) {
        self.count += 1;
        if number.is_nan() {
            self.flags |= NAN;
        } else if number.is_infinite() {
            self.flags |= if number > 0.0 { INFINITE } else { MINUS_INFINITE };
        } else if number.abs() < HUGE {
            self.sum.add(number);
        } else {
            self.flags |= HAS_HUGE;
            self.huge.add(number * DOWN);
        }
    }

    pub(super) fn merge(&mut self, other: &Total) {
        self.count += other.count;
        self.flags |= other.flags;
        self.sum.merge(other.sum);
        if other.flags & HAS_HUGE != 0 {
            self.huge.merge(other.huge);
        }
    }

    /// What the numbers that are not finite make of the sum, if there are any.
    fn not_finite(&self) -> Option<f64> {
        match self.flags & (NAN | INFINITE | MINUS_INFINITE) {
            0 => None,
            INFINITE => Some(f64::INFINITY),
            MINUS_INFINITE => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    pub(super) fn sum(&self) -> f64 {
        self.not_finite().unwrap_or_else(|| {
            if self.flags & HAS_HUGE == 0 {
                return self.sum.value();
            }
            let mut scaled = self.huge;
            scaled.merge(self.sum.times(DOWN));
            scaled.value() * UP
        })
    }

    pub(super) fn mean(&self) -> f64 {
        let many = self.count as f64;
        self.not_finite().unwrap_or_else(|| {
            if self.flags & HAS_HUGE == 0 {
                return self.sum.divided(many).value();
            }
            let mut scaled = self.huge;
            scaled.merge(self.sum.times(DOWN));
            scaled.divided(many).value() * UP
        })
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        let low = if self.sum.low == 0.0 { 0 } else { HAS_LOW };
        out.push((self.flags & !HAS_LOW) | low);
        push_number(out, self.count);
        push_float(out, self.sum.high);
        if low != 0 {
            push_word(out, self.sum.low.to_bits());
        }
        if self.flags & HAS_HUGE != 0 {
            self.huge.push(out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Total> {
        let flags = reader.byte()?;
        let count = reader.number()?;
        let high = reader.float()?;
        let low = if flags & HAS_LOW == 0 { 0.0 } else { reader.float()? };
        let huge = if flags & HAS_HUGE == 0 { Pair::default() } else { Pair::read(reader)? };
        Some(Total { count, sum: Pair { high, low }, huge, flags: flags & !HAS_LOW })
    }
}

/// A total and the sum of squares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Squares {
    pub(super) total: Total,
    squares: Pair,
}

impl Squares {
    pub(super) fn add(&mut self, number: f64) {
        self.total.add(number);
        if number.abs() < SQUARES_MAX {
            self.squares.add_square(number);
        } else {
            self.total.flags |= BEYOND;
        }
    }

    pub(super) fn merge(&mut self, other: &Squares) {
        self.total.merge(&other.total);
        self.squares.merge(other.squares);
    }

    /// Population variance: (sum of squares - sum² / n) / n, in pairs. Within 4 units in the last place, or n * 2^-102 of the mean of the
    /// squares; never negative. NaN where a number is not finite, infinite where one is beyond 2^480.
    pub(super) fn variance(&self) -> f64 {
        if self.total.not_finite().is_some() {
            return f64::NAN;
        }
        if self.total.flags & BEYOND != 0 {
            return f64::INFINITY;
        }
        let many = self.total.count as f64;
        let mean = self.total.sum.divided(many);
        let (by_high, by_low) = (self.total.sum.times(mean.high), self.total.sum.times(mean.low));
        let mut rest = self.squares;
        for part in [by_high, by_low] {
            rest.add(-part.high);
            rest.add(-part.low);
        }
        (rest.divided(many).value()).max(0.0)
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        self.total.push(out);
        self.squares.push(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Squares> {
        Some(Squares { total: Total::read(reader)?, squares: Pair::read(reader)? })
    }
}
