use crate::wire::{Aggregate, Aggregation, Batch, Field, Output, Spec};

/// A stateless transform, as the host sees it. `#[transform]` on a function `name` implements it for a type `NameTransform`.
pub trait Transform {
    /// Says what the transform is, given its settings (JSON text; empty when there are none).
    ///
    /// # Errors
    /// When the settings cannot be read.
    fn describe(settings: &str) -> Result<Spec, String>;

    /// Computes the rows for a batch of events.
    ///
    /// # Errors
    /// When the batch does not have the columns of the spec, or a columnar function refuses it.
    fn apply(input: Batch) -> Result<Output, String>;
}

/// What `#[transform]` knows about a transform before its fields.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Name of the transform and of its feature view.
    pub name: &'static str,
    /// Version of the author's crate.
    pub version: &'static str,
    /// What it computes.
    pub doc: &'static str,
    /// Streams that it reads.
    pub streams: &'static [&'static str],
    /// Input fields that form the entity key.
    pub entity: &'static [&'static str],
    /// Input field that says when the event happened.
    pub event_time: Option<&'static str>,
    /// Features that the host computes over windows of the outputs.
    pub windows: &'static [Windowed],
}

/// A feature that the host computes over a window of an output.
#[derive(Clone, Copy, Debug)]
pub struct Windowed {
    /// Its name.
    pub feature: &'static str,
    /// The output.
    pub column: &'static str,
    /// What is computed.
    pub function: Aggregate,
    /// Length of the window in milliseconds; since the first event when absent.
    pub window_ms: Option<u64>,
}

impl Meta {
    /// Completes the spec with the fields.
    pub fn spec(self, inputs: Vec<Field>, outputs: Vec<Field>) -> Spec {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Spec {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            doc: self.doc.to_owned(),
            streams: owned(self.streams),
            entity: owned(self.entity),
            event_time: self.event_time.map(str::to_owned),
            inputs,
            outputs,
            aggregations: self.windows.iter().map(Windowed::wire).collect(),
        }
    }
}

impl Windowed {
    fn wire(&self) -> Aggregation {
        let &Self { feature, column, function, window_ms } = self;
        Aggregation { feature: feature.to_owned(), column: column.to_owned(), function, window_ms, doc: String::new() }
    }
}
