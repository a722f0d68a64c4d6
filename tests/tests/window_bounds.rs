//! What ARCHITECTURE.md says windowed features are exact to, measured: beside exact values, over many events, in any order, at the bounds that it states.

use std::collections::BTreeMap;

use gristmill::model::{Aggregate, Aggregation, Kept, Kind, OwnedValue};
use gristmill_tests::flights::Seeded;
use gristmill_tests::kept_entity::KeptEntity;
use gristmill_tests::oracle::{Event, sum_exactly, unit};
use serde_json::{Value as Json, json};

/// A day in microseconds: over a window as long as this, events of a day lie in all of its tiles.
const DAY: i64 = 86_400_000_000;
const BEGIN: i64 = 20_000 * DAY;

/// The features of these functions over a day and since the first event, of values that come in this order, spread over a day: for each function both, read when all
/// have come. They are stored and read again every thousand events.
fn features(kind: Kind, functions: &[Aggregate], values: &[OwnedValue<'static>]) -> Vec<[Json; 2]> {
    let aggregation = |function: &Aggregate, window_ms| Aggregation {
        feature: String::new(),
        column: "value".into(),
        function: *function,
        window_ms,
        doc: String::new(),
    };
    let both = |function| [aggregation(function, Some(DAY as u64 / 1_000)), aggregation(function, None)];
    let kept = Kept { aggregations: functions.iter().flat_map(both).collect(), ..Kept::default() };
    let mut entity = KeptEntity::new(kind, kept, i64::MAX);
    let step = DAY / (values.len() as i64 + 1);
    let event = |(order, value): (usize, &OwnedValue<'static>)| Event {
        time: BEGIN + order as i64 * step,
        order: order as u64,
        value: Some(value.clone()),
    };
    let events: Vec<Event> = values.iter().enumerate().map(event).collect();
    events.chunks(1_000).for_each(|events| drop(entity.add(events)));
    let features = entity.features(BEGIN + DAY - 1);
    features.chunks(2).map(|both| [both[0].clone(), both[1].clone()]).collect()
}

fn floats(values: &[f64]) -> Vec<OwnedValue<'static>> {
    values.iter().map(|value| OwnedValue::Float(*value)).collect()
}

/// From 0 up to 1.
fn unit_float(seeded: &mut Seeded) -> f64 {
    seeded.below(1 << 53) as f64 / (1_u64 << 53) as f64
}

fn shuffle<T>(seeded: &mut Seeded, all: &mut [T]) {
    (1..all.len()).for_each(|last| all.swap(last, seeded.below(last as u64 + 1) as usize));
}

#[test]
fn distinct_is_nearly_exact_up_to_190_and_within_its_standard_error_beyond() {
    let mut seeded = Seeded(1);
    let (mut squares, mut many) = (0.0, 0.0);
    for distinct in [1_u64, 2, 10, 50, 100, 150, 190, 200, 1_000, 5_000, 20_000] {
        for turn in 0..if distinct > 190 { 40 } else { 10 } {
            let offset = seeded.below(u64::MAX / 2);
            let (kind, value): (_, fn(u64) -> OwnedValue<'static>) = if turn % 2 == 0 {
                (Kind::Integer, |number| OwnedValue::Integer(number as i64))
            } else {
                (Kind::Text, |number| OwnedValue::Text(format!("user-{number}").into()))
            };
            let mut values: Vec<_> = (0..distinct).map(|number| value(offset + number)).collect();
            // Some come again.
            (0..distinct / 2).for_each(|again| values.push(values[again as usize].clone()));
            let [day, ever] = features(kind, &[Aggregate::Distinct], &values)[0].clone();
            shuffle(&mut seeded, &mut values);
            assert_eq!(features(kind, &[Aggregate::Distinct], &values)[0], [day.clone(), ever.clone()], "in another order");
            assert_eq!(day, ever, "over 60 tiles and in one");
            let error = day.as_f64().unwrap() / distinct as f64 - 1.0;
            if distinct <= 190 {
                assert!(error.abs() * distinct as f64 <= 1.0, "{day} instead of {distinct}");
            } else {
                (squares, many) = (squares + error * error, many + 1.0);
                assert!(error.abs() < 4.0 * 0.023, "{day} instead of {distinct}");
            }
        }
    }
    let standard_error = f64::sqrt(squares / many);
    assert!(standard_error < 0.023 * 1.15, "{standard_error} over {many} estimates");
}

