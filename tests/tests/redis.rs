//! The Redis store and source against a real server, and what they do when it misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill::model::{Commit, DeadLetterId, Disposition, Entries, EntryId, Partition, Rows, Timestamp};
use gristmill::online_store::redis::{self as redis_store, Acknowledgement, RedisStore};
use gristmill::online_store::{Attendant, Error, OnlineStore, Writers};
use gristmill::source::redis_streams::{Options, RedisAppender, RedisStreams, Start};
use gristmill::source::{self, Appender, Delivery, Source};
use gristmill_tests::proxy::Proxy;
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::source_conformance::{self, Stream, entries};
use gristmill_tests::store_conformance::{commit_of, partition, row, single, version};

/// A store whose commits settle the stream `s`, when asked to.
fn open_store(server: &RedisServer, settles: Option<bool>) -> RedisStore {
    let streams = settles.map(|checkpoint| (partition(0).stream, Acknowledgement { key: "s".into(), checkpoint }));
    let streams: BTreeMap<_, _> = streams.into_iter().collect();
    RedisStore::new(
        &server.url(),
        redis_store::Options {
            prefix: "gm".into(),
            dead_letters_max: 50,
            streams,
            tags: Vec::new(),
            feast: None,
            book: Some("test".into()),
        },
    )
    .unwrap()
}

fn options(consumer: &str) -> Options {
    Options {
        key: "s".into(),
        group: "g".into(),
        consumer: consumer.into(),
        checkpoint: false,
        competing: false,
        start: Start::Beginning,
        place: None,
        claim_idle_ms: 3_600_000,
        deliveries_max: 0,
        block_ms: 20,
    }
}

fn open(server: &RedisServer, options: Options) -> RedisStreams {
    RedisStreams::open(&server.url(), options).unwrap()
}

async fn append(server: &RedisServer, values: impl IntoIterator<Item = u64>) -> Vec<EntryId> {
    RedisAppender::open(&server.url(), "s").unwrap().append(&entries(values)).await.unwrap()
}

/// Reads until something came, entries or a loss; what is worth another try is tried again, as the pipeline does.
async fn read_some(source: &RedisStreams) -> Delivery {
    for _ in 0..1_000 {
        let delivery = match source.read(100).await {
            Err(error) if error.disposition() == Disposition::Retry => continue,
            read => read.unwrap(),
        };
        if !delivery.entries.is_empty() || delivery.lost > 0 {
            return delivery;
        }
    }
    panic!("nothing came");
}

fn ids(delivery: &Delivery) -> Vec<EntryId> {
    delivery.entries.ids().collect()
}

fn as_writer(holder: &str, lease_ms: u64) -> Writers {
    Writers::Single { holder: holder.into(), lease_ms }
}

struct RedisStream {
    server: RedisServer,
    checkpoint: bool,
}

impl Stream for RedisStream {
    fn appender(&self) -> Arc<dyn Appender> {
        Arc::new(RedisAppender::open(&self.server.url(), "s").unwrap())
    }

