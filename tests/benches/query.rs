//! `POST /v1/features` from the embedded store and from Redis, beside a bare axum handler that reads the same body and answers the same bytes.
//! Load comes from `wrk` on the same machine over 64 kept-alive connections.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::{MethodRouter, post};
use axum::serve::ListenerExt;
use gristmill_tests::bench::{component, keep, median, ns_per_call, ratio};
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::load::{BODIES, Load, script, wrk};
use gristmill_tests::redis_server::RedisServer;
use tempfile::TempDir;

const ENTITIES: usize = 1_000;
const ROUNDS: usize = 7;
const SECONDS: u64 = 2;
const CONNECTIONS: usize = 64;
/// Rounds of a second each with and without a transform, of which each pair gives one difference: a single round's 99th percentile says little.
const PAIRS: usize = 31;
/// Entities in a query and features in a query.
const SHAPES: [(usize, usize); 2] = [(1, 10), (100, 50)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("bare") {
        return bare(Path::new(&arguments.next().expect("a folder of answers")));
    }
    let redis = RedisServer::start();
    let (host, folder) = start_host("type = \"embedded\"");
    let (over_redis, _redis_folder) = start_host(&format!("type = \"redis\"\nurl = \"{}\"", redis.url()));
    for (index, (entities, features)) in SHAPES.into_iter().enumerate() {
        let answer = host.post("/v1/features", &body(0, entities, features)).expect("the host answers");
        let present = answer.1.to_string().matches("\"present\"").count();
        assert_eq!((answer.0, present), (200, entities * features), "{}", answer.1);
        for number in 0..BODIES {
            let answer = raw_answer(&host, &body(number, entities, features));
            assert_eq!(values(&answer), values(&raw_answer(&over_redis, &body(number, entities, features))), "both stores answer alike");
            std::fs::write(folder.path().join(format!("answer{index}-{number}")), answer).expect("the answer is kept");
        }
    }
    let (mut bare, bare_url) = start_bare(folder.path());
    let mut lines = vec![
        format!(
            "`POST /v1/features`, {ENTITIES} entities of 50 floats; {CONNECTIONS} connections of `wrk` on the same machine, medians of {ROUNDS} interleaved rounds \
             of {SECONDS} s, ratios within each round. Bare: an axum handler in a process of its own that reads the body and answers the same bytes, those of the {BODIES} \
             queries in turn. One answer: it answers all queries with the bytes of the first, which never leave the processor's nearest memory. \
             A redis-server, where there is one, shares the machine too."
        ),
        String::new(),
        "| entities × features | answer bytes | bare requests/s, p50 / p99 ms | one answer | embedded store | of bare | of one answer | Redis store | of bare | of one answer | serde_json alone µs |".into(),
        "|---|---|---|---|---|---|---|---|---|---|---|".into(),
    ];
    for (index, (entities, features)) in SHAPES.into_iter().enumerate() {
        let script = script(folder.path(), &format!("{entities}x{features}"), |number| body(number, entities, features));
        let answer = folder.path().join(format!("answer{index}-0"));
        let urls = [
            format!("{bare_url}/answers{index}"),
            format!("{bare_url}/answer{index}"),
            format!("{}/v1/features", host.url()),
            format!("{}/v1/features", over_redis.url()),
        ];
        let mut loads: [Load; 4] = Default::default();
        for _ in 0..ROUNDS {
            for (url, load) in urls.iter().zip(&mut loads) {
                wrk(&script, url, CONNECTIONS, SECONDS, load);
            }
        }
        let said = |load: &Load| {
            let (rate, p50, p99) = load.medians();
            format!("{rate:.0}, {p50:.2} / {p99:.2}")
        };
        let [bare, one, embedded, redis] = &loads;
        lines.push(format!(
            "| {entities} × {features} | {} | {} | {} | {} | {:.2} (reach: ≥ 0.85) | {:.2} | {} | {:.2} (reach: ≥ 0.6) | {:.2} | {:.1} |",
            std::fs::metadata(&answer).map_or(0, |file| file.len()),
            said(bare),
            said(one),
            said(embedded),
            ratio(&embedded.rate, &bare.rate),
            ratio(&embedded.rate, &one.rate),
            said(redis),
            ratio(&redis.rate, &bare.rate),
            ratio(&redis.rate, &one.rate),
            encoding_us(&answer)
        ));
    }
    lines.push(String::new());
    lines.push(
        "serde_json alone: what one thread needs to write the same answer from values in memory, which the bare handler does not do."
            .into(),
    );
    lines.extend(computed(&host, folder.path()));
    bare.kill().expect("a running child can be killed");
    bare.wait().expect("a killed child can be waited for");
    keep("query", &lines);
}

