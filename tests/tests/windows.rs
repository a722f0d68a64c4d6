//! Windows and history against an oracle that computes everything anew from all events: every function, every kind of value and window, any order, late
//! events, entities that are stored and read again in between, any moment of reading.

#[path = "windows/changed.rs"]
mod changed;
#[path = "windows/forgotten.rs"]
mod forgotten;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};

use gristmill::model::{Aggregate, Aggregation, EntryId, FeatureRow, Field, Kept, Kind, OwnedValue, SchemaId, Timestamp, Value, Version};
use gristmill::window::{Entity, Plan, Shape};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::kept_entity::KeptEntity;
use gristmill_tests::oracle::{Event, agrees, expected, first_time};
use gristmill_tests::redis_server::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value as Json, json};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const WINDOWS: [Option<u64>; 9] =
    [Some(1_000), Some(MINUTE), Some(61_007), Some(60 * MINUTE), Some(DAY), Some(7 * DAY), Some(30 * DAY), Some(90 * DAY), None];

/// The functions that there are for a kind of value.
fn functions(kind: Kind) -> Vec<Aggregate> {
    use Aggregate::*;
    let any = [Count, First, Last, Distinct, LastValues(3), LastValues(1), Top(2)];
    let ordered = [Min, Max].into_iter().filter(|_| [Kind::Integer, Kind::Float, Kind::Timestamp].contains(&kind));
    let numeric = [Sum, Mean, Variance, Quantile(0.5), Quantile(0.0), Quantile(0.9), Quantile(1.0)];
    let numeric = numeric.into_iter().filter(|_| [Kind::Integer, Kind::Float].contains(&kind));
    any.into_iter().chain(ordered).chain(numeric).collect()
}

/// Every function over every window.
fn aggregations(kind: Kind) -> Vec<Aggregation> {
    let functions = functions(kind);
    let all = WINDOWS.iter().flat_map(|window| functions.iter().map(move |function| (*function, *window)));
    let aggregation = |(number, (function, window_ms)): (usize, _)| Aggregation {
        feature: format!("feature_{number}"),
        column: "value".into(),
        function,
        window_ms,
        doc: String::new(),
    };
    all.enumerate().map(aggregation).collect()
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Float),
        2 => Just(Kind::Integer),
        1 => prop::sample::select(vec![Kind::Boolean, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::Vector]),
    ]
}

/// Few different ones and all that is odd about a kind.
fn values(kind: Kind) -> BoxedStrategy<Option<OwnedValue<'static>>> {
    let value = match kind {
        Kind::Float => prop_oneof![
            4 => (-3_i32..4).prop_map(|small| f64::from(small) / 2.0),
            3 => -1e6..1e6_f64,
            // Amounts and delays, and what is nearly one.
            3 => (-50_000_000_i64..50_000_000, 0..6, -1_i8..2).prop_map(|(digits, places, beside)| {
                let decimal = digits as f64 / 10_f64.powi(places);
                [decimal.next_down(), decimal, decimal.next_up()][(beside + 1) as usize]
            }),
            2 => prop::sample::select(vec![1e15, -1e15, 0.1, 1e-7, -0.0, 0.0, 123_456_789.125]),
        ]
        .prop_map(OwnedValue::Float)
        .boxed(),
        Kind::Integer => prop_oneof![
            4 => -3_i64..4,
            2 => any::<i64>(),
            1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, 1 << 53, (1 << 53) + 1]),
        ]
        .prop_map(OwnedValue::Integer)
        .boxed(),
        Kind::Timestamp => prop_oneof![-3_i64..4, any::<i64>()].prop_map(|moment| OwnedValue::Timestamp(Timestamp(moment))).boxed(),
        Kind::Boolean => any::<bool>().prop_map(OwnedValue::Boolean).boxed(),
        Kind::Text => "[a-c\"\n\u{e9}\u{1f600}]{0,2}".prop_map(|text| OwnedValue::Text(text.into())).boxed(),
        Kind::Bytes => prop::collection::vec(0_u8..3, 0..3).prop_map(|bytes| OwnedValue::Bytes(bytes.into())).boxed(),
        Kind::Vector => prop::array::uniform2(-2_i8..3)
            .prop_map(|vector| OwnedValue::Vector(vector.iter().flat_map(|number| f32::from(*number).to_le_bytes()).collect()))
            .boxed(),
        Kind::List => unreachable!("no output is a list"),
    };
    prop_oneof![1 => Just(None), 8 => value.prop_map(Some)].boxed()
}

/// Values that are no ordinary numbers, among some that are.
fn odd_floats() -> impl Strategy<Value = Option<OwnedValue<'static>>> {
    let odd =
        vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -0.0, 0.0, 1.5, -2.0];
    prop_oneof![3 => prop::sample::select(odd), 1 => any::<f64>()].prop_map(|number| Some(OwnedValue::Float(number)))
}

