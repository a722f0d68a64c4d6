//! The embedded store (fjall) beside redb, on our own rows: commits of 1,000 random upserts and a place over 200,000 keys, then point
//! reads, idle and under commits at full speed. It is why the embedded store is what it is; takes less than a minute.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gristmill::data_folder::{DataFolder, Durability, Options};
use gristmill::model::Commit;
use gristmill::online_store::{OnlineStore, embedded};
use gristmill_tests::bench::{keep, rss_mb};
use gristmill_tests::store_conformance::{commit_of, partition, row, single, version};
use redb::{Database, ReadableDatabase, TableDefinition};

const KEYS: u64 = 200_000;
const ROWS_A_COMMIT: u64 = 1_000;
const WINDOW: Duration = Duration::from_secs(3);
const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

fn main() {
    let mut lines = vec![
        format!(
            "Commits of {ROWS_A_COMMIT} random upserts over {KEYS} keys, rows of 200 bytes; one point read at a time, idle and under commits at full speed."
        ),
        String::new(),
        "| engine | commits/s | µs a row | get p50 / p99 µs | under commits p50 / p99 µs | RSS MB |".into(),
        "|---|---|---|---|---|---|".into(),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (name, durability, row_cache_bytes) in [
        ("fjall, buffered, 64 MB row cache", Durability::Interval { sync_ms: 100 }, 64 << 20),
        ("fjall, buffered, no row cache", Durability::Interval { sync_ms: 100 }, 1),
        ("fjall, synced, 64 MB row cache", Durability::Sync, 64 << 20),
    ] {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = DataFolder::open(temp.path(), Options { durability, ..Options::default() }).expect("the folder opens");
        let options = embedded::Options { row_cache_bytes, ..embedded::Options::default() };
        let store = embedded::EmbeddedStore::open(&folder, options).expect("the store opens");
        let mut writer = runtime.block_on(store.writer(&partition(0), &single())).expect("the writer opens");
        let mut number = 0;
        let mut commit = || {
            number += 1;
            runtime.block_on(writer.commit(&next_commit(number))).expect("the commit is applied");
        };
        let get = |key: Vec<u8>| drop(runtime.block_on(store.read(&[key])).expect("the read is answered"));
        lines.push(measure(name, &mut commit, &get));
    }
    let temp = tempfile::tempdir().expect("a folder");
    let database = Database::create(temp.path().join("redb")).expect("redb opens");
    let mut number = 0;
    let mut commit = || {
        number += 1;
        let write = database.begin_write().expect("a transaction");
        {
            let mut table = write.open_table(TABLE).expect("the table opens");
            for row in next_commit(number).rows.iter() {
                table.insert(row.key, row.packed).expect("the row is taken");
            }
            table.insert(&b"place"[..], &number.to_le_bytes()[..]).expect("the place is taken");
        }
        write.commit().expect("the commit is applied");
    };
    let get = |key: Vec<u8>| {
        let read = database.begin_read().expect("a transaction");
        let table = read.open_table(TABLE).expect("the table opens");
        let _ = table.get(&key[..]).expect("the read is answered").map(|found| found.value().to_vec());
    };
    lines.push(measure("redb, synced", &mut commit, &get));
    keep("embedded_engines", &lines);
}

fn measure(name: &str, commit: &mut (impl FnMut() + Send), get: &(impl Fn(Vec<u8>) + Sync)) -> String {
    (0..KEYS / ROWS_A_COMMIT).for_each(|_| commit());
    let (started, mut commits) = (Instant::now(), 0u32);
    while started.elapsed() < WINDOW {
        commit();
        commits += 1;
    }
    let rate = f64::from(commits) / started.elapsed().as_secs_f64();
    let (p50, p99) = reads(get);
    let stop = AtomicBool::new(false);
    let (busy_p50, busy_p99) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                commit();
            }
        });
        let found = reads(get);
        stop.store(true, Ordering::Relaxed);
        found
    });
    let row_us = 1e6 / rate / ROWS_A_COMMIT as f64;
    let rss = rss_mb(std::process::id());
    format!("| {name} | {rate:.0} | {row_us:.1} | {p50:.1} / {p99:.1} | {busy_p50:.1} / {busy_p99:.1} | {rss:.0} |")
}

/// Median and 99th percentile of random point reads during a window, in microseconds.
fn reads(get: &impl Fn(Vec<u8>)) -> (f64, f64) {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < WINDOW {
        let key = key(scatter(took.len() as u64));
        let before = Instant::now();
        get(key);
        took.push(before.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn next_commit(number: u64) -> Commit {
    let version = version(number as i64, number);
    let mut keys: Vec<u64> = (0..ROWS_A_COMMIT).map(|row| scatter(number * ROWS_A_COMMIT + row) % KEYS).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows: Vec<_> = keys.into_iter().map(|number| (key(number), version, row(version, &[7; 170]))).collect();
    commit_of(number, &rows)
}

fn key(number: u64) -> Vec<u8> {
    format!("user_activity:user_{:010}", number % KEYS).into_bytes()
}

fn scatter(number: u64) -> u64 {
    number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}
