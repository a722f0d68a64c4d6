//! The transforms that are simulated, in several versions that tell themselves apart by what they return: rows of which the newest wins, windows over rows, and a
//! fold with windows over what it returns.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill::conformance::guest::{ANSWER_AT, COLUMNS_AT, Guest, field, spec};
use gristmill::model::{
    Aggregate, Aggregation, Batch, Column, Digest, Format, Kept, Kind, Maker, Schema, SchemaId, Values, View, aggregation,
};
use gristmill::online_store::OnlineStore;
use gristmill::online_store::memory::MemoryStore;
use gristmill::pipeline::{Binding, OtherStates, Others, Transforms};
use gristmill::telemetry::Telemetry;
use gristmill::transform::{Engine, EngineOptions, Limits, Output, Transform};
use gristmill::window::Plan;

use super::events::POISON;

/// How events stand in entries.
pub const FORMAT: Format = Format::Fields;
/// Versions that follow one another.
pub const VERSIONS: usize = 3;
/// What a version of the row transform adds to each value, times its number.
pub const STEP: i64 = 1_000_000;
const HOUR: u64 = 3_600_000;

/// A view in one version.
pub struct Versioned {
    /// What the store calls it.
    pub schema: SchemaId,
    /// Who makes it.
    pub component: Digest,
    /// What it keeps beside the newest row.
    pub kept: Kept,
    /// The same for the windows' code.
    pub plan: Arc<Plan>,
}

/// Everything that is in force together.
pub struct Set {
    /// As a pipeline takes it.
    pub transforms: Arc<Transforms>,
    /// `newest`, `windowed` and `tally`.
    pub views: [Versioned; 3],
}

/// Every version, compiled once.
pub struct Fixtures {
    /// By number.
    pub sets: Vec<Set>,
    schemas: Vec<Schema>,
}

/// The views' names.
pub const VIEWS: [&str; 3] = ["newest", "windowed", "tally"];

impl Fixtures {
    /// Compiles them.
    pub fn make() -> Fixtures {
        let options = EngineOptions { instances_max: 96, instances_per_transform_max: 8, ..EngineOptions::default() };
        let engine = Engine::new(options).expect("an engine starts");
        let limits = Limits { deadline_ms: 60_000, ..Limits::default() };
        let load = |name: &str, bytes: &[u8]| engine.load(name, bytes, "", limits).expect("the component loads");
        let built = |name: &str| {
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/components/{name}.wasm"));
            std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; `make plugins` builds it", file.display()))
        };
        let tallies = [built("conformance-tally"), built("conformance-tally-2")];
        let (telemetry, mut schemas, mut sets) = (Telemetry::new(), Vec::new(), Vec::new());
        for number in 0..VERSIONS {
            let rows = adding(number as i64 * STEP).component().expect("the guest is well formed");
            let loaded =
                [load("newest", &rows), load("windowed", &rows), load("tally", tallies.get(number.min(1)).expect("there are two"))];
            let kept = [Kept::default(), over_rows(), over_tally()];
            let mut views = Vec::new();
            let mut bindings = Vec::new();
            for ((name, transform), kept) in VIEWS.into_iter().zip(loaded).zip(kept) {
                let (binding, versioned) = bind(name, transform, kept, &mut schemas, &telemetry);
                bindings.push(Arc::new(binding));
                views.push(versioned);
            }
            let transforms = Arc::new(Transforms::new(FORMAT, bindings).expect("the defaults decode"));
            sets.push(Set { transforms, views: views.try_into().ok().expect("there are three") });
        }
        let known: BTreeSet<SchemaId> = (1..=schemas.len() as u32).map(SchemaId).collect();
        for binding in sets.iter().flat_map(|set: &Set| set.transforms.bindings()) {
            let versions = schemas.iter().filter_map(|schema| schema.state_version.clone()).collect();
            binding.others.learn(OtherStates { versions, schemas: known.clone(), ..OtherStates::default() });
        }
        Fixtures { sets, schemas }
    }

    /// A store that knows the schemas under the numbers that the bindings have.
    pub async fn intern(&self, store: &MemoryStore) {
        for (index, schema) in self.schemas.iter().enumerate() {
            let number = store.intern(schema).await.expect("memory never fails");
            assert_eq!(number, SchemaId(index as u32 + 1), "numbers are given in order");
        }
    }
}

