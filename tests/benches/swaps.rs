//! A thousand swaps while events and reads flow: how long the event path pauses for one. Takes a minute or two.

use gristmill_tests::bench::{keep, median};
use gristmill_tests::host::Host;
use gristmill_tests::swaps::{CONFIG, swap_under_load};

const SWAPS: usize = 1_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = Host::start(folder.path(), CONFIG).expect("a host");
    let outcome = swap_under_load(&host, SWAPS);
    let mut sorted = outcome.swap_ms.clone();
    sorted.sort_by(f64::total_cmp);
    let p99 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default();
    keep(
        "swaps",
        &[
            format!(
                "{SWAPS} swaps between versions whose code is compiled, everything embedded, {} events and {} reads of 200 entities meanwhile: 0 events lost, \
                 0 counted twice, 0 reads failed.",
                outcome.events, outcome.reads
            ),
            String::new(),
            format!(
                "Pause of the event path, {} swaps that had events (how much longer the first batch of a version took than batches usually do, from taken up \
                 to committed; to the next quarter of a millisecond): p50 ≤ {:.2} ms, p99 ≤ {:.2} ms (reach: p99 5 ms).",
                outcome.pauses_counted(),
                outcome.pause_ms(0.5),
                outcome.pause_ms(0.99)
            ),
            format!("A swap from its request to its answer: p50 {:.1} ms, p99 {p99:.1} ms.", median(outcome.swap_ms)),
        ],
    );
    host.stop();
}
