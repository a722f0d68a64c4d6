//! Redis stream to Redis store: the host beside a consumer written by hand in Rust and beside the loop of the Python tutorials.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gristmill_tests::bench::{cpu_seconds, keep, median, ratio, rss_mb, workspace};
use gristmill_tests::host::Host;
use gristmill_tests::native_consumer::{Mode, consume, event};
use gristmill_tests::redis_server::RedisServer;

const EVENTS: u64 = 300_000;
const EVENTS_PYTHON: u64 = 10_000;
const ROUNDS: usize = 5;
const MODES: [(Mode, &str); 2] = [(Mode::Acknowledge, "acknowledge"), (Mode::Checkpoint, "checkpoint")];
/// Ids of the entries are chosen, so that the group's last delivered id says how far it is.
const FIRST_MS: u64 = 1_700_000_000_000;

/// One run: events per second, and microseconds of processor time an event of the consumer and of Redis.
#[derive(Default)]
struct Runs {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    redis: Vec<f64>,
}

fn main() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let python = python();
    let mut lines = vec![
        format!(
            "A Redis stream of {EVENTS} events (7 fields, {} bytes on the wire each) into a Redis store, batches of 1,000, one redis-server on \
             the same machine without persistence. Medians of {ROUNDS} interleaved rounds; ratios within each round. Native: one thread, one blocking connection, one \
             write a batch, the same transaction (`tests/src/native_consumer.rs`). CPU in µs an event.",
            wire_bytes()
        ),
        String::new(),
        "| place | entities | host events/s | native events/s | host/native | host CPU | native CPU | Redis CPU, host | Redis CPU, native |".into(),
        "|---|---|---|---|---|---|---|---|---|".into(),
    ];
    let mut acknowledged = 0.0;
    for entities in [10_000, 1_000_000] {
        let mut runs: Vec<(Runs, Runs)> = MODES.iter().map(|_| Default::default()).collect();
        for _ in 0..ROUNDS {
            for ((mode, place), (host, native)) in MODES.iter().zip(&mut runs) {
                fill(&server, EVENTS, entities);
                measure(&server, std::process::id(), native, || {
                    let started = Instant::now();
                    consume(server.port(), *mode, EVENTS as usize);
                    EVENTS as f64 / started.elapsed().as_secs_f64()
                });
                fill(&server, EVENTS, entities);
                run_host(&server, folder.path(), place, host);
            }
        }
        for ((_, place), (host, native)) in MODES.iter().zip(runs) {
            let quotient = ratio(&host.rate, &native.rate);
            let rate = median(host.rate);
            if *place == "acknowledge" && entities == 10_000 {
                acknowledged = rate;
            }
            lines.push(format!(
                "| {place} | {entities} | {rate:.0} | {:.0} | {quotient:.2} (bar: ≥ 0.75) | {:.2} | {:.2} | {:.2} | {:.2} |",
                median(native.rate),
                median(host.cpu),
                median(native.cpu),
                median(host.redis),
                median(native.redis)
            ));
            println!("{}", lines[lines.len() - 1]);
        }
    }
    lines.push(String::new());
    let rates: Vec<f64> = (0..3).map(|_| run_python(&server, &python)).collect();
    let rate = median(rates);
    lines.push(format!(
        "The tutorial loop in Python (redis-py, one entry a read, HSET, XACK): {rate:.0} events/s; the host, acknowledging, does {:.0} times \
         that (bar: ≥ 60).",
        acknowledged / rate
    ));
    server.run::<()>(&["FLUSHALL"]);
    let host = Host::start(folder.path(), &config(&server, "acknowledge")).expect("the host starts");
    lines.push(String::new());
    lines.push(format!("The host with this configuration and no event yet: {:.0} MB resident (bar: ≤ 60).", rss_mb(host.pid())));
    keep("end_to_end", &lines);
}

