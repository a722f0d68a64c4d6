//! Serving beside what a team has today: Feast's own server, on the same Redis, the same rows and the same questions. And this host over each of its
//! stores beside the bare handler of the bench of queries, and beside Redis with nothing in front of it.

#[path = "serving/open_loop.rs"]
mod open_loop;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use gristmill_tests::bench::{component, keep, median};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::load::{Load, script, wrk};
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::tools;
use open_loop::at_rate;
use serde_json::Value;
use tempfile::TempDir;

const ENTITIES: usize = 1_000;
const ROUNDS: usize = 5;
const SECONDS: u64 = 2;
/// Feast's server answers so few requests that a round has to be longer to tell of their 99th percentile.
const FEAST_SECONDS: u64 = 6;
const CONNECTIONS: usize = 16;
const SHAPES: [(usize, usize); 2] = [(1, 10), (100, 50)];
/// Requests of the long run, and the seconds of its rounds.
const SOAK_REQUESTS: f64 = 1e6;
const SOAK_SECONDS: u64 = 3;

fn main() {
    if std::env::args().any(|argument| argument == "soak") {
        println!("{}", soak(&host("[store]\ntype = \"embedded\"").0));
        return;
    }
    let (redis, plain_redis) = (RedisServer::start(), RedisServer::start());
    let feast = Feast::start(&redis);
    let laid_out = host(&format!(
        "[store]\ntype = \"feast_redis\"\nurl = \"{}\"\n[feast]\nproject = \"bench\"\nregistry = \"{}\"",
        redis.url(),
        feast.folder.path().join("registry.db").display()
    ));
    let over_redis = host(&format!("[store]\ntype = \"redis\"\nurl = \"{}\"", plain_redis.url()));
    let embedded = host("[store]\ntype = \"embedded\"");
    let mut lines = vec![
        format!(
            "{ENTITIES} entities of 50 floats that a stream computed, read with `POST /get-online-features` by Feast 0.67's own server ({}) and by this host \
             from the same rows in the same Redis, and by this host's own `POST /v1/features`. {CONNECTIONS} connections of `wrk`, medians of {ROUNDS} \
             interleaved rounds; Redis, servers and `wrk` share the machine.",
            feast.said
        ),
        String::new(),
        "| entities × features | Feast's server | own protocol, embedded | × Feast | own protocol, Redis | × Feast | Feast's rows and protocol | × Feast |".into(),
        "|---|---|---|---|---|---|---|---|".into(),
    ];
    for (entities, features) in SHAPES {
        lines.push(closed(&feast, [&laid_out, &over_redis, &embedded], entities, features));
    }
    lines.push(String::new());
    for (entities, features) in SHAPES {
        lines.push(open(&feast, &laid_out.0, entities, features));
    }
    lines.push(String::new());
    lines.push(raw(&plain_redis));
    lines.push(String::new());
    lines.push(soak(&embedded.0));
    keep("serving", &lines);
}

/// A host with the features in its store.
fn host(config: &str) -> (Host, TempDir) {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("bench_wide.wasm"), component("bench-wide")).expect("the component is copied");
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[transforms.bench_wide]\ncomponent = \"bench_wide.wasm\"\n{config}\n"
    );
    let host = Host::start(folder.path(), &config).expect("the host starts");
    let events: Vec<String> = (0..ENTITIES).map(|entity| format!("{{\"id\":\"e{entity}\",\"value\":{}.25}}", entity + 1)).collect();
    let (status, answer) = host.post("/v1/streams/measurements/events", &events.join("\n")).expect("the host answers");
    assert_eq!(status, 200, "{answer}");
    wait_for("all events to be applied", || (host.metric("gristmill_entries_settled_total") >= ENTITIES as f64).then_some(()));
    (host, folder)
}

/// `feast serve` over the rows that a host writes.
struct Feast {
    folder: TempDir,
    child: Child,
    url: String,
    /// How it was started.
    said: String,
}

