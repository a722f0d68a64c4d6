//! Views that are written over HTTP and keep history: what was written is told as of any moment that is kept, whoever wrote it and in whatever order.

use std::collections::BTreeMap;

use gristmill::model::Timestamp;
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ask, laid_out};

const SECOND: i64 = 1_000_000;

/// A host with a view of carts.
fn start(folder: &TempDir, store: &str, options: &str) -> Host {
    let view = "[views.carts]\nentity = { user = \"Int64\" }\nfeatures = { items = \"Int64\", note = \"String\" }";
    let config = format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n[store]\n{store}\n{view}\n{options}\n");
    Host::start(folder.path(), &config).unwrap()
}

fn stores(server: &RedisServer) -> [String; 4] {
    let redis = format!("type = \"redis\"\nurl = \"{}\"", server.url());
    ["type = \"memory\"".to_owned(), "type = \"embedded\"".to_owned(), redis, laid_out(server)]
}

/// Writes rows: user, moment and items.
fn write(host: &Host, rows: &[(i64, i64, i64)]) {
    ask(host, "/push", &pushed(rows, ""));
}

fn pushed(rows: &[(i64, i64, i64)], note: &str) -> Value {
    let users: Vec<i64> = rows.iter().map(|(user, ..)| *user).collect();
    let items: Vec<i64> = rows.iter().map(|(.., items)| *items).collect();
    let times: Vec<String> = rows.iter().map(|(_, at, _)| Timestamp(*at).to_string()).collect();
    let df = json!({"user": users, "items": items, "note": vec![note; rows.len()], "event_timestamp": times});
    json!({"push_source_name": "carts", "df": df})
}

/// The items of a user, or why there are none.
fn items(host: &Host, user: i64, at: Option<i64>) -> Value {
    let body = json!({"features": ["carts:items"], "entities": [{"user": user}], "as_of": at.map(|at| Timestamp(at).to_string()), "provenance": true});
    let (status, answer) = host.post("/v1/features", &body.to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    let result = &answer["results"][0];
    assert_eq!(result["provenance"], json!([null]), "no component made it");
    if result["statuses"][0] == "present" { result["values"][0].clone() } else { result["statuses"][0].clone() }
}

#[test]
fn what_is_written_is_told_as_of_any_moment_that_is_kept() {
    for number in 0..4 {
        let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
        let store = &stores(&server)[number];
        let mut host = start(&folder, store, "history_secs = 3600");
        let now = Timestamp::now().0 / SECOND * SECOND;
        let mut seeded = Seeded(7);
        // By user and moment the items that were written last.
        let mut written: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for turn in 0..60 {
            let row = |number: i64| (seeded.below(4) as i64, now - seeded.below(3_000) as i64 * SECOND, turn * 10 + number);
            let rows: Vec<(i64, i64, i64)> = (0..5).map(row).collect();
            write(&host, &rows);
            written.extend(rows.iter().map(|(user, at, items)| ((*user, *at), *items)));
        }
        // The newest of all, so that all are within history of it.
        for user in 0..4 {
            write(&host, &[(user, now, 1_000 + user)]);
            written.insert((user, now), 1_000 + user);
        }
        let check = |host: &Host| {
            for user in 0..4 {
                for at in (0..200).map(|step| now - step * 17 * SECOND).filter(|at| *at > now - 3_600 * SECOND) {
                    let expected = written.range((user, i64::MIN)..=(user, at)).next_back().map(|(_, items)| *items);
                    assert_eq!(
                        items(host, user, Some(at)),
                        expected.map_or(json!("not_found"), |items| json!(items)),
                        "{store}, user {user} at {}",
                        at - now
                    );
                }
                assert_eq!(items(host, user, None), json!(1_000 + user), "{store}");
            }
        };
        check(&host);
        if store != "type = \"memory\"" {
            host.kill();
            host = start(&folder, store, "history_secs = 3600");
            check(&host);
        }
        // What was sent is sent again, and changes nothing.
        let again: Vec<(i64, i64, i64)> = written.iter().map(|((user, at), items)| (*user, *at, *items)).collect();
        let kept = |host: &Host| host.get("/v1/states/carts?user=1").unwrap().1["kept"]["bytes"].clone();
        let before = kept(&host);
        write(&host, &again);
        check(&host);
        assert_eq!(kept(&host), before, "{store}");
        // Beyond history nothing is said.
        write(&host, &[(5, now - 5_000 * SECOND, 7), (5, now, 8)]);
        for (ago, expected) in [(5_001, json!("not_found")), (4_000, json!("outside_history")), (3_500, json!(7)), (0, json!(8))] {
            assert_eq!(items(&host, 5, Some(now - ago * SECOND)), expected, "{store}, {ago}");
        }
        host.stop();
    }
}

/// Of rows that two hosts write to the same entities at the same time, none is lost.
#[test]
fn two_hosts_write_to_the_same_entities_and_every_row_is_there() {
    let server = RedisServer::start();
    for store in [stores(&server)[2].clone(), laid_out(&server)] {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let hosts = folders.each_ref().map(|folder| start(folder, &store, "history_secs = 3600"));
        let now = Timestamp::now().0 / SECOND * SECOND;
        let moment = |writer: usize, turn: i64| now - (turn * 4 + writer as i64 + 1) * SECOND;
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let host = &hosts[writer % 2];
                scope.spawn(move || {
                    for turn in 0..40 {
                        write(host, &[(10, moment(writer, turn), turn * 4 + writer as i64), (11, moment(writer, turn), turn)]);
                    }
                });
            }
        });
        for (writer, turn) in (0..4).flat_map(|writer| (0..40).map(move |turn| (writer, turn))) {
            let host = &hosts[(writer + 1) % 2];
            assert_eq!(items(host, 10, Some(moment(writer, turn))), json!(turn * 4 + writer as i64), "{store}");
            assert_eq!(items(host, 11, Some(moment(writer, turn))), json!(turn), "{store}");
        }
        hosts.into_iter().for_each(Host::stop);
        server.run::<()>(&["FLUSHALL"]);
    }
}

