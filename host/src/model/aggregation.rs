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
#[serde(try_from = "Declared")]
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

/// An aggregation as people declare it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    feature: String,
    column: String,
    function: Aggregate,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    window_ms: Option<u64>,
    #[serde(default)]
    doc: String,
}

impl TryFrom<Declared> for Aggregation {
    type Error = String;

    fn try_from(declared: Declared) -> Result<Aggregation, String> {
        let Declared { feature, column, function, window, window_ms, doc } = declared;
        let window_ms = match window {
            Some(_) if window_ms.is_some() => {
                return Err(format!("aggregation `{feature}` has both `window` and `window_ms`; leave one out"));
            }
            Some(text) => Some(milliseconds(&text).ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                format!("aggregation `{feature}` has a window of {shown:?}; a window is a number and s, m, h or d, as in \"24h\"")
            })?),
            None => window_ms,
        };
        Ok(Aggregation { feature, column, function, window_ms, doc })
    }
}

/// The units of a window as text, longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];

/// The length of a window that is written as in the SDKs: `24h`.
fn milliseconds(text: &str) -> Option<u64> {
    let (unit, ms) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.parse::<u64>().ok()?.checked_mul(ms)
}

/// The same backwards, in the longest unit that fits.
fn shown(window_ms: u64) -> String {
    match UNITS.into_iter().find(|(_, ms)| window_ms.is_multiple_of(*ms)) {
        Some((unit, ms)) => format!("{}{unit}", window_ms / ms),
        None => format!("{window_ms} ms"),
    }
}

impl Aggregation {
    /// What it is computed of and how, in words.
    pub fn definition(&self) -> String {
        let column = &self.column;
        let of = match self.function {
            Aggregate::Count => format!("the count of `{column}`"),
            Aggregate::Sum => format!("the sum of `{column}`"),
            Aggregate::Mean => format!("the mean of `{column}`"),
            Aggregate::Min => format!("the least of `{column}`"),
            Aggregate::Max => format!("the greatest of `{column}`"),
            Aggregate::Variance => format!("the variance of `{column}`"),
            Aggregate::First => format!("the first of `{column}`"),
            Aggregate::Last => format!("the last of `{column}`"),
            Aggregate::Distinct => format!("how many different `{column}` there are"),
            Aggregate::Quantile(rank) => format!("the quantile {rank} of `{column}`"),
            Aggregate::LastValues(many) => format!("the last {many} of `{column}`"),
            Aggregate::Top(many) => format!("the {many} most frequent of `{column}`"),
        };
        match self.window_ms {
            Some(window_ms) => format!("{of} over {}", shown(window_ms)),
            None => format!("{of} since the first event"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(window: &str) -> Result<Aggregation, String> {
        let json = format!("{{\"feature\":\"n\",\"column\":\"a\",\"function\":\"count\"{window}}}");
        serde_json::from_str(&json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_window_is_declared_as_text_or_in_milliseconds() {
        for (window, expected, definition) in [
            ("", None, "the count of `a` since the first event"),
            (",\"window_ms\":1500", Some(1_500), "the count of `a` over 1500 ms"),
            (",\"window\":\"90s\"", Some(90_000), "the count of `a` over 90s"),
            (",\"window\":\"60m\"", Some(3_600_000), "the count of `a` over 1h"),
            (",\"window\":\"24h\"", Some(86_400_000), "the count of `a` over 1d"),
            (",\"window\":\"30d\"", Some(2_592_000_000), "the count of `a` over 30d"),
        ] {
            let aggregation = declared(window).unwrap();
            assert_eq!((aggregation.window_ms, aggregation.definition().as_str()), (expected, definition));
            let again: Aggregation = serde_json::from_str(&serde_json::to_string(&aggregation).unwrap()).unwrap();
            assert_eq!(again, aggregation);
        }
        for wrong in ["1", "h", "1w", "-1h", "+1h", "1.5h", " 1h", "1H", "99999999999999999999d", "9999999999999999d"] {
            let said = declared(&format!(",\"window\":\"{wrong}\"")).unwrap_err();
            assert!(said.contains("a number and s, m, h or d"), "{wrong}: {said}");
        }
        assert!(declared(",\"window\":\"1h\",\"window_ms\":3600000").unwrap_err().contains("leave one out"));
        assert!(declared(",\"windows\":\"1h\"").unwrap_err().contains("unknown field"));
    }
}
