//! Hostile guests by the hundred, written and random, against the engine that hosts have: each is refused or contained, and a good guest runs after it.

mod contained;
pub mod guest;
mod image;
mod making;
mod random;
mod refused;
mod secrets;
mod wrong;

use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::model::{Batch, Column, Kind, Packed, Values};
use crate::transform::{Engine, EngineOptions, Error, Limits, Transform};
use guest::Guest;

pub use random::Tally;

/// A hostile guest: what it does, its file, and what the engine says of it.
type Row = (&'static str, anyhow::Result<Vec<u8>>, &'static str);

/// When a guest shows what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Load,
    Describe,
    Apply,
    Answer,
    Fold,
    States,
    Migrate,
}

/// One thing that was tried.
#[derive(Debug)]
pub struct Check {
    /// What it belongs to.
    pub group: &'static str,
    /// What the guest is or does.
    pub what: String,
    /// How it was refused or contained; an error where it was not.
    pub outcome: anyhow::Result<String>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Random files after the written ones.
    pub random: u64,
    /// The first of their seeds; each has its own.
    pub seed: u64,
}

/// Bytes that the process may have more after the random guests than when they had just begun: the allocator's, not guests'.
const GROWTH_BYTES_MAX: u64 = 16 << 20;
/// Random guests that come before memory is looked at for the first time.
const WARM_UP: u64 = 200;

/// Tries everything, one after the other, and tells of each. The tally is that of the random guests. An error means that the engine could not be
/// started; what was not contained is told, and makes no error here.
pub fn run(options: Options, tell: &mut dyn FnMut(Check)) -> anyhow::Result<Tally> {
    let engine = engine()?;
    let groups: [(&str, Phase, Vec<Row>); 10] = [
        ("wrong world", Phase::Load, refused::wrong_worlds()),
        ("wrong spec", Phase::Load, refused::wrong_specs()),
        ("bomb", Phase::Load, refused::bombs()),
        ("describe", Phase::Describe, contained::in_describe()),
        ("apply", Phase::Apply, contained::in_apply()),
        ("wrong column", Phase::Answer, wrong::columns()),
        ("wrong shape", Phase::Answer, wrong::shapes()),
        ("fold", Phase::Fold, contained::in_fold()),
        ("wrong state", Phase::States, wrong::states()),
        ("migration", Phase::Migrate, contained::in_migration()),
    ];
    for (group, phase, rows) in groups {
        for (what, component, expected) in rows {
            let outcome = component.and_then(|component| contained(&engine, phase, &component, expected));
            let outcome = outcome.and_then(|how| still_well(&engine).map(|()| how));
            tell(Check { group, what: what.to_owned(), outcome });
        }
    }
    tell(Check { group: "log", what: "a thousand lines of eight kilobytes in one call".into(), outcome: flood(&engine) });
    tell(Check { group: "secrets", what: "reads what another guest has left in memory".into(), outcome: secrets::memory(&engine) });
    tell(Check { group: "secrets", what: "looks for what another guest has left in a table".into(), outcome: secrets::table(&engine) });
    let mut tally = Tally::default();
    let mut before = None;
    for number in 0..options.random {
        if number == WARM_UP {
            before = resident_bytes();
        }
        let seed = options.seed.wrapping_add(number);
        let outcome = random::check(&engine, seed, &mut tally);
        let outcome = if number % 50 == 0 { outcome.and_then(|how| still_well(&engine).map(|()| how)) } else { outcome };
        tell(Check { group: "random", what: format!("seed {seed}"), outcome });
    }
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        tell(Check { group: "memory", what: format!("{} random guests more", options.random - WARM_UP), outcome: growth(before, after) });
    }
    Ok(tally)
}

/// A guest that talks too much is heard in part, and the rest is counted.
fn flood(engine: &Engine) -> anyhow::Result<String> {
    const LINES: u64 = 1_000;
    let mut guest = Guest::doubling();
    let answer = guest.apply.clone();
    let rest = answer.rfind("(i32.const").unwrap_or_default();
    let (body, result) = answer.split_at_checked(rest).unwrap_or_default();
    guest.apply = format!(
        "{body}
         (local.set $left (i32.const {LINES}))
         (loop $again
           (call $log (i32.const 1) (i32.const 8192) (i32.const 8192))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br_if $again (local.get $left)))
         {result}"
    );
    let limits = Limits { deadline_ms: 10_000, output_bytes_max: 64 << 20, ..limits() };
    let transform = engine.load("chatty", &guest.module()?, "", limits)?;
    transform.apply(&keys(3)).context("talking is no crime")?;
    let dropped = transform.log_lines_dropped();
    ensure!(dropped > LINES / 2 && dropped < LINES, "{dropped} lines of {LINES} were dropped");
    Ok(format!("{dropped} lines of {LINES} were dropped"))
}

