//! Real servers and real hosts, and what is done to them: processes that die or sleep, connections that break or hang, disks that are full, files that are torn,
//! servers that are replaced, clocks that jump. After each the features equal an oracle's, or the loss is counted and shown.

mod clocks;
mod clusters;
mod disks;
mod failover;
mod schedules;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gristmill_tests::fault_world::VERSIONS;
use gristmill_tests::host::Host;
use gristmill_tests::mixed;

/// Code that a host has compiled, so that the others need not.
fn compiled() -> &'static Path {
    static COMPILED: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault_suite");
        std::fs::create_dir_all(&folder).unwrap();
        let host = Host::start(&folder, &mixed::config("type = \"memory\"", "type = \"embedded\"")).unwrap();
        for transform in ["carrier", "tally"] {
            for number in 1..=VERSIONS {
                let (status, answer) = host.put(&format!("/v1/transforms/{transform}"), &mixed::version(transform, number)).unwrap();
                assert_eq!(status, 200, "{answer}");
            }
        }
        let shadow = std::fs::read(mixed::tally("conformance-tally-2")).unwrap();
        assert_eq!(host.put("/v1/transforms/tally/shadow", &shadow).unwrap().0, 200);
        host.stop();
        folder.join("data/compile_cache")
    });
    &COMPILED
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a number")))
}
