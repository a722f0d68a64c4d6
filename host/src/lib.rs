//! Gristmill: events in, features out, effectively once. See ARCHITECTURE.md for the map.

pub mod config;
pub mod model;
pub mod online_store;
pub mod pipeline;
pub mod source;
pub mod telemetry;
pub mod transform;