    fn reader(&self, from: Option<EntryId>) -> Box<dyn Source> {
        Box::new(open(&self.server, Options { checkpoint: self.checkpoint, place: from, ..options("a") }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_source_passes_the_suite() {
    for checkpoint in [false, true] {
        source_conformance::check_all(|| Box::new(RedisStream { server: RedisServer::start(), checkpoint })).await;
    }
}

#[tokio::test]
async fn pending_entries_come_first_and_then_new_ones() {
    let server = RedisServer::start();
    let first = append(&server, 0..3).await;
    let source = open(&server, options("a"));
    assert_eq!(ids(&read_some(&source).await), first);
    source.acknowledge(&first[..1]).await.unwrap();
    drop(source);
    let second = append(&server, 3..5).await;
    let source = open(&server, options("a"));
    let again = read_some(&source).await;
    assert!(again.redelivered);
    assert_eq!(ids(&again), first[1..]);
    let new = read_some(&source).await;
    assert!(!new.redelivered);
    assert_eq!(ids(&new), second);
    let lag = source.lag().await.unwrap();
    assert_eq!((lag.entries, lag.pending), (Some(0), 4));
}

#[tokio::test]
async fn a_dead_consumers_entries_are_claimed_and_counted_when_exhausted() {
    let server = RedisServer::start();
    let first = append(&server, 0..3).await;
    assert_eq!(ids(&read_some(&open(&server, options("dead"))).await), first);
    let source = open(&server, Options { claim_idle_ms: 0, deliveries_max: 1, ..options("b") });
    let claimed = read_some(&source).await;
    assert!(claimed.redelivered);
    assert_eq!(ids(&claimed), first);
    assert_eq!(claimed.exhausted, first);
    // They are in flight now: claiming again finds them and leaves them alone.
    let next = append(&server, 3..4).await;
    assert_eq!(ids(&read_some(&source).await), next);
}

#[tokio::test]
async fn what_a_host_reads_that_lost_its_lease_is_claimed_soon_and_is_no_loss() {
    let server = RedisServer::start();
    let first = append(&server, 0..3).await;
    let source = open(&server, options("a"));
    assert_eq!(ids(&read_some(&source).await), first);
    let taken = append(&server, 3..5).await;
    let mut stale = redis::cmd("XREADGROUP");
    stale.arg(&["GROUP", "g", "stale", "STREAMS", "s", ">"]);
    stale.query::<redis::Value>(&mut server.connection()).unwrap();
    let next = append(&server, 5..6).await;
    let (new, claimed) = (read_some(&source).await, read_some(&source).await);
    assert_eq!((ids(&new), ids(&claimed)), (next, taken));
    assert!(claimed.redelivered);
    let last = append(&server, 6..7).await;
    let after = read_some(&source).await;
    assert_eq!((ids(&after), new.lost + claimed.lost + after.lost), (last, 0));
}

/// Or it would hand itself entries that the next reader comes to too late: after newer ones.
#[tokio::test]
async fn a_reader_whose_place_was_taken_is_handed_nothing_more() {
    let server = RedisServer::start();
    let first = append(&server, 0..3).await;
    let stale = Arc::new(open(&server, Options { block_ms: 60_000, ..options("a") }));
    assert_eq!(ids(&read_some(&stale).await), first);
    // It waits for entries when the other one comes.
    let waiting = tokio::spawn({
        let stale = Arc::clone(&stale);
        async move { stale.read(100).await }
    });
    while server
        .ask::<String>("CLIENT LIST")
        .lines()
        .filter(|client| client.contains("cmd=xreadgroup") && client.contains("flags=b"))
        .count()
        == 0
    {
        tokio::task::yield_now().await;
    }
    let source = open(&server, options("b"));
    assert_eq!(ids(&read_some(&source).await), first, "what the first one has left");
    let told = waiting.await.unwrap().unwrap_err();
    assert!(matches!(told, source::Error::TakenOver { .. }) && told.disposition() == Disposition::Stop, "{told}");
    for round in 1..4 {
        let next = append(&server, round * 3..round * 3 + 3).await;
        assert!(matches!(stale.read(100).await.unwrap_err(), source::Error::TakenOver { .. }));
        assert_eq!(ids(&read_some(&source).await), next);
    }
    // Opened again, because it has the lease again, it is the one that reads.
    let again = open(&server, options("a"));
    let left = ids(&read_some(&again).await);
    assert_eq!(left.len(), 12);
    let next = append(&server, 12..13).await;
    assert_eq!(ids(&read_some(&again).await), next);
    assert!(matches!(source.read(100).await.unwrap_err(), source::Error::TakenOver { .. }));
    assert_eq!(server.ask::<Vec<String>>("KEYS *:reader:*").len(), 1, "the fences of those before are gone");
}

#[tokio::test]
async fn a_cut_connection_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    let source = open(&server, options("a"));
    let mut seen = Vec::new();
    let mut all = Vec::new();
    let _: redis::Value = server.ask("XGROUP CREATE s g 0 MKSTREAM");
    for round in 0..10 {
        all.extend(append(&server, round * 10..round * 10 + 10).await);
        // What a lost reply leaves behind: entries pending for this consumer that it never saw.
        let _: redis::Value = server.ask("XREADGROUP GROUP g a COUNT 4 STREAMS s >");
        server.cut("a");
        while seen.len() < all.len() {
            let found = ids(&read_some(&source).await);
            source.acknowledge(&found).await.unwrap();
            seen.extend(found);
        }
    }
    seen.sort();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn what_was_handed_to_a_connection_already_gone_is_found() {
    let server = RedisServer::start();
    let first = append(&server, 0..2).await;
    let source = open(&server, Options { claim_idle_ms: 0, ..options("a") });
    assert_eq!(ids(&read_some(&source).await), first);
    // The server has not noticed yet that an earlier connection of this consumer is gone, and serves it first.
    let lost = append(&server, 2..4).await;
    let _: redis::Value = server.ask("XREADGROUP GROUP g a COUNT 2 STREAMS s >");
    let next = append(&server, 4..6).await;
    assert_eq!(ids(&read_some(&source).await), next);
    source.acknowledge(&[first, next].concat()).await.unwrap();
    assert_eq!(ids(&read_some(&source).await), lost);
}

/// Were the group made again after what was handed out, a crash before the commit would leave that out.
#[tokio::test]
async fn a_lost_group_is_created_at_the_stored_place() {
    let server = RedisServer::start();
    let all = append(&server, 0..6).await;
    let source = open(&server, options("a"));
    assert_eq!(ids(&source.read(3).await.unwrap()), all[..3]);
    let _: u64 = server.ask("XGROUP DESTROY s g");
    let gone = source.read(3).await.err().unwrap();
    assert!(matches!(gone, source::Error::GroupGone { .. }) && gone.disposition() == Disposition::Stop, "{gone}");
    let source = open(&server, Options { place: Some(all[0]), ..options("a") });
    assert_eq!(ids(&read_some(&source).await), all[1..]);
}

#[tokio::test]
async fn a_reader_that_begins_at_the_end_keeps_its_beginning_until_the_first_commit() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        append(&server, 0..3).await;
        let at_the_end = || open(&server, Options { checkpoint, start: Start::End, ..options("a") });
        assert!(at_the_end().read(10).await.unwrap().entries.is_empty());
        let new = append(&server, 3..6).await;
        assert_eq!(ids(&read_some(&at_the_end()).await), new, "checkpoint {checkpoint}");
    }
}

#[tokio::test]
async fn what_others_left_comes_in_order_with_what_was_the_readers_own() {
    let server = RedisServer::start();
    let all = append(&server, 0..8).await;
    let _: String = server.ask("XGROUP CREATE s g 0");
    for consumer in ["z", "a", "z"] {
        let _: redis::Value = server.ask(&format!("XREADGROUP GROUP g {consumer} COUNT 2 STREAMS s >"));
    }
    let source = open(&server, options("a"));
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        seen.extend(ids(&read_some(&source).await));
    }
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_stream_that_has_fallen_back_hands_out_nothing_that_the_store_has() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        let all = append(&server, 0..6).await;
        let source = open(&server, Options { checkpoint, ..options("a") });
        let mut seen = 0;
        while seen < all.len() {
            seen += read_some(&source).await.entries.len();
        }
        // What a replica has that heard of the first half only.
        for id in &all[3..] {
            let _: u64 = server.ask(&format!("XDEL s {id}"));
        }
        let _: redis::Value = server.ask(&format!("XSETID s {} ENTRIESADDED 3 MAXDELETEDID 0-0", all[2]));
        let _: redis::Value = server.ask(&format!("XGROUP SETID s g {}", all[2]));
        server.cut("a");
        let stopped = loop {
            match source.read(100).await {
                Ok(delivery) => assert!(delivery.entries.is_empty(), "{delivery:?}"),
                Err(error) if error.disposition() == Disposition::Retry => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(stopped, source::Error::FellBack { .. }), "{stopped}");
        let again = open(&server, Options { checkpoint, place: all.last().copied(), ..options("a") });
        assert!(again.read(100).await.unwrap().entries.is_empty());
        let new = append(&server, 6..8).await;
        assert_eq!(ids(&read_some(&again).await), new, "checkpoint {checkpoint}");
    }
}

#[tokio::test]
async fn an_emptied_stream_is_a_loss_whatever_the_new_ids_are() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        append(&server, 0..9).await;
        let source = open(&server, Options { checkpoint, ..options("a") });
        let first = ids(&source.read(3).await.unwrap());
        source.acknowledge(&first).await.unwrap();
        let _: String = server.ask("FLUSHALL");
        let new = append(&server, 9..11).await;
        let (mut found, mut lost) = (Vec::new(), 0);
        while lost == 0 || found.len() < new.len() {
            let delivery = read_some(&source).await;
            found.extend(ids(&delivery));
            lost += delivery.lost;
        }
        assert_eq!(found, new, "checkpoint {checkpoint}");
    }
}

