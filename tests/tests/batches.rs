//! How entries come together in batches changes nothing, and neither does what is too late: the same entries in batches of one, of seven and of a thousand leave the same
//! rows, states, windows and dead letters, and rows and windows are those of an oracle that has all events.

use std::path::Path;

use gristmill::conformance::guest::{ANSWER_AT, Guest, spec};
use gristmill::model::{Aggregate, Aggregation, Batch, Column, Kind, OwnedValue, Packed, Timestamp, Values};
use gristmill::transform::Output;
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::oracle::{Event, agrees, expected, first_time};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// Long ago, and where no tile begins.
const BEGIN: i64 = 1_700_000_000_000_123;
const SIZES: [usize; 3] = [1, 7, 1_000];

fn component(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(format!("target/components/{name}.wasm")).display().to_string()
}

/// An order whose total tells it apart.
fn order(id: &str, at: i64, number: i64, country: &str) -> Value {
    json!({"id": id, "price": 0.0, "qty": 1, "fee": number as f64, "ts": Timestamp(at).to_string(), "country": country, "flag": false})
}

fn moment(id: &str, at: i64, number: i64, action: &str, text: &str) -> Value {
    json!({"id": id, "at": Timestamp(at).to_string(), "number": number, "action": action, "text": text})
}

/// A view over orders or over moments.
struct View {
    name: &'static str,
    is_fold: bool,
    history_secs: i64,
    /// Of all its windows, in seconds; for ever where there is none.
    window_secs: Option<u64>,
    has_windows: bool,
    exact: bool,
    entity_bytes_max: usize,
}

const fn view(name: &'static str, history_secs: i64, window_secs: Option<u64>) -> View {
    View { name, is_fold: false, history_secs, window_secs, has_windows: true, exact: false, entity_bytes_max: 2 << 20 }
}

const VIEWS: [View; 9] = [
    view("hour", 300, Some(3_600)),
    view("hour_now", 0, Some(3_600)),
    view("ever", 300, None),
    View { exact: true, ..view("exact", 300, Some(3_600)) },
    View { has_windows: false, ..view("rows", 300, None) },
    View { entity_bytes_max: 65_536, ..view("small", 7_200, Some(3_600)) },
    View { is_fold: true, ..view("fold", 300, Some(3_600)) },
    View { is_fold: true, ..view("fold_minute", 0, Some(60)) },
    View { is_fold: true, entity_bytes_max: 65_536, ..view("fold_small", 7_200, Some(3_600)) },
];

impl View {
    fn columns(&self) -> [&'static str; 2] {
        if self.is_fold { ["number", "text"] } else { ["total", "country"] }
    }

    /// Name, function in the configuration, and column of each of its windowed features.
    fn aggregations(&self) -> Vec<(String, &'static str, &'static str)> {
        let [number, text] = self.columns();
        let all =
            [("count", number), ("last", number), ("first", text), ("{ last_values = 3 }", text), ("{ top = 2 }", text), ("sum", number)];
        let named = all.into_iter().enumerate().map(|(index, (function, column))| (format!("w{index}"), function, column));
        if self.has_windows { named.collect() } else { Vec::new() }
    }

    fn config(&self) -> String {
        let window = self.window_secs.map(|secs| format!(", window_ms = {}", secs * 1_000)).unwrap_or_default();
        let one = |(name, function, column): &(String, &str, &str)| {
            let function = if function.starts_with('{') { (*function).to_owned() } else { format!("\"{function}\"") };
            format!("{{ feature = \"{name}\", column = \"{column}\", function = {function}{window} }}")
        };
        let aggregations: Vec<String> = self.aggregations().iter().map(one).collect();
        let (stream, guest) = if self.is_fold { ("moments", "conformance-moments") } else { ("orders", "bench-orders") };
        format!(
            "\n[transforms.{}]\nstream = \"{stream}\"\ncomponent = \"{}\"\nhistory_secs = {}\nexact = {}\nentity_bytes_max = {}\naggregations = [{}]\n",
            self.name,
            component(guest),
            self.history_secs,
            self.exact,
            self.entity_bytes_max,
            aggregations.join(", ")
        )
    }