/// Numbers as they are measured: around something, spread over magnitudes, of both signs, few different ones.
fn distribution(seeded: &mut Seeded, number: u64, many: u64) -> Vec<f64> {
    let of = |seeded: &mut Seeded| match number % 6 {
        0 => unit_float(seeded),
        1 => -1e3 * unit_float(seeded),
        2 => f64::exp(40.0 * unit_float(seeded) - 20.0),
        3 => (unit_float(seeded) - 0.5) * f64::exp(30.0 * unit_float(seeded)),
        4 => seeded.below(7) as f64 - 3.0,
        _ => 1e300 * (1.0 + unit_float(seeded)),
    };
    (0..many).map(|_| of(seeded)).collect()
}

#[test]
fn a_quantile_is_within_one_percent_of_the_value_at_its_rank() {
    let ranks = [0.0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0];
    let functions: Vec<Aggregate> = ranks.iter().map(|rank| Aggregate::Quantile(*rank)).collect();
    let mut seeded = Seeded(2);
    for turn in 0..60 {
        let many = 1 + seeded.below(3_000);
        let mut values = distribution(&mut seeded, turn, many);
        let found = features(Kind::Float, &functions, &floats(&values));
        shuffle(&mut seeded, &mut values);
        assert_eq!(features(Kind::Float, &functions, &floats(&values)), found, "in another order");
        values.sort_by(f64::total_cmp);
        for (rank, found) in ranks.iter().zip(found) {
            let exact = values[(rank * (many - 1) as f64) as usize];
            // Nearer to zero than 1e-9 counts as zero.
            let slack = if *rank == 0.0 || *rank == 1.0 { 0.0 } else { exact.abs() * 0.01 * (1.0 + 1e-9) + 1e-9 };
            for found in found {
                let found = found.as_f64().unwrap();
                assert!((found - exact).abs() <= slack, "distribution {}: {found} instead of {exact} at rank {rank} of {many}", turn % 6);
            }
        }
    }
}

/// Of each sign, what is smaller than the largest by a factor of 6e17 counts as that small; everything from there on keeps its one percent.
#[test]
fn quantiles_of_what_is_spread_over_more_than_17_decades_are_right_about_the_larger_values() {
    let mut seeded = Seeded(3);
    for sign in [1.0, -1.0] {
        let mut values: Vec<f64> = (0..3_000).map(|_| sign * 10_f64.powf(300.0 * unit_float(&mut seeded) - 8.0)).collect();
        let ranks = [0.05, 0.5, 0.95, 0.99];
        let found = features(Kind::Float, &ranks.map(Aggregate::Quantile), &floats(&values));
        values.sort_by(f64::total_cmp);
        let largest = values.iter().map(|value| value.abs()).fold(0.0, f64::max);
        for (rank, found) in ranks.iter().zip(found) {
            let exact = values[(rank * 2_999.0) as usize];
            for found in found.map(|found| found.as_f64().unwrap()) {
                let close = (found - exact).abs() <= exact.abs() * 0.010_001;
                let as_small = exact.abs() < largest / 6e17 && found.abs() < largest / 5e17;
                assert!(close || as_small, "{found} instead of {exact} at rank {rank}, largest {largest}");
            }
        }
    }
}

