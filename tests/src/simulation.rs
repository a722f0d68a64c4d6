//! A host without its processes: pipelines over a stream and a store in memory, which fail when and how a schedule says, on a clock that stands still until
//! everybody waits. Thousands of schedules a minute, each the same whenever it is run with the same seed.

pub mod events;
pub mod expected;
pub mod schedule;
pub mod store;
pub mod stream;
pub mod transforms;
