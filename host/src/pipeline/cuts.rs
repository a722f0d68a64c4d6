//! Where one version of a transform ended and the next began. The first batch of another version carries the cut in its own commit: so it is there if and
//! only if the batch is, and whatever is killed, it is true.
//!
//! Hosts that compete for entries have none: there is no last entry of the version before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Pipeline;
use super::binding::Transforms;
use crate::model::{Cuts, EntryId, Maker, Put, Timestamp};
use crate::online_store::{self, Writers};

/// How much the last batch counts in what a batch usually takes.
const USUAL_WEIGHT: f64 = 0.1;

/// What a session knows of the makers of its partition's views.
#[derive(Default)]
pub(super) struct Swaps {
    /// The newest revision of the book of versions under which the partition was worked on, once that is known.
    pub(super) revision: Option<u64>,
    /// The groups that have left this one, as the store has it.
    pub(super) left: BTreeSet<String>,
    /// Whether the store's record was read.
    is_read: bool,
    /// The views that are made, as the store has them.
    made: BTreeSet<String>,
    cuts: BTreeMap<String, Cuts>,
    /// Whose makers are those that the store has.
    settled: Option<Arc<Transforms>>,
    /// Seconds that a batch takes.
    usual: Option<f64>,
}

impl Swaps {
    /// A batch with or without a swap took so long. Says how much of that was the swap's.
    pub(super) fn took(&mut self, time: Duration, is_swap: bool) -> Option<f64> {
        let seconds = time.as_secs_f64();
        let usual = *self.usual.get_or_insert(seconds);
        if is_swap {
            return Some((seconds - usual).max(0.0));
        }
        self.usual = Some(usual + (seconds - usual) * USUAL_WEIGHT);
        None
    }
}

/// What the commit of a batch carries.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) puts: Vec<Put>,
    /// Whether one version takes over from another.
    pub(super) is_swap: bool,
}

impl Pipeline {
    /// The cuts that lie before a batch of these transforms, where the last entry applied before it is `after`.
    pub(super) async fn cuts(
        &self,
        swaps: &mut Swaps,
        transforms: &Arc<Transforms>,
        after: Option<EntryId>,
    ) -> Result<Carried, online_store::Error> {
        let is_settled = swaps.settled.as_ref().is_some_and(|settled| Arc::ptr_eq(settled, transforms));
        if is_settled || self.writers == Writers::Competing {
            return Ok(Carried::default());
        }
        self.read_cuts(swaps, transforms).await?;
        let mut carried = Carried::default();
        let at = Timestamp::now();
        let bound: BTreeMap<&str, _> = transforms.bindings().map(|binding| (binding.view.name.as_str(), binding)).collect();
        for (view, cuts) in &mut swaps.cuts {
            let binding = bound.get(view.as_str());
            let behind = |from: &Maker| binding.is_some_and(|binding| binding.others.known().gone_back_behind.contains(&from.version));
            let goes_back = cuts.maker().is_some_and(behind);
            let is_swap = cuts.maker().is_some() && binding.is_some();
            if cuts.cut(binding.map(|binding| &binding.maker), after, at, goes_back) {
                carried.is_swap |= is_swap;
                let value = Some(Bytes::from(cuts.to_bytes()));
                carried.puts.push(Put { key: Cuts::key(&self.partition, view), value, expires_at: None });
            }
        }
        carried.puts.extend(self.revision(swaps, transforms).await?);
        let made: BTreeSet<String> = bound.keys().map(|view| (*view).to_owned()).collect();
        if made != swaps.made {
            let lines: Vec<&str> = made.iter().map(String::as_str).collect();
            let value = Some(Bytes::from(lines.join("\n")));
            carried.puts.push(Put { key: Cuts::index_key(&self.partition), value, expires_at: None });
            swaps.made = made;
        }
        swaps.settled = Some(Arc::clone(transforms));
        Ok(carried)
    }

    /// Reads what the store has of the views that are made or were.
    async fn read_cuts(&self, swaps: &mut Swaps, transforms: &Transforms) -> Result<(), online_store::Error> {
        if !swaps.is_read {
            let names = self.store.read(&[Cuts::index_key(&self.partition)]).await?.pop().flatten().unwrap_or_default();
            swaps.made = String::from_utf8_lossy(&names).lines().map(str::to_owned).collect();
            swaps.is_read = true;
        }
        let bound = transforms.bindings().map(|binding| &binding.view.name);
        let unknown: BTreeSet<String> = swaps.made.iter().chain(bound).filter(|view| !swaps.cuts.contains_key(*view)).cloned().collect();
        let keys: Vec<Vec<u8>> = unknown.iter().map(|view| Cuts::key(&self.partition, view)).collect();
        for (view, stored) in unknown.into_iter().zip(self.store.read(&keys).await?) {
            let cuts = stored.map(|stored| Cuts::read(&stored)).transpose();
            let cuts = cuts.map_err(|error| online_store::Error::Corrupt(format!("the cuts of view `{view}`: {error}")))?;
            swaps.cuts.insert(view, cuts.unwrap_or_default());
        }
        Ok(())
    }
}
