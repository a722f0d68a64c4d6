//! Windows and history against an oracle that computes everything anew from all events: every function, every kind of window, any order, late events,
//! entities that are stored and read again in between, any moment of reading.

use gristmill::model::json::push_value;
use gristmill::model::{Aggregate, Aggregation, EntryId, Field, Kept, Kind, SchemaId, Timestamp, Value, Version};
use gristmill::window::{Added, Entity, Plan, Shape};
use gristmill_tests::oracle::{Event, agrees, expected, first_time};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;

const MINUTE: u64 = 60_000;

fn output() -> Field {
    Field { name: "value".into(), kind: Kind::Float, nullable: true, default: None, width: None, doc: String::new() }
}

/// Every function over every window.
fn aggregations() -> Vec<Aggregation> {
    let functions = [
        Aggregate::Count,
        Aggregate::Sum,
        Aggregate::Mean,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::Variance,
        Aggregate::First,
        Aggregate::Last,
        Aggregate::Distinct,
        Aggregate::Quantile(0.5),
        Aggregate::Quantile(0.0),
        Aggregate::Quantile(0.9),
        Aggregate::LastValues(3),
        Aggregate::Top(2),
    ];
    let windows = [Some(MINUTE), Some(61_007), Some(60 * MINUTE), Some(24 * 60 * MINUTE), None];
    let all = windows.iter().flat_map(|window| functions.iter().map(move |function| (*function, *window)));
    let aggregation = |(number, (function, window_ms)): (usize, _)| Aggregation {
        feature: format!("feature_{number}"),
        column: "value".into(),
        function,
        window_ms,
        doc: String::new(),
    };
    all.enumerate().map(aggregation).collect()
}

/// An entity as the event path changes it: read, changed and stored again.
struct Kept1 {
    plan: Plan,
    kept: Kept,
    stored: Option<Vec<u8>>,
    now: i64,
}

impl Kept1 {
    fn new(history_secs: u64, exact: bool, now: i64) -> Kept1 {
        let kept = Kept { aggregations: aggregations(), history_secs, exact };
        Kept1 { plan: Plan::new(&[output()], &kept), kept, stored: None, now }
    }

    fn entity(&self) -> Entity {
        match &self.stored {
            None => Entity::new(&self.plan),
            Some(stored) => Entity::read(&stored.clone().into(), &self.plan).unwrap(),
        }
    }

    /// One batch. Those that were too late are left out of what is returned.
    fn add(&mut self, events: &[Event]) -> Vec<Event> {
        let mut entity = self.entity();
        let mut counted = Vec::new();
        for event in events {
            let version = Version { event_time: Timestamp(event.time), entry_id: EntryId { ms: event.order, seq: 0 } };
            let mut packed = Vec::new();
            gristmill::model::FeatureRow::pack(&mut packed, version, SchemaId(1), [event.value.map(Value::Float)].into_iter());
            let added = entity.add(&self.plan, version, packed.into(), Timestamp(self.now), |_| event.value.map(Value::Float));
            if added == Added::Counted {
                counted.push(event.clone());
            }
        }
        let mut stored = Vec::new();
        entity.push(&mut stored, SchemaId(1));
        self.stored = Some(stored);
        counted
    }

    fn features(&self, at: i64) -> Vec<Json> {
        let mut features = Vec::new();
        let push = |value: Option<Value<'_>>| {
            let mut text = Vec::new();
            push_value(&mut text, value);
            features.push(serde_json::from_slice(&text).unwrap());
        };
        self.entity().finish(&self.plan, Timestamp(at), push).unwrap();
        features
    }

    /// Every feature at a moment is what the oracle makes of the events.
    fn check(&self, events: &[Event], at: i64) -> Result<(), TestCaseError> {
        for (aggregation, answer) in self.kept.aggregations.iter().zip(self.features(at)) {
            let expected = expected(aggregation, self.kept.exact, events, at);
            prop_assert!(agrees(&expected, &answer), "{aggregation:?} at {at}: {answer} instead of {expected:?}");
        }
        Ok(())
    }
}

fn values() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        1 => Just(None),
        4 => (-3_i32..4).prop_map(|small| Some(f64::from(small) / 2.0)),
        3 => (-1e6..1e6_f64).prop_map(Some),
        1 => prop::sample::select(vec![1e15, -1e15, 0.1, 1e-7, -0.0, 123_456_789.125]).prop_map(Some),
    ]
}

/// Event times within some span of time, in no order.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let span = prop::sample::select(vec![1_000_000_i64, 90_000_000, 4_000_000_000, 200_000_000_000]);
    let raw = span.prop_flat_map(|span| prop::collection::vec((0..span, values()), 1..60));
    raw.prop_map(|raw| {
        let begin = 1_700_000_000_000_000;
        let event = |(order, (time, value)): (usize, (i64, Option<f64>))| Event { time: begin + time, order: order as u64, value };
        raw.into_iter().enumerate().map(event).collect()
    })
}

fn run(
    cases: u32,
    strategy: impl Strategy<Value = (Vec<Event>, usize, u64, bool, i64)>,
    test: impl Fn((Vec<Event>, usize, u64, bool, i64)) -> Result<(), TestCaseError>,
) {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() }).run(&strategy, test).unwrap();
}

/// Events, the size of a batch, seconds of history, whether windows are exact, and where within what is kept to read.
fn cases() -> impl Strategy<Value = (Vec<Event>, usize, u64, bool, i64)> {
    let history = prop::sample::select(vec![0_u64, 1, 90, 7_200, 400_000]);
    (events(), 1_usize..20, history, any::<bool>(), 0_i64..200_000_000_000)
}

