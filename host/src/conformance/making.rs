//! Pieces that hostile guests are made of.

use std::sync::Arc;

use anyhow::Context;
use wasm_encoder::Encode;

use super::guest::{ANSWER_AT, Guest, field, spec};
use crate::model::{Aggregate, Aggregation, Batch, Column, Field, Kind, Spec, Validity, Values};
use crate::transform::Output;

/// A file that is to be loaded.
pub(super) type Wasm = anyhow::Result<Vec<u8>>;

/// A body that never ends.
pub(super) const LOOP: &str = "(loop $forever (br $forever)) unreachable";
/// A body that takes all memory there is.
pub(super) const EAT: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
/// An import of a module whose name would look like a line of a log.
pub(super) const FORGES: &str = r#"(import "a\0aERROR forged\1b[2J" "x" (func))"#;

/// A component, or a core module, as WebAssembly text.
pub(super) fn text(text: &str) -> Wasm {
    Ok(wat::parse_str(text)?)
}

/// A component that exports an empty instance of this name.
pub(super) fn exporting(name: &str) -> Wasm {
    text(&format!(r#"(component (instance $nothing) (export "{name}" (instance $nothing)))"#))
}

/// Two components in one, each with a memory of its own, and a text that goes from one to the other: the engine has to compile the copy.
pub(super) fn composed() -> Wasm {
    text(
        r#"(component
            (component $callee
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                    (func (export "f") (param i32 i32)))
                (core instance $i (instantiate $m))
                (func (export "f") (param "text" string)
                    (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc")))))
            (component $caller
                (import "f" (func $f (param "text" string)))
                (core module $libc (memory (export "memory") 1))
                (core instance $libc (instantiate $libc))
                (core func $lowered (canon lower (func $f) (memory $libc "memory")))
                (core module $m (import "" "f" (func (param i32 i32))))
                (core instance (instantiate $m (with "" (instance (export "f" (func $lowered)))))))
            (instance $callee (instantiate $callee))
            (instance (instantiate $caller (with "f" (func $callee "f"))))
            (instance $nothing)
            (export "gristmill:transform/transform@1.0.0" (instance $nothing)))"#,
    )
}

/// A core module whose world, of the package `gristmill:transform`, exports an interface of another package, which uses the types of the first.
pub(super) fn world_in_a_circle() -> Wasm {
    let mut module = Guest::doubling().module()?;
    let name = b"gristmill:transform/transform@1.0.0";
    let at = module.windows(name.len()).rposition(|bytes| bytes == name).context("its world stands behind its code")?;
    if let Some(letter) = module.get_mut(at + 1) {
        *letter = b'e';
    }
    Ok(module)
}

/// A component that exports the transform, empty, and has a type of a component of a type of a component of …
pub(super) fn a_type_of_depth(levels: usize) -> Wasm {
    let ends: Vec<u8> = [vec![1], [0x41, 1, 1].repeat(levels), vec![0x41, 0]].concat();
    let mut bytes = exporting("gristmill:transform/transform@1.0.0")?;
    bytes.push(7);
    ends.as_slice().encode(&mut bytes);
    Ok(bytes)
}

/// A component in a component in a component in …
pub(super) fn components_of_depth(levels: usize) -> Wasm {
    let header = text("(component)")?;
    let mut heads = vec![header.clone()];
    let mut length = header.len();
    for _ in 0..levels {
        let mut head = header.clone();
        head.push(4);
        length.encode(&mut head);
        length += head.len();
        heads.push(head);
    }
    Ok(heads.into_iter().rev().flatten().collect())
}

/// A core module with nothing in it but a custom section.
pub(super) fn with_section(name: &str, data: &[u8]) -> Wasm {
    let mut module = wasm_encoder::Module::new();
    module.section(&wasm_encoder::CustomSection { name: name.into(), data: data.into() });
    Ok(module.finish())
}

/// A component with this in a core module.
pub(super) fn in_core(module: &str) -> Wasm {
    text(&format!("(component (core module {module}))"))
}

/// A guest with one output, changed.
pub(super) fn loads(change: impl FnOnce(&mut Guest)) -> Wasm {
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), one(Values::Integers(vec![1, 2, 3])));
    change(&mut guest);
    guest.module()
}

/// A guest whose `apply` is this.
pub(super) fn applies(body: &str) -> Wasm {
    loads(|guest| guest.apply = body.into())
}

/// A stateful guest whose `apply` is this.
pub(super) fn folds(body: &str) -> Wasm {
    loads(|guest| (guest.states, guest.apply) = (Some(Column::nulls(Kind::Bytes, 3)), body.into()))
}

/// A stateful guest whose `migrate` is this.
pub(super) fn migrates(body: &str) -> Wasm {
    loads(|guest| (guest.states, guest.migrate) = (Some(Column::nulls(Kind::Bytes, 3)), Some(body.into())))
}

/// A body that answers with states of nothing: a column of this tag with so many offsets, all zero as memory is behind 512, and with a bitmap of nulls or none.
pub(super) fn migrated(tag: u32, offsets: u32, is_null: bool) -> String {
    let bitmap = if is_null { "(i32.store (i32.const 280) (i32.const 1)) (i32.store (i32.const 288) (i32.const 1))" } else { "" };
    format!(
        "(i32.store (i32.const 260) (i32.const {tag})) (i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (i32.const {offsets}))
         (i32.store (i32.const 272) (i32.const 512)) (i32.store (i32.const 284) (i32.const 512)) {bitmap} (i32.const 256)"
    )
}

/// A `cabi_realloc` that does this when it is asked for any bytes at all; empty settings are none.
pub(super) fn realloc(body: &str) -> String {
    format!("(if (result i32) (local.get $length) (then {body}) (else (i32.const 8)))")
}

/// A body that answers with an error. The text is stored byte by byte at 512.
pub(super) fn refusing(message: &[u8]) -> String {
    let store: String =
        message.iter().enumerate().map(|(at, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 512 + at)).collect();
    let length = message.len();
    format!(
        "{store} (i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 260) (i32.const 512))
         (i32.store (i32.const 264) (i32.const {length})) (i32.const 256)"
    )
}

/// Fifty rejections whose reasons are one and the same 50,000 bytes of memory: small for the guest, large for who copies them.
pub(super) fn sharing_a_text() -> Wasm {
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), from(&[0, 0, 0], &[1; 50]));
    let entry = |index: usize, at: usize, number: u32| {
        format!("(i32.store offset={} (i32.load (i32.const {})) (i32.const {number}))", index * 12 + at, ANSWER_AT + 28)
    };
    let stores: String = (0..50).map(|index| entry(index, 4, 8_192) + &entry(index, 8, 50_000)).collect();
    guest.apply = format!("{stores} (i32.const {ANSWER_AT})");
    guest.module()
}

