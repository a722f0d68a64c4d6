//! The event path between a source that follows a script and a store in memory: what becomes of each error, and of what is tried again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use gristmill::conformance::guest::Guest;
use gristmill::decode::Route;
use gristmill::model::{Aggregate, Aggregation, Value, aggregation};
use gristmill::model::{
    DeadLetterId, DeadLetterQuery, Entries, EntryId, Format, Kept, KeyPart, Maker, Partition, Partitioning, Reason, View, row_key,
};
use gristmill::online_store::memory::MemoryStore;
use gristmill::online_store::{OnlineStore, Writers};
use gristmill::pipeline::{Binding, Emit, Health, OtherStates, Others, Pipeline, Replay, Replayed, Transforms};
use gristmill::source::scripted::{Script, ScriptedSource};
use gristmill::source::{Delivery, Error, Source};
use gristmill::telemetry::Telemetry;
use gristmill::transform::{Engine, EngineOptions, Limits};
use gristmill::window::{Entity, Plan};
use gristmill_tests::host::DEADLINE;
use tokio::sync::{mpsc, oneshot, watch};

const FORMAT: Format = Format::Fields;

/// A pipeline at work.
struct Work {
    script: Script,
    store: Arc<MemoryStore>,
    transforms: Arc<ArcSwap<Transforms>>,
    engine: Engine,
    telemetry: Telemetry,
    replays: mpsc::Sender<Replay>,
    health: watch::Receiver<Health>,
}

impl Work {
    async fn start(guest: &Guest) -> Work {
        Work::keeping(guest, Kept::default()).await
    }

    /// With a view that keeps more than the newest row.
    async fn keeping(guest: &Guest, kept: Kept) -> Work {
        Work::emitting(guest, kept, None).await
    }