    fn features(&self) -> Vec<String> {
        let rows: &[&str] = if self.is_fold { &["seen", "total", "number", "text"] } else { &["total", "country"] };
        rows.iter().map(|name| (*name).to_owned()).chain(self.aggregations().into_iter().map(|(name, ..)| name)).collect()
    }
}

/// Entries of both streams, and a host for each size of batches that is given all of them at once.
struct Hosts {
    hosts: Vec<Host>,
    _folder: tempfile::TempDir,
}

impl Hosts {
    fn given(views: &[&View], orders: &[Value], moments: &[Value]) -> Hosts {
        let folder = tempfile::tempdir().unwrap();
        let streams = |size: usize| {
            let stream = |name: &str| format!("\n[streams.{name}]\nbatch_events_max = {size}\n");
            // A busy machine is not what this is about.
            let limits = "[limits]\ndeadline_ms = 30000\n";
            format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n{limits}{}{}", stream("orders"), stream("moments"))
        };
        let first = folder.path().join("0");
        std::fs::create_dir(&first).unwrap();
        // Nobody reads what comes until all is there; then each size has the very same entries.
        let host = Host::start(&first, &streams(1)).unwrap();
        for (stream, events) in [("orders", orders), ("moments", moments)] {
            for events in events.chunks(1_000) {
                let (status, answer) = host.post(&format!("/v1/streams/{stream}/events"), &json!(events).to_string()).unwrap();
                assert_eq!(status, 200, "{answer}");
            }
        }
        host.stop();
        let all = (orders.len() + moments.len()) as f64;
        let start = |(index, size): (usize, &usize)| {
            let own = folder.path().join(index.to_string());
            if index > 0 {
                std::fs::create_dir(&own).unwrap();
                let copied = std::process::Command::new("cp").arg("-r").args([&first.join("data"), &own.join("data")]).status();
                assert!(copied.unwrap().success());
            }
            let config = streams(*size) + &views.iter().map(|view| view.config()).collect::<String>();
            (own, config)
        };
        let configs: Vec<_> = SIZES.iter().enumerate().map(start).collect();
        let hosts: Vec<Host> = configs.iter().map(|(own, config)| Host::start(own, config).unwrap()).collect();
        for host in &hosts {
            let mut settled = 0.0;
            while settled < all {
                settled =
                    wait_for("more to be settled", || Some(host.metric("gristmill_entries_settled_total")).filter(|more| *more > settled));
            }
        }
        Hosts { hosts, _folder: folder }
    }

    /// What all of them answer as of a moment, which must be one answer: values and statuses of each entity.
    fn answer(&self, view: &View, ids: &[String], at: Option<i64>) -> Vec<(Vec<Value>, Vec<Value>)> {
        let features: Vec<String> = view.features().iter().map(|feature| format!("{}:{feature}", view.name)).collect();
        let entities: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        let as_of = at.map(|at| Timestamp(at).to_string());
        let body = json!({"features": features, "entities": entities, "as_of": as_of}).to_string();
        let list = |result: &Value, name: &str| result[name].as_array().unwrap().clone();
        let mut all = self.hosts.iter().zip(SIZES).map(|(host, size)| {
            let (status, answer) = host.post("/v1/features", &body).unwrap();
            assert_eq!(status, 200, "{answer}");
            let results = answer["results"].as_array().unwrap();
            (size, results.iter().map(|result| (list(result, "values"), list(result, "statuses"))).collect::<Vec<_>>())
        });
        let (_, first) = all.next().unwrap();
        for (size, other) in all {
            for ((id, one), other) in ids.iter().zip(&first).zip(&other) {
                assert_eq!(one, other, "{} of {id} as of {at:?}: batches of 1 and of {size}", view.name);
            }
        }
        first
    }

