//! Files that never become a transform: what they are, and what the refusal says.

use super::Row;
use super::guest::{Guest, spec, with_world};
use super::making::{
    FORGES, Wasm, a_type_of_depth, aggregating, answers, components_of_depth, composed, exporting, in_core, loads, of_vectors, reading,
    refusing, text, with_section, world_in_a_circle,
};
use crate::model::Kind;

/// Wrong files, wrong worlds, foreign imports.
pub(super) fn wrong_worlds() -> Vec<Row> {
    let imports = |name: &str| text(&format!(r#"(component (import "{name}" (instance)))"#));
    vec![
        ("nothing", Ok(vec![]), "does not begin with a WebAssembly header"),
        ("text", Ok(b"(component)".to_vec()), "does not begin with a WebAssembly header"),
        ("garbage behind a header", Ok([b"\0asm\x0d\0\x01\0".as_slice(), &[0xff; 99]].concat()), "it is damaged"),
        ("garbage behind a core header", Ok([b"\0asm\x01\0\0\0".as_slice(), &[0xff; 99]].concat()), "it is damaged"),
        ("a third of a component", a_third(), "it is damaged"),
        ("too large", Ok(vec![0; (64 << 20) + 1]), "67108864 are allowed"),
        ("a core module without a world", text("(module)"), "core module without a world"),
        ("WASI preview 1", text(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#), "`wasi_snapshot_preview1#fd_write`"),
        ("sockets", imports("wasi:sockets/tcp@0.2.9"), "imports `wasi:sockets/tcp@0.2.9`"),
        (
            "sockets, how to go on",
            imports("wasi:sockets/tcp@0.2.9"),
            "`--stub-wasi` (Python, JavaScript) or for wasm32-unknown-unknown (Rust)",
        ),
        ("a clock", imports("wasi:clocks/monotonic-clock@0.2.9"), "imports `wasi:clocks/monotonic-clock@0.2.9`"),
        ("an unknown import", imports("acme:feature/store@1.0.0"), "imports `acme:feature/store@1.0.0`"),
        ("our fold, imported", imports("gristmill:transform/fold@1.0.0"), "imports `gristmill:transform/fold@1.0.0`"),
        ("another version of the log", imports("gristmill:transform/log@2.0.0"), "another version of the contract"),
        ("a function", text(r#"(component (import "now" (func (result u64))))"#), "imports `now`"),
        ("a component of no world", text("(component)"), "does not export `gristmill:transform/transform@1.0.0` but nothing"),
        ("another export", exporting("acme:feature/run@1.0.0"), "but `acme:feature/run@1.0.0`"),
        ("a contract to come", exporting("gristmill:transform/transform@2.1.0"), "this host speaks 1.0.0"),
        ("an empty fold", exporting("gristmill:transform/fold@1.0.0"), "does not export what `stateful-transform` asks for"),
        ("an empty transform", exporting("gristmill:transform/transform@1.0.0"), "does not export what `row-transform` asks for"),
        ("an empty transform that is composed", composed(), "does not export what `row-transform` asks for"),
        (
            "a module without its exports",
            text("(module)").and_then(|module| with_world(module, "row-transform")),
            "cannot be wrapped into a component",
        ),
    ]
}

/// Specs that nothing can be done with, and settings that are refused.
pub(super) fn wrong_specs() -> Vec<Row> {
    vec![
        ("more memory than the pool", loads(|guest| guest.extra = "(memory 2000)".into()), "it does not compile"),
        ("a spec with two equal outputs", answers(spec(&[("a", Kind::Float, false), ("a", Kind::Float, false)])), "declared twice"),
        ("a spec with a bad name", answers(spec(&[("a b", Kind::Float, false)])), "is not a name"),
        ("a spec with a stream without a name", answers(reading("")), "cannot name a stream"),
        ("a spec with a stream that forges lines", answers(reading("a\nERROR forged")), "cannot name a stream"),
        ("a spec without outputs", answers(spec(&[])), "no outputs"),
        ("a spec that aggregates nothing", answers(aggregating("nothing")), "there is no output \"nothing\" to compute it over"),
        ("a spec whose inputs take too much", answers(of_vectors(2, 0)), "its inputs take 524288 bytes a row"),
        ("a spec whose outputs take too much", answers(of_vectors(1, 5)), "its outputs take 1310720 bytes a row"),
        ("refused settings", loads(|guest| guest.describe = refusing(b"no such threshold")), "refused its settings: no such threshold"),
    ]
}

/// Files that would take the reader or the compiler down.
pub(super) fn bombs() -> Vec<Row> {
    vec![
        ("a type a million deep", a_type_of_depth(1_000_000), "nested deeper than the 32 levels"),
        (
            "a world a million deep",
            a_type_of_depth(1_000_000).and_then(|world| with_section("component-type:deep", &world)),
            "nested deeper than the 32 levels",
        ),
        ("a million components within each other", components_of_depth(1_000_000), "nested deeper than the 32 levels"),
        ("a world in a circle", world_in_a_circle(), "the packages of its world depend on each other in a circle"),
        ("a name that forges lines", loads(|guest| guest.imports = FORGES.into()), "`a\\nERROR forged\\u{1b}[2J`"),
        ("too many functions", in_core(&["(func)"; 100_001].concat()), "it has 100001 functions; 100000 are allowed"),
        (
            "a function that is too long",
            in_core(&format!("(func {})", "nop ".repeat(1 << 20))),
            "with 0 local variables, which takes too much to compile",
        ),
        (
            "too many variables for its length",
            in_core(&format!("(func (local {}) {})", "i64 ".repeat(5_000), "nop ".repeat(60_000))),
            "with 5000 local variables, which takes too much to compile",
        ),
    ]
}

fn a_third() -> Wasm {
    let mut good = Guest::doubling().component()?;
    good.truncate(good.len() / 3);
    Ok(good)
}
