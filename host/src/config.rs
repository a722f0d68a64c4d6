//! The configuration: TOML text becomes typed values, all checked once, here. Past this point nothing is checked again.
//!
//! Secrets never stand in the file: a setting that may hold one has a twin that names an environment variable (`url_env`).

mod access;
mod feast;
mod problems;
mod registry;
mod secret;
mod sections;
mod service;
mod store;
mod stream;
mod transform;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{ViewName, is_stream_name};

pub use access::{Tls, Token};
pub use feast::{Feast, WrittenView};
use problems::Document;
pub use problems::{Error, Problem};
pub use secret::Secret;
pub use sections::{DeadLetters, Engine, HostSection, Http, LogFormat};
pub use service::ServiceSection;
pub use store::{Durability, EmbeddedStore, FeastRedisStore, RedisStore, Store};
pub use stream::{Consumers, PlaceKept, Start, Stream, StreamSource};
pub use transform::{Transform, check_entity_bytes_max};

use crate::transform::Limits;

/// A hundred years.
const KEY_TTL_SECS_MAX: u64 = 3_153_600_000;

/// Everything a host can be told.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process itself.
    pub host: HostSection,
    /// Where feature rows are kept.
    pub store: Store,
    /// How many dead letters are kept.
    pub dead_letters: DeadLetters,
    /// The HTTP edge.
    pub http: Http,
    /// The Wasm engine.
    pub engine: Engine,
    /// What one instance of any transform may use, unless the transform says otherwise.
    pub limits: Limits,
    /// Streams by name.
    pub streams: BTreeMap<String, Stream>,
    /// Transforms by name.
    pub transforms: BTreeMap<String, Transform>,
    /// Feature services by name, or by name and version.
    pub services: BTreeMap<String, ServiceSection>,
    /// Feast's own protocol.
    pub feast: Feast,
    /// Views that are written over HTTP instead of computed, by name.
    pub views: BTreeMap<String, WrittenView>,
}

impl Config {
    /// Reads and checks a file. Paths in it are taken from its own folder.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Config::parse(&text, &path.display().to_string(), folder)
    }

    /// Checks a text; `name` stands for it in messages.
    pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Config, Error> {
        let document = Document::parse(text, name)?;
        let (config, mut problems): (Option<Config>, _) = document.values();
        let Some(mut config) = config else { return Err(document.error(problems)) };
        config.resolve_paths(folder);
        // A section in which something is already wrong is not complained about twice: what is missing there is what was misspelt.
        let troubled: Vec<String> = problems.iter().map(|problem| section(&problem.key).to_owned()).collect();
        let found = config.check(&document).into_iter();
        problems.extend(
            found.filter(|problem| !troubled.iter().any(|troubled| [section(&problem.key), &problem.key].contains(&troubled.as_str()))),
        );
        if problems.is_empty() { Ok(config) } else { Err(document.error(problems)) }
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        resolve(&mut self.host.data_folder);
        self.host.transforms_folder.iter_mut().for_each(resolve);
        self.http.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]).for_each(resolve);
        self.feast.registry.iter_mut().for_each(resolve);
        self.transforms.values_mut().for_each(|transform| resolve(&mut transform.component));
    }

    /// What one value's type cannot say.
    fn check(&mut self, document: &Document<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut complain = |key: String, message: String| problems.push(Problem { key, message });
        if let Some(redis) = self.store.redis_mut() {
            redis.check("store", &mut complain);
        }
        if let Store::FeastRedis(FeastRedisStore { key_ttl_secs: Some(secs), .. }) = &self.store {
            // What Redis takes is less than what a number holds.
            within("store.key_ttl_secs".into(), *secs, 1..=KEY_TTL_SECS_MAX, &mut complain);
        }
        within("host.versions_max".into(), self.host.versions_max as u64, 2..=10_000, &mut complain);
        if self.store.redis().is_some_and(|redis| redis.cluster) {
            self.check_cluster(&mut complain);
        }
        self.http.check("http", &mut complain);
        self.engine.check("engine", &mut complain);
        check_limits("limits", self.limits, &mut complain);
        if self.limits.memory_bytes_max > self.engine.memory_bytes_max {
            let (wanted, pool) = (self.limits.memory_bytes_max, self.engine.memory_bytes_max);
            complain(
                "limits.memory_bytes_max".into(),
                format!("{wanted} is more than engine.memory_bytes_max, {pool}; raise that or lower this"),
            );
        }
        for (name, stream) in &mut self.streams {
            let key = format!("streams.{name}");
            if !is_stream_name(name) {
                complain(key.clone(), "a stream's name has 1 to 255 printable ASCII characters and no spaces".into());
            }
            stream.check(name, &document.keys(&key), &mut complain);
            if stream.consumers == Consumers::Competing && self.store.redis().is_none() {
                let reason = "competing consumers need store.type = \"redis\": any other store is each host's own, and would have a part of the features";
                complain(format!("{key}.consumers"), reason.into());
            }
        }
        for (name, transform) in &mut self.transforms {
            let key = format!("transforms.{name}");
            if ViewName::parse(name).is_none_or(|name| name.version == Some(1)) {
                let rule = "a transform's name has 1 to 63 ASCII letters, digits and `_`, and does not start with a digit; another version of its view has \
                            `@v2` and so on after it";
                complain(key.clone(), rule.into());
            }
            transform.check(&key, self.limits, self.engine.memory_bytes_max, &mut complain);
        }
        for (name, service) in &self.services {
            service.check(name, self.http.features_max, &mut complain);
        }
        self.feast.check("feast", &mut complain);
        for (name, view) in &self.views {
            view.check(name, &mut complain);
            if self.transforms.contains_key(name) {
                complain(format!("views.{name}"), format!("[transforms.{name}] computes a view of this name; rename one of them"));
            }
        }
        problems
    }
}