    /// State, what is kept beside it in figures, and dead letters: the same everywhere. Returns the dead letters of the view.
    fn same_beside(&self, view: &View, ids: &[String]) -> Vec<Value> {
        let same = |path: &str, of: &dyn Fn(Value) -> Value| {
            let mut all = self.hosts.iter().map(|host| of(host.get(path).unwrap().1));
            let first = all.next().unwrap();
            for (other, size) in all.zip(&SIZES[1..]) {
                assert_eq!(first, other, "{path}: batches of 1 and of {size}");
            }
            first
        };
        for id in ids {
            same(&format!("/v1/states/{}?id={id}", view.name), &|shown| shown);
        }
        let letters = |answer: Value| {
            let mut letters = answer["dead_letters"].as_array().unwrap().clone();
            letters.sort_by_key(|letter| letter["entry_id"].to_string());
            letters.iter().map(|letter| json!([letter["entry_id"], letter["reason"], letter["message"]])).collect()
        };
        let path = format!("/v1/dead-letters?limit=1000&transform={}", view.name);
        same(&path, &letters).as_array().unwrap().clone()
    }

    fn stop(self) {
        self.hosts.into_iter().for_each(Host::stop);
    }
}

/// Some events of one entity: moments out of order by more or less, now and then one far ahead or behind, some at the same moment.
fn moments_of(seeded: &mut Seeded) -> Vec<i64> {
    let many = 1 + seeded.below(24);
    let span = [600, 7_200, 100_000][seeded.below(3) as usize] * SECOND;
    let is_nearly_in_order = seeded.below(2) == 0;
    let mut times: Vec<i64> = Vec::new();
    for index in 0..many {
        let time = match seeded.below(8) {
            0 if !times.is_empty() => times[seeded.below(times.len() as u64) as usize] + seeded.below(3) as i64 - 1,
            _ if is_nearly_in_order => index as i64 * span / many as i64 - seeded.below(span as u64 / 4) as i64,
            _ => seeded.below(span as u64) as i64,
        };
        times.push(time);
    }
    times.into_iter().map(|time| BEGIN + time).collect()
}

/// An entity and its events in the order of their coming.
struct Case {
    id: String,
    times: Vec<i64>,
    orders: Vec<Value>,
    moments: Vec<Value>,
    texts: Vec<String>,
}

fn case(seeded: &mut Seeded, number: usize) -> Case {
    let (id, times) = (format!("e{number}"), moments_of(seeded));
    let is_large = seeded.below(3) == 0;
    let mut case = Case { id, orders: Vec::new(), moments: Vec::new(), texts: Vec::new(), times };
    for (index, at) in case.times.iter().enumerate() {
        let long = if is_large && seeded.below(2) == 0 { 2_000 + seeded.below(9_000) as usize } else { 1 };
        let text = ["A", "B", "C", "D"][seeded.below(4) as usize].repeat(long);
        let action = ["", "", "", "", "skip", "third", "third", "reject", "end"][seeded.below(9) as usize];
        case.orders.push(order(&case.id, *at, index as i64, &text));
        case.moments.push(moment(&case.id, *at, index as i64, action, &text));
        case.texts.push(text);
    }
    case
}

/// The events of some entities, those of each in their order.
fn mixed(seeded: &mut Seeded, cases: &[Case], of: impl Fn(&Case) -> &[Value]) -> Vec<Value> {
    let mut rest: Vec<&[Value]> = cases.iter().map(of).collect();
    let mut all = Vec::new();
    loop {
        rest.retain(|events| !events.is_empty());
        let Some(many) = std::num::NonZeroU64::new(rest.len() as u64) else { return all };
        let events = &mut rest[seeded.below(many.get()) as usize];
        all.push(events[0].clone());
        *events = &events[1..];
    }
}

