//! Entities that expire, and come back: what is told of the moments when they were there is what was told then, or that it cannot be known.

use std::sync::Arc;

use gristmill::model::{
    Aggregate, Aggregation, EntryId, FeatureRow, Field, Header, Kept, Kind, SchemaId, Timestamp, Value as Feature, Version,
};
use gristmill::window::{Added, Entity, Forgets, Lasting, Plan, Shape};
use gristmill_tests::flights::Seeded;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;
use serde_json::json;

use crate::changed::{MINUTE, SECOND, accepted, host, now, orders, put, send, told, windows};

const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const AHEAD_SECS: u64 = 3_600;

/// A way of keeping entities: a window of an hour, and history; or nothing but rows.
struct Keeping {
    keeps: bool,
    since: i64,
    plan: Plan,
    lasting: Option<Lasting>,
}

impl Keeping {
    fn new(since: i64, output: &Field, expire_secs: Option<u64>, history_secs: Option<u64>, exact: bool) -> Keeping {
        let window_ms = Some(3_600_000);
        let count = Aggregation { feature: "n".into(), column: "value".into(), function: Aggregate::Count, window_ms, doc: String::new() };
        let kept = history_secs.map(|history_secs| Kept { aggregations: vec![count], history_secs, exact });
        let plan = Plan::new(std::slice::from_ref(output), &kept.clone().unwrap_or_default());
        Keeping { keeps: kept.is_some(), since, lasting: Lasting::new(expire_secs, Some(&plan)), plan }
    }
}

/// What is told: the number of the newest event, and how many were within the last hour.
type Told = (Option<i64>, i64);

/// What a store has.
struct Stored {
    value: Vec<u8>,
    /// The way that it was stored under, and since when more than rows was kept then.
    of: usize,
    keeps_since: Option<Timestamp>,
    expires_at: Option<i64>,
}

/// An entity as a store has it that forgets, and all that ever came of it.
struct World {
    output: Field,
    /// Whether windows are, in all ways: another definition is refused.
    exact: bool,
    ways: Vec<Arc<Keeping>>,
    forgets: Forgets,
    now: i64,
    stored: Option<Stored>,
    /// Versions of what counted, and when it was forgotten.
    events: Vec<(Version, Option<i64>)>,
}

impl World {
    fn new(seeded: &mut Seeded) -> World {
        let output = Field { name: "value".into(), kind: Kind::Integer, nullable: true, default: None, width: None, doc: String::new() };
        let (now, exact) = (20_000 * DAY, seeded.below(2) == 0);
        let mut world =
            World { output, exact, ways: Vec::new(), forgets: Forgets::beginning(Timestamp(now)), now, stored: None, events: Vec::new() };
        if seeded.below(4) == 0 {
            world.forgets = Forgets::default();
        }
        world.put_way(seeded);
        world
    }

    /// Another version comes into force.
    fn put_way(&mut self, seeded: &mut Seeded) {
        let expire_secs = [None, Some(1), Some(600), Some(86_400), Some(10 * 86_400)][seeded.below(5) as usize];
        let history_secs = [Some(0), Some(600), Some(7_200), Some(5 * 86_400), None][seeded.below(5) as usize];
        let way = Keeping::new(self.now, &self.output, expire_secs, history_secs, self.exact);
        if let Some(before) = self.ways.last() {
            self.forgets = self.forgets.replaced(before.lasting, AHEAD_SECS, way.lasting, Timestamp(self.now));
            if way.keeps && !before.keeps {
                self.forgets = self.forgets.keeping(Timestamp(self.now));
            }
        }
        self.ways.push(Arc::new(way));
    }

    fn way(&self) -> Arc<Keeping> {
        Arc::clone(self.ways.last().unwrap())
    }

    fn pass(&mut self, time: i64) {
        self.now += time;
        if let Some(Stored { expires_at: Some(at), .. }) = self.stored
            && at <= self.now
        {
            self.stored = None;
            self.events.iter_mut().filter(|(_, gone)| gone.is_none()).for_each(|(_, gone)| *gone = Some(at));
        }
    }

    fn before(&self) -> Option<i64> {
        self.forgets.before(self.way().lasting, Timestamp(self.now)).map(|before| before.0)
    }

    /// What is stored, as the way in force has it, to be changed.
    fn entity(&self) -> Entity {
        let (way, outputs) = (self.way(), std::slice::from_ref(&self.output));
        let row = self.stored.as_ref().map(|stored| FeatureRow::new(stored.value.clone().into()).unwrap());
        let of_before = self.stored.as_ref().filter(|stored| stored.of + 1 < self.ways.len());
        let from = of_before.map(|stored| (Shape { outputs, plan: &self.ways[stored.of].plan }, stored.keeps_since));
        let to = Shape { outputs, plan: &way.plan };
        self.forgets.entity(way.lasting, row.as_ref(), from, to, Timestamp(self.now)).unwrap()
    }

