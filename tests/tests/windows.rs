//! Windows and history against an oracle that computes everything anew from all events: every function, every kind of window, any order, late events,
//! entities that are stored and read again in between, any moment of reading.

use gristmill::model::json::push_value;
use gristmill::model::{Aggregate, Aggregation, EntryId, Field, Kept, Kind, SchemaId, Timestamp, Value, Version};
use gristmill::window::{Added, Entity, Plan, Shape};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::oracle::{Event, agrees, expected, first_time};
use gristmill_tests::redis_server::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

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
fn a_history_that_had_to_be_shortened_is_right_about_what_is_left() {
    run(500, cases(), |(events, batch, history_secs, exact, back)| {
        let newest = events.iter().map(|event| event.time).max().unwrap();
        let mut kept = Kept1::new(history_secs, exact, newest);
        for (turn, events) in events.chunks(batch).enumerate() {
            kept.add(events);
            let (mut entity, before) = (kept.entity(), kept.entity().kept_from());
            if turn % 3 == 0 && entity.shorten_history(&kept.plan, Timestamp(newest)) {
                prop_assert!(entity.kept_from() > before);
                let mut stored = Vec::new();
                entity.push(&mut stored, SchemaId(1));
                kept.stored = Some(stored);
            }
        }
        let kept_from = kept.entity().kept_from().0;
        prop_assert!(!kept.entity().answers(Timestamp(kept_from - 1)));
        [kept_from, newest, newest + back].into_iter().try_for_each(|at| kept.check(&events, at))
    });
}

#[test]
fn a_nan_is_the_greatest_whatever_its_sign() {
    let aggregation = |feature: &str, function| Aggregation {
        feature: feature.into(),
        column: "value".into(),
        function,
        window_ms: None,
        doc: String::new(),
    };
    let aggregations = vec![aggregation("least", Aggregate::Min), aggregation("greatest", Aggregate::Max)];
    let plan = Plan::new(&[output()], &Kept { aggregations, history_secs: 0, exact: false });
    let mut entity = Entity::new(&plan);
    for (order, number) in [1.5, -f64::NAN, f64::NEG_INFINITY].into_iter().enumerate() {
        let version = Version { event_time: Timestamp(1), entry_id: EntryId { ms: order as u64, seq: 0 } };
        let mut packed = Vec::new();
        gristmill::model::FeatureRow::pack(&mut packed, version, SchemaId(1), [Some(Value::Float(number))].into_iter());
        entity.add(&plan, version, packed.into(), Timestamp(1), |_| Some(Value::Float(number)));
    }
    let mut found = Vec::new();
    let push =
        |value: Option<Value<'_>>| found.push(value.and_then(|value| if let Value::Float(number) = value { Some(number) } else { None }));
    entity.finish(&plan, Timestamp(1), push).unwrap();
    assert_eq!(found[0], Some(f64::NEG_INFINITY));
    assert!(found[1].is_some_and(f64::is_nan));
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

const ENTITIES: u64 = 12;
const SHUFFLED: u64 = 8_000;
const KILLS: u64 = 5;
const HOUR: i64 = 3_600_000_000;

/// Events of some entities over three days, out of order by up to an hour; one in fifty is up to a month late.
fn shuffled(seed: u64) -> Vec<(u64, Event)> {
    let (mut seeded, end) = (Seeded(seed), 1_700_000_000_000_000);
    let event = |order: u64| {
        let on_time = end - 72 * HOUR + (order * 72 * HOUR as u64 / SHUFFLED) as i64;
        let late = if seeded.below(50) == 0 { 30 * 24 * HOUR } else { HOUR };
        let time = on_time - seeded.below(late as u64) as i64;
        let value = [seeded.below(7) as f64 / 2.0, seeded.below(2_000_000) as f64 - 1e6, 1e15, 0.1][seeded.below(4) as usize];
        (seeded.below(ENTITIES), Event { time, order, value: Some(value) })
    };
    (0..SHUFFLED).map(event).collect()
}

/// The total of an order without pieces is its fee.
fn add(server: &RedisServer, events: &[(u64, Event)]) {
    for chunk in events.chunks(1_000) {
        let mut pipe = redis::pipe();
        for (entity, event) in chunk {
            let order = json!({
                "id": format!("e{entity}"), "price": 0.0, "qty": 1, "fee": event.value, "ts": Timestamp(event.time).to_string(),
                "country": "no", "flag": false,
            });
            pipe.cmd("XADD").arg("orders").arg("*").arg("data").arg(order.to_string());
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

/// The answers of a host for every entity as of a moment: statuses and values by feature.
fn served(host: &Host, kept: &Kept, at: i64) -> Vec<(Vec<Json>, Vec<Json>)> {
    let features: Vec<String> = kept.aggregations.iter().map(|one| format!("orders:{}", one.feature)).collect();
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

/// A stream that redelivers, a store that cannot acknowledge in the same step, kills: and then every function, window and moment.
fn killed_and_compared(seed: u64, kept: Kept) {
    let (server, folder, events) = (RedisServer::start(), tempfile::tempdir().unwrap(), shuffled(seed));
    add(&server, &events);
    let config = orders(&server, &kept);
    let mut seeded = Seeded(seed);
    for _ in 0..KILLS {
        let host = Host::start(folder.path(), &config).unwrap();
        let aim = (32 * (1 + seeded.below(20))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    assert!(left(&server) > 0, "the host was done before it was killed for the last time");
    wait_for("everything to be acknowledged", || (left(&server) == 0).then_some(()));
    let of = |entity: u64| -> Vec<Event> { events.iter().filter(|(of, _)| *of == entity).map(|(_, event)| event.clone()).collect() };
    let newest: Vec<i64> = (0..ENTITIES).map(|entity| of(entity).iter().map(|event| event.time).max().unwrap()).collect();
    let (first, last) = (*newest.iter().min().unwrap(), *newest.iter().max().unwrap());
    let history = kept.history_secs as i64 * 1_000_000;
    let mut moments = vec![last, last + 1, last - history, last + 40 * 24 * HOUR];
    moments.extend((0..6).map(|_| last - history + seeded.below((history + 5 * HOUR) as u64) as i64));
    for at in moments {
        for (entity, (statuses, values)) in (0..ENTITIES).zip(served(&host, &kept, at)) {
            for ((aggregation, status), answer) in kept.aggregations.iter().zip(statuses).zip(values) {
                let expected = expected(aggregation, kept.exact, &of(entity), at);
                assert_ne!(status, "outside_history", "seed {seed}, entity {entity} as of {at}");
                assert!(
                    agrees(&expected, &answer),
                    "seed {seed}, entity {entity}, {aggregation:?} as of {at}: {answer} instead of {expected:?}"
                );
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
    let of_a_day = |one: &Aggregation| one.window_ms.is_some_and(|ms| ms <= 24 * 60 * MINUTE);
    killed_and_compared(1, Kept { aggregations: aggregations(), history_secs: 7_200, exact: false });
    killed_and_compared(
        2,
        Kept { aggregations: aggregations().into_iter().filter(of_a_day).collect(), history_secs: 86_400, exact: false },
    );
    killed_and_compared(3, Kept { aggregations: aggregations(), history_secs: 3_600, exact: true });
}