/// What a view of orders should answer for an entity as of a moment.
fn right(view: &View, case: &Case, at: i64, (values, statuses): &(Vec<Value>, Vec<Value>)) {
    let newest = case.times.iter().copied().max().unwrap();
    let (born, told) = (case.times.iter().copied().min().unwrap(), format!("{} of {} as of {at}: {:?}", view.name, case.id, case.times));
    if at >= born && at < newest - view.history_secs * SECOND {
        assert!(statuses.iter().all(|status| status == "outside_history"), "{statuses:?}, {told}");
        return;
    }
    let row =
        case.times.iter().enumerate().filter(|(_, time)| **time <= at).max_by_key(|(order, time)| (**time, *order)).map(|(order, _)| order);
    assert_eq!(values[0], row.map_or(Value::Null, |order| json!(order as f64)), "{statuses:?}, {told}");
    assert_eq!(values[1], row.map_or(Value::Null, |order| json!(case.texts[order])), "{told}");
    assert_eq!(statuses[0], if row.is_some() { "present" } else { "not_found" }, "{told}");
    for ((_, function, column), value) in view.aggregations().iter().zip(&values[2..]) {
        let function = called(function);
        let of = |order: usize| match *column {
            "total" => OwnedValue::Float(order as f64),
            _ => OwnedValue::Text(case.texts[order].clone().into()),
        };
        let event = |(order, time): (usize, &i64)| Event { time: *time, order: order as u64, value: Some(of(order)) };
        let events: Vec<Event> = case.times.iter().enumerate().map(event).collect();
        let window_ms = view.window_secs.map(|secs| secs * 1_000);
        let aggregation = Aggregation { feature: String::new(), column: (*column).into(), function, window_ms, doc: String::new() };
        let expected = expected(&aggregation, view.exact, &events, at);
        assert!(agrees(&expected, value), "{function:?} is {value} instead of {expected:?}, {told}");
    }
}

/// A row that a fold made: as new as the newest event in it, and of which event.
struct FoldRow {
    newest: i64,
    order: usize,
    seen: i64,
    total: i64,
}

/// What a fold makes of an entity's events, one after the other, as plainly as can be.
#[derive(Default)]
struct Folded {
    rows: Vec<FoldRow>,
    too_late: Vec<usize>,
    /// Reads are answered from here on.
    kept_from: Option<i64>,
}

impl Folded {
    fn of(view: &View, case: &Case) -> Folded {
        let mut folded = Folded::default();
        let (mut newest, mut seen, mut total) = (i64::MIN, 0, 0);
        for (order, time) in case.times.iter().enumerate() {
            let action = case.moments[order]["action"].as_str().unwrap();
            let (then, now) = ((newest, seen, total), (newest.max(*time), seen + 1, total + order as i64));
            let makes_row = !matches!(action, "reject" | "skip" | "end") && (action != "third" || now.1 % 3 == 0);
            let window_ms = view.window_secs.map(|secs| secs * 1_000);
            let is_covered = folded.kept_from.is_none_or(|from| *time >= first_time(window_ms, view.exact, from));
            if makes_row && !is_covered {
                folded.too_late.push(order);
                continue;
            }
            (newest, seen, total) = if action == "reject" { then } else { now };
            if action == "end" {
                (seen, total) = (0, 0);
            }
            if makes_row {
                folded.rows.push(FoldRow { newest, order, seen, total });
                folded.kept_from = folded.kept_from.max(Some(newest - view.history_secs * SECOND));
            }
        }
        folded
    }

