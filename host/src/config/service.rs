//! `[services.NAME]` and `[services."NAME@VERSION"]`: features that a model asks for by one name.

use serde::{Deserialize, Serialize};

use crate::model::{Service, ServiceName};

/// One version of a service; the first when its name says no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSection {
    /// Feature references `view:feature`, in the order in which they are answered.
    pub features: Vec<String>,
}

impl ServiceSection {
    pub(super) fn check(&self, name: &str, features_max: usize, complain: &mut impl FnMut(String, String)) {
        let key = format!("services.{name}");
        if let Err(problem) = name.parse::<ServiceName>() {
            complain(key.clone(), problem);
        }
        let many = self.features.len();
        if many == 0 || many > features_max {
            complain(format!("{key}.features"), format!("{many} features; 1 to {features_max} are allowed"));
        }
        if let Some(bad) = self.features.iter().find(|reference| !reference.contains(':')) {
            complain(format!("{key}.features"), format!("{bad:?} is not a feature reference; write view:feature"));
        }
    }

    /// The service of this name, which was checked.
    pub fn service(&self, name: &str) -> Option<Service> {
        let ServiceName { name, version } = name.parse().ok()?;
        Some(Service { name, version: version.unwrap_or(1), features: self.features.clone() })
    }
}
