use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::computed::Computed;
use crate::model::{Services, View, ViewName};
use crate::window::Forgets;

/// All views and services served now. Immutable: a change makes a new one.
#[derive(Clone, Default)]
pub struct Catalog {
    /// The views, each version by the name under which it is stored.
    pub views: BTreeMap<String, Arc<View>>,
    /// Those of them whose values are computed for each request.
    pub computed: BTreeMap<String, Arc<Computed>>,
    /// Which entities of each may be forgotten, where any are kept: by the name under which they are stored.
    pub forgets: BTreeMap<String, Forgets>,
    /// The version that a name without a version means, where that is not the first: by name, the name under which it is stored.
    pub current: BTreeMap<String, String>,
    /// Lists of their features that models ask for by name.
    pub services: Services,
}

impl Catalog {
    /// The name under which the view that is meant is stored.
    pub fn stored_name<'c>(&'c self, name: &'c str) -> Cow<'c, str> {
        match ViewName::parse(name) {
            Some(ViewName { base, version: None }) => self.current.get(base).map_or(name, String::as_str).into(),
            Some(ViewName { base, version: Some(version) }) => ViewName::stored(base, version).into(),
            None => name.into(),
        }
    }

    /// The view that is meant.
    pub fn view(&self, name: &str) -> Option<&Arc<View>> {
        self.views.get(&*self.stored_name(name))
    }
}