/// Moments within some span of time, in no order; many of them where a tile or a window begins or ends, or next to it. Of today, of before 1970, around 1970, and
/// where time itself ends.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let span = prop::sample::select(vec![1_000_000_i64, 90_000_000, 4_000_000_000, 200_000_000_000, 20_000_000_000_000]);
    let begin = prop_oneof![
        4 => Just(1_700_000_000_000_000_i64),
        1 => prop::sample::select(vec![-1_000_000_000_000_000, -3_600_000_000, 250_000_000_000_000_000, i64::MIN, i64::MIN + 1, i64::MAX - 20_000_000_000_000]),
    ];
    (begin, span).prop_flat_map(|(begin, span)| {
        let edge = (prop::sample::select(WINDOWS.iter().flatten().copied().collect::<Vec<u64>>()), 0..span, any::<bool>(), -1_i64..2);
        let edge = edge.prop_map(move |(window_ms, within, is_tile, beside)| {
            let step = window_ms as i64 * 1_000 / if is_tile { 60 } else { 1 };
            let edge = i128::from(begin + within).div_euclid(step.into()) * i128::from(step) + i128::from(beside);
            edge.clamp(begin.into(), i64::MAX.into()) as i64
        });
        prop::collection::vec(prop_oneof![2 => (0..span).prop_map(move |within| begin + within), 1 => edge], 1..60)
    })
}

fn events(kind: Kind) -> impl Strategy<Value = Vec<Event>> {
    (times(), prop::collection::vec(values(kind), 60)).prop_map(with_values)
}

fn with_values((times, values): (Vec<i64>, Vec<Option<OwnedValue<'static>>>)) -> Vec<Event> {
    let event = |(order, (time, value)): (usize, _)| Event { time, order: order as u64, value };
    times.into_iter().zip(values).enumerate().map(event).collect()
}

/// What may come: events in the order of their coming, how many of them make a batch, what is kept, and by what to read later than the newest.
#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    events: Vec<Event>,
    batch: usize,
    history_secs: u64,
    exact: bool,
    back: i64,
}

impl Case {
    fn kept(&self) -> Kept {
        Kept { aggregations: aggregations(self.kind), history_secs: self.history_secs, exact: self.exact }
    }

    fn entity(&self, now: i64) -> KeptEntity {
        KeptEntity::new(self.kind, self.kept(), now)
    }

    fn newest(&self) -> i64 {
        self.events.iter().map(|event| event.time).max().unwrap()
    }

    /// How far back reads are answered once the newest event is this.
    fn kept_from(&self, newest: i64) -> i64 {
        newest.saturating_sub(self.history_secs as i64 * 1_000_000)
    }

    /// Moments from then on: where events, windows and tiles begin and end, and some others.
    fn moments(&self, from: i64) -> BTreeSet<i64> {
        let newest = self.newest();
        let mut moments = vec![newest, newest.saturating_add(1), newest.saturating_add(self.back), from];
        moments.push(from.saturating_add(self.back % newest.saturating_sub(from).saturating_add(1).max(1)));
        for event in self.events.iter().step_by(7) {
            let window = WINDOWS[event.order as usize % (WINDOWS.len() - 1)].map_or(0, |ms| ms as i64 * 1_000);
            let ends = event.time.saturating_add(window);
            moments.extend([event.time.saturating_sub(1), event.time, ends.saturating_sub(1), ends, ends.saturating_add(window / 60)]);
        }
        moments.into_iter().filter(|moment| *moment >= from).collect()
    }
}

fn cases_of(kinds: impl Strategy<Value = Kind>) -> impl Strategy<Value = Case> {
    let history = prop::sample::select(vec![0_u64, 1, 90, 7_200, 400_000]);
    let kind_and_events = kinds.prop_flat_map(|kind| (Just(kind), events(kind)));
    let back = prop_oneof![3 => 0_i64..200_000_000_000, 1 => 0_i64..10_000_000_000_000];
    let case = (kind_and_events, 1_usize..20, history, any::<bool>(), back);
    case.prop_map(|((kind, events), batch, history_secs, exact, back)| Case { kind, events, batch, history_secs, exact, back })
}

