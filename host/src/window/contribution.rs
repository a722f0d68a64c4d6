//! What one event gives to windows: its values, as they are stored one by one, and as they go into cells.

use bytes::Bytes;

use super::cell::Cell;
use super::plan::{Plan, Window};
use crate::model::{Value, Version};

/// The version stands first.
const VERSION_BYTES: usize = 24;

/// The values of an event by their column. The last one that was asked for is kept: there are many cells of one column.
pub(super) struct ByColumn<'v, F> {
    value: F,
    column: usize,
    current: Option<Value<'v>>,
}

impl<'v, F: Fn(usize) -> Option<Value<'v>>> ByColumn<'v, F> {
    pub(super) fn new(value: F) -> ByColumn<'v, F> {
        ByColumn { value, column: usize::MAX, current: None }
    }

    pub(super) fn get(&mut self, column: usize) -> Option<&Value<'v>> {
        if self.column != column {
            (self.column, self.current) = (column, (self.value)(column));
        }
        self.current.as_ref()
    }
}

/// The same of values that are all there already.
pub(super) fn of_all<'v>(values: &[Option<Value<'v>>]) -> ByColumn<'v, impl Fn(usize) -> Option<Value<'v>>> {
    ByColumn::new(|column| values.get(column).copied().flatten())
}

/// Adds the values of an event to the cells of a tile.
pub(super) fn add<'v>(
    window: &Window,
    cells: &mut [Cell],
    version: Version,
    values: &mut ByColumn<'v, impl Fn(usize) -> Option<Value<'v>>>,
) {
    for (planned, cell) in window.cells.iter().zip(cells) {
        if let Some(value) = values.get(planned.column) {
            cell.add(version, value);
        }
    }
}

/// A contribution as it is stored.
pub(super) fn packed_contribution<'v>(version: Version, values: impl ExactSizeIterator<Item = Option<Value<'v>>>) -> Bytes {
    let mut packed = Vec::with_capacity(VERSION_BYTES + values.len() * 9);
    packed.extend_from_slice(&version.to_bytes());
    for value in values {
        packed.push(u8::from(value.is_some()));
        if let Some(value) = value {
            value.pack(&mut packed);
        }
    }
    packed.into()
}

/// The inverse: the values of a packed contribution, for each column of the plan.
pub(super) fn unpacked<'c>(plan: &Plan, packed: &'c [u8]) -> Option<Vec<Option<Value<'c>>>> {
    let mut rest = packed.get(VERSION_BYTES..)?;
    let value = |(_, kind): &(usize, crate::model::Kind)| {
        let (is_some, after) = rest.split_first()?;
        rest = after;
        if *is_some == 0 { Some(None) } else { Value::unpack(*kind, &mut rest).map(Some) }
    };
    plan.columns.iter().map(value).collect()
}