    fn add(&mut self, event_time: i64) {
        let entry_id = EntryId { ms: (self.now / 1_000) as u64, seq: self.events.len() as u64 };
        let version = Version { event_time: Timestamp(event_time), entry_id };
        let (way, now) = (self.way(), Timestamp(self.now));
        let (of, keeps_since) = (self.ways.len() - 1, self.forgets.unseen_before);
        let number = Some(Feature::Integer(version.entry_id.seq as i64));
        let mut packed = Vec::new();
        FeatureRow::pack(&mut packed, version, SchemaId(1), [number].into_iter());
        if !way.keeps {
            // Whatever is stored: the newest wins.
            self.events.push((version, None));
            if self.stored.as_ref().is_none_or(|stored| Header::read(&stored.value).unwrap().version < version) {
                let expires_at = way.lasting.map(|lasting| lasting.expires_at(version.event_time, now).0);
                self.stored = Some(Stored { value: packed, of, keeps_since, expires_at });
            }
            return;
        }
        let mut entity = self.entity();
        if entity.add(&way.plan, version, (version, Some(packed.into())), now, |_| number).unwrap() == Added::Counted {
            self.events.push((version, None));
        } else {
            entity.heard_of(version.event_time);
        }
        let mut value = Vec::new();
        entity.push(&way.plan, &mut value, SchemaId(1)).unwrap();
        let newest = entity.newest().expect("the first event always counts").came();
        let expires_at = way.lasting.map(|lasting| lasting.expires_at(newest, now).0);
        self.stored = Some(Stored { value, of, keeps_since, expires_at });
    }

    /// Whether a row is shown as of a moment, or now: not when it is older than is said.
    fn shows(&self, way: &Keeping, row: Version, at: Option<i64>) -> bool {
        let Some(lasting) = way.lasting else { return true };
        let there = self.events.iter().filter(|(_, gone)| gone.is_none_or(|gone| at.unwrap_or(self.now) < gone));
        let same_moment = there.map(|(version, _)| *version).filter(|version| version.event_time == row.event_time);
        let came: Vec<Timestamp> = same_moment.map(Version::came).collect();
        let last = |at: i64| came.iter().filter(|came| came.0 <= at).max().copied().unwrap_or(row.event_time);
        let shows = |at| Forgets::default().shows(Some(lasting), (row.event_time, &[last(at)]), Timestamp(at)).unwrap();
        at.map_or_else(|| Timestamp(self.now) < lasting.end(row), shows)
    }

    /// Whether a row is told of whose moment rows came then; nothing where that cannot be known.
    fn tells(&self, row: Version, came: &[Timestamp], at: Option<i64>) -> Option<bool> {
        match at {
            _ if !self.way().keeps => Some(true),
            None => Some(self.shows(&self.way(), row, at)),
            Some(at) => self.forgets.shows(self.way().lasting, (row.event_time, came), Timestamp(at)),
        }
    }

    /// What is told as of a moment, or now; nothing where it is outside history.
    fn told(&self, at: Option<i64>) -> Option<Told> {
        let absent = || at.is_none_or(|at| self.before().is_none_or(|before| at >= before)).then_some((None, 0));
        let Some(stored) = &self.stored else { return absent() };
        let stored = FeatureRow::new(stored.value.clone().into()).unwrap();
        if !stored.is_entity() {
            let version = stored.header.version;
            let is_known = at.is_none_or(|at| version.event_time.0 <= at && self.before().is_none_or(|before| at >= before));
            let is_shown = if is_known { self.tells(version, &[version.came()], at)? } else { return None };
            if !is_shown && at.is_some_and(|at| at < version.came().0) {
                return None;
            }
            return Some((is_shown.then_some(version.entry_id.seq as i64), 0));
        }
        let entity = self.entity();
        let (row, moment) = match at {
            Some(at) if !self.way().keeps && self.before().is_some_and(|before| at < before) => return None,
            Some(at) if at < entity.born().0 => return absent(),
            Some(at) if !entity.answers(Timestamp(at)) => return None,
            Some(at) => (entity.row(Timestamp(at)), Timestamp(at)),
            None => (entity.newest_row(), Timestamp(self.now).max(entity.kept_from())),
        };
        let row = row.map(|row| FeatureRow::new(row).unwrap());
        let tells = |row: &FeatureRow| self.tells(row.header.version, &entity.came(row.header.version.event_time), at);
        let is_shown = row.as_ref().map(tells);
        let row = if is_shown.unwrap_or(Some(true))? { row } else { None };
        let mut many = 0;
        let take = |value: Option<Feature<'_>>| many = if let Some(Feature::Integer(number)) = value { number } else { -1 };
        entity.finish(&self.way().plan, moment, take).unwrap();
        Some((row.map(|row| row.header.version.entry_id.seq as i64), many))
    }

