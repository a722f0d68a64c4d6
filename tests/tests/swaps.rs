//! Swaps while events and reads flow. `benches/swaps.rs` has a thousand of them.

use gristmill_tests::host::Host;
use gristmill_tests::swaps::{CONFIG, swap_under_load};

const SWAPS: usize = 40;

#[test]
fn swaps_under_load_lose_nothing_double_nothing_and_fail_no_read() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), CONFIG).unwrap();
    let outcome = swap_under_load(&host, SWAPS);
    assert!(outcome.reads > 0 && outcome.events > 0);
    let counted = outcome.pauses_counted();
    assert!((SWAPS as u64 / 2..=SWAPS as u64).contains(&counted), "{counted} swaps had events");
    assert!(outcome.pause_ms(1.0).is_finite(), "{:?}", outcome.pauses);
    host.stop();
}