/// A host with the features in its store.
fn start_host(store: &str) -> (Host, TempDir) {
    let folder = TempDir::new().expect("a folder");
    for (file, name) in [("bench_wide.wasm", "bench-wide"), ("tutorial.wasm", "tutorial")] {
        std::fs::write(folder.path().join(file), component(name)).expect("the component is copied");
    }
    let host = Host::start(folder.path(), &format!("{CONFIG}\n[store]\n{store}\n")).expect("the host starts");
    write_features(&host);
    (host, folder)
}

const CONFIG: &str = "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.measurements]\ntype = \"embedded\"\n\n\
                      [transforms.bench_wide]\ncomponent = \"bench_wide.wasm\"\n\n[transforms.asked]\nat = \"request\"\n\
                      component = \"tutorial.wasm\"\ninputs.value.from = \"bench_wide:f00\"\n";

fn write_features(host: &Host) {
    let events: Vec<String> = (0..ENTITIES).map(|entity| format!("{{\"id\":\"e{entity}\",\"value\":{}.25}}", entity + 1)).collect();
    let (status, answer) = host.post("/v1/streams/measurements/events", &events.join("\n")).expect("the host answers");
    assert_eq!(status, 200, "{answer}");
    wait_for("all events to be applied", || (host.metric("gristmill_entries_settled_total") >= ENTITIES as f64).then_some(()));
}

/// The `number`th query of a shape; numbers ask for different entities.
fn body(number: usize, entities: usize, features: usize) -> String {
    let features: Vec<String> = (0..features).map(|feature| format!("\"bench_wide:f{feature:02}\"")).collect();
    let entities: Vec<String> = (0..entities).map(|entity| format!("{{\"id\":\"e{}\"}}", (number * 37 + entity) % ENTITIES)).collect();
    format!("{{\"features\":[{}],\"entities\":[{}]}}", features.join(","), entities.join(","))
}

/// One answer, as serde_json writes it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Answer {
    features: Vec<String>,
    results: Vec<Outcome>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Outcome {
    entity: BTreeMap<String, String>,
    values: Vec<f64>,
    statuses: Vec<String>,
    event_times: Vec<String>,
}

/// The values of an answer: event times are those at which each host took its events.
fn values(answer: &[u8]) -> Vec<Vec<f64>> {
    let answer: Answer = serde_json::from_slice(answer).expect("the answer is JSON");
    answer.results.into_iter().map(|outcome| outcome.values).collect()
}

/// Microseconds to write an answer from values in memory.
fn encoding_us(answer: &Path) -> f64 {
    let answer: Answer = serde_json::from_slice(&std::fs::read(answer).expect("the answer is there")).expect("the answer is JSON");
    let once = || ns_per_call(50, || drop(std::hint::black_box(serde_json::to_vec(&answer).expect("it has a JSON form"))));
    median((0..21).map(|_| once() / 1_000.0).collect())
}

fn raw_answer(host: &Host, body: &str) -> Vec<u8> {
    let agent = ureq::Agent::new_with_defaults();
    let mut response = agent.post(format!("{}/v1/features", host.url())).send(body).expect("the host answers");
    response.body_mut().read_to_vec().expect("the answer ends")
}

