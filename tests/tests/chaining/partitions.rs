//! Rows that go on to streams with partitions, from streams with and without: each exactly once, where it belongs, and in order.

use std::collections::{BTreeMap, HashMap};

use gristmill::conformance::guest::{Guest, field, spec};
use gristmill::model::{Batch, Column, Commit, EntryId, Kind, Packed, Validity, Values};
use gristmill::online_store::OnlineStore;
use gristmill::online_store::embedded::EmbeddedStore;
use gristmill::source::Source;
use gristmill::source::embedded::{Log, Retention, Start};
use gristmill::transform::Output;
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::partitions::{partition_of, wait_for_shares};
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::store_conformance::{partition, single};
use serde_json::{Value, json};

use super::{events, oracle, redis_store, redis_stream, served};

/// Kills of the only host.
const KILLS: u64 = 6;
/// Blows to one of two hosts.
const BLOWS: u64 = 7;

/// Into how many partitions the two streams are split.
#[derive(Clone, Copy)]
struct Split {
    events: Option<u32>,
    counts: Option<u32>,
}

fn section(count: Option<u32>, by: &str) -> String {
    count.map_or_else(String::new, |count| format!("\npartitions = {count}\npartition_by = [\"{by}\"]"))
}

/// The first fold counts the events of each entity; the second is keyed by the count, whoever it was that has come to it.
fn config(store: &str, events: &str, counts: &str, split: Split) -> String {
    super::config(store, &format!("{events}{}", section(split.events, "id")), &format!("{counts}{}", section(split.counts, "seen")))
}

