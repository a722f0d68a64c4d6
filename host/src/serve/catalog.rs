use std::collections::BTreeMap;
use std::sync::Arc;

use super::computed::Computed;
use crate::model::{Services, View};

/// All views and services served now. Immutable: a change makes a new one.
#[derive(Clone, Default)]
pub struct Catalog {
    /// The views, by name.
    pub views: BTreeMap<String, Arc<View>>,
    /// Those of them whose values are computed for each request.
    pub computed: BTreeMap<String, Arc<Computed>>,
    /// Lists of their features that models ask for by name.
    pub services: Services,
}
