//! Feature services: those of the configuration, and those that were put over HTTP.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Core;
use super::book::not_written;
use super::transforms::Registry;
use crate::config::Config;
use crate::model::{Service, ServiceName, Services};
use crate::serve::{Refusal, RefusalKind};

/// Versions of all services together that may be put over HTTP, and names that may ever be used: each is a small thing, and there is no need for more.
const PUT_MAX: usize = 10_000;

/// The services that were put.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutServices {
    services: Vec<Service>,
    /// The last version that each name was given, deleted ones too: what a model was told under a version is never something else.
    counted: BTreeMap<String, u32>,
}

impl PutServices {
    fn put(&self) -> Services {
        let mut put = Services::default();
        self.services.iter().for_each(|service| put.insert(service.clone()));
        put
    }

    /// The version that comes next under a name.
    fn next(&self, name: &str, newest: Option<u32>) -> u32 {
        newest.max(self.counted.get(name).copied()).map_or(1, |last| last.saturating_add(1))
    }
}

/// The services that the configuration describes.
pub(super) fn declared(config: &Config) -> Services {
    let mut declared = Services::default();
    config.services.iter().filter_map(|(name, section)| section.service(name)).for_each(|service| declared.insert(service));
    declared
}

impl Registry {
    /// All services; where both have a version, that of the configuration counts.
    pub(super) fn all_services(&self) -> Services {
        let mut all = self.book.services.put();
        self.services.iter().for_each(|service| all.insert(Service::clone(service)));
        all
    }
}

impl Core {
    /// Makes this list the newest version of a service, unless it is.
    pub(super) async fn put_service(&self, name: &str, features: Vec<String>) -> Result<Service, Refusal> {
        let mut registry = self.registry.lock().await;
        let all = registry.all_services();
        let newest = all.get(&ServiceName { name: name.to_owned(), version: None });
        if let Some(same) = newest.filter(|newest| newest.features == features) {
            return Ok(Service::clone(same));
        }
        let refused = |message: String| Err(Refusal { kind: RefusalKind::Conflict, message });
        let version = registry.book.services.next(name, newest.map(|newest| newest.version));
        let mut changed = registry.book.services.clone();
        if changed.services.len() >= PUT_MAX {
            return refused(format!("there are {PUT_MAX} versions of services; delete some"));
        }
        changed.counted.insert(name.to_owned(), version);
        if changed.counted.len() > PUT_MAX {
            return refused(format!("services have had {PUT_MAX} names, deleted ones counted; use one of them"));
        }
        let service = Service { name: name.to_owned(), version, features };
        changed.services.push(service.clone());
        registry.book.change(|pages| pages.services = changed).await.map_err(|error| not_written(&error))?;
        self.publish(&registry);
        Ok(service)
    }

    pub(super) async fn delete_service(&self, name: &ServiceName) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        let mut put = registry.book.services.put();
        if !put.remove(name) {
            return Err(match registry.services.get(name) {
                Some(_) => {
                    let message = format!("service `{name}` stands in the configuration; remove it there");
                    Refusal { kind: RefusalKind::Conflict, message }
                }
                None => Refusal { kind: RefusalKind::NotFound, message: format!("there is no service `{name}`") },
            });
        }
        let left = put.iter().map(|service| Service::clone(service)).collect();
        registry.book.change(|pages| pages.services.services = left).await.map_err(|error| not_written(&error))?;
        self.publish(&registry);
        Ok(())
    }
}
