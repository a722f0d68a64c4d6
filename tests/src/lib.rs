//! What the suites share.

pub mod source_conformance;
pub mod store_conformance;
