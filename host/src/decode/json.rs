//! Finding dotted paths in JSON text without building a tree: what nobody asked for is skipped over, what is wanted is kept as text.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Wanted;
use crate::model::Format;

/// How deep a path may reach.
const DEPTH_MAX: usize = 32;

/// The wanted paths as a tree of member names.
#[derive(Debug, Default)]
pub(super) struct Paths {
    root: Node,
    nested: Vec<Option<(String, Vec<String>)>>,
}

#[derive(Debug, Default)]
struct Node {
    columns: Vec<usize>,
    members: Vec<(String, Node)>,
}

impl Paths {
    pub(super) fn new(format: &Format, wanted: &[Wanted]) -> Paths {
        let mut paths = Paths::default();
        for (column, wanted) in wanted.iter().enumerate() {
            let mut steps = wanted.from.split('.').map(str::to_owned);
            match format {
                Format::Json { .. } => paths.root.insert(steps, column, 0),
                Format::Fields => {
                    let outer = steps.next().unwrap_or_default();
                    let path: Vec<String> = steps.collect();
                    paths.nested.push((!path.is_empty()).then_some((outer, path)));
                }
            }
        }
        paths
    }

    /// For entries of flat fields: the field and the path within it that column `column` may be found at.
    pub(super) fn nested(&self, column: usize) -> Option<(&str, &[String])> {
        self.nested.get(column)?.as_ref().map(|(outer, path)| (outer.as_str(), path.as_slice()))
    }

    /// Fills `found` with the JSON text of each column that the object `text` has. Of a member that stands twice, the last counts.
    pub(super) fn find_all<'t>(&self, text: &'t [u8], found: &mut [Option<&'t str>]) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        Members { node: &self.root, found }.deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

impl Node {
    fn insert(&mut self, mut steps: impl Iterator<Item = String>, column: usize, depth: usize) {
        match steps.next() {
            Some(step) if depth < DEPTH_MAX => {
                let at = self.members.iter().position(|(name, _)| *name == step).unwrap_or_else(|| {
                    self.members.push((step, Node::default()));
                    self.members.len() - 1
                });
                if let Some((_, node)) = self.members.get_mut(at) {
                    node.insert(steps, column, depth + 1);
                }
            }
            _ => self.columns.push(column),
        }
    }
}

/// The JSON text at `path` within the object `text`; `None` when a member on the way is missing or is not an object.
pub(super) fn find<'t>(text: &'t [u8], path: &[String]) -> Result<Option<&'t str>, serde_json::Error> {
    let mut paths = Paths::default();
    paths.root.insert(path.iter().cloned(), 0, 0);
    let mut found = [None];
    paths.find_all(text, &mut found)?;
    let [found] = found;
    Ok(found)
}

struct Members<'p, 'f, 't> {
    node: &'p Node,
    found: &'f mut [Option<&'t str>],
}

impl<'t> DeserializeSeed<'t> for Members<'_, '_, 't> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for Members<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key_seed(Member(self.node))? {
            let Some(node) = member else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let text: &'t str = map.next_value::<&'t RawValue>()?.get();
            for column in &node.columns {
                if let Some(slot) = self.found.get_mut(*column) {
                    *slot = Some(text);
                }
            }
            if !node.members.is_empty() && text.starts_with('{') {
                let mut inner = serde_json::Deserializer::from_str(text);
                Members { node, found: &mut *self.found }.deserialize(&mut inner).map_err(serde::de::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Reads a member's name and looks it up, so that a name that nobody wants is never copied.
struct Member<'p>(&'p Node);

impl<'t, 'p> DeserializeSeed<'t> for Member<'p> {
    type Value = Option<&'p Node>;

    fn deserialize<D: serde::Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Member<'p> {
    type Value = Option<&'p Node>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.members.iter().find(|(member, _)| member == name).map(|(_, node)| node))
    }
}