fn run_host(server: &RedisServer, folder: &Path, place: &str, runs: &mut Runs) {
    // Started over an empty group at the stream's end, the host would idle; started over the filled stream it begins at once, so the clock
    // starts with the first progress that is seen, and counts what is left then.
    let host = Host::start(folder, &config(server, place)).expect("the host starts");
    let mut connection = server.connection();
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut look = move || {
        assert!(Instant::now() < deadline, "the host did not finish");
        let groups: Vec<BTreeMap<String, redis::Value>> =
            redis::cmd("XINFO").arg("GROUPS").arg("orders").query(&mut connection).expect("the group is told");
        let text = |name: &str| redis::from_redis_value::<String>(groups[0][name].clone()).expect("a text");
        let delivered = text("last-delivered-id").split('-').next().and_then(|ms| ms.parse::<u64>().ok()).unwrap_or(0);
        (delivered.saturating_sub(FIRST_MS - 1), text("pending") == "0")
    };
    measure(server, host.pid(), runs, || {
        let mut seen = 0;
        while seen == 0 {
            seen = look().0;
        }
        let started = Instant::now();
        loop {
            let (done, settled) = look();
            if done >= EVENTS && settled {
                return (EVENTS - seen) as f64 / started.elapsed().as_secs_f64();
            }
            #[expect(clippy::disallowed_methods, reason = "asking without a pause would take the server's time from the host")]
            std::thread::sleep(Duration::from_millis(4));
        }
    });
    host.stop();
}

fn measure(server: &RedisServer, pid: u32, runs: &mut Runs, run: impl FnOnce() -> f64) {
    let (before, redis_before) = (cpu_seconds(pid), cpu_seconds(server.pid()));
    runs.rate.push(run());
    runs.cpu.push((cpu_seconds(pid) - before) * 1e6 / EVENTS as f64);
    runs.redis.push((cpu_seconds(server.pid()) - redis_before) * 1e6 / EVENTS as f64);
}

fn config(server: &RedisServer, place: &str) -> String {
    let url = server.url();
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\ntype = \"redis\"\nurl = \"{url}\"\n\n[streams.orders]\n\
         type = \"redis_streams\"\nurl = \"{url}\"\ngroup = \"group\"\nplace = \"{place}\"\n\n[transforms.bench_orders]\ncomponent = \"{}\"\n",
        workspace().join("target/components/bench-orders.wasm").display()
    )
}

/// Empties the server, appends the events, and makes the group.
fn fill(server: &RedisServer, events: u64, entities: u64) {
    let mut connection = server.connection();
    server.run::<()>(&["FLUSHALL"]);
    for start in (0..events).step_by(5_000) {
        let mut adds = redis::pipe();
        for number in start..(start + 5_000).min(events) {
            adds.cmd("XADD").arg("orders").arg(format!("{}-1", FIRST_MS + number)).arg(&event(number, entities)[..]).ignore();
        }
        adds.exec(&mut connection).expect("the events are taken");
    }
    server.run::<()>(&["XGROUP", "CREATE", "orders", "group", "0", "ENTRIESREAD", "0"]);
}

/// Bytes of one entry in a reply.
fn wire_bytes() -> usize {
    let bulk = |length: usize| 5 + length.to_string().len() + length;
    let fields = event(0, 10_000);
    bulk(15) + 9 + fields.iter().map(|(name, value)| bulk(name.len()) + bulk(value.len())).sum::<usize>()
}

fn run_python(server: &RedisServer, python: &Path) -> f64 {
    fill(server, EVENTS_PYTHON, 10_000);
    let script = workspace().join("tests/benches/python_loop.py");
    let done =
        Command::new(python).arg(script).arg(server.port().to_string()).arg(EVENTS_PYTHON.to_string()).output().expect("python runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().parse().expect("a rate")
}

/// A Python with redis-py, made once.
fn python() -> std::path::PathBuf {
    let folder = workspace().join("target/bench-python");
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        let run = |command: &mut Command| assert!(command.status().expect("python3 is installed").success());
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "--no-cache-dir", "redis"]));
        std::fs::write(folder.join("ready"), "").expect("the folder can be written");
    }
    python
}
