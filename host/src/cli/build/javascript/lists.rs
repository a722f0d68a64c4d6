//! Columns across the boundary of a component that componentize-qjs made, as whole pieces of memory.
//!
//! Its runtime makes a JavaScript number of each item of a list and appends it to an array, with all that this takes: most of the time of a batch. Only a list of
//! bytes becomes a typed array at once, and text a string. What turns the contract's types into calls of that runtime is a module of its own, made anew for each
//! component, that names what it calls. There such calls are led to functions that are added to it (`lists.wat`):
//!
//! - A list of numbers goes in as its bytes, which the SDK looks at as a typed array. Integers become 32-bit ones where all of them fit, else floats.
//! - A column of text goes in as one string, with offsets that count its characters; and comes back so.
//!
//! A component that has no such module is left as it is; the SDK takes both, and is told which form to give back.

use std::ops::Range;

use anyhow::Context;
use wasm_encoder::{
    CodeSection, Component, ComponentSectionId, ConstExpr, Encode, FunctionSection, GlobalSection, GlobalType, Instruction, Module,
    RawSection, SectionId, ValType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

use super::super::sections;

/// The functions that are added, in their order in `lists.wat`.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    Words,
    Floats,
    Integers,
    OffsetsIn,
    TextIn,
    OffsetsOut,
    TextOut,
}

const ADDED: [Call; 7] = [Call::Words, Call::Floats, Call::Integers, Call::OffsetsIn, Call::TextIn, Call::OffsetsOut, Call::TextOut];
/// The number of texts among the cases of the contract's `values`.
const TEXTS: i32 = 3;

/// What the module imports.
#[derive(Default)]
struct Imports<'a> {
    /// The names of functions, with their types: those that come before its own.
    functions: Vec<(&'a str, u32)>,
    globals: u32,
}

/// A call that is to be led elsewhere.
struct Site {
    body: usize,
    /// Where the instruction stands in the module.
    range: Range<usize>,
    to: Call,
}

/// The component whose columns go across as they are; none where it has no module in which that can be done.
pub(super) fn whole(component: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let (mut copy, mut is_found) = (Component::new(), false);
    for (id, range) in sections::of(component)? {
        let data = component.get(range).context("a section ends behind the component")?;
        let patched = match id {
            id if id == ComponentSectionId::CoreModule as u8 => patched(data)?,
            id if id == ComponentSectionId::Component as u8 => whole(data)?,
            _ => None,
        };
        is_found |= patched.is_some();
        copy.section(&RawSection { id, data: patched.as_deref().unwrap_or(data) });
    }
    Ok(is_found.then(|| copy.finish()))
}

/// The module with the calls led elsewhere; nothing for any other module.
fn patched(module: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let (mut imports, mut types, mut bodies) = (Imports::default(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::ImportSection(section) = payload {
            for import in section.into_imports() {
                let import = import?;
                imports.take(import.name, import.ty);
            }
        } else if let Payload::FunctionSection(section) = payload {
            types = section.into_iter().collect::<Result<_, _>>()?;
        } else if let Payload::GlobalSection(_) = payload {
            // The variables that are added would have to stand among them.
            return Ok(None);
        } else if let Payload::CodeSectionEntry(body) = payload {
            bodies.push(body);
        }
    }
    let (Some(push), Some(pop)) = (imports.type_of("push_list"), imports.type_of("pop_list")) else { return Ok(None) };
    let (mut led, mut bytes) = (Vec::new(), None);
    for (index, body) in bodies.iter().enumerate() {
        let calls = calls(&imports, body)?;
        led.extend(sites(index, &calls));
        let of_bytes = calls.iter().zip(calls.iter().skip(1)).find(|(call, next)| (call.name, next.name) == ("push_list", "push_u8"));
        bytes = bytes.or(of_bytes.and_then(|(call, _)| call.constants.first().copied()));
    }
    // The SDK gives back texts of all columns in one form.
    let is_whole =
        [Call::OffsetsIn, Call::TextIn, Call::OffsetsOut, Call::TextOut].iter().all(|call| led.iter().any(|site| site.to == *call));
    let Some(wat) = bytes.filter(|_| is_whole).and_then(|bytes| imports.wat(bytes)) else { return Ok(None) };
    let first = u32::try_from(imports.functions.len() + types.len())?;
    let code = code(&bodies, &led, first, &wat::parse_str(wat)?)?;
    let mut functions = FunctionSection::new();
    let of_added = ADDED.map(|call| if matches!(call, Call::OffsetsOut | Call::TextOut) { pop } else { push });
    for of in types.into_iter().chain(of_added) {
        functions.function(of);
    }
    let mut globals = GlobalSection::new();
    for _ in 0..2 {
        globals.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(0));
    }
    let mut copy = Module::new();
    for (id, range) in sections::of(module)? {
        if id == SectionId::Export as u8 {
            copy.section(&globals);
        }
        if id == SectionId::Function as u8 {
            copy.section(&functions);
        } else if id == SectionId::Code as u8 {
            copy.section(&code);
        } else {
            copy.section(&RawSection { id, data: module.get(range).context("a section ends behind the module")? });
        }
    }
    Ok(Some(copy.finish()))
}

