//! Running one transform over one batch, whatever is in it: a call that fails is halved until the rows at fault stand alone.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Error, Output, Transform};
use crate::model::{Batch, Disposition, Reason};

/// Rows in one call: long enough that the call itself costs nothing, short enough that the deadline means something.
const CALL_ROWS_MAX: usize = 1_024;

/// Calls with a row that do not return in time before the row is given up for that. Deadlines are counted by the clock on the wall: on a busy machine one may pass
/// while the guest was not even running, and a quiet stream has batches of one event.
pub(crate) const STUCK_CALLS: u32 = 3;

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Outputs, each with the row of the batch at which its input began.
    pub outputs: Vec<(usize, Output)>,
    /// Rows given up on: row, reason, message.
    pub given_up: Vec<(usize, Reason, String)>,
}

impl Transform {
    /// Applies the transform to all rows, and for at most `bisect_time_max` halves a call that fails, and makes one with a single row again that did not return in time.
    /// Fails only with errors that another try may cure.
    pub fn apply_all(&self, batch: &Batch, bisect_time_max: Duration) -> Result<Applied, Error> {
        self.bisect(batch, bisect_time_max, None)
    }

    /// The same for somebody who waits: rows that have no outcome at the end of that time are given up.
    pub fn apply_within(&self, batch: &Batch, time_max: Duration) -> Result<Applied, Error> {
        self.bisect(batch, time_max, Instant::now().checked_add(time_max))
    }

    fn bisect(&self, batch: &Batch, bisect_time_max: Duration, end: Option<Instant>) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let mut failing_since = None;
        // A stack of ranges, the first rows on top: halves are tried in order, so that outputs come out in the order of the events. Each with how many calls before it had
        // its rows and did not return in time.
        let mut ranges: Vec<(Range<usize>, u32)> =
            (0..batch.rows).step_by(CALL_ROWS_MAX).map(|start| (start..(start + CALL_ROWS_MAX).min(batch.rows), 0)).rev().collect();
        while let Some((range, stuck_before)) = ranges.pop() {
            match self.call(batch, &range, end) {
                Ok(output) => {
                    let rejected = output.rejected.iter();
                    applied.given_up.extend(rejected.map(|(row, reason)| (range.start + *row as usize, Reason::Rejected, reason.clone())));
                    applied.outputs.push((range.start, output));
                }
                Err(error) if error.disposition() != Disposition::Reject => return Err(error),
                Err(error) => {
                    let since: &mut Instant = failing_since.get_or_insert_with(Instant::now);
                    let (has_time, stuck) = (since.elapsed() < bisect_time_max, stuck_before + u32::from(error.is_deadline()));
                    if range.len() == 1 && has_time && error.is_deadline() && stuck < STUCK_CALLS {
                        ranges.push((range, stuck));
                    } else if range.len() == 1 {
                        applied.given_up.push((range.start, error.reason(), error.to_string()));
                    } else if has_time {
                        let middle = range.start + range.len() / 2;
                        ranges.push((middle..range.end, stuck));
                        ranges.push((range.start..middle, stuck));
                    } else {
                        let rows = range.len();
                        let message = format!(
                            "a call with this and {} other events failed, and the time to find which was used up: {error}",
                            rows - 1
                        );
                        applied.given_up.extend(range.map(|row| (row, Reason::NotIsolated, message.clone())));
                    }
                }
            }
        }
        Ok(applied)
    }

    fn call(&self, batch: &Batch, range: &Range<usize>, end: Option<Instant>) -> Result<Output, Error> {
        if *range == (0..batch.rows) {
            return self.apply_until(batch, end);
        }
        let indices: Vec<u32> = range.clone().map(|row| row as u32).collect();
        self.apply_until(&batch.take(&indices), end)
    }

    fn apply_until(&self, batch: &Batch, end: Option<Instant>) -> Result<Output, Error> {
        self.check_columns(batch)?;
        self.instances.apply(&self.spec, batch, end)
    }
}

impl Error {
    /// Whether it ran out of time, which another try may cure.
    pub(crate) fn is_deadline(&self) -> bool {
        matches!(self, Error::Deadline { .. })
    }

    /// Why rows are given up that a call failed on.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Trap(_) | Error::Engine(_) | Error::Refused(_) => Reason::Trap,
            Error::Deadline { .. } => Reason::Deadline,
            Error::Memory { .. } => Reason::Memory,
            Error::Guest(_) => Reason::Failed,
            Error::Invalid(_) => Reason::Invalid,
        }
    }
}