#[test]
fn every_function_over_every_window_is_what_the_oracle_says_at_every_moment_that_is_kept() {
    run(1_500, cases(), |(events, batch, history_secs, exact, back)| {
        let newest = events.iter().map(|event| event.time).max().unwrap();
        let mut kept = Kept1::new(history_secs, exact, newest + 1_000_000);
        let mut counted = Vec::new();
        for events in events.chunks(batch) {
            counted.extend(kept.add(events));
        }
        let kept_from = kept.entity().kept_from().0;
        prop_assert_eq!(kept_from, newest - history_secs as i64 * 1_000_000);
        let moments = [newest, newest + 1, newest + back, kept_from, kept_from + back % (newest - kept_from + 1)];
        moments.into_iter().try_for_each(|at| kept.check(&events, at))?;
        // What was too late is covered by nothing that can still be asked for.
        for late in events.iter().filter(|event| !counted.contains(event)) {
            prop_assert!(kept.kept.aggregations.iter().all(|one| late.time < first_time(one.window_ms, exact, kept_from)));
        }
        Ok(())
    });
}

#[test]
fn any_order_gives_the_same_answer_to_the_last_unit() {
    run(500, cases(), |(events, batch, history_secs, exact, back)| {
        let newest = events.iter().map(|event| event.time).max().unwrap();
        let answers = [false, true].map(|backwards| {
            let mut kept = Kept1::new(history_secs, exact, newest);
            let mut events = events.clone();
            if backwards {
                events.reverse();
            }
            events.chunks(batch).for_each(|events| drop(kept.add(events)));
            kept.features(newest + back)
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
    run(300, cases(), |(events, batch, history_secs, exact, back)| {
        let mut kept = Kept1::new(history_secs, exact, 0);
        let times: Vec<i64> = events.iter().map(|event| event.time).collect();
        kept.now = times.iter().sum::<i64>() / times.len() as i64;
        events.chunks(batch).for_each(|events| drop(kept.add(events)));
        let from = kept.entity().kept_from().0.max(kept.now);
        [from, from + back].into_iter().try_for_each(|at| kept.check(&events, at))
    });
}

#[test]
fn rows_of_the_past_are_the_newest_of_their_time() {
    run(500, cases(), |(events, batch, history_secs, exact, back)| {
        let newest = events.iter().map(|event| event.time).max().unwrap();
        let mut kept = Kept1::new(history_secs, exact, newest);
        let counted: Vec<Event> = events.chunks(batch).flat_map(|events| kept.add(events)).collect();
        let entity = kept.entity();
        let from = entity.kept_from().0;
        for at in [newest, from, from + back % (newest - from + 1)] {
            let expected = counted.iter().filter(|event| event.time <= at).max_by_key(|event| (event.time, event.order));
            let row = entity.row(Timestamp(at)).map(|packed| gristmill::model::FeatureRow::new(packed.clone()).unwrap().header.version);
            prop_assert_eq!(
                row.map(|version| (version.event_time.0, version.entry_id.ms)),
                expected.map(|event| (event.time, event.order))
            );
        }
        Ok(())
    });
}

/// Which of the aggregations there are, before and after.
fn masks() -> impl Strategy<Value = (Vec<bool>, Vec<bool>)> {
    let mask = || prop::collection::vec(any::<bool>(), aggregations().len());
    (mask(), mask())
}

#[test]
fn features_that_stay_go_on_when_others_come_and_go() {
    let strategy = (cases(), masks(), any::<prop::sample::Index>());
    let mut runner = TestRunner::new(Config { cases: 700, failure_persistence: None, ..Config::default() });
    let test = |((events, batch, history_secs, exact, back), (before, after), change): (_, (Vec<bool>, Vec<bool>), prop::sample::Index)| {
        let events: Vec<Event> = events;
        let newest = events.iter().map(|event| event.time).max().unwrap();
        let some = |mask: &[bool]| aggregations().into_iter().zip(mask).filter(|(_, is_in)| **is_in).map(|(one, _)| one).collect();
        let with = |mask: &[bool]| {
            let kept = Kept { aggregations: some(mask), history_secs, exact };
            Kept1 { plan: Plan::new(&[output()], &kept), kept, stored: None, now: newest }
        };
        let (mut old, mut new) = (with(&before), with(&after));
        let (first, rest) = events.split_at(change.index(events.len()));
        first.chunks(batch).for_each(|events| drop(old.add(events)));
        if old.stored.is_some() {
            let outputs = [output()];
            let (from, to) = (Shape { outputs: &outputs, plan: &old.plan }, Shape { outputs: &outputs, plan: &new.plan });
            let mut stored = Vec::new();
            old.entity().adapt(from, to, SchemaId(1)).unwrap().push(&mut stored, SchemaId(1));
            new.stored = Some(stored);
        }
        rest.chunks(batch).for_each(|events| drop(new.add(events)));
        let kept_from = newest - history_secs as i64 * 1_000_000;
        for at in [newest, newest + back, kept_from, kept_from + back % (newest - kept_from + 1)] {
            for (aggregation, answer) in new.kept.aggregations.iter().zip(new.features(at)) {
                if old.kept.aggregations.iter().any(|known| known.feature == aggregation.feature) {
                    let expected = expected(aggregation, exact, &events, at);
                    prop_assert!(agrees(&expected, &answer), "{aggregation:?} at {at}: {answer} instead of {expected:?}");
                }
            }
        }
        Ok(())
    };

    runner.run(&strategy, test).unwrap();
}