#[tokio::test]
async fn an_emptied_server_is_noticed_and_read_anew() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        // Ids far ahead of the clock, so that the new stream's are smaller.
        let _: String = server.ask("XADD s 9999999999999-1 n 1 raw x");
        let source = open(&server, Options { checkpoint, ..options("a") });
        assert_eq!(ids(&read_some(&source).await).len(), 1);
        let _: String = server.ask("FLUSHALL");
        let new = append(&server, 0..3).await;
        server.cut("a");
        let mut lost = 0;
        let mut seen = Vec::new();
        while seen.len() < new.len() {
            let delivery = read_some(&source).await;
            lost += delivery.lost;
            seen.extend(ids(&delivery));
        }
        assert_eq!((seen, lost), (new, 1));
    }
}

#[tokio::test]
async fn entries_too_large_for_one_reply_come_in_several() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        let source = open(&server, Options { checkpoint, ..options("a") });
        let mut large = Entries::default();
        let value = vec![b'x'; 4 << 20];
        (0..80).for_each(|_| large.push(EntryId::ZERO, [(b"n".as_slice(), value.as_slice())]));
        let appender = RedisAppender::open(&server.url(), "s").unwrap();
        let appended = appender.append(&large).await.unwrap();
        let mut read = Vec::new();
        while read.len() < appended.len() {
            let delivery = read_some(&source).await;
            source.acknowledge(&ids(&delivery)).await.unwrap();
            read.extend(ids(&delivery));
        }
        assert_eq!(read, appended);
    }
}

