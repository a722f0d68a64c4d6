//! Every online store and every log passes the same suite, and the embedded ones survive being killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gristmill::data_folder::{DataFolder, Durability, Error, Options};
use gristmill::model::{Commit, EntryId, Header, Rows, Timestamp};
use gristmill::online_store::embedded::EmbeddedStore;
use gristmill::online_store::memory::MemoryStore;
use gristmill::online_store::redis::{self, FeastLayout, RedisStore};
use gristmill::online_store::{OnlineStore, embedded};
use gristmill::source::embedded::{Log, Retention, Start};
use gristmill::source::{Appender, Source};
use gristmill_tests::host::wait_for;
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::source_conformance::{self, Stream, entries, read_values};
use gristmill_tests::store_conformance::{CHECKS, Factory, commit_of, partition, row, single, version};
use tempfile::TempDir;

/// Every implementation. A new one is added here and nowhere else.
const STORES: &[(&str, Make)] = &[
    ("memory", || Box::new(Memory(MemoryStore::new(50)))),
    ("embedded", || Box::new(Embedded { folder: tempfile::tempdir().unwrap(), row_cache_bytes: 1 << 20 })),
    ("embedded with hardly any cache", || Box::new(Embedded { folder: tempfile::tempdir().unwrap(), row_cache_bytes: 1 })),
    ("embedded in a folder of an older version", || Box::new(Embedded { folder: folder_of_an_older_version(), row_cache_bytes: 1 })),
    ("redis", || Box::new(Redis(RedisServer::start(), None))),
    ("feast_redis", || Box::new(Redis(RedisServer::start(), Some(FeastLayout::default())))),
];

type Make = fn() -> Box<dyn Factory>;

struct Memory(MemoryStore);

impl Factory for Memory {
    fn open(&self) -> Arc<dyn OnlineStore> {
        Arc::new(self.0.clone())
    }

    fn durable(&self) -> bool {
        false
    }

    fn dead_letters_max(&self) -> u64 {
        50
    }
}

struct Embedded {
    folder: TempDir,
    row_cache_bytes: u64,
}

impl Factory for Embedded {
    fn open(&self) -> Arc<dyn OnlineStore> {
        let options = embedded::Options { row_cache_bytes: self.row_cache_bytes, dead_letters_max: self.dead_letters_max() };
        Arc::new(EmbeddedStore::open(&open_folder(self.folder.path()), options).unwrap())
    }

    fn durable(&self) -> bool {
        true
    }

    fn dead_letters_max(&self) -> u64 {
        50
    }
}

/// Its rows lie with their keys, whatever their length.
fn folder_of_an_older_version() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    open_folder(folder.path()).keyspace("rows").unwrap();
    folder
}

/// The server, and how rows are laid out for Feast.
struct Redis(RedisServer, Option<FeastLayout>);

impl Factory for Redis {
    fn open(&self) -> Arc<dyn OnlineStore> {
        let options = redis::Options {
            prefix: "test".into(),
            dead_letters_max: self.dead_letters_max(),
            streams: BTreeMap::new(),
            tags: vec!["{s:0}".into(), "{s:1}".into()],
            feast: self.1.clone(),
            book: None,
        };
        Arc::new(RedisStore::new(&self.0.url(), options).unwrap())
    }

    fn durable(&self) -> bool {
        true
    }

    fn dead_letters_max(&self) -> u64 {
        50
    }
}