    /// What a read then gave that knew of all events up to then: how long a row is shown is as the version says that is in force now, or one of those since then. Rows alone are
    /// shown until they are gone. A window begins with what comes while it is kept.
    fn expected(&self, at: Option<i64>) -> Vec<Told> {
        let moment = at.unwrap_or(self.now);
        let there = || self.events.iter().filter(|(_, gone)| gone.is_none_or(|gone| moment < gone)).map(|(version, _)| *version);
        let newest = there().filter(|version| at.is_none_or(|at| version.event_time.0 <= at)).max();
        let tile = if self.exact { 1 } else { MINUTE };
        let first = (moment - HOUR + 1).div_euclid(tile) * tile;
        let many = there().filter(|version| (first..=moment).contains(&version.event_time.0)).count();
        let since_then = self.ways.partition_point(|way| way.since <= moment).saturating_sub(1);
        let shown = self.ways.iter().skip(since_then).flat_map(|way| {
            let shown = newest.filter(|newest| self.shows(way, *newest, at));
            [shown, newest.filter(|_| !way.keeps).or(shown)]
        });
        shown.map(|shown| (shown.map(|shown| shown.entry_id.seq as i64), many as i64)).collect()
    }

    /// Whether this is one of them.
    fn is_expected(&self, at: Option<i64>, told: Told) -> bool {
        let counts = self.ways.iter().all(|way| way.keeps);
        self.expected(at).iter().any(|expected| expected.0 == told.0 && (expected.1 == told.1 || !counts))
    }
}

/// Beside an oracle that forgets nothing: events on time, late and ahead, times of silence, versions that keep entities for longer or less long; read as of every kind of
/// moment.
#[test]
fn what_is_told_of_a_moment_is_what_was_told_then_whatever_was_forgotten_since() {
    let (mut told, mut outside, mut come_back) = (0_u32, 0_u32, 0_u32);
    for seed in 0..20_000 {
        let mut seeded = Seeded(seed);
        let mut world = World::new(&mut seeded);
        for _ in 0..5 + seeded.below(20) {
            let pauses = [0, SECOND, 10 * MINUTE, HOUR, 3 * HOUR, DAY, 3 * DAY, 12 * DAY];
            let pause = pauses[seeded.below(8) as usize];
            world.pass(pause + seeded.below(2 * MINUTE as u64) as i64);
            if seeded.below(12) == 0 {
                world.put_way(&mut seeded);
            }
            let late = [0, 0, 0, -(AHEAD_SECS as i64) * SECOND, 10 * MINUTE, 2 * HOUR, DAY, 6 * DAY, 30 * DAY][seeded.below(9) as usize];
            if seeded.below(3) > 0 {
                come_back += u32::from(world.stored.is_none() && !world.events.is_empty());
                let again = world.events.get(seeded.below(8) as usize).filter(|_| seeded.below(6) == 0);
                world.add(again.map_or(world.now - late, |(version, _)| version.event_time.0));
            }
            let near = |seeded: &mut Seeded| match seeded.below(3) {
                0 => world.now - seeded.below(40 * DAY as u64) as i64,
                1 => world.now - seeded.below(2 * HOUR as u64) as i64,
                _ => {
                    let event = world.events.get(seeded.below(world.events.len() as u64 + 1) as usize);
                    event.map_or(world.now, |(version, _)| version.event_time.0) + [-1, 0, 1, 599, 3_600][seeded.below(5) as usize] * SECOND
                }
            };
            for at in (0..6).map(|_| near(&mut seeded)).filter(|at| *at < world.now).map(Some).collect::<Vec<_>>().into_iter().chain([None])
            {
                match world.told(at) {
                    Some(answer) => {
                        told += 1;
                        let (now, expected) = (world.now, world.expected(at));
                        let is_expected = world.is_expected(at, answer);
                        assert!(is_expected, "seed {seed}, as of {at:?} at {now}: {answer:?}, not {expected:?}: {:?}", world.events);
                    }
                    None => outside += 1,
                }
            }
        }
    }
    assert!(told > outside / 2 && outside > 100_000 && come_back > 20_000, "{told} told, {outside} outside, {come_back} have come back");
}

