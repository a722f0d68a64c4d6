//! The sections of a component or module that a tool made, for those who change some of them.

use std::ops::Range;

use wasmparser::{Parser, Payload};

/// The sections of a file, without those of the files in it.
pub(super) fn of(file: &[u8]) -> anyhow::Result<Vec<(u8, Range<usize>)>> {
    let (mut found, mut depth) = (Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(file) {
        let payload = payload?;
        if depth == 0 {
            found.extend(payload.as_section());
        }
        if matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) {
            depth += 1;
        } else if matches!(payload, Payload::End(_)) {
            depth = depth.saturating_sub(1);
        }
    }
    Ok(found)
}
