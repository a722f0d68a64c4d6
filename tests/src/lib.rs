//! What the suites share.

pub mod guests;
pub mod host;
pub mod openapi;
pub mod source_conformance;
pub mod store_conformance;
