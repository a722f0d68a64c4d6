//! Cuts: which version of a transform applied which entries. Whatever is killed and whenever, what is shown is what the rows say themselves.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};

/// Lives of a host in one run; all but the last end by a kill.
const LIVES: u64 = 12;
/// Events that are sent in each.
const EVENTS: u64 = 2_000;

/// The tutorial with a section that means nothing: another version that does the same.
fn version(number: u64) -> Vec<u8> {
    let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm")).unwrap();
    bytes.extend_from_slice(&[0, 3, 1, b'v', number as u8]);
    bytes
}

fn config(store: &str, stream: &str) -> String {
    format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\n{store}\n\n[streams.mystream]\nbatch_events_max = 16\n{stream}\n"
    )
}

/// An id as it is ordered.
fn parse(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

/// Each event is of an entity of its own, so that every entry leaves its row. By entity, their entry ids.
type Sent = BTreeMap<String, String>;

fn event(number: usize) -> Value {
    json!({"id": format!("k{number}"), "value": number})
}

fn add_to_redis(server: &RedisServer, sent: &mut Sent) {
    let numbers: Vec<usize> = (sent.len()..sent.len() + EVENTS as usize).collect();
    let mut pipe = redis::pipe();
    for number in &numbers {
        pipe.cmd("XADD").arg("mystream").arg("*").arg("id").arg(format!("k{number}")).arg("value").arg(*number);
    }
    let ids: Vec<String> = pipe.query(&mut server.connection()).unwrap();
    sent.extend(numbers.iter().map(|number| format!("k{number}")).zip(ids));
}

fn add_over_http(host: &Host, sent: &mut Sent) {
    let numbers: Vec<usize> = (sent.len()..sent.len() + EVENTS as usize).collect();
    let events: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
    let (status, answer) = host.post("/v1/streams/mystream/events", &json!(events).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    let ids = answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
    sent.extend(numbers.iter().map(|number| format!("k{number}")).zip(ids));
}

fn push(host: &Host, number: u64) {
    let (status, answer) = host.put("/v1/transforms/tutorial", &version(number)).unwrap();
    assert_eq!(status, 200, "{answer}");
}

fn settled(host: &Host) -> f64 {
    host.metric("gristmill_entries_settled_total")
}

/// By entity, the component and the entry that its row says it is of.
fn rows(host: &Host, sent: &Sent) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::new();
    for entities in sent.keys().collect::<Vec<_>>().chunks(5_000) {
        let entities: Vec<Value> = entities.iter().map(|id| json!({"id": id})).collect();
        let body = json!({"features": ["tutorial:feature1"], "entities": entities, "provenance": true});
        let Ok((200, answer)) = host.post("/v1/features", &body.to_string()) else { return BTreeMap::new() };
        for result in answer["results"].as_array().unwrap() {
            let text = |member: &str| result["provenance"][0][member].as_str().map(str::to_owned);
            if let (Some(component), Some(entry)) = (text("component"), text("entry_id")) {
                all.insert(result["entity"]["id"].as_str().unwrap().to_owned(), (component, entry));
            }
        }
    }
    all
}

/// The cuts as they are shown: after which entry, which component.
fn cuts(host: &Host) -> Vec<(Option<(u64, u64)>, String)> {
    let (status, shown) = host.get("/v1/transforms/tutorial/versions").unwrap();
    assert_eq!(status, 200, "{shown}");
    let [partition] = shown["cuts"].as_array().unwrap().as_slice() else { panic!("one partition: {shown}") };
    let cuts = partition["cuts"].as_array().unwrap();
    for pair in cuts.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{shown}");
    }
    cuts.iter().map(|cut| (cut["after"].as_str().map(parse), cut["to"]["component"].as_str().unwrap().to_owned())).collect()
}

/// Every row is of the version that the cuts name for its entry. Returns how many cuts there are.
fn agree(host: &Host, sent: &Sent) -> usize {
    let mut rows = BTreeMap::new();
    wait_for("a row of every event", || {
        rows = self::rows(host, sent);
        (rows.len() == sent.len()).then_some(())
    });
    let cuts = cuts(host);
    assert!(cuts.is_sorted_by_key(|(after, _)| *after), "{cuts:?}");
    for (entity, entry) in sent {
        let made_by = cuts.iter().rev().find(|(after, _)| *after < Some(parse(entry))).map(|(_, component)| component);
        let (component, of) = &rows[entity];
        assert_eq!((Some(component), of), (made_by, entry), "{entity}: {cuts:?}");
    }
    cuts.len()
}

/// A host that is swapped and killed again and again, each time at whatever it is just doing.
fn swapped_and_killed(config: &str, seed: u64, mut add: impl FnMut(&Host, &mut Sent)) {
    eprintln!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let (mut seeded, mut sent) = (Seeded(seed), Sent::new());
    for life in 0..LIVES {
        let host = Host::start(folder.path(), config).unwrap();
        if life == 0 {
            push(&host, 0);
        }
        add(&host, &mut sent);
        let mut aim = seeded.below(EVENTS / 2);
        let further = |aim: u64| wait_for("the host to come some batches further", || (settled(&host) >= aim as f64).then_some(()));
        further(aim);
        // So that it has something to do while the next version is compiled.
        add(&host, &mut sent);
        push(&host, life + 1);
        if life % 3 > 0 {
            aim += seeded.below(EVENTS);
            further(aim);
        }
        if life % 3 > 1 {
            assert_eq!(host.post("/v1/transforms/tutorial/roll-back", "").unwrap().0, 200);
        }
        host.kill();
    }
    let host = Host::start(folder.path(), config).unwrap();
    let many = agree(&host, &sent);
    assert!(many as u64 > LIVES / 2, "most versions had events: {many} cuts");
    host.stop();
}

