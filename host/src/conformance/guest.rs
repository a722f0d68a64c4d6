//! Guests written as text, good and hostile: a core module for the world `row-transform` of which whoever uses it replaces the part that it is about.

use anyhow::Context;
use wit_parser::Resolve;

use super::image::Image;
use crate::model::{Batch, Column, Field, Kind, Spec, Values};
use crate::transform::Output;

/// The contract.
const CONTRACT: &str = include_str!("../../../wit/transform.wit");

/// Where the result of `describe` stands in the guest's memory.
const SPEC_AT: u32 = 1_024;
/// Where the result of `apply` stands: a tag, then the record `output`.
pub const ANSWER_AT: u32 = 65_536;
/// Where the first of its columns stands: the tag of `values`, then the pointer at 4 and the length at 8.
pub const COLUMNS_AT: u32 = ANSWER_AT + 40;

/// A guest. Each part is the body of a function in WebAssembly text.
pub struct Guest {
    /// What `describe` answers unless its body is replaced.
    pub spec: Spec,
    /// What `apply` answers unless its body is replaced, whatever it was asked.
    pub answer: Output,
    /// Of a stateful guest: the states that `apply` answers with the rest. It has ten parameters more, which nothing here reads.
    pub states: Option<Column>,
    /// Of a stateful guest that takes over states: ten parameters, the first two the version, and `(result i32)`.
    pub migrate: Option<String>,
    /// `(param $settings i32) (param $length i32) (result i32)`
    pub describe: String,
    /// `(param $rows i32) (param $columns i32) (param $columns_length i32) (result i32)`
    pub apply: String,
    /// `(param $old i32) (param $old_length i32) (param $align i32) (param $length i32) (result i32)`
    pub realloc: String,
    /// `(param $result i32)`, after `apply`.
    pub post: String,
    /// Anything else that may stand in a module.
    pub extra: String,
    /// Imports, which come first in a module.
    pub imports: String,
}

/// A spec with the one input `key`, an integer, and these outputs.
pub fn spec(outputs: &[(&str, Kind, bool)]) -> Spec {
    let outputs = outputs.iter().map(|(name, kind, nullable)| field(name, *kind, *nullable)).collect();
    Spec {
        name: "guest".into(),
        version: "1".into(),
        doc: String::new(),
        streams: vec!["events".into()],
        entity: vec!["key".into()],
        event_time: None,
        inputs: vec![field("key", Kind::Integer, false)],
        outputs,
        aggregations: vec![],
    }
}

/// A field; a vector has the width 2.
pub fn field(name: &str, kind: Kind, nullable: bool) -> Field {
    Field { name: name.into(), kind, nullable, default: None, width: (kind == Kind::Vector).then_some(2), doc: String::new() }
}

impl Guest {
    /// A guest that answers the same every time.
    pub fn answering(spec: Spec, answer: Output) -> Guest {
        Guest {
            spec,
            answer,
            states: None,
            migrate: None,
            describe: format!("(i32.const {SPEC_AT})"),
            apply: format!("(i32.const {ANSWER_AT})"),
            realloc: "(call $allocate (local.get $align) (local.get $length))".into(),
            post: "(global.set $heap (global.get $heap_start))".into(),
            extra: String::new(),
            imports: String::new(),
        }
    }

    /// The good guest: one output, `double`, twice the key.
    pub fn doubling() -> Guest {
        let empty = Column { values: Values::Integers(vec![]), validity: None };
        let answer = Output { batch: Batch { rows: 0, columns: vec![empty.into()] }, origins: None, rejected: vec![] };
        let mut guest = Guest::answering(spec(&[("double", Kind::Integer, false)]), answer);
        // Column 0 is `integers`: its pointer stands at 4. The values are doubled where they are and handed back.
        guest.apply = format!(
            "(local $at i32) (local $left i32)
             (local.set $at (i32.load offset=4 (local.get $columns)))
             (local.set $left (local.get $rows))
             (i32.store (i32.const {rows}) (local.get $rows))
             (i32.store (i32.const {pointer}) (local.get $at))
             (i32.store (i32.const {length}) (local.get $rows))
             (block $done (loop $next
               (br_if $done (i32.eqz (local.get $left)))
               (i64.store (local.get $at) (i64.mul (i64.load (local.get $at)) (i64.const 2)))
               (local.set $at (i32.add (local.get $at) (i32.const 8)))
               (local.set $left (i32.sub (local.get $left) (i32.const 1)))
               (br $next)))
             (i32.const {ANSWER_AT})",
            rows = ANSWER_AT + 4,
            pointer = COLUMNS_AT + 4,
            length = COLUMNS_AT + 8,
        );
        guest
    }

