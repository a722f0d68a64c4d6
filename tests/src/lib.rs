//! What the suites share.

pub mod config_cases;
pub mod flights;
pub mod guests;
pub mod host;
pub mod openapi;
pub mod redis_server;
pub mod source_conformance;
pub mod store_conformance;