fn growth(before: u64, after: u64) -> anyhow::Result<String> {
    let grown = after.saturating_sub(before);
    ensure!(grown <= GROWTH_BYTES_MAX, "the process has {grown} bytes more; {GROWTH_BYTES_MAX} are allowed");
    Ok(format!("the process has {grown} bytes more"))
}

/// Memory of this process in bytes, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1_024)
}

/// Limits that are soon reached.
fn limits() -> Limits {
    Limits { memory_bytes_max: 4 << 20, output_bytes_max: 1 << 20, state_bytes_max: 1 << 18, ..Limits::default() }
}

fn engine() -> anyhow::Result<Engine> {
    let options =
        EngineOptions { instances_max: 8, instances_per_transform_max: 2, memory_bytes_max: 64 << 20, ..EngineOptions::default() };
    Ok(Engine::new(options)?)
}

/// A batch with the one input of the guests here: the keys from 0 on.
fn keys(rows: i64) -> Batch {
    Batch { rows: rows as usize, columns: vec![Arc::new(Column { values: Values::Integers((0..rows).collect()), validity: None })] }
}

/// Loads a hostile guest and calls it; says how it ended, or that it did not end as it should.
fn contained(engine: &Engine, phase: Phase, component: &[u8], expected: &str) -> anyhow::Result<String> {
    let loaded = engine.load("hostile", component, "", limits());
    let (error, is_right) = match (phase, loaded) {
        (Phase::Load, Err(error)) => {
            let is_right = matches!(error, Error::Refused(_)) && error.to_string().contains(expected);
            (error, is_right)
        }
        (Phase::Describe, Err(error)) => {
            let is_right = format!("{error:?}").starts_with(expected);
            (error, is_right)
        }
        (Phase::Load | Phase::Describe, Ok(_)) => bail!("it was loaded"),
        (Phase::Apply | Phase::Answer | Phase::Fold | Phase::States | Phase::Migrate, loaded) => {
            let transform = loaded.context("it was refused at load")?;
            let mut error = called(&transform, phase)?;
            // The second call has a fresh instance and must end as the first did.
            for _ in 0..2 {
                error = called(&transform, phase)?;
            }
            let is_right = match phase {
                Phase::Answer | Phase::States => matches!(error, Error::Invalid(_)) && error.to_string().contains(expected),
                Phase::Load | Phase::Describe | Phase::Apply | Phase::Fold | Phase::Migrate => format!("{error:?}").starts_with(expected),
            };
            (error, is_right)
        }
    };
    ensure!(is_right, "it was answered with {error:?}, and not with {expected:?}");
    Ok(error.to_string())
}

/// What becomes of a call with three rows, or states of three entities; that it goes well is an error.
fn called(transform: &Transform, phase: Phase) -> anyhow::Result<Error> {
    let taken = match phase {
        Phase::Load | Phase::Describe | Phase::Apply | Phase::Answer => transform.apply(&keys(3)).map(|output| format!("{output:?}")),
        Phase::Fold | Phase::States => {
            transform.fold(&keys(3), &[0, 1, 2, 3], &Column::nulls(Kind::Bytes, 3)).map(|folded| format!("{folded:?}"))
        }
        Phase::Migrate => {
            let states = Values::Blobs(Packed { offsets: vec![0, 1, 2, 3], bytes: b"abc".to_vec() });
            transform.migrate("0.9", &Column { values: states, validity: None }).map(|states| format!("{states:?}"))
        }
    };
    match taken {
        Ok(answer) => bail!("its answer was taken: {answer}"),
        Err(error) => Ok(error),
    }
}

/// That a good guest loads and computes.
fn still_well(engine: &Engine) -> anyhow::Result<()> {
    let transform = engine.load("good", &Guest::doubling().module()?, "", limits()).context("a good guest is refused")?;
    let output = transform.apply(&keys(100)).context("a good guest fails")?;
    let doubled = Values::Integers((0..100).map(|key| key * 2).collect());
    ensure!(output.batch.columns.first().is_some_and(|column| column.values == doubled), "a good guest computes something else");
    Ok(())
}
