//! CPython's lock, in a component that has nobody to lock out.
//!
//! The runtime of componentize-py takes the interpreter's lock anew for each number that it makes for Python or takes out of it, with all that this takes where there
//! are other threads: a third of the time of a batch. A component has one thread. So whoever takes the lock first keeps it, by a few instructions in front of two
//! functions of libpython, which names them:
//!
//! ```c
//! PyGILState_Ensure:  if (PyThreadState_GetUnchecked()) return PyGILState_LOCKED;
//! PyGILState_Release: if (state == PyGILState_LOCKED) return;
//!                     if (!PyEval_GetFrame()) return;
//! ```
//!
//! Python that runs, lets go of the lock itself and is called back meanwhile (SQLite does that) gets it and gives it back as before. A component that has no such
//! functions is left as it is.

use anyhow::Context;
use wasm_encoder::{BlockType, CodeSection, Component, ComponentSectionId, Encode, Instruction, Module, RawSection, SectionId};
use wasmparser::{ExternalKind, FunctionBody, Parser, Payload, TypeRef};

use super::super::sections;

/// Indices of functions of libpython.
#[derive(Default)]
struct Library {
    /// Functions that it imports; they come before its own.
    imported: u32,
    ensure: Option<u32>,
    release: Option<u32>,
    current_thread: Option<u32>,
    current_frame: Option<u32>,
}

/// The component with a lock that is kept.
pub(super) fn kept(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut copy = Component::new();
    for (id, range) in sections::of(component)? {
        let data = component.get(range).context("a section ends behind the component")?;
        let patched = if id == ComponentSectionId::CoreModule as u8 { patched(data)? } else { None };
        copy.section(&RawSection { id, data: patched.as_deref().unwrap_or(data) });
    }
    Ok(copy.finish())
}

/// libpython with the instructions in front; nothing for any other module.
fn patched(module: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let (mut library, mut bodies) = (Library::default(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::ImportSection(imports) = payload {
            for import in imports.into_imports() {
                library.imported += u32::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
            }
        } else if let Payload::ExportSection(exports) = payload {
            for export in exports {
                let export = export?;
                if export.kind == ExternalKind::Func {
                    library.exports(export.name, export.index);
                }
            }
        } else if let Payload::CodeSectionEntry(body) = payload {
            bodies.push(body);
        }
    }
    let Some(code) = library.code(&bodies)? else { return Ok(None) };
    let mut copy = Module::new();
    for (id, range) in sections::of(module)? {
        if id == SectionId::Code as u8 {
            copy.section(&code);
        } else {
            copy.section(&RawSection { id, data: module.get(range).context("a section ends behind the module")? });
        }
    }
    Ok(Some(copy.finish()))
}

impl Library {
    fn exports(&mut self, name: &str, index: u32) {
        let place = match name {
            "PyGILState_Ensure" => &mut self.ensure,
            "PyGILState_Release" => &mut self.release,
            "PyThreadState_GetUnchecked" => &mut self.current_thread,
            "PyEval_GetFrame" => &mut self.current_frame,
            _ => return,
        };
        *place = Some(index);
    }

    /// Its code with the instructions in front; nothing where a function is missing.
    fn code(&self, bodies: &[FunctionBody]) -> anyhow::Result<Option<CodeSection>> {
        let (Some(ensure), Some(release)) = (self.ensure, self.release) else { return Ok(None) };
        let (Some(current_thread), Some(current_frame)) = (self.current_thread, self.current_frame) else { return Ok(None) };
        // PyGILState_LOCKED is 0.
        let (when, end) = (Instruction::If(BlockType::Empty), Instruction::End);
        let before_ensure = [Instruction::Call(current_thread), when.clone(), Instruction::I32Const(0), Instruction::Return, end.clone()];
        let unless = |value| [value, Instruction::I32Eqz, when.clone(), Instruction::Return, end.clone()];
        let before_release = [unless(Instruction::LocalGet(0)), unless(Instruction::Call(current_frame))].concat();
        let mut code = CodeSection::new();
        for (index, body) in (self.imported..).zip(bodies) {
            let before = if index == ensure {
                &before_ensure[..]
            } else if index == release {
                &before_release[..]
            } else {
                &[]
            };
            let locals = body.get_binary_reader_for_operators()?.original_position() - body.range().start;
            let (locals, rest) = body.as_bytes().split_at_checked(locals).context("a function ends within its variables")?;
            let mut copy = locals.to_vec();
            before.iter().for_each(|instruction| instruction.encode(&mut copy));
            copy.extend_from_slice(rest);
            code.raw(&copy);
        }
        Ok(Some(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component around a library whose two functions begin so, with things before and behind it.
    fn around(ensure: &str, release: &str) -> Vec<u8> {
        let text = format!(
            r#"(component
                (core module $other (func (export "PyGILState_Ensure") (result i32) (i32.const 1)))
                (core module $library
                    (import "env" "take" (func $take))
                    (import "env" "memory" (memory 1))
                    (func $current (export "PyThreadState_GetUnchecked") (result i32) (i32.const 7))
                    (func $frame (export "PyEval_GetFrame") (result i32) (i32.const 9))
                    (func (export "PyGILState_Ensure") (result i32) (local i32 i64) {ensure} (call $take) (i32.const 1))
                    (func (export "PyGILState_Release") (param i32) {release} (call $take)))
                (component (core module (func)))
                (core module $last (func)))"#
        );
        wat::parse_str(text).expect("it is WebAssembly")
    }

    #[test]
    fn instructions_stand_in_front_of_two_functions_and_nothing_else_changes() {
        let before = around("", "");
        let after = around(
            "(if (call $current) (then (return (i32.const 0))))",
            "(if (i32.eqz (local.get 0)) (then (return))) (if (i32.eqz (call $frame)) (then (return)))",
        );
        assert_ne!(before, after);
        assert_eq!(kept(&before).unwrap(), after);
    }

    #[test]
    fn what_is_no_library_of_python_stays_as_it_is() {
        let text = r#"(component (core module (func (export "PyGILState_Release") (param i32))) (component) (core module))"#;
        let component = wat::parse_str(text).unwrap();
        assert_eq!(kept(&component).unwrap(), component);
        assert!(kept(b"no component").is_err());
    }
}
