//! Streams in partitions: events go where their fields say, everything of an entity is in one partition, and hosts share them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gristmill_tests::flights::{Flight, Seeded, component, flights, oracle};
use gristmill_tests::flood::{features, redis_store, redis_stream};
use gristmill_tests::host::{Host, binary, wait_for};
use gristmill_tests::partitions::{add_at_once, config, counts, held, partition_of, settle, wait_for_shares};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// The store of one server in partitions tests, with a shorter lease.
fn short_lease(server: &RedisServer) -> String {
    redis_store(server).replace("lease_ms = 2000", "lease_ms = 1000")
}

#[test]
fn events_over_http_go_to_their_partitions_and_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config("type = \"embedded\"", "type = \"embedded\"", 5)).unwrap();
    let all = flights(21, 2_000);
    for chunk in all.chunks(100) {
        let lines: Vec<String> = chunk.iter().map(|flight| flight.json().to_string()).collect();
        let (status, answer) = host.post("/v1/streams/flights/events", &lines.join("\n")).unwrap();
        assert_eq!(status, 200, "{answer}");
        let expected: Vec<u32> = chunk.iter().map(|flight| partition_of(&flight.carrier, 5)).collect();
        assert_eq!(answer["partitions"], json!(expected));
        assert_eq!(answer["ids"].as_array().unwrap().len(), chunk.len());
    }
    settle(&host, &all);
    assert_eq!(host.metric("gristmill_entries_settled_total"), 2_000.0);
    assert_eq!(held(&[&host]), [5.0]);
    wait_for("no lag", || (host.metric("gristmill_lag_entries") == 0.0).then_some(()));
    // The newest of all partitions together.
    let (_, answer) = host.get("/v1/streams/flights/events?last=100").unwrap();
    let delays: BTreeSet<String> =
        answer["events"].as_array().unwrap().iter().map(|event| event["event"]["dep_delay"].to_string()).collect();
    assert_eq!(delays, all[1_900..].iter().map(|flight| flight.json()["dep_delay"].to_string()).collect());
    // An event that lacks the field is a mistake of the whole request.
    let (status, answer) = host.post("/v1/streams/flights/events", "[{\"carrier\":\"C1\"},{\"dep_delay\":\"1\"}]").unwrap();
    assert_eq!(status, 422, "{answer}");
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(said.contains("events[1]") && said.contains("no `carrier`"), "{said}");
    assert_eq!(host.metric("gristmill_entries_read_total"), 2_000.0);
    let (_, ready) = host.get("/readyz").unwrap();
    assert!(ready.to_string().contains("5 of 5 partitions here: 0 1 2 3 4"), "{ready}");
    host.stop();
}

/// Everything that a commit touches has the partition's tag; what has none is not part of commits.
fn all_keys_have_tags(server: &RedisServer) {
    let keys: Vec<String> = server.run(&["KEYS", "gristmill:*"]);
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        let is_common = ["gristmill:schemas", "gristmill:schema_ids", "gristmill:hosts:flights/group"].contains(&key.as_str())
            || key.starts_with("gristmill:{book}");
        let tagged = (0..3).any(|index| key.contains(&format!("{{flights:{index}}}")));
        assert!(is_common || tagged, "{key}");
    }
}

