//! What the suites share.

pub mod guests;
