//! Who has written to a view last: a writer that claims it notices when somebody else has.

use redis::cmd;

use super::super::Error;
use super::super::transaction::view_of;
use super::{RedisWriter, watch};
use crate::model::{Commit, Version};
use crate::online_store::newest::{BUCKETS, BUCKETS_OF_PARTITION, Newest};

impl RedisWriter {
    pub(super) fn forget_views(&mut self) {
        self.newest.clear();
        self.owners.clear();
    }

    /// Claims the views that this writer has not claimed yet, and loads their greatest versions. From then on nobody else commits to them without
    /// claiming them in turn, which this writer's next commit notices. Fails once for views that something is put into whatever is there: only what is read from
    /// now on stays as it is until then.
    pub(super) async fn claim_views(&mut self, commit: &Commit) -> Result<(), Error> {
        let Some((token, _)) = self.lease.clone() else { return Ok(()) };
        let (mut last, mut outdated): (&[u8], _) = (&[], None);
        let puts = commit.puts.iter().filter_map(|put| Some((put.view()?, true)));
        for (view, is_put) in puts.chain(commit.rows.iter().map(|row| (view_of(row.key), false))) {
            if view == last || self.newest.contains_key(view) {
                last = view;
                continue;
            }
            let owner = self.shared.key(&format!("writer:{}{}", self.partition.tag, String::from_utf8_lossy(view)));
            loop {
                self.shared.ask::<()>(cmd("SET").arg(&owner).arg(&token), "SET").await?;
                let Some(connection) = self.connection.as_mut() else { return Ok(()) };
                let found = watch(connection, &owner).await.map_err(|error| self.broken(error))?;
                if found.as_deref() == Some(token.as_bytes()) {
                    break;
                }
            }
            let mut hget = cmd("HGET");
            hget.arg(&self.keys.high).arg(view);
            let high: Option<Vec<u8>> = self.shared.ask(&hget, "HGET").await?;
            let high = high.map(|bytes| <[u8; 24]>::try_from(bytes.as_slice())).transpose();
            let high = high.map_err(|_| Error::Corrupt(format!("{} is not what this version writes", self.keys.high)))?;
            let buckets = if self.partition.tag.is_empty() { BUCKETS } else { BUCKETS_OF_PARTITION };
            self.newest.insert(view.to_vec(), Newest::starting_at(high.map_or(Version::MIN, Version::from_bytes), buckets));
            self.owners.push(owner);
            outdated = outdated.or(is_put.then_some(view));
            last = view;
        }
        match outdated {
            None => Ok(()),
            Some(view) => Err(Error::Outdated { view: String::from_utf8_lossy(view).into_owned() }),
        }
    }
}