#[test]
fn a_producer_adds_to_partitions_itself() {
    for kind in ["redis", "feast_redis"] {
        let server = RedisServer::start();
        let folder = tempfile::tempdir().unwrap();
        let store = redis_store(&server).replace("\"redis\"", &format!("\"{kind}\""));
        let host = Host::start(folder.path(), &config(&store, &redis_stream(&server, "acknowledge"), 3)).unwrap();
        let all = flights(22, 3_000);
        add_at_once(&mut server.connection(), &all, 3);
        settle(&host, &all);
        if kind == "redis" {
            all_keys_have_tags(&server);
        }
        // What stands where it does not belong is a dead letter, and never a row.
        let right = partition_of("stranger", 3);
        let wrong = (right + 1) % 3;
        let fields = ["carrier", "stranger", "sched_dep", "1357000000", "dep_delay", "7", "arr_delay", "1"];
        let id: String = server.run(&[&["XADD", &format!("{{flights:{wrong}}}"), "*"][..], &fields].concat());
        let path = format!("/v1/dead-letters/flights/{id}@{wrong}/carrier");
        let letter = wait_for("the dead letter", || host.get(&path).ok().filter(|(status, _)| *status == 200).map(|(_, letter)| letter));
        assert_eq!((&letter["reason"], &letter["partition"]), (&json!("misrouted"), &json!(wrong)));
        assert!(letter["message"].as_str().unwrap().contains(&format!("belongs into {right}, `{{flights:{right}}}`")), "{letter}");
        let entity = json!({"features": ["carrier:dep_delay_min"], "entities": [{"carrier": "stranger"}]}).to_string();
        assert_eq!(host.post("/v1/features", &entity).unwrap().1["results"][0]["statuses"], json!(["not_found"]));
        // It is found by its id, and stays what it is; at its place it becomes a row.
        let replay = json!({"ids": [format!("flights/{id}@{wrong}/carrier")]}).to_string();
        let (status, answer) = host.post("/v1/dead-letters/replay", &replay).unwrap();
        assert_eq!((status, &answer["still_dead"]), (200, &json!(1)), "{answer}");
        let _: String = server.run(&[&["XADD", &format!("{{flights:{right}}}"), "*"][..], &fields].concat());
        wait_for("the row", || (host.post("/v1/features", &entity).ok()?.1["results"][0]["values"] == json!([7.0])).then_some(()));
        // Dead letters of all partitions are listed newest first, counted and dropped together.
        let (_, listed) = host.get("/v1/dead-letters?limit=10000").unwrap();
        let letters = listed["dead_letters"].as_array().unwrap().iter();
        let times: Vec<jiff::Timestamp> = letters.map(|letter| letter["at"].as_str().unwrap().parse().unwrap()).collect();
        assert!(times.is_sorted_by(|one, next| one >= next));
        assert_eq!(listed["kept"], json!(times.len()));
        assert_eq!(host.delete("/v1/dead-letters?stream=flights").unwrap(), (200, json!({"dropped": times.len()})));
        assert_eq!(host.get("/v1/dead-letters").unwrap().1["kept"], json!(0));
        host.stop();
    }
}

#[test]
fn changes_and_states_name_entities_without_their_tags() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config("type = \"memory\"", "type = \"embedded\"", 4)).unwrap();
    let event = json!({"carrier": "A|B", "sched_dep": "1357000000", "dep_delay": "3", "arr_delay": "1"}).to_string();
    let (status, answer) = host.post("/v1/streams/flights/events", &event).unwrap();
    assert_eq!((status, &answer["partitions"][0]), (200, &json!(partition_of("A%7cB", 4))), "{answer}");
    wait_for("the row", || (host.get("/v1/features/carrier?carrier=A%7CB").ok()?.1["results"][0]["values"][0] == json!(3.0)).then_some(()));
    let (_, views) = host.get("/v1/views/carrier").unwrap();
    assert_eq!(views["partitioning"], json!({"key": "flights", "count": 4, "by": ["carrier"]}));
    host.stop();
}

fn put(host: &Host, query: &str) -> (u16, Value) {
    host.put(&format!("/v1/transforms/carrier?{query}"), &std::fs::read(component()).unwrap()).unwrap()
}

