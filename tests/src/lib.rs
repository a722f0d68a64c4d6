//! What the suites share.

pub mod bench;
pub mod flights;
pub mod guests;
pub mod host;
pub mod redis_server;
pub mod source_conformance;
pub mod store_conformance;
