//! What every online store must do, as functions over the trait. `tests/tests/stores.rs` runs all of them for every implementation.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill::model::{
    Aggregate, Aggregation, Commit, DeadLetter, DeadLetterId, DeadLetterQuery, Digest, ENTITY_FORMAT, EntryId, Field, Kept, Kind,
    Partition, Place, Put, RawField, Reason, Rows, Schema, SchemaId, Timestamp, Version, pack_row,
};
use gristmill::online_store::{DeadLetterCount, Error, OnlineStore, Writer, Writers};

/// Opens stores that all see the same data, one after the other: opening again after dropping is a restart.
pub trait Factory: Send + Sync {
    /// Opens the store.
    fn open(&self) -> Arc<dyn OnlineStore>;
    /// Whether what was committed is there after everything was dropped and opened again.
    fn durable(&self) -> bool;
    /// Dead letters that the store is opened to keep, at most; at least 4 and at most 1,000.
    fn dead_letters_max(&self) -> u64;
}

/// A test over one fresh, empty store.
pub type Check = fn(Box<dyn Factory>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// All of them, by name.
pub const CHECKS: &[(&str, Check)] = &[
    ("rows_round_trip", |factory| Box::pin(rows_round_trip(factory))),
    ("newest_wins_in_any_order", |factory| Box::pin(newest_wins_in_any_order(factory))),
    ("equal_time_higher_entry_id_wins", |factory| Box::pin(equal_time_higher_entry_id_wins(factory))),
    ("equal_version_keeps_what_is_stored", |factory| Box::pin(equal_version_keeps_what_is_stored(factory))),
    ("fenced_writer_applies_nothing", |factory| Box::pin(fenced_writer_applies_nothing(factory))),
    ("commit_is_applied_once", |factory| Box::pin(commit_is_applied_once(factory))),
    ("commit_out_of_turn_is_refused", |factory| Box::pin(commit_out_of_turn_is_refused(factory))),
    ("place_survives_and_never_falls", |factory| Box::pin(place_survives_and_never_falls(factory))),
    ("expired_rows_are_gone", |factory| Box::pin(expired_rows_are_gone(factory))),
    ("puts_replace_whatever_is_there_and_take_away", |factory| Box::pin(puts_replace_whatever_is_there_and_take_away(factory))),
    ("what_two_writers_put_into_one_view_is_never_lost", |factory| Box::pin(what_two_writers_put_into_one_view_is_never_lost(factory))),
    ("what_has_changed_since_it_was_read_is_not_put_over", |factory| Box::pin(what_has_changed_since_it_was_read_is_not_put_over(factory))),
    ("rows_after_an_entity_are_compared_with_it", |factory| Box::pin(rows_after_an_entity_are_compared_with_it(factory))),
    ("a_sample_is_of_its_prefix", |factory| Box::pin(a_sample_is_of_its_prefix(factory))),
    ("many_keys", |factory| Box::pin(many_keys(factory))),
    ("big_rows", |factory| Box::pin(big_rows(factory))),
    ("empty_commits_count", |factory| Box::pin(empty_commits_count(factory))),
    ("dead_letters_add_list_drop", |factory| Box::pin(dead_letters_add_list_drop(factory))),
    ("dead_letters_replace_and_settle", |factory| Box::pin(dead_letters_replace_and_settle(factory))),
    ("dead_letters_are_bounded", |factory| Box::pin(dead_letters_are_bounded(factory))),
    ("dead_letters_are_bounded_however_many_come", |factory| Box::pin(dead_letters_are_bounded_however_many_come(factory))),
    ("schemas_are_stable", |factory| Box::pin(schemas_are_stable(factory))),
    ("readers_see_whole_rows", |factory| Box::pin(readers_see_whole_rows(factory))),
];

/// The only writer of a partition, as the pipeline opens it.
pub fn single() -> Writers {
    Writers::Single { holder: "host-a".into(), lease_ms: 10_000 }
}

/// A partition of the stream `s`.
pub fn partition(index: u32) -> Partition {
    Partition { stream: "s".into(), group: "g".into(), index, tag: String::new() }
}

/// The version of an event at `time` brought by entry `1-seq`.
pub fn version(time: i64, seq: u64) -> Version {
    Version { event_time: Timestamp(time), entry_id: EntryId { ms: 1, seq } }
}

/// A packed row without columns, followed by `payload`: stores must not look behind the header.
pub fn row(version: Version, payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    pack_row(&mut packed, version, SchemaId(1), &[], 0);
    packed.extend_from_slice(payload);
    packed
}

/// Commit `number` of these rows.
pub fn commit_of<K: AsRef<[u8]>>(number: u64, rows_in: &[(K, Version, Vec<u8>)]) -> Commit {
    let mut rows = Rows::default();
    for (key, version, packed) in rows_in {
        rows.push(key.as_ref(), packed, *version, None);
    }
    Commit { number, last: Some(EntryId { ms: 1, seq: number }), rows, ..Commit::default() }
}

async fn writer(store: &Arc<dyn OnlineStore>) -> Box<dyn Writer> {
    store.writer(&partition(0), &single()).await.unwrap()
}

async fn read_one(store: &Arc<dyn OnlineStore>, key: &[u8]) -> Option<Vec<u8>> {
    store.read(&[key.to_vec()]).await.unwrap().remove(0).map(|row| row.to_vec())
}

/// The store after a restart, if it lasts over one.
fn opened_again(store: Arc<dyn OnlineStore>, factory: &dyn Factory) -> Arc<dyn OnlineStore> {
    if !factory.durable() {
        return store;
    }
    drop(store);
    factory.open()
}

async fn rows_round_trip(factory: Box<dyn Factory>) {
    let mut store = factory.open();
    let (one, two) = (row(version(5, 1), b"one"), row(version(-3, 2), b"two\0\xff"));
    let commit = commit_of(1, &[(b"v:1", version(5, 1), one.clone()), (b"v:2", version(-3, 2), two.clone())]);
    writer(&store).await.commit(&commit).await.unwrap();
    for reopened in [false, factory.durable()] {
        if reopened {
            drop(store);
            store = factory.open();
        }
        let found = store.read(&[b"v:2".to_vec(), b"v:none".to_vec(), b"v:1".to_vec(), b"v:2".to_vec()]).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|row| row.map(|row| row.to_vec())).collect();
        assert_eq!(found, [Some(two.clone()), None, Some(one.clone()), Some(two.clone())]);
    }
    assert!(store.read(&[]).await.unwrap().is_empty());
    store.check().await.unwrap();
}