impl Feast {
    fn start(redis: &RedisServer) -> Feast {
        let folder = TempDir::new().expect("a folder");
        let python = tools::feast_python();
        let run = |command: &mut Command| {
            command.current_dir(folder.path()).env("HOME", folder.path()).env("FEAST_USAGE", "False").env("PYTHONWARNINGS", "ignore");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Feast's Python runs")
        };
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/feast_project.py");
        let applied = run(Command::new(&python).arg(project).arg(format!("127.0.0.1:{}", redis.port()))).wait();
        assert!(applied.is_ok_and(|status| status.success()), "feast apply");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port();
        let workers = std::thread::available_parallelism().map_or(1, |count| count.get()).to_string();
        // No access log, as in production, and no worker that ends in the middle of a round.
        let options = ["serve", "--no-access-log", "--max-requests", "100000000", "--workers", &workers];
        let child = run(Command::new(python.with_file_name("feast")).args(options).args(["--port", &port.to_string()]));
        let url = format!("http://127.0.0.1:{port}");
        wait_for("Feast's server", || ureq::get(format!("{url}/health")).call().ok());
        let said = format!("`feast serve --no-access-log --workers {workers}`");
        Feast { folder, child, url, said }
    }

    fn ask(&self, body: &str) -> Value {
        answer(&self.url, body)
    }
}

