//! The generated bindings of a migration, which is exported beside a fold; types are those of the stateless world.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::indexing_slicing, clippy::unreachable)]
// Generated code lifts and lowers values by pointer, so it cannot do without `unsafe`; nothing here is written by hand.

wit_bindgen::generate!({
    path: "../../wit",
    // The part of `migrating-transform` that `stateful-transform` lacks: the encoder makes one world of both.
    inline: "package gristmill:sdk; world migrating { export gristmill:transform/migration@1.0.0; }",
    world: "gristmill:sdk/migrating",
    pub_export_macro: true,
    default_bindings_module: "::gristmill_sdk::migration_bindings",
    with: {
        "gristmill:transform/types@1.0.0": crate::bindings::gristmill::transform::types,
    },
});

impl<T: crate::Migration> exports::gristmill::transform::migration::Guest for T {
    fn migrate(from: String, states: crate::wire::Column) -> Result<crate::wire::Column, String> {
        T::migrate(&from, states)
    }
}
