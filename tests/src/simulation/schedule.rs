//! A schedule: what happens to hosts, stream and store, one thing after the other, all told by one seed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gristmill::model::{DeadLetterQuery, Partition};
use gristmill::online_store::{OnlineStore, Writers};
use gristmill::pipeline::{Health, Pipeline, Replay, Transforms};
use gristmill::source::Error;
use gristmill::telemetry::Telemetry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::events::Event;
use super::expected::{Wrong, check};
use super::store::{Committing, Store, pass};
use super::stream::{Acknowledging, Kind, Stream, unreachable};
use super::transforms::{FORMAT, Fixtures, VERSIONS, VIEWS};
use crate::flights::Seeded;

/// How long a lease lasts, in milliseconds of the simulated clock.
const LEASE_MS: u64 = 300;

/// What came of a schedule that went well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Events.
    pub events: usize,
    /// Commits.
    pub commits: usize,
    /// Things that happened.
    pub faults: usize,
}

/// One host's pipeline.
struct Host {
    name: &'static str,
    running: Option<Running>,
}

struct Running {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    replays: mpsc::Sender<Replay>,
    transforms: Arc<ArcSwap<Transforms>>,
}

struct World<'f> {
    fixtures: &'f Fixtures,
    seeded: Seeded,
    stream: Arc<Stream>,
    store: Store,
    hosts: Vec<Host>,
    batch_events_max: usize,
    version: usize,
}

fn partition() -> Partition {
    Partition { stream: "events".into(), group: "group".into(), index: 0, tag: String::new() }
}

/// Runs the schedule of a seed. `forgets` makes a mistake that the check must find.
pub async fn run(fixtures: &Fixtures, seed: u64, forgets: bool) -> Result<Report, Wrong> {
    let mut seeded = Seeded(seed);
    let kind = if forgets || seeded.below(3) > 0 { Kind::Group } else { Kind::Log };
    let stream = Stream::new(kind, forgets, seeded.below(u64::MAX));
    let store = Store::new();
    fixtures.intern(&store.shared.inner).await;
    let hosts = ["one", "other"].into_iter().take(1 + seeded.below(2) as usize).map(|name| Host { name, running: None }).collect();
    let batch_events_max = 1 + seeded.below(20) as usize;
    let mut world = World { fixtures, seeded, stream, store, hosts, batch_events_max, version: 0 };
    world.stream.append(5);
    (0..world.hosts.len()).for_each(|host| world.start(host));
    let faults = 4 + world.seeded.below(24) as usize;
    for _ in 0..faults {
        world.step().await;
        let pause = world.seeded.below(120);
        pass(Duration::from_millis(pause * pause / 60)).await;
    }
    let finished = world.finish().await;
    world.hosts.iter_mut().filter_map(|host| host.running.take()).for_each(|running| running.task.abort());
    finished?;
    let events: Vec<Event> = world.stream.events();
    check(fixtures, &world.store, &events).await?;
    Ok(Report { events: events.len(), commits: world.store.applied().len(), faults })
}

