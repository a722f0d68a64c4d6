//! The generated bindings of the stateful world; types and log are those of the stateless one.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::indexing_slicing, clippy::unreachable)]
// Generated code lifts and lowers values by pointer, so it cannot do without `unsafe`; nothing here is written by hand.

wit_bindgen::generate!({
    path: "../../wit",
    world: "stateful-transform",
    pub_export_macro: true,
    default_bindings_module: "::gristmill_sdk::fold_bindings",
    with: {
        "gristmill:transform/types@1.0.0": crate::bindings::gristmill::transform::types,
        "gristmill:transform/log@1.0.0": crate::bindings::gristmill::transform::log,
    },
});

impl<T: crate::Fold> exports::gristmill::transform::fold::Guest for T {
    fn describe(settings: String) -> Result<crate::wire::Spec, String> {
        T::describe(&settings)
    }

    fn apply(input: crate::wire::Batch, groups: Vec<u32>, states: crate::wire::Column) -> Result<crate::wire::Folded, String> {
        T::apply(input, &groups, states)
    }
}