/// The same cases every time, unless `GRISTMILL_SEED` names others.
fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed: u64 = std::env::var("GRISTMILL_SEED").map_or(4, |seed| seed.parse().expect("GRISTMILL_SEED is a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config { cases, failure_persistence: None, ..Config::default() }, rng);
    runner.run(&strategy, test).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}

fn right(entity: &KeptEntity, events: &[Event], at: i64) -> Result<(), TestCaseError> {
    entity.wrong(events, at).map_or(Ok(()), |wrong| Err(TestCaseError::fail(wrong)))
}

#[test]
fn every_function_over_every_window_is_what_the_oracle_says_at_every_moment_that_is_kept() {
    run(2_000, cases_of(kinds()), |case| {
        let newest = case.newest();
        let mut entity = case.entity(newest.saturating_add(1_000_000));
        let mut counted = Vec::new();
        for events in case.events.chunks(case.batch) {
            counted.extend(entity.add(events));
        }
        let kept_from = entity.entity().kept_from().0;
        prop_assert_eq!(kept_from, case.kept_from(newest));
        case.moments(kept_from).into_iter().try_for_each(|at| right(&entity, &case.events, at))?;
        // What was too late is covered by nothing that can still be asked for.
        for late in case.events.iter().filter(|event| !counted.contains(event)) {
            prop_assert!(entity.kept.aggregations.iter().all(|one| late.time < first_time(one.window_ms, case.exact, kept_from)));
        }
        Ok(())
    });
}

#[test]
fn numbers_that_are_not_finite_or_nearly_not_are_what_the_oracle_says() {
    let odd = (times(), prop::collection::vec(odd_floats(), 60)).prop_map(with_values);
    let cases = (cases_of(Just(Kind::Float)), odd).prop_map(|(case, events)| Case { events, ..case });
    run(700, cases, |case| {
        let mut entity = case.entity(case.newest());
        case.events.chunks(case.batch).for_each(|events| drop(entity.add(events)));
        case.moments(entity.entity().kept_from().0).into_iter().try_for_each(|at| right(&entity, &case.events, at))
    });
}

#[test]
fn any_order_gives_the_same_answer_to_the_last_unit() {
    run(500, cases_of(kinds()), |case| {
        let answers = [false, true].map(|backwards| {
            let mut entity = case.entity(case.newest());
            let mut events = case.events.clone();
            if backwards {
                events.reverse();
            }
            events.chunks(case.batch).for_each(|events| drop(entity.add(events)));
            entity.features(case.newest().saturating_add(case.back))
        });
        for (one, other) in answers[0].iter().zip(&answers[1]) {
            let (numbers, others) = (one.as_f64(), other.as_f64());
            let close = numbers.zip(others).is_some_and(|(one, other)| (one - other).abs() <= one.abs() * f64::EPSILON);
            prop_assert!(one == other || close, "{one} and {other}");
        }
        Ok(())
    });
}

#[test]
fn an_event_out_of_the_future_counts_when_its_time_has_come_and_pushes_nothing_out() {
    run(300, cases_of(kinds()), |case| {
        let mut entity = case.entity(0);
        let times = case.events.iter().map(|event| i128::from(event.time)).sum::<i128>();
        entity.now = (times / case.events.len() as i128) as i64;
        case.events.chunks(case.batch).for_each(|events| drop(entity.add(events)));
        let from = entity.entity().kept_from().0.max(entity.now);
        case.moments(from).into_iter().try_for_each(|at| right(&entity, &case.events, at))
    });
}

/// A read at a moment, while events up to it are all that there is, and the read as of that moment when more have come.
#[test]
fn a_read_as_of_a_moment_is_what_a_read_at_that_moment_gave() {
    run(500, cases_of(kinds()), |case| {
        let mut events = case.events.clone();
        // Out of order within a batch, and no event of a batch before one of the batches before.
        events.sort_by_key(|event| event.time);
        let mut entity = case.entity(0);
        let mut reads = Vec::new();
        let mut rest = events.as_slice();
        while let Some(first) = rest.get(..case.batch.min(rest.len())).filter(|first| !first.is_empty()) {
            let end = first.last().map_or(0, |event| event.time);
            let many = rest.iter().take_while(|event| event.time <= end).count();
            let mut batch = rest[..many].to_vec();
            batch.reverse();
            rest = &rest[many..];
            // Between this batch and the next one.
            let next = rest.first().map_or(end.saturating_add(case.back), |event| event.time - 1);
            let moment = end.saturating_add(case.back % (next.saturating_sub(end).max(1)));
            entity.now = moment;
            entity.add(&batch);
            reads.push((moment, entity.features(moment), entity.entity().row(Timestamp(moment))));
        }
        let last = entity.entity();
        for (moment, features, row) in reads {
            if last.answers(Timestamp(moment)) {
                prop_assert_eq!(last.row(Timestamp(moment)), row);
                for (one, other) in features.iter().zip(&entity.features(moment)) {
                    let close =
                        one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| (one - other).abs() <= one.abs() * f64::EPSILON);
                    prop_assert!(one == other || close, "as of {}: {} instead of {}", moment, other, one);
                }
            } else {
                prop_assert!(moment < case.kept_from(case.newest()), "{} is within what is kept", moment);
            }
        }
        Ok(())
    });
}

