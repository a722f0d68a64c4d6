use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::sync::watch;

use super::run::{interrupted, runtime};
use super::{Failure, logging, print};
use crate::app::{self, DemoOptions, Progress};
use crate::config::HostSection;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Gzipped lines of JSON to replay instead of the flights that the program carries
    #[arg(long, value_name = "FILE.gz")]
    data: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7171")]
    listen: SocketAddr,
    /// Events a second; 0 for as many as the machine can
    #[arg(long, value_name = "N", default_value_t = 4_000)]
    rate: u64,
    /// End when all events are replayed instead of going on serving
    #[arg(long)]
    exit_when_done: bool,
}

pub(super) fn demo(arguments: Arguments) -> Result<(), Failure> {
    logging::start(&HostSection { log: "error".into(), ..HostSection::default() })?;
    print::note("Replaying flights that left New York in 2013 through four components, into an embedded store.");
    let Arguments { data, listen, rate, exit_when_done } = arguments;
    let rate = (rate > 0).then_some(rate);
    let runtime = runtime()?;
    let folder = tempfile::Builder::new().prefix("gristmill-demo-").tempdir().context("cannot create a temporary folder")?;
    let options = DemoOptions { folder: folder.path().to_owned(), data, listen, rate };
    let shown = runtime.block_on(async {
        let started = Instant::now();
        let (progress, shown) = watch::channel(Progress::default());
        let bar = tokio::spawn(show(shown));
        let mut interrupted = pin!(interrupted()?);
        let demo = tokio::select! {
            demo = app::demo(options, progress) => demo,
            () = &mut interrupted => return Ok(()),
        };
        let last = bar.await.unwrap_or_default();
        let demo = demo?;
        summary(&last, started.elapsed());
        print::line("\nThe features are served. Try:\n");
        for request in &demo.requests {
            print::line(&format!("  {request}\n"));
        }
        if rate.is_some() {
            print::note("Events came at a pace to look at; `--rate 0` replays them as fast as this machine can.");
        }
        if !exit_when_done {
            print::note("Ctrl-C ends the demonstration.");
            interrupted.await;
        }
        demo.host.stop().await
    });
    // The database goes before the folder that it is in, also where the demonstration has failed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(folder);
    Ok(shown?)
}

fn summary(last: &Progress, took: Duration) {
    let rate = last.events as f64 / took.as_secs_f64().max(1e-9);
    print::line(&format!(
        "{} events in {:.2} s ({rate:.0}/s) through 4 transforms: {} rows, {} dead letters (an aircraft without a registration has no key); \
         freshness p50 {:.1} ms, p99 {:.1} ms",
        last.events,
        took.as_secs_f64(),
        last.rows_committed,
        last.dead_letters,
        last.freshness_p50_ms,
        last.freshness_p99_ms
    ));
}

/// Draws the progress until the sender is gone; returns the last state.
async fn show(mut progress: watch::Receiver<Progress>) -> Progress {
    let mut last = Progress::default();
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} events  {rate}  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // What a bar cannot show is no reason to fail.
        let _ = write!(out, "{:.0}/s", state.per_sec());
    }));
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        last = now;
        bar.set_length(now.events_total);
        bar.set_position(now.events_done);
        let (p50, p99) = (now.freshness_p50_ms, now.freshness_p99_ms);
        bar.set_message(format!("freshness p50 {p50:.1} ms p99 {p99:.1} ms  dead letters {}", now.dead_letters));
        // Faster than this nobody can read.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bar.finish_and_clear();
    last
}
