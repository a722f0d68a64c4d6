//! What the benches share: interleaved rounds, medians, the clock of a process, and the file that keeps the figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gristmill::model::{Batch, Column, Packed, Values};
use gristmill_sdk::wire;

/// The figures kept in git: one section for each bench, rewritten by it.
const FIGURES: &str = "benches/figures.md";

/// The middle value; 0 when there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Runs `rounds` rounds of all subjects, one after the other within each round, so that a slow moment of the machine meets all of them.
/// Returns the figures of each subject, in order.
pub fn interleaved(rounds: usize, subjects: &mut [&mut dyn FnMut() -> f64]) -> Vec<Vec<f64>> {
    let mut figures = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (figures, subject) in figures.iter_mut().zip(subjects.iter_mut()) {
            figures.push(subject());
        }
    }
    figures
}

/// Median over the rounds of the quotient `numerators / denominators` of one round.
pub fn ratio(numerators: &[f64], denominators: &[f64]) -> f64 {
    median(numerators.iter().zip(denominators).map(|(numerator, denominator)| numerator / denominator).collect())
}

/// Nanoseconds that one of `calls` calls takes.
pub fn ns_per_call(calls: usize, mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..calls).for_each(|_| call());
    started.elapsed().as_nanos() as f64 / calls as f64
}

/// Seconds of processor time that a process has used, user and system.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>();
    // Linux has counted in hundredths of a second for user space on every processor since 2.6.
    ticks / 100.0
}

/// Resident memory of a process in MB.
pub fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// The folder of this workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of the workspace").to_owned()
}

/// A first-party component, built by `plugins/build.sh`.
pub fn component(name: &str) -> Vec<u8> {
    let path = workspace().join("target/components").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; build it with plugins/build.sh", path.display()))
}

/// Prints a bench's section and puts it into the file of figures in place of the one before. `lines` are Markdown.
pub fn keep(bench: &str, lines: &[String]) {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let date = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC");
    let command = format!("cargo bench --profile release --workspace --bench {bench}");
    let section = format!("## {bench}\n\n{date}, {cores} cores, `{command}`\n\n{}\n", lines.join("\n"));
    println!("{section}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIGURES);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let mut sections: Vec<String> = before.split("\n## ").skip(1).map(|section| format!("## {}\n", section.trim_end())).collect();
    sections.retain(|section| section.lines().next() != Some(&format!("## {bench}")));
    sections.push(section);
    sections.sort();
    let head = "# Figures\n\nWritten by the benches; `make bench` runs them all. Ratios come from one run and hold between machines far better than \
                absolute figures do.\n";
    std::fs::write(&path, format!("{head}\n{}", sections.join("\n"))).expect("the figures can be kept");
}

/// A batch as the Rust SDK takes it; copied.
pub fn wire_batch(batch: &Batch) -> wire::Batch {
    let packed = |packed: &Packed| wire::Packed { offsets: packed.offsets.clone(), bytes: packed.bytes.clone() };
    let column = |column: &Arc<Column>| wire::Column {
        values: match &column.values {
            Values::Booleans(values) => wire::Values::Booleans(values.clone()),
            Values::Integers(values) => wire::Values::Integers(values.clone()),
            Values::Floats(values) => wire::Values::Floats(values.clone()),
            Values::Texts(texts) => wire::Values::Texts(packed(texts)),
            Values::Blobs(blobs) => wire::Values::Blobs(packed(blobs)),
            Values::Timestamps(values) => wire::Values::Timestamps(values.clone()),
            Values::Vectors { width, values } => wire::Values::Vectors(wire::Vectors { width: *width, values: values.clone() }),
        },
        validity: None,
    };
    wire::Batch { rows: batch.rows as u32, columns: batch.columns.iter().map(column).collect() }
}
