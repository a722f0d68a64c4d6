//! Gristmill: events in, features out, effectively once. See ARCHITECTURE.md for the map.

pub mod app;
pub mod changes;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod data_folder;
pub mod decode;
pub mod model;
pub mod online_store;
pub mod pipeline;
pub mod resp;
pub mod serve;
pub mod source;
pub mod telemetry;
pub mod transform;
pub mod window;
