//! Reading one batch ahead, so that the stream's server works while the host computes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{BACKOFF_MAX, BACKOFF_MIN, Health, Pipeline};
use crate::model::Disposition;
use crate::source::{Delivery, Error, Source};
use crate::telemetry::Stage;

/// How often the source is asked how far behind the reader is.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Two tasks beside the pipeline's loop: one reads, one asks for the lag. Both end when this is dropped.
pub(super) struct ReadAhead {
    deliveries: mpsc::Receiver<Result<Delivery, Error>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl ReadAhead {
    pub(super) fn start(source: Arc<dyn Source>, pipeline: &Pipeline) -> ReadAhead {
        let (sender, deliveries) = mpsc::channel(1);
        let (partition, telemetry, health) = (pipeline.partition.clone(), pipeline.telemetry.clone(), pipeline.health.clone());
        let entries_max = pipeline.batch_events_max;
        let asked = Arc::clone(&source);
        let reader = tokio::spawn(async move {
            let mut backoff = BACKOFF_MIN;
            loop {
                let started = Instant::now();
                match source.read(entries_max).await {
                    Ok(delivery) => {
                        if std::mem::replace(&mut backoff, BACKOFF_MIN) != BACKOFF_MIN {
                            tracing::info!(%partition, "reading again");
                            health.send_replace(Health::Running);
                        }
                        if !delivery.entries.is_empty() {
                            telemetry.stage_seconds(Stage::Read, started.elapsed().as_secs_f64());
                            telemetry.entries_read(delivery.entries.len() as u64);
                        }
                        let worth_sending = !delivery.entries.is_empty() || delivery.lost > 0;
                        if worth_sending && sender.send(Ok(delivery)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if error.disposition() == Disposition::Retry => {
                        tracing::warn!(%partition, wait_ms = backoff.as_millis() as u64, "cannot read, will try again: {error}");
                        telemetry.retries("source");
                        health.send_replace(Health::Waiting(error.to_string()));
                        tokio::time::sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                    Err(error) => {
                        // The loop ends the session on any error, so nobody reads after this one.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        let (telemetry, transforms) = (pipeline.telemetry.clone(), Arc::clone(&pipeline.transforms));
        let asker = tokio::spawn(async move {
            loop {
                if let Ok(lag) = asked.lag().await {
                    let seconds = telemetry.lag(lag.entries, lag.pending);
                    // The transforms of a stream share its reads and commits, so they are behind by the same.
                    for binding in transforms.load().bindings() {
                        binding.telemetry.lag_seconds(seconds);
                        binding.telemetry.log_lines_dropped(binding.transform.log_lines_dropped());
                    }
                }
                tokio::time::sleep(LAG_EVERY).await;
            }
        });
        ReadAhead { deliveries, tasks: [reader, asker] }
    }

    /// The next delivery that has something in it.
    pub(super) async fn next(&mut self) -> Result<Delivery, Error> {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            None => Err(Error::Protocol("the reader ended without saying why".into())),
        }
    }
}