/// What a transform that is bound to requests adds to a query of one entity and ten features: two features more, computed from a stored one.
fn computed(host: &Host, folder: &Path) -> Vec<String> {
    let with = |number: usize| body(number, 1, 10).replace("],\"entities\"", ",\"asked:feature1\",\"asked:feature2\"],\"entities\"");
    let answer = host.post("/v1/features", &with(0)).expect("the host answers").1;
    assert_eq!(answer["results"][0]["values"][10], serde_json::json!(answer["results"][0]["values"][0].as_f64().expect("a number") * 2.0));
    let scripts = [script(folder, "stored", |number| body(number, 1, 10)), script(folder, "computed", with)];
    let mut loads = [Load::default(), Load::default()];
    for pair in 0..PAIRS {
        // Whoever comes second finds the machine as the first has left it, so they take turns.
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for index in order {
            wrk(&scripts[index], &format!("{}/v1/features", host.url()), 1, 1, &mut loads[index]);
        }
    }
    let [stored, computed] = &loads;
    let [p50, p99] =
        [(&stored.p50_ms, &computed.p50_ms), (&stored.p99_ms, &computed.p99_ms)].map(|(stored, computed)| Added::of(stored, computed));
    let said = |load: &Load| (median(load.p50_ms.clone()) * 1_000.0, median(load.p99_ms.clone()) * 1_000.0);
    let (stored, computed) = (said(stored), said(computed));
    vec![
        String::new(),
        format!(
            "A request-time transform in Rust, two features computed from one that is stored, one connection, {PAIRS} pairs of rounds of 1 s in turns: 1 × 10 alone \
             p50 {:.0} µs, p99 {:.0} µs; with the transform p50 {:.0} µs, p99 {:.0} µs. Within a pair it adds {p50} at p50 and {p99} at p99 (bar: ≤ 50): medians, and \
             the middle half of the pairs.",
            stored.0, stored.1, computed.0, computed.1,
        ),
    ]
}

/// What one of two adds to the other, pair by pair, in microseconds.
struct Added {
    median: f64,
    middle_half: (f64, f64),
}

impl Added {
    fn of(without_ms: &[f64], with_ms: &[f64]) -> Added {
        let mut all: Vec<f64> = without_ms.iter().zip(with_ms).map(|(without, with)| (with - without) * 1_000.0).collect();
        all.sort_by(f64::total_cmp);
        Added { median: median(all.clone()), middle_half: (all[all.len() / 4], all[all.len() * 3 / 4]) }
    }
}

impl std::fmt::Display for Added {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.0} µs ({:.0} to {:.0})", self.median, self.middle_half.0, self.middle_half.1)
    }
}

fn start_bare(folder: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().expect("a running bench has a path"))
        .arg("bare")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the bench can start itself");
    let mut url = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut url).expect("the bare server says where it is");
    (child, url.trim().to_owned())
}

/// The bare server: a runtime like the host's, and for each shape a handler that answers with the answers of all queries in turn, and one that has only the first.
fn bare(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut router = Router::new();
        for index in 0..SHAPES.len() {
            let answer = |number| Bytes::from(std::fs::read(folder.join(format!("answer{index}-{number}"))).expect("the answer is there"));
            let answers: Vec<Bytes> = (0..BODIES).map(answer).collect();
            router = router
                .route(&format!("/answer{index}"), answering(answers[..1].to_vec()))
                .route(&format!("/answers{index}"), answering(answers));
        }
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        println!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await.expect("the server serves");
    });
}

fn answering(answers: Vec<Bytes>) -> MethodRouter {
    let (answers, next) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    post(move |body: Bytes| async move {
        std::hint::black_box(body.len());
        let answer = answers[next.fetch_add(1, Ordering::Relaxed) % answers.len()].clone();
        ([(header::CONTENT_TYPE, "application/json")], answer)
    })
}