fn bind(name: &str, transform: Transform, kept: Kept, schemas: &mut Vec<Schema>, telemetry: &Telemetry) -> (Binding, Versioned) {
    let spec = Arc::clone(transform.spec());
    let entity: Vec<_> = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
    let component = transform.digest();
    let schema = Schema {
        view: name.to_owned(),
        component,
        entity: entity.clone(),
        features: spec.outputs.clone(),
        kept: kept.clone(),
        state_version: transform.world().is_stateful().then(|| spec.version.clone()),
        partitioning: None,
        keeps_since: None,
    };
    let number = schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
        schemas.push(schema);
        schemas.len() - 1
    });
    let schema = SchemaId(number as u32 + 1);
    let view = View {
        name: name.to_owned(),
        doc: String::new(),
        stream: Some("events".into()),
        component,
        version: spec.version.clone(),
        entity,
        features: spec.outputs.clone(),
        windows: aggregation::fields(&spec.outputs, &kept.aggregations).expect("the aggregations fit"),
        kept: kept.clone(),
        max_age_secs: None,
        expire_secs: None,
        fold: false,
        types: Default::default(),
        request: Vec::new(),
        uses: Vec::new(),
        partitioning: None,
    };
    let plan = Arc::new(Plan::new(&spec.outputs, &kept));
    let maker = Maker { component, version: spec.version.clone(), options: String::new() };
    let binding = Binding {
        transform,
        maker,
        view: Arc::new(view),
        schema,
        inputs: Vec::new(),
        others: Others::default(),
        kept: (!kept.is_nothing()).then(|| Arc::clone(&plan)),
        entity_bytes_max: 2 << 20,
        ahead_max_secs: (!kept.is_nothing()).then_some(86_400),
        emit: None,
        shadow: Default::default(),
        lasting: None,
        forgets: Default::default(),
        bisect_ms_max: 60_000,
        telemetry: telemetry.transform(name),
    };
    (binding, Versioned { schema, component, kept, plan })
}

fn aggregation(feature: &str, column: &str, function: Aggregate, window_ms: Option<u64>) -> Aggregation {
    Aggregation { feature: feature.into(), column: column.into(), function, window_ms, doc: String::new() }
}

fn over_rows() -> Kept {
    let aggregations = vec![
        aggregation("n", "value", Aggregate::Count, None),
        aggregation("sum", "value", Aggregate::Sum, None),
        aggregation("sum_1h", "value", Aggregate::Sum, Some(HOUR)),
        aggregation("min_20m", "value", Aggregate::Min, Some(HOUR / 3)),
        aggregation("last_1h", "value", Aggregate::Last, Some(HOUR)),
        aggregation("first", "value", Aggregate::First, None),
    ];
    Kept { aggregations, ..Kept::default() }
}

/// The list of totals says in which order events were folded.
fn over_tally() -> Kept {
    let aggregations = vec![
        aggregation("n", "seen", Aggregate::Count, None),
        aggregation("sum", "seen", Aggregate::Sum, Some(24 * HOUR)),
        aggregation("most", "total", Aggregate::Max, Some(24 * HOUR)),
        aggregation("totals", "total", Aggregate::LastValues(1_000), None),
    ];
    Kept { aggregations, ..Kept::default() }
}

/// A row transform whose one output is its input `value` and this number. It traps on the poison.
fn adding(number: i64) -> Guest {
    let mut spec = spec(&[("value", Kind::Integer, false)]);
    spec.inputs.push(field("at", Kind::Timestamp, false));
    spec.inputs.push(field("value", Kind::Integer, false));
    spec.event_time = Some("at".into());
    let empty = Column { values: Values::Integers(vec![]), validity: None };
    let mut guest =
        Guest::answering(spec, Output { batch: Batch { rows: 0, columns: vec![empty.into()] }, origins: None, rejected: vec![] });
    // Columns are 32 bytes apart; the pointer of each stands at 4. The values are changed where they are and handed back.
    guest.apply = format!(
        "(local $at i32) (local $left i32)
         (local.set $at (i32.load offset=68 (local.get $columns)))
         (local.set $left (local.get $rows))
         (i32.store (i32.const {rows}) (local.get $rows))
         (i32.store (i32.const {pointer}) (local.get $at))
         (i32.store (i32.const {length}) (local.get $rows))
         (block $done (loop $next
           (br_if $done (i32.eqz (local.get $left)))
           (if (i64.eq (i64.load (local.get $at)) (i64.const {POISON})) (then unreachable))
           (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.const {number})))
           (local.set $at (i32.add (local.get $at) (i32.const 8)))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br $next)))
         (i32.const {ANSWER_AT})",
        rows = ANSWER_AT + 4,
        pointer = COLUMNS_AT + 4,
        length = COLUMNS_AT + 8,
    );
    guest
}
