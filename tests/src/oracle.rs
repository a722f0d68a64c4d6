//! What windowed features are, computed anew from all events as plainly as can be: the second implementation that the host's is held against.

use std::collections::{BTreeMap, BTreeSet};

use gristmill::model::json::push_value;
use gristmill::model::{Aggregate, Aggregation, OwnedValue, Value};
use serde_json::Value as Json;

/// An event of one entity, as far as windows see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Microseconds.
    pub time: i64,
    /// What tells events of the same time apart: later ones are greater.
    pub order: u64,
    /// The column that is aggregated.
    pub value: Option<OwnedValue<'static>>,
}

/// What a feature should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// There is nothing to compute it from.
    Null,
    /// This, to the last bit, as JSON has it.
    Exactly(String),
    /// This, give or take so much.
    Within(f64, f64),
    /// Any list of values that are as frequent as these: counts, in order.
    Frequencies(Vec<usize>, BTreeMap<String, usize>),
}

/// The earliest event time that a window covers at a moment: to the event when it is exact, else rounded outwards to a sixtieth of it.
pub fn first_time(window_ms: Option<u64>, exact: bool, at: i64) -> i64 {
    let Some(window) = window_ms.map(|ms| i128::from(ms) * 1_000) else { return i64::MIN };
    let begin = i128::from(at) - window + 1;
    let tile = window / 60;
    let first = if exact { begin } else { begin.div_euclid(tile) * tile };
    first.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The feature at a moment.
pub fn expected(aggregation: &Aggregation, exact: bool, events: &[Event], at: i64) -> Expected {
    let first = first_time(aggregation.window_ms, exact, at);
    let mut covered: Vec<&Event> = events.iter().filter(|event| (first..=at).contains(&event.time)).collect();
    covered.sort_by_key(|event| (event.time, event.order));
    let values: Vec<&OwnedValue<'static>> = covered.iter().filter_map(|event| event.value.as_ref()).collect();
    let one = |value: Option<&&OwnedValue<'_>>| value.map_or(Expected::Null, |value| Expected::Exactly(json(value)));
    match aggregation.function {
        Aggregate::Count => Expected::Exactly(values.len().to_string()),
        Aggregate::First => one(values.first()),
        Aggregate::Last => one(values.last()),
        Aggregate::LastValues(most) => {
            let newest: Vec<String> = values.iter().rev().take(most as usize).map(|value| json(value)).collect();
            Expected::Exactly(format!("[{}]", newest.join(",")))
        }
        Aggregate::Distinct => distinct(values.iter().map(|value| identity(value)).collect::<BTreeSet<_>>().len() as f64),
        Aggregate::Top(most) => {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            values.iter().for_each(|value| *counts.entry(identity(value)).or_default() += 1);
            let mut frequencies: Vec<usize> = counts.values().copied().collect();
            frequencies.sort_unstable_by(|one, other| other.cmp(one));
            frequencies.truncate(most as usize);
            Expected::Frequencies(frequencies, counts)
        }
        Aggregate::Sum | Aggregate::Mean | Aggregate::Min | Aggregate::Max | Aggregate::Variance | Aggregate::Quantile(_)
            if values.is_empty() =>
        {
            Expected::Null
        }
        Aggregate::Min => one(values.iter().min_by(|one, other| order(one, other))),
        Aggregate::Max => one(values.iter().max_by(|one, other| order(one, other))),
        Aggregate::Sum | Aggregate::Mean if values.iter().all(|value| matches!(value, OwnedValue::Integer(_))) => {
            let sum: i128 = values.iter().map(|value| if let OwnedValue::Integer(number) = value { i128::from(*number) } else { 0 }).sum();
            match (aggregation.function, i64::try_from(sum)) {
                (Aggregate::Mean, _) => Expected::Exactly(json(&OwnedValue::Float(quotient(sum, values.len() as i128)))),
                (_, Ok(sum)) => Expected::Exactly(sum.to_string()),
                (_, Err(_)) => Expected::Null,
            }
        }
        function @ (Aggregate::Sum | Aggregate::Mean | Aggregate::Variance | Aggregate::Quantile(_)) => {
            of_floats(function, &values.iter().map(|value| float(value)).collect::<Vec<f64>>())
        }
    }
}

/// By long division, as on paper, to far more digits than a float has.
fn quotient(sum: i128, many: i128) -> f64 {
    let (whole, mut rest) = (sum.abs() / many, sum.abs() % many);
    let mut digits = format!("{}{whole}.", if sum < 0 { "-" } else { "" });
    for _ in 0..100 {
        rest *= 10;
        digits.push_str(&(rest / many).to_string());
        rest %= many;
    }
    digits.parse().expect("digits are a number")
}

/// What ARCHITECTURE.md says of HyperLogLog: nearly exact up to 190, then a standard error of 2.3 %, of which this is four.
fn distinct(many: f64) -> Expected {
    Expected::Within(many, if many <= 190.0 { 1.0 } else { many * 0.092 })
}

/// Functions of floats, each with the bound that ARCHITECTURE.md states.
fn of_floats(function: Aggregate, values: &[f64]) -> Expected {
    let many = values.len() as f64;
    let has = |number: f64| values.contains(&number);
    if !matches!(function, Aggregate::Quantile(_)) && values.iter().any(|value| !value.is_finite()) {
        let is_nan = values.iter().any(|value| value.is_nan()) || (has(f64::INFINITY) && has(f64::NEG_INFINITY));
        let infinite = if has(f64::INFINITY) { f64::INFINITY } else { f64::NEG_INFINITY };
        return Expected::Exactly(json(&OwnedValue::Float(if is_nan || function == Aggregate::Variance { f64::NAN } else { infinite })));
    }
    let (sum, mean) = (sum_exactly(values, 1.0), sum_exactly(values, many));
    let magnitudes = sum_exactly(&values.iter().map(|value| value.abs()).collect::<Vec<f64>>(), 1.0);
    let slack = many * 2_f64.powi(-103) * magnitudes;
    match function {
        Aggregate::Sum => Expected::Within(sum, slack + unit(sum)),
        Aggregate::Mean => Expected::Within(mean, slack / many + unit(mean)),
        // Beyond 2^480 squares are too large to add up.
        Aggregate::Variance if values.iter().any(|value| value.abs() >= 2_f64.powi(480)) => {
            Expected::Exactly(json(&OwnedValue::Float(f64::INFINITY)))
        }
        Aggregate::Variance => {
            let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
            let variance = sum_exactly(&squares, many);
            let mean_square = values.iter().map(|value| value * value / many).sum::<f64>();
            // The last term is this computation's own: the mean is rounded.
            Expected::Within(variance, 4.0 * unit(variance) + many * 2_f64.powi(-102) * mean_square + (2.0 * unit(mean)).powi(2) + 1e-289)
        }
        Aggregate::Quantile(rank) => {
            let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            sorted.sort_by(f64::total_cmp);
            let Some(value) = sorted.get((rank * (sorted.len() as f64 - 1.0)).max(0.0) as usize) else { return Expected::Null };
            let largest = sorted.iter().map(|value| value.abs()).fold(0.0, f64::max);
            let slack = if rank == 0.0 || rank == 1.0 { 0.0 } else { value.abs() * 0.010_001 + 1e-9 + largest / 5e17 };
            Expected::Within(*value, slack)
        }
        Aggregate::Count
        | Aggregate::Min
        | Aggregate::Max
        | Aggregate::First
        | Aggregate::Last
        | Aggregate::Distinct
        | Aggregate::LastValues(_)
        | Aggregate::Top(_) => unreachable!("answered above"),
    }
}

/// One unit in the last place.
pub fn unit(number: f64) -> f64 {
    let magnitude = number.abs().max(f64::MIN_POSITIVE);
    if magnitude < f64::MAX { magnitude.next_up() - magnitude } else { magnitude - magnitude.next_down() }
}

/// A sum without any rounding but the last, divided: parts that do not overlap (Shewchuk, "Adaptive precision floating-point arithmetic", 1997), all scaled down
/// so that nothing overflows on the way.
pub fn sum_exactly(values: &[f64], divisor: f64) -> f64 {
    // Small numbers would lose digits.
    let scale = if values.iter().any(|value| value.abs() > 1e280) { 2_f64.powi(60) } else { 1.0 };
    let mut parts: Vec<f64> = Vec::new();
    for value in values {
        let mut carried = value / scale;
        let mut kept = Vec::new();
        for part in parts {
            let (large, small) = if carried.abs() < part.abs() { (part, carried) } else { (carried, part) };
            let sum: f64 = large + small;
            let rest = small - (sum - large);
            if rest != 0.0 {
                kept.push(rest);
            }
            carried = sum;
        }
        kept.push(carried);
        parts = kept;
    }
    // From the smallest on, so that what is rounded away never adds up.
    parts.iter().sum::<f64>() / divisor * scale
}

fn order(one: &OwnedValue<'_>, other: &OwnedValue<'_>) -> std::cmp::Ordering {
    match (one, other) {
        (OwnedValue::Float(one), OwnedValue::Float(other)) => {
            one.is_nan().cmp(&other.is_nan()).then(if one.is_nan() { std::cmp::Ordering::Equal } else { one.total_cmp(other) })
        }
        (OwnedValue::Integer(one), OwnedValue::Integer(other)) => one.cmp(other),
        (OwnedValue::Timestamp(one), OwnedValue::Timestamp(other)) => one.cmp(other),
        _ => unreachable!("min and max are of numbers and timestamps"),
    }
}

fn float(value: &OwnedValue<'_>) -> f64 {
    match value {
        OwnedValue::Float(number) => *number,
        OwnedValue::Integer(number) => *number as f64,
        _ => unreachable!("sums are of numbers"),
    }
}

/// A value as answers have it.
pub fn json(value: &OwnedValue<'_>) -> String {
    text(Some(value.value()))
}

fn text(value: Option<Value<'_>>) -> String {
    let mut text = Vec::new();
    push_value(&mut text, value);
    String::from_utf8(text).unwrap()
}

/// The same text for values that count as equal: zeros of either sign are one value.
fn identity(value: &OwnedValue<'_>) -> String {
    if let OwnedValue::Float(number) = value { json(&OwnedValue::Float(number + 0.0)) } else { json(value) }
}

/// Whether an answer, as JSON has it, is what it should be.
pub fn agrees(expected: &Expected, answer: &Json) -> bool {
    let number = || match answer.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => answer.as_f64(),
    };
    match expected {
        Expected::Null => answer.is_null(),
        Expected::Exactly(text) => answer.to_string().as_str() == text.as_str(),
        Expected::Within(value, slack) => number().is_some_and(|answer| answer == *value || (answer - value).abs() <= *slack),
        Expected::Frequencies(frequencies, counts) => answer.as_array().is_some_and(|values| {
            let values: Vec<String> = values.iter().map(Json::to_string).collect();
            let found: Vec<usize> = values.iter().map(|value| counts.get(value).copied().unwrap_or(0)).collect();
            values.iter().collect::<BTreeSet<_>>().len() == values.len() && found == *frequencies
        }),
    }
}