/// Rows of few keys in every order, in commits of changing size, with restarts: the store holds the greatest version of each key.
async fn newest_wins_in_any_order(factory: Box<dyn Factory>) {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let commits = prop::collection::vec((prop::collection::btree_map(0u8..12, (-20i64..20, 1u64..6), 0..10), any::<bool>()), 120);
    let commits = commits.new_tree(&mut runner).unwrap().current();
    let mut model: HashMap<u8, Version> = HashMap::new();
    let mut store = factory.open();
    let mut open = writer(&store).await;
    for (index, (rows, restart)) in commits.into_iter().enumerate() {
        let mut listed = Vec::new();
        for (key, (time, seq)) in rows {
            let version = version(time, seq);
            let newest = model.entry(key).or_insert(version);
            *newest = (*newest).max(version);
            listed.push((format!("v:{key}"), version, row(version, b"x")));
        }
        open.commit(&commit_of(index as u64 + 1, &listed)).await.unwrap();
        if restart && index % 10 == 0 && factory.durable() {
            drop((open, store));
            store = factory.open();
            open = writer(&store).await;
        }
        for (key, version) in &model {
            assert_eq!(read_one(&store, format!("v:{key}").as_bytes()).await, Some(row(*version, b"x")), "key {key}, commit {index}");
        }
    }
}

async fn equal_time_higher_entry_id_wins(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    for (number, seq) in [(1, 5), (2, 9), (3, 7)] {
        writer.commit(&commit_of(number, &[(b"v:1", version(1, seq), row(version(1, seq), b""))])).await.unwrap();
    }
    assert_eq!(read_one(&store, b"v:1").await, Some(row(version(1, 9), b"")));
}