impl World<'_> {
    /// The next thing that happens.
    async fn step(&mut self) {
        let host = self.seeded.below(self.hosts.len() as u64) as usize;
        match self.seeded.below(24) {
            0..6 => self.stream.append(1 + self.seeded.below(15)),
            6..8 => self.store.fail_commit(Committing::LostBefore),
            8..10 => self.store.fail_commit(Committing::LostAfter),
            10 => self.store.fail_commit(Committing::Refused),
            11 => self.store.fail_commit(Committing::Stalled(Duration::from_millis(LEASE_MS * 2))),
            12 => self.store.fail(self.seeded.below(3), self.seeded.below(3), self.seeded.below(2)),
            13 => self.store.steal(&partition()).await,
            14 => self.stream.fail_acknowledging(Acknowledging::LostBefore),
            15 => self.stream.fail_acknowledging(Acknowledging::LostAfter),
            16 => self.stream.redeliver(),
            17 => self.stream.fail(unreachable()),
            18 => self.stream.fail(Error::GroupGone { stream: "events".into(), group: "group".into() }),
            19 => self.swap(),
            20..22 => self.kill(host),
            22 => self.stop(host).await,
            _ => self.replay().await,
        }
        // A host that is down comes back sooner or later.
        for host in 0..self.hosts.len() {
            if self.seeded.below(3) == 0 {
                self.start(host);
            }
        }
    }

    /// The next version is in force on every host.
    fn swap(&mut self) {
        self.version = (self.version + 1).min(VERSIONS - 1);
        let set = &self.fixtures.sets[self.version];
        self.hosts
            .iter()
            .filter_map(|host| host.running.as_ref())
            .for_each(|running| running.transforms.store(Arc::clone(&set.transforms)));
    }

    fn start(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if host.running.is_some() {
            return;
        }
        let transforms = Arc::new(ArcSwap::new(Arc::clone(&self.fixtures.sets[self.version].transforms)));
        let (replays, requests) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let stream = Arc::clone(&self.stream);
        let pipeline = Pipeline {
            changes: Arc::default(),
            turn: None,
            partition: partition(),
            writers: Writers::Single { holder: host.name.into(), lease_ms: LEASE_MS },
            store: Arc::new(self.store.clone()),
            open_source: Box::new(move |place| {
                let source = stream.open(place);
                Box::pin(async move { Ok(source) })
            }),
            begin: None,
            format: FORMAT,
            batch_events_max: self.batch_events_max,
            transforms: Arc::clone(&transforms),
            telemetry: Telemetry::new().stream("events", "group"),
            health: watch::Sender::new(Health::Starting),
            progress: watch::Sender::new(None),
        };
        let task = tokio::spawn(pipeline.run(requests, stopped));
        host.running = Some(Running { task, stop, replays, transforms });
    }

    /// As `kill -9` does: whatever the host is waiting for, it never hears of it.
    fn kill(&mut self, host: usize) {
        if let Some(running) = self.hosts[host].running.take() {
            running.task.abort();
        }
    }

    async fn stop(&mut self, host: usize) {
        if let Some(running) = self.hosts[host].running.take() {
            running.stop.send_replace(true);
            running.task.await.expect("a pipeline ends without a panic");
        }
    }

    /// All dead letters of one view are tried again by whoever has the partition.
    async fn replay(&mut self) {
        let view = VIEWS[self.seeded.below(VIEWS.len() as u64) as usize];
        let all =
            DeadLetterQuery { transform: Some(view.into()), stream: None, ids: None, reach: None, limit: usize::MAX, bytes_max: None };
        let letters = self.store.dead_letters().list(&all).await.expect("memory never fails");
        let ids: std::collections::BTreeSet<_> = letters.into_iter().map(|letter| letter.id).collect();
        for running in self.hosts.iter().filter_map(|host| host.running.as_ref()).filter(|_| !ids.is_empty()) {
            // Nobody waits for the answer.
            let _ = running.replays.try_send(Replay { ids: ids.clone(), reply: oneshot::channel().0 });
        }
    }

    /// Nothing fails any more, and everything comes to its end.
    async fn finish(&mut self) -> Result<(), Wrong> {
        self.store.heal();
        self.stream.heal();
        (0..self.hosts.len()).for_each(|host| self.start(host));
        self.stream.append(1 + self.seeded.below(5));
        let all = self.stream.events().len();
        for _ in 0..2_000 {
            if self.store.applied_entries() >= all && self.stream.is_settled() {
                return Ok(());
            }
            pass(Duration::from_millis(50)).await;
        }
        Err(format!(
            "{} of {all} entries were applied in the end, and settled is {}",
            self.store.applied_entries(),
            self.stream.is_settled()
        ))
    }
}
