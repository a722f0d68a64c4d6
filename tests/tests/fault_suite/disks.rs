//! Disks that are full and files that are torn, under a host that keeps everything in its folder.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gristmill_tests::fault_world::{copy_folder, wait_gently};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{DEADLINE, Host};
use gristmill_tests::mixed::{self, Features, Mixed};
use gristmill_tests::redis_server::RedisServer;

use crate::compiled;

const STREAM: &str = "/v1/streams/events/events";

fn config() -> String {
    mixed::config("type = \"embedded\"", "type = \"embedded\"")
}

/// The number of the newest event in the stream.
fn newest(host: &Host) -> Option<usize> {
    let (_, newest) = host.get(&format!("{STREAM}?last=1")).ok()?;
    newest["events"][0]["event"]["number"].as_str()?.parse().ok()
}

/// Sends events, or says what the host answered.
fn send(host: &Host, events: &[Mixed]) -> Result<(), String> {
    let lines: Vec<String> = events.iter().map(|event| event.json().to_string()).collect();
    match host.post(STREAM, &lines.join("\n")) {
        Ok((200, _)) => Ok(()),
        Ok((status, answer)) => Err(format!("{status} {answer}")),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn wait_for(host: &Host, events: &[Mixed]) {
    let (expected, mut served) = (mixed::expected(events), Features::default());
    let equal = wait_gently("the features", DEADLINE, || {
        served = mixed::served(host, &expected);
        (served == expected).then_some(())
    });
    equal.unwrap_or_else(|wrong| panic!("{wrong}: {:?}", served.differing(&expected)));
    wait_gently("the dead letters", DEADLINE, || (mixed::shown_letters(host) == mixed::letters(events)).then_some(())).unwrap();
}

/// The disk is full in the middle of a flood: the host says so, goes on serving, and has everything that it had accepted once there is room and it is started again.
#[test]
fn a_full_disk_stops_what_writes_and_nothing_is_lost() {
    for (seed, ends) in [(91, Host::kill as fn(Host)), (92, Host::stop)] {
        let (folder, mut seeded) = (tempfile::tempdir().unwrap(), Seeded(seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let host = Host::start_with_limits(folder.path(), &config()).unwrap();
        let mut all = mixed::events(&mut seeded, 0, 300);
        send(&host, &all).unwrap();
        wait_for(&host, &all);
        host.limit_files(Some((1 << 20) + seeded.below(1 << 16)));
        // Until it is full.
        let refused = loop {
            let more = mixed::events(&mut seeded, all.len() as u64, 50);
            let sent = send(&host, &more);
            all.extend(more);
            match sent {
                Ok(()) => assert!(all.len() < 50_000, "the disk never gets full"),
                Err(refused) => break refused,
            }
        };
        assert!(refused.starts_with('5'), "{refused}");
        wait_gently("the host to say that it is not ready", DEADLINE, || {
            let (status, ready) = host.get("/readyz").ok()?;
            (status == 503 && ready.to_string().contains("make room on the disk")).then_some(())
        })
        .unwrap();
        // It may have stopped at any event; each entity is as it was after one of them.
        let served = mixed::served(&host, &mixed::expected(&all[..300]));
        assert_eq!((served.carriers.len(), served.tallies.is_empty()), (mixed::expected(&all[..300]).carriers.len(), false));
        host.limit_files(None);
        ends(host);
        let host = Host::start(folder.path(), &config()).unwrap();
        let accepted = newest(&host).unwrap() + 1;
        assert!(
            (all.len() - 50..=all.len()).contains(&accepted),
            "{accepted} of {} events are there; all but the last 50 were accepted",
            all.len()
        );
        all.truncate(accepted);
        let more = mixed::events(&mut seeded, accepted as u64, 300);
        send(&host, &more).unwrap();
        all.extend(more);
        wait_for(&host, &all);
        host.stop();
    }
}

/// The database's journal that is written to, and how many of its bytes are in use: it is made long at once.
fn journal(folder: &Path) -> (PathBuf, u64) {
    let files = std::fs::read_dir(folder.join("data/database")).unwrap().flatten().map(|file| file.path());
    let journal = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "jnl"))
        .max_by_key(|file| file.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    let journal = journal.expect("there is a journal");
    let mut bytes = Vec::new();
    std::fs::File::open(&journal).unwrap().read_to_end(&mut bytes).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    (journal, used as u64)
}

#[derive(Debug, Clone, Copy)]
enum Tear {
    /// The file ends here.
    Shorter,
    /// From here on it is zeros, as a page that never reached the disk.
    Zeros,
    /// One bit here is another.
    Flipped,
    /// Noise from here to the end of what was written.
    Noise,
}

fn tear(journal: &Path, used: u64, at: u64, how: Tear, seeded: &mut Seeded) {
    let mut file = std::fs::File::options().read(true).write(true).open(journal).unwrap();
    let length = (used - at).min(64 << 10) as usize;
    let bytes: Vec<u8> = match how {
        Tear::Shorter => return file.set_len(at).unwrap(),
        Tear::Zeros => vec![0; length],
        Tear::Noise => (0..length).map(|_| seeded.below(256) as u8).collect(),
        Tear::Flipped => {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            vec![byte[0] ^ (1 << seeded.below(8))]
        }
    };
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&bytes).unwrap();
}

/// The same where the stream is elsewhere, and has acknowledged what the journal forgets.
#[test]
fn what_a_torn_journal_forgets_is_read_again_from_the_stream() {
    let mut dropped = 0;
    for seed in 0..6 {
        let (server, folder, mut seeded) = (RedisServer::start(), tempfile::tempdir().unwrap(), Seeded(2_000 + seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let place = ["acknowledge", "checkpoint"][(seed % 2) as usize];
        let stream =
            format!("type = \"redis_streams\"\nurl = \"{}\"\ngroup = \"group\"\nplace = \"{place}\"\nblock_ms = 100", server.url());
        let config = mixed::config("type = \"embedded\"", &stream);
        let host = Host::start(folder.path(), &config).unwrap();
        let all = mixed::events(&mut seeded, 0, 600);
        let mut pipe = redis::pipe();
        for event in &all {
            pipe.cmd("XADD").arg("events").arg("*").arg(event.fields()).ignore();
        }
        pipe.query::<()>(&mut server.connection()).unwrap();
        wait_gently("all events", DEADLINE, || (host.metric("gristmill_entries_settled_total") == 600.0).then_some(())).unwrap();
        host.kill();
        let (journal, used) = journal(folder.path());
        let how = [Tear::Shorter, Tear::Noise, Tear::Zeros][(seed % 3) as usize];
        tear(&journal, used, used - 1 - seeded.below((used / 4).min(20_000)), how, &mut seeded);
        let host = Host::start(folder.path(), &config).unwrap();
        wait_for(&host, &all);
        dropped += host.metric("gristmill_entries_settled_total") as u64;
        host.stop();
    }
    assert!(dropped > 0, "nothing was torn");
}

/// The host dies and the end of what it wrote last is torn, as the loss of power does. What is whole is there, rows and states and windows agree with the events that are
/// left, and those that are not can be sent again.
#[test]
fn the_torn_end_of_the_journal_is_dropped_whole() {
    let mut dropped = 0;
    for seed in 0..12 {
        let (folder, mut seeded) = (tempfile::tempdir().unwrap(), Seeded(1_000 + seed));
        copy_folder(compiled(), &folder.path().join("data/compile_cache"));
        let host = Host::start(folder.path(), &config()).unwrap();
        let count = 400 + seeded.below(400);
        let all = mixed::events(&mut seeded, 0, count);
        for chunk in all.chunks(40) {
            send(&host, chunk).unwrap();
        }
        host.kill();
        let (journal, used) = journal(folder.path());
        let how = [Tear::Shorter, Tear::Zeros, Tear::Flipped, Tear::Noise][(seed % 4) as usize];
        let at = used - 1 - seeded.below((used / 4).min(20_000));
        tear(&journal, used, at, how, &mut seeded);
        let host =
            Host::start(folder.path(), &config()).unwrap_or_else(|error| panic!("seed {seed}, {how:?} at {at} of {used}: {error:#}"));
        let left = newest(&host).map_or(0, |number| number + 1);
        assert!(left >= all.len() / 2, "{left} of {} events are left", all.len());
        dropped += all.len() - left;
        wait_for(&host, &all[..left]);
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        if left < all.len() {
            assert!(log.contains("was cut short"), "seed {seed}, {how:?}: the host says what it dropped");
        }
        for chunk in all[left..].chunks(40) {
            send(&host, chunk).unwrap();
        }
        wait_for(&host, &all);
        host.stop();
    }
    assert!(dropped > 0, "nothing was torn");
}
