//! What hosts that share the book must have alike: with another group each would work on all events, and they would count as often as there are groups; and
//! who has a stream for himself relies on nobody competing for it.

use std::time::Duration;

use super::Core;
use crate::config::{Config, Consumers};
use crate::online_store::redis::RedisStore;

/// How long what a host has said counts for others. It says so again twice a second.
pub(super) const SAID: Duration = Duration::from_secs(10);

/// Hosts read the same streams in different ways.
#[derive(Debug, thiserror::Error)]
#[error(
    "a host that is at work with this store has stream {theirs}, and this one has {ours}: events would count more than once, or rows be lost; \
     configure all hosts alike, or stop the others first"
)]
pub(super) struct Unlike {
    theirs: String,
    ours: String,
}

impl Core {
    /// Refuses to work beside hosts that read the same streams in another way.
    pub(super) async fn check_alike(&self, store: &RedisStore) -> anyhow::Result<()> {
        let own = described(&self.config);
        let said = store.say_alike(&own, SAID).await?;
        match said.lines().zip(own.lines()).find(|(theirs, ours)| theirs != ours) {
            None => Ok(()),
            Some((theirs, ours)) => Err(Unlike { theirs: theirs.to_owned(), ours: ours.to_owned() }.into()),
        }
    }
}

/// A line for each stream. Hosts that share the book have the same ones.
fn described(config: &Config) -> String {
    let streams = config.streams.iter().map(|(name, stream)| {
        let consumers = match stream.consumers {
            Consumers::Single => "single",
            Consumers::Competing => "competing",
        };
        format!("`{name}` with group = \"{}\" and consumers = \"{consumers}\"\n", stream.group)
    });
    streams.collect()
}
