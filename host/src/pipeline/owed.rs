//! Entries that the store has and the stream does not know of yet: acknowledged in a step of their own, because stream and store are different servers.
//!
//! States and windows would count it twice, and another version of a transform might make rows of what the one before has left out. So the ids that are owed
//! lie in the store, put there by the very commit that applied them, and what is delivered again is left out. Hosts that compete for entries do without: for rows
//! of which the newest wins it is enough that what is delivered again changes nothing.

use std::collections::HashSet;

use bytes::Bytes;

use super::Pipeline;
use crate::model::{EntryId, Partition, Put};
use crate::online_store;
use crate::source::{Delivery, Source};

/// What is owed to a stream.
#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) ids: Vec<EntryId>,
    /// Whether the ids must be in the store before they are acknowledged.
    pub(super) is_kept: bool,
    /// What was applied and may come again in this session: it was read before its acknowledgement went through.
    may_return: HashSet<EntryId>,
}

impl Owed {
    /// The key under which a partition's ids are kept. Neither a row nor a state has one like it.
    pub(super) fn key(partition: &Partition) -> Vec<u8> {
        format!("~~applied:{}", partition.key()).into_bytes()
    }

    /// The ids as they were kept.
    pub(super) fn read(kept: &[u8]) -> Vec<EntryId> {
        let word = |chunk: &[u8]| chunk.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
        kept.as_chunks::<16>().0.iter().map(|id| EntryId { ms: word(id), seq: word(id.get(8..).unwrap_or_default()) }).collect()
    }

    /// The ids that are owed once a commit of these entries is in.
    pub(super) fn put(&self, partition: &Partition, applied: &[EntryId]) -> Put {
        let ids = self.ids.iter().chain(applied);
        let value: Vec<u8> = ids.flat_map(|id| [id.ms.to_be_bytes(), id.seq.to_be_bytes()]).flatten().collect();
        Put { key: Owed::key(partition), value: Some(Bytes::from(value)), expires_at: None }
    }

    /// What of a delivery has not been applied.
    pub(super) fn leave_out(&self, delivery: Delivery) -> Delivery {
        if !self.is_kept || !delivery.redelivered || self.may_return.is_empty() {
            return delivery;
        }
        let mut left = delivery;
        left.entries.retain(|id| !self.may_return.contains(&id));
        left
    }
}

impl Pipeline {
    /// What the store knows to be applied and the stream may deliver again. It is acknowledged as soon as the stream can be reached, and left out of
    /// deliveries until then.
    pub(super) async fn owed(&self, is_kept: bool, source: &dyn Source) -> Result<Owed, online_store::Error> {
        if !is_kept {
            return Ok(Owed::default());
        }
        let kept = self.store.read(&[Owed::key(&self.partition)]).await?.pop().flatten();
        let ids = kept.map(|kept| Owed::read(&kept)).unwrap_or_default();
        let mut owed = Owed { may_return: ids.iter().copied().collect(), ids, is_kept };
        if !owed.ids.is_empty() {
            self.acknowledge(source, Vec::new(), &mut owed).await;
        }
        Ok(owed)
    }

    /// Acknowledges what the store already has. A failure is no error of the batch: the ids are owed and go with the next batch or renewal, and if the host
    /// dies before that, they are delivered once more: rows are applied again, which changes nothing; what states and windows have is left out.
    pub(super) async fn acknowledge(&self, source: &dyn Source, ids: Vec<EntryId>, owed: &mut Owed) {
        owed.ids.extend(ids);
        match source.acknowledge(&owed.ids).await {
            Ok(()) => owed.ids.clear(),
            Err(error) => {
                owed.may_return.extend(owed.ids.iter().copied().filter(|_| owed.is_kept));
                tracing::warn!(partition = %self.partition, owed = owed.ids.len(), "could not acknowledge, will try again: {error}");
                self.telemetry.retries("acknowledge");
            }
        }
    }
}
