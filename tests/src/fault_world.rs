//! Real hosts and real servers, with proxies between them, and a seeded schedule of what is done to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fault_checks::{check_emitted, check_journal, check_provenance, counts, served_counts};
use crate::flights::Seeded;
use crate::host::Host;
use crate::mixed::{self, Mixed};
use crate::partitions::partition_of;
use crate::proxy::{Passing, Proxy};
use crate::redis_server::RedisServer;

/// An entry's id and fields.
type Entry = (String, BTreeMap<String, String>);

/// How long a lease lasts, in milliseconds.
pub const LEASE_MS: u64 = 1_000;
/// Until everything must have come to its end once nothing fails any more. The longest time-out of the host is within.
const SETTLE: Duration = Duration::from_secs(90);

/// Where stream and store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Both in one Redis; entries are acknowledged by the commit.
    OneRedis,
    /// In two.
    TwoRedis,
    /// The stream in Redis, the store in the host's folder.
    RedisAndFolder,
    /// Both in the host's folder.
    Folder,
}

/// What a schedule runs on.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Where stream and store are.
    pub layout: Layout,
    /// `acknowledge` or `checkpoint`.
    pub place: &'static str,
    /// Partitions of the stream, by carrier, which several hosts share; with 0 it has none.
    pub partitions: u32,
}

const fn setting(layout: Layout, place: &'static str, partitions: u32) -> Setting {
    Setting { layout, place, partitions }
}

/// Every setting; a schedule's seed tells which it runs on.
pub const SETTINGS: [Setting; 9] = [
    setting(Layout::OneRedis, "acknowledge", 0),
    setting(Layout::OneRedis, "checkpoint", 0),
    setting(Layout::TwoRedis, "acknowledge", 0),
    setting(Layout::RedisAndFolder, "acknowledge", 0),
    setting(Layout::RedisAndFolder, "checkpoint", 0),
    setting(Layout::Folder, "acknowledge", 0),
    setting(Layout::OneRedis, "acknowledge", 4),
    setting(Layout::OneRedis, "checkpoint", 4),
    setting(Layout::TwoRedis, "acknowledge", 3),
];

/// Versions of a transform that do the same.
pub const VERSIONS: u8 = 3;

/// One host, up or down, and the way to its servers.
struct Place {
    folder: TempDir,
    host: Option<Host>,
    asleep: bool,
    /// To the stream's server and, where that is another one, to the store's.
    proxies: Vec<Proxy>,
    config: String,
}

/// Everything that a schedule acts on.
pub struct World {
    setting: Setting,
    seeded: Seeded,
    servers: Vec<RedisServer>,
    places: Vec<Place>,
    events: Vec<Mixed>,
    log: Vec<String>,
    /// Whether a host was stopped and the others did not take over.
    abandoned: bool,
}

impl Layout {
    fn servers(self) -> usize {
        match self {
            Layout::OneRedis | Layout::RedisAndFolder => 1,
            Layout::TwoRedis => 2,
            Layout::Folder => 0,
        }
    }

    /// A folder is one host's alone; partitions are shared.
    fn hosts(self, partitions: u32, seeded: &mut Seeded) -> usize {
        match self {
            Layout::OneRedis | Layout::TwoRedis if partitions > 0 => 2 + seeded.below(2) as usize,
            Layout::OneRedis | Layout::TwoRedis => 1 + seeded.below(3) as usize,
            Layout::RedisAndFolder | Layout::Folder => 1,
        }
    }
}

