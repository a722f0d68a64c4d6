//! Results of entities, found by the plan and the entity as the request has it. Many are looked up for one answer, so a look-up takes no lock and counts no reference: an
//! answer holds the table as it was, and with it all that it sends.
//!
//! Results are only ever added, to the younger of two generations. When that is full, it becomes the older one, and the older one goes; what is found in the older one is
//! added to the younger one again. So what is asked for stays, and nothing is ever taken out one by one.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use rustc_hash::FxHasher;

use super::Told;

/// Results in one piece of memory.
const CHUNK: usize = 256;
/// Bytes of a small result with all that belongs to it, about.
const RESULT_BYTES: usize = 512;
/// Places of the index that are looked at for one name. Beyond that it is as if there was no result: nobody makes look-ups long by his choice of names.
const PROBES: usize = 16;

/// Results that are renewed for one answer: others wait meanwhile.
const RENEWED_MAX: usize = 256;
/// Generations that have gone and that answers still hold. Beyond that nothing is added: who takes his answers slowly must not make the host keep more and more.
const GONE_MAX: usize = 2;

/// The results that are kept.
pub(in crate::serve) struct Results {
    current: ArcSwap<Generations>,
    /// Held by who adds.
    gone: Mutex<Gone>,
    /// Of one generation.
    many_max: usize,
    bytes_max: usize,
}

/// What was in the table.
#[derive(Default)]
struct Gone {
    /// Dropped when the next one goes, when hardly an answer holds it any more: so none has to wait until it is dropped.
    last: Option<Arc<Generation>>,
    held: Vec<Weak<Generation>>,
}

/// The table as it is at one moment, but for what is added to the younger generation.
pub(in crate::serve) struct Generations {
    young: Arc<Generation>,
    old: Arc<Generation>,
}

/// Where a result is.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) struct Place {
    pub(super) is_old: bool,
    number: u32,
}

struct Generation {
    /// By hash: the upper half of it, and the result's number and one; 0 for nothing.
    index: Box<[AtomicU64]>,
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    many: AtomicUsize,
    bytes: AtomicUsize,
}

/// Two lines of memory, which processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Slot(OnceLock<Told>);

const _: () = assert!(size_of::<Slot>() == 128);

fn hash(plan: u64, name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(plan);
    hasher.write(name);
    hasher.finish()
}

impl Generation {
    fn new(many_max: usize) -> Generation {
        let slots = (many_max * 2).next_power_of_two();
        Generation {
            index: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            chunks: (0..many_max.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            many: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    fn get(&self, number: u32) -> Option<&Told> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get()?.get(number % CHUNK)?.0.get()
    }

    /// The places of the index where this hash may stand, and what is there.
    fn probe(&self, hash: u64) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let mask = self.index.len() - 1;
        let slots = (0..PROBES).filter_map(move |step| self.index.get((hash as usize).wrapping_add(step) & mask));
        slots.map(|slot| (slot, slot.load(Ordering::Acquire)))
    }

    fn find(&self, hash: u64, plan: u64, name: &[u8]) -> Option<u32> {
        let known = self.probe(hash).take_while(|(_, word)| *word != 0).filter(|(_, word)| word >> 32 == hash >> 32);
        let numbers = known.map(|(_, word)| (word as u32).wrapping_sub(1));
        numbers.into_iter().find(|number| self.get(*number).is_some_and(|told| told.is_of(plan, name)))
    }

    /// Adds a result, in the place of an older one of its name, or gives it back. To be called by one at a time.
    fn add(&self, hash: u64, told: Told) -> Result<u32, Told> {
        let many = self.many.load(Ordering::Relaxed);
        let chunk = self.chunks.get(many / CHUNK).map(|chunk| chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect()));
        let (Some(slot), Ok(number)) = (chunk.and_then(|chunk| chunk.get(many % CHUNK)), u32::try_from(many)) else { return Err(told) };
        let is_same = |word: u64| {
            let known = self.get((word as u32).wrapping_sub(1));
            word >> 32 == hash >> 32 && known.is_some_and(|known| known.is_same(&told))
        };
        let Some((place, _)) = self.probe(hash).find(|(_, word)| *word == 0 || is_same(*word)) else { return Err(told) };
        self.bytes.fetch_add(told.weight(), Ordering::Relaxed);
        slot.0.get_or_init(|| told);
        self.many.store(many + 1, Ordering::Relaxed);
        place.store(hash >> 32 << 32 | (u64::from(number) + 1), Ordering::Release);
        Ok(number)
    }
}

impl Generations {
    /// What is kept of this plan and entity.
    pub(super) fn find(&self, plan: u64, name: &[u8]) -> Option<Place> {
        let hash = hash(plan, name);
        let young = self.young.find(hash, plan, name).map(|number| Place { is_old: false, number });
        young.or_else(|| self.old.find(hash, plan, name).map(|number| Place { is_old: true, number }))
    }

    pub(in crate::serve) fn get(&self, place: Place) -> Option<&Told> {
        if place.is_old { &self.old } else { &self.young }.get(place.number)
    }
}