async fn equal_version_keeps_what_is_stored(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    for (number, payload) in [(1, b"first"), (2, b"again")] {
        writer.commit(&commit_of(number, &[(b"v:1", version(1, 1), row(version(1, 1), payload))])).await.unwrap();
    }
    assert_eq!(read_one(&store, b"v:1").await, Some(row(version(1, 1), b"first")));
}

async fn fenced_writer_applies_nothing(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut first = writer(&store).await;
    first.commit(&commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b""))])).await.unwrap();
    let mut second = writer(&store).await;
    assert_eq!(second.place().commits, 1);
    let mut late = commit_of(2, &[(b"v:1", version(9, 9), row(version(9, 9), b""))]);
    late.dead_letters.push(letter(1, "t", 1, "late"));
    assert!(matches!(first.commit(&late).await, Err(Error::Fenced { .. })));
    assert!(matches!(first.renew().await, Err(Error::Fenced { .. })));
    assert_eq!(read_one(&store, b"v:1").await, Some(row(version(1, 1), b"")));
    assert_eq!(store.dead_letters().count().await.unwrap().kept, 0);
    second.renew().await.unwrap();
    second.commit(&commit_of(2, &[(b"v:1", version(2, 2), row(version(2, 2), b""))])).await.unwrap();
    assert_eq!(second.place().commits, 2);
    // Another partition is another lease.
    store.writer(&partition(1), &single()).await.unwrap();
    second.renew().await.unwrap();
    second.release().await.unwrap();
}

async fn commit_is_applied_once(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    writer.commit(&commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b""))])).await.unwrap();
    let mut again = commit_of(1, &[(b"v:1", version(7, 7), row(version(7, 7), b""))]);
    again.dead_letters.push(letter(1, "t", 1, "again"));
    writer.commit(&again).await.unwrap();
    assert_eq!(writer.place().commits, 1);
    assert_eq!(read_one(&store, b"v:1").await, Some(row(version(1, 1), b"")));
    assert_eq!(store.dead_letters().count().await.unwrap().kept, 0);
}

async fn commit_out_of_turn_is_refused(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    let early = commit_of(3, &[(b"v:1", version(1, 1), row(version(1, 1), b""))]);
    assert!(matches!(writer.commit(&early).await, Err(Error::PlaceLost { .. })));
    assert_eq!(read_one(&store, b"v:1").await, None);
}

async fn place_survives_and_never_falls(factory: Box<dyn Factory>) {
    let mut store = factory.open();
    let mut open = writer(&store).await;
    assert_eq!(open.place(), Place::default());
    for (number, seq) in [(1, 10), (2, 4)] {
        let last = Some(EntryId { ms: 2, seq });
        open.commit(&Commit { number, last, ..Commit::default() }).await.unwrap();
    }
    open.commit(&Commit { number: 3, last: None, ..Commit::default() }).await.unwrap();
    let expected = Place { last: Some(EntryId { ms: 2, seq: 10 }), commits: 3 };
    assert_eq!(open.place(), expected);
    drop(open);
    if factory.durable() {
        drop(store);
        store = factory.open();
    }
    assert_eq!(writer(&store).await.place(), expected);
    assert_eq!(store.writer(&partition(1), &single()).await.unwrap().place(), Place::default());
}

async fn expired_rows_are_gone(factory: Box<dyn Factory>) {
    let store = factory.open();
    let now = Timestamp::now().0;
    let mut rows = Rows::default();
    rows.push(b"v:past", &row(version(1, 1), b""), version(1, 1), Some(Timestamp(now - 1_000_000)));
    rows.push(b"v:future", &row(version(1, 1), b""), version(1, 1), Some(Timestamp(now + 3_600_000_000)));
    let mut writer = writer(&store).await;
    writer.commit(&Commit { number: 1, rows, ..Commit::default() }).await.unwrap();
    assert_eq!(read_one(&store, b"v:past").await, None);
    assert!(read_one(&store, b"v:future").await.is_some());
    // What has expired does not stand in the way of an older row.
    writer.commit(&commit_of(2, &[(b"v:past", version(0, 1), row(version(0, 1), b""))])).await.unwrap();
    assert_eq!(read_one(&store, b"v:past").await, Some(row(version(0, 1), b"")));
}

