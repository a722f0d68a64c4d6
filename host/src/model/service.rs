use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::is_name;

/// A feature service: a named, versioned list of features over any number of views, which a model asks for by its name. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// Feature references `view:feature`, in the order in which they are answered.
    pub features: Vec<String>,
}

/// A service's name in a request or a configuration: `name`, or `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// The name.
    pub name: String,
    /// The version; the newest when absent.
    pub version: Option<u32>,
}

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceName, String> {
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let parsed = version.map(|version| version.parse::<u32>().ok().filter(|version| *version > 0));
        if !is_name(name) || parsed == Some(None) {
            let shown: String = text.chars().take(80).collect();
            return Err(format!(
                "{shown:?} cannot name a service; write a name of letters, digits and `_`, and a version if it matters: fraud@2"
            ));
        }
        Ok(ServiceName { name: name.to_owned(), version: parsed.flatten() })
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.name)?;
        self.version.map_or(Ok(()), |version| write!(out, "@{version}"))
    }
}

/// All services, each with all of its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    services: BTreeMap<String, BTreeMap<u32, Arc<Service>>>,
}

impl Services {
    /// Adds a version, or replaces it.
    pub fn insert(&mut self, service: Service) {
        self.services.entry(service.name.clone()).or_default().insert(service.version, Arc::new(service));
    }

    /// Takes out one version, or all of them. Says whether there was any.
    pub fn remove(&mut self, name: &ServiceName) -> bool {
        let Some(version) = name.version else { return self.services.remove(&name.name).is_some() };
        let Some(versions) = self.services.get_mut(&name.name) else { return false };
        let removed = versions.remove(&version).is_some();
        if versions.is_empty() {
            self.services.remove(&name.name);
        }
        removed
    }

    /// The version named, or the newest.
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        let versions = self.services.get(&name.name)?;
        name.version.map_or_else(|| versions.values().next_back(), |version| versions.get(&version))
    }

    /// All versions of all services, by name and then from the oldest version on.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().flat_map(BTreeMap::values)
    }
}