#[test]
fn sums_and_means_of_floats_are_within_their_bound_in_any_order() {
    let mut seeded = Seeded(4);
    let functions = [Aggregate::Sum, Aggregate::Mean];
    for turn in 0..40 {
        let many = 1 + seeded.below(8_000);
        let mut values = match turn % 4 {
            0 => (0..many).map(|_| seeded.below(100_000) as f64 / 100.0).collect(),
            1 => distribution(&mut seeded, 3, many),
            // What is added is taken away again, but for a little.
            2 => {
                let mut values = distribution(&mut seeded, 3, many);
                values.extend(values.clone().iter().map(|value| -value));
                values.push(0.1);
                shuffle(&mut seeded, &mut values);
                values
            }
            // The sums on the way are larger than any float.
            _ => (0..many).map(|index| if index % 2 == 0 { f64::MAX } else { -f64::MAX * unit_float(&mut seeded) }).collect(),
        };
        let many = values.len() as f64;
        let magnitudes = sum_exactly(&values.iter().map(|value| value.abs() / many).collect::<Vec<f64>>(), 1.0);
        let exact = [sum_exactly(&values, 1.0), sum_exactly(&values, many)];
        for _ in 0..2 {
            for ((found, exact), divisor) in features(Kind::Float, &functions, &floats(&values)).into_iter().zip(exact).zip([1.0, many]) {
                let slack = unit(exact) + many / divisor * 2_f64.powi(-103) * many * magnitudes;
                for found in found {
                    let found = found.as_f64().unwrap_or(if found == json!("Infinity") { f64::INFINITY } else { f64::NEG_INFINITY });
                    assert!(
                        found == exact || (found - exact).abs() <= slack,
                        "turn {turn}: {found} instead of {exact}, give or take {slack}"
                    );
                }
            }
            shuffle(&mut seeded, &mut values);
        }
    }
}

/// Beside integers of 128 bits, in which the variance of whole numbers is exact.
#[test]
fn variance_is_within_its_bound_however_far_the_mean_is_from_zero() {
    let mut seeded = Seeded(5);
    for turn in 0..40_u32 {
        let many = 2 + i128::from(seeded.below(1_000));
        // Deviations of up to 2^10 around a mean of up to 2^52.
        let offset = 1_i64 << (turn * 4 % 53);
        let values: Vec<i64> = (0..many).map(|_| offset + seeded.below(1 << 10) as i64).collect();
        let wide: Vec<i128> = values.iter().map(|value| i128::from(*value)).collect();
        let (sum, squares): (i128, i128) = (wide.iter().sum(), wide.iter().map(|value| value * value).sum());
        let exact = (many * squares - sum * sum) as f64 / (many * many) as f64;
        let mean_square = squares as f64 / many as f64;
        let slack = 4.0 * unit(exact) + many as f64 * 2_f64.powi(-102) * mean_square;
        let as_floats = floats(&values.iter().map(|value| *value as f64).collect::<Vec<f64>>());
        let as_integers: Vec<_> = values.iter().map(|value| OwnedValue::Integer(*value)).collect();
        for (kind, values) in [(Kind::Float, as_floats), (Kind::Integer, as_integers)] {
            for found in features(kind, &[Aggregate::Variance], &values)[0].iter().map(|found| found.as_f64().unwrap()) {
                assert!((found - exact).abs() <= slack, "offset {offset}: {found} instead of {exact}, give or take {slack}");
            }
        }
    }
}

#[test]
fn the_most_frequent_are_exact_while_a_tile_has_1024_different_ones_and_are_found_among_any_number() {
    let mut seeded = Seeded(6);
    let text = |number: u64| OwnedValue::Text(format!("{number}").into());
    // Each as often as its number says: 45 of 45 down to 1 of 1.
    let mut values: Vec<_> = (1..=45).flat_map(|number| std::iter::repeat_n(text(number), number as usize)).collect();
    shuffle(&mut seeded, &mut values);
    let [day, ever] = features(Kind::Text, &[Aggregate::Top(4)], &values)[0].clone();
    assert_eq!([&day, &ever], [&json!(["45", "44", "43", "42"]); 2]);
    // Three make up a tenth each, and the rest is never the same.
    let mut values: Vec<_> = (0..20_000).map(|number| text(if number % 10 < 3 { number % 10 } else { 1_000 + number })).collect();
    shuffle(&mut seeded, &mut values);
    for found in &features(Kind::Text, &[Aggregate::Top(3)], &values)[0] {
        let mut found: Vec<&str> = found.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, ["0", "1", "2"]);
    }
}

#[test]
fn functions_of_nothing_are_what_the_table_says() {
    use Aggregate::*;
    let table = [Count, Sum, Mean, Variance, Min, Max, First, Last, Distinct, Quantile(0.5), LastValues(2), Top(2)];
    let expected = [
        json!(0),
        Json::Null,
        Json::Null,
        Json::Null,
        Json::Null,
        Json::Null,
        Json::Null,
        Json::Null,
        json!(0),
        Json::Null,
        json!([]),
        json!([]),
    ];
    for (found, expected) in features(Kind::Float, &table, &[]).into_iter().zip(expected) {
        assert_eq!(found, [expected.clone(), expected]);
    }
}

