/// What becomes of the work that met an error. Every error of a part below the pipeline answers with one of these, and the
/// pipeline's settle step is the only place that acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same call may succeed later: wait with bounded backoff and call again.
    Retry,
    /// This input can never succeed: dead-letter it and go on with its neighbours.
    Reject,
    /// Nothing can succeed as things are: give up the work in hand and start over from what is stored, or wait for a person.
    Stop,
}
