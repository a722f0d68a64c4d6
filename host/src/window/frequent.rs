//! How often each value was there. What is stored of a tile has a bound; what is merged for a read has none, so that it is right whatever tiles values are in.

use rustc_hash::FxHashMap;

use super::wire::Reader;

/// Different values that are stored of one tile, at most; beyond it the rarest are forgotten.
pub(super) const FREQUENT_MAX: usize = 1_024;

/// By value, in its packed form.
pub(super) type Counts = FxHashMap<Vec<u8>, u64>;

/// What is stored: everything within the bound, and beyond it three quarters of that, so that what comes next has room. Of equally rare values those go that sort
/// last.
pub(super) fn most_frequent(counts: &Counts) -> Vec<(u64, &Vec<u8>)> {
    let mut kept: Vec<(u64, &Vec<u8>)> = counts.iter().map(|(value, count)| (*count, value)).collect();
    if kept.len() > FREQUENT_MAX {
        first(&mut kept, FREQUENT_MAX * 3 / 4);
    }
    kept
}

/// Keeps so many of the most frequent, in no order.
fn first(counts: &mut Vec<(u64, &Vec<u8>)>, many: usize) {
    if let Some(last) = many.checked_sub(1).filter(|last| *last < counts.len()) {
        counts.select_nth_unstable_by(last, more_frequent);
    }
    counts.truncate(many);
}

fn more_frequent((one, first): &(u64, &Vec<u8>), (other, second): &(u64, &Vec<u8>)) -> std::cmp::Ordering {
    other.cmp(one).then_with(|| first.cmp(second))
}

/// The most frequent of these values, in order.
pub(super) fn top(counts: &Counts, many: usize) -> Vec<&[u8]> {
    let mut all: Vec<(u64, &Vec<u8>)> = counts.iter().map(|(value, count)| (*count, value)).collect();
    first(&mut all, many);
    all.sort_unstable_by(more_frequent);
    all.into_iter().map(|(_, value)| value.as_slice()).collect()
}

/// Adds what is stored.
pub(super) fn read_counts(counts: &mut Counts, reader: &mut Reader<'_>) -> Option<()> {
    let many = reader.count()?;
    if counts.is_empty() {
        counts.reserve(many.min(FREQUENT_MAX));
    }
    for _ in 0..many {
        let (value, count) = (reader.run()?, reader.number()?);
        match counts.get_mut(value) {
            Some(known) => *known += count,
            None => drop(counts.insert(value.to_vec(), count)),
        }
    }
    Some(())
}
