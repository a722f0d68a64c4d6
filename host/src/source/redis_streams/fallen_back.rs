//! Noticing that a server has less than it had.

use super::admin::GroupState;
use super::reader::Reader;
use super::{Error, RedisStreams};
use crate::model::EntryId;

impl RedisStreams {
    /// A group that is behind what was read belongs to a server that has less than it had: a replica in the place of the one that died, or a backup. Whether what was read is
    /// applied the store knows, so reading begins anew there; and what the store has, though the server forgot that it was handed out or acknowledged, does not come again.
    pub(super) async fn check_that_it_has_not_fallen_back(
        &self,
        reader: &mut Reader,
        last: EntryId,
        group: &GroupState,
    ) -> Result<(), Error> {
        let reached = if self.options.checkpoint { last } else { group.last_delivered };
        let Some(cursor) = reader.cursor.filter(|cursor| *cursor > reached && !self.options.competing) else { return Ok(()) };
        if reader.handed != EntryId::ZERO {
            return Err(Error::FellBack { stream: self.options.key.clone() });
        }
        tracing::warn!(stream = %self.options.key, %reached, %cursor, "the stream has fallen back behind what the store has; what it lost stays applied, and reading goes on after it");
        if !self.options.checkpoint {
            self.admin.move_group(cursor).await?;
            self.admin.settle_until(cursor).await?;
        }
        Ok(())
    }
}
