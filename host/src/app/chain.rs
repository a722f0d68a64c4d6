//! Transforms whose rows go on to another stream: where that can be done in one step with the commit, and that nothing goes round in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::Core;
use super::transforms::{Active, Registry};
use crate::config::{Config, Consumers, Secret, Store, StreamSource};
use crate::decode::Route;
use crate::model::{Location, Spec, ViewName};
use crate::pipeline::Emit;
use crate::resp::Address;

/// A transform that leads from one stream to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) transform: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// Where a transform of the stream `from` emits to, or why it cannot.
pub(super) fn emit(config: &Config, spec: &Spec, from: &str, to: &str) -> anyhow::Result<Emit> {
    let target = config.streams.get(to).cloned().unwrap_or_default();
    let route = target.partitioning(to).map(|partitioning| Arc::new(Route::new(target.format(), partitioning)));
    let emit = Emit { stream: to.to_owned(), format: target.format(), route };
    emit.check(spec).map_err(|error| anyhow!("emit: {error}"))?;
    if config
        .streams
        .get(from)
        .is_some_and(|stream| stream.source == StreamSource::RedisStreams && stream.consumers == Consumers::Competing)
    {
        bail!(
            "emit: each event must go on exactly once, and the hosts of stream `{from}` compete for its entries: set `consumers = \"single\"` \
             in [streams.{from}]"
        );
    }
    lies_with_the_store(config, to).map_err(|reason| anyhow!("emit: rows go on in the commit that stores them, and {reason}"))?;
    Ok(emit)
}

/// Whether a commit to the store can append to this stream in the same step.
fn lies_with_the_store(config: &Config, to: &str) -> Result<(), String> {
    let stream = config.streams.get(to).cloned().unwrap_or_default();
    if config.store.redis().is_some_and(|redis| redis.cluster) || (stream.source == StreamSource::RedisStreams && stream.cluster) {
        return Err(format!(
            "on a Redis Cluster a commit reaches no further than the slot of its own partition, where stream `{to}` is not: keep the store and the \
             streams on a single server, or have the producer send its events to a stream of the other key too"
        ));
    }
    match (&config.store, stream.source) {
        (Store::Memory, _) => {
            Err("the store is in memory, which no stream is: set store.type = \"embedded\", or \"redis\" with the stream on that server"
                .into())
        }
        (Store::Embedded(_), StreamSource::Embedded) => Ok(()),
        (Store::Embedded(_), StreamSource::RedisStreams) => Err(format!(
            "the store is embedded while stream `{to}` is in Redis: emit to an embedded stream, or keep the store on that server"
        )),
        (Store::Redis(_) | Store::FeastRedis(_), StreamSource::Embedded) => Err(format!(
            "the store is in Redis while stream `{to}` is embedded: describe it in [streams.{to}] with type = \"redis_streams\" on the store's server"
        )),
        (Store::Redis(_) | Store::FeastRedis(_), StreamSource::RedisStreams) => {
            let of_store = config.store.redis().and_then(|redis| location(&redis.url));
            let of_stream = location(&stream.url);
            if of_store.is_some() && of_store == of_stream {
                return Ok(());
            }
            let [store, stream] = [of_store, of_stream].map(|location| match location {
                Some(Location::Redis(at)) => at,
                Some(Location::Memory | Location::Folder(_)) | None => "nowhere".into(),
            });
            Err(format!("the store is at {store} while stream `{to}` is at {stream}: both must be the same server and database"))
        }
    }
}

fn location(url: &Secret) -> Option<Location> {
    Address::parse(url.reveal()).ok().map(|address| address.location())
}

/// What a stream is beneath its name: two names of one key are one stream, and who reads the key of a partition reads the stream.
fn identity(config: &Config, stream: &str) -> String {
    let configured = config.streams.get(stream).filter(|configured| configured.source == StreamSource::RedisStreams);
    let Some(configured) = configured else { return format!("log {stream}") };
    match location(&configured.url) {
        Some(Location::Redis(at)) => format!("redis {at} {}", without_tag(configured.key(stream))),
        Some(Location::Memory | Location::Folder(_)) | None => format!("stream {stream}"),
    }
}

/// The key of the stream that a partition with this key would be of, or the key itself.
fn without_tag(key: &str) -> &str {
    let inner = key.strip_prefix('{').and_then(|key| key.strip_suffix('}')).and_then(|key| key.rsplit_once(':'));
    inner.filter(|(_, index)| index.parse::<u32>().is_ok()).map_or(key, |(key, _)| key)
}