#[tokio::test]
async fn entries_deleted_while_pending_are_counted() {
    let server = RedisServer::start();
    let all = append(&server, 0..5).await;
    read_some(&open(&server, options("a"))).await;
    let _: u64 = server.ask(&format!("XDEL s {} {}", all[1], all[3]));
    let delivery = read_some(&open(&server, options("a"))).await;
    assert_eq!((ids(&delivery), delivery.lost), (vec![all[0], all[2], all[4]], 2));
    let (pending,): (u64,) = {
        let value: Vec<redis::Value> = server.ask("XPENDING s g");
        (redis::from_redis_value(value[0].clone()).unwrap(),)
    };
    assert_eq!(pending, 3);
}

#[tokio::test]
async fn entries_trimmed_before_they_were_read_are_counted_once() {
    let server = RedisServer::start();
    append(&server, 0..3).await;
    let source = open(&server, options("a"));
    read_some(&source).await;
    drop(source);
    let more = append(&server, 3..13).await;
    let _: u64 = server.ask("XTRIM s MAXLEN 4");
    // Six that nobody had read, and three that another consumer had pending.
    let source = open(&server, Options { consumer: "b".into(), claim_idle_ms: 0, ..options("") });
    let (mut lost, mut found) = (0, Vec::new());
    for _ in 0..20 {
        let delivery = source.read(100).await.unwrap();
        lost += delivery.lost;
        found.extend(ids(&delivery));
    }
    assert_eq!((found, lost), (more[6..].to_vec(), 9));
    assert_eq!(open(&server, options("c")).read(10).await.unwrap().lost, 0);
}

#[tokio::test]
async fn refusals_are_errors_with_the_servers_words() {
    let server = RedisServer::start();
    let _: String = server.ask("SET s text");
    let refused = open(&server, options("a")).read(10).await.err().unwrap();
    assert!(matches!(&refused, source::Error::Refused { reason, .. } if reason.contains("WRONGTYPE")), "{refused}");
    let secret = server.url().replace("://", "://user:hunter2@");
    let refused = RedisStreams::open(&secret, options("a")).unwrap().read(10).await.err().unwrap();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
}

#[tokio::test]
async fn reads_go_on_after_a_restart_of_the_server() {
    let mut server = RedisServer::start_persistent();
    let first = append(&server, 0..3).await;
    let source = open(&server, options("a"));
    assert_eq!(ids(&read_some(&source).await), first);
    server.kill();
    server.start_again();
    let second = append(&server, 3..6).await;
    assert_eq!(ids(&read_some(&source).await), second);
    assert_eq!(source.lag().await.unwrap().pending, 6);
}

