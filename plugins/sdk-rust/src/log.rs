//! Lines for the host's structured log. Natively, in tests, they are kept for the thread and read with [`crate::testing::logged`].

/// Writes a line for the author, while writing the transform.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Writes a normal event worth knowing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Writes something that should be looked at.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Writes something that went wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}

pub(crate) use crate::bindings::gristmill::transform::log::Level;

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &str) {
    crate::bindings::gristmill::transform::log::write(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &str) {
    crate::testing::keep_line(level, message);
}