/// A child that another test is starting at this moment has this process's locks for as long as it takes to become another program.
fn open_folder(path: &Path) -> DataFolder {
    wait_for("the folder's lock", || match DataFolder::open(path, Options::default()) {
        Err(Error::InUse { .. }) => None,
        opened => Some(opened.unwrap()),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_passes_the_suite() {
    for (store, make) in STORES {
        for (name, check) in CHECKS {
            eprintln!("{store}: {name}");
            check(make()).await;
        }
    }
}

struct EmbeddedStream {
    log: Log,
    _folder: TempDir,
}

impl Stream for EmbeddedStream {
    fn appender(&self) -> Arc<dyn Appender> {
        Arc::new(self.log.clone())
    }

    fn reader(&self, from: Option<EntryId>) -> Box<dyn Source> {
        Box::new(self.log.reader(from, Start::Oldest))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_passes_the_suite() {
    source_conformance::check_all(|| {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&open_folder(folder.path()), "clicks", Retention::default()).unwrap();
        Box::new(EmbeddedStream { log, _folder: folder })
    })
    .await;
}

#[tokio::test]
async fn a_log_keeps_its_entries_and_its_order_over_restarts() {
    let temp = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..3u64 {
        let folder = open_folder(temp.path());
        let (log, other) = (Log::open(&folder, "a", Retention::default()).unwrap(), Log::open(&folder, "b", Retention::default()).unwrap());
        ids.extend(log.append(&entries(round * 10..round * 10 + 10)).await.unwrap());
        other.append(&entries([1_000 + round])).await.unwrap();
        assert_eq!(log.last(), ids.last().copied());
        let found = read_values(&log.reader(None, Start::Oldest), ids.len(), 1_000).await;
        assert_eq!(found, ids.iter().copied().zip(0..).collect::<Vec<_>>());
        assert_eq!(read_values(&other.reader(None, Start::Oldest), round as usize + 1, 10).await.last().unwrap().1, 1_000 + round);
        assert!(log.reader(None, Start::Newest).read(10).await.unwrap().entries.is_empty());
    }
}

#[tokio::test]
async fn what_retention_trims_before_it_is_read_is_counted_as_lost() {
    let temp = tempfile::tempdir().unwrap();
    let retention = Retention { entries_max: Some(10), ..Retention::default() };
    let log = Log::open(&open_folder(temp.path()), "s", retention).unwrap();
    let reader = log.reader(None, Start::Oldest);
    log.append(&entries(0..5)).await.unwrap();
    let place = read_values(&reader, 2, 2).await[1].0;
    log.append(&entries(5..25)).await.unwrap();
    // The trim follows its append, and comes before the next one.
    log.append(&entries([25])).await.unwrap();
    for reader in [reader, log.reader(Some(place), Start::Oldest)] {
        let (mut lost, mut values) = (0, Vec::new());
        while values.last() != Some(&25) {
            let delivery = reader.read(3).await.unwrap();
            lost += delivery.lost;
            let value = |entry: gristmill::model::EntryRef<'_>| std::str::from_utf8(entry.value(b"n").unwrap()).unwrap().parse::<u64>();
            values.extend(delivery.entries.iter().map(|entry| value(entry).unwrap()));
        }
        assert_eq!(lost + values.len() as u64, 24, "every entry after the second was either read or lost");
        assert!(lost >= 13 && values.is_sorted());
    }
}

#[tokio::test]
async fn a_swept_row_leaves_the_disk_and_a_renewed_one_stays() {
    let temp = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&open_folder(temp.path()), embedded::Options::default()).unwrap();
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    let far = Timestamp(Timestamp::now().0 + 3_600_000_000);
    for (number, key, expires_at) in [(1, b"v:1", far), (2, b"v:2", far), (3, b"v:2", Timestamp(far.0 * 2))] {
        let mut rows = Rows::default();
        rows.push(key, &row(version(number, 1), b""), version(number, 1), Some(expires_at));
        writer.commit(&Commit { number: number as u64, rows, ..Commit::default() }).await.unwrap();
    }
    assert_eq!(store.sweep(Timestamp(far.0 - 1), 10).await.unwrap(), 0);
    assert_eq!(store.sweep(far, 1).await.unwrap(), 1);
    assert_eq!(store.sweep(far, 10).await.unwrap(), 1);
    let found = store.read(&[b"v:1".to_vec(), b"v:2".to_vec()]).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
}

#[test]
fn a_data_folder_has_one_host_a_stable_name_and_a_format() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data");
    let folder = open_folder(&path);
    let host_id = folder.host_id().to_owned();
    assert_eq!(host_id.len(), 32);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let refused = DataFolder::open(&path, Options::default()).err().unwrap();
    assert!(matches!(refused, Error::InUse { .. }) && refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    let log = Log::open(&folder, "s", Retention::default()).unwrap();
    assert!(Log::open(&folder, "s", Retention::default()).is_err());
    drop((log, folder));
    let folder = open_folder(&path);
    assert_eq!(folder.host_id(), host_id);
    Log::open(&folder, "s", Retention::default()).unwrap();
    drop(folder);
    std::fs::write(path.join("format"), "2\n").unwrap();
    assert!(matches!(DataFolder::open(&path, Options::default()), Err(Error::Newer { .. })));
}

const KILLED_CHILD: &str = "GRISTMILL_TEST_KILLED_CHILD";
const ROWS_A_COMMIT: u64 = 20;
/// Bytes of every fourth row: so many that tables are written and merged between two kills, and while one happens.
const LARGE_ROW_BYTES: usize = 60_000;

/// Not a test of its own: the process that [`killed_at_any_point_nothing_acknowledged_is_lost`] starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_child() {
    let Some(path) = std::env::var_os(KILLED_CHILD) else { return };
    let durability = Durability::Interval { sync_ms: 5 };
    let folder = DataFolder::open(&path, Options { durability, ..Options::default() }).unwrap();
    let store = EmbeddedStore::open(&folder, embedded::Options::default()).unwrap();
    let log = Log::open(&folder, "s", Retention { entries_max: Some(500), ..Retention::default() }).unwrap();
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    // The harness writes to standard output too, hence the marks.
    let mut out = std::io::stdout();
    loop {
        let number = writer.place().commits + 1;
        let version = version(number as i64, number);
        let value = |key: u64| vec![b'k'; if key.is_multiple_of(4) { LARGE_ROW_BYTES } else { 6 }];
        let rows: Vec<_> = (0..ROWS_A_COMMIT).map(|key| (format!("v:{key}"), version, row(version, &value(key)))).collect();
        writer.commit(&commit_of(number, &rows)).await.unwrap();
        let id = log.append(&entries([number])).await.unwrap()[0];
        writeln!(out, "\n@{number} {id}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_nothing_acknowledged_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed_child", "--exact", "--nocapture"])
            .env(KILLED_CHILD, temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = lines.filter_map(|line| line.strip_prefix('@').map(str::to_owned));
        let last_read = acknowledged.nth((round * 37 % 101) as usize).expect("the child acknowledges");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had acknowledged and the kill left in the pipe counts as well.
        let last = acknowledged.last().unwrap_or(last_read);
        let (number, id) = last.split_once(' ').expect("a number and an id");
        let (number, id): (u64, EntryId) = (number.parse().unwrap(), id.parse().unwrap());
        check_after_kill(temp.path(), number, id).await;
    }
}

async fn check_after_kill(path: &Path, number: u64, id: EntryId) {
    let folder = open_folder(path);
    let store = EmbeddedStore::open(&folder, embedded::Options::default()).unwrap();
    let place = store.writer(&partition(0), &single()).await.unwrap().place();
    assert!(place.commits >= number, "commit {number} was acknowledged, and {} are stored", place.commits);
    assert_eq!(place.last.unwrap().seq, place.commits);
    let keys: Vec<_> = (0..ROWS_A_COMMIT).map(|key| format!("v:{key}").into_bytes()).collect();
    for (key, found) in store.read(&keys).await.unwrap().into_iter().enumerate() {
        let found = found.expect("every key was written");
        assert_eq!(found.len() > LARGE_ROW_BYTES, key % 4 == 0);
        let version = Header::read(&found).unwrap().version;
        assert_eq!(version.entry_id.seq, place.commits, "all rows are those of the commit that the place tells of");
    }
    let log = Log::open(&folder, "s", Retention::default()).unwrap();
    assert!(log.last().unwrap() >= id);
    let kept = log.len() as usize;
    let found = read_values(&log.reader(None, Start::Oldest), kept, 10_000).await;
    assert!(found.iter().any(|(entry, value)| *entry == id && *value == number));
    assert_eq!(found.len(), kept);
}
