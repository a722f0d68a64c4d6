//! Dead letters: for each partition with a tag, and for everything without one, a hash of letters and a set that orders them by time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use async_trait::async_trait;
use redis::{cmd, pipe};

use super::transaction::LetterKeys;
use super::{Error, Shared};
use crate::model::{DeadLetter, DeadLetterId, DeadLetterQuery, Gathered, Partition};
use crate::online_store::{DeadLetterCount, DeadLetters};

/// Dead letters looked at in one round trip. Each may have megabytes.
const PAGE: usize = 64;
/// For so long it is remembered that somebody wants dead letters tried again while nobody holds their partition.
const ASKED_SECS: u64 = 86_400;

#[async_trait]
impl DeadLetters for Shared {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>, Error> {
        self.gather(query, |_, letter| letter).await
    }

    async fn drop(&self, query: &DeadLetterQuery) -> Result<u64, Error> {
        let places = self.all_letters();
        let mut doomed: HashMap<usize, Vec<String>> = HashMap::new();
        for (place, id) in self.gather(query, |place, letter| (place, letter.id.to_string())).await? {
            doomed.entry(place).or_default().push(id);
        }
        let mut dropped = 0;
        for (keys, ids) in places.iter().enumerate().filter_map(|(place, keys)| Some((keys, doomed.remove(&place)?))) {
            for ids in ids.chunks(PAGE) {
                let mut both = pipe();
                both.atomic().cmd("HDEL").arg(&keys.dead).arg(ids).cmd("ZREM").arg(&keys.order).arg(ids).ignore();
                let (gone,): (u64,) = self.ask_all(&both, "HDEL").await?;
                dropped += gone;
            }
        }
        Ok(dropped)
    }

    async fn count(&self) -> Result<DeadLetterCount, Error> {
        let mut count = DeadLetterCount::default();
        for keys in self.all_letters() {
            let mut both = pipe();
            both.cmd("ZCARD").arg(&keys.order).cmd("GET").arg(&keys.evicted);
            let (kept, evicted): (u64, Option<u64>) = self.ask_all(&both, "ZCARD").await?;
            count.kept += kept;
            count.evicted += evicted.unwrap_or(0);
        }
        Ok(count)
    }

    async fn ask(&self, partition: &Partition, ids: &BTreeSet<DeadLetterId>) -> Result<bool, Error> {
        let (key, ids) = (self.asked(partition), ids.iter().map(DeadLetterId::to_string).collect::<Vec<_>>());
        let mut add = pipe();
        add.atomic();
        for ids in ids.chunks(PAGE) {
            add.cmd("SADD").arg(&key).arg(ids).ignore();
        }
        add.cmd("EXPIRE").arg(&key).arg(ASKED_SECS).ignore();
        self.ask_all::<()>(&add, "SADD").await.map(|()| true)
    }
}

/// Takes ids from those that are asked for, if the lease is the asker's.
const ASKED: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
return redis.call('SPOP', KEYS[2], ARGV[2])";

/// The ids of one place, newest first, a page at a time.
#[derive(Default)]
struct Ids {
    page: VecDeque<(String, f64)>,
    start: usize,
    ended: bool,
}

impl Shared {
    pub(super) fn letters(&self, tag: &str) -> LetterKeys {
        LetterKeys { dead: self.tagged("dead", tag), order: self.tagged("dead_order", tag), evicted: self.tagged("dead_evicted", tag) }
    }

    /// The ids of a partition's dead letters that other hosts were asked to have tried again.
    fn asked(&self, partition: &Partition) -> String {
        self.key(&format!("asked:{}", partition.key()))
    }

    /// Takes some of them, for the host whose lease holds this token.
    pub(super) async fn take_asked(
        &self,
        partition: &Partition,
        lease: &str,
        token: &str,
        max: usize,
    ) -> Result<BTreeSet<DeadLetterId>, Error> {
        let mut take = cmd("EVAL");
        take.arg(ASKED).arg(2).arg(lease).arg(self.asked(partition)).arg(token).arg(max);
        let ids: Vec<String> = self.ask(&take, "EVAL").await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        // On a cluster there is nothing without a tag.
        let untagged = (!self.site.is_cluster()).then_some("");
        untagged.into_iter().chain(self.options.tags.iter().map(String::as_str))
    }