#[tokio::test]
async fn commits_settle_their_stream() {
    for checkpoint in [false, true] {
        let server = RedisServer::start();
        let all = append(&server, 0..4).await;
        let source = open(&server, Options { checkpoint, ..options("a") });
        assert_eq!(ids(&read_some(&source).await), all);
        let store = open_store(&server, Some(checkpoint));
        assert_eq!(store.location(), source.location());
        let mut writer = store.writer(&partition(0), &single()).await.unwrap();
        assert!(writer.acknowledges());
        writer.commit(&Commit { number: 1, last: Some(all[2]), acknowledge: all[..3].to_vec(), ..Commit::default() }).await.unwrap();
        let lag = source.lag().await.unwrap();
        let expected = if checkpoint { 0 } else { 1 };
        assert_eq!(lag.pending, expected);
        if checkpoint {
            let next = open(&server, Options { checkpoint, place: writer.place().last, ..options("a") });
            assert_eq!(ids(&read_some(&next).await), all[3..]);
        }
    }
}

#[tokio::test]
async fn another_host_waits_for_the_lease_and_fences_the_first() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let mut first = store.writer(&partition(0), &as_writer("a", 60_000)).await.unwrap();
    first.commit(&commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b"a"))])).await.unwrap();
    let held = store.writer(&partition(0), &as_writer("b", 60_000)).await.err().unwrap();
    assert!(matches!(held, Error::Held { ref holder, remaining_ms: 1..=60_000, .. } if holder == "a"), "{held}");
    // The lease runs out.
    let _: u64 = server.ask("DEL gm:lease:s/g/0");
    let mut second = store.writer(&partition(0), &as_writer("b", 60_000)).await.unwrap();
    let late = commit_of(2, &[(b"v:1", version(9, 9), row(version(9, 9), b"late"))]);
    assert!(matches!(first.commit(&late).await, Err(Error::Fenced { .. })));
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap()[0].as_deref(), Some(&row(version(1, 1), b"a")[..]));
    second.commit(&commit_of(2, &[(b"v:1", version(2, 2), row(version(2, 2), b"b"))])).await.unwrap();
    second.release().await.unwrap();
    store.writer(&partition(0), &as_writer("a", 60_000)).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_applied_once() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    for number in 1..=20 {
        let commit = commit_of(number, &[(b"v:1", version(number as i64, number), row(version(number as i64, number), b""))]);
        server.cut("gristmill-writer");
        while let Err(error) = writer.commit(&commit).await {
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        }
        assert_eq!(writer.place().commits, number);
        assert_eq!(server.ask::<u64>("HGET gm:place:s/g/0 commits"), number);
    }
}

#[tokio::test]
async fn an_emptied_store_is_not_written_to() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    writer.commit(&commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b""))])).await.unwrap();
    let _: String = server.ask("FLUSHALL");
    let lost = writer.commit(&commit_of(2, &[(b"v:1", version(2, 2), row(version(2, 2), b""))])).await;
    assert!(matches!(lost, Err(Error::PlaceLost { .. })), "{lost:?}");
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap(), [None]);
}

#[tokio::test]
async fn short_memory_refuses_the_whole_commit() {
    let server = RedisServer::start();
    let all = append(&server, 0..3).await;
    let source = open(&server, options("a"));
    read_some(&source).await;
    let store = open_store(&server, Some(false));
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    let mut commit = commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b""))]);
    commit.acknowledge = all;
    let _: String = server.ask("CONFIG SET maxmemory 1");
    let refused = writer.commit(&commit).await;
    assert!(matches!(&refused, Err(Error::Refused { reason, .. }) if reason.contains("OOM")), "{refused:?}");
    assert_eq!(server.ask::<u64>("EXISTS gm:row:v:1 gm:place:s/g/0"), 0);
    assert_eq!(source.lag().await.unwrap().pending, 3);
    let _: String = server.ask("CONFIG SET maxmemory 0");
    writer.commit(&commit).await.unwrap();
    assert_eq!(source.lag().await.unwrap().pending, 0);
    assert_eq!(server.ask::<u64>("EXISTS gm:row:v:1 gm:place:s/g/0"), 2);
}

#[tokio::test]
async fn competing_hosts_keep_the_newest_row() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let mut one = store.writer(&partition(0), &Writers::Competing).await.unwrap();
    let mut two = store.writer(&partition(0), &Writers::Competing).await.unwrap();
    // Texts that a locale would order otherwise than their bytes.
    for (time, seq) in [(255, 1), (65, 9), (97, 3), (254, 200), (255, 0), (-1, 255)] {
        let _: String = server.ask("SCRIPT FLUSH");
        let writer = if seq % 2 == 0 { &mut one } else { &mut two };
        let number = writer.place().commits + 1;
        writer.commit(&commit_of(number, &[(b"v:1", version(time, seq), row(version(time, seq), b""))])).await.unwrap();
    }
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap()[0].as_deref(), Some(&row(version(255, 1), b"")[..]));
}

