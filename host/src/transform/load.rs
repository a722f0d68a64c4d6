//! From bytes to a component that may run here. What it imports and exports is read before anything of it is compiled.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::Component;

use super::bounds;
use super::engine::Engine;
use super::world::Packages;
use super::{Error, World};
use crate::model::Digest;

/// The largest component that is taken. CPython's has 18 MB. It also bounds the time for which a hostile component can keep the
/// compiler busy.
pub(super) const COMPONENT_BYTES_MAX: usize = 64 << 20;

const PACKAGE: &str = "gristmill:transform/";
/// What a component may import; both are ours.
const IMPORTS: [&str; 2] = ["log", "types"];
/// The major version of the contract that this host speaks.
const CONTRACT_MAJOR: &str = "1";
/// Longest name of an import or export that is repeated in a message, in characters.
const NAME_CHARS_MAX: usize = 120;

/// A component whose imports and exports were read and allowed.
pub(super) struct Checked<'a> {
    /// The component; borrowed when the user's file is one already.
    bytes: Cow<'a, [u8]>,
    /// Whether the user's file was a core module.
    pub(super) wrapped: bool,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    pub(super) world: World,
}

/// Reads what the bytes are and refuses what may not run here.
pub(super) fn check(bytes: &[u8]) -> Result<Checked<'_>, Error> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        let length = bytes.len();
        return Err(Error::Refused(format!(
            "the component has {length} bytes; {COMPONENT_BYTES_MAX} are allowed: strip debug information"
        )));
    }
    let wrapped = match encoding(bytes)? {
        Encoding::Module => true,
        Encoding::Component => false,
    };
    let bytes = if wrapped { Cow::Owned(wrap(bytes)?) } else { Cow::Borrowed(bytes) };
    bounds::check(&bytes)?;
    let (imports, exports) = surface(&bytes)?;
    imports.iter().try_for_each(|name| check_import(name))?;
    let world = world_of(&exports)?;
    Ok(Checked { bytes, wrapped, imports, exports, world })
}

/// Compiles a component, or takes its code from the cache; the flag says which. `digest` is that of the user's bytes.
pub(super) fn compile(engine: &Engine, digest: Digest, checked: &Checked<'_>) -> Result<(Component, bool), Error> {
    let shared = &engine.shared;
    if let Some(code) = shared.cache.as_ref().and_then(|cache| cache.get(digest)) {
        match deserialize(&shared.wasm, &code) {
            Ok(component) => return Ok((component, true)),
            Err(error) => tracing::warn!(%digest, "compiled code in the cache does not fit this engine; compiling again: {error:#}"),
        }
    }
    let compiled = guarded("the compiler", || Component::from_binary(&shared.wasm, &checked.bytes))?;
    let component = compiled.map_err(|error| Error::Refused(format!("it does not compile: {error:#}")))?;
    if let Some(cache) = &shared.cache {
        let kept = component.serialize().map_err(std::io::Error::other).and_then(|code| cache.put(digest, &code));
        if let Err(error) = kept {
            tracing::warn!(%digest, "cannot keep compiled code; it will be compiled again next time: {error}");
        }
    }
    Ok((component, false))
}

#[allow(unsafe_code, reason = "the engine cannot check compiled code; the cache's tag proves that this program wrote it")]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `Cache::get` returns only bytes whose keyed tag shows that `Cache::put` wrote them, from `Component::serialize`.
    unsafe { Component::deserialize(engine, code) }
}

fn encoding(bytes: &[u8]) -> Result<Encoding, Error> {
    if Parser::is_component(bytes) {
        return Ok(Encoding::Component);
    }
    if Parser::is_core_wasm(bytes) {
        return Ok(Encoding::Module);
    }
    Err(Error::Refused("it is not a WebAssembly component: it does not begin with a WebAssembly header".into()))
}