    fn right(&self, view: &View, case: &Case, at: i64, (values, statuses): &(Vec<Value>, Vec<Value>)) {
        let told = format!("{} of {} as of {at}: {:?}", view.name, case.id, case.moments);
        let counted = || self.rows.iter().map(|row| row.order);
        let born = counted().chain(self.too_late.iter().copied()).map(|order| case.times[order]).min();
        if born.is_some_and(|born| at >= born) && self.kept_from.is_some_and(|from| at < from) {
            assert!(statuses.iter().all(|status| status == "outside_history"), "{statuses:?}, {told}");
            return;
        }
        let row = self.rows.iter().filter(|row| row.newest <= at).max_by_key(|row| (row.newest, row.order));
        let expected_row = row.map(|row| [json!(row.seen), json!(row.total), json!(row.order), json!(case.texts[row.order])]);
        assert_eq!(values[..4], expected_row.unwrap_or_default(), "{statuses:?}, {told}");
        for ((_, function, column), value) in view.aggregations().iter().zip(&values[4..]) {
            let of = |order: usize| match *column {
                "number" => OwnedValue::Integer(order as i64),
                _ => OwnedValue::Text(case.texts[order].clone().into()),
            };
            let events: Vec<Event> =
                counted().map(|order| Event { time: case.times[order], order: order as u64, value: Some(of(order)) }).collect();
            let window_ms = view.window_secs.map(|secs| secs * 1_000);
            let aggregation =
                Aggregation { feature: String::new(), column: (*column).into(), function: called(function), window_ms, doc: String::new() };
            let expected = expected(&aggregation, view.exact, &events, at);
            assert!(agrees(&expected, value), "{function} is {value} instead of {expected:?}, {told}");
        }
    }
}

/// A function as the configuration has it.
fn called(function: &str) -> Aggregate {
    match function {
        "count" => Aggregate::Count,
        "last" => Aggregate::Last,
        "first" => Aggregate::First,
        "sum" => Aggregate::Sum,
        "{ last_values = 3 }" => Aggregate::LastValues(3),
        "{ top = 2 }" => Aggregate::Top(2),
        other => unreachable!("{other}"),
    }
}

/// The same cases every time, unless `GRISTMILL_SEED` names others.
#[test]
fn entries_leave_the_same_whatever_batches_they_come_in() {
    const CASES: usize = 120;
    const TOGETHER: usize = 12;
    let seed = std::env::var("GRISTMILL_SEED").ok().map(|seed| seed.parse::<u64>().expect("GRISTMILL_SEED is a number"));
    let (mut seeded, has_all) = (Seeded(seed.unwrap_or(9)), seed.is_none());
    let cases: Vec<Case> = (0..CASES).map(|number| case(&mut seeded, number)).collect();
    let (mut orders, mut moments) = (Vec::new(), Vec::new());
    for cases in cases.chunks(TOGETHER) {
        orders.extend(mixed(&mut seeded, cases, |case| &case.orders));
        moments.extend(mixed(&mut seeded, cases, |case| &case.moments));
    }
    let views: Vec<&View> = VIEWS.iter().collect();
    let hosts = Hosts::given(&views, &orders, &moments);
    let ids: Vec<String> = cases.iter().map(|case| case.id.clone()).collect();
    for view in &views {
        let reasons: Vec<String> = hosts.same_beside(view, &ids).iter().map(|letter| letter[1].as_str().unwrap().to_owned()).collect();
        let has = |reason: &str| reasons.iter().any(|one| one == reason);
        assert!(reasons.len() < 1_000, "not all of them are told");
        assert!(reasons.iter().all(|reason| ["too_late", "too_large", "rejected"].contains(&reason.as_str())), "{reasons:?}");
        let (may_be_late, may_be_large) = (view.has_windows && view.window_secs.is_some(), view.entity_bytes_max < 1 << 20);
        // Other cases need not have one of either.
        let is_any = |reason: &str, may: bool| if has_all { has(reason) == may } else { may || !has(reason) };
        assert!(is_any("too_late", may_be_late) && is_any("too_large", may_be_large), "{}: {reasons:?}", view.name);
        hosts.answer(view, &ids, None);
    }
    for (cases, ids) in cases.chunks(TOGETHER).zip(ids.chunks(TOGETHER)) {
        for _ in 0..4 {
            let case = &cases[seeded.below(cases.len() as u64) as usize];
            let newest = case.times.iter().copied().max().unwrap();
            let at = newest - [seeded.below(400), seeded.below(8_000), seeded.below(110_000)][seeded.below(3) as usize] as i64 * SECOND;
            for view in &views {
                let answers = hosts.answer(view, ids, Some(at));
                for (case, answer) in cases.iter().zip(&answers).filter(|_| view.entity_bytes_max > 1 << 20) {
                    match view.is_fold {
                        true => Folded::of(view, case).right(view, case, at, answer),
                        false => right(view, case, at, answer),
                    }
                }
            }
        }
    }
    hosts.stop();
}