#[test]
fn the_mean_of_integers_is_rounded_once() {
    let integers = |values: &[i64]| values.iter().map(|value| OwnedValue::Integer(*value)).collect::<Vec<_>>();
    let cases: [(&[i64], f64); 7] = [
        (&[9_007_199_254_740_993, 0, 0], 3_002_399_751_580_331.0),
        (&[-9_007_199_254_740_993, 0, 0], -3_002_399_751_580_331.0),
        (&[9_007_199_254_740_993, 9_007_199_254_740_993], 9_007_199_254_740_992.0),
        (&[i64::MAX, i64::MAX], 9_223_372_036_854_775_807.0),
        (&[i64::MIN, i64::MIN, i64::MIN], -9_223_372_036_854_775_808.0),
        (&[1, 0, 0], 1.0 / 3.0),
        (&[0, 0], 0.0),
    ];
    for (values, mean) in cases {
        assert_eq!(features(Kind::Integer, &[Aggregate::Mean], &integers(values)), [[json!(mean), json!(mean)]], "{values:?}");
    }
}

/// A transform that returns vectors of another width returns another feature, whatever it is called.
#[test]
fn windows_over_vectors_of_another_width_begin_anew() {
    use Aggregate::*;
    let functions = [First, Last, LastValues(3)];
    let aggregation = |(index, function): (usize, &Aggregate)| Aggregation {
        feature: format!("f{index}"),
        column: "value".into(),
        function: *function,
        window_ms: None,
        doc: String::new(),
    };
    for (exact, history_secs) in [(false, 0), (false, 60), (true, 60)] {
        let kept = Kept { aggregations: functions.iter().enumerate().map(aggregation).collect(), history_secs, exact };
        let mut entity = KeptEntity::new(Kind::Vector, kept.clone(), i64::MAX);
        let event = |value: &[f32], order| Event {
            time: BEGIN,
            order,
            value: Some(OwnedValue::Vector(value.iter().flat_map(|number| number.to_le_bytes()).collect())),
        };
        entity.add(&[event(&[1.0, 2.0], 0)]);
        let mut wider = entity.adapted_to(kept, Some(3));
        assert_eq!(wider.features(BEGIN), [Json::Null, Json::Null, json!([])], "exact {exact}, history {history_secs}");
        wider.add(&[event(&[1.0, 2.0, 3.0], 1)]);
        let three = json!([1.0, 2.0, 3.0]);
        assert_eq!(wider.features(BEGIN), [three.clone(), three.clone(), json!([three])], "exact {exact}, history {history_secs}");
    }
}

/// Rows of one event have the same version: each counts, and the one that the transform returned later is the later one.
#[test]
fn several_rows_of_one_event_all_count() {
    use Aggregate::*;
    let all = [(First, None), (Last, None), (LastValues(5), None), (Count, None), (Sum, Some(60_000)), (LastValues(2), Some(60_000))];
    let aggregation =
        |(function, window_ms)| Aggregation { feature: String::new(), column: "value".into(), function, window_ms, doc: String::new() };
    for exact in [false, true] {
        for history_secs in [0, 3_600] {
            let kept = Kept { aggregations: all.map(aggregation).into(), history_secs, exact };
            let mut entity = KeptEntity::new(Kind::Integer, kept, i64::MAX);
            let event = |order, value| Event { time: BEGIN, order, value: Some(OwnedValue::Integer(value)) };
            // The second event comes first.
            entity.add(&[event(2, 4), event(2, 5)]);
            entity.add(&[event(1, 1), event(1, 2), event(1, 3)]);
            let expected = [json!(1), json!(5), json!([5, 4, 3, 2, 1]), json!(5), json!(15), json!([5, 4])];
            assert_eq!(entity.features(BEGIN), expected, "exact {exact}, history {history_secs}");
        }
    }
}