#[test]
fn a_view_that_would_be_split_or_left_behind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let streams = |count: u32| {
        format!(
            "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[streams.routes]\npartitions = 4\npartition_by = [\"route\"]\n\n\
             [streams.flights]\npartitions = {count}\npartition_by = [\"carrier\"]\n\n[streams.whole]\n"
        )
    };
    let host = Host::start(folder.path(), &streams(2)).unwrap();
    let (status, answer) = put(&host, "stream=routes");
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("partitioned by route, and the entity (carrier) has no `route`"), "{answer}");
    let by_its_binding = "stream=routes&inputs=%7B%22carrier%22%3A%7B%22from%22%3A%22route%22%7D%7D";
    assert_eq!(put(&host, by_its_binding).0, 200, "what counts is where the entity's field stands in the event");
    assert_eq!(host.send("DELETE", "/v1/transforms/carrier", None).unwrap().status, 204);
    // Its rows stand in partitions of `routes` now.
    let (status, answer) = put(&host, "stream=flights&inputs=%7B%7D");
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("left behind"), "{answer}");
    let other = std::fs::read(component()).unwrap();
    let (status, answer) = host.put("/v1/transforms/third?stream=whole&emit=routes", &other).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("stream `routes` is partitioned by `route`, and its events would have no `route`"), "{answer}");
    assert_eq!(host.put("/v1/transforms/other?stream=flights", &other).unwrap().0, 200);
    host.stop();
    let host = Host::start(folder.path(), &streams(3)).unwrap();
    let (_, ready) = host.get("/readyz").unwrap();
    assert!(
        ready.to_string().contains("of `flights` in 2 partitions by carrier, and it would now be made of `flights` in 3 partitions"),
        "{ready}"
    );
    let (status, answer) = host.put("/v1/transforms/other?stream=whole", &other).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("a stream without partitions"), "{answer}");
    host.stop();
}

/// Kills the only host again and again; every event counts once all the same.
fn killed_again_and_again(place: &str, store: impl Fn(&RedisServer) -> String, seed: u64) {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&store(&server), &redis_stream(&server, place), 3);
    let all = flights(seed, 20_000);
    let mut seeded = Seeded(seed);
    for chunk in all.chunks(2_000) {
        let host = Host::start(folder.path(), &config).unwrap();
        add_at_once(&mut server.connection(), chunk, 3);
        let aim = 16.0 * seeded.below(100) as f64;
        wait_for("some batches", || (host.metric("gristmill_entries_settled_total") >= aim).then_some(()));
        host.kill();
    }
    let host = Host::start(folder.path(), &config).unwrap();
    settle(&host, &all);
    assert_eq!(host.metric("gristmill_entries_lost_total"), 0.0);
    host.stop();
}

#[test]
fn kills_change_nothing_with_stream_and_store_on_one_server() {
    killed_again_and_again("acknowledge", redis_store, 23);
}

#[test]
fn kills_change_nothing_by_checkpoint() {
    killed_again_and_again("checkpoint", redis_store, 24);
}

#[test]
fn kills_change_nothing_with_an_embedded_store() {
    killed_again_and_again("acknowledge", |_| "type = \"embedded\"".into(), 25);
}

fn signal(host: &Host, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &host.pid().to_string()]).status().unwrap().success());
}

#[test]
fn hosts_share_the_partitions_and_take_over_from_those_that_die_or_hang() {
    let server = RedisServer::start();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let config = config(&short_lease(&server), &redis_stream(&server, "acknowledge"), 8);
    let start = |index: usize| Host::start(folders[index].path(), &config).unwrap();
    let all = flights(26, 60_000);
    let (mut chunks, mut sent) = (all.chunks(10_000), 0);
    let mut more = || {
        let chunk = chunks.next().unwrap();
        add_at_once(&mut server.connection(), chunk, 8);
        sent += chunk.len();
    };
    let first = start(0);
    wait_for_shares(&[&first], &[8.0]);
    more();
    // While the first one is at work the others come, and get their shares.
    let (second, third) = (start(1), start(2));
    wait_for_shares(&[&first, &second, &third], &[2.0, 3.0, 3.0]);
    more();
    wait_for("the third host to be in the middle of it", || (third.metric("gristmill_entries_settled_total") > 100.0).then_some(()));
    third.kill();
    let killed = Instant::now();
    wait_for_shares(&[&first, &second], &[4.0, 4.0]);
    eprintln!("taken over {} ms after a kill, with a lease of 1000 ms", killed.elapsed().as_millis());
    more();
    signal(&second, "-STOP");
    wait_for_shares(&[&first], &[8.0]);
    more();
    wait_for("the first host to go on", || (first.metric("gristmill_lag_entries") < 10_000.0).then_some(()));
    // It wakes with batches in hand that it must not commit, and gets its share back.
    signal(&second, "-CONT");
    wait_for_shares(&[&first, &second], &[4.0, 4.0]);
    more();
    // Who comes back under the same name takes part as before.
    let third = start(2);
    wait_for_shares(&[&first, &second, &third], &[2.0, 3.0, 3.0]);
    more();
    assert_eq!(sent, all.len());
    settle(&third, &all);
    assert_eq!(features(&first, &oracle(&all)), oracle(&all), "every host serves all partitions");
    assert_eq!(gristmill_tests::partitions::counted(&second, &counts(&all)), counts(&all));
    for host in [&first, &second, &third] {
        assert_eq!(host.metric("gristmill_entries_lost_total"), 0.0);
    }
    [first, second, third].into_iter().for_each(Host::stop);
}

