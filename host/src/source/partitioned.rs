//! The writing end of a stream that is split into partitions: each event goes where its fields say.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Appender, Error};
use crate::decode::Route;
use crate::model::{Entries, EntryId, EntryRef};

/// One stream, partition by partition.
pub struct Partitioned {
    route: Arc<Route>,
    parts: Vec<Arc<dyn Appender>>,
}

impl Partitioned {
    /// The writing ends of all partitions, in their order, and how events are told apart.
    pub fn new(route: Arc<Route>, parts: Vec<Arc<dyn Appender>>) -> Partitioned {
        Partitioned { route, parts }
    }
}

/// The entries of one partition, and where they stood among all.
#[derive(Default)]
struct Share {
    entries: Entries,
    positions: Vec<usize>,
}

impl Share {
    fn push(&mut self, position: usize, entry: &EntryRef<'_>) {
        self.entries.push(entry.id, entry.fields());
        self.positions.push(position);
    }
}

#[async_trait]
impl Appender for Partitioned {
    /// In order within a partition, and all of a partition or none: an error may come after some of the partitions have their entries.
    async fn append(&self, entries: &Entries) -> Result<Vec<EntryId>, Error> {
        let mut shares: Vec<Share> = self.parts.iter().map(|_| Share::default()).collect();
        for (position, entry) in entries.iter().enumerate() {
            let refused = |reason| Error::Refused { command: "append".into(), reason };
            let partition = self.route.partition(&entry).map_err(refused)?;
            if let Some(share) = shares.get_mut(partition as usize) {
                share.push(position, &entry);
            }
        }
        let mut appending = tokio::task::JoinSet::new();
        for (part, share) in self.parts.iter().zip(shares).filter(|(_, share)| !share.entries.is_empty()) {
            let part = Arc::clone(part);
            appending.spawn(async move { Ok::<_, Error>((part.append(&share.entries).await?, share.positions)) });
        }
        let (mut ids, mut failed) = (vec![EntryId::ZERO; entries.len()], None);
        // All of them are waited for: what is still under way when a client sends again would come after it.
        while let Some(appended) = appending.join_next().await {
            match appended.map_err(|error| Error::Log(error.to_string())).flatten() {
                Ok((appended, positions)) => {
                    for (position, id) in positions.into_iter().zip(appended) {
                        if let Some(slot) = ids.get_mut(position) {
                            *slot = id;
                        }
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ids), Err)
    }

    async fn newest(&self, entries_max: usize) -> Result<Entries, Error> {
        let mut found = Vec::new();
        for part in &self.parts {
            found.push(part.newest(entries_max).await?);
        }
        let mut all: Vec<EntryRef<'_>> = found.iter().flat_map(Entries::iter).collect();
        all.sort_by_key(|entry| entry.id);
        let mut newest = Entries::default();
        for entry in all.iter().skip(all.len().saturating_sub(entries_max)) {
            newest.push(entry.id, entry.fields());
        }
        Ok(newest)
    }
}
