//! Real servers and real hosts, and what is done to them: processes that die or sleep, connections that break or hang, disks that are full, files that are torn,
//! servers that are replaced, clocks that jump. After each the features equal an oracle's, or the loss is counted and shown.

mod clocks;
mod disks;
mod failover;
mod schedules;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gristmill_tests::host::Host;
use gristmill_tests::mixed;

/// Code that a host has compiled, so that the others need not.
fn compiled() -> &'static Path {
    static COMPILED: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault_suite");
        std::fs::create_dir_all(&folder).unwrap();
        Host::start(&folder, &mixed::config("type = \"memory\"", "type = \"embedded\"")).unwrap().stop();
        folder.join("data/compile_cache")
    });
    &COMPILED
}
