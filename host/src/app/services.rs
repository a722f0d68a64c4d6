//! Feature services: those of the configuration, and those that were put over HTTP, which are kept in the data folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Core;
use super::versions::write_aside;
use crate::config::Config;
use crate::model::{Service, ServiceName, Services};
use crate::serve::{Refusal, RefusalKind};

/// Versions of all services together that may be put over HTTP, and names that may ever be used: each is a small thing, and there is no need for more.
const PUT_MAX: usize = 10_000;

/// All services and where those that were put are kept.
pub(super) struct ServiceBook {
    file: PathBuf,
    declared: Services,
    put: Services,
    /// The last version that each name was given, deleted ones too: what a model was told under a version is never something else.
    counted: BTreeMap<String, u32>,
}

/// The file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Page {
    services: Vec<Service>,
    counted: BTreeMap<String, u32>,
}

impl ServiceBook {
    pub(super) fn open(file: PathBuf, config: &Config) -> anyhow::Result<ServiceBook> {
        let mut book = ServiceBook { file, declared: Services::default(), put: Services::default(), counted: BTreeMap::new() };
        config.services.iter().filter_map(|(name, section)| section.service(name)).for_each(|service| book.declared.insert(service));
        match std::fs::read(&book.file) {
            Ok(text) => {
                let page: Page =
                    serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", book.file.display()))?;
                page.services.into_iter().for_each(|service| book.put.insert(service));
                book.counted = page.counted;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", book.file.display())),
        }
        Ok(book)
    }

    /// All of them; where both have a version, that of the configuration counts.
    pub(super) fn all(&self) -> Services {
        let mut all = self.put.clone();
        self.declared.iter().for_each(|service| all.insert(Service::clone(service)));
        all
    }

    /// The version that comes next under a name.
    fn next(&self, name: &str, newest: Option<u32>) -> u32 {
        newest.max(self.counted.get(name).copied()).map_or(1, |last| last.saturating_add(1))
    }

    fn keep(&mut self, put: Services, counted: BTreeMap<String, u32>) -> anyhow::Result<()> {
        let page = Page { services: put.iter().map(|service| Service::clone(service)).collect(), counted };
        write_aside(&self.file, &serde_json::to_vec_pretty(&page)?)?;
        (self.put, self.counted) = (put, page.counted);
        Ok(())
    }
}

impl Core {
    /// Makes this list the newest version of a service, unless it is.
    pub(super) async fn put_service(&self, name: &str, features: Vec<String>) -> Result<Service, Refusal> {
        let mut registry = self.registry.lock().await;
        let all = registry.services.all();
        let newest = all.get(&ServiceName { name: name.to_owned(), version: None });
        if let Some(same) = newest.filter(|newest| newest.features == features) {
            return Ok(Service::clone(same));
        }
        let refused = |message: String| Err(Refusal { kind: RefusalKind::Conflict, message });
        let version = registry.services.next(name, newest.map(|newest| newest.version));
        let (mut put, mut counted) = (registry.services.put.clone(), registry.services.counted.clone());
        if put.iter().count() >= PUT_MAX {
            return refused(format!("there are {PUT_MAX} versions of services; delete some"));
        }
        counted.insert(name.to_owned(), version);
        if counted.len() > PUT_MAX {
            return refused(format!("services have had {PUT_MAX} names, deleted ones counted; use one of them"));
        }
        let service = Service { name: name.to_owned(), version, features };
        put.insert(service.clone());
        registry.services.keep(put, counted).map_err(|error| unavailable(&error))?;
        self.publish(&registry);
        Ok(service)
    }

    pub(super) async fn delete_service(&self, name: &ServiceName) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        let mut put = registry.services.put.clone();
        if !put.remove(name) {
            return Err(match registry.services.declared.get(name) {
                Some(_) => {
                    let message = format!("service `{name}` stands in the configuration; remove it there");
                    Refusal { kind: RefusalKind::Conflict, message }
                }
                None => Refusal { kind: RefusalKind::NotFound, message: format!("there is no service `{name}`") },
            });
        }
        let counted = registry.services.counted.clone();
        registry.services.keep(put, counted).map_err(|error| unavailable(&error))?;
        self.publish(&registry);
        Ok(())
    }
}

fn unavailable(error: &anyhow::Error) -> Refusal {
    Refusal { kind: RefusalKind::Unavailable, message: format!("{error:#}") }
}
