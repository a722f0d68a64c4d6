//! Guests written as text, good and hostile: a core module for the world `row-transform` of which a test replaces the part it is about.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use gristmill::model::{Column, Field, Kind, Packed, Spec, Values};
use gristmill::transform::Output;
use wit_parser::Resolve;

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
        let answer = Output { batch: gristmill::model::Batch { rows: 0, columns: vec![empty.into()] }, origins: None, rejected: vec![] };
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
    pub fn module(&self) -> Vec<u8> {
        with_world(wat::parse_str(self.text()).expect("the guest is WebAssembly text"), "row-transform")
    }

    /// The core module as built against another version of the contract, the same in all but its number.
    pub fn module_of_version(&self, version: &str) -> Vec<u8> {
        let contract = std::fs::read_to_string(contract().join("transform.wit")).expect("wit/ holds the contract");
        let mut resolve = Resolve::default();
        let package = resolve.push_str("transform.wit", &contract.replace("transform@1.0.0;", &format!("transform@{version};")));
        let module = wat::parse_str(self.text().replace("@1.0.0", &format!("@{version}"))).expect("the guest is WebAssembly text");
        embed(module, &resolve, package.expect("the contract can be parsed"), "row-transform")
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        wit_component::ComponentEncoder::default()
            .module(&self.module())
            .and_then(|mut encoder| encoder.encode())
            .expect("it has its world")
    }

    fn text(&self) -> String {
        let mut spec = Image::at(SPEC_AT);
        spec.spec(&self.spec);
        let mut answer = Image::at(ANSWER_AT);
        answer.output(&self.answer);
        let heap = answer.end().next_multiple_of(65_536);
        let pages = heap / 65_536 + 1;
        let Guest { describe, apply, realloc, post, extra, imports, .. } = self;
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
                (func $describe (export "gristmill:transform/transform@1.0.0#describe")
                  (param $settings i32) (param $length i32) (result i32) {describe})
                (func $apply (export "gristmill:transform/transform@1.0.0#apply")
                  (param $rows i32) (param $columns i32) (param $columns_length i32) (result i32) {apply})
                (func (export "cabi_post_gristmill:transform/transform@1.0.0#apply") (param $result i32) {post})
                {extra}
            )"#,
            spec = spec.text(),
            answer = answer.text(),
        )
    }
}

/// A core module with the named world of the contract embedded.
pub fn with_world(module: Vec<u8>, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(contract()).expect("wit/ holds the contract");
    embed(module, &resolve, package, world)
}

fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

fn embed(mut module: Vec<u8>, resolve: &Resolve, package: wit_parser::PackageId, world: &str) -> Vec<u8> {
    let world = resolve.select_world(&[package], Some(world)).expect("the contract has the world");
    wit_component::embed_component_metadata(&mut module, resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the world can be embedded");
    module
}

/// A piece of guest memory, laid out by the rules of the canonical ABI: the first record, and behind it what it points to.
struct Image {
    at: u32,
    bytes: Vec<u8>,
}

impl Image {
    fn at(at: u32) -> Image {
        Image { at, bytes: Vec::new() }
    }

    fn end(&self) -> u32 {
        self.at + self.bytes.len() as u32
    }

    fn text(&self) -> String {
        let mut text = format!("(data (i32.const {}) \"", self.at);
        for byte in &self.bytes {
            write!(text, "\\{byte:02x}").expect("writing into a string");
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
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
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

    fn spec(&mut self, spec: &Spec) {
        let at = self.room(80) + 4;
        self.string(at, &spec.name);
        self.string(at + 8, &spec.version);
        self.string(at + 16, &spec.doc);
        self.strings(at + 24, &spec.streams);
        self.strings(at + 32, &spec.entity);
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

    fn output(&mut self, output: &Output) {
        let at = self.room(40) + 4;
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