/// What is stored stays within what figures.md prints: nothing grows with the number of events but what is asked to.
#[test]
fn an_entity_takes_no_more_for_more_events() {
    let functions = [Aggregate::Count, Aggregate::Sum, Aggregate::Mean, Aggregate::Min, Aggregate::Max];
    let bytes = |events: i64| {
        let aggregation = |function: &Aggregate| Aggregation {
            feature: String::new(),
            column: "value".into(),
            function: *function,
            window_ms: Some(3_600_000),
            doc: String::new(),
        };
        let kept = Kept { aggregations: functions.iter().map(aggregation).collect(), ..Kept::default() };
        let mut entity = KeptEntity::new(Kind::Float, kept, i64::MAX);
        for start in (0..events).step_by(1_000) {
            let event = |order: i64| Event {
                time: BEGIN + order * 2 * DAY / events,
                order: order as u64,
                value: Some(OwnedValue::Float(0.1 * order as f64)),
            };
            entity.add(&(start..start + 1_000).map(event).collect::<Vec<_>>());
        }
        entity.stored.map_or(0, |stored| stored.len())
    };
    let sizes: BTreeMap<i64, usize> = [5_000, 100_000].map(|events| (events, bytes(events))).into();
    assert!(sizes[&100_000] < sizes[&5_000] + 60 * 8, "{sizes:?}");
}

/// A view has seen all that it is asked for: lists keep their newest values and nothing beyond, however many events a second there are.
#[test]
fn lists_keep_no_more_than_they_have_room_for() {
    let aggregation = |window_ms| Aggregation {
        feature: String::new(),
        column: "value".into(),
        function: Aggregate::LastValues(1_000),
        window_ms,
        doc: String::new(),
    };
    let kept = Kept { aggregations: vec![aggregation(Some(60_000)), aggregation(None)], ..Kept::default() };
    let mut entity = KeptEntity::new(Kind::Text, kept, i64::MAX);
    let event = |order: i64| Event {
        time: BEGIN + order * 1_000,
        order: order as u64,
        value: Some(OwnedValue::Text(format!("seventeen-{order:07}").into())),
    };
    for start in (0..70_000).step_by(10_000) {
        entity.add(&(start..start + 10_000).map(event).collect::<Vec<_>>());
        let bytes = entity.stored.as_ref().map_or(0, Vec::len);
        assert!(bytes < 2 * 1_000 * (24 + 17 + 6) + 1_000, "{bytes} after {start} events");
    }
    let events: Vec<Event> = (0..70_000).map(event).collect();
    for at in [BEGIN + 70_000_000, BEGIN + 69_999_000, BEGIN + 129_000_000, BEGIN + 129_500_000, BEGIN + 130_000_000, BEGIN + 200_000_000] {
        assert_eq!(entity.wrong(&events, at), None);
    }
}

/// Four of one among fifteen hundred that are there three times each, in tiles of 150: whether the last two are in a tile or still by themselves.
#[test]
fn the_most_frequent_of_several_tiles_are_so_with_history_as_without() {
    for (history_secs, exact) in [(0, false), (60, false), (600, false), (60, true)] {
        let top = Aggregation {
            feature: String::new(),
            column: "value".into(),
            function: Aggregate::Top(1),
            window_ms: Some(3_600_000),
            doc: String::new(),
        };
        let mut entity = KeptEntity::new(Kind::Integer, Kept { aggregations: vec![top], history_secs, exact }, i64::MAX);
        let mut events: Vec<Event> = Vec::new();
        let mut push = |time: i64, value: i64| {
            let order = events.len() as u64;
            events.push(Event { time, order, value: Some(OwnedValue::Integer(value)) });
        };
        let minute = 60_000_000;
        for tile in 0..10_i64 {
            for turn in 0..450 {
                push(BEGIN + tile * minute + turn, 1_000 + tile * 150 + turn % 150);
            }
            if tile < 2 {
                push(BEGIN + tile * minute + 1_000, 5);
            }
        }
        push(BEGIN + 40 * minute, 5);
        push(BEGIN + 40 * minute + 1, 5);
        events.chunks(500).for_each(|events| drop(entity.add(events)));
        assert_eq!(entity.features(BEGIN + 40 * minute + 2), [json!([5])], "history {history_secs}, exact {exact}");
    }
}

