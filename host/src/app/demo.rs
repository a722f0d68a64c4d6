//! The demonstration: two weeks of flights out of New York, replayed through first-party components into an embedded host.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::sync::watch;

use super::Host;
use super::binding_options::BindingOptions;
use super::transforms::Source;
use super::versions::Origin;
use crate::config::Config;
use crate::model::{Aggregate, Aggregation, Entries, EntryId, Format};

/// The stream that the flights go through.
const STREAM: &str = "flights";
/// Events appended at a time.
const APPEND_EVENTS: usize = 500;
/// Events that may be in the stream and not yet in the store: enough to keep the pipeline busy, few enough that features are fresh.
const AHEAD_EVENTS_MAX: u64 = 4_000;

/// Reads as of a moment are answered for the newest day.
const HISTORY_SECS: u64 = 86_400;

/// The components, built from `plugins/` and carried in the program, so that the demonstration needs nothing else.
const COMPONENTS: [(&str, &[u8]); 4] = [
    ("aircraft", include_bytes!("../../../plugins/prebuilt/flights-aircraft.wasm")),
    ("airport", include_bytes!("../../../plugins/prebuilt/flights-airport.wasm")),
    ("carrier", include_bytes!("../../../plugins/prebuilt/flights-carrier.wasm")),
    ("route", include_bytes!("../../../plugins/prebuilt/flights-route.wasm")),
];
/// The events: gzipped lines of JSON. See `examples/flights`.
const EVENTS: &[u8] = include_bytes!("../../../examples/flights/flights-2013-01.ndjson.gz");

/// What the demonstration may be told.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// An empty folder for its data.
    pub folder: PathBuf,
    /// Gzipped lines of JSON to replay instead of the flights it carries.
    pub data: Option<PathBuf>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Events a second, at most; `None` as fast as they go.
    pub rate: Option<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Events in the stream.
    pub events: u64,
    /// Events that there will be.
    pub events_total: u64,
    /// Events whose features can be read, per transform.
    pub events_done: u64,
    /// Rows committed so far.
    pub rows_committed: u64,
    /// Events given up by some transform.
    pub dead_letters: u64,
    /// Median time from the arrival of an event to its features being readable, in milliseconds.
    pub freshness_p50_ms: f64,
    /// Ninety-ninth percentile of the same.
    pub freshness_p99_ms: f64,
}

/// A demonstration whose events are all replayed; it goes on serving until it is stopped.
pub struct Demo {
    /// The host, listening.
    pub host: Host,
    /// Requests worth making, as command lines.
    pub requests: Vec<String>,
}

/// Starts a host in the folder and replays the flights through it.
pub async fn demo(demo: DemoOptions, progress: watch::Sender<Progress>) -> anyhow::Result<Demo> {
    let mut config = Config::default();
    config.host.data_folder = demo.folder.join("data");
    config.host.listen = demo.listen;
    let host = Host::start(config).await?;
    let limits = host.core.config.limits;
    let options = BindingOptions { limits, history_secs: HISTORY_SECS, ..BindingOptions::default() };
    // The other components declare windows of their own; this one's are the operator's.
    let variance = Aggregation {
        feature: "delay_variance_7d".into(),
        column: "dep_delay_min".into(),
        function: Aggregate::Variance,
        window_ms: Some(7 * 86_400_000),
        doc: "Variance of departures after schedule, minutes squared.".into(),
    };
    for (name, component) in COMPONENTS {
        let mut options = options.clone();
        options.aggregations.extend((name == "carrier").then(|| variance.clone()));
        host.core
            .install(name, component.to_vec(), Some(options), Source::declared(Origin::Declared))
            .await
            .with_context(|| format!("component `{name}`"))?;
    }
    let lines = tokio::task::spawn_blocking(move || read_lines(demo.data)).await??;
    replay(&host, &lines, demo.rate, &progress).await?;
    let requests = requests(host.address());
    Ok(Demo { host, requests })
}

async fn replay(host: &Host, lines: &[String], rate: Option<u64>, progress: &watch::Sender<Progress>) -> anyhow::Result<()> {
    let stream =
        host.core.streams.load().get(STREAM).cloned().ok_or_else(|| anyhow!("the demonstration's components read no `{STREAM}`"))?;
    let Format::Json { field } = &stream.format else { return Err(anyhow!("the stream `{STREAM}` does not take JSON")) };
    let started = Instant::now();
    let mut sent = 0;
    for chunk in lines.chunks(APPEND_EVENTS) {
        let mut entries = Entries::default();
        chunk.iter().for_each(|line| entries.push(EntryId::ZERO, [(field.as_bytes(), line.as_bytes())]));
        stream.appender.append(&entries).await?;
        sent += chunk.len() as u64;
        let due = rate.map_or(started, |rate| started + Duration::from_secs_f64(sent as f64 / rate.max(1) as f64));
        tokio::time::sleep_until(due.into()).await;
        while report(host, sent, lines.len() as u64, progress) + AHEAD_EVENTS_MAX < sent {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    while report(host, sent, lines.len() as u64, progress) < sent {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Publishes the progress; returns how many events are done.
fn report(host: &Host, sent: u64, total: u64, progress: &watch::Sender<Progress>) -> u64 {
    let now = host.core.telemetry.snapshot();
    progress.send_replace(Progress {
        events: sent,
        events_total: total,
        events_done: now.entries_settled,
        rows_committed: now.rows_committed,
        dead_letters: now.dead_letters,
        freshness_p50_ms: now.freshness_p50_seconds * 1e3,
        freshness_p99_ms: now.freshness_p99_seconds * 1e3,
    });
    now.entries_settled
}

fn read_lines(data: Option<PathBuf>) -> anyhow::Result<Vec<String>> {
    let reader: Box<dyn Read> = match &data {
        None => Box::new(EVENTS),
        Some(path) => Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    let name = data.as_ref().map_or("the events it carries".to_owned(), |path| path.display().to_string());
    let lines = BufReader::new(flate2::read::GzDecoder::new(reader)).lines();
    lines.collect::<Result<_, _>>().with_context(|| format!("{name}: not gzipped lines of JSON"))
}

fn requests(address: SocketAddr) -> Vec<String> {
    let features = r#"{"features":["carrier:dep_delay_min","route:air_time_min","aircraft:speed_mph"],"#;
    let entities = r#""entities":[{"carrier":"UA","origin":"EWR","dest":"SFO","tailnum":"N14228"}]}"#;
    vec![
        format!("curl -s 'http://{address}/v1/features/aircraft?tailnum=N14228'"),
        format!("curl -s 'http://{address}/v1/features/airport?origin=EWR&as_of=2013-01-14T18:00:00-05:00'"),
        format!("curl -s 'http://{address}/v1/features' -d '{features}{entities}'"),
        format!("curl -s 'http://{address}/v1/dead-letters?limit=1'"),
    ]
}