/// The code, with calls led to the functions from `first` on, which are put at its end.
fn code(bodies: &[FunctionBody], sites: &[Site], first: u32, added: &[u8]) -> anyhow::Result<CodeSection> {
    let mut code = CodeSection::new();
    for (index, body) in bodies.iter().enumerate() {
        let (bytes, start) = (body.as_bytes(), body.range().start);
        let (mut copy, mut done) = (Vec::new(), 0);
        for site in sites.iter().filter(|site| site.body == index) {
            copy.extend_from_slice(bytes.get(done..site.range.start - start).context("a call stands outside its function")?);
            Instruction::Call(first + site.to as u32).encode(&mut copy);
            done = site.range.end - start;
        }
        copy.extend_from_slice(bytes.get(done..).context("a call stands outside its function")?);
        code.raw(&copy);
    }
    for payload in Parser::new(0).parse_all(added) {
        if let Payload::CodeSectionEntry(body) = payload? {
            code.raw(body.as_bytes());
        }
    }
    Ok(code)
}

impl<'a> Imports<'a> {
    fn take(&mut self, name: &'a str, of: TypeRef) {
        match of {
            TypeRef::Func(of) | TypeRef::FuncExact(of) => self.functions.push((name.strip_prefix("wit_dylib_").unwrap_or(name), of)),
            TypeRef::Global(_) => self.globals += 1,
            TypeRef::Table(_) | TypeRef::Memory(_) | TypeRef::Tag(_) => {}
        }
    }

    fn name(&self, function: u32) -> &'a str {
        self.functions.get(function as usize).map_or("", |(name, _)| name)
    }

    /// The type of a function.
    fn type_of(&self, name: &str) -> Option<u32> {
        self.functions.iter().find(|(of, _)| *of == name).map(|(_, of)| *of)
    }

    /// The functions that are added, where it imports all that they call.
    fn wat(&self, bytes: i32) -> Option<String> {
        let mut wat = include_str!("lists.wat").replace("{bytes}", &bytes.to_string());
        for (name, index) in [("{start}", self.globals), ("{length}", self.globals + 1)] {
            wat = wat.replace(name, &index.to_string());
        }
        for name in ["push_list", "push_string", "pop_list", "pop_string"] {
            let index = self.functions.iter().position(|(of, _)| *of == name)?;
            wat = wat.replace(&format!("{{{name}}}"), &index.to_string());
        }
        Some(wat)
    }
}

/// A call as it stands in the code of a function.
struct Called<'a> {
    name: &'a str,
    range: Range<usize>,
    /// Constants since the call before, the last one first.
    constants: Vec<i32>,
}

fn calls<'a>(imports: &Imports<'a>, body: &FunctionBody) -> anyhow::Result<Vec<Called<'a>>> {
    let (mut found, mut constants) = (Vec::new(), Vec::new());
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let start = reader.original_position();
        let operator = reader.read()?;
        if let Operator::I32Const { value } = operator {
            constants.insert(0, value);
        } else if let Operator::Call { function_index } = operator {
            let (name, range) = (imports.name(function_index), start..reader.original_position());
            found.push(Called { name, range, constants: std::mem::take(&mut constants) });
        }
    }
    Ok(found)
}

