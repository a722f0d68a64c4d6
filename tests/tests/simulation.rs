//! Thousands of schedules of everything that can go wrong between a stream, a host and a store, on a clock that stands still: rows, states, windows and dead letters
//! are those of an oracle that has seen every event once and in order. `GRISTMILL_SEED=…` runs one schedule alone, `GRISTMILL_SCHEDULES=…` so many.

use std::sync::atomic::{AtomicU64, Ordering};

use gristmill_tests::simulation::schedule::{Report, run};
use gristmill_tests::simulation::transforms::Fixtures;

/// Schedules of one run.
const SCHEDULES: u64 = 3_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a number")))
}

/// Runs the schedules of these seeds on all processors; what came of those that went wrong.
fn run_all(seeds: std::ops::Range<u64>, forgets: bool) -> (Report, Vec<(u64, String)>) {
    let (fixtures, next) = (Fixtures::make(), AtomicU64::new(seeds.start));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut sum, mut wrong) = (Report::default(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (sum, wrong);
            }
            match runtime.block_on(run(&fixtures, seed, forgets)) {
                Ok(Report { events, commits, faults }) => {
                    sum = Report { events: sum.events + events, commits: sum.commits + commits, faults: sum.faults + faults };
                }
                Err(why) => wrong.push((seed, why)),
            }
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        all.into_iter().fold((Report::default(), Vec::new()), |(sum, mut wrong), (Report { events, commits, faults }, more)| {
            wrong.extend(more);
            (Report { events: sum.events + events, commits: sum.commits + commits, faults: sum.faults + faults }, wrong)
        })
    })
}

#[test]
fn whatever_goes_wrong_every_event_counts_once_and_in_order() {
    let started = std::time::Instant::now();
    let seeds = match number("GRISTMILL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("GRISTMILL_SCHEDULES").unwrap_or(SCHEDULES),
    };
    let (Report { events, commits, faults }, mut wrong) = run_all(seeds.clone(), false);
    wrong.sort();
    eprintln!("schedules {seeds:?}: {events} events, {commits} commits, {faults} faults in {:?}", started.elapsed());
    for (seed, why) in &wrong {
        eprintln!("GRISTMILL_SEED={seed}: {why}");
    }
    assert!(wrong.is_empty(), "{} schedules went wrong, the first is {:?}", wrong.len(), wrong.first());
}

#[test]
fn a_stream_that_does_not_say_what_comes_again_is_found_out() {
    let (_, wrong) = run_all(0..100, true);
    assert!(wrong.iter().any(|(_, why)| why.contains("twice")), "{wrong:?}");
}