/// Adds events as a producer does that sends nothing through a host.
fn add(server: &RedisServer, events: &[Value], split: Option<u32>) {
    for chunk in events.chunks(1_000) {
        let mut pipe = redis::pipe();
        for event in chunk {
            let id = event["id"].as_str().unwrap();
            let key = split.map_or("events".to_owned(), |count| format!("{{events:{}}}", partition_of(id, count)));
            let xadd = pipe.cmd("XADD").arg(key).arg("*");
            for (name, value) in event.as_object().unwrap() {
                xadd.arg(name).arg(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        pipe.query::<Vec<String>>(&mut server.connection()).unwrap();
    }
}

/// The emitted rows of each partition of `counts`: whose, and which count, in the order of the stream.
fn emitted(server: &RedisServer, split: Option<u32>) -> Vec<Vec<(String, u64)>> {
    let keys = split.map_or(vec!["counts".to_owned()], |count| (0..count).map(|index| format!("{{counts:{index}}}")).collect());
    let read = |key: &String| {
        let entries: Vec<(String, HashMap<String, String>)> = server.run(&["XRANGE", key, "-", "+"]);
        entries.into_iter().map(|(_, mut event)| (event.remove("id").unwrap(), event["seen"].parse().unwrap())).collect()
    };
    keys.iter().map(read).collect()
}

fn emitted_count(server: &RedisServer, split: Option<u32>) -> u64 {
    let keys = split.map_or(vec!["counts".to_owned()], |count| (0..count).map(|index| format!("{{counts:{index}}}")).collect());
    keys.iter().map(|key| server.run::<u64>(&["XLEN", key])).sum()
}

/// Each count of each entity went on once, to where it belongs, and an entity's in the order of its events.
fn everything_went_on_once_and_in_order(server: &RedisServer, split: Option<u32>, events: &[Value]) {
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    events.iter().filter(|event| event["amount"].is_u64()).for_each(|event| {
        *expected.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    });
    let (mut seen, mut newest): (BTreeMap<String, Vec<u64>>, _) = (BTreeMap::new(), HashMap::new());
    for (index, rows) in emitted(server, split).into_iter().enumerate() {
        for (id, count) in rows {
            if let Some(partitions) = split {
                assert_eq!(partition_of(&count.to_string(), partitions), index as u32, "{id} has come to {count}");
            }
            let before = newest.insert((index, id.clone()), count);
            assert!(before.is_none_or(|before| before < count), "{id}: {before:?} before {count} in partition {index}");
            seen.entry(id).or_default().push(count);
        }
    }
    for counts in seen.values_mut() {
        counts.sort_unstable();
    }
    assert_eq!(seen, expected.into_iter().map(|(id, count)| (id, (1..=count).collect())).collect());
}

/// Waits for what a run without faults would serve, and makes sure that it stays so.
fn settle(host: &Host, others: &[&Host], events: &[Value]) {
    let expected = oracle(events);
    let count = |all: &BTreeMap<u64, [u64; 2]>| all.values().map(|[entities, _]| entities).sum::<u64>();
    wait_for("every row to be counted", || (count(&served(host, &expected)) >= count(&expected)).then_some(()));
    wait_for("everything to be settled", || {
        let left = |host: &Host| host.metric("gristmill_pending_entries") + host.metric("gristmill_lag_entries");
        (others.iter().copied().chain([host]).map(left).sum::<f64>() == 0.0).then_some(())
    });
    assert_eq!(served(host, &expected), expected);
    let refused = events.iter().filter(|event| event["amount"].as_u64().is_none()).count();
    assert_eq!(host.metric("gristmill_dead_letters_kept"), refused as f64, "what could not be used, and nothing that went astray");
}

fn killed_on_one_server(place: &str, seed: u64, split: Split) {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let stream = redis_stream(&server, place);
    let config = config(&redis_store(&server), &stream, &stream, split);
    let (events, mut seeded) = (events(seed), Seeded(seed));
    for chunk in events.chunks(events.len().div_ceil(KILLS as usize)) {
        let host = Host::start(folder.path(), &config).unwrap();
        add(&server, chunk, split.events);
        let aim = emitted_count(&server, split.counts) + seeded.below(chunk.len() as u64 / 2);
        wait_for("some more rows to go on", || (emitted_count(&server, split.counts) >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    settle(&host, &[], &events);
    everything_went_on_once_and_in_order(&server, split.counts, &events);
    host.stop();
}

#[test]
fn killed_from_partitions_to_partitions() {
    killed_on_one_server("acknowledge", 31, Split { events: Some(3), counts: Some(4) });
}

#[test]
fn killed_from_a_whole_stream_to_partitions_by_checkpoint() {
    killed_on_one_server("checkpoint", 32, Split { events: None, counts: Some(3) });
}

#[test]
fn killed_from_partitions_to_a_whole_stream() {
    killed_on_one_server("acknowledge", 33, Split { events: Some(3), counts: None });
}

#[test]
fn killed_between_embedded_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("type = \"embedded\"", "", "", Split { events: Some(3), counts: Some(4) });
    let events = events(34);
    // All of them first, and nobody to read them: a request that a kill cuts off may have been carried out or not.
    let (streams, _) = config.split_once("[transforms.tally]").unwrap();
    let host = Host::start(folder.path(), streams).unwrap();
    for chunk in events.chunks(2_000) {
        let (status, answer) = host.post("/v1/streams/events/events", &json!(chunk).to_string()).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    host.stop();
    let (expected, mut seeded) = (oracle(&events), Seeded(34));
    for _ in 0..KILLS {
        let host = Host::start(folder.path(), &config).unwrap();
        let aim = (32 * (1 + seeded.below(48))) as f64;
        wait_for("the host to come some batches further", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    assert_ne!(served(&host, &expected), expected, "the host was done before it was killed for the last time");
    settle(&host, &[], &events);
    host.stop();
}

/// Two hosts share the partitions of both streams, and one after the other is killed, frozen and started again while events flow. The events come from the
/// server of the store, or from another one.
fn two_hosts(place: &str, seed: u64, is_elsewhere: bool) {
    let (server, folders) = (RedisServer::start(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let elsewhere = is_elsewhere.then(RedisServer::start);
    let from = elsewhere.as_ref().unwrap_or(&server);
    let split = Split { events: Some(3), counts: Some(4) };
    let store = redis_store(&server).replace("lease_ms = 2000", "lease_ms = 1000");
    let config = config(&store, &redis_stream(from, place), &redis_stream(&server, place), split);
    let start = |index: usize| Host::start(folders[index].path(), &config).unwrap();
    let (events, mut seeded) = (events(seed), Seeded(seed));
    let mut hosts = [Some(start(0)), Some(start(1))];
    for chunk in events.chunks(events.len().div_ceil(BLOWS as usize)) {
        add(from, chunk, split.events);
        let aim = emitted_count(&server, split.counts) + seeded.below(chunk.len() as u64 / 2);
        wait_for("some more rows to go on", || (emitted_count(&server, split.counts) >= aim).then_some(()));
        let struck = seeded.below(2) as usize;
        let blow = seeded.below(3);
        let other = hosts[1 - struck].as_ref().unwrap();
        let host = hosts[struck].as_ref().unwrap();
        match blow {
            // It is frozen with a batch in hand, and wakes when all of its partitions are the other's.
            0 => {
                host.signal("STOP");
                wait_for_shares(&[other], &[7.0]);
                host.signal("CONT");
            }
            // It comes back at once, and takes its own leases up again.
            1 => {
                hosts[struck].take().unwrap().kill();
                hosts[struck] = Some(start(struck));
            }
            _ => {
                hosts[struck].take().unwrap().kill();
                wait_for_shares(&[hosts[1 - struck].as_ref().unwrap()], &[7.0]);
                hosts[struck] = Some(start(struck));
            }
        }
    }
    let [first, second] = hosts.map(Option::unwrap);
    settle(&first, &[&second], &events);
    assert_eq!(served(&second, &oracle(&events)), oracle(&events));
    everything_went_on_once_and_in_order(&server, split.counts, &events);
    [first, second].into_iter().for_each(Host::stop);
}

#[test]
fn two_hosts_that_are_killed_and_frozen_by_turns() {
    two_hosts("acknowledge", 35, false);
}

#[test]
fn two_hosts_that_are_killed_and_frozen_by_turns_by_checkpoint() {
    two_hosts("checkpoint", 36, false);
}

/// Entries are acknowledged in a step of their own, and may come twice.
#[test]
fn two_hosts_that_are_killed_and_frozen_by_turns_with_the_events_elsewhere() {
    two_hosts("acknowledge", 37, true);
}

/// A guest that answers one row with one output, which is null if it may be.
fn guest(output: &str, kind: Kind, nullable: bool) -> Vec<u8> {
    let mut packed = Packed::default();
    packed.push(b"");
    let values = match kind {
        Kind::Text => Values::Texts(packed),
        _ => Values::Floats(vec![0.5]),
    };
    let validity = nullable.then(|| Validity { bits: vec![0] });
    let answer = Output { batch: Batch { rows: 1, columns: vec![Column { values, validity }.into()] }, origins: None, rejected: vec![] };
    let mut guest = Guest::answering(spec(&[]), answer);
    guest.spec.outputs.push(field(output, kind, nullable));
    guest.component().unwrap()
}

#[test]
fn a_stream_whose_partition_its_rows_may_not_tell_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let streams: String = ["key", "other", "nested.key", "event_time"]
        .map(|by| format!("[streams.\"by_{by}\"]\npartitions = 4\npartition_by = [\"{by}\"]\n"))
        .concat();
    let host = Host::start(folder.path(), &format!("[host]\nlisten = \"127.0.0.1:0\"\n\n{streams}")).unwrap();
    let put = |emit: &str, component: &[u8]| host.put(&format!("/v1/transforms/t?stream=s&emit={emit}"), component).unwrap();
    let refused = |emit: &str, component: &[u8], reason: &str| {
        let (status, answer) = put(emit, component);
        let said = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 422 && said.contains(reason), "{emit}: {status} {answer}");
    };
    let text = guest("other", Kind::Text, false);
    refused("by_other", &guest("unlike", Kind::Text, false), "its events would have no `other`");
    refused("by_other", &guest("other", Kind::Text, true), "its output `other` may be null: return `other` with every row");
    refused("by_other", &guest("other", Kind::Float, false), "which is a float here: only texts, bytes and integers tell partitions");
    refused("by_nested.key", &text, "name in `partition_by` what they always have (`key`, `other`)");
    refused("by_event_time", &text, "which is a timestamp here");
    for emit in ["by_other", "by_key"] {
        assert_eq!(put(emit, &text).0, 200, "{emit}");
    }
    host.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_several_partitions_that_append_to_the_same_ones_lose_and_double_nothing() {
    const COMMITS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let folder = gristmill::data_folder::DataFolder::open(folder.path(), Default::default()).unwrap();
    let store = EmbeddedStore::open(&folder, Default::default()).unwrap();
    let logs: Vec<Log> = (0..3).map(|index| Log::open(&folder, &format!("to {index}"), Retention::default()).unwrap()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for from in 0..4_u64 {
        let mut writer = store.writer(&partition(from as u32), &single()).await.unwrap();
        tasks.spawn(async move {
            for number in 1..=COMMITS {
                let mut commit = Commit { number, ..Commit::default() };
                // In another order each time, of which the order of taking must not depend.
                for turn in 0..3 {
                    let to = ((from + number + turn) % 3) as u32;
                    let text = format!("{from} {number}");
                    commit.emits.to("to", Some(to)).push(EntryId::ZERO, [(&b"n"[..], text.as_bytes())]);
                }
                writer.commit(&commit).await.unwrap();
                writer.commit(&commit).await.unwrap();
            }
        });
    }
    // Events come from outside at the same time.
    let outside = logs[1].clone();
    tasks.spawn(async move {
        for number in 1..=COMMITS {
            let mut entries = gristmill::model::Entries::default();
            entries.push(EntryId::ZERO, [(&b"n"[..], format!("9 {number}").as_bytes())]);
            gristmill::source::Appender::append(&outside, &entries).await.unwrap();
        }
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for (index, log) in logs.iter().enumerate() {
        let reader = log.reader(None, Start::Oldest);
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut ids = Vec::new();
        while ids.len() < log.len() as usize {
            for entry in reader.read(1_000).await.unwrap().entries.iter() {
                let text = String::from_utf8(entry.value(b"n").unwrap().to_vec()).unwrap();
                let (from, number) = text.split_once(' ').unwrap();
                let before = newest.insert(from.to_owned(), number.parse().unwrap()).unwrap_or(0);
                assert_eq!(before + 1, newest[from], "of {from} in log {index}");
                ids.push(entry.id);
            }
        }
        let appended = if index == 1 { 5 } else { 4 };
        assert_eq!((ids.len() as u64, newest.len()), (appended * COMMITS, appended as usize));
        assert!(ids.is_sorted_by(|one, next| one < next && next.seq == one.seq + 1));
    }
}