#[tokio::test]
async fn a_view_that_moves_to_another_stream_keeps_its_newest_rows() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let other = Partition { stream: "other".into(), ..partition(0) };
    let mut second = store.writer(&other, &single()).await.unwrap();
    second.commit(&commit_of(1, &[(b"w:1", version(1, 1), row(version(1, 1), b""))])).await.unwrap();
    let mut first = store.writer(&partition(0), &single()).await.unwrap();
    first.commit(&commit_of(1, &[(b"v:1", version(50, 1), row(version(50, 1), b""))])).await.unwrap();
    second.commit(&commit_of(2, &[(b"v:1", version(40, 2), row(version(40, 2), b""))])).await.unwrap();
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap()[0].as_deref(), Some(&row(version(50, 1), b"")[..]));
}

#[tokio::test]
async fn a_view_that_moves_away_and_back_keeps_its_newest_rows() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let other = Partition { stream: "other".into(), ..partition(0) };
    let mut first = store.writer(&partition(0), &single()).await.unwrap();
    first.commit(&commit_of(1, &[(b"v:1", version(10, 1), row(version(10, 1), b""))])).await.unwrap();
    let mut second = store.writer(&other, &single()).await.unwrap();
    second.commit(&commit_of(1, &[(b"v:1", version(50, 1), row(version(50, 1), b""))])).await.unwrap();
    first.commit(&commit_of(2, &[(b"v:1", version(40, 2), row(version(40, 2), b""))])).await.unwrap();
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap()[0].as_deref(), Some(&row(version(50, 1), b"")[..]));
}

#[tokio::test]
async fn what_competing_hosts_wrote_is_not_overwritten_by_a_single_one() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let mut competing = store.writer(&partition(0), &Writers::Competing).await.unwrap();
    competing.commit(&commit_of(1, &[(b"v:1", version(50, 1), row(version(50, 1), b""))])).await.unwrap();
    let mut single = store.writer(&partition(0), &single()).await.unwrap();
    single.commit(&commit_of(2, &[(b"v:1", version(40, 2), row(version(40, 2), b""))])).await.unwrap();
    assert_eq!(store.read(&[b"v:1".to_vec()]).await.unwrap()[0].as_deref(), Some(&row(version(50, 1), b"")[..]));
}

#[tokio::test]
async fn a_foreign_key_of_another_type_stops_the_store_before_it_writes() {
    let server = RedisServer::start();
    let _: u64 = server.ask("LPUSH gm:place:s/g/0 x");
    let store = open_store(&server, None);
    let refused = store.writer(&partition(0), &single()).await.err().unwrap();
    assert!(matches!(&refused, Error::Refused { reason, .. } if reason.contains("WRONGTYPE")), "{refused}");
    let _: u64 = server.ask("DEL gm:place:s/g/0");
    let _: u64 = server.ask("LPUSH gm:row:v:1 x");
    let mut writer = store.writer(&partition(0), &Writers::Competing).await.unwrap();
    let mut rows = Rows::default();
    rows.push(b"v:1", &row(version(1, 1), b""), version(1, 1), Some(Timestamp(Timestamp::now().0 + 3_600_000_000)));
    writer.commit(&Commit { number: 1, rows, ..Commit::default() }).await.unwrap();
    assert!(server.ask::<i64>("PTTL gm:row:v:1") > 0);
}