/// All stores, for tests that wait for entities to expire.
fn stores(server: &RedisServer) -> [String; 3] {
    let redis = format!("type = \"redis\"\nurl = \"{}\"", server.url());
    [r#"type = "memory""#.to_owned(), r#"type = "embedded""#.to_owned(), redis]
}

/// Waits until nothing can be said as of this moment.
pub(crate) fn wait_until_forgotten(host: &Host, id: &str, at: i64) {
    let path = format!("/v1/features/orders?id={id}&features=total&as_of={at}");
    let is_forgotten = || host.get(&path).is_ok_and(|answer| answer.1["results"][0]["statuses"][0] == "outside_history");
    wait_for("the entity to be forgotten", || is_forgotten().then_some(()));
}

#[test]
fn an_entity_that_comes_back_with_a_late_event_does_not_answer_for_what_is_forgotten() {
    let aggregations = windows(&[("n", "count", Some("1s"))]);
    let kept = [("expire_secs", "1"), ("history_secs", "1"), ("aggregations", aggregations.as_str())];
    let rows = [("expire_secs", "2")];
    let server = RedisServer::start();
    for (store, options) in stores(&server).iter().flat_map(|store| [(store, &kept[..]), (store, &rows)]) {
        let (host, _folder) = host(store);
        accepted(put(&host, &orders(), options));
        let first = now();
        send(&host, &[("a", first)]);
        wait_until_forgotten(&host, "a", first);
        let is_gone =
            || host.get("/v1/features/orders?id=a&features=total").is_ok_and(|answer| answer.1["results"][0]["statuses"][0] == "not_found");
        wait_for("the row to be gone", || is_gone().then_some(()));
        // From before what is forgotten: as of then, and as of all that is not known any more, nothing is said.
        let late = first - 10 * SECOND;
        send(&host, &[("a", late)]);
        for at in [late, late + SECOND / 2, first - 1, first, first + SECOND / 2] {
            assert_eq!(told(&host, "a", &["total"], Some(at)), [json!("outside_history")], "{store}, {options:?}, {} after it", at - late);
        }
        host.stop();
    }
}

#[test]
fn a_row_is_shown_for_as_long_as_is_said_and_stored_for_longer_where_there_is_history() {
    for store in [r#"type = "memory""#, r#"type = "embedded""#] {
        let (host, _folder) = host(store);
        accepted(put(&host, &orders(), &[("expire_secs", "10"), ("history_secs", "600")]));
        // It has happened before it came: from then on it is shown, as of moments before as if it had come at once.
        let first = now() - 60 * SECOND;
        let before = now() / 1_000 * 1_000;
        send(&host, &[("a", first)]);
        let sent = now();
        let is_shown = || host.get("/v1/features/orders?id=a&features=total").unwrap().1["results"][0]["statuses"][0] == "present";
        wait_for("the row not to be shown", || (!is_shown()).then_some(()));
        assert!(now() >= before + 10 * SECOND, "{store}");
        wait_for("moments when it was not shown any more", || (now() > sent + 10 * SECOND).then_some(()));
        let gone = json!("not_found");
        for (at, expected) in [
            (first - 1, gone.clone()),
            (first, json!(1.5)),
            (first + 10 * SECOND - 1, json!(1.5)),
            (first + 10 * SECOND, gone.clone()),
            (before - 1, gone.clone()),
            (sent.min(before + 10 * SECOND - 1), json!(1.5)),
            (before + 10 * SECOND - 1, json!(1.5)),
            (sent + 10 * SECOND, gone.clone()),
        ] {
            assert_eq!(told(&host, "a", &["total"], Some(at)), [expected], "{store}, {} after it", at - first);
        }
        send(&host, &[("a", now())]);
        assert_eq!(told(&host, "a", &["total"], Some(first)), [json!(1.5)], "{store}");
        host.stop();
    }
}

/// Nothing can be forgotten of a view that is younger than what its entities last: what is replayed into it is told as of its own time.
#[test]
fn a_young_view_tells_all_of_what_is_replayed_into_it() {
    let server = RedisServer::start();
    for store in stores(&server) {
        let (host, _folder) = host(&store);
        let aggregations = windows(&[("n", "count", Some("1h"))]);
        let options = [("max_age_secs", "3600"), ("history_secs", "86400"), ("aggregations", aggregations.as_str())];
        accepted(put(&host, &orders(), &options));
        let long_ago = now() - 5_000 * DAY;
        send(&host, &[("a", long_ago), ("a", long_ago + 10 * MINUTE), ("b", long_ago + 5 * MINUTE)]);
        for (id, at, expected) in [
            ("a", long_ago, [json!(1), json!(1.5)]),
            ("a", long_ago + 10 * MINUTE, [json!(2), json!(1.5)]),
            ("b", long_ago, [json!(0), json!("not_found")]),
            ("b", long_ago + 5 * MINUTE, [json!(1), json!(1.5)]),
            ("c", long_ago, [json!(0), json!("not_found")]),
        ] {
            assert_eq!(told(&host, id, &["n", "total"], Some(at)), expected, "{store}, {id}");
        }
        host.stop();
    }
}