#[test]
fn a_host_that_stops_hands_its_partitions_over_at_once() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&redis_store(&server), &redis_stream(&server, "checkpoint"), 2).replace("lease_ms = 2000", "lease_ms = 9000");
    let hosts = folders.each_ref().map(|folder| Host::start(folder.path(), &config).unwrap());
    wait_for_shares(&[&hosts[0], &hosts[1]], &[1.0, 1.0]);
    let all = flights(27, 10_000);
    add_at_once(&mut server.connection(), &all, 2);
    let [going, staying] = hosts;
    going.stop();
    let stopped = Instant::now();
    wait_for_shares(&[&staying], &[2.0]);
    assert!(stopped.elapsed() < Duration::from_secs(8), "it need not wait for the lease to end: {:?}", stopped.elapsed());
    settle(&staying, &all);
    staying.stop();
}

/// Two hosts that share two partitions, one each, and broken flights of many carriers in both: two dead letters each, for two transforms.
fn two_hosts_with_dead_letters(server: &RedisServer, folders: &[tempfile::TempDir; 2]) -> ([Host; 2], Vec<Flight>) {
    let config = config(&short_lease(server), &redis_stream(server, "acknowledge"), 2);
    let hosts = folders.each_ref().map(|folder| Host::start(folder.path(), &config).unwrap());
    wait_for_shares(&[&hosts[0], &hosts[1]], &[1.0, 1.0]);
    let broken: Vec<Flight> = flights(29, 60).into_iter().map(|flight| Flight { broken: true, ..flight }).collect();
    add_at_once(&mut server.connection(), &broken, 2);
    wait_for("the dead letters", || (hosts[0].metric("gristmill_dead_letters_kept") == 120.0).then_some(()));
    (hosts, broken)
}

/// The dead letters of one transform, as a host lists them.
fn letters(host: &Host, transform: &str) -> Vec<Value> {
    let (status, answer) = host.get(&format!("/v1/dead-letters?limit=1000&transform={transform}")).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer["dead_letters"].as_array().unwrap().clone()
}