impl Place {
    fn new(setting: Setting, servers: &[RedisServer]) -> Place {
        let proxies: Vec<Proxy> = servers.iter().map(|server| Proxy::before(server.port())).collect();
        let url = |proxy: &Proxy| format!("redis://127.0.0.1:{}/0", proxy.port());
        let redis_stream = |proxy: &Proxy| {
            format!(
                "type = \"redis_streams\"\nurl = \"{}\"\ngroup = \"group\"\nplace = \"{}\"\nblock_ms = 100\ndeliveries_max = 1000",
                url(proxy),
                setting.place
            )
        };
        let embedded = || "type = \"embedded\"".to_owned();
        let mut stream = proxies.first().map_or_else(embedded, redis_stream);
        // What is emitted lies where the store does.
        let (store, counts) = match (setting.layout, proxies.last()) {
            (Layout::OneRedis | Layout::TwoRedis, Some(proxy)) => {
                (format!("type = \"redis\"\nurl = \"{}\"\nlease_ms = {LEASE_MS}", url(proxy)), redis_stream(proxy))
            }
            _ => (embedded(), embedded()),
        };
        if setting.partitions > 0 {
            stream += &format!("\npartitions = {}\npartition_by = [\"carrier\"]", setting.partitions);
        }
        let mut config = mixed::chained_config(&store, &stream, &counts);
        if setting.partitions > 0 {
            config = config.replace("emit = \"counts\"", "emit = \"counts\"\ninputs.id.from = \"carrier\"");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        Place { folder, host: None, asleep: false, proxies, config }
    }

    fn start(&mut self) {
        if self.host.is_none() {
            let host = Host::start(self.folder.path(), &self.config);
            self.host = Some(host.unwrap_or_else(|error| panic!("{error:#}")));
        }
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(host) = &self.host
        {
            host.signal("CONT");
        }
    }

    fn awake(&self) -> Option<&Host> {
        self.host.as_ref().filter(|_| !self.asleep)
    }
}

/// Lets a fault last.
pub fn last(time: Duration) {
    let (_kept, never) = std::sync::mpsc::channel::<()>();
    // Nothing is ever sent: it is over in time.
    let _ = never.recv_timeout(time);
}

/// Like [`crate::host::wait_for`], but leaves the processor to those that are waited for.
pub fn wait_gently<T>(what: &str, longest: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if started.elapsed() > longest {
            return Err(format!("waited {longest:?} in vain for {what}"));
        }
        last(Duration::from_millis(15));
    }
}

impl World {
    /// The servers and hosts of a seed, all of them up. The hosts are given code that was compiled before.
    pub fn new(seed: u64, compiled: &Path) -> World {
        let setting = SETTINGS[(seed % SETTINGS.len() as u64) as usize];
        let mut seeded = Seeded(seed);
        let servers: Vec<RedisServer> = (0..setting.layout.servers()).map(|_| RedisServer::start_persistent()).collect();
        let hosts = setting.layout.hosts(setting.partitions, &mut seeded);
        let mut places: Vec<Place> = (0..hosts).map(|_| Place::new(setting, &servers)).collect();
        for place in &mut places {
            copy_folder(compiled, &place.folder.path().join("data/compile_cache"));
            place.start();
        }
        let log = vec![format!("{setting:?}, {hosts} hosts")];
        World { setting, seeded, servers, places, events: Vec::new(), log, abandoned: false }
    }