/// The same with events that come in any order, many of them later than moments that are asked about: what is answered as of a moment is what a view answered then that had
/// been given exactly the events up to it. And whatever is missing says so.
#[test]
fn a_read_as_of_a_moment_counts_what_came_late_and_nothing_from_after() {
    run(300, cases_of(kinds()), |case| {
        let mut whole = case.entity(case.newest());
        case.events.chunks(case.batch).for_each(|events| drop(whole.add(events)));
        for at in case.moments(case.kept_from(case.newest())).into_iter().step_by(3) {
            prop_assert!(whole.entity().answers(Timestamp(at)), "{} is within what is kept", at);
            let mut then = case.entity(at);
            let events: Vec<Event> = case.events.iter().filter(|event| event.time <= at).cloned().collect();
            events.chunks(case.batch).for_each(|events| drop(then.add(events)));
            for (one, other) in then.features(at).iter().zip(&whole.features(at)) {
                let close = one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| (one - other).abs() <= one.abs() * f64::EPSILON);
                prop_assert!(one == other || close, "as of {at}: {other} instead of {one}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_history_that_had_to_be_shortened_is_right_about_what_is_left() {
    run(500, cases_of(kinds()), |case| {
        let newest = case.newest();
        let mut entity = case.entity(newest);
        for (turn, events) in case.events.chunks(case.batch).enumerate() {
            entity.add(events);
            let (mut shorter, before) = (entity.entity(), entity.entity().kept_from());
            if turn % 3 == 0 && shorter.shorten_history(&entity.plan, Timestamp(newest)).unwrap() {
                prop_assert!(shorter.kept_from() > before);
                entity.store(&mut shorter);
            }
        }
        let kept_from = entity.entity().kept_from().0;
        prop_assert!(kept_from == i64::MIN || !entity.entity().answers(Timestamp(kept_from - 1)));
        case.moments(kept_from).into_iter().try_for_each(|at| right(&entity, &case.events, at))
    });
}

#[test]
fn rows_of_the_past_are_the_newest_of_their_time() {
    run(500, cases_of(kinds()), |case| {
        let mut entity = case.entity(case.newest());
        case.events.chunks(case.batch).for_each(|events| drop(entity.add(events)));
        let read = entity.entity();
        for at in case.moments(read.kept_from().0) {
            let expected = case.events.iter().filter(|event| event.time <= at).max_by_key(|event| (event.time, event.order));
            let row = read.row(Timestamp(at)).map(|packed| gristmill::model::FeatureRow::new(packed).unwrap().header.version);
            prop_assert_eq!(row, expected.map(KeptEntity::version));
        }
        Ok(())
    });
}

/// Which of the aggregations there are, before and after.
fn masks() -> impl Strategy<Value = (Vec<bool>, Vec<bool>)> {
    let mask = || prop::collection::vec(any::<bool>(), aggregations(Kind::Float).len());
    (mask(), mask())
}

#[test]
fn features_that_stay_go_on_when_others_come_and_go() {
    let strategy = (cases_of(kinds()), masks(), any::<prop::sample::Index>());
    run(700, strategy, |(case, (before, after), change)| {
        let newest = case.newest();
        let with = |mask: &[bool]| {
            let some = aggregations(case.kind).into_iter().zip(mask).filter(|(_, is_in)| **is_in).map(|(one, _)| one);
            Kept { aggregations: some.collect(), ..case.kept() }
        };
        let mut old = KeptEntity::new(case.kind, with(&before), newest);
        let (first, rest) = case.events.split_at(change.index(case.events.len()));
        first.chunks(case.batch).for_each(|events| drop(old.add(events)));
        let mut new = old.adapted(with(&after));
        rest.chunks(case.batch).for_each(|events| drop(new.add(events)));
        for at in case.moments(case.kept_from(newest)) {
            for (aggregation, answer) in new.kept.aggregations.iter().zip(new.features(at)) {
                if old.kept.aggregations.iter().any(|known| known.feature == aggregation.feature) {
                    let expected = expected(aggregation, case.exact, &case.events, at);
                    prop_assert!(agrees(&expected, &answer), "{aggregation:?} at {at}: {answer} instead of {expected:?}");
                }
            }
        }
        Ok(())
    });
}

/// The last values may become more or fewer: what is answered is never anything but the last values, and only those from before the change may be missing.
#[test]
fn more_last_values_than_before_begin_with_those_that_are_known() {
    let strategy = (cases_of(Just(Kind::Integer)), 1_u32..6, 1_u32..6, any::<prop::sample::Index>());
    run(500, strategy, |(case, before, after, change)| {
        let kept = |many: u32| {
            let last = |one: Aggregation| Aggregation { function: Aggregate::LastValues(many), ..one };
            let all = aggregations(case.kind).into_iter().filter(|one| one.function == Aggregate::Count).map(last);
            Kept { aggregations: all.collect(), ..case.kept() }
        };
        let mut old = KeptEntity::new(case.kind, kept(before), case.newest());
        let (first, rest) = case.events.split_at(change.index(case.events.len()));
        first.chunks(case.batch).for_each(|events| drop(old.add(events)));
        let mut new = old.adapted(kept(after));
        for at in case.moments(case.kept_from(case.newest())) {
            for (aggregation, answer) in new.kept.aggregations.iter().zip(new.features(at)) {
                let (known, all) = (old.features(at), aggregation);
                let position = new.kept.aggregations.iter().position(|one| one == all).unwrap();
                let fewest = known[position].as_array().unwrap().len().min(after as usize);
                let mut whole = aggregation.clone();
                whole.function = Aggregate::LastValues(1_000);
                let all = expected(&whole, case.exact, first, at);
                let answer: Vec<String> = answer.as_array().unwrap().iter().map(Json::to_string).collect();
                let begins =
                    |text: &str| text == answer.join(",") || text.starts_with(&format!("{},", answer.join(","))) || answer.is_empty();
                let gristmill_tests::oracle::Expected::Exactly(all) = all else { unreachable!("a list") };
                prop_assert!(begins(all.trim_matches(['[', ']'])), "{answer:?} does not begin {all}");
                prop_assert!(answer.len() >= fewest, "{answer:?} has less than the {fewest} that were known");
            }
        }
        // Nothing of before the change is within the shorter windows any more, and then all are there.
        rest.chunks(case.batch).for_each(|events| drop(new.add(events)));
        let later = rest.iter().map(|event| event.time).max().unwrap();
        for (aggregation, answer) in new.kept.aggregations.iter().zip(new.features(later.max(case.newest()))) {
            let covers = |event: &Event| event.time >= first_time(aggregation.window_ms, case.exact, later.max(case.newest()));
            if !first.iter().any(covers) {
                let expected = expected(aggregation, case.exact, &case.events, later.max(case.newest()));
                prop_assert!(agrees(&expected, &answer), "{aggregation:?}: {answer} instead of {expected:?}");
            }
        }
        Ok(())
    });
}

/// What a view keeps for a while: nothing but rows, or windows, some or all of them, exact or not, and a history.
fn phases() -> impl Strategy<Value = Vec<(Option<(u16, bool)>, u64)>> {
    let windows = prop_oneof![1 => Just(None), 3 => (any::<u16>(), any::<bool>()).prop_map(Some)];
    prop::collection::vec((windows, prop::sample::select(vec![0_u64, 90, 7_200])), 2..6)
}

/// A view that keeps now this and now that of an entity: its rows are those of all events, a window that was there all the time has all of them, and any other window has
/// none that it should not have, and all since it is there.
#[test]
fn an_entity_that_moves_between_shapes_keeps_what_they_have_in_common() {
    let counts = |mask: u16| {
        let all = aggregations(Kind::Integer).into_iter().filter(|one| one.function == Aggregate::Count).enumerate();
        all.filter(|(index, _)| mask >> index & 1 == 1).map(|(_, one)| one).collect::<Vec<_>>()
    };
    run(700, (cases_of(Just(Kind::Integer)), phases()), |(case, phases)| {
        let step = case.events.len().div_ceil(phases.len());
        let newest = case.newest();
        let mut before: Option<KeptEntity> = None;
        // The first phase in which each window is there, for those that are there until now; lasting ones do not care for what is exact.
        let mut since: Vec<(Option<u64>, bool, usize)> = Vec::new();
        // The newest event before each phase.
        let mut newest_before: Vec<i64> = Vec::new();
        // While a view keeps nothing but rows, what is not the newest changes nothing.
        let mut told: Vec<(usize, Event)> = Vec::new();
        for (number, ((windows, history_secs), events)) in phases.iter().zip(case.events.chunks(step)).enumerate() {
            let kept = match windows {
                None => Kept { history_secs: *history_secs, ..Kept::default() },
                Some((mask, exact)) => Kept { aggregations: counts(*mask), history_secs: *history_secs, exact: *exact },
            };
            newest_before.push(told.iter().map(|(_, event)| event.time).max().unwrap_or(i64::MIN));
            let exact = kept.exact;
            since.retain(|(window, was_exact, _)| {
                kept.aggregations.iter().any(|one| one.window_ms == *window) && (window.is_none() || *was_exact == exact)
            });
            for one in &kept.aggregations {
                if !since.iter().any(|(window, ..)| *window == one.window_ms) {
                    since.push((one.window_ms, exact, number));
                }
            }
            let is_nothing = kept.is_nothing();
            let mut entity = match before {
                None => KeptEntity::new(case.kind, kept, newest),
                Some(before) => before.adapted(kept),
            };
            for events in events.chunks(case.batch) {
                if is_nothing {
                    told.extend(events.iter().filter(|event| entity.add_row(event)).map(|event| (number, event.clone())));
                } else {
                    entity.add(events);
                    told.extend(events.iter().map(|event| (number, event.clone())));
                }
            }
            before = Some(entity);
        }
        let entity = before.unwrap();
        let (read, moments) = (entity.entity(), case.moments(entity.entity().kept_from().0));
        for at in moments {
            let row = read.row(Timestamp(at)).map(|packed| FeatureRow::new(packed).unwrap().header.version);
            let expected_row = told.iter().filter(|(_, event)| event.time <= at).map(|(_, event)| KeptEntity::version(event)).max();
            // However late it came: what no window covers any more is still a row that is read.
            prop_assert_eq!(row, expected_row, "as of {}", at);
            for (feature, (aggregation, answer)) in entity.kept.aggregations.iter().zip(entity.features(at)).enumerate() {
                let count = |since: usize| {
                    let events: Vec<Event> = told.iter().filter(|(phase, _)| *phase >= since).map(|(_, event)| event.clone()).collect();
                    match expected(aggregation, entity.kept.exact, &events, at) {
                        gristmill_tests::oracle::Expected::Exactly(count) => count.parse::<u64>().unwrap(),
                        other => unreachable!("{other:?}"),
                    }
                };
                let begun = since.iter().find(|(window, ..)| *window == aggregation.window_ms).map_or(usize::MAX, |(.., begun)| *begun);
                let (all, least) = (count(0), count(begun));
                let answer = answer.as_u64().unwrap();
                prop_assert!((least..=all).contains(&answer), "{aggregation:?} as of {at}: {answer}, and {least} to {all} are right");
                // As of a moment before a window was there it is told right or not at all, and later always.
                let was_there = newest_before.get(begun).is_none_or(|newest| at >= *newest);
                let is_told = read.tells(feature, Timestamp(at));
                prop_assert!(is_told || !was_there, "{aggregation:?} is not told as of {at}");
                prop_assert!(answer == all || !is_told || was_there, "{aggregation:?} as of {at}: {answer} instead of {all}");
            }
        }
        Ok(())
    });
}

/// Outputs that change places, come and go, and one that becomes another kind: what is aggregated over those that stay goes on, in tiles and one by one.
#[test]
fn outputs_may_move_among_themselves() {
    let field = |name: &str, kind| Field { name: name.into(), kind, nullable: true, default: None, width: None, doc: String::new() };
    let aggregation = |column: &str, function| Aggregation {
        feature: format!("{column}_{function:?}"),
        column: column.into(),
        function,
        window_ms: Some(MINUTE),
        doc: String::new(),
    };
    let sums = |columns: &[&str]| -> Vec<Aggregation> {
        columns.iter().flat_map(|column| [aggregation(column, Aggregate::Count), aggregation(column, Aggregate::Last)]).collect()
    };
    for (exact, history_secs) in [(false, 0), (false, 30), (true, 0), (true, 30)] {
        let old = [field("a", Kind::Integer), field("b", Kind::Text), field("c", Kind::Float)];
        let new = [field("c", Kind::Integer), field("d", Kind::Text), field("b", Kind::Text), field("a", Kind::Integer)];
        let kept = |columns: &[&str]| Kept { aggregations: sums(columns), history_secs, exact };
        let (from, to) = (Plan::new(&old, &kept(&["c", "a", "b"])), Plan::new(&new, &kept(&["b", "a", "c", "d"])));
        let add = |entity: &mut Entity, plan: &Plan, second: i64, values: &[Option<Value<'_>>]| {
            let version = Version { event_time: Timestamp(second * 1_000_000), entry_id: EntryId { ms: second as u64, seq: 0 } };
            let mut packed = Vec::new();
            FeatureRow::pack(&mut packed, version, SchemaId(1), values.iter().copied());
            entity.add(plan, version, (version, Some(packed.into())), Timestamp(i64::MAX), |output| values[output]).unwrap();
        };
        let mut entity = Entity::new(&from);
        for second in 0..40 {
            add(
                &mut entity,
                &from,
                second,
                &[Some(Value::Integer(second)), (second % 2 == 0).then_some(Value::Text("even")), Some(Value::Float(0.5))],
            );
        }
        let (mut stored, shapes) = (Vec::new(), (Shape { outputs: &old, plan: &from }, Shape { outputs: &new, plan: &to }));
        entity.push(&from, &mut stored, SchemaId(1)).unwrap();
        let mut entity = Entity::read(&stored.into(), &from).unwrap().adapt(shapes.0, shapes.1).unwrap();
        add(&mut entity, &to, 40, &[Some(Value::Integer(7)), Some(Value::Text("d")), Some(Value::Text("new")), None]);
        let mut stored = Vec::new();
        entity.push(&to, &mut stored, SchemaId(2)).unwrap();
        let entity = Entity::read(&stored.into(), &to).unwrap();
        let features = |second: i64| {
            let mut features = Vec::new();
            entity.finish(&to, Timestamp(second * 1_000_000), |value| features.push(value.map(|value| format!("{value:?}")))).unwrap();
            features.into_iter().map(Option::unwrap_or_default).collect::<Vec<String>>()
        };
        let integer = |number: i64| format!("{:?}", Value::Integer(number));
        let text = |text: &str| format!("{:?}", Value::Text(text));
        let one = integer(1);
        assert_eq!(
            features(40),
            [integer(21), text("new"), integer(40), integer(39), one.clone(), integer(7), one, text("d")],
            "exact {exact}, history {history_secs}"
        );
        if history_secs > 0 {
            let none = String::new();
            assert_eq!(features(39), [integer(20), text("even"), integer(40), integer(39), integer(0), none.clone(), integer(0), none]);
        }
    }
}

const ENTITIES: u64 = 12;
const SHUFFLED: u64 = 12_000;
const HOUR: i64 = 3_600_000_000;

/// Events of some entities over three days, out of order by up to an hour; one in fifty is up to a month late.
fn shuffled(seed: u64) -> Vec<(u64, Event)> {
    let (mut seeded, end) = (Seeded(seed), 1_700_000_000_000_000);
    let event = |order: u64| {
        let on_time = end - 72 * HOUR + (order * 72 * HOUR as u64 / SHUFFLED) as i64;
        let late = if seeded.below(50) == 0 { 30 * 24 * HOUR } else { HOUR };
        let time = on_time - seeded.below(late as u64) as i64;
        let value = [seeded.below(7) as f64 / 2.0, seeded.below(2_000_000) as f64 - 1e6, 1e15, 0.1][seeded.below(4) as usize];
        (seeded.below(ENTITIES), Event { time, order, value: Some(OwnedValue::Float(value)) })
    };
    (0..SHUFFLED).map(event).collect()
}

/// The total of an order without pieces is its fee.
fn order((entity, event): &(u64, Event)) -> Json {
    let Some(OwnedValue::Float(fee)) = event.value else { unreachable!("made so") };
    let (id, ts) = (format!("e{entity}"), Timestamp(event.time).to_string());
    json!({"id": id, "price": 0.0, "qty": 1, "fee": fee, "ts": ts, "country": "no", "flag": false})
}

fn add(server: &RedisServer, events: &[(u64, Event)]) {
    for chunk in events.chunks(1_000) {
        let mut pipe = redis::pipe();
        for event in chunk {
            pipe.cmd("XADD").arg("orders").arg("*").arg("data").arg(order(event).to_string());
        }
        pipe.query::<Vec<String>>(&mut server.connection()).unwrap();
    }
}

fn orders(server: &RedisServer, kept: &Kept) -> String {
    let component = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/components/bench-orders.wasm");
    let aggregation = |one: &Aggregation| {
        let function = serde_json::to_string(&one.function).unwrap().replace(':', " = ");
        let function = if let Some(call) = function.strip_prefix("{\"") { format!("{{{}", call.replace('"', "")) } else { function };
        let window = one.window_ms.map(|ms| format!(", window_ms = {ms}")).unwrap_or_default();
        format!("{{ feature = \"{}\", column = \"total\", function = {function}{window} }}", one.feature)
    };
    let aggregations: Vec<String> = kept.aggregations.iter().map(aggregation).collect();
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.orders]\ntype = \"redis_streams\"\nurl = \"{}\"\nbatch_events_max = 32\nblock_ms = 100\nformat = {{ type = \"json\", field = \"data\" }}\n\n\
         [transforms.orders]\ncomponent = \"{}\"\nhistory_secs = {}\nexact = {}\naggregations = [{}]\n",
        server.url(),
        component.display(),
        kept.history_secs,
        kept.exact,
        aggregations.join(", ")
    )
}

/// The answers of a host for every entity as of a moment: statuses and values of the row's total, and then of each windowed feature.
fn served(host: &Host, kept: &Kept, at: i64) -> Vec<(Vec<Json>, Vec<Json>)> {
    let windowed = kept.aggregations.iter().map(|one| format!("orders:{}", one.feature));
    let features: Vec<String> = ["orders:total".to_owned()].into_iter().chain(windowed).collect();
    let entities: Vec<Json> = (0..ENTITIES).map(|entity| json!({"id": format!("e{entity}")})).collect();
    let body = json!({"features": features, "entities": entities, "as_of": Timestamp(at).to_string()});
    let (status, answer) = host.post("/v1/features", &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    let list = |result: &Json, name: &str| result[name].as_array().unwrap().clone();
    answer["results"].as_array().unwrap().iter().map(|result| (list(result, "statuses"), list(result, "values"))).collect()
}

/// Entries that are not acknowledged, as Redis has it.
fn left(server: &RedisServer) -> u64 {
    let groups: redis::streams::StreamInfoGroupsReply =
        redis::cmd("XINFO").arg("GROUPS").arg("orders").query(&mut server.connection()).unwrap();
    groups.groups.iter().map(|group| group.pending as u64 + group.lag.unwrap_or(0) as u64).sum()
}

/// Where the stream is, and where the store.
#[derive(Clone, Copy, PartialEq)]
enum Pairing {
    RedisAndFolder,
    Redis,
    Folder,
}

impl Pairing {
    fn config(self, server: &RedisServer, kept: &Kept) -> String {
        let (config, url) = (orders(server, kept), server.url());
        match self {
            Pairing::RedisAndFolder => config,
            // Applied and acknowledged in one step.
            Pairing::Redis => {
                config.replace("[transforms", &format!("[store]\ntype = \"redis\"\nurl = \"{url}\"\nlease_ms = 500\n\n[transforms"))
            }
            Pairing::Folder => config
                .replace(&format!("type = \"redis_streams\"\nurl = \"{url}\"\n"), "")
                .replace("block_ms = 100\n", "")
                .replace("format = { type = \"json\", field = \"data\" }", ""),
        }
    }

    /// Adds events that nobody reads yet.
    fn add(self, server: &RedisServer, folder: &std::path::Path, config: &str, events: &[(u64, Event)]) {
        if self != Pairing::Folder {
            return add(server, events);
        }
        let host = Host::start(folder, config.split("[transforms").next().unwrap()).unwrap();
        for chunk in events.chunks(1_000) {
            let orders: Vec<Json> = chunk.iter().map(order).collect();
            assert_eq!(host.post("/v1/streams/orders/events", &json!(orders).to_string()).unwrap().0, 200);
        }
        host.stop();
    }

    /// Entries that are not settled.
    fn left(self, server: &RedisServer, host: &Host) -> u64 {
        if self != Pairing::Folder {
            return left(server);
        }
        let streams = host.get("/v1/streams").unwrap().1;
        let partitions = streams["streams"][0]["groups"][0]["partitions"].as_array().unwrap();
        partitions.iter().map(|partition| partition["lag_entries"].as_u64().unwrap_or(u64::MAX)).sum()
    }
}

/// A stream that redelivers, a store that can or cannot acknowledge in the same step, kills: and then rows, and every function, window and moment.
fn killed_and_compared(seed: u64, kills: u64, kept: Kept, pairing: Pairing) {
    let (server, folder, events) = (RedisServer::start(), tempfile::tempdir().unwrap(), shuffled(seed));
    let config = pairing.config(&server, &kept);
    pairing.add(&server, folder.path(), &config, &events);
    let mut seeded = Seeded(seed);
    for _ in 0..kills {
        let host = Host::start(folder.path(), &config).unwrap();
        let aim = (32 * (1 + seeded.below(10))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    assert!(pairing.left(&server, &host) > 0, "the host was done before it was killed for the last time");
    wait_for("everything to be settled", || (pairing.left(&server, &host) == 0).then_some(()));
    let of = |entity: u64| -> Vec<Event> { events.iter().filter(|(of, _)| *of == entity).map(|(_, event)| event.clone()).collect() };
    let newest: Vec<i64> = (0..ENTITIES).map(|entity| of(entity).iter().map(|event| event.time).max().unwrap()).collect();
    let (first, last) = (*newest.iter().min().unwrap(), *newest.iter().max().unwrap());
    let history = kept.history_secs as i64 * 1_000_000;
    let mut moments = vec![last, last + 1, last - history, last + 40 * 24 * HOUR];
    moments.extend((0..6).map(|_| last - history + seeded.below((history + 5 * HOUR) as u64) as i64));
    for at in moments {
        for (entity, (mut statuses, mut values)) in (0..ENTITIES).zip(served(&host, &kept, at)) {
            let (told, row) = (format!("seed {seed}, entity {entity} as of {at}"), (values.remove(0), statuses.remove(0)));
            let until = of(entity).into_iter().filter(|event| event.time <= at).max_by_key(|event| (event.time, event.order));
            let expected_row =
                until.and_then(|event| event.value).map(|value| if let OwnedValue::Float(fee) = value { fee } else { f64::NAN });
            assert_eq!(row, (json!(expected_row), json!(if expected_row.is_some() { "present" } else { "not_found" })), "{told}");
            for ((aggregation, status), answer) in kept.aggregations.iter().zip(statuses).zip(values) {
                let expected = expected(aggregation, kept.exact, &of(entity), at);
                assert_ne!(status, "outside_history", "{told}");
                assert!(agrees(&expected, &answer), "{told}, {aggregation:?}: {answer} instead of {expected:?}");
            }
        }
    }
    for (statuses, values) in served(&host, &kept, first - history - 1) {
        assert!(statuses.iter().all(|status| status == "outside_history") && values.iter().all(Json::is_null));
    }
    // What nothing covers any more is a dead letter. What lasts for ever covers everything.
    let (_, letters) = host.get("/v1/dead-letters?limit=1000").unwrap();
    let letters = letters["dead_letters"].as_array().unwrap();
    assert!(letters.iter().all(|letter| letter["reason"] == "too_late"), "{letters:?}");
    assert_eq!(letters.is_empty(), kept.aggregations.iter().any(|one| one.window_ms.is_none()), "{}", letters.len());
    host.stop();
}

#[test]
fn a_host_that_is_killed_serves_what_the_oracle_says_at_every_moment() {
    killed_and_compared(
        1,
        50,
        Kept { aggregations: aggregations(Kind::Float), history_secs: 7_200, exact: false },
        Pairing::RedisAndFolder,
    );
}

#[test]
fn a_host_that_is_killed_over_redis_alone_serves_what_the_oracle_says_at_every_moment() {
    killed_and_compared(4, 50, Kept { aggregations: aggregations(Kind::Float), history_secs: 7_200, exact: false }, Pairing::Redis);
}

#[test]
fn a_host_that_is_killed_over_the_folder_alone_serves_what_the_oracle_says_at_every_moment() {
    killed_and_compared(6, 50, Kept { aggregations: aggregations(Kind::Float), history_secs: 7_200, exact: false }, Pairing::Folder);
}

/// What nothing covers any more becomes a dead letter, once.
#[test]
fn a_host_that_is_killed_gives_up_what_is_too_late_and_nothing_else() {
    let of_a_day = |one: &Aggregation| one.window_ms.is_some_and(|ms| ms <= DAY);
    let aggregations = aggregations(Kind::Float).into_iter().filter(of_a_day).collect();
    killed_and_compared(2, 10, Kept { aggregations, history_secs: 86_400, exact: false }, Pairing::RedisAndFolder);
}

#[test]
fn a_host_that_is_killed_serves_exact_windows_as_the_oracle_says() {
    killed_and_compared(3, 10, Kept { aggregations: aggregations(Kind::Float), history_secs: 3_600, exact: true }, Pairing::RedisAndFolder);
}

/// However many windows and however long: one look-up for each entity, all of them in one command.
#[test]
fn a_read_is_one_look_up_whatever_the_windows() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let kept = Kept { aggregations: aggregations(Kind::Float), history_secs: 3_600, exact: false };
    add(&server, &shuffled(5)[..200]);
    let config = orders(&server, &kept)
        .replace("\n\n[transforms", &format!("\n\n[store]\ntype = \"redis\"\nurl = \"{}\"\n\n[transforms", server.url()));
    let host = Host::start(folder.path(), &config).unwrap();
    wait_for("everything to be settled", || (host.metric("gristmill_entries_settled_total") == 200.0).then_some(()));
    let mut monitor = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("+OK"));
    for (_, values) in served(&host, &kept, 1_700_000_000_000_000 - 72 * HOUR) {
        assert_eq!(values.len(), 1 + kept.aggregations.len());
    }
    let _: String = server.run(&["ECHO", "the end"]);
    let reads: Vec<String> = lines.take_while(|line| !line.contains("the end")).filter(|line| line.contains("orders:e")).collect();
    let [read] = reads.as_slice() else { panic!("{reads:?}") };
    assert!(read.contains("\"MGET\"") && read.matches("orders:e").count() == ENTITIES as usize, "{read}");
    host.stop();
}