fn put(key: &[u8], value: Option<&[u8]>, expires_at: Option<Timestamp>) -> Put {
    Put { key: key.to_vec(), value: value.map(Bytes::copy_from_slice), expires_at }
}

fn commit_of_puts(number: u64, all: impl IntoIterator<Item = Put>) -> Commit {
    let mut commit = Commit { number, ..Commit::default() };
    all.into_iter().for_each(|put| commit.puts.push(put));
    commit
}

async fn puts_replace_whatever_is_there_and_take_away(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut first = writer(&store).await;
    let long = vec![7_u8; 100_000];
    let entity = [&[ENTITY_FORMAT][..], &version(9, 1).to_bytes(), &[0, 0, 0, 1], b"newer"].concat();
    let older = [&[ENTITY_FORMAT][..], &version(3, 1).to_bytes(), &[0, 0, 0, 1], b"older"].concat();
    let puts = [
        put(b"v:a", Some(&entity), None),
        put(b"~v:a", Some(b"state"), None),
        put(b"~v:b", Some(&long), None),
        put(b"~v:c", Some(b""), None),
    ];
    commit_first(&mut *first, 1, puts.to_vec()).await;
    assert_eq!(read_one(&store, b"v:a").await.unwrap(), entity);
    assert_eq!(read_one(&store, b"~v:b").await.unwrap(), long);
    assert_eq!(read_one(&store, b"~v:c").await.unwrap(), b"");
    // Neither a version nor what is there has a say, and a commit that comes twice changes nothing.
    let past = Timestamp(Timestamp::now().0 - 1_000_000);
    let puts =
        || [put(b"v:a", Some(&older), None), put(b"~v:a", None, None), put(b"~v:c", Some(b"gone"), Some(past)), put(b"~v:d", None, None)];
    first.commit(&commit_of_puts(2, puts())).await.unwrap();
    first.commit(&commit_of_puts(2, [put(b"v:a", Some(&entity), None)])).await.unwrap();
    drop(first);
    let store = opened_again(store, &*factory);
    assert_eq!(read_one(&store, b"v:a").await.unwrap(), older);
    assert_eq!(read_one(&store, b"~v:a").await, None);
    assert_eq!(read_one(&store, b"~v:b").await.unwrap(), long);
    assert_eq!(read_one(&store, b"~v:c").await, None);
}

/// Commits what is made of the values under these keys, as often as that has changed meanwhile. A writer may be told once that it is not alone, even if it is.
async fn commit_anew(store: &Arc<dyn OnlineStore>, writer: &mut dyn Writer, keys: &[Vec<u8>], make: fn(&[Option<Bytes>]) -> Vec<Put>) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let found = store.read(keys).await.unwrap();
        let commit = commit_of_puts(writer.place().commits + 1, make(&found));
        match writer.commit(&commit).await {
            Ok(()) => return,
            Err(Error::Outdated { view }) => assert_eq!(view, "v"),
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
    panic!("what is stored changes all the time");
}

/// Two partitions count in the same entity and state, each from what it finds.
async fn what_two_writers_put_into_one_view_is_never_lost(factory: Box<dyn Factory>) {
    const COUNTS: u64 = 60;
    let store = factory.open();
    let count = |index: u32, store: Arc<dyn OnlineStore>| async move {
        let mut writer = store.writer(&partition(index), &single()).await.unwrap();
        let make = |found: &[Option<Bytes>]| {
            let counted = found.iter().map(|found| found.as_ref().map_or(0, |found| u64::from_be_bytes(*found.last_chunk().unwrap())) + 1);
            let entity = |count: u64| [&[ENTITY_FORMAT][..], &version(1, 1).to_bytes(), &[0, 0, 0, 1], &count.to_be_bytes()].concat();
            let puts = [b"v:a".as_slice(), b"~v:a"].into_iter().zip(counted).map(|(key, count)| put(key, Some(&entity(count)), None));
            // What is the writers' own is nobody's view.
            puts.chain([put(b"~~applied:own", Some(b"own"), None)]).collect()
        };
        for _ in 0..COUNTS {
            commit_anew(&store, &mut *writer, &[b"v:a".to_vec(), b"~v:a".to_vec()], make).await;
        }
    };
    tokio::join!(count(0, Arc::clone(&store)), count(1, Arc::clone(&store)));
    for key in [&b"v:a"[..], b"~v:a"] {
        let found = read_one(&store, key).await.unwrap();
        assert_eq!(u64::from_be_bytes(*found.last_chunk().unwrap()), 2 * COUNTS);
    }
}

