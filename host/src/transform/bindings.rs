//! What `wasmtime` generates from the contract in `wit/`. Nothing but generated code here; `call` maps it onto the vocabulary.

#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated from wit/, which documents it")]
#![allow(unsafe_code, reason = "the generated code checks a function's type once and not on every call")]

// A world of the host's own, with every interface that a component may export: each component exports one of them, and its
// functions are looked up one interface at a time.
wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package gristmill:host;
        world guest {
            import gristmill:transform/log@1.0.0;
            export gristmill:transform/transform@1.0.0;
            export gristmill:transform/fold@1.0.0;
            export gristmill:transform/migration@1.0.0;
        }
    ",
    world: "gristmill:host/guest",
    ownership: Borrowing { duplicate_if_necessary: true },
});