fn replay(host: &Host, wanted: &Value) -> Value {
    let (status, answer) = host.post("/v1/dead-letters/replay", &wanted.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A component that finds the delay elsewhere, where it is a number.
fn mend(host: &Host, transform: &str) {
    let put = format!("/v1/transforms/{transform}?inputs=%7B%22dep_delay%22%3A%7B%22from%22%3A%22arr_delay%22%7D%7D");
    let (status, answer) = host.put(&put, &std::fs::read(component()).unwrap()).unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// Two hosts with a partition each say the same of them, whichever is asked.
fn both_tell_of_both_partitions(hosts: &[Host; 2]) {
    let told = hosts.each_ref().map(|host| {
        wait_for("everything to be read", || {
            let (_, answer) = host.get("/v1/streams").ok()?;
            let stream = &answer["streams"][0];
            assert_eq!((&stream["partitions"], &stream["partition_by"]), (&json!(2), &json!(["carrier"])), "{answer}");
            let is_done = |of: &Value| (&of["lag_entries"], &of["pending_entries"]) == (&json!(0), &json!(0));
            let group = &stream["groups"][0];
            let partitions = group["partitions"].as_array()?.clone();
            (is_done(group) && partitions.iter().all(is_done)).then_some(partitions)
        })
    });
    for index in 0..2 {
        let [one, other] = told.each_ref().map(|partitions| &partitions[index]);
        assert_eq!(one["partition"], json!(index));
        assert!(one["held_by"].is_string() && one["place"].is_string(), "{one}");
        assert_eq!((&one["held_by"], &one["place"]), (&other["held_by"], &other["place"]));
        assert_ne!(one["here"], other["here"], "{one} {other}");
    }
    assert_ne!(told[0][0]["held_by"], told[0][1]["held_by"]);
    let shown = std::process::Command::new(binary()).args(["streams", "--partitions", "--host", hosts[0].url()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("flights ") && line.contains("2 by carrier")), "{shown}");
    for partition in &told[0] {
        let is_shown = |line: &str| {
            let here = line.ends_with("(this host)") == partition["here"].as_bool().unwrap();
            here && ["held_by", "place"].iter().all(|member| line.contains(partition[*member].as_str().unwrap()))
        };
        assert!(shown.lines().any(is_shown), "{shown}");
    }
}

#[test]
fn any_host_lists_and_replays_the_dead_letters_of_all_partitions() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (hosts, broken) = two_hosts_with_dead_letters(&server, &folders);
    both_tell_of_both_partitions(&hosts);
    for host in &hosts {
        let partitions: Vec<u64> = letters(host, "counted").iter().map(|letter| letter["partition"].as_u64().unwrap()).collect();
        assert!(partitions.len() == 60 && partitions.contains(&0) && partitions.contains(&1), "{partitions:?}");
        assert_eq!(replay(host, &json!({"transform": "counted"})), json!({"replayed": 60, "settled": 0, "still_dead": 60}));
    }
    hosts.iter().for_each(|host| mend(host, "counted"));
    // By their names, as they are listed by the command line.
    let listed =
        std::process::Command::new(binary()).args(["dead-letters", "list", "--transform", "counted", "--host", hosts[0].url()]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let ids: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|id| id.starts_with("flights/")).collect();
    assert_eq!(ids.len(), 60, "{listed}");
    assert_eq!(replay(&hosts[1], &json!({"ids": ids[..20]})), json!({"replayed": 20, "settled": 20, "still_dead": 0}));
    // The rest is asked for by several clients at the same time, of both hosts.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|client| {
                scope.spawn({
                    let host = &hosts[client % 2];
                    move || replay(host, &json!({"transform": "counted"}))
                })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.join().unwrap()["still_dead"], json!(0));
        }
    });
    let flown = counts(&broken.iter().map(|flight| Flight { broken: false, ..flight.clone() }).collect::<Vec<_>>());
    for host in &hosts {
        assert!(letters(host, "counted").is_empty());
        assert_eq!(gristmill_tests::partitions::counted(host, &flown), flown, "each counts once");
        assert_eq!(letters(host, "carrier").len(), 60);
    }
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn what_is_asked_of_one_host_is_done_by_whoever_holds_the_partition_next() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (hosts, _) = two_hosts_with_dead_letters(&server, &folders);
    hosts.iter().for_each(|host| mend(host, "carrier"));
    let [frozen, other] = &hosts;
    frozen.signal("STOP");
    // Its partition is still its own for a lease; then the other one has both. Nobody need ask again.
    let answer = replay(other, &json!({"transform": "carrier"}));
    let count = |member: &str| answer[member].as_u64().unwrap_or(0);
    assert_eq!((count("settled") + count("waiting"), count("still_dead")), (60, 0), "{answer}");
    wait_for("those of the frozen host's partition too", || letters(other, "carrier").is_empty().then_some(()));
    frozen.signal("CONT");
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn a_host_whose_configuration_lacks_a_transform_has_it_from_the_others() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&short_lease(&server), &redis_stream(&server, "acknowledge"), 4);
    let (without, _) = config.split_once("[transforms.counted]").unwrap();
    let lacking = Host::start(folders[0].path(), without).unwrap();
    wait_for_shares(&[&lacking], &[4.0]);
    let complete = Host::start(folders[1].path(), &config).unwrap();
    wait_for_shares(&[&lacking, &complete], &[2.0, 2.0]);
    wait_for("it to be there", || (lacking.get("/v1/transforms/counted").ok()?.0 == 200).then_some(()));
    let log = std::fs::read_to_string(folders[0].path().join("log")).unwrap();
    assert!(log.contains("declared by the configuration of another host"), "{log}");
    let all = flights(28, 2_000);
    add_at_once(&mut server.connection(), &all, 4);
    settle(&complete, &all);
    [lacking, complete].into_iter().for_each(Host::stop);
}
