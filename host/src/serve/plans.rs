//! Plans that were made, for those who ask the same again.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use super::catalog::Catalog;
use super::plan::Plan;

/// Plans kept, at most; beyond that all are forgotten, which costs a little time and no correctness.
const PLANS_MAX: usize = 1_024;
/// Bytes of the texts under which plans are kept, together: the same list can be written with any amount of white space.
const PLAN_TEXT_BYTES_MAX: usize = 8 << 20;
/// Columns of all plans that are kept, together; each takes half a kilobyte.
const PLAN_COLUMNS_MAX: usize = 1 << 16;

/// Plans by the text that asked for them, for as long as the catalog stays the same.
#[derive(Default)]
pub(super) struct Plans {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// What the plans were made from.
    catalog: Option<Arc<Catalog>>,
    plans: BTreeMap<String, Arc<Plan>>,
    text_bytes: usize,
    columns: usize,
}

impl Known {
    fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        self.catalog.as_ref().is_some_and(|of| Arc::ptr_eq(of, catalog))
    }
}

impl Plans {
    /// The plan for this text, made by `resolve` when it is not known.
    pub(super) fn get<E>(
        &self,
        catalog: &Arc<Catalog>,
        text: &str,
        resolve: impl FnOnce(&Catalog) -> Result<Plan, E>,
    ) -> Result<Arc<Plan>, E> {
        if let Ok(known) = self.known.read()
            && known.is_of(catalog)
            && let Some(plan) = known.plans.get(text)
        {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(resolve(catalog)?);
        if text.len() <= PLAN_TEXT_BYTES_MAX
            && let Ok(mut known) = self.known.write()
        {
            let columns = plan.columns.len() + plan.sources.columns.len();
            let is_full = known.plans.len() >= PLANS_MAX
                || known.text_bytes + text.len() > PLAN_TEXT_BYTES_MAX
                || known.columns + columns > PLAN_COLUMNS_MAX;
            if is_full || !known.is_of(catalog) {
                *known = Known { catalog: Some(Arc::clone(catalog)), ..Known::default() };
            }
            known.text_bytes += text.len();
            known.columns += columns;
            known.plans.insert(text.to_owned(), Arc::clone(&plan));
        }
        Ok(plan)
    }
}