impl Results {
    /// Room for about so many bytes.
    pub(in crate::serve) fn new(bytes: u64) -> Results {
        let bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX) / (2 + GONE_MAX);
        let many_max = (bytes_max / RESULT_BYTES).clamp(CHUNK, 1 << 24);
        let empty = || Arc::new(Generation::new(many_max));
        let current = ArcSwap::from_pointee(Generations { young: empty(), old: empty() });
        Results { current, gone: Mutex::default(), many_max, bytes_max }
    }

    /// The table as it is now.
    pub(in crate::serve) fn load(&self) -> Arc<Generations> {
        self.current.load_full()
    }

    /// Adds a result, and says where it is; gives it back if it has no room.
    pub(in crate::serve) fn add(&self, told: Told) -> Result<(Arc<Generations>, Place), Told> {
        self.add_one(told, &mut self.gone())
    }

    /// Keeps what was found in the older generation for longer.
    pub(super) fn renew(&self, found: &Generations, places: impl Iterator<Item = Place>) {
        let mut gone = None;
        for told in places.filter(|place| place.is_old).filter_map(|place| found.get(place)).take(RENEWED_MAX) {
            let gone = gone.get_or_insert_with(|| self.gone());
            let hash = hash(told.plan, told.name());
            if self.current.load().young.find(hash, told.plan, told.name()).is_none() && self.add_one(told.again(), gone).is_err() {
                return;
            }
        }
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_one(&self, told: Told, gone: &mut Gone) -> Result<(Arc<Generations>, Place), Told> {
        if told.weight() > self.bytes_max {
            return Err(told);
        }
        let mut current = self.current.load_full();
        let (many, bytes) = (current.young.many.load(Ordering::Relaxed), current.young.bytes.load(Ordering::Relaxed));
        if many >= self.many_max || bytes.saturating_add(told.weight()) > self.bytes_max {
            gone.held.retain(|generation| generation.strong_count() > 0);
            if gone.held.len() >= GONE_MAX {
                drop_aside(gone.last.take());
                return Err(told);
            }
            gone.held.push(Arc::downgrade(&current.old));
            drop_aside(gone.last.replace(Arc::clone(&current.old)));
            current = Arc::new(Generations { young: Arc::new(Generation::new(self.many_max)), old: Arc::clone(&current.young) });
            self.current.store(Arc::clone(&current));
        }
        let number = current.young.add(hash(told.plan, told.name()), told)?;
        Ok((current, Place { is_old: false, number }))
    }
}

/// Gives back thousands of pieces of memory where nobody waits for it.
fn drop_aside(gone: Option<Arc<Generation>>) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(gone))),
        Err(_) => drop(gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(plan: u64, name: &str, text: &str) -> Told {
        Told::of_text(plan, name.as_bytes(), text.as_bytes())
    }

    fn keep(results: &Results, told: Told) {
        assert!(results.add(told).is_ok(), "there is room");
    }

    fn text(results: &Results, plan: u64, name: &str) -> Option<String> {
        let current = results.load();
        let place = current.find(plan, name.as_bytes())?;
        Some(String::from_utf8(current.get(place)?.text().to_vec()).unwrap())
    }

    #[test]
    fn the_newest_of_a_name_is_found_and_answers_keep_what_they_have() {
        let results = Results::new(1 << 20);
        let long = "x".repeat(100);
        for (plan, name, said) in [(1, "a", "one"), (2, "a", "other"), (1, &long, "long"), (1, "", "empty")] {
            keep(&results, told(plan, name, said));
        }
        let held = results.load();
        let (place, long_place) = (held.find(1, b"a").unwrap(), held.find(1, long.as_bytes()).unwrap());
        keep(&results, told(1, "a", "again"));
        assert_eq!(text(&results, 1, "a").as_deref(), Some("again"));
        assert_eq!(text(&results, 2, "a").as_deref(), Some("other"));
        assert_eq!(text(&results, 1, "").as_deref(), Some("empty"));
        assert_eq!(text(&results, 3, "a"), None);
        assert_eq!(text(&results, 1, &"x".repeat(99)), None);
        for number in 0..20_000 {
            // Somebody takes an answer slowly, and so not all of them have room.
            let _ = results.add(told(1, &number.to_string(), &long));
        }
        assert_eq!(text(&results, 2, "a"), None, "it has gone");
        assert!(results.add(told(1, "b", "none")).is_err() && results.add(told(1, "b", "none")).is_err());
        assert_eq!((held.get(place).unwrap().text(), held.get(long_place).unwrap().text()), (&b"one"[..], &b"long"[..]));
    }

    #[test]
    fn what_is_asked_for_stays_and_no_more_is_kept_than_there_is_room_for() {
        let results = Results::new(4 << 20);
        keep(&results, told(1, "wanted", "here"));
        for number in 0..30_000 {
            keep(&results, told(1, &number.to_string(), &"x".repeat(500)));
            let current = results.load();
            let place = current.find(1, b"wanted").expect("it is asked for all the time");
            results.renew(&current, std::iter::once(place));
            let bytes = [&current.young, &current.old].map(|generation| generation.bytes.load(Ordering::Relaxed));
            assert!(bytes.iter().all(|bytes| *bytes <= 1 << 20), "{bytes:?}");
        }
        assert_eq!(text(&results, 1, "wanted").as_deref(), Some("here"));
        assert_eq!(text(&results, 1, "0"), None);
        assert_eq!(text(&results, 1, "29999").map(|text| text.len()), Some(500));
        assert!(results.add(told(1, "large", &"x".repeat(1 << 20))).is_err());
        assert!(Results::new(0).add(told(1, "a", "b")).is_err(), "no room is for none");
    }

    #[test]
    fn those_who_look_while_others_add_find_what_was_added_or_nothing() {
        let results = Results::new(1 << 20);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let results = &results;
                scope.spawn(move || {
                    for turn in 0..20_000_u64 {
                        let name = (turn * 7 + thread) % 500;
                        if turn % 3 == thread % 3 {
                            let _ = results.add(told(name % 5, &name.to_string(), &name.to_string()));
                        } else if let Some(found) = text(results, name % 5, &name.to_string()) {
                            assert_eq!(found, name.to_string());
                        }
                    }
                });
            }
        });
    }
}