/// Whatever no window covers any more is still the row that a read sees, if no newer one is.
#[test]
fn a_late_event_is_the_row_of_the_past_where_it_is_the_newest_of_it() {
    let far = BEGIN + 10 * HOUR;
    let orders = [
        order("late", BEGIN, 1, "A"),
        order("late", far, 2, "A"),
        order("late", BEGIN + SECOND, 3, "A"),
        order("later", BEGIN - 5 * SECOND, 0, "A"),
        order("later", BEGIN, 1, "A"),
        order("later", far, 2, "A"),
        order("later", BEGIN + SECOND, 3, "A"),
        // Nothing sees it any more.
        order("later", BEGIN + SECOND / 2, 4, "A"),
        order("sorted", BEGIN, 1, "A"),
        order("sorted", BEGIN + SECOND, 3, "A"),
        order("sorted", far, 2, "A"),
    ];
    let hosts = Hosts::given(&[&VIEWS[0], &VIEWS[3]], &orders, &[]);
    let ids = ["late", "later", "sorted"].map(str::to_owned);
    for view in [&VIEWS[0], &VIEWS[3]] {
        for (values, statuses) in hosts.answer(view, &ids, Some(far - 100 * SECOND)) {
            assert_eq!((&values[0], &statuses[0], &values[2]), (&json!(3.0), &json!("present"), &json!(0)), "{}", view.name);
        }
        let letters = hosts.same_beside(view, &ids);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(letter[1], "too_late");
    }
    hosts.stop();
}

/// An event that was too late is one that is known to have been: nobody is told that there was none.
#[test]
fn before_its_first_event_an_entity_is_unknown_and_not_before_the_first_that_counted() {
    let far = BEGIN + 10 * HOUR;
    // The second of the past makes the first too late.
    let times = [far, BEGIN + SECOND, BEGIN];
    let orders: Vec<Value> =
        times.iter().map(|at| order("late", *at, 1, "A")).chain(times.iter().rev().map(|at| order("sorted", *at, 1, "A"))).collect();
    let moments: Vec<Value> = times
        .iter()
        .map(|at| moment("late", *at, 1, "", ""))
        .chain(times.iter().rev().map(|at| moment("sorted", *at, 1, "", "")))
        .collect();
    let views = [&VIEWS[0], &VIEWS[6]];
    let hosts = Hosts::given(&views, &orders, &moments);
    let ids = ["late", "sorted"].map(str::to_owned);
    for view in views {
        for (at, expected) in [(BEGIN, "outside_history"), (BEGIN - 1, "present")] {
            for (values, statuses) in hosts.answer(view, &ids, Some(at)) {
                let count = view.features().iter().position(|feature| feature == "w0").unwrap();
                assert_eq!(statuses[count], expected, "{} as of {at}: {values:?}", view.name);
            }
        }
        assert!(hosts.same_beside(view, &ids).iter().all(|letter| letter[1] == "too_late"));
    }
    hosts.stop();
}

