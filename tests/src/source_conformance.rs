//! What every source must do, as functions over the trait and its appender.

use std::sync::Arc;

use gristmill::model::{Entries, EntryId};
use gristmill::source::{Appender, Source};

/// A stream to append to and to read from.
pub trait Stream: Send + Sync {
    /// The writing end.
    fn appender(&self) -> Arc<dyn Appender>;
    /// A reader after this place; from the oldest entry without one.
    fn reader(&self, from: Option<EntryId>) -> Box<dyn Source>;
}

/// Runs all of them on fresh streams.
pub async fn check_all(make: impl Fn() -> Box<dyn Stream>) {
    order_is_kept(make()).await;
    reader_resumes_from_its_place(make()).await;
    appends_become_visible(make()).await;
    empty_wait_is_bounded(make()).await;
    lag_counts_what_is_unread(make()).await;
    concurrent_appends_are_all_there(make()).await;
    the_newest_can_be_looked_at(make()).await;
}

/// Entries with one field, `n`, of these values.
pub fn entries(values: impl IntoIterator<Item = u64>) -> Entries {
    let mut entries = Entries::default();
    for value in values {
        entries.push(EntryId::ZERO, [(&b"n"[..], value.to_string().as_bytes()), (&b"raw"[..], &[0, 255, 10])]);
    }
    entries
}

/// Reads until `count` entries have come; the ids and the values of `n`.
pub async fn read_values(source: &dyn Source, count: usize, entries_max: usize) -> Vec<(EntryId, u64)> {
    let mut found = Vec::new();
    while found.len() < count {
        let delivery = source.read(entries_max).await.unwrap();
        assert!(delivery.entries.len() <= entries_max);
        for entry in delivery.entries.iter() {
            assert_eq!(entry.value(b"raw"), Some(&[0, 255, 10][..]));
            found.push((entry.id, std::str::from_utf8(entry.value(b"n").unwrap()).unwrap().parse().unwrap()));
        }
    }
    found
}

async fn order_is_kept(stream: Box<dyn Stream>) {
    let mut ids = stream.appender().append(&entries(0..500)).await.unwrap();
    ids.extend(stream.appender().append(&entries(500..700)).await.unwrap());
    assert!(ids.is_sorted_by(|one, next| one < next));
    assert!(stream.appender().append(&Entries::default()).await.unwrap().is_empty());
    let found = read_values(&*stream.reader(None), 700, 64).await;
    assert_eq!(found, ids.into_iter().zip(0..700).collect::<Vec<_>>());
}

async fn reader_resumes_from_its_place(stream: Box<dyn Stream>) {
    let ids = stream.appender().append(&entries(0..10)).await.unwrap();
    let found = read_values(&*stream.reader(Some(ids[3])), 6, 100).await;
    assert_eq!(found.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
}

async fn appends_become_visible(stream: Box<dyn Stream>) {
    let reader = stream.reader(None);
    let appender = stream.appender();
    let waiting = tokio::spawn(async move { read_values(&*reader, 3, 10).await });
    appender.append(&entries([1])).await.unwrap();
    appender.append(&entries([2, 3])).await.unwrap();
    let found = waiting.await.unwrap();
    assert_eq!(found.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 2, 3]);
}

async fn empty_wait_is_bounded(stream: Box<dyn Stream>) {
    let reader = stream.reader(None);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), reader.read(10)).await;
    assert!(waited.expect("a read without entries returns").unwrap().entries.is_empty());
}

async fn lag_counts_what_is_unread(stream: Box<dyn Stream>) {
    let reader = stream.reader(None);
    stream.appender().append(&entries(0..10)).await.unwrap();
    assert_eq!(reader.lag().await.unwrap().entries, Some(10));
    let found = read_values(&*reader, 4, 4).await;
    assert_eq!(reader.lag().await.unwrap().entries, Some(6));
    reader.acknowledge(&found.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
    read_values(&*reader, 6, 10).await;
    assert_eq!(reader.lag().await.unwrap().entries, Some(0));
}

async fn concurrent_appends_are_all_there(stream: Box<dyn Stream>) {
    let mut tasks = Vec::new();
    for task in 0..20u64 {
        let appender = stream.appender();
        tasks.push(tokio::spawn(async move {
            for step in 0..10 {
                let first = task * 1_000 + step * 2;
                appender.append(&entries([first, first + 1])).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let found = read_values(&*stream.reader(None), 400, 1_000).await;
    assert!(found.is_sorted_by(|one, next| one.0 < next.0));
    for task in 0..20 {
        let own: Vec<_> = found.iter().map(|(_, value)| *value).filter(|value| value / 1_000 == task).collect();
        assert_eq!(own, (task * 1_000..task * 1_000 + 20).collect::<Vec<_>>(), "each appender's entries are in its order");
    }
}

async fn the_newest_can_be_looked_at(stream: Box<dyn Stream>) {
    let appender = stream.appender();
    assert!(appender.newest(10).await.unwrap().is_empty());
    let ids = appender.append(&entries(0..20)).await.unwrap();
    for (asked, from) in [(3, 17), (20, 0), (100, 0)] {
        let found = appender.newest(asked).await.unwrap();
        assert_eq!(found.ids().collect::<Vec<_>>(), ids[from..]);
        assert_eq!(found.get(0).unwrap().value(b"n"), Some(from.to_string().as_bytes()));
        assert_eq!(found.get(0).unwrap().value(b"raw"), Some(&[0, 255, 10][..]));
    }
    // Who reads the stream sees all of it still.
    assert_eq!(read_values(&*stream.reader(None), 20, 100).await.len(), 20);
}