    fn all_letters(&self) -> Vec<LetterKeys> {
        self.tags().map(|tag| self.letters(tag)).collect()
    }

    /// Those of a query that names them, from where they would be: beside the partitions of their number.
    async fn named(&self, ids: &BTreeSet<DeadLetterId>) -> Result<Vec<(usize, DeadLetter)>, Error> {
        let mut of: BTreeMap<Option<u32>, Vec<String>> = BTreeMap::new();
        ids.iter().for_each(|id| of.entry(id.partition).or_default().push(id.to_string()));
        let mut found: Vec<(usize, DeadLetter)> = Vec::new();
        for (place, tag) in self.tags().enumerate() {
            let index = tag.strip_suffix('}').and_then(|tag| tag.rsplit_once(':')?.1.parse().ok());
            for ids in of.get(&index).iter().flat_map(|ids| ids.chunks(PAGE)) {
                let texts: Vec<Option<String>> = self.ask(cmd("HMGET").arg(self.letters(tag).dead).arg(ids), "HMGET").await?;
                for text in texts.into_iter().flatten() {
                    found.push((place, letter(&text)?));
                }
            }
        }
        found.sort_by_key(|(_, letter)| std::cmp::Reverse(letter.at));
        Ok(found)
    }

    /// All that match, newest first: the ids of all places are merged, and letters are looked at a page at a time. `keep` is told the place
    /// too.
    async fn gather<T: Send>(&self, query: &DeadLetterQuery, keep: impl Fn(usize, DeadLetter) -> T + Send + Sync) -> Result<Vec<T>, Error> {
        let mut gathered = Gathered::new(query);
        if let Some(ids) = &query.ids {
            for (place, letter) in self.named(ids).await? {
                gathered.add(letter, |letter| keep(place, letter));
            }
            return Ok(gathered.found);
        }
        let places = self.all_letters();
        let mut ids: Vec<Ids> = places.iter().map(|_| Ids::default()).collect();
        while !gathered.is_full() {
            let page = self.next_page(&places, &mut ids).await?;
            if page.is_empty() {
                break;
            }
            let mut texts: HashMap<usize, VecDeque<Option<String>>> = HashMap::new();
            for (place, keys) in places.iter().enumerate() {
                let here: Vec<&String> = page.iter().filter(|(of, _)| *of == place).map(|(_, id)| id).collect();
                if !here.is_empty() {
                    let found: Vec<_> = self.ask(cmd("HMGET").arg(&keys.dead).arg(here), "HMGET").await?;
                    texts.insert(place, found.into());
                }
            }
            for (place, _) in page {
                let Some(text) = texts.get_mut(&place).and_then(VecDeque::pop_front).flatten() else { continue };
                gathered.add(letter(&text)?, |letter| keep(place, letter));
            }
        }
        Ok(gathered.found)
    }

    /// The next ids of all places together, newest first.
    async fn next_page(&self, places: &[LetterKeys], ids: &mut [Ids]) -> Result<Vec<(usize, String)>, Error> {
        let mut page = Vec::with_capacity(PAGE);
        while page.len() < PAGE {
            for (keys, ids) in places.iter().zip(ids.iter_mut()).filter(|(_, ids)| ids.page.is_empty() && !ids.ended) {
                let mut next = cmd("ZREVRANGE");
                next.arg(&keys.order).arg(ids.start).arg(ids.start + PAGE - 1).arg("WITHSCORES");
                ids.page = self.ask::<Vec<_>>(&next, "ZREVRANGE").await?.into();
                ids.start += ids.page.len();
                ids.ended = ids.page.is_empty();
            }
            let fronts = ids.iter().enumerate().filter_map(|(place, ids)| Some((place, ids.page.front()?.1)));
            // Of equal times the first place, so that within a place the order stays the server's.
            let newest = fronts.reduce(|one, other| if other.1 > one.1 { other } else { one });
            let Some((place, _)) = newest else { break };
            page.extend(ids.get_mut(place).and_then(|ids| ids.page.pop_front()).map(|(id, _)| (place, id)));
        }
        Ok(page)
    }
}

fn letter(text: &str) -> Result<DeadLetter, Error> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(format!("a dead letter: {error}")))
}
