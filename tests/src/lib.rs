//! What the suites share.

pub mod bench;
pub mod config_cases;
pub mod fault_checks;
pub mod fault_world;
pub mod flights;
pub mod flood;
pub mod host;
pub mod kept_entity;
pub mod load;
pub mod mixed;
pub mod native_consumer;
pub mod openapi;
pub mod oracle;
pub mod partitions;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_server;
pub mod simulation;
pub mod source_conformance;
pub mod store_conformance;
pub mod swaps;
pub mod token;
pub mod tools;
