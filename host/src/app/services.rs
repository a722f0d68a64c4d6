//! Feature services: those of the configuration, and those that were put over HTTP, which are kept in the data folder.

use std::path::PathBuf;

use anyhow::Context;

use super::Core;
use super::versions::write_aside;
use crate::config::Config;
use crate::model::{Service, ServiceName, Services};
use crate::serve::{Refusal, RefusalKind};

/// Versions of all services together that may be put over HTTP: each is a small thing, and there is no need for more.
const PUT_MAX: usize = 10_000;

/// All services and where those that were put are kept.
pub(super) struct ServiceBook {
    file: PathBuf,
    declared: Services,
    put: Services,
}

impl ServiceBook {
    pub(super) fn open(file: PathBuf, config: &Config) -> anyhow::Result<ServiceBook> {
        let mut book = ServiceBook { file, declared: Services::default(), put: Services::default() };
        config.services.iter().filter_map(|(name, section)| section.service(name)).for_each(|service| book.declared.insert(service));
        match std::fs::read(&book.file) {
            Ok(text) => {
                let all: Vec<Service> =
                    serde_json::from_slice(&text).with_context(|| format!("{} is damaged; restore or remove it", book.file.display()))?;
                all.into_iter().for_each(|service| book.put.insert(service));
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

    fn keep(&mut self, put: Services) -> anyhow::Result<()> {
        let all: Vec<&Service> = put.iter().map(AsRef::as_ref).collect();
        write_aside(&self.file, &serde_json::to_vec_pretty(&all)?)?;
        self.put = put;
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
        if registry.services.put.iter().count() >= PUT_MAX {
            let message = format!("there are {PUT_MAX} versions of services; delete some");
            return Err(Refusal { kind: RefusalKind::Conflict, message });
        }
        let version = newest.map_or(1, |newest| newest.version.saturating_add(1));
        let service = Service { name: name.to_owned(), version, features };
        let mut put = registry.services.put.clone();
        put.insert(service.clone());
        registry.services.keep(put).map_err(|error| unavailable(&error))?;
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
        registry.services.keep(put).map_err(|error| unavailable(&error))?;
        self.publish(&registry);
        Ok(())
    }
}

fn unavailable(error: &anyhow::Error) -> Refusal {
    Refusal { kind: RefusalKind::Unavailable, message: format!("{error:#}") }
}
