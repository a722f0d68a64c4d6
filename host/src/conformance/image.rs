//! Records in a guest's memory.

use std::fmt::Write;

use crate::model::{Column, Field, Packed, Spec, Values};
use crate::transform::Output;

/// A piece of guest memory, laid out by the rules of the canonical ABI: the first record, and behind it what it points to.
pub(super) struct Image {
    at: u32,
    bytes: Vec<u8>,
}

impl Image {
    pub(super) fn at(at: u32) -> Image {
        Image { at, bytes: Vec::new() }
    }

    pub(super) fn end(&self) -> u32 {
        self.at + self.bytes.len() as u32
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("(data (i32.const {}) \"", self.at);
        for byte in &self.bytes {
            // Writing into a String cannot fail.
            write!(text, "\\{byte:02x}").unwrap_or_default();
        }
        text + "\")"
    }

    /// Room for `size` bytes of zeros, aligned to 8; says where, counted from the start.
    fn room(&mut self, size: usize) -> usize {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at + size, 0);
        at
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    fn number(&mut self, at: usize, number: u32) {
        self.put(at, &number.to_le_bytes());
    }

    /// The pointer and length, at `at`, of a list of `count` items that are these bytes.
    fn list(&mut self, at: usize, count: usize, bytes: &[u8]) {
        let items = self.room(bytes.len());
        self.put(items, bytes);
        self.pointer(at, items, count);
    }

    fn pointer(&mut self, at: usize, items: usize, count: usize) {
        self.number(at, self.at + items as u32);
        self.number(at + 4, count as u32);
    }

    fn string(&mut self, at: usize, text: &str) {
        self.list(at, text.len(), text.as_bytes());
    }

    fn strings(&mut self, at: usize, texts: &[String]) {
        let items = self.room(texts.len() * 8);
        self.pointer(at, items, texts.len());
        for (index, text) in texts.iter().enumerate() {
            self.string(items + index * 8, text);
        }
    }

    /// A spec, as `describe` returns it.
    pub(super) fn spec(&mut self, spec: &Spec) {
        let at = self.room(80) + 4;
        self.string(at, &spec.name);
        self.string(at + 8, &spec.version);
        self.string(at + 16, &spec.doc);
        self.strings(at + 24, &spec.streams);
        self.strings(at + 32, &spec.entity);
        if let Some(event_time) = &spec.event_time {
            self.number(at + 40, 1);
            self.string(at + 44, event_time);
        }
        self.fields(at + 52, &spec.inputs);
        self.fields(at + 60, &spec.outputs);
        let aggregations = self.room(56 * spec.aggregations.len());
        self.pointer(at + 68, aggregations, spec.aggregations.len());
        for (index, aggregation) in spec.aggregations.iter().enumerate() {
            // Function 0 is `count`; the rest of the record stays zero.
            self.string(aggregations + index * 56, &aggregation.feature);
            self.string(aggregations + index * 56 + 8, &aggregation.column);
        }
    }

    fn fields(&mut self, at: usize, fields: &[Field]) {
        let items = self.room(40 * fields.len());
        self.pointer(at, items, fields.len());
        for (index, field) in fields.iter().enumerate() {
            let at = items + index * 40;
            self.string(at, &field.name);
            self.put(at + 8, &[field.kind as u8, u8::from(field.nullable)]);
            if let Some(width) = field.width {
                self.number(at + 24, 1);
                self.number(at + 28, width);
            }
        }
    }

    /// An output, as `apply` returns it, with states behind it where a fold does.
    pub(super) fn output(&mut self, output: &Output, states: Option<&Column>) {
        let at = self.room(if states.is_some() { 72 } else { 40 }) + 4;
        let columns = self.room(32 * output.batch.columns.len());
        self.number(at, output.batch.rows as u32);
        self.pointer(at + 4, columns, output.batch.columns.len());
        if let Some(origins) = &output.origins {
            self.number(at + 12, 1);
            self.list(at + 16, origins.len(), &little_endian(origins, |origin| origin.to_le_bytes()));
        }
        let rejected = self.room(12 * output.rejected.len());
        self.pointer(at + 24, rejected, output.rejected.len());
        for (index, (row, reason)) in output.rejected.iter().enumerate() {
            self.number(rejected + index * 12, *row);
            self.string(rejected + index * 12 + 4, reason);
        }
        for (index, column) in output.batch.columns.iter().enumerate() {
            self.column(columns + index * 32, column);
        }
        if let Some(states) = states {
            self.column(at + 32, states);
        }
    }

    fn column(&mut self, at: usize, column: &Column) {
        let tag = match &column.values {
            Values::Booleans(values) => (self.list(at + 4, values.len(), values), 0).1,
            Values::Integers(values) => (self.list(at + 4, values.len(), &little_endian(values, |value| value.to_le_bytes())), 1).1,
            Values::Floats(values) => (self.list(at + 4, values.len(), &little_endian(values, |value| value.to_le_bytes())), 2).1,
            Values::Texts(packed) => (self.packed(at + 4, packed), 3).1,
            Values::Blobs(packed) => (self.packed(at + 4, packed), 4).1,
            Values::Timestamps(values) => (self.list(at + 4, values.len(), &little_endian(values, |value| value.to_le_bytes())), 5).1,
            Values::Vectors { width, values } => {
                self.number(at + 4, *width);
                self.list(at + 8, values.len(), &little_endian(values, |value| value.to_le_bytes()));
                6
            }
        };
        self.put(at, &[tag]);
        if let Some(validity) = &column.validity {
            self.number(at + 20, 1);
            self.list(at + 24, validity.bits.len(), &validity.bits);
        }
    }

    fn packed(&mut self, at: usize, packed: &Packed) {
        self.list(at, packed.offsets.len(), &little_endian(&packed.offsets, |offset| offset.to_le_bytes()));
        self.list(at + 8, packed.bytes.len(), &packed.bytes);
    }
}

fn little_endian<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}
