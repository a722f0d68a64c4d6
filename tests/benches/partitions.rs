//! Streams in partitions: how fast one host is over several, how fast another takes over, and how long what a dead consumer left takes.

use std::time::{Duration, Instant};

use gristmill_tests::bench::{cpu_seconds, keep, median, ratio, workspace};
use gristmill_tests::host::Host;
use gristmill_tests::native_consumer::event;
use gristmill_tests::partitions::{held, partition_of};
use gristmill_tests::redis_server::RedisServer;

const EVENTS: u64 = 200_000;
const ENTITIES: u64 = 10_000;
const ROUNDS: usize = 3;
const LEASE_MS: u64 = 2_000;
const KILLS: usize = 8;
const LEFT: u64 = 1_000_000;
/// What tells the partition of an event.
const FIELD: &str = "id";

fn main() {
    let server = RedisServer::start();
    let mut lines = throughput(&server);
    lines.push(String::new());
    lines.push(take_over(&server));
    lines.push(String::new());
    lines.push(recovery(&server));
    keep("partitions", &lines);
}

/// One run: events a second, and microseconds of processor time an event of the host and of Redis.
#[derive(Default)]
struct Runs {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    redis: Vec<f64>,
}

/// None, 1, 2 and 4 partitions; the same events.
fn throughput(server: &RedisServer) -> Vec<String> {
    let counts = [0, 1, 2, 4];
    let mut runs: Vec<Runs> = counts.iter().map(|_| Runs::default()).collect();
    for _ in 0..ROUNDS {
        for (count, runs) in counts.iter().zip(&mut runs) {
            run(server, *count, runs);
        }
    }
    let mut lines = vec![
        format!(
            "A Redis stream of {EVENTS} events into a store on the same server, one host, acknowledging; medians of {ROUNDS} interleaved \
             rounds, CPU in µs an event. One redis-server has one thread for commands, so beyond what keeps that busy partitions are for \
             several servers: a cluster."
        ),
        String::new(),
        "| partitions | events/s | beside none | host CPU | Redis CPU |".into(),
        "|---|---|---|---|---|".into(),
    ];
    for (count, of) in counts.iter().zip(&runs) {
        let name = if *count == 0 { "none".to_owned() } else { count.to_string() };
        let (rate, cpu, redis) = (median(of.rate.clone()), median(of.cpu.clone()), median(of.redis.clone()));
        lines.push(format!("| {name} | {rate:.0} | {:.2} | {cpu:.2} | {redis:.2} |", ratio(&of.rate, &runs[0].rate)));
    }
    lines
}

fn run(server: &RedisServer, count: u32, runs: &mut Runs) {
    fill(server, count, EVENTS);
    let folder = tempfile::tempdir().expect("a folder");
    let host = Host::start(folder.path(), &config(server, count)).expect("the host starts");
    let (cpu, redis) = (cpu_seconds(host.pid()), cpu_seconds(server.pid()));
    let (first, started) = (settled(&host), Instant::now());
    wait(|| settled(&host) >= EVENTS as f64);
    let events = EVENTS as f64 - first;
    runs.rate.push(events / started.elapsed().as_secs_f64());
    runs.cpu.push((cpu_seconds(host.pid()) - cpu) * 1e6 / events);
    runs.redis.push((cpu_seconds(server.pid()) - redis) * 1e6 / events);
    host.stop();
}

/// Two hosts share four partitions; one is killed, and the time is taken until the other works on all of them.
fn take_over(server: &RedisServer) -> String {
    server.run::<()>(&["FLUSHALL"]);
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let start = |index: usize| Host::start(folders[index].path(), &config(server, 4)).expect("the host starts");
    let survivor = start(0);
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let killed = start(1);
        wait(|| held(&[&survivor, &killed]) == [2.0, 2.0]);
        let started = Instant::now();
        killed.kill();
        wait(|| held(&[&survivor]) == [4.0]);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    survivor.stop();
    let worst = times.iter().copied().fold(0.0, f64::max);
    format!(
        "Take-over of two of four partitions after kill -9, with a lease of {LEASE_MS} ms, {KILLS} times: median {:.0} ms, longest {worst:.0} ms (bar: ≤ {} ms).",
        median(times),
        LEASE_MS + 1_000
    )
}

/// A consumer has read everything and is gone; the host takes it over.
fn recovery(server: &RedisServer) -> String {
    fill(server, 0, LEFT);
    let mut connection = server.connection();
    for _ in 0..LEFT / 10_000 {
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", "group", "gone", "COUNT", "10000", "STREAMS", "orders", ">"])
            .query::<redis::Value>(&mut connection)
            .expect("it reads");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let host = Host::start(folder.path(), &config(server, 0)).expect("the host starts");
    wait(|| settled(&host) >= LEFT as f64);
    let seconds = started.elapsed().as_secs_f64();
    let (pending, ..): (u64, redis::Value, redis::Value, redis::Value) =
        redis::cmd("XPENDING").arg("orders").arg("group").query(&mut connection).expect("what is pending");
    assert_eq!(pending, 0);
    host.stop();
    format!(
        "A host that finds {LEFT} entries pending for a consumer that is gone has applied them all after {seconds:.1} s ({:.0} entries/s).",
        LEFT as f64 / seconds
    )
}

fn settled(host: &Host) -> f64 {
    host.metric("gristmill_entries_settled_total")
}

fn wait(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(300), "it took too long");
        #[expect(clippy::disallowed_methods, reason = "asking without a pause would take the processors from what is measured")]
        std::thread::sleep(Duration::from_millis(4));
    }
}

fn config(server: &RedisServer, count: u32) -> String {
    let url = server.url();
    let partitions = if count == 0 { String::new() } else { format!("partitions = {count}\npartition_by = [\"{FIELD}\"]\n") };
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\ntype = \"redis\"\nurl = \"{url}\"\nlease_ms = {LEASE_MS}\nprefix = \"of{count}\"\n\n[streams.orders]\n\
         type = \"redis_streams\"\nurl = \"{url}\"\ngroup = \"group\"\n{partitions}\n[transforms.bench_orders]\ncomponent = \"{}\"\n",
        workspace().join("target/components/bench-orders.wasm").display()
    )
}

/// Empties the server, appends the events where they belong, and makes the groups.
fn fill(server: &RedisServer, count: u32, events: u64) {
    let mut connection = server.connection();
    server.run::<()>(&["FLUSHALL"]);
    let key = |partition: u32| if count == 0 { "orders".to_owned() } else { format!("{{orders:{partition}}}") };
    for start in (0..events).step_by(5_000) {
        let mut adds = redis::pipe();
        for number in start..(start + 5_000).min(events) {
            let event = event(number, ENTITIES);
            let entity = &event.iter().find(|(name, _)| *name == FIELD).expect("the entity's field").1;
            let partition = if count == 0 { 0 } else { partition_of(entity, count) };
            adds.cmd("XADD").arg(key(partition)).arg("*").arg(&event[..]).ignore();
        }
        adds.exec(&mut connection).expect("the events are taken");
    }
    for partition in 0..count.max(1) {
        server.run::<()>(&["XGROUP", "CREATE", &key(partition), "group", "0", "ENTRIESREAD", "0"]);
    }
}
