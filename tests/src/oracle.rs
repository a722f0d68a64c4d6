//! What windowed features are, computed anew from all events as plainly as can be: the second implementation that the host's is held against.

use std::collections::{BTreeMap, BTreeSet};

use gristmill::model::{Aggregate, Aggregation};

/// An event of one entity, as far as windows see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Microseconds.
    pub time: i64,
    /// What tells events of the same time apart: later ones are greater.
    pub order: u64,
    /// The column that is aggregated.
    pub value: Option<f64>,
}

// Zeros of either sign are one value: `value + 0.0` has none.

/// What a feature should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// There is nothing to compute it from.
    Null,
    /// This, to the last bit.
    Exactly(f64),
    /// This, give or take so much.
    Within(f64, f64),
    /// These, in order.
    List(Vec<f64>),
    /// Any list of values that are as frequent as these: counts, in order.
    Frequencies(Vec<usize>, BTreeMap<u64, usize>),
}

/// The earliest event time that a window covers at a moment: to the event when it is exact, else rounded outwards to a sixtieth of it.
pub fn first_time(window_ms: Option<u64>, exact: bool, at: i64) -> i64 {
    let Some(window) = window_ms.map(|ms| ms as i64 * 1_000) else { return i64::MIN };
    let begin = at - window + 1;
    if exact {
        return begin;
    }
    let tile = window / 60;
    begin.div_euclid(tile) * tile
}

/// The feature at a moment.
pub fn expected(aggregation: &Aggregation, exact: bool, events: &[Event], at: i64) -> Expected {
    let first = first_time(aggregation.window_ms, exact, at);
    let mut covered: Vec<&Event> = events.iter().filter(|event| (first..=at).contains(&event.time) && event.value.is_some()).collect();
    covered.sort_by_key(|event| (event.time, event.order));
    let values: Vec<f64> = covered.iter().filter_map(|event| event.value).collect();
    let many = values.len() as f64;
    let magnitude: f64 = values.iter().map(|value| value.abs()).sum();
    match aggregation.function {
        Aggregate::Count => return Expected::Exactly(many),
        Aggregate::Distinct => {
            let distinct = values.iter().map(|value| (value + 0.0).to_bits()).collect::<BTreeSet<_>>().len() as f64;
            return Expected::Within(distinct, distinct * 0.1);
        }
        Aggregate::LastValues(most) => return Expected::List(values.into_iter().rev().take(most as usize).collect()),
        Aggregate::Top(most) => {
            let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
            values.iter().for_each(|value| *counts.entry((value + 0.0).to_bits()).or_default() += 1);
            let mut frequencies: Vec<usize> = counts.values().copied().collect();
            frequencies.sort_unstable_by(|one, other| other.cmp(one));
            frequencies.truncate(most as usize);
            return Expected::Frequencies(frequencies, counts);
        }
        _ if values.is_empty() => return Expected::Null,
        _ => {}
    }
    // Sums in the plainest order, and how far off that may be: one rounding of the running sum for each event.
    let sum: f64 = values.iter().sum();
    let slack = magnitude * many * f64::EPSILON + f64::MIN_POSITIVE;
    let mean = sum / many;
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    match aggregation.function {
        Aggregate::Sum => Expected::Within(sum, slack),
        Aggregate::Mean => Expected::Within(mean, slack / many + mean.abs() * f64::EPSILON),
        Aggregate::Variance => {
            let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / many;
            let largest = sorted.iter().map(|value| value.abs()).fold(0.0, f64::max);
            Expected::Within(
                variance,
                variance * many * 4.0 * f64::EPSILON + (largest * many * f64::EPSILON).powi(2) + largest * largest * 1e-30,
            )
        }
        Aggregate::Min => Expected::Exactly(*sorted.first().unwrap()),
        Aggregate::Max => Expected::Exactly(*sorted.last().unwrap()),
        Aggregate::First => Expected::Exactly(*values.first().unwrap()),
        Aggregate::Last => Expected::Exactly(*values.last().unwrap()),
        Aggregate::Quantile(rank) => {
            let value = sorted[(rank * (many - 1.0)) as usize];
            // Within one percent, but for values that are as good as zero, in themselves or beside the largest.
            let largest = sorted.iter().map(|value| value.abs()).fold(0.0, f64::max);
            Expected::Within(value, value.abs() * 0.011 + 1e-9 + largest * 2e-18)
        }
        Aggregate::Count | Aggregate::Distinct | Aggregate::LastValues(_) | Aggregate::Top(_) => unreachable!("answered above"),
    }
}

/// Whether an answer, numbers in JSON, is what it should be.
pub fn agrees(expected: &Expected, answer: &serde_json::Value) -> bool {
    let number = |value: &serde_json::Value| value.as_f64();
    let list = || answer.as_array().map(|values| values.iter().filter_map(number).collect::<Vec<f64>>());
    match expected {
        Expected::Null => answer.is_null(),
        Expected::Exactly(value) => number(answer) == Some(*value),
        Expected::Within(value, slack) => number(answer).is_some_and(|answer| (answer - value).abs() <= *slack),
        Expected::List(values) => list().as_ref() == Some(values),
        Expected::Frequencies(frequencies, counts) => list().is_some_and(|values| {
            let distinct: BTreeSet<u64> = values.iter().map(|value| value.to_bits()).collect();
            let found: Vec<usize> = values.iter().map(|value| counts.get(&value.to_bits()).copied().unwrap_or(0)).collect();
            distinct.len() == values.len() && found == *frequencies
        }),
    }
}