/// A view begins to keep history, keeps more of it, and none again: what is there stays, and what was never kept is not told.
#[test]
fn a_view_that_is_written_begins_to_keep_history_with_what_is_there() {
    for number in 1..4 {
        let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
        let store = &stores(&server)[number];
        let now = Timestamp::now().0 / SECOND * SECOND;
        let ago = |seconds: i64| now - seconds * SECOND;
        let first = start(&folder, store, "");
        write(&first, &[(20, ago(900), 1), (20, ago(600), 2)]);
        assert_eq!(items(&first, 20, Some(ago(700))), json!("outside_history"), "{store}");
        first.stop();
        let second = start(&folder, store, "history_secs = 3600");
        assert_eq!(items(&second, 20, Some(ago(500))), json!(2), "{store}");
        write(&second, &[(20, ago(300), 3), (20, ago(700), 0), (22, ago(600), 7)]);
        assert_eq!(items(&second, 22, Some(ago(700))), json!("not_found"), "{store}");
        let told = [
            (Some(800), json!("outside_history")),
            (Some(650), json!("outside_history")),
            (Some(500), json!(2)),
            (Some(200), json!(3)),
            (None, json!(3)),
        ];
        for (at, expected) in &told {
            assert_eq!(items(&second, 20, at.map(ago)), *expected, "{store}, {at:?}");
        }
        second.stop();
        let third = start(&folder, store, "");
        assert_eq!((items(&third, 20, None), items(&third, 20, Some(ago(500)))), (json!(3), json!("outside_history")), "{store}");
        write(&third, &[(20, ago(100), 4), (20, ago(250), 9)]);
        assert_eq!((items(&third, 20, None), items(&third, 20, Some(ago(50)))), (json!(4), json!(4)), "{store}");
        // Of what was written meanwhile the newest row is known, and nothing of moments before it.
        write(&third, &[(21, ago(100), 4), (21, ago(250), 9), (22, ago(900), 8)]);
        third.stop();
        let fourth = start(&folder, store, "history_secs = 3600");
        for user in [20, 21] {
            write(&fourth, &[(user, ago(30), 5)]);
            let told =
                [(Some(280), json!("outside_history")), (Some(150), json!("outside_history")), (Some(50), json!(4)), (None, json!(5))];
            for (at, expected) in &told {
                assert_eq!(items(&fourth, user, at.map(ago)), *expected, "{store}, {user}, {at:?}");
            }
        }
        // Of one that stayed as it was, because what came was older.
        for (at, expected) in [(Some(850), json!("outside_history")), (Some(650), json!("outside_history")), (None, json!(7))] {
            assert_eq!(items(&fourth, 22, at.map(ago)), expected, "{store}, {at:?}");
        }
        fourth.stop();
    }
}

