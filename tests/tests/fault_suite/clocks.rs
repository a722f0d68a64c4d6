//! Clocks that jump, by hours and days, forth and back. Deadlines and time-outs go by a clock that only runs forth, and that is left alone.
//!
//! A Redis server does not start under a false clock (its allocator asks for the time before there is one), so what a jump of its clock does is done to it: leases that end
//! early, and entries whose ids are from the future.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gristmill_tests::fault_world::{copy_folder, wait_gently};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{DEADLINE, Host};
use gristmill_tests::mixed::{self, Mixed};
use gristmill_tests::redis_server::RedisServer;

use crate::compiled;

/// The clock of one process.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Clock {
        let clock = Clock { file: folder.join("clock") };
        clock.set(0);
        clock
    }

    /// So many seconds off the true time.
    fn set(&self, seconds: i64) {
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&aside, &self.file).unwrap();
    }

    /// What makes a process go by it.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
        let library = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
        let library = library.expect("libfaketime is installed; `make test` installs it");
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// The hour, the day and the month, forth and back.
const JUMPS: [i64; 8] = [3_600, -3_600, 0, 86_400 * 3, -86_400 * 3, 60, 86_400 * 30, 0];
/// After all of them.
const LATE: i64 = 86_400 * 40;

fn settled(host: &Host, events: &[Mixed]) {
    let expected = mixed::expected(events);
    let mut served = mixed::Features::default();
    let equal = wait_gently("the features of a run with true clocks", DEADLINE, || {
        served = mixed::served(host, &expected);
        (served == expected).then_some(())
    });
    equal.unwrap_or_else(|wrong| panic!("{wrong}: {:?}", served.differing(&expected)));
    wait_gently("the dead letters", DEADLINE, || (mixed::shown_letters(host) == mixed::letters(events)).then_some(())).unwrap();
}

fn settled_entries(host: &Host, entries: usize) {
    wait_gently("the events to be settled", DEADLINE, || (host.metric("gristmill_entries_settled_total") >= entries as f64).then_some(()))
        .unwrap();
}

/// What a server does whose clock jumps forth: every lease is over.
fn end_leases(server: &RedisServer) -> usize {
    let leases: Vec<String> = server.run(&["KEYS", "gristmill:lease:*"]);
    for lease in &leases {
        let _: i64 = server.run(&["PEXPIRE", lease, "1"]);
    }
    leases.len()
}

#[test]
fn the_clocks_of_hosts_and_server_jump() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let clocks = folders.each_ref().map(|folder| Clock::new(folder.path()));
    let server = RedisServer::start();
    let url = server.url();
    let stream = format!("type = \"redis_streams\"\nurl = \"{url}\"\ngroup = \"group\"\nblock_ms = 100");
    let config = mixed::config(&format!("type = \"redis\"\nurl = \"{url}\"\nlease_ms = 1000"), &stream);
    let hosts = [0, 1].map(|at: usize| {
        copy_folder(compiled(), &folders[at].path().join("data/compile_cache"));
        Host::start_with(&clocks[at].environment(), folders[at].path(), &config).unwrap()
    });
    let (mut seeded, mut events, mut connection, mut ended) = (Seeded(71), Vec::new(), server.connection(), 0);
    for jump in JUMPS {
        let which = seeded.below(3) as usize;
        clocks.iter().enumerate().filter(|(at, _)| which == 2 || which == *at).for_each(|(_, clock)| clock.set(jump));
        let more = mixed::events(&mut seeded, events.len() as u64, 300);
        let ahead = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 + jump * 1_000;
        let mut pipe = redis::pipe();
        for (index, event) in more.iter().enumerate() {
            // Back from the future the server goes on with the greatest id there is.
            let id = if jump > 0 && index == 0 && seeded.below(2) == 0 { format!("{ahead}-*") } else { "*".to_owned() };
            pipe.cmd("XADD").arg("events").arg(id).arg(event.fields()).ignore();
        }
        // An id that is not greater than the last is refused, and with it its event.
        if pipe.query::<()>(&mut connection).is_ok() {
            events.extend(more);
        } else {
            let entries: Vec<(String, std::collections::BTreeMap<String, String>)> = server.run(&["XRANGE", "events", "-", "+"]);
            let there = |event: &&Mixed| entries.iter().any(|(_, fields)| fields["number"] == event.flight.number.to_string());
            events.extend(more.iter().filter(there).cloned());
        }
        ended += end_leases(&server);
        wait_gently("all entries to be acknowledged", DEADLINE, || {
            let groups: Vec<std::collections::BTreeMap<String, redis::Value>> =
                redis::cmd("XINFO").arg("GROUPS").arg("events").query(&mut connection).ok()?;
            let field = |name: &str| groups.first()?.get(name).cloned();
            (field("lag") == Some(redis::Value::Int(0)) && field("pending") == Some(redis::Value::Int(0))).then_some(())
        })
        .unwrap();
    }
    assert!(ended > 2, "leases were ended early");
    // A feature covers what has happened by the clock of the host that answers, so that one must be past everything.
    clocks.iter().for_each(|clock| clock.set(LATE));
    hosts.iter().for_each(|host| settled(host, &events));
    hosts.into_iter().for_each(Host::stop);
}

#[test]
fn the_clock_of_a_host_alone_jumps() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    copy_folder(compiled(), &folder.path().join("data/compile_cache"));
    let config = mixed::config("type = \"embedded\"", "type = \"embedded\"");
    let start = || Host::start_with(&clock.environment(), folder.path(), &config).unwrap();
    let (mut host, mut seeded, mut events, mut before) = (start(), Seeded(72), Vec::new(), 0);
    for (round, jump) in JUMPS.into_iter().enumerate() {
        clock.set(jump);
        for _ in 0..4 {
            let more = mixed::events(&mut seeded, events.len() as u64, 50);
            let lines: Vec<String> = more.iter().map(|event| event.json().to_string()).collect();
            let (status, answer) = host.post("/v1/streams/events/events", &lines.join("\n")).unwrap();
            assert_eq!(status, 200, "{answer}");
            events.extend(more);
        }
        if round % 3 == 2 {
            host.kill();
            host = start();
            before = 0;
        } else {
            before += 200;
            settled_entries(&host, before);
        }
    }
    clock.set(LATE);
    settled(&host, &events);
    host.stop();
}

/// The false clock does jump: else the tests above show nothing.
#[test]
fn a_jump_is_seen_in_the_ids_of_entries() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    copy_folder(compiled(), &folder.path().join("data/compile_cache"));
    let config = mixed::config("type = \"embedded\"", "type = \"embedded\"");
    let host = Host::start_with(&clock.environment(), folder.path(), &config).unwrap();
    let mut seeded = Seeded(73);
    let mut append = || {
        let event = &mixed::events(&mut seeded, 0, 1)[0];
        let answer = host.post("/v1/streams/events/events", &event.json().to_string()).unwrap().1;
        answer["ids"][0].as_str().unwrap().split('-').next().unwrap().parse::<u64>().unwrap()
    };
    let before = append();
    clock.set(86_400);
    wait_gently("the clock to jump", Duration::from_secs(10), || (append() > before + 80_000_000).then_some(())).unwrap();
    host.stop();
}