/// The first commit of puts, of which stores that do not know who else writes ask for another.
async fn commit_first(writer: &mut dyn Writer, number: u64, puts: Vec<Put>) {
    match writer.commit(&commit_of_puts(number, puts.clone())).await {
        Err(Error::Outdated { .. }) => writer.commit(&commit_of_puts(number, puts)).await.unwrap(),
        done => done.unwrap(),
    }
}

/// Competing writers put what is made of what they have read, and none of it is lost: whoever reads before another one's commit and commits after it makes it anew.
async fn what_has_changed_since_it_was_read_is_not_put_over(factory: Box<dyn Factory>) {
    let store = factory.open();
    let competing = |index: u32| Partition { group: format!("g{index}"), ..partition(index) };
    let mut one = store.writer(&competing(0), &Writers::Competing).await.unwrap();
    let mut other = store.writer(&competing(1), &Writers::Competing).await.unwrap();
    let entity = |time: i64| {
        let mut entity = row(version(time, 1), b"entity");
        entity[0] = ENTITY_FORMAT;
        entity
    };
    let of = |number: u64, keys: &[&[u8]], value: &[u8]| {
        let mut commit = Commit { number, ..Commit::default() };
        keys.iter().for_each(|key| commit.puts.push(put(key, Some(value), None)));
        commit
    };
    let keys = [b"v:1".to_vec(), b"v:2".to_vec()];
    assert_eq!(one.read(&keys).await.unwrap(), [None, None]);
    // Nobody has written meanwhile; the first claim of the view by another one may need one more turn.
    commit_read(&mut one, &keys, &of(1, &[b"v:1", b"v:2"], &entity(1))).await;
    assert_eq!(one.read(&keys).await.unwrap().len(), 2);
    commit_read(&mut other, &keys[..1], &of(1, &[b"v:1"], &entity(2))).await;
    let place = one.place();
    let stale = one.commit(&of(2, &[b"v:1", b"v:2"], &entity(3))).await;
    assert!(matches!(&stale, Err(Error::Outdated { view }) if view == "v"), "{stale:?}");
    assert_eq!(read_one(&store, b"v:1").await, Some(entity(2)));
    assert_eq!(read_one(&store, b"v:2").await, Some(entity(1)), "nothing of it is applied");
    assert_eq!(one.place(), place);
    commit_read(&mut one, &keys, &of(2, &[b"v:1", b"v:2"], &entity(3))).await;
    assert_eq!(read_one(&store, b"v:1").await, Some(entity(3)));
    // A row that comes in between counts too, and one that has been read as missing.
    let keys = [b"v:3".to_vec()];
    assert_eq!(one.read(&keys).await.unwrap(), [None]);
    let mut rows = commit_of(2, &[(b"v:3", version(9, 1), row(version(9, 1), b"row"))]);
    rows.last = None;
    other.commit(&rows).await.unwrap();
    let stale = one.commit(&of(3, &[b"v:3"], &entity(3))).await;
    assert!(matches!(stale, Err(Error::Outdated { .. })), "{stale:?}");
    // What is not read is not looked at.
    assert_eq!(one.read(&[b"v:4".to_vec()]).await.unwrap(), [None]);
    other.commit(&commit_of(3, &[(b"v:3", version(10, 1), row(version(10, 1), b"row"))])).await.unwrap();
    commit_read(&mut one, &[b"v:4".to_vec()], &of(3, &[b"v:4"], &entity(4))).await;
    assert_eq!(read_one(&store, b"v:4").await, Some(entity(4)));
}

