use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::client::{Client, HostArgument, escape};
use super::{Failure, print};

/// Events in one request.
const BATCH_EVENTS: usize = 1_000;
/// Bytes in one request, at most, unless one event alone is larger.
const BATCH_BYTES: usize = 4 << 20;
/// Tries at one request that the host is too busy for.
const TRIES_MAX: u32 = 8;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The stream
    stream: String,
    /// Events, a JSON object a line or CSV with a header, gzipped or not; `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What the file holds; told by its name when absent
    #[arg(long)]
    format: Option<FileFormat>,
    /// Events a second, at most
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Events at the beginning of the file to leave out, to go on after a failure
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum FileFormat {
    /// A JSON object a line
    Ndjson,
    /// A header, then a row a line; an empty cell is a field that is not there
    Csv,
}

pub(super) fn ingest(arguments: &Arguments) -> Result<(), Failure> {
    let events = events(arguments).map_err(Failure::Wrong)?;
    let mut sender = Sender::new(arguments)?;
    let skip = usize::try_from(arguments.skip).unwrap_or(usize::MAX);
    for event in events.skip(skip) {
        let event = event.with_context(|| arguments.file.display().to_string());
        let sent = event.map_err(Failure::Wrong).and_then(|event| sender.push(&event));
        if let Err(failure) = sent {
            return Err(sender.explain(failure, arguments.skip));
        }
    }
    if let Err(failure) = sender.flush() {
        return Err(sender.explain(failure, arguments.skip));
    }
    sender.bar.finish_and_clear();
    let seconds = sender.started.elapsed().as_secs_f64();
    if arguments.json {
        print::json(&json!({"stream": arguments.stream, "events": sender.acknowledged, "seconds": seconds}));
    } else {
        let events = if sender.acknowledged == 1 { "event" } else { "events" };
        print::line(&format!("{} {events} appended to `{}` in {seconds:.2} s", sender.acknowledged, arguments.stream));
    }
    Ok(())
}

struct Sender {
    client: Client,
    path: String,
    rate: Option<u64>,
    batch: Vec<u8>,
    batch_events: u64,
    acknowledged: u64,
    started: Instant,
    bar: ProgressBar,
}

impl Sender {
    fn new(arguments: &Arguments) -> Result<Sender, Failure> {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} events  {per_sec}  {elapsed}") {
            bar.set_style(style);
        }
        Ok(Sender {
            client: arguments.host.client()?,
            path: format!("/v1/streams/{}/events", escape(&arguments.stream)),
            rate: arguments.rate,
            batch: Vec::new(),
            batch_events: 0,
            acknowledged: 0,
            started: Instant::now(),
            bar,
        })
    }

    fn push(&mut self, event: &str) -> Result<(), Failure> {
        if self.batch_events > 0 && self.batch.len() + event.len() > BATCH_BYTES {
            self.flush()?;
        }
        self.batch.extend_from_slice(event.as_bytes());
        self.batch.push(b'\n');
        self.batch_events += 1;
        if self.batch_events as usize >= BATCH_EVENTS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch_events == 0 {
            return Ok(());
        }
        if let Some(rate) = self.rate {
            let due = self.started + Duration::from_secs_f64(self.acknowledged as f64 / rate.max(1) as f64);
            wait(due.saturating_duration_since(Instant::now()));
        }
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            match self.client.try_post(&self.path, &self.batch)? {
                Ok(_) => break,
                Err(refused) if matches!(refused.status, 429 | 503) && attempt < TRIES_MAX => wait(pause),
                Err(refused) if refused.status == 404 => return Err(Failure::NotFound(anyhow!("{}", refused.message))),
                Err(refused) if refused.status == 429 || refused.status >= 500 => {
                    return Err(Failure::Failed(anyhow!("{}", refused.message)));
                }
                Err(refused) => return Err(Failure::Wrong(anyhow!("{}", refused.message))),
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.acknowledged += self.batch_events;
        self.bar.set_position(self.acknowledged);
        self.batch.clear();
        self.batch_events = 0;
        Ok(())
    }

    /// Adds to a failure how far it got.
    fn explain(&self, failure: Failure, skipped: u64) -> Failure {
        self.bar.finish_and_clear();
        let next = skipped + self.acknowledged;
        let hint = format!("{} events were appended before; go on with --skip {next}", self.acknowledged);
        match failure {
            Failure::Failed(error) => Failure::Failed(error.context(hint)),
            Failure::Wrong(error) => Failure::Wrong(error.context(hint)),
            Failure::Unreachable(error) => Failure::Unreachable(error.context(hint)),
            Failure::NotFound(error) => Failure::NotFound(error),
        }
    }
}

/// Waits on this thread; the command line has nothing else to do.
#[allow(clippy::disallowed_methods, reason = "a paced sender waits for its turn")]
pub(super) fn wait(time: Duration) {
    std::thread::sleep(time);
}

type Events = Box<dyn Iterator<Item = anyhow::Result<String>>>;

/// The events of the file, each as a line of JSON.
fn events(arguments: &Arguments) -> anyhow::Result<Events> {
    let path = &arguments.file;
    let raw: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let mut reader = BufReader::with_capacity(1 << 16, raw);
    let gzipped = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn BufRead> =
        if gzipped { Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(reader))) } else { Box::new(reader) };
    let name = path.to_string_lossy().trim_end_matches(".gz").to_owned();
    let told = if name.ends_with(".csv") { FileFormat::Csv } else { FileFormat::Ndjson };
    Ok(match arguments.format.unwrap_or(told) {
        FileFormat::Ndjson => {
            let lines = (1_u64..).zip(reader.lines()).filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
            Box::new(lines.map(|(number, line)| object(line?).with_context(|| format!("line {number}"))))
        }
        FileFormat::Csv => {
            let mut csv = csv::Reader::from_reader(reader);
            let header = csv.headers()?.clone();
            Box::new(csv.into_records().map(move |record| Ok(event_of(&header, &record?))))
        }
    })
}

/// A line that is one JSON object. Found here, a wrong one can be named by its line in the file.
fn object(line: String) -> anyhow::Result<String> {
    let value: &RawValue = serde_json::from_str(&line).context("not a JSON object, which an event is (for CSV say --format csv)")?;
    anyhow::ensure!(value.get().starts_with('{'), "an event is a JSON object, not {}", value.get().chars().take(40).collect::<String>());
    Ok(line)
}

fn event_of(header: &csv::StringRecord, record: &csv::StringRecord) -> String {
    let cells = header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
    let event: Map<String, Value> = cells.map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect();
    Value::Object(event).to_string()
}
