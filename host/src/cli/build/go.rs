//! Go.

use super::super::Failure;
use super::Plugin;

pub(super) fn build(_plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    Err(Failure::Wrong(anyhow::anyhow!("not yet")))
}