    /// Runs the whole schedule; what was done, and what is wrong afterwards.
    pub fn run(mut self) -> Result<String, String> {
        let steps = 5 + self.seeded.below(6);
        let outcome = (|| {
            for _ in 0..steps {
                self.add()?;
                self.fault();
                last(Duration::from_millis(self.seeded.below(250)));
            }
            self.heal();
            self.add()?;
            self.check()
        })();
        let done = self.log.join("; ");
        match outcome {
            Ok(()) => Ok(done),
            Err(wrong) => Err(format!("{wrong}\n  after: {done}")),
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.seeded.below(bound)
    }

    /// Adds a few hundred events, or tries to.
    fn add(&mut self) -> Result<(), String> {
        let count = 100 + self.below(300);
        let first = self.events.len() as u64;
        let mut events = mixed::events(&mut self.seeded, first, count);
        if self.setting.partitions > 0 {
            events = events.into_iter().map(Mixed::by_carrier).collect();
        }
        if self.setting.layout == Layout::Folder {
            return self.post(events);
        }
        let Some(server) = self.servers.first() else { return Ok(()) };
        // Which of them are in the stream is looked up in the end; a server that is down takes none.
        for chunk in events.chunks(100) {
            let mut pipe = redis::pipe();
            for event in chunk {
                pipe.cmd("XADD").arg(self.key_of(&event.flight.carrier)).arg("*").arg(event.fields()).ignore();
            }
            if let Some(mut connection) = server.try_connection() {
                let _ = pipe.query::<()>(&mut connection);
            }
        }
        self.events.extend(events);
        Ok(())
    }

    /// The stream's key, or that of the partition where a carrier's events belong.
    fn key_of(&self, carrier: &str) -> String {
        match self.setting.partitions {
            0 => "events".into(),
            count => format!("{{events:{}}}", partition_of(carrier, count)),
        }
    }

    /// Every key of the stream.
    fn keys(&self) -> Vec<String> {
        match self.setting.partitions {
            0 => vec!["events".into()],
            count => (0..count).map(|partition| format!("{{events:{partition}}}")).collect(),
        }
    }

    /// To a host's own log. What was sent when it died may be in or not: the newest event says, for an append is in as a whole or not at all.
    fn post(&mut self, events: Vec<Mixed>) -> Result<(), String> {
        for chunk in events.chunks(50) {
            let lines: Vec<String> = chunk.iter().map(|event| event.json().to_string()).collect();
            let last = chunk.last().map(|event| event.flight.number.to_string()).unwrap_or_default();
            wait_gently("a host to take events", SETTLE, || {
                let host = self.places.first()?.awake()?;
                if let Ok((200, newest)) = host.get("/v1/streams/events/events?last=1")
                    && newest["events"][0]["event"]["number"].as_str() == Some(last.as_str())
                {
                    return Some(());
                }
                host.post("/v1/streams/events/events", &lines.join("\n")).ok().filter(|(status, _)| *status == 200).map(drop)
            })?;
        }
        self.events.extend(events);
        Ok(())
    }

    /// The next thing that is done to somebody.
    fn fault(&mut self) {
        let at = self.below(self.places.len() as u64) as usize;
        let choices = if self.servers.is_empty() { 3 } else { 14 };
        match self.below(choices + choices / 3) {
            what if what >= choices => self.deploy(),
            0 | 3 => self.kill(at),
            1 | 4 => self.restart(at),
            2 | 5 if self.places.len() > 1 && self.setting.partitions > 0 && self.below(2) == 0 => self.sleep_until_replaced(at),
            2 | 5 => self.sleep(at),
            6 => self.kill_server(),
            7 => self.stop_server(),
            what => self.disturb(at, what),
        }
    }

    fn kill(&mut self, at: usize) {
        self.note(format!("kill -9 host {at}"));
        if let Some(host) = self.places[at].host.take() {
            host.kill();
        }
        self.places[at].asleep = false;
        let pause = self.below(2 * LEASE_MS);
        if self.places.len() > 1 {
            last(Duration::from_millis(pause));
        }
        self.places[at].start();
    }

    fn restart(&mut self, at: usize) {
        self.note(format!("restart host {at}"));
        if let Some(host) = self.places[at].host.take() {
            host.stop();
        }
        self.places[at].start();
    }

    fn sleep(&mut self, at: usize) {
        let time = Duration::from_millis(100 + self.below(LEASE_MS * 2));
        self.note(format!("host {at} sleeps for {time:?}"));
        if let Some(host) = &self.places[at].host {
            host.signal("STOP");
        }
        last(time);
        self.places[at].asleep = true;
        self.places[at].wake();
    }

    /// A host sleeps until the others have all of its partitions. What it does when it wakes stands in the journal of the server.
    fn sleep_until_replaced(&mut self, at: usize) {
        let Some(host) = &self.places[at].host else { return };
        let id = std::fs::read_to_string(self.places[at].folder.path().join("data/host_id")).unwrap_or_default();
        host.signal("STOP");
        let Some(server) = self.servers.last() else { return };
        let started = Instant::now();
        let replaced = wait_gently("the others to take over", SETTLE, || {
            let leases: Vec<String> = server.run(&["KEYS", "gristmill:lease:*events*"]);
            let holder = |lease: &String| server.run::<Option<String>>(&["GET", lease]);
            let holders: Vec<String> = leases.iter().filter_map(holder).collect();
            let theirs = holders.iter().filter(|holder| !holder.ends_with(id.trim())).count();
            (theirs == self.setting.partitions as usize && theirs == holders.len()).then_some(())
        });
        let took = started.elapsed();
        self.places[at].asleep = true;
        self.places[at].wake();
        let outcome = if replaced.is_ok() { "until the others have its partitions" } else { "and nobody takes over" };
        self.note(format!("host {at} sleeps for {took:?}, {outcome}"));
        self.abandoned |= replaced.is_err();
    }

    /// The next thing that somebody does to the transforms, on all hosts one after the other. It may fail, and then is in force on some of them.
    fn deploy(&mut self) {
        let (what, transform) = (self.below(7), ["carrier", "tally"][self.below(2) as usize]);
        let version = 1 + self.below(VERSIONS.into()) as u8;
        let act = |host: &Host| match what {
            0..3 => host.put(&format!("/v1/transforms/{transform}"), &mixed::version(transform, version)),
            3 => host.post(&format!("/v1/transforms/{transform}/roll-back"), ""),
            4 => {
                let component = std::fs::read(mixed::tally("conformance-tally-2")).expect("the component is built");
                host.put("/v1/transforms/tally/shadow", &component)
            }
            5 => host.delete("/v1/transforms/tally/shadow"),
            // Whoever has been refused is refused again.
            _ => host.post("/v1/dead-letters/replay", "{}"),
        };
        let answered = self.places.iter().filter_map(Place::awake).map(act);
        let statuses: Vec<String> =
            answered.map(|answer| answer.map_or_else(|error| format!("{error:#}"), |(status, _)| status.to_string())).collect();
        let name = match what {
            0..3 => format!("version {version} of {transform}"),
            3 => format!("{transform} goes back"),
            4 => "a shadow behind tally".into(),
            5 => "no shadow behind tally".into(),
            _ => "dead letters are replayed".into(),
        };
        self.note(format!("{name} ({})", statuses.join(" ")));
    }

    fn kill_server(&mut self) {
        let at = self.below(self.servers.len() as u64) as usize;
        let down = Duration::from_millis(self.below(600));
        self.note(format!("kill -9 server {at}, back after {down:?}"));
        self.servers[at].kill();
        last(down);
        self.servers[at].start_again();
    }

    fn stop_server(&mut self) {
        let at = self.below(self.servers.len() as u64) as usize;
        let time = Duration::from_millis(100 + self.below(2 * LEASE_MS));
        self.note(format!("server {at} sleeps for {time:?}"));
        self.servers[at].signal("STOP");
        last(time);
        self.servers[at].signal("CONT");
    }

    /// What happens between a host and one of its servers.
    fn disturb(&mut self, at: usize, what: u64) {
        let which = self.below(self.places[at].proxies.len() as u64) as usize;
        let time = Duration::from_millis(50 + self.below(2 * LEASE_MS));
        let bytes = self.below(20_000) as usize;
        let name = format!("between host {at} and server {which}");
        let proxy = &self.places[at].proxies[which];
        let passing = match what {
            8 => {
                proxy.cut();
                self.note(format!("cut {name}"));
                return;
            }
            9 | 10 => {
                proxy.cut_after(bytes);
                self.note(format!("cut {name} after {bytes} bytes of replies"));
                return;
            }
            11 => Passing::OneWay,
            12 => Passing::NotAtAll,
            _ => Passing::After(Duration::from_millis(1 + time.as_millis() as u64 / 20)),
        };
        proxy.set(passing);
        last(time);
        // Half-open connections end in one of two ways.
        let ends = if bytes.is_multiple_of(2) { "goes on" } else { "is cut" };
        if ends == "is cut" {
            proxy.cut();
        }
        proxy.set(Passing::Freely);
        self.note(format!("{passing:?} {name} for {time:?}, then it {ends}"));
    }

    /// Everybody is up, awake and within reach.
    fn heal(&mut self) {
        for place in &mut self.places {
            place.proxies.iter().for_each(Proxy::heal);
            place.wake();
            place.start();
        }
    }

    /// The events that are in the stream, in its order: what was added while a server died may be there or not.
    fn in_stream(&self) -> Result<Vec<Mixed>, String> {
        let Some(server) = self.servers.first() else { return Ok(self.events.clone()) };
        let entries = self.keys().into_iter().flat_map(|key| server.run::<Vec<Entry>>(&["XRANGE", &key, "-", "+"]));
        let one = |(id, fields): Entry| {
            let number = fields.get("number").and_then(|number| number.parse::<usize>().ok());
            number.and_then(|number| self.events.get(number)).cloned().ok_or_else(|| format!("entry {id} is of nobody"))
        };
        entries.map(one).collect()
    }

    /// The features equal those of a run without faults; nothing was lost, nothing doubled, nobody panicked.
    fn check(&mut self) -> Result<(), String> {
        let events = self.in_stream()?;
        let (expected, letters) = (mixed::expected(&events), mixed::letters(&events));
        let hosts: Vec<&Host> = self.places.iter().filter_map(Place::awake).collect();
        let host = hosts.first().ok_or("no host is up")?;
        let mut served = mixed::Features::default();
        let settled = wait_gently("the features of a run without faults", SETTLE, || {
            served = mixed::served(host, &expected);
            (served == expected).then_some(())
        });
        settled.map_err(|wrong| format!("{wrong} ({} events): {:?}", events.len(), served.differing(&expected)))?;
        self.check_counts(host, &events)?;
        if let Some(server) = self.servers.first().filter(|_| self.setting.place == "acknowledge") {
            wait_gently("nothing to be pending", SETTLE, || {
                let is_settled = |key: &String| {
                    let pending: Vec<redis::Value> = server.run(&["XPENDING", key, "group"]);
                    matches!(pending.first(), Some(redis::Value::Int(0)))
                };
                self.keys().iter().all(is_settled).then_some(())
            })?;
        }
        wait_gently("the dead letters", SETTLE, || (mixed::shown_letters(host) == letters).then_some(()))
            .map_err(|wrong| format!("{wrong}: {:?} instead of {letters:?}", mixed::shown_letters(host)))?;
        let again = mixed::served(host, &expected);
        if again != expected {
            return Err(format!("something was counted afterwards: {:?}", again.differing(&expected)));
        }
        self.check_versions(host, &expected)?;
        for server in &self.servers {
            check_journal(server.folder())?;
        }
        if self.abandoned {
            return Err("nobody took over from a host that was stopped".into());
        }
        for place in &self.places {
            let log = std::fs::read_to_string(place.folder.path().join("log")).unwrap_or_default();
            for word in ["panicked", "are gone from the stream", "begins anew", "is not the one this host wrote"] {
                if let Some(line) = log.lines().find(|line| line.contains(word)) {
                    return Err(format!("a host says: {line}"));
                }
            }
        }
        Ok(())
    }
}

/// What was emitted, and what came of that.
impl World {
    fn check_counts(&self, host: &Host, events: &[Mixed]) -> Result<(), String> {
        let expected = counts(events);
        let mut seen = BTreeMap::new();
        let settled = wait_gently("what comes of the rows that are emitted", SETTLE, || {
            seen = served_counts(host, &expected);
            (seen == expected).then_some(())
        });
        settled.map_err(|wrong| {
            let differing = expected.iter().filter(|(count, values)| seen.get(count) != Some(values));
            let differing: Vec<String> =
                differing.map(|(count, values)| format!("{count}: {:?} instead of {values:?}", seen.get(count))).collect();
            format!("{wrong}: {differing:?}")
        })?;
        if let (Layout::OneRedis | Layout::TwoRedis, Some(server)) = (self.setting.layout, self.servers.last()) {
            check_emitted(&server.run::<Vec<Entry>>(&["XRANGE", "counts", "-", "+"]), &expected)?;
        }
        Ok(())
    }

    /// Every row is of the version that the cuts name.
    fn check_versions(&self, host: &Host, expected: &mixed::Features) -> Result<(), String> {
        let partition_of = |entity: &str| match self.setting.partitions {
            0 => 0,
            count => u64::from(partition_of(entity, count)),
        };
        check_provenance(host, "carrier:dep_delay_min", "carrier", expected.carriers.keys(), partition_of)?;
        check_provenance(host, "tally:seen", "id", expected.tallies.keys(), partition_of).map(drop)
    }
}

/// Copies the files of a folder, which may be read by their owner only.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the folder is there").flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("the file can be copied");
    }
}
