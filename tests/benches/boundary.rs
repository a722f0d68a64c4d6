//! What the boundary costs: the same transform, seven columns in and five out, called natively and as a component.

use std::hint::black_box;
use std::sync::Arc;

use bench_orders::BenchOrdersTransform;
use gristmill::model::{Batch, Column, Packed, Values};
use gristmill::transform::{Engine, EngineOptions, Limits};
use gristmill_sdk::{Transform, wire};
use gristmill_tests::bench::{component, interleaved, keep, median, ns_per_call, ratio, wire_batch};

const ROUNDS: usize = 31;
/// The component may take this many times the native time at 1,024 rows.
const BAR: f64 = 2.5;

fn main() {
    let engine = Engine::new(EngineOptions::default()).expect("the engine starts");
    let transform = engine.load("bench", &component("bench-orders"), "", Limits::default()).expect("the component loads");
    let mut lines = vec![
        "The same Rust function over columns, natively and as a component. Native: columns in, columns out, in one process; its input is \
         copied anew for each call, outside the measured time."
            .to_owned(),
        String::new(),
        "| rows | native ns/row | component ns/row | ratio | component, one call µs |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for rows in [1, 16, 128, 1_024] {
        let host = host_batch(rows);
        let calls = (200_000 / rows).clamp(200, 20_000);
        let mut inputs: Vec<wire::Batch> = Vec::new();
        let mut native = || {
            inputs.extend((0..calls).map(|_| wire_batch(&host)));
            ns_per_call(calls, || {
                let input = inputs.pop().expect("one input a call");
                black_box(BenchOrdersTransform::apply(black_box(input)).expect("the function answers"));
            })
        };
        let mut through = || ns_per_call(calls, || drop(black_box(transform.apply(black_box(&host)).expect("the component answers"))));
        let figures = interleaved(ROUNDS, &mut [&mut native, &mut through]);
        let ([native, through], per_row) = ([&figures[0], &figures[1]], rows as f64);
        let times = ratio(through, native);
        let (native, through) = (median(native.clone()), median(through.clone()));
        let bar = if rows == 1_024 { format!(" (bar: ≤ {BAR})") } else { String::new() };
        lines.push(format!("| {rows} | {:.1} | {:.1} | {times:.2}{bar} | {:.2} |", native / per_row, through / per_row, through / 1_000.0));
    }
    keep("boundary", &lines);
}

fn host_batch(rows: usize) -> Batch {
    let mut ids = Packed::default();
    let mut countries = Packed::default();
    for row in 0..rows {
        ids.push(format!("order-{row:06}").as_bytes());
        countries.push([&b"nl"[..], b"de", b"fr", b"be"][row % 4]);
    }
    let floats = |scale: f64| Values::Floats((0..rows).map(|row| scale * (row + 1) as f64).collect());
    let columns = [
        Values::Texts(ids),
        floats(0.25),
        Values::Integers((0..rows as i64).map(|row| row % 7).collect()),
        floats(0.01),
        Values::Timestamps((0..rows as i64).map(|row| 1_700_000_000_000_000 + row * 1_000_000).collect()),
        Values::Texts(countries),
        Values::Booleans((0..rows).map(|row| u8::from(row % 3 == 0)).collect()),
    ];
    Batch { rows, columns: columns.into_iter().map(|values| Arc::new(Column { values, validity: None })).collect() }
}
