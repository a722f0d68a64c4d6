//! Views and services out of a Feast registry, as if they stood in the file.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Config, ServiceSection, WrittenView};
use crate::model::feast::{RegisteredService, RegisteredView, Registry};
use crate::model::{FeastStatuses, FeastType, ServiceName, is_name};

/// Bytes in a registry, at most. One of a thousand views with a hundred features has about ten million.
const BYTES_MAX: u64 = 256 << 20;

/// The join key that Feast gives to views without an entity.
const NO_ENTITY: &str = "__dummy_id";

impl Config {
    /// Takes in what the registry says that `[feast]` names, if it names one: views that are served online, services, and the types of views that
    /// transforms compute. What the file itself has under the same name counts. What cannot be had is left out, with a warning.
    pub fn with_registry(mut self) -> Result<Config, String> {
        let Some(path) = self.feast.registry.clone() else { return Ok(self) };
        let registry = read(&path).map_err(|problem| format!("feast.registry: {}: {problem}", path.display()))?;
        let project = self.feast.project.clone();
        let views: Vec<&RegisteredView> = registry.views.iter().filter(|view| view.project == project).collect();
        let services: Vec<&RegisteredService> = registry.services.iter().filter(|service| service.project == project).collect();
        if views.is_empty() && services.is_empty() {
            let mut known: Vec<&str> = registry.views.iter().map(|view| view.project.as_str()).collect();
            known.dedup();
            let known = known.join("`, `");
            return Err(format!("feast.registry: {} has no views in project `{project}`; known are `{known}`", path.display()));
        }
        for view in views {
            self.take_view(view);
        }
        for service in services {
            self.take_service(service);
        }
        Ok(self)
    }

    fn take_view(&mut self, view: &RegisteredView) {
        let name = &view.name;
        if self.views.contains_key(name) || !view.is_online {
            return;
        }
        if self.transforms.contains_key(name) {
            let known = |(name, known): &(String, Option<FeastType>)| Some((name.clone(), (*known)?));
            self.feast.types.insert(name.clone(), view.entity.iter().chain(&view.features).filter_map(known).collect());
            return;
        }
        let (entity, odd) = kept(&view.entity);
        let (features, odd_features) = kept(&view.features);
        if let Some(feature) = odd_features.first() {
            tracing::warn!(view = view.name, feature, more = odd_features.len() - 1, "is of a type that is not kept here, and is left out");
        }
        let max_age_secs = (self.feast.statuses == FeastStatuses::Strict && view.ttl_secs > 0).then_some(view.ttl_secs);
        let given = |text: &String| Some(text).filter(|text| !text.is_empty()).cloned();
        let (push_source, timestamp_field) = (given(&view.push_source), given(&view.timestamp_field));
        let doc = view.doc.clone();
        let section =
            WrittenView { doc, entity, features, push_source, timestamp_field, max_age_secs, expire_secs: None, history_secs: None };
        let mut problems: Vec<String> = odd.iter().map(|name| format!("join key `{name}` is of a type that is no key here")).collect();
        if section.entity.contains_key(NO_ENTITY) {
            problems.push("it has no entity".to_owned());
        }
        section.check(name, &mut |key, message| problems.push(format!("{key}: {message}")));
        match problems.first() {
            None => _ = self.views.insert(name.clone(), section),
            Some(problem) => tracing::warn!(view = name, problem, "a view of the Feast registry is left out"),
        }
    }

    fn take_service(&mut self, service: &RegisteredService) {
        let name = &service.name;
        if self.services.contains_key(name) {
            return;
        }
        let section = ServiceSection { features: service.features.clone() };
        let mut problems = Vec::new();
        if service.renames {
            problems.push("it renames views or join keys".to_owned());
        }
        if name.parse::<ServiceName>().is_ok_and(|parsed| parsed.version.is_some()) {
            problems.push("its name has a version".to_owned());
        }
        let is_served = |reference: &&String| {
            let (view, feature) = reference.split_once(':').unwrap_or_default();
            self.transforms.contains_key(view) || self.views.get(view).is_some_and(|view| view.features.contains_key(feature))
        };
        let unknown = service.features.iter().find(|reference| !is_served(reference));
        problems.extend(unknown.map(|reference| format!("`{reference}` is not served here")));
        section.check(name, self.http.features_max, &mut |_, message| problems.push(message));
        match problems.first() {
            None => _ = self.services.insert(name.clone(), section),
            Some(problem) => tracing::warn!(service = name, problem, "a service of the Feast registry is left out"),
        }
    }
}

/// Columns of types that are kept, and the names of the others.
fn kept(columns: &[(String, Option<FeastType>)]) -> (BTreeMap<String, FeastType>, Vec<&str>) {
    let (mut types, mut odd) = (BTreeMap::new(), Vec::new());
    for (name, known) in columns {
        match known.filter(|_| is_name(name)) {
            Some(known) => _ = types.insert(name.clone(), known),
            None => odd.push(name.as_str()),
        }
    }
    (types, odd)
}

fn read(path: &Path) -> Result<Registry, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > BYTES_MAX {
        return Err(format!("{size} bytes are more than a registry has here, {BYTES_MAX}"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(b"SQLite format 3") {
        return Err(
            "this is a database of registry_type \"sql\"; what is read is the file that `feast apply` writes with registry_type \"file\""
                .into(),
        );
    }
    Registry::read(&bytes).ok_or_else(|| "this is no Feast registry, or a part of one".into())
}
