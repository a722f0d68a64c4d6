//! What a new version of a transform changes for those who read its view, and for the events that it reads.

use std::time::Duration;

use anyhow::Context;

use super::Core;
use super::binding_options::BindingOptions;
use super::bound::Bound;
use super::transforms::{Active, Registry, Source};
use crate::model::{At, Entries, Field, Format, Reason, Spec, ViewName, aggregation};
use crate::pipeline::trial::{Outcome, Trial};
use crate::serve::{Sample, SampleOutcome};
use crate::transform::Transform;

/// Entries that a new version is tried on.
const SAMPLE_MAX: usize = 1_000;
/// Time to find the events at fault in them.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(2);
/// Reasons that are told.
const REASONS_MAX: usize = 3;

/// A version is not what others rely on; the text says in what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Incompatible(String);

/// The parts of a version that readers of its view rely on.
struct Told {
    entity: Vec<Field>,
    /// Each with what it is.
    features: Vec<(String, String)>,
}

impl Told {
    fn new(spec: &Spec, options: &BindingOptions) -> Told {
        let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
        let kept = options.kept(spec);
        let windows = match options.at {
            At::Stream => aggregation::fields(&spec.outputs, &kept.aggregations).unwrap_or_default(),
            At::Request => Vec::new(),
        };
        let features = spec.outputs.iter().map(|field| (field.name.clone(), shown(field)));
        let windows = windows.iter().zip(&kept.aggregations).map(|(field, aggregation)| {
            let element = spec.outputs.iter().find(|output| output.name == aggregation.column);
            let is_list = field.kind == crate::model::Kind::List;
            let kind = element.filter(|_| is_list).map_or_else(|| shown(field), |element| format!("a list of {}", shown(element)));
            (field.name.clone(), kind)
        });
        Told { entity, features: features.chain(windows).collect() }
    }

    fn keys(&self) -> Vec<String> {
        self.entity.iter().map(|field| format!("{} ({})", field.name, field.kind)).collect()
    }
}

/// What a field holds.
fn shown(field: &Field) -> String {
    field.width.map_or(field.kind.to_string(), |width| format!("vector of {width}"))
}

/// What of the old version is missing or is something else in the new one. What is new is fine: rows that were written before it have none of it. So is
/// whether it may be null: any feature may be, for an entity that is new or old enough.
fn differences(old: &Told, new: &Told) -> Vec<String> {
    let lost = old.features.iter().filter_map(|(name, was)| match new.features.iter().find(|(known, _)| known == name) {
        None => Some(format!("feature `{name}`, {was}, is gone")),
        Some((_, is)) if is != was => Some(format!("feature `{name}` was {was} and is {is}")),
        Some(_) => None,
    });
    lost.collect()
}

impl Core {
    /// Refuses a version whose features are not those that readers of the view know. A roll back may take away what the version in force has added: it
    /// goes to what there was before.
    pub(super) fn check_features(
        &self,
        registry: &Registry,
        name: &str,
        spec: &Spec,
        options: &BindingOptions,
        source: &Source,
    ) -> Result<(), Incompatible> {
        let old = match registry.active.get(name) {
            Some(active) => Told::new(active.bound.transform().spec(), &active.options),
            None if matches!(source, Source::Resumed(_)) => return Ok(()),
            None => match registry.book.versions.history(name).and_then(|history| history.active()) {
                Some(version) => Told::new(&version.spec, &version.options),
                None => return Ok(()),
            },
        };
        let new = Told::new(spec, options);
        let mut all = Vec::new();
        if old.keys() != new.keys() {
            all.push(format!("its entity was {} and is {}", old.keys().join(", "), new.keys().join(", ")));
        }
        if !matches!(source, Source::RolledBack(_)) {
            all.extend(differences(&old, &new));
        }
        if all.is_empty() {
            return Ok(());
        }
        let base = ViewName::base_of(name);
        let is_free = |name: &String| !registry.active.contains_key(name);
        let next = (2..).map(|version| ViewName::stored(base, version)).find(is_free).unwrap_or_default();
        Err(Incompatible(format!(
            "it is not what readers of view `{name}` know: {}; keep these as they are, or put it under `{next}`, as another version of the view that is \
             served beside this one; if nobody reads the view, delete the transform first",
            all.join("; ")
        )))
    }

