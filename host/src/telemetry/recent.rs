use std::sync::Mutex;

/// Observations that quantiles are taken over, at most.
const KEPT: usize = 1_024;

/// The latest observations of a quantity, for quantiles that follow the present.
#[derive(Default)]
pub(super) struct Recent {
    ring: Mutex<(Vec<f64>, usize)>,
}

impl Recent {
    pub(super) fn observe(&self, value: f64) {
        let Ok(mut ring) = self.ring.lock() else { return };
        let (values, next) = &mut *ring;
        match values.get_mut(*next) {
            Some(slot) => *slot = value,
            None => values.push(value),
        }
        *next = (*next + 1) % KEPT;
    }

    /// The value at this rank, 0 to 1, among the latest; 0 when there are none.
    pub(super) fn quantile(&self, rank: f64) -> f64 {
        let Ok(ring) = self.ring.lock() else { return 0.0 };
        let mut values = ring.0.clone();
        drop(ring);
        values.sort_by(f64::total_cmp);
        let index = ((values.len() as f64 * rank).ceil() as usize).saturating_sub(1);
        values.get(index).copied().unwrap_or(0.0)
    }
}
