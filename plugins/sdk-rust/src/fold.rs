//! What `#[fold]` makes of a function over a state and a row.

use std::ops::Range;

use crate::wire::{Batch, Column, Folded, Output, Packed, Spec, Values};

/// A stateful transform, as the host sees it. `#[fold]` on a function `name` implements it for a type `NameFold`.
pub trait Fold {
    /// Says what the transform is, given its settings (JSON text; empty when there are none).
    ///
    /// # Errors
    /// When the settings cannot be read.
    fn describe(settings: &str) -> Result<Spec, String>;

    /// Folds a batch into the states. Group `g` is the rows `groups[g]..groups[g + 1]`; `states` has bytes or null for each group.
    ///
    /// # Errors
    /// When the batch does not have the columns of the spec, or a state cannot be read.
    fn apply(input: Batch, groups: &[u32], states: Column) -> Result<Folded, String>;
}

/// How a stateful transform takes over the states of the version before it. `#[fold(…, migrate = function)]` implements it.
pub trait Migration: Fold {
    /// Converts states that the version `from` wrote, bytes without nulls.
    ///
    /// # Errors
    /// When one of them is no such state; the new version is then refused.
    fn migrate(from: &str, states: Column) -> Result<Column, String>;
}

/// Takes over one state after the other.
///
/// # Errors
/// Those of the author's function, and when a state cannot be written.
#[doc(hidden)]
pub fn migrate<S: State>(from: &str, states: Column, each: impl Fn(&str, &[u8]) -> Result<S, String>) -> Result<Column, String> {
    let Values::Blobs(before) = states.values else { return Err("the states are not a column of bytes".to_owned()) };
    let mut after = Packed { offsets: vec![0], bytes: Vec::with_capacity(before.bytes.len()) };
    for bounds in before.offsets.windows(2) {
        let bound = |index: usize| bounds.get(index).copied().unwrap_or_default() as usize;
        let state = each(from, before.bytes.get(bound(0)..bound(1)).unwrap_or_default())?;
        state.save(&mut after.bytes)?;
        after.offsets.push(after.bytes.len() as u32);
    }
    Ok(Column { values: Values::Blobs(after), validity: None })
}

/// What a fold keeps for an entity, as bytes.
///
/// With the SDK's cargo feature `state` every type that is `Clone` and implements serde's `Serialize` and `Deserialize` is a state, and is kept as JSON,
/// which people can read where the host shows it. Without the feature a type implements this itself.
pub trait State: Clone + Sized {
    /// Reads a state that [`save`](State::save) wrote, maybe in an older version of the transform.
    ///
    /// # Errors
    /// When the bytes are no such state.
    fn load(bytes: &[u8]) -> Result<Self, String>;

    /// Appends the state to `bytes`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, bytes: &mut Vec<u8>) -> Result<(), String>;
}

#[cfg(feature = "state")]
impl<S: Clone + serde::Serialize + serde::de::DeserializeOwned> State for S {
    fn load(bytes: &[u8]) -> Result<S, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    fn save(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(bytes, self).map_err(|error| error.to_string())
    }
}

/// The states of a batch, before and after. The row loop of `#[fold]` feeds it.
#[doc(hidden)]
pub struct States<'g> {
    groups: &'g [u32],
    before: Packed,
    before_validity: Option<Vec<u8>>,
    after: Packed,
    after_validity: Vec<u8>,
}

impl<'g> States<'g> {
    /// # Errors
    /// When the host has handed over something else than a state for each group.
    pub fn new(groups: &'g [u32], states: Column) -> Result<Self, String> {
        let Values::Blobs(before) = states.values else { return Err("the states are not a column of bytes".to_owned()) };
        let count = groups.len().saturating_sub(1);
        if before.offsets.len() != count + 1 {
            return Err(format!("there are {} offsets of states for {count} groups", before.offsets.len()));
        }
        let after = Packed { offsets: vec![0], bytes: Vec::with_capacity(before.bytes.len()) };
        Ok(Self { groups, before, before_validity: states.validity, after, after_validity: vec![0; count.div_ceil(8)] })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a group.
    pub fn rows(&self, group: usize) -> Range<u32> {
        let bound = |index: usize| self.groups.get(index).copied().unwrap_or_default();
        bound(group)..bound(group + 1)
    }

    /// The state of a group before the batch.
    ///
    /// # Errors
    /// When its bytes are no state of this type.
    pub fn load<S: State>(&self, group: usize) -> Result<Option<S>, String> {
        let valid = |bits: &Vec<u8>| bits.get(group / 8).is_some_and(|byte| byte >> (group % 8) & 1 == 1);
        if !self.before_validity.as_ref().is_none_or(valid) {
            return Ok(None);
        }
        let bound = |index: usize| self.before.offsets.get(index).copied().unwrap_or_default() as usize;
        let bytes = self.before.bytes.get(bound(group)..bound(group + 1)).unwrap_or_default();
        S::load(bytes).map(Some).map_err(|error| format!("a kept state cannot be read: {error}"))
    }

    /// Keeps the state of the next group; none ends it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep<S: State>(&mut self, state: Option<&S>) -> Result<(), String> {
        let group = self.after.offsets.len() - 1;
        if let Some(state) = state {
            state.save(&mut self.after.bytes).map_err(|error| format!("a state cannot be kept: {error}"))?;
            if let Some(byte) = self.after_validity.get_mut(group / 8) {
                *byte |= 1 << (group % 8);
            }
        }
        self.after.offsets.push(self.after.bytes.len() as u32);
        Ok(())
    }

    /// Ends the batch.
    pub fn finish(self, output: Output) -> Folded {
        Folded { output, states: Column { values: Values::Blobs(self.after), validity: Some(self.after_validity) } }
    }
}