    /// Whose rows go on.
    async fn emitting(guest: &Guest, kept: Kept, emit: Option<Emit>) -> Work {
        let engine = Engine::new(EngineOptions { instances_max: 8, instances_per_transform_max: 2, ..EngineOptions::default() }).unwrap();
        let (store, telemetry) = (Arc::new(MemoryStore::new(100)), Telemetry::new());
        let transforms = Arc::new(ArcSwap::from_pointee(bound(&engine, &store, &telemetry, guest, kept, emit).await));
        let (source, script) = ScriptedSource::new([]);
        // A script is followed once; a source that is opened again goes on where the last one stopped.
        let source: Arc<dyn Source> = Arc::new(source);
        let (replays, requests) = mpsc::channel(1);
        let (health_sender, health) = watch::channel(Health::Starting);
        let pipeline = Pipeline {
            changes: Arc::default(),
            partition: Partition { stream: "events".into(), group: "group".into(), index: 0, tag: String::new() },
            writers: Writers::Single { holder: "test".into(), lease_ms: 300 },
            turn: None,
            store: Arc::clone(&store) as Arc<dyn OnlineStore>,
            open_source: Box::new(move |_| {
                let source = Arc::clone(&source);
                Box::pin(async move { Ok(source) })
            }),
            begin: None,
            format: FORMAT,
            batch_events_max: 100,
            transforms: Arc::clone(&transforms),
            telemetry: telemetry.stream("events", "group"),
            health: health_sender,
            progress: watch::Sender::new(None),
        };
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            pipeline.run(requests, stopped).await;
            drop(stop);
        });
        Work { script, store, transforms, engine, telemetry, replays, health }
    }

    fn deliver(&self, keys: impl IntoIterator<Item = i64>) -> Vec<EntryId> {
        let entries = entries(keys.into_iter().map(|key| (key, key.to_string())));
        let ids = entries.ids().collect();
        self.script.add(Ok(Delivery { entries, ..Delivery::default() }));
        ids
    }

    /// Waits until the host has acknowledged so many entries; which.
    async fn acknowledged(&self, count: usize) -> Vec<EntryId> {
        self.until("the acknowledgements", || Some(self.script.acknowledged()).filter(|ids| ids.len() >= count)).await
    }

    async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let seen = async {
            loop {
                if let Some(seen) = look() {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    async fn has_row(&self, key: i64) -> bool {
        self.store.read(&[row_key("view", [KeyPart::Integer(key)]).unwrap()]).await.unwrap()[0].is_some()
    }

    async fn letters(&self) -> Vec<(EntryId, Reason)> {
        let all = DeadLetterQuery { transform: None, stream: None, ids: None, reach: None, limit: 100, bytes_max: None };
        let letters = self.store.dead_letters().list(&all).await.unwrap();
        letters.into_iter().map(|letter| (letter.id.entry_id, letter.reason)).collect()
    }
}

async fn bound(engine: &Engine, store: &MemoryStore, telemetry: &Telemetry, guest: &Guest, kept: Kept, emit: Option<Emit>) -> Transforms {
    let transform = engine.load("view", &guest.component().unwrap(), "", Limits::default()).unwrap();
    let spec = transform.spec();
    let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
    let view = View {
        name: "view".into(),
        doc: String::new(),
        stream: Some("events".into()),
        partitioning: None,
        component: transform.digest(),
        version: spec.version.clone(),
        entity,
        features: spec.outputs.clone(),
        windows: aggregation::fields(&spec.outputs, &kept.aggregations).unwrap(),
        kept: kept.clone(),
        max_age_secs: None,
        expire_secs: None,
        fold: false,
        types: Default::default(),
        request: Vec::new(),
        uses: Vec::new(),
    };
    let schema = store.intern(&view.schema(None, None)).await.unwrap();
    let known = store.schemas().await.unwrap().into_iter().map(|(id, _)| id).collect();
    let plan = (!kept.is_nothing()).then(|| Arc::new(Plan::new(&transform.spec().outputs, &kept)));
    let maker = Maker { component: transform.digest(), version: transform.spec().version.clone(), options: String::new() };
    let binding = Binding {
        transform,
        maker,
        view: Arc::new(view),
        schema,
        inputs: Vec::new(),
        others: Others::new(OtherStates { schemas: known, ..OtherStates::default() }),
        kept: plan,
        emit,
        lasting: None,
        forgets: Default::default(),
        entity_bytes_max: 2 << 20,
        ahead_max_secs: None,
        bisect_ms_max: 1_000,
        shadow: Default::default(),
        telemetry: telemetry.transform("view"),
    };
    Transforms::new(FORMAT, vec![Arc::new(binding)]).unwrap()
}

/// Entries with the one field `key`; their ids follow the number.
fn entries(of: impl IntoIterator<Item = (i64, String)>) -> Entries {
    let mut entries = Entries::default();
    for (number, key) in of {
        entries.push(EntryId { ms: 1_700_000_000_000 + number as u64, seq: 0 }, [(&b"key"[..], key.as_bytes())]);
    }
    entries
}

/// A guest that refuses the whole batch.
fn failing() -> Guest {
    let mut guest = Guest::doubling();
    guest.apply = "unreachable".into();
    guest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_acknowledged_is_owed_and_goes_with_the_next() {
    let work = Work::start(&Guest::doubling()).await;
    work.script.refuse_acknowledgement(Error::Unreachable { address: "nowhere".into(), reason: "cut".into() });
    let first = work.deliver(1..=3);
    work.until("the first batch", || Some(()).filter(|()| work.telemetry.snapshot().entries_settled == 3)).await;
    assert!(work.has_row(3).await, "the store has what was not acknowledged");
    let second = work.deliver(4..=5);
    assert_eq!(work.acknowledged(5).await, [first, second].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_and_delivered_again_counts_once_in_a_window() {
    let count =
        Aggregation { feature: "n".into(), column: "double".into(), function: Aggregate::Count, window_ms: None, doc: String::new() };
    let kept = Kept { aggregations: vec![count], ..Kept::default() };
    let work = Work::keeping(&Guest::doubling(), kept.clone()).await;
    for _ in 0..2 {
        work.script.refuse_acknowledgement(Error::Unreachable { address: "nowhere".into(), reason: "cut".into() });
    }
    let again = |keys: std::ops::RangeInclusive<i64>| {
        let entries = entries(keys.map(|key| (key, key.to_string())));
        work.script.add(Ok(Delivery { entries, redelivered: true, ..Delivery::default() }));
    };
    work.deliver(1..=3);
    // All that is owed, some of it and something new, and the first again once everything is acknowledged.
    again(1..=3);
    again(2..=4);
    work.until("the batch after those", || Some(()).filter(|()| work.telemetry.snapshot().entries_settled >= 4)).await;
    work.acknowledged(4).await;
    again(1..=3);
    work.deliver(5..=5);
    work.until("the last batch", || Some(()).filter(|()| work.telemetry.snapshot().entries_settled >= 5)).await;
    for key in 1..=5 {
        let stored = work.store.read(&[row_key("view", [KeyPart::Integer(key)]).unwrap()]).await.unwrap()[0].clone().unwrap();
        let plan = Plan::new(&Guest::doubling().spec.outputs, &kept);
        let entity = Entity::read(&stored, &plan).unwrap();
        let mut counts = Vec::new();
        let push = |value: Option<Value<'_>>| counts.push(matches!(value, Some(Value::Integer(1))));
        entity.finish(&plan, gristmill::model::Timestamp::now(), push).unwrap();
        assert_eq!(counts, [true], "the event of {key} counts once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_paid_on_a_quiet_stream_too() {
    let work = Work::start(&Guest::doubling()).await;
    work.script.refuse_acknowledgement(Error::Unreachable { address: "nowhere".into(), reason: "cut".into() });
    let all = work.deliver(1..=3);
    assert_eq!(work.acknowledged(3).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_is_read_again() {
    let work = Work::start(&Guest::doubling()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..5 {
        work.script.add(Err(Error::Unreachable { address: "nowhere".into(), reason: "cut".into() }));
        seen.lock().unwrap().extend(work.deliver([number]));
    }
    assert_eq!(work.acknowledged(5).await, *seen.lock().unwrap());
    assert_eq!(*work.health.borrow(), Health::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_delivered_too_often_become_dead_letters_untried_and_losses_are_counted() {
    let work = Work::start(&Guest::doubling()).await;
    let entries = entries((1..=3).map(|key| (key, key.to_string())));
    let ids: Vec<EntryId> = entries.ids().collect();
    work.script.add(Ok(Delivery { entries, redelivered: true, exhausted: vec![ids[1]], lost: 7, ..Delivery::default() }));
    assert_eq!(work.acknowledged(3).await, ids);
    assert_eq!(work.letters().await, [(ids[1], Reason::Deliveries)]);
    assert!(work.has_row(1).await && !work.has_row(2).await && work.has_row(3).await);
    assert_eq!(work.telemetry.snapshot().entries_lost, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_settles_what_a_mended_transform_can_use_and_keeps_the_rest() {
    let work = Work::start(&failing()).await;
    work.script.add(Ok(Delivery { entries: entries([(1, "1".into()), (2, "two".into()), (3, "3".into())]), ..Delivery::default() }));
    let ids = work.acknowledged(3).await;
    assert_eq!(work.letters().await.len(), 3);
    work.transforms.store(Arc::new(bound(&work.engine, &work.store, &work.telemetry, &Guest::doubling(), Kept::default(), None).await));
    let all = DeadLetterQuery { transform: None, stream: None, ids: None, reach: None, limit: 100, bytes_max: None };
    let letters: BTreeSet<DeadLetterId> = work.store.dead_letters().list(&all).await.unwrap().into_iter().map(|letter| letter.id).collect();
    // The second finds what the first has left.
    for outcome in [Replayed { tried: 3, settled: 2 }, Replayed { tried: 1, settled: 0 }] {
        let (reply, answer) = oneshot::channel();
        work.replays.send(Replay { ids: letters.clone(), reply }).await.ok().unwrap();
        assert_eq!(answer.await.unwrap(), Ok(outcome));
    }
    assert!(work.has_row(1).await && work.has_row(3).await);
    assert_eq!(work.letters().await, [(ids[1], Reason::Decode)]);
}

/// The check at load leaves no way to this; should there be one all the same, nothing is lost on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_rows_have_no_partition_to_go_on_to_is_a_dead_letter_and_counts_nowhere() {
    let count =
        Aggregation { feature: "n".into(), column: "double".into(), function: Aggregate::Count, window_ms: None, doc: String::new() };
    for kept in [Kept::default(), Kept { aggregations: vec![count], ..Kept::default() }] {
        let route = Route::new(FORMAT, Partitioning { key: "on".into(), count: 4, by: vec!["absent".into()] });
        let emit = Emit { stream: "on".into(), format: FORMAT, route: Some(Arc::new(route)) };
        let work = Work::emitting(&Guest::doubling(), kept, Some(emit)).await;
        let ids = work.deliver(1..=3);
        assert_eq!(work.acknowledged(3).await, ids);
        let letters = work.letters().await;
        assert_eq!(letters.len(), 3);
        for (id, reason) in letters {
            assert!(ids.contains(&id) && reason == Reason::Unroutable, "{id} {reason:?}");
        }
        for key in 1..=3 {
            assert!(!work.has_row(key).await, "the event of {key} is a dead letter, and cannot be a row too");
        }
    }
}