impl Drop for Feast {
    fn drop(&mut self) {
        // It has workers of its own, which end with it when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn answer(url: &str, body: &str) -> Value {
    let mut response =
        ureq::post(format!("{url}/get-online-features")).header("content-type", "application/json").send(body).expect("it answers");
    response.body_mut().read_json().expect("it answers JSON")
}

/// Values by feature: Feast's server gives features in an order of its own.
fn by_name(answer: &Value) -> BTreeMap<String, &Value> {
    let names = answer["metadata"]["feature_names"].as_array().expect("names").iter();
    let values = answer["results"].as_array().expect("results").iter().map(|result| &result["values"]);
    names.map(|name| name.as_str().expect("a name").to_owned()).zip(values).collect()
}

fn features(count: usize) -> String {
    (0..count).map(|feature| format!("\"bench_wide:f{feature:02}\"")).collect::<Vec<_>>().join(",")
}

fn ids(number: usize, entities: usize) -> impl Iterator<Item = String> {
    (0..entities).map(move |entity| format!("e{}", (number * 37 + entity) % ENTITIES))
}

/// Feast's question.
fn asked_of_feast(number: usize, entities: usize, count: usize) -> String {
    let ids: Vec<String> = ids(number, entities).map(|id| format!("\"{id}\"")).collect();
    format!("{{\"features\":[{}],\"entities\":{{\"id\":[{}]}}}}", features(count), ids.join(","))
}

/// The same in this host's own protocol.
fn asked(number: usize, entities: usize, count: usize) -> String {
    let entities: Vec<String> = ids(number, entities).map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
    format!("{{\"features\":[{}],\"entities\":[{}]}}", features(count), entities.join(","))
}

/// As fast as each goes.
fn closed(feast: &Feast, [laid_out, over_redis, embedded]: [&(Host, TempDir); 3], entities: usize, features: usize) -> String {
    for number in 0..3 {
        let body = asked_of_feast(number, entities, features);
        let (of_feast, of_host) = (feast.ask(&body), answer(laid_out.0.url(), &body));
        assert_eq!(by_name(&of_feast), by_name(&of_host), "both answer alike");
        assert!(!of_host["results"].to_string().contains("NOT_FOUND") && of_host["results"].to_string().contains("PRESENT"), "{of_host}");
    }
    let folder = embedded.1.path();
    let of_feast = script(folder, "feast", |number| asked_of_feast(number, entities, features));
    let own = script(folder, "own", |number| asked(number, entities, features));
    let mut subjects = [
        (&of_feast, format!("{}/get-online-features", feast.url), FEAST_SECONDS, Load::default()),
        (&of_feast, format!("{}/get-online-features", laid_out.0.url()), SECONDS, Load::default()),
        (&own, format!("{}/v1/features", over_redis.0.url()), SECONDS, Load::default()),
        (&own, format!("{}/v1/features", embedded.0.url()), SECONDS, Load::default()),
    ];
    for _ in 0..ROUNDS {
        for (script, url, seconds, load) in &mut subjects {
            wrk(script, url, CONNECTIONS, *seconds, load);
        }
    }
    let [theirs, ours, redis, embedded] = subjects.map(|(_, _, _, load)| load.medians());
    let said = |(rate, p50, p99): (f64, f64, f64)| format!("{rate:.0}/s, p50 {p50:.2}, p99 {p99:.2} ms");
    let beside = |load: (f64, f64, f64)| format!("{} | {:.0}", said(load), load.0 / theirs.0);
    format!("| {entities} × {features} | {} | {} (reach: ≥ 100) | {} | {} |", said(theirs), beside(embedded), beside(redis), beside(ours))
}

/// The same load for both, which Feast's server can just carry.
fn open(feast: &Feast, host: &Host, entities: usize, features: usize) -> String {
    let body = |number: usize| asked_of_feast(number, entities, features);
    let urls = [&feast.url, host.url()].map(|url| format!("{url}/get-online-features"));
    let mut most = Load::default();
    let scripted = script(feast.folder.path(), "most", body);
    wrk(&scripted, &urls[0], CONNECTIONS, FEAST_SECONDS, &mut most);
    let rate = most.rate[0] / 2.0;
    let mut loads = [Load::default(), Load::default()];
    for _ in 0..ROUNDS {
        for (url, load) in urls.iter().zip(&mut loads) {
            at_rate(url, &body, rate, CONNECTIONS, FEAST_SECONDS, load);
        }
    }
    let [theirs, ours] = loads.map(|load| load.medians());
    format!(
        "At the same {rate:.0} requests/s, half of what Feast's server can do, times from when a request was due, {entities} × {features}: Feast's server p50 \
         {:.2} ms, p99 {:.2} ms; this host p50 {:.2} ms, p99 {:.2} ms: 1/{:.0} of the p99 (reach: ≤ 1/20).\n",
        theirs.1,
        theirs.2,
        ours.1,
        ours.2,
        theirs.2 / ours.2
    )
}

/// What Redis alone takes for the same rows: one connection, the rows of one question in one pipeline.
fn raw(redis: &RedisServer) -> String {
    let keys: Vec<String> = redis.ask("KEYS *row:bench_wide:*");
    assert_eq!(keys.len(), ENTITIES);
    let mut connection = redis.connection();
    let mut said = Vec::new();
    for (entities, features) in SHAPES {
        let mut times: Vec<f64> = (0..5_000)
            .map(|number| {
                let mut pipeline = redis::pipe();
                for entity in 0..entities {
                    pipeline.get(&keys[(number * 37 + entity) % ENTITIES]);
                }
                let started = Instant::now();
                let rows: Vec<Vec<u8>> = pipeline.query(&mut connection).expect("Redis answers");
                assert!(rows.iter().all(|row| !row.is_empty()));
                started.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        said.push(format!("{entities} × {features} p50 {:.0} µs, p99 {:.0} µs", times[times.len() / 2], times[times.len() * 99 / 100]));
    }
    format!("Redis alone, the packed rows of one question in one pipeline over one connection, without HTTP: {}.", said.join("; "))
}

/// Whether an answer takes as long after a million requests as before them.
fn soak(host: &Host) -> String {
    let folder = TempDir::new().expect("a folder");
    let script = script(folder.path(), "soak", |number| asked(number, 1, 10));
    let mut load = Load::default();
    let requests = |load: &Load| load.rate.iter().sum::<f64>() * SOAK_SECONDS as f64;
    // Three rounds at least, so that there are thirds.
    while load.rate.len() < 3 || requests(&load) < SOAK_REQUESTS {
        wrk(&script, &format!("{}/v1/features", host.url()), CONNECTIONS, SOAK_SECONDS, &mut load);
    }
    let third = load.rate.len() / 3;
    let of = |times: &[f64]| (median(times[..third].to_vec()), median(times[times.len() - third..].to_vec()));
    let (p50, p99) = (of(&load.p50_ms), of(&load.p99_ms));
    let requests = requests(&load);
    format!(
        "{:.1} million requests in a row, 1 × 10, embedded store: p50 {:.3} ms in the first third and {:.3} ms in the last, p99 {:.2} ms and {:.2} ms.",
        requests / 1e6,
        p50.0,
        p50.1,
        p99.0,
        p99.1
    )
}