/// Commits what is made of what is stored, once more where the view was another writer's until now.
async fn commit_read(writer: &mut Box<dyn Writer>, keys: &[Vec<u8>], commit: &Commit) {
    for _ in 0..2 {
        writer.read(keys).await.unwrap();
        match writer.commit(commit).await {
            Err(Error::Outdated { .. }) => {}
            committed => return committed.unwrap(),
        }
    }
    panic!("nobody else writes, and it is outdated");
}

async fn rows_after_an_entity_are_compared_with_it(factory: Box<dyn Factory>) {
    for is_reopened in [true, false] {
        let mut store = factory.open();
        let mut first = writer(&store).await;
        let (number, view) = if is_reopened { (1, "v") } else { (3, "w") };
        let [a, b] = ["a", "b"].map(|entity| format!("{view}:{entity}").into_bytes());
        let entity = [&[ENTITY_FORMAT][..], &version(9, 1).to_bytes(), &[0, 0, 0, 1], b"entity"].concat();
        commit_first(&mut *first, number, vec![put(&a, Some(&entity), None), put(&b, Some(&entity), None)]).await;
        if is_reopened {
            drop(first);
            store = opened_again(store, &*factory);
            first = writer(&store).await;
        }
        // The view keeps no more than rows from now on.
        let rows = [(&a, version(8, 1), row(version(8, 1), b"late")), (&b, version(10, 1), row(version(10, 1), b"newer"))];
        first.commit(&commit_of(number + 1, &rows)).await.unwrap();
        assert_eq!(read_one(&store, &a).await.unwrap(), entity);
        assert_eq!(read_one(&store, &b).await.unwrap(), row(version(10, 1), b"newer"));
    }
}

async fn a_sample_is_of_its_prefix(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut first = writer(&store).await;
    let keys = (0..50).map(|number| format!("~v*:{number}")).chain(["~v:1".into(), "~vx:2".into(), "v*:3".into()]);
    commit_first(&mut *first, 1, keys.map(|key| put(key.as_bytes(), Some(key.as_bytes()), None)).collect()).await;
    let mut found = store.sample(b"~v*:", 1_000).await.unwrap();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|value| value.starts_with(b"~v*:")), "{found:?}");
    assert_eq!(store.sample(b"~v*:", 7).await.unwrap().len(), 7);
    assert!(store.sample(b"~nothing:", 7).await.unwrap().is_empty());
}

async fn many_keys(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    let keys: Vec<_> = (0..20_000).map(|key| format!("v:{key}").into_bytes()).collect();
    for (number, chunk) in (1..).zip(keys.chunks(5_000)) {
        let rows: Vec<_> = chunk.iter().map(|key| (key, version(1, 1), row(version(1, 1), key))).collect();
        writer.commit(&commit_of(number, &rows)).await.unwrap();
    }
    let found = store.read(&keys).await.unwrap();
    let right = |(key, row_found): (&Vec<u8>, &Option<_>)| row_found.as_deref() == Some(&row(version(1, 1), key)[..]);
    assert!(keys.iter().zip(&found).all(right));
    assert_eq!(found.len(), keys.len());
}

async fn big_rows(factory: Box<dyn Factory>) {
    let store = factory.open();
    let payload: Vec<u8> = (0..1 << 20).map(|byte| (byte % 251) as u8).collect();
    let mut writer = writer(&store).await;
    for number in 1..=3 {
        let version = version(number as i64, number);
        writer.commit(&commit_of(number, &[(b"v:big", version, row(version, &payload))])).await.unwrap();
        assert!(read_one(&store, b"v:big").await == Some(row(version, &payload)), "commit {number}");
    }
}

async fn empty_commits_count(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    let commit = Commit { number: 1, ..Commit::default() };
    assert!(commit.is_empty());
    writer.commit(&commit).await.unwrap();
    assert_eq!(writer.place(), Place { last: None, commits: 1 });
}

fn letter(seq: u64, transform: &str, at: i64, message: &str) -> DeadLetter {
    let id = DeadLetterId { stream: "s/1".into(), partition: None, entry_id: EntryId { ms: 1, seq }, transform: transform.into() };
    let event = vec![RawField { name: b"n".to_vec(), value: vec![0xff, 0] }];
    DeadLetter { id, reason: Reason::Rejected, message: message.into(), component: Digest([7; 32]), at: Timestamp(at), event }
}

