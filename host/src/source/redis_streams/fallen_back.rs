//! Noticing that a server has less than it had.

use super::admin::{GroupState, State};
use super::reader::Reader;
use super::{Error, RedisStreams};
use crate::model::EntryId;

impl RedisStreams {
    /// Whether the stream is another one than was read before, up to its last entry `last`: then the reader begins anew with what it holds.
    pub(super) async fn has_been_emptied(&self, reader: &mut Reader, state: &State, last: EntryId) -> Result<bool, Error> {
        let mut emptied = reader.look(state.stream.as_ref());
        if let Some(group) = &state.group {
            self.check_that_it_has_not_fallen_back(reader, last, group).await?;
        } else if reader.cursor.is_some_and(|cursor| cursor > last) {
            reader.lost += u64::from(!emptied);
            emptied = true;
            reader.begin_anew();
        }
        if emptied {
            tracing::warn!(stream = %self.options.key, %last, "the stream begins anew; what it held and was not read is lost");
        }
        Ok(emptied)
    }

    /// A group that is behind what was read belongs to a server that has less than it had: a replica in the place of the one that died, or a backup. Whether what was read is
    /// applied the store knows, so reading begins anew there; and what the store has, though the server forgot that it was handed out or acknowledged, does not come again.
    async fn check_that_it_has_not_fallen_back(&self, reader: &mut Reader, last: EntryId, group: &GroupState) -> Result<(), Error> {
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
