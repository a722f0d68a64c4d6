//! What a language costs: the same two transforms of five columns, row by row and over whole columns, written in each; numbers only, and with text.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_languages_numbers::NumbersTransform;
use bench_languages_text::TextTransform;
use gristmill::model::{Batch, Column, Format};
use gristmill::pipeline::trial::Trial;
use gristmill::transform::{Engine, EngineOptions, Limits};
use gristmill_sdk::wire;
use gristmill_tests::bench::{component, keep, median, wire_batch, workspace};
use gristmill_tests::tools;

const ROWS: usize = 1_024;
const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(300);
/// Nanoseconds a row at most, where a bar is set.
const BARS: [(&str, f64); 4] = [("rust", 60.0), ("c", 60.0), ("typescript", 1_500.0), ("python", 2_000.0)];

/// What was found out about one component.
struct Figures {
    bytes: usize,
    memory_bytes: usize,
    build_secs: f64,
    load_secs: f64,
    ns_per_row: f64,
}

fn main() {
    let natives = [native::<NumbersTransform>("bench-languages-numbers"), native::<TextTransform>("bench-languages-text")];
    let mut lines = vec![
        format!(
            "Two transforms of five columns, {ROWS} rows in a call: three inputs, two outputs; numbers only, and three of them text. Row by row, and by a function of \
             whole columns. Native: the Rust functions, row by row, {:.0} and {:.0} ns. Component, memory and load are those of the second; load is compiling it, \
             once; from the cache it takes milliseconds.",
            natives[0], natives[1]
        ),
        String::new(),
        "| language | numbers ns/row | × native | text ns/row | × native | columns: numbers | columns: text | component | memory at start | build s | load s |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for language in ["rust", "c", "zig", "go", "typescript", "python"] {
        let [numbers, text, numbers_columns, text_columns] =
            ["numbers", "text", "numbers-columns", "text-columns"].map(|kind| figures(language, kind));
        let bar = BARS.iter().find(|(of, _)| *of == language).map_or(String::new(), |(_, bar)| format!(" (reach: ≤ {bar})"));
        lines.push(format!(
            "| {language} | {:.0}{bar} | {:.1} | {:.0}{bar} | {:.1} | {:.0} | {:.0} | {} | {:.1} MB | {:.1} | {:.2} |",
            numbers.ns_per_row,
            numbers.ns_per_row / natives[0],
            text.ns_per_row,
            text.ns_per_row / natives[1],
            numbers_columns.ns_per_row,
            text_columns.ns_per_row,
            size(text.bytes),
            text.memory_bytes as f64 / 1e6,
            text.build_secs,
            text.load_secs,
        ));
    }
    keep("languages", &lines);
}

fn size(bytes: usize) -> String {
    if bytes < 1_000_000 { format!("{} kB", bytes / 1_000) } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}

/// Builds the plugin with the command that users have, and measures what comes out.
fn figures(language: &str, kind: &str) -> Figures {
    let started = Instant::now();
    let component = if language == "rust" { component(&format!("bench-languages-{kind}")) } else { built(language, kind) };
    let build_secs = started.elapsed().as_secs_f64();
    let engine = Engine::new(EngineOptions::default()).expect("the engine starts");
    let limits = Limits { deadline_ms: 10_000, ..Limits::default() };
    let started = Instant::now();
    let transform = engine.load("bench", &component, "", limits).expect("the component loads");
    let load_secs = started.elapsed().as_secs_f64();
    let mut trial = Trial::new(&transform, Format::Fields, &BTreeMap::new()).expect("it has no defaults");
    let rounds = (0..ROUNDS).map(|_| trial.nanoseconds_per_row(ROWS, TIME).expect("it takes the rows"));
    let ns_per_row = median(rounds.collect());
    let memory_bytes = engine.inspect(&component, "", limits).expect("it can be looked at").memory_bytes;
    Figures { bytes: component.len(), memory_bytes, build_secs, load_secs, ns_per_row }
}

fn built(language: &str, kind: &str) -> Vec<u8> {
    let root = workspace();
    let out = root.join(format!("target/bench-{language}-{kind}.wasm"));
    let mut command = Command::new(root.join("target/release/gristmill"));
    command.arg("build").arg(root.join("plugins/bench-languages").join(language).join(kind)).arg("--out").arg(&out);
    let output = tools::environment(&mut command).output().expect("the program is built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(Path::new(&out)).expect("it was built")
}

/// Nanoseconds a row of the Rust function itself. Its input is copied anew for each call, outside the measured time.
fn native<T: gristmill_sdk::Transform>(name: &str) -> f64 {
    let spec = Engine::new(EngineOptions::default()).expect("the engine starts").inspect(&component(name), "", Limits::default());
    let inputs = spec.expect("it can be looked at").spec.inputs;
    let columns = inputs.iter().map(|field| Arc::new(Column::made_up(field, ROWS))).collect();
    let batch = Batch { rows: ROWS, columns };
    let rounds = (0..ROUNDS).map(|_| {
        let copies: Vec<wire::Batch> = (0..500).map(|_| wire_batch(&batch)).collect();
        let best = copies.into_iter().map(|copy| {
            let started = Instant::now();
            black_box(T::apply(black_box(copy)).expect("the function answers"));
            started.elapsed()
        });
        best.min().unwrap_or_default().as_nanos() as f64 / ROWS as f64
    });
    median(rounds.collect())
}