const TEXT_IN: [&str; 10] = [
    "push_list",
    "push_u32",
    "list_append",
    "dealloc_bytes",
    "push_list",
    "push_u8",
    "list_append",
    "dealloc_bytes",
    "push_record",
    "push_variant",
];
const TEXT_OUT: [&str; 11] = [
    "pop_record",
    "pop_list",
    "cabi_realloc",
    "pop_list_iter_next",
    "pop_u32",
    "dealloc_bytes",
    "pop_list_iter",
    "pop_list",
    "cabi_realloc",
    "pop_list_iter_next",
    "pop_u8",
];

/// The calls that are to be led elsewhere.
fn sites(body: usize, calls: &[Called]) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    let is = |from: usize, names: &[&str]| {
        calls.get(from..).is_some_and(|calls| calls.iter().map(|call| call.name).take(names.len()).eq(names.iter().copied()))
    };
    let constant = |at: usize, back: usize| calls.get(at).and_then(|call| call.constants.get(back)).copied();
    for (at, call) in calls.iter().enumerate() {
        let site = |at: usize, to| calls.get(at).map(|call| Site { body, range: call.range.clone(), to });
        if is(at, &TEXT_IN) && constant(at + 9, 0) == Some(TEXTS) {
            sites.extend([site(at, Call::OffsetsIn), site(at + 4, Call::TextIn)].into_iter().flatten());
        } else if is(at, &TEXT_OUT) && constant(at, 1) == Some(TEXTS) {
            sites.extend([site(at + 1, Call::OffsetsOut), site(at + 7, Call::TextOut)].into_iter().flatten());
        } else if call.name == "push_list" {
            let to = match calls.get(at + 1).map(|call| call.name) {
                Some("push_u32" | "push_f32") => Call::Words,
                Some("push_s64") => Call::Integers,
                Some("push_f64") => Call::Floats,
                _ => continue,
            };
            sites.extend(site(at, to));
        }
    }
    sites
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component around a module that makes a column of text, or takes one apart, as the tool's modules do it; `texts` is the number of the case.
    fn around(texts: i32, more: &str) -> Vec<u8> {
        let text = format!(
            r#"(component
                (core module $other (func (export "apply")))
                (component (core module $types
                    (import "env" "wit_dylib_push_list" (func $push_list (param i32 i32 i32 i32) (result i32)))
                    (import "env" "wit_dylib_pop_list" (func $pop_list (param i32 i32 i32) (result i32)))
                    (import "env" "wit_dylib_push_u8" (func $push_u8 (param i32 i32)))
                    (import "env" "wit_dylib_push_u32" (func $push_u32 (param i32 i32)))
                    (import "env" "wit_dylib_push_s64" (func $push_s64 (param i32 i64)))
                    (import "env" "wit_dylib_push_string" (func $push_string (param i32 i32 i32)))
                    (import "env" "wit_dylib_push_record" (func $push_record (param i32 i32)))
                    (import "env" "wit_dylib_push_variant" (func $push_variant (param i32 i32 i32)))
                    (import "env" "wit_dylib_list_append" (func $list_append (param i32 i32)))
                    (import "env" "wit_dylib_dealloc_bytes" (func $dealloc_bytes (param i32 i32 i32 i32 i32)))
                    (import "env" "wit_dylib_pop_u8" (func $pop_u8 (param i32) (result i32)))
                    (import "env" "wit_dylib_pop_u32" (func $pop_u32 (param i32) (result i32)))
                    (import "env" "wit_dylib_pop_string" (func $pop_string (param i32 i32) (result i32)))
                    (import "env" "wit_dylib_pop_record" (func $pop_record (param i32 i32)))
                    (import "env" "wit_dylib_pop_list_iter_next" (func $next (param i32 i32)))
                    (import "env" "wit_dylib_pop_list_iter" (func $iter (param i32 i32)))
                    (import "env" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
                    (import "env" "memory" (memory 1))
                    (import "env" "__stack_pointer" (global (mut i32)))
                    {more}
                    (func (export "apply") (param $cx i32)
                        (if (i32.eqz (call $push_list (local.get $cx) (i32.const 3) (i32.load (i32.const 0)) (i32.const 9)))
                            (then (call $push_s64 (local.get $cx) (i64.const 0))))
                        (if (i32.eqz (call $push_list (local.get $cx) (i32.const 5) (local.get $cx) (local.get $cx)))
                            (then
                                (call $push_u32 (local.get $cx) (i32.const 0)) (call $list_append (local.get $cx) (i32.const 5))
                                (call $dealloc_bytes (local.get $cx) (local.get $cx) (local.get $cx) (i32.const 4) (i32.const 0))))
                        (if (i32.eqz (call $push_list (local.get $cx) (i32.const 7) (local.get $cx) (local.get $cx)))
                            (then
                                (call $push_u8 (local.get $cx) (i32.const 0)) (call $list_append (local.get $cx) (i32.const 7))
                                (call $dealloc_bytes (local.get $cx) (local.get $cx) (local.get $cx) (i32.const 1) (i32.const 0))))
                        (call $push_record (local.get $cx) (i32.const 1))
                        (call $push_variant (local.get $cx) (i32.const 0) (i32.const {texts}))
                        (i32.store8 (local.get $cx) (i32.const {texts}))
                        (call $pop_record (local.get $cx) (i32.const 1))
                        (drop (call $pop_list (local.get $cx) (i32.const 5) (local.get $cx)))
                        (drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 8)))
                        (call $next (local.get $cx) (i32.const 5)) (drop (call $pop_u32 (local.get $cx)))
                        (call $dealloc_bytes (local.get $cx) (local.get $cx) (local.get $cx) (i32.const 4) (i32.const 1))
                        (call $iter (local.get $cx) (i32.const 5))
                        (drop (call $pop_list (local.get $cx) (i32.const 7) (local.get $cx)))
                        (drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                        (call $next (local.get $cx) (i32.const 7)) (drop (call $pop_u8 (local.get $cx))))))
                (core module $last))"#
        );
        wat::parse_str(text).expect("it is WebAssembly")
    }

    #[test]
    fn lists_of_numbers_and_columns_of_text_are_led_elsewhere() {
        let before = around(TEXTS, "");
        let after = whole(&before).unwrap().expect("the module is known");
        let modules = |component: &[u8]| -> Vec<Vec<u8>> {
            let payloads = Parser::new(0).parse_all(component).map(Result::unwrap);
            let ranges = payloads
                .filter_map(|of| if let Payload::ModuleSection { unchecked_range, .. } = of { Some(unchecked_range) } else { None });
            ranges.map(|range| component[range].to_vec()).collect()
        };
        let (before, after) = (modules(&before), modules(&after));
        assert_eq!([&before[0], &before[2]], [&after[0], &after[2]]);
        wasmparser::validate(&after[1]).expect("it is valid");
        let mut called = Vec::new();
        for payload in Parser::new(0).parse_all(&after[1]) {
            let Payload::CodeSectionEntry(body) = payload.unwrap() else { continue };
            called.push(calls(&Imports::default(), &body).unwrap().len());
        }
        // The function's own calls are as many, and each that is added calls the runtime; but one, which only remembers.
        assert_eq!(called, [23, 1, 1, 2, 0, 2, 1, 1]);
        let kept = |modules: &[Vec<u8>], to: u8| modules[1].windows(2).filter(|bytes| bytes == &[0x10, to]).count();
        assert_eq!((kept(&before, 0), kept(&before, 1)), (3, 2));
        assert_eq!(ADDED.map(|call| kept(&after, 18 + call as u8)), [0, 0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn what_is_not_known_stays_as_it_is() {
        assert_eq!(whole(&around(TEXTS + 1, "")).unwrap(), None);
        assert_eq!(whole(&around(TEXTS, "(global i32 (i32.const 0))")).unwrap(), None);
        assert!(whole(b"no component").is_err());
    }
}