/// Wraps a core module that carries its world with it, as `cargo build --target wasm32-unknown-unknown` makes them.
#[allow(clippy::wildcard_enum_match_arm, reason = "sections that say nothing about imports and exports; new ones come with each proposal")]
fn wrap(module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut has_world = false;
    let mut packages = Packages::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(damaged)? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(damaged)?;
                    if import.module.starts_with("wasi") || import.module == "env" {
                        return Err(refuse_import(&format!("{}#{}", import.module, import.name)));
                    }
                }
            }
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                bounds::check(section.data())?;
                guarded("reading its world", || packages.add(section.data()))??;
                has_world = true;
            }
            _ => {}
        }
    }
    if !has_world {
        return Err(Error::Refused(
            "it is a core module without a world: build it with an SDK, which embeds the world, or make it a component with \
             `wasm-tools component embed` and `wasm-tools component new`"
                .into(),
        ));
    }
    packages.check()?;
    let encode = || wit_component::ComponentEncoder::default().validate(true).module(module)?.encode();
    guarded("wrapping it into a component", encode)?
        .map_err(|error| Error::Refused(format!("the core module cannot be wrapped into a component: {error:#}")))
}

/// The names that a component imports and exports. Nested components and modules are not looked into: they get what the outer one has.
#[allow(clippy::wildcard_enum_match_arm, reason = "sections that say nothing about imports and exports; new ones come with each proposal")]
fn surface(component: &[u8]) -> Result<(Vec<String>, Vec<String>), Error> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn check_import(name: &str) -> Result<(), Error> {
    match contract_interface(name) {
        Some((interface, major)) if IMPORTS.contains(&interface) && major == CONTRACT_MAJOR => Ok(()),
        Some((interface, _)) if IMPORTS.contains(&interface) => Err(other_version(name)),
        _ => Err(refuse_import(name)),
    }
}

/// The world whose interface is exported.
fn world_of(exports: &[String]) -> Result<World, Error> {
    let (mut transform, mut fold, mut migration) = (false, false, false);
    for name in exports {
        match contract_interface(name) {
            Some(("transform", CONTRACT_MAJOR)) => transform = true,
            Some(("fold", CONTRACT_MAJOR)) => fold = true,
            Some(("migration", CONTRACT_MAJOR)) => migration = true,
            Some(("transform" | "fold" | "migration", _)) => return Err(other_version(name)),
            _ => {}
        }
    }
    match (transform, fold) {
        (true, false) => Ok(World::RowTransform),
        (false, true) if migration => Ok(World::MigratingTransform),
        (false, true) => Ok(World::StatefulTransform),
        (true, true) => Err(Error::Refused(
            "it exports both `transform` and `fold`; a component is one of them: build it for the world `row-transform` or `stateful-transform`".into(),
        )),
        (false, false) => {
            let names: Vec<_> = exports.iter().take(8).map(|name| format!("`{}`", shown(name))).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Err(Error::Refused(format!(
                "it does not export `{PACKAGE}transform@1.0.0` but {names}: build it for the world `row-transform` or `stateful-transform`"
            )))
        }
    }
}

/// `gristmill:transform/log@1.2.3` is the interface `log` of major version `1`.
fn contract_interface(name: &str) -> Option<(&str, &str)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    Some((interface, version.split_once('.').map_or(version, |(major, _)| major)))
}

fn refuse_import(name: &str) -> Error {
    let without = if name.starts_with("wasi") {
        "build it with `--stub-wasi` (Python, JavaScript) or for wasm32-unknown-unknown (Rust), or leave out what asks for it, such as printf, clocks and files (C)"
    } else {
        "build it for the world `row-transform`, which imports `gristmill:transform/log` and nothing else"
    };
    Error::Refused(format!("it imports `{}`, which no transform gets: a transform computes, the host does I/O; {without}", shown(name)))
}

fn other_version(name: &str) -> Error {
    Error::Refused(format!(
        "it was built for `{}`, another version of the contract; this host speaks 1.0.0: build it with an SDK of this host's version",
        shown(name)
    ))
}

fn damaged(error: wasmparser::BinaryReaderError) -> Error {
    Error::Refused(format!("it is damaged: {error}"))
}

fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// A bug in a tool that reads foreign bytes must not take the program down with it.
fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::Refused(format!("{what} failed on it: it is damaged, or uses something that this host does not know")))
}
