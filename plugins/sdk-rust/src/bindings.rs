//! The generated bindings of the contract.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::indexing_slicing, clippy::unreachable)]
// Generated code lifts and lowers values by pointer, so it cannot do without `unsafe`; nothing here is written by hand.

wit_bindgen::generate!({
    path: "../../wit",
    world: "row-transform",
    pub_export_macro: true,
    default_bindings_module: "::gristmill_sdk::bindings",
    additional_derives: [Clone, PartialEq],
});

impl<T: crate::Transform> exports::gristmill::transform::transform::Guest for T {
    fn describe(settings: String) -> Result<crate::wire::Spec, String> {
        T::describe(&settings)
    }

    fn apply(input: crate::wire::Batch) -> Result<crate::wire::Output, String> {
        T::apply(input)
    }
}