/// Windows that are exact keep the events within them, and what only a window without end covers is in its one tile: a backfill from the newest event to the oldest takes no
/// more room than the other way round.
#[test]
fn exact_windows_keep_nothing_for_what_only_a_window_without_end_covers() {
    let aggregation =
        |window_ms| Aggregation { feature: String::new(), column: "value".into(), function: Aggregate::Sum, window_ms, doc: String::new() };
    for history_secs in [0, 60] {
        let kept = Kept { aggregations: vec![aggregation(Some(60_000)), aggregation(None)], history_secs, exact: true };
        let mut entity = KeptEntity::new(Kind::Integer, kept, i64::MAX);
        let event = |order: i64| Event { time: BEGIN - order * 1_000_000, order: order as u64, value: Some(OwnedValue::Integer(order)) };
        let events: Vec<Event> = (0..3_000).map(event).collect();
        events.chunks(500).for_each(|events| drop(entity.add(events)));
        let bytes = entity.stored.as_ref().map_or(0, Vec::len);
        assert!(bytes < 12_000, "{bytes} for {} that are within a window, history {history_secs}", 60 + history_secs);
        for at in [BEGIN, BEGIN - history_secs as i64 * 1_000_000, BEGIN + 30_000_000] {
            assert_eq!(entity.wrong(&events, at), None, "history {history_secs}");
        }
    }
}

/// As it was stored before floats were kept as the digits of decimals.
const OF_BITS: &str = "\
    048006239b5b3ea880000000000000000900000000000000000000000180f592afebe691068080e0a2ebe69106049c0126018006239b5ae31b00000000000000\
    0006000000000000000000000001015839b4c8d61cc84026018006239b5b019f8000000000000000070000000000000000000000010101000000000000002601\
    8006239b5b202400000000000000000800000000000000000000000101a4703d0ad73f7fc026018006239b5b3ea8800000000000000009000000000000000000\
    000001019c7500883ce4377e0366218006239b5b019f8000000000000000070000000000000000010100000000000000218006239b5b20240000000000000000\
    08000000000000000001a4703d0ad73f7fc0218006239b5b3ea88000000000000000090000000000000000019c7500883ce4377e0798c0f9ef0c5e0001085839\
    b4c8d61cc8400001085839b4c8d61cc84008be328f2a5c2ba241188063cf9ecb9045be01085839b4c8d61cc84001085839b4c8d61cc840018006239b5ae31b00\
    00000000000000060000000000000000085839b4c8d61cc8400c02c5035e0001089a9999999999b93f0001089a9999999999b93f087c14ae47e17a843f18b81e\
    85eb51b82ebc01089a9999999999b93f01089a9999999999b93f018006239b5a2c000000000000000000000000000000000000089a9999999999b93f025e0001\
    08a4703d0ad73f7f40000108a4703d0ad73f7f4008c66d340030840e410840a4dfbe0e1c933d0108a4703d0ad73f7f400108a4703d0ad73f7f40018006239b5a\
    4a84800000000000000001000000000000000008a4703d0ad73f7f40023900012229c000012229c023886340000132d6bf0132d6bf018006239b5a6909000000\
    00000000000200000000000000000800000000000029c0025e000108555555555555d53f000108555555555555d53f081cc7711cc771bc3f181cc7711cc7715c\
    bc0108555555555555d53f0108555555555555d53f018006239b5a878d800000000000000003000000000000000008555555555555d53f02390001221c400001\
    221c40238048400001221c4001221c40018006239b5aa6120000000000000000040000000000000000080000000000001c40022e000100000100000001100110\
    018006239b5ac4968000000000000000050000000000000000080000000000000080010062100708559c7df84c14c9402440226abd100708559c7df84c14c940\
    2440226abd0820424dd1fe32a241182e197847a37a46be0132d6bf01085839b4c8d61cc840018006239b5ae31b00000000000000000600000000000000000858\
    39b4c8d61cc840";