fn all() -> DeadLetterQuery {
    DeadLetterQuery { limit: usize::MAX, ..DeadLetterQuery::default() }
}

async fn dead_letters_add_list_drop(factory: Box<dyn Factory>) {
    let mut store = factory.open();
    let letters = vec![letter(1, "a", 10, "one"), letter(2, "b", 30, "two"), letter(3, "a", 20, "three")];
    let commit = Commit { number: 1, dead_letters: letters.clone(), ..Commit::default() };
    writer(&store).await.commit(&commit).await.unwrap();
    if factory.durable() {
        drop(store);
        store = factory.open();
    }
    let letters_kept = store.dead_letters();
    let newest_first = [letters[1].clone(), letters[2].clone(), letters[0].clone()];
    assert_eq!(letters_kept.list(&all()).await.unwrap(), newest_first);
    assert_eq!(letters_kept.list(&DeadLetterQuery { limit: 2, ..all() }).await.unwrap(), newest_first[..2]);
    let of_a = DeadLetterQuery { transform: Some("a".into()), ..all() };
    assert_eq!(letters_kept.list(&of_a).await.unwrap(), newest_first[1..]);
    assert!(letters_kept.list(&DeadLetterQuery { stream: Some("other".into()), ..all() }).await.unwrap().is_empty());
    let named = DeadLetterQuery { ids: Some([letters[0].id.clone(), letters[2].id.clone(), letter(9, "a", 0, "").id].into()), ..all() };
    assert_eq!(letters_kept.list(&named).await.unwrap(), newest_first[1..]);
    // Two of their events are as large as it asks for.
    let bytes = letters[0].event.iter().map(|field| field.name.len() + field.value.len()).sum::<usize>();
    assert_eq!(letters_kept.list(&DeadLetterQuery { bytes_max: Some(bytes + 1), ..all() }).await.unwrap(), newest_first[..2]);
    assert_eq!(letters_kept.drop(&DeadLetterQuery { limit: 1, ..of_a }).await.unwrap(), 1);
    assert_eq!(letters_kept.list(&all()).await.unwrap(), [letters[1].clone(), letters[0].clone()]);
    assert_eq!(letters_kept.count().await.unwrap().kept, 2);
    assert_eq!(letters_kept.drop(&all()).await.unwrap(), 2);
    assert_eq!(letters_kept.count().await.unwrap().kept, 0);
}

async fn dead_letters_replace_and_settle(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    let first = vec![letter(1, "a", 10, "first"), letter(2, "a", 11, "other"), letter(1, "a", 12, "second")];
    writer.commit(&Commit { number: 1, dead_letters: first, ..Commit::default() }).await.unwrap();
    let again = vec![letter(1, "a", 5, "third")];
    writer.commit(&Commit { number: 2, dead_letters: again.clone(), ..Commit::default() }).await.unwrap();
    let kept = store.dead_letters().list(&all()).await.unwrap();
    assert_eq!(kept, [letter(2, "a", 11, "other"), again[0].clone()]);
    assert_eq!(store.dead_letters().count().await.unwrap().kept, 2);
    let settled = vec![letter(2, "a", 0, "").id, letter(9, "a", 0, "").id];
    writer.commit(&Commit { number: 3, settled_dead_letters: settled, ..Commit::default() }).await.unwrap();
    assert_eq!(store.dead_letters().list(&all()).await.unwrap(), again);
    assert_eq!(store.dead_letters().count().await.unwrap().kept, 1);
}

async fn dead_letters_are_bounded(factory: Box<dyn Factory>) {
    let store = factory.open();
    let max = factory.dead_letters_max();
    let mut writer = writer(&store).await;
    for (number, first) in [(1, 0), (2, max)] {
        let dead_letters = (first..first + max).map(|seq| letter(seq, "a", seq as i64, "")).collect();
        writer.commit(&Commit { number, dead_letters, ..Commit::default() }).await.unwrap();
    }
    let count = store.dead_letters().count().await.unwrap();
    assert_eq!((count.kept, count.evicted), (max, max));
    let kept = store.dead_letters().list(&all()).await.unwrap();
    let expected: Vec<_> = (max..2 * max).rev().collect();
    assert_eq!(kept.iter().map(|letter| letter.id.entry_id.seq).collect::<Vec<_>>(), expected);
}