/// Expiry: a row that is not shown any more is told as of moments when it was, and what comes back does not answer for what is forgotten.
#[test]
fn rows_of_a_written_view_expire_and_come_back() {
    for number in 0..4 {
        let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
        let store = &stores(&server)[number];
        let host = start(&folder, store, "history_secs = 1\nexpire_secs = 1");
        let first = Timestamp::now().0;
        write(&host, &[(30, first, 1)]);
        wait_for("the row to be forgotten", || (items(&host, 30, Some(first)) == json!("outside_history")).then_some(()));
        assert_eq!(items(&host, 30, None), json!("not_found"), "{store}");
        let late = first - 10 * SECOND;
        write(&host, &[(30, late, 0)]);
        for at in [late, late + SECOND, first - 1, first, first + SECOND / 2] {
            assert_eq!(items(&host, 30, Some(at)), json!("outside_history"), "{store}, {} after it", at - late);
        }
        host.stop();
    }
}

/// How long entities last is remembered: what a shorter time has forgotten is told of by no longer one, and what is new is told as if there had been no other.
#[test]
fn what_a_shorter_time_has_forgotten_is_outside_history_after_it_is_longer() {
    let (server, folder) = (RedisServer::start(), TempDir::new().unwrap());
    let store = &stores(&server)[2];
    let first = start(&folder, store, "expire_secs = 5");
    let at = Timestamp::now().0;
    write(&first, &[(50, at, 1)]);
    wait_for("the row to be forgotten", || (items(&first, 50, None) == json!("not_found")).then_some(()));
    let forgotten = Timestamp::now().0;
    first.stop();
    for options in ["expire_secs = 1000\nhistory_secs = 3600", "history_secs = 3600"] {
        let host = start(&folder, store, options);
        for user in [50, 51] {
            assert_eq!(items(&host, user, Some(at)), json!("outside_history"), "{options}");
        }
        let after = Timestamp::now().0;
        write(&host, &[(52, forgotten, 1), (52, after, 2)]);
        assert_eq!(
            (items(&host, 52, Some(forgotten)), items(&host, 52, Some(Timestamp::now().0))),
            (json!("outside_history"), json!(2)),
            "{options}"
        );
        host.stop();
    }
}

/// Of one entity no more is kept than there is room for: its history becomes shorter, and says so.
#[test]
fn an_entity_that_is_written_again_and_again_keeps_what_there_is_room_for() {
    let folder = TempDir::new().unwrap();
    let host = start(&folder, "type = \"memory\"", "history_secs = 3600");
    let now = Timestamp::now().0 / SECOND * SECOND;
    let long = "x".repeat(500_000);
    for turn in 0..10 {
        ask(&host, "/push", &pushed(&[(40, now - (10 - turn) * SECOND, turn)], &long));
    }
    let bytes = host.get("/v1/states/carts?user=40").unwrap().1["kept"]["bytes"].as_u64().unwrap();
    assert!((1_000_000..=2 << 20).contains(&bytes), "{bytes}");
    assert_eq!(items(&host, 40, Some(now - 10 * SECOND)), json!("outside_history"));
    assert_eq!((items(&host, 40, Some(now - SECOND)), items(&host, 40, Some(now - 2 * SECOND))), (json!(9), json!(8)));
    // Rows of the future have no history that could become shorter.
    let future: Vec<i64> = (1..=5).map(|turn| now + turn * 3_600 * SECOND).collect();
    let send = |rows: &[(i64, i64, i64)]| host.send("POST", "/push", Some(pushed(rows, &long).to_string().as_bytes())).unwrap();
    let answers: Vec<u16> = future.iter().map(|at| send(&[(41, *at, 1)]).status).collect();
    assert_eq!(answers, [200, 200, 200, 200, 400]);
    let answer = send(&[(42, now, 1), (42, now + 100_000 * SECOND, 2)]);
    let said = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == 400 && said.contains("row 1") && said.contains("a day ahead"), "{said}");
    assert_eq!(items(&host, 42, None), json!("not_found"), "nothing of it");
    host.stop();
}
