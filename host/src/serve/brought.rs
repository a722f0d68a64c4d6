//! What a request brings to compute with.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::error::{ApiError, suggestion};
use super::join_keys::{Entity, Given};
use super::plan::Plan;

/// Values that come with the request.
pub(super) trait Brings {
    /// A join key of an entity.
    fn join_key(&self, entity: usize, name: &str) -> Option<Given<'_>>;
    /// What goes with an entity beside its join keys.
    fn beside(&self, entity: usize, name: &str) -> Option<Given<'_>>;
}

/// In the body: `entities`, and `request`, which is an object for all of them or a list with one for each.
pub(super) struct Brought<'b> {
    entities: Vec<Entity<'b>>,
    beside: Beside<'b>,
}

enum Beside<'b> {
    ForAll(Entity<'b>),
    ForEach(Vec<Entity<'b>>),
}

impl<'b> Brought<'b> {
    /// Reads what is in the body; each member must be something that one of the views is computed from.
    pub(super) fn new(plan: &Plan, entities: &[&'b RawValue], request: Option<&'b RawValue>) -> Result<Brought<'b>, ApiError> {
        let object =
            |raw: &'b RawValue| serde_json::from_str::<Entity<'b>>(raw.get()).map_err(|error| ApiError::unusable(error.to_string()));
        let beside = match request.map(RawValue::get) {
            None | Some("null") => Beside::ForAll(Entity(Vec::new())),
            Some(json) if json.starts_with('[') => {
                let each: Vec<Entity<'b>> =
                    serde_json::from_str(json).map_err(|error| ApiError::unusable(format!("`request` is no list of objects: {error}")))?;
                if each.len() != entities.len() {
                    let (many, right) = (each.len(), entities.len());
                    return Err(ApiError::unusable(format!(
                        "`request` has {many} objects and `entities` {right}; give one for each, or one object for all"
                    )));
                }
                Beside::ForEach(each)
            }
            Some(json) => Beside::ForAll(
                serde_json::from_str(json)
                    .map_err(|error| ApiError::unusable(format!("`request` is neither an object nor a list of them: {error}")))?,
            ),
        };
        let all: &[Entity<'_>] = match &beside {
            Beside::ForAll(one) => std::slice::from_ref(one),
            Beside::ForEach(each) => each,
        };
        all.iter().try_for_each(|members| members.check_once(&|| "`request`".to_owned()))?;
        for (name, _) in all.iter().flat_map(|members| &members.0) {
            if !plan.takes(name) {
                let shown: String = name.chars().take(80).collect();
                let known = plan.views.iter().flat_map(|view| &view.view.request).map(|field| field.name.as_str());
                let hint = suggestion(name, known);
                return Err(ApiError::unusable(format!("`request`: nothing that is asked for is computed from `{shown}`{hint}")));
            }
        }
        let entities = entities.iter().map(|raw| object(raw)).collect::<Result<Vec<_>, _>>()?;
        Ok(Brought { entities, beside })
    }
}

impl Brings for Brought<'_> {
    fn join_key(&self, entity: usize, name: &str) -> Option<Given<'_>> {
        self.entities.get(entity)?.get(name)
    }

    fn beside(&self, entity: usize, name: &str) -> Option<Given<'_>> {
        match &self.beside {
            Beside::ForAll(one) => one.get(name),
            Beside::ForEach(each) => each.get(entity)?.get(name),
        }
    }
}

/// In the address of a request for one entity.
pub(super) struct InQuery<'q> {
    pub(super) members: &'q BTreeMap<String, String>,
    pub(super) beside: &'q BTreeMap<String, String>,
}

impl Brings for InQuery<'_> {
    fn join_key(&self, _: usize, name: &str) -> Option<Given<'_>> {
        self.members.get(name).map(|text| Given::Plain(text))
    }

    fn beside(&self, _: usize, name: &str) -> Option<Given<'_>> {
        self.beside.get(name).map(|text| Given::Plain(text))
    }
}