async fn dead_letters_are_bounded_however_many_come(factory: Box<dyn Factory>) {
    let store = factory.open();
    let (max, count) = (factory.dead_letters_max(), 10_000);
    let dead_letters = (0..count).map(|seq| letter(seq, "a", seq as i64, "")).collect();
    writer(&store).await.commit(&Commit { number: 1, dead_letters, ..Commit::default() }).await.unwrap();
    assert_eq!(store.dead_letters().count().await.unwrap(), DeadLetterCount { kept: max, evicted: count - max });
    assert_eq!(store.dead_letters().list(&all()).await.unwrap().last().unwrap().id.entry_id.seq, count - max);
}

fn schema(view: &str) -> Schema {
    let field = Field { name: "f".into(), kind: Kind::Integer, nullable: true, width: None, default: None, doc: String::new() };
    Schema {
        view: view.into(),
        component: Digest([3; 32]),
        entity: vec![field.clone()],
        features: vec![field],
        kept: Default::default(),
        state_version: None,
        partitioning: None,
        keeps_since: None,
    }
}

/// What is kept has as many shapes as there are; each is found again as what it was.
fn kept() -> Vec<Schema> {
    let windows =
        vec![Aggregation { feature: "n".into(), column: "value".into(), function: Aggregate::Count, window_ms: None, doc: String::new() }];
    let all = [Vec::new(), windows].into_iter().flat_map(|aggregations| [0, 60].map(|history_secs| (aggregations.clone(), history_secs)));
    all.flat_map(|(aggregations, history_secs)| {
        [false, true].map(|exact| Schema { kept: Kept { aggregations: aggregations.clone(), history_secs, exact }, ..schema("kept") })
    })
    .collect()
}

async fn schemas_are_stable(factory: Box<dyn Factory>) {
    let mut store = factory.open();
    let mut tasks = Vec::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move { (task % 4, store.intern(&schema(&format!("view{}", task % 4))).await.unwrap()) }));
    }
    let mut ids = HashMap::new();
    for task in tasks {
        let (view, id) = task.await.unwrap();
        assert_eq!(*ids.entry(view).or_insert(id), id);
    }
    if factory.durable() {
        drop(store);
        store = factory.open();
    }
    for kept in kept() {
        let id = store.intern(&kept).await.unwrap();
        if factory.durable() {
            drop(store);
            store = factory.open();
        }
        assert_eq!(store.intern(&kept).await.unwrap(), id, "{kept:?}");
    }
    let mut listed = store.schemas().await.unwrap();
    listed.retain(|(_, schema)| schema.view != "kept");
    listed.sort_by_key(|(id, _)| *id);
    let mut expected: Vec<_> = ids.iter().map(|(view, id)| (*id, schema(&format!("view{view}")))).collect();
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(listed, expected);
    assert_eq!(store.intern(&schema("view2")).await.unwrap(), ids[&2]);
    let fresh = store.intern(&schema("view9")).await.unwrap();
    assert!(!ids.values().any(|id| *id == fresh));
}

/// While rows are overwritten, a reader sees the old or the new row, never an older one after a newer, and what was acknowledged at once.
async fn readers_see_whole_rows(factory: Box<dyn Factory>) {
    let store = factory.open();
    let mut writer = writer(&store).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (store, stop) = (store.clone(), stop.clone());
        readers.push(tokio::spawn(async move {
            let mut newest = Version::MIN;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Some(found) = read_one(&store, b"v:1").await {
                    let header = gristmill::model::Header::read(&found).unwrap();
                    assert_eq!(found, row(header.version, &header.version.entry_id.seq.to_le_bytes().repeat(40)));
                    assert!(header.version >= newest, "a reader went back in time");
                    newest = header.version;
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    for number in 1..=300 {
        let version = version(number as i64, number);
        let packed = row(version, &number.to_le_bytes().repeat(40));
        writer.commit(&commit_of(number, &[(b"v:1", version, packed.clone())])).await.unwrap();
        assert_eq!(read_one(&store, b"v:1").await, Some(packed));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}