/// What a fold has seen and made no row of is as much a part of the next row in one batch as in many.
#[test]
fn a_row_of_a_fold_is_as_new_as_what_it_has_seen_whatever_else_is_in_the_batch() {
    let moments = [
        moment("a", BEGIN + 3 * HOUR, 1, "skip", ""),
        moment("a", BEGIN + HOUR, 1, "", ""),
        moment("a", BEGIN + HOUR - 30 * SECOND, 1, "", ""),
        moment("a", BEGIN + 10 * HOUR, 1, "", ""),
        // With the one that is too late there would be a row of the next, and the one after would be refused for it.
        moment("b", BEGIN + 3 * HOUR, 1, "", ""),
        moment("b", BEGIN + HOUR, 1, "", ""),
        moment("b", BEGIN + HOUR, 1, "third", ""),
        moment("b", BEGIN + 10 * HOUR, 1, "", ""),
    ];
    let hosts = Hosts::given(&[&VIEWS[7]], &[], &moments);
    let ids = ["a", "b"].map(str::to_owned);
    let letters = hosts.same_beside(&VIEWS[7], &ids);
    assert_eq!(letters.iter().map(|letter| &letter[1]).collect::<Vec<_>>(), ["too_late", "too_late"], "{letters:?}");
    let answers = hosts.answer(&VIEWS[7], &ids, None);
    assert_eq!(answers.iter().map(|(values, _)| &values[0]).collect::<Vec<_>>(), [3, 3], "{answers:?}");
    hosts.stop();
}

/// A guest that returns once and then loops, as one that is kept from running for a while looks from outside. A fresh instance of it returns again.
fn slow_now_and_then(states: bool, forever: bool) -> Vec<u8> {
    let column = Column { values: Values::Integers(vec![7]), validity: None };
    let output = Output { batch: Batch { rows: 1, columns: vec![column.into()] }, origins: None, rejected: Vec::new() };
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), output);
    if states {
        let mut state = Packed::default();
        state.push(b"same");
        guest.states = Some(Column { values: Values::Blobs(state), validity: None });
    }
    guest.extra = format!("(global $used (mut i32) (i32.const {}))", i32::from(forever));
    guest.apply =
        format!("(if (global.get $used) (then (loop $again (br $again)))) (global.set $used (i32.const 1)) (i32.const {ANSWER_AT})");
    guest.component().unwrap()
}

/// Deadlines are told by the clock on the wall, which says little about a guest on a busy machine: an event that comes alone has more than one try, and not many.
#[test]
fn an_event_that_comes_alone_is_tried_again_before_it_is_given_up_for_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let guests = [("rows", false, false), ("fold", true, false), ("stuck", false, true), ("stuck_fold", true, true)];
    let mut config = "[host]\nlisten = \"127.0.0.1:0\"\n\n[streams.events]\n".to_owned();
    for (name, states, forever) in guests {
        std::fs::write(folder.path().join(format!("{name}.wasm")), slow_now_and_then(states, forever)).unwrap();
        config += &format!("\n[transforms.{name}]\ncomponent = \"{name}.wasm\"\n");
    }
    let host = Host::start(folder.path(), &config).unwrap();
    for sent in 1..=4 {
        assert_eq!(host.post("/v1/streams/events/events", &json!({"key": sent}).to_string()).unwrap().0, 200);
        wait_for("the event to be settled", || (host.metric("gristmill_entries_settled_total") == f64::from(sent)).then_some(()));
    }
    for (name, _, forever) in guests {
        let letters = host.get(&format!("/v1/dead-letters?limit=100&transform={name}")).unwrap().1;
        let reasons: Vec<&Value> = letters["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["reason"]).collect();
        assert_eq!(reasons, vec!["deadline"; if forever { 4 } else { 0 }], "{name}");
        let feature = host.get(&format!("/v1/features/{name}?key=4")).unwrap().1["results"][0]["values"][0].clone();
        assert_eq!(feature, if forever { Value::Null } else { json!(7) }, "{name}");
    }
    host.stop();
}