impl Config {
    /// What has no place in a store on a cluster, where a commit reaches no further than one slot.
    fn check_cluster(&self, complain: &mut impl FnMut(String, String)) {
        if matches!(self.store, Store::FeastRedis(_)) {
            let reason =
                "Feast's layout has one hash for all views of an entity, wherever their streams' partitions are; use a single server";
            complain("store.cluster".into(), reason.into());
        }
        for name in self.streams.iter().filter(|(_, stream)| stream.partitions.is_none()).map(|(name, _)| name) {
            let reason = "is missing: the store is a cluster, where a commit reaches no further than a partition; 1 will do";
            complain(format!("streams.{name}.partitions"), reason.into());
        }
        for name in self.views.keys() {
            let reason =
                "a view that is written has rows in every slot of a cluster, and a commit reaches no further than one; use a single server";
            complain(format!("views.{name}"), reason.into());
        }
    }
}

/// The section that a dotted key stands in.
fn section(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Complains about a number that makes no sense.
fn within(key: String, value: u64, allowed: std::ops::RangeInclusive<u64>, complain: &mut impl FnMut(String, String)) {
    if !allowed.contains(&value) {
        let (least, most) = (allowed.start(), allowed.end());
        let advice = if *most == u64::MAX { format!("use {least} or more") } else { format!("use {least} to {most}") };
        complain(key, format!("{value} is out of range; {advice}"));
    }
}

/// Complains about limits under which nothing could run.
fn check_limits(key: &str, limits: Limits, complain: &mut impl FnMut(String, String)) {
    let counts = [
        ("memory_bytes_max", limits.memory_bytes_max as u64, 65_536),
        ("deadline_ms", limits.deadline_ms, 1),
        ("output_bytes_max", limits.output_bytes_max as u64, 1),
        ("state_bytes_max", limits.state_bytes_max as u64, 1),
        ("output_rows_per_input_max", limits.output_rows_per_input_max as u64, 1),
        ("instance_calls_max", limits.instance_calls_max, 1),
    ];
    for (name, value, least) in counts {
        within(format!("{key}.{name}"), value, least..=u64::MAX, complain);
    }
}