/// Refuses links by which an event would come back to the stream that it came from.
pub(super) fn check_acyclic(config: &Config, links: &[Link]) -> anyhow::Result<()> {
    let mut of: BTreeMap<String, Vec<&Link>> = BTreeMap::new();
    for link in links {
        of.entry(identity(config, &link.from)).or_default().push(link);
    }
    for first in links {
        let home = identity(config, &first.from);
        let (mut seen, mut ways) = (BTreeSet::new(), vec![vec![first]]);
        while let Some(way) = ways.pop() {
            let at = way.last().map(|link| identity(config, &link.to)).unwrap_or_default();
            if at == home {
                let steps: Vec<String> = way.iter().map(|link| format!("`{}` → {} → ", link.from, link.transform)).collect();
                let last = way.last().map_or("", |link| link.to.as_str());
                bail!("emit: events would go round in a circle: {}`{last}`; emit to a stream that does not lead back", steps.concat());
            }
            if seen.insert(at.clone()) {
                ways.extend(of.get(&at).into_iter().flatten().map(|link| way.iter().copied().chain([*link]).collect()));
            }
        }
    }
    Ok(())
}

impl Core {
    /// Where a transform emits to once it is in force beside those that are, and its stream is open; or why it cannot.
    pub(super) fn emit(&self, name: &str, spec: &Spec, from: &str, to: &str, registry: &Registry) -> anyhow::Result<Emit> {
        let emit = emit(&self.config, spec, from, to)?;
        let mut links = registry.links();
        let view = ViewName::base_of(name);
        if let Some(other) = links.iter().find(|link| link.transform != name && link.to == to && ViewName::base_of(&link.transform) == view)
        {
            let other = &other.transform;
            bail!(
                "emit: `{other}` is a version of the same view and emits to `{to}` too, where every row would stand twice; end that first (`emit=`), or use another stream"
            );
        }
        links.retain(|link| link.transform != name);
        links.push(Link { transform: name.to_owned(), from: from.to_owned(), to: to.to_owned() });
        check_acyclic(&self.config, &links)?;
        self.open_stream(to)?;
        Ok(emit)
    }
}

impl Registry {
    /// Every transform in force that leads from one stream to another.
    pub(super) fn links(&self) -> Vec<Link> {
        let link = |(name, active): (&String, &Active)| {
            let (from, to) = (active.bound.stream()?, active.options.emit.clone()?);
            Some(Link { transform: name.clone(), from: from.to_owned(), to })
        };
        self.active.iter().filter_map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn link(transform: &str, from: &str, to: &str) -> Link {
        Link { transform: transform.into(), from: from.into(), to: to.into() }
    }

    #[test]
    fn circles_are_found_however_long_and_by_whatever_name() {
        let text = "[streams.a]\ntype = \"redis_streams\"\nurl = \"redis://localhost/0\"\nkey = \"k\"\n\
                    [streams.same]\ntype = \"redis_streams\"\nurl = \"redis://localhost:6379/0\"\nkey = \"k\"\n";
        let config = Config::parse(text, "test", Path::new("")).unwrap();
        let mut links = vec![link("t1", "a", "b"), link("t2", "b", "c"), link("t3", "b", "d"), link("t4", "c", "e"), link("t5", "d", "e")];
        check_acyclic(&config, &links).unwrap();
        links.push(link("t6", "e", "same"));
        let error = check_acyclic(&config, &links).unwrap_err().to_string();
        assert!(error.contains("`a` → t1 → `b` → t"), "{error}");
        assert!(error.contains("`e` → t6 → `same`"), "{error}");
        check_acyclic(&config, &[link("t", "x", "x")]).unwrap_err();
        // A partition under a name of its own.
        let text = "[streams.a]\ntype = \"redis_streams\"\nurl = \"redis://localhost\"\nkey = \"k\"\npartitions = 4\npartition_by = [\"f\"]\n\
                    [streams.part]\ntype = \"redis_streams\"\nurl = \"redis://localhost\"\nkey = \"{k:3}\"\n";
        let config = Config::parse(text, "test", Path::new("")).unwrap();
        check_acyclic(&config, &[link("t", "part", "a")]).unwrap_err();
    }
}