#[tokio::test]
async fn who_waits_for_a_lease_takes_it_when_nobody_has_held_it_for_as_long_as_it_lasts() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let waiting = Writers::Waiting { holder: "waiting".into(), lease_ms: 300 };
    let take = async || {
        let started = Instant::now();
        loop {
            match store.writer(&partition(0), &waiting).await {
                Ok(writer) => return (writer, started.elapsed()),
                Err(Error::Held { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (writer, waited) = take().await;
    assert!(waited >= Duration::from_millis(299), "{waited:?}");
    writer.release().await.unwrap();
    // Whose turn it is takes it at once, and then it was held.
    let entitled = store.writer(&partition(0), &as_writer("entitled", 60_000)).await.unwrap();
    assert!(matches!(store.writer(&partition(0), &waiting).await, Err(Error::Held { holder, .. }) if holder == "entitled"));
    entitled.release().await.unwrap();
    let (_, waited) = take().await;
    assert!(waited >= Duration::from_millis(299), "what was waited before does not count: {waited:?}");
}

#[tokio::test]
async fn hosts_that_say_nothing_any_more_are_forgotten() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let say = async |host: &str, remaining_ms| {
        let all = store.attend("s/g", Attendant { host: host.into(), remaining_ms }).await.unwrap();
        all.into_iter().map(|one| one.host).collect::<Vec<_>>()
    };
    assert_eq!(say("b", 60_000).await, ["b"]);
    assert_eq!(say("a", 200).await, ["a", "b"]);
    assert_eq!(say("b", 60_000).await, ["a", "b"], "a host is there once");
    let started = Instant::now();
    while say("b", 60_000).await.len() > 1 {
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(say("c", 60_000).await, ["b", "c"]);
    assert_eq!(say("b", 0).await, ["c"], "who goes says so");
}

#[tokio::test]
async fn what_is_to_be_tried_again_is_told_once_and_to_the_holder_of_the_lease() {
    let server = RedisServer::start();
    let store = open_store(&server, None);
    let ids: BTreeSet<DeadLetterId> = (0..150).map(|seq| format!("s/1-{seq}/t").parse().unwrap()).collect();
    let mut fenced = store.writer(&partition(0), &single()).await.unwrap();
    assert!(store.dead_letters().ask(&partition(0), &ids).await.unwrap());
    assert!(store.dead_letters().ask(&partition(1), &["s/2-0/t".parse().unwrap()].into()).await.unwrap());
    let mut writer = store.writer(&partition(0), &single()).await.unwrap();
    assert!(fenced.asked(1_000).await.unwrap().is_empty(), "it does not hold the partition any more");
    let mut told = BTreeSet::new();
    for many in [100, 50, 0] {
        let some = writer.asked(100).await.unwrap();
        assert_eq!(some.len(), many);
        told.extend(some);
    }
    assert_eq!(told, ids);
    let ttl: i64 = server.run(&["TTL", "gm:asked:s/g/1"]);
    assert!((1..=86_400).contains(&ttl), "what nobody takes is forgotten: {ttl}");
}

#[tokio::test]
async fn reads_that_a_failover_has_parted_from_the_commits_are_told() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::before(first.port());
    let open = || {
        let (prefix, streams) = ("gm".into(), BTreeMap::new());
        let options = redis_store::Options { prefix, dead_letters_max: 50, streams, tags: Vec::new(), feast: None, book: None };
        RedisStore::new(&format!("redis://127.0.0.1:{}", proxy.port()), options).unwrap()
    };
    let reader = open();
    let key = vec![b"v:1".to_vec()];
    let mut writer = reader.writer(&partition(0), &single()).await.unwrap();
    assert_eq!(reader.read_after(&partition(0), writer.place(), &key).await.unwrap(), [None]);
    writer.release().await.unwrap();
    proxy.lead_to(second.port());
    let committing = open();
    writer = committing.writer(&partition(0), &single()).await.unwrap();
    writer.commit(&commit_of(1, &[(b"v:1", version(1, 1), row(version(1, 1), b""))])).await.unwrap();
    // What the reader is connected to answers, and has nothing of that.
    let astray = reader.read_after(&partition(0), writer.place(), &key).await;
    assert!(matches!(astray, Err(Error::Astray { found: 0, made: 1, .. })), "{astray:?}");
    assert_eq!(astray.unwrap_err().disposition(), Disposition::Stop);
    // From then on it asks whoever the address leads to.
    assert!(reader.read_after(&partition(0), writer.place(), &key).await.unwrap()[0].is_some());
    writer.release().await.unwrap();
}

#[tokio::test]
async fn a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::before(first.port());
    let appender = RedisAppender::open(&format!("redis://127.0.0.1:{}", proxy.port()), "s").unwrap();
    appender.append(&entries([1])).await.unwrap();
    let _: String = first.run(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    proxy.lead_to(second.port());
    let refused = appender.append(&entries([2])).await;
    assert!(refused.is_err(), "nothing was accepted where it would be lost");
    appender.append(&entries([3])).await.unwrap();
    assert_eq!(second.run::<i64>(&["XLEN", "s"]), 1);
}