fn redis_store(server: &RedisServer) -> String {
    format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = 500", server.url())
}

fn redis_stream(server: &RedisServer, place: &str) -> String {
    format!("type = \"redis_streams\"\nurl = \"{}\"\nplace = \"{place}\"\nblock_ms = 100", server.url())
}

fn over_redis(store: &dyn Fn(&RedisServer) -> String, place: &str, seed: u64) {
    let server = RedisServer::start();
    let config = config(&store(&server), &redis_stream(&server, place));
    swapped_and_killed(&config, seed, |_, sent| add_to_redis(&server, sent));
}

#[test]
fn cuts_are_true_with_redis_stream_and_redis_store_acknowledging() {
    over_redis(&redis_store, "acknowledge", 31);
}

#[test]
fn cuts_are_true_with_redis_stream_and_redis_store_by_checkpoint() {
    over_redis(&redis_store, "checkpoint", 32);
}

/// Entries are acknowledged in a step of their own, and come again when the host is killed in between.
#[test]
fn cuts_are_true_with_redis_stream_and_embedded_store() {
    over_redis(&|_| "type = \"embedded\"".into(), "acknowledge", 33);
}

#[test]
fn cuts_are_true_with_embedded_stream_and_store() {
    swapped_and_killed(&config("type = \"embedded\"", "type = \"embedded\""), 34, add_over_http);
}

/// Two hosts, of which the one that stands by is pushed to, and the other one is killed before, while or after it takes that over.
#[test]
fn cuts_are_true_when_another_host_takes_over() {
    let server = RedisServer::start();
    // Long enough for a busy machine: nobody is to take over from a host that lives.
    let config = config(&redis_store(&server).replace("500", "3000"), &redis_stream(&server, "acknowledge"));
    let (mut seeded, mut sent) = (Seeded(35), Sent::new());
    let start = |number: u64| {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(folder.path(), &config).unwrap();
        push(&host, number);
        (host, folder)
    };
    let mut at_work = start(0);
    for life in 1..6 {
        let next = start(life);
        let both = |next: &Host| settled(&at_work.0) + settled(next);
        let aim = both(&next.0) + (1 + seeded.below(EVENTS / 2)) as f64;
        add_to_redis(&server, &mut sent);
        wait_for("the host to come some batches further", || (both(&next.0) >= aim).then_some(()));
        std::mem::replace(&mut at_work, next).0.kill();
    }
    let (host, _folder) = at_work;
    assert!(agree(&host, &sent) >= 4, "hosts have taken over");
    let (_, shown) = host.get("/v1/transforms/tutorial/versions").unwrap();
    let last = shown["cuts"][0]["cuts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["to"]["number"], json!(6), "numbers are those of all hosts: {last}");
    assert!(last["from"]["number"].is_u64(), "{last}");
    host.stop();
}

#[test]
fn a_swap_is_pending_until_there_is_an_event_and_a_view_that_ends_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config("type = \"memory\"", "type = \"embedded\"")).unwrap();
    let shown = |host: &Host| host.get("/v1/transforms/tutorial/versions").unwrap().1["cuts"].clone();
    let mut sent = Sent::new();
    push(&host, 1);
    assert_eq!(
        shown(&host),
        json!([{"stream": "mystream", "group": "gristmill", "partition": 0, "cuts": [], "pending": true, "competing": false}])
    );
    add_over_http(&host, &mut sent);
    wait_for("everything to be settled", || (settled(&host) >= sent.len() as f64).then_some(()));
    let last = sent.values().map(|id| parse(id)).max();
    push(&host, 2);
    assert_eq!((&shown(&host)[0]["pending"], shown(&host)[0]["cuts"].as_array().unwrap().len()), (&json!(true), 1));
    // Another transform goes on with the stream, and sees what this one does not.
    assert_eq!(host.put("/v1/transforms/other", &version(2)).unwrap().0, 200);
    assert_eq!(host.send("DELETE", "/v1/transforms/tutorial", None).unwrap().status, 204);
    let mut unseen = Sent::new();
    add_over_http(&host, &mut unseen);
    wait_for("everything to be settled", || (settled(&host) >= 2.0 * EVENTS as f64).then_some(()));
    assert_eq!(host.post("/v1/transforms/tutorial/roll-back", "").unwrap().0, 200);
    add_over_http(&host, &mut sent);
    wait_for("everything to be settled", || (settled(&host) >= 3.0 * EVENTS as f64).then_some(()));
    let cuts = shown(&host)[0]["cuts"].as_array().unwrap().clone();
    let sides: Vec<(&Value, &Value)> = cuts.iter().map(|cut| (&cut["from"]["number"], &cut["to"]["number"])).collect();
    assert_eq!(sides, [(&Value::Null, &json!(1)), (&json!(1), &Value::Null), (&Value::Null, &json!(2))]);
    assert_eq!(cuts[1]["after"].as_str().map(parse), last);
    assert_eq!(cuts[2]["after"].as_str().map(parse), unseen.values().map(|id| parse(id)).max());
    host.stop();
}

#[test]
fn hosts_that_compete_say_that_they_have_no_cuts() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let stream = redis_stream(&server, "acknowledge") + "\nconsumers = \"competing\"";
    let host = Host::start(folder.path(), &config(&redis_store(&server), &stream)).unwrap();
    push(&host, 1);
    let mut sent = Sent::new();
    add_to_redis(&server, &mut sent);
    wait_for("everything to be settled", || (settled(&host) >= sent.len() as f64).then_some(()));
    let shown = host.get("/v1/transforms/tutorial/versions").unwrap().1["cuts"][0].clone();
    assert_eq!((&shown["competing"], &shown["pending"], &shown["cuts"]), (&json!(true), &json!(false), &json!([])), "{shown}");
    host.stop();
}