/// A guest with this spec that answers nothing.
pub(super) fn answers(spec: Spec) -> Wasm {
    Guest::answering(spec, Output::default()).module()
}

/// A spec with so many inputs and outputs that are vectors of the greatest width.
pub(super) fn of_vectors(inputs: usize, outputs: usize) -> Spec {
    let mut spec = spec(&[("value", Kind::Integer, false)]);
    let vector = |index| Field { width: Some(65_536), ..field(&format!("vector{index}"), Kind::Vector, true) };
    spec.inputs.extend((0..inputs).map(vector));
    spec.outputs.extend((0..outputs).map(vector));
    spec
}

/// A spec that reads this stream.
pub(super) fn reading(stream: &str) -> Spec {
    Spec { streams: vec![stream.into()], ..spec(&[("value", Kind::Integer, false)]) }
}

/// A spec with an aggregation over this column.
pub(super) fn aggregating(column: &str) -> Spec {
    let mut spec = spec(&[("value", Kind::Integer, false)]);
    let (function, doc) = (Aggregate::Count, String::new());
    spec.aggregations = vec![Aggregation { feature: "clicks".into(), column: column.into(), function, window_ms: None, doc }];
    spec
}

/// An answer of three rows and this one column.
pub(super) fn one(values: Values) -> Output {
    Output { batch: Batch { rows: 3, columns: vec![Arc::new(Column { values, validity: None })] }, origins: None, rejected: vec![] }
}

/// The same with a bitmap.
pub(super) fn null(values: Values, bits: &[u8]) -> Output {
    let column = Column { values, validity: Some(Validity { bits: bits.to_vec() }) };
    Output { batch: Batch { rows: 3, columns: vec![Arc::new(column)] }, origins: None, rejected: vec![] }
}

/// The same with each column twice.
pub(super) fn twice(mut output: Output) -> Output {
    output.batch.columns.extend_from_within(..);
    output
}

/// An answer of so many rows.
pub(super) fn rows(rows: usize) -> Output {
    let mut output = one(Values::Integers(vec![0; rows]));
    output.batch.rows = rows;
    output
}

/// An answer with these origins and rejections.
pub(super) fn from(origins: &[u32], rejected: &[u32]) -> Output {
    let rejected = rejected.iter().map(|row| (*row, "no".into())).collect();
    Output { origins: Some(origins.to_vec()), rejected, ..one(Values::Integers(vec![1, 2, 3])) }
}