    /// Tries a version on the newest entries of its stream, beside the one in force, if it reads them in another way. Nothing is kept of it. Refuses one that
    /// can use none of what the one in force can.
    pub(super) async fn try_sample(
        &self,
        name: &str,
        transform: &Transform,
        options: &BindingOptions,
        in_force: &Active,
        is_forced: bool,
    ) -> anyhow::Result<Option<Sample>> {
        let (Bound::Stream(_), At::Stream) = (&in_force.bound, options.at) else { return Ok(None) };
        let (old, new) = (in_force.bound.transform().spec(), transform.spec());
        let is_same = old.inputs == new.inputs && old.event_time == new.event_time && in_force.options.inputs == options.inputs;
        let stream = options.stream.as_deref().or(new.streams.first().map(String::as_str)).unwrap_or_default();
        let Some(read) = self.streams.load().get(stream).cloned().filter(|_| !is_same) else { return Ok(None) };
        let entries = match read.appender.newest(SAMPLE_MAX).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(transform = name, stream, "cannot try it on a sample of entries: {error}");
                return Ok(None);
            }
        };
        let (before, after) = tokio::task::block_in_place(|| {
            let before = outcome(in_force.bound.transform(), &read.format, &in_force.options, &entries)?;
            Ok::<_, anyhow::Error>((before, outcome(transform, &read.format, options, &entries)?))
        })?;
        let events = entries.len();
        let is_of_use = (0..events).any(|event| !before.given_up.contains_key(&event) && !after.given_up.contains_key(&event));
        let sample = Sample { events, before: told(events, &before), after: told(events, &after) };
        if before.given_up.len() < events && !is_of_use && !is_forced {
            return Err(anyhow::Error::new(Incompatible(format!(
                "of the newest {events} events of stream `{stream}` it can use none of the {} that the version in force can use, the first because: {}; bind \
                 its inputs to what the events have, or say `force` if the events are about to change",
                sample.before.used,
                sample.after.reasons.first().map_or("it makes no row of it", String::as_str)
            ))));
        }
        Ok(Some(sample))
    }
}

fn outcome(transform: &Transform, format: &Format, options: &BindingOptions, entries: &Entries) -> anyhow::Result<Outcome> {
    let mut trial = Trial::new(transform, format.clone(), &options.inputs)?.bounded(TRIAL_TIME_MAX);
    trial.feed(entries).context("the trial on a sample of entries failed")
}

fn told(events: usize, outcome: &Outcome) -> SampleOutcome {
    let rejected = outcome.given_up.values().filter(|(reason, _)| *reason == Reason::Rejected).count();
    let mut reasons: Vec<String> = Vec::new();
    for (_, message) in outcome.given_up.values() {
        if reasons.len() < REASONS_MAX && !reasons.contains(message) {
            reasons.push(crate::model::one_line(message, 400));
        }
    }
    let failed = outcome.given_up.len() - rejected;
    SampleOutcome { used: events - outcome.given_up.len(), rows: outcome.rows.len(), rejected, failed, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aggregate, Aggregation, Kind};

    fn spec(outputs: &[Field]) -> Spec {
        Spec {
            name: "view".into(),
            version: "1.0.0".into(),
            doc: String::new(),
            streams: vec!["events".into()],
            entity: vec!["key".into()],
            event_time: None,
            inputs: vec![Field::plain("key", Kind::Integer, false)],
            outputs: outputs.to_vec(),
            aggregations: Vec::new(),
        }
    }

    #[test]
    fn what_is_gone_or_is_something_else_is_told_and_what_is_new_is_fine() {
        let vector = |width| Field { width: Some(width), ..Field::plain("vector", Kind::Vector, false) };
        let window = |column: &str| Aggregation {
            feature: "newest".into(),
            column: column.into(),
            function: Aggregate::LastValues(3),
            window_ms: None,
            doc: String::new(),
        };
        let (a, b) = (Field::plain("a", Kind::Integer, false), Field::plain("b", Kind::Text, true));
        let with = |column: &str| BindingOptions { aggregations: vec![window(column)], ..BindingOptions::default() };
        let old = Told::new(&spec(&[a.clone(), b.clone(), vector(3)]), &with("a"));
        for (new, options, expected) in [
            (vec![a.clone(), b.clone(), vector(3)], with("a"), vec![]),
            (vec![Field::plain("new", Kind::Float, false), vector(3), b.clone(), Field { nullable: true, ..a.clone() }], with("a"), vec![]),
            (
                vec![Field::plain("a", Kind::Float, false), b.clone(), vector(3)],
                with("b"),
                vec!["feature `a` was integer and is float", "feature `newest` was a list of integer and is a list of text"],
            ),
            (
                vec![a.clone(), vector(4)],
                BindingOptions::default(),
                vec![
                    "feature `b`, text, is gone",
                    "feature `vector` was vector of 3 and is vector of 4",
                    "feature `newest`, a list of integer, is gone",
                ],
            ),
        ] {
            assert_eq!(differences(&old, &Told::new(&spec(&new), &options)), expected);
        }
    }
}