/// What was stored before is read as it was meant, and what is stored now is refused by those who know only that, for they would take digits for bits.
#[test]
fn entities_of_before_decimals_are_read_and_those_of_now_are_told_apart() {
    use Aggregate::*;
    let aggregation =
        |(window_ms, function)| Aggregation { feature: String::new(), column: "value".into(), function, window_ms, doc: String::new() };
    let all = [Sum, Mean, Variance, Min, Max, Last].map(|function| [(Some(60_000), function), (None, function)]);
    let kept = Kept { aggregations: all.into_iter().flatten().map(aggregation).collect(), history_secs: 5, exact: false };
    let mut entity = KeptEntity::new(Kind::Float, kept, i64::MAX);
    let values = [0.1, 499.99, -12.5, 1.0 / 3.0, 7.0, -0.0, 12_345.678, 5e-324, -499.99, 1e300];
    let event = |(order, value): (usize, &f64)| Event {
        time: BEGIN + order as i64 * 2_000_000,
        order: order as u64,
        value: Some(OwnedValue::Float(*value)),
    };
    let events: Vec<Event> = values.iter().enumerate().map(event).collect();
    entity.add(&events);
    let byte = |at: usize| u8::from_str_radix(&OF_BITS[at..at + 2], 16).unwrap();
    let before: Vec<u8> = (0..OF_BITS.len()).step_by(2).map(byte).collect();
    let now = entity.stored.replace(before.clone()).unwrap();
    let moments = [BEGIN + 18_000_000, BEGIN + 14_000_000, BEGIN + 66_000_000];
    moments.iter().for_each(|at| assert_eq!(entity.wrong(&events, *at), None));
    // One that falls into a tile that was stored then.
    let late = [Event { time: BEGIN + 1, order: 10, value: Some(OwnedValue::Float(0.7)) }];
    assert_eq!(entity.add(&late), late);
    let events = [&events[..], &late].concat();
    moments.iter().for_each(|at| assert_eq!(entity.wrong(&events, *at), None));
    assert!(now.len() < before.len());
    assert_eq!([before[0], now[0], entity.stored.unwrap()[0]], [4, 5, 5], "the format");
}

/// Many more events than a window has tiles, most of them recent, as of several moments: beside the plain recomputation.
#[test]
fn sketches_and_lists_of_many_events_are_what_the_oracle_says_with_history_and_without() {
    use Aggregate::{Distinct, LastValues, Top};
    let mut seeded = Seeded(7);
    for turn in 0..16_u64 {
        let (exact, history_secs) = (turn % 2 == 1, [0, 60, 900, 7_200][turn as usize / 2 % 4]);
        let all = [Top(1), Top(10), Distinct, LastValues(1), LastValues(20), LastValues(500)];
        let windows = [60_000_u64, 3_600_000, 86_400_000];
        let aggregation = |(function, window_ms): (Aggregate, u64)| Aggregation {
            feature: String::new(),
            column: "value".into(),
            function,
            window_ms: Some(window_ms),
            doc: String::new(),
        };
        let aggregations = windows.iter().flat_map(|window| all.map(|function| aggregation((function, *window)))).collect();
        let mut entity = KeptEntity::new(Kind::Integer, Kept { aggregations, history_secs, exact }, i64::MAX);
        // Three hours; small numbers are frequent, and some thousand are rare. No tile of a window has more than a thousand different ones.
        let mut events: Vec<Event> = (0..2_500)
            .map(|order| {
                let below = 1 + seeded.below(3_000);
                let value = seeded.below(below) as i64;
                Event { time: BEGIN + seeded.below(3 * 3_600_000_000) as i64, order, value: Some(OwnedValue::Integer(value)) }
            })
            .collect();
        if turn % 3 > 0 {
            events.sort_by_key(|event| event.time / 60_000_000);
        }
        let mut counted = Vec::new();
        events.chunks(1 + seeded.below(400) as usize).for_each(|events| counted.extend(entity.add(events)));
        let (from, newest) = (entity.entity().kept_from().0, events.iter().map(|event| event.time).max().unwrap());
        for _ in 0..6 {
            let at = from + seeded.below((newest - from + 7_200_000_000) as u64) as i64;
            assert_eq!(entity.wrong(&events, at), None, "turn {turn}: exact {exact}, history {history_secs}");
        }
        assert_eq!(entity.wrong(&events, newest), None, "turn {turn}: exact {exact}, history {history_secs}");
    }
}