    /// The core module with its world embedded, as a Rust toolchain leaves it.
    pub fn module(&self) -> anyhow::Result<Vec<u8>> {
        let world = match (&self.states, &self.migrate) {
            (None, _) => "row-transform",
            (Some(_), None) => "stateful-transform",
            (Some(_), Some(_)) => "migrating-transform",
        };
        with_world(self.core()?, world)
    }

    /// The core module without a world.
    pub(super) fn core(&self) -> anyhow::Result<Vec<u8>> {
        wat::parse_str(self.text()).context("the guest is not WebAssembly text")
    }

    /// The core module as built against another version of the contract, the same in all but its number.
    pub fn module_of_version(&self, version: &str) -> anyhow::Result<Vec<u8>> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("transform.wit", &CONTRACT.replace("transform@1.0.0;", &format!("transform@{version};")))?;
        let module = wat::parse_str(self.text().replace("@1.0.0", &format!("@{version}")))?;
        embed(module, &resolve, package, "row-transform")
    }

    /// The component.
    pub fn component(&self) -> anyhow::Result<Vec<u8>> {
        wit_component::ComponentEncoder::default().module(&self.module()?)?.encode()
    }

    fn text(&self) -> String {
        let mut spec = Image::at(SPEC_AT);
        spec.spec(&self.spec);
        let mut answer = Image::at(ANSWER_AT);
        answer.output(&self.answer, self.states.as_ref());
        let heap = answer.end().next_multiple_of(65_536);
        let pages = heap / 65_536 + 1;
        let Guest { describe, apply, realloc, post, extra, imports, .. } = self;
        let (interface, more) = if self.states.is_some() { ("fold", "i32 ".repeat(10)) } else { ("transform", String::new()) };
        let migration = self.migrate.as_ref().map(|body| {
            let parameters = "i32 ".repeat(10);
            format!("(func (export \"gristmill:transform/migration@1.0.0#migrate\") (param {parameters}) (result i32) {body})")
        });
        format!(
            r#"(module
                (import "gristmill:transform/log@1.0.0" "write" (func $log (param i32 i32 i32)))
                {imports}
                (memory (export "memory") {pages})
                (global $heap_start i32 (i32.const {heap}))
                (global $heap (mut i32) (i32.const {heap}))
                {spec}
                {answer}
                (func $allocate (param $align i32) (param $length i32) (result i32)
                  (local $at i32)
                  (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                                          (i32.sub (i32.const 0) (local.get $align))))
                  (global.set $heap (i32.add (local.get $at) (local.get $length)))
                  (block $fits (loop $grow
                    (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                    (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
                    unreachable))
                  (local.get $at))
                (func $realloc (export "cabi_realloc")
                  (param $old i32) (param $old_length i32) (param $align i32) (param $length i32) (result i32) {realloc})
                (func $describe (export "gristmill:transform/{interface}@1.0.0#describe")
                  (param $settings i32) (param $length i32) (result i32) {describe})
                (func $apply (export "gristmill:transform/{interface}@1.0.0#apply")
                  (param $rows i32) (param $columns i32) (param $columns_length i32) (param {more}) (result i32) {apply})
                (func (export "cabi_post_gristmill:transform/{interface}@1.0.0#apply") (param $result i32) {post})
                {migration}
                {extra}
            )"#,
            spec = spec.text(),
            answer = answer.text(),
            migration = migration.unwrap_or_default(),
        )
    }
}

/// A core module with the named world of the contract embedded.
pub fn with_world(module: Vec<u8>, world: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("transform.wit", CONTRACT)?;
    embed(module, &resolve, package, world)
}

fn embed(mut module: Vec<u8>, resolve: &Resolve, package: wit_parser::PackageId, world: &str) -> anyhow::Result<Vec<u8>> {
    let world = resolve.select_world(&[package], Some(world))?;
    wit_component::embed_component_metadata(&mut module, resolve, world, wit_component::StringEncoding::UTF8)?;
    Ok(module)
}
