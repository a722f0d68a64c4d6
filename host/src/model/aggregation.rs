//! Windowed features: what may be declared, and what kind of feature comes of it.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::spec::{check_name, check_text};
use super::{Field, Kind, SpecError};

/// Aggregations of one view, at most.
const AGGREGATIONS_MAX: usize = 1_024;
/// Values in one list, at most.
const LIST_MAX: u32 = 1_000;
/// Shortest and longest window, in milliseconds: a second, and ten years.
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=3_653 * 86_400_000;

/// How functions are written, for those who have to be told.
pub const FUNCTIONS: &str = "functions are \"count\", \"sum\", \"mean\", \"min\", \"max\", \"variance\", \"first\", \"last\", \"distinct\", {\"quantile\": 0.9}, \
{\"last_values\": 5} and {\"top\": 3}";

/// A function that the host computes over the rows of a window. Mirrors `wit/transform.wit`, where each is defined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the contract in wit/transform.wit defines them one by one")]
pub enum Aggregate {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Variance,
    First,
    Last,
    Distinct,
    Quantile(f64),
    LastValues(u32),
    Top(u32),
}

// A quantile is between 0 and 1, so it is equal to itself.
impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Aggregate::Quantile(rank) => rank.to_bits().hash(state),
            Aggregate::LastValues(many) | Aggregate::Top(many) => many.hash(state),
            Aggregate::Count
            | Aggregate::Sum
            | Aggregate::Mean
            | Aggregate::Min
            | Aggregate::Max
            | Aggregate::Variance
            | Aggregate::First
            | Aggregate::Last
            | Aggregate::Distinct => {}
        }
    }
}

/// A windowed feature over one output column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregation {
    /// Name of the feature.
    pub feature: String,
    /// The output column that it is computed over.
    pub column: String,
    /// What is computed.
    pub function: Aggregate,
    /// Length of the window in milliseconds of event time; `None` since the first event.
    #[serde(default)]
    pub window_ms: Option<u64>,
    /// For people.
    #[serde(default)]
    pub doc: String,
}

/// The features that these aggregations of these outputs make, in their order.
pub fn fields(outputs: &[Field], aggregations: &[Aggregation]) -> Result<Vec<Field>, SpecError> {
    if aggregations.len() > AGGREGATIONS_MAX {
        return Err(SpecError(format!("it has {} aggregations; {AGGREGATIONS_MAX} are allowed", aggregations.len())));
    }
    let mut names: std::collections::HashSet<&str> = outputs.iter().map(|field| field.name.as_str()).collect();
    let fields = aggregations.iter().map(|aggregation| {
        let field = field(outputs, aggregation)?;
        if !names.insert(&aggregation.feature) {
            let taken = if outputs.iter().any(|output| output.name == aggregation.feature) { "an output" } else { "another aggregation" };
            return Err(SpecError(format!("aggregation `{}`: {taken} has that name; give this one another", aggregation.feature)));
        }
        Ok(field)
    });
    fields.collect()
}

fn field(outputs: &[Field], aggregation: &Aggregation) -> Result<Field, SpecError> {
    let Aggregation { feature, column, function, window_ms, doc } = aggregation;
    check_name("the name of an aggregation", feature)?;
    check_text("the doc of an aggregation", doc)?;
    let wrong = |what: String| Err(SpecError(format!("aggregation `{feature}`: {what}")));
    let Some(of) = outputs.iter().find(|field| field.name == *column) else {
        let shown: String = column.chars().take(64).collect();
        return wrong(format!("there is no output {shown:?} to compute it over"));
    };
    if let Some(window) = window_ms.filter(|window| !WINDOW_MS.contains(window)) {
        return wrong(format!("a window of {window} ms; {} to {} are allowed", WINDOW_MS.start(), WINDOW_MS.end()));
    }
    let is_number = matches!(of.kind, Kind::Integer | Kind::Float);
    let has_order = is_number || of.kind == Kind::Timestamp;
    let unfit = |needs: &str| wrong(format!("`{column}` is a {}, and {needs}", of.kind));
    let kind = match function {
        Aggregate::Count | Aggregate::Distinct => Kind::Integer,
        Aggregate::Sum if is_number => of.kind,
        Aggregate::Mean | Aggregate::Variance | Aggregate::Quantile(_) if is_number => Kind::Float,
        Aggregate::Sum | Aggregate::Mean | Aggregate::Variance | Aggregate::Quantile(_) => {
            return unfit("sum, mean, variance and quantile are of integers and floats");
        }
        Aggregate::Min | Aggregate::Max if has_order => of.kind,
        Aggregate::Min | Aggregate::Max => return unfit("min and max are of integers, floats and timestamps"),
        Aggregate::First | Aggregate::Last => of.kind,
        Aggregate::LastValues(_) | Aggregate::Top(_) => Kind::List,
    };
    if let Aggregate::Quantile(rank) = function
        && !(0.0..=1.0).contains(rank)
    {
        return wrong(format!("a quantile at {rank}; 0 to 1 is right"));
    }
    if let Aggregate::LastValues(many) | Aggregate::Top(many) = function
        && !(1..=LIST_MAX).contains(many)
    {
        return wrong(format!("a list of {many} values; 1 to {LIST_MAX} are allowed"));
    }
    let nullable = !matches!(function, Aggregate::Count | Aggregate::Distinct | Aggregate::LastValues(_) | Aggregate::Top(_));
    let width = of.width.filter(|_| kind == Kind::Vector);
    Ok(Field { name: feature.clone(), kind, nullable, default: None, width, doc: doc.clone() })
}
