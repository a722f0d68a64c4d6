//! Schedules over real servers and hosts: whatever is killed, stopped, cut, delayed or restarted, in whatever order, the features equal the oracle's.
//!
//! Beside that, rows go on to a second stream exactly once, versions take each other's place and every row is of the one that the cuts name, a shadow runs and changes
//! nothing, and hosts that share partitions take them over from one another.
//!
//! A schedule is told by its seed, which also says where stream and store are. `GRISTMILL_SEED=…` runs one alone, `GRISTMILL_SCHEDULES=…` so many of each setting;
//! `make faults` runs hundreds.

use gristmill_tests::fault_world::{SETTINGS, World};

use crate::{compiled, number};

/// Schedules of each setting in one run.
const SCHEDULES: u64 = 3;

/// Runs the schedules of one setting.
fn schedules(setting: u64) {
    let settings = SETTINGS.len() as u64;
    let seeds: Vec<u64> = match number("GRISTMILL_SEED") {
        Some(seed) => std::iter::once(seed).filter(|seed| seed % settings == setting).collect(),
        None => (0..number("GRISTMILL_SCHEDULES").unwrap_or(SCHEDULES)).map(|round| round * settings + setting).collect(),
    };
    let mut wrong = Vec::new();
    for seed in seeds {
        let started = std::time::Instant::now();
        let outcome = World::new(seed, compiled()).run();
        let (is_well, what) = outcome.as_ref().map_or_else(|why| ("wrong", why), |done| ("well", done));
        eprintln!("GRISTMILL_SEED={seed}: {is_well} in {:?}: {what}", started.elapsed());
        wrong.extend(outcome.err().map(|why| (seed, why)));
    }
    assert!(wrong.is_empty(), "{} schedules went wrong: {wrong:#?}", wrong.len());
}

#[test]
fn one_redis_acknowledging() {
    schedules(0);
}

#[test]
fn one_redis_by_checkpoint() {
    schedules(1);
}

#[test]
fn two_redis_acknowledging() {
    schedules(2);
}

#[test]
fn redis_and_the_folder_acknowledging() {
    schedules(3);
}

#[test]
fn redis_and_the_folder_by_checkpoint() {
    schedules(4);
}

#[test]
fn the_folder_alone() {
    schedules(5);
}

#[test]
fn partitions_on_one_redis_acknowledging() {
    schedules(6);
}

#[test]
fn partitions_on_one_redis_by_checkpoint() {
    schedules(7);
}

#[test]
fn partitions_on_two_redis() {
    schedules(8);
}
