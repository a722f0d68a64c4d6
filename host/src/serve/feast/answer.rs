//! Feast's answers: `{"results":[{"values":[…],"statuses":[…],"event_timestamps":[…]},…],"metadata":{"feature_names":[…]}}`, a result for each
//! join key and each feature.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::json;

use super::error::{Class, FeastError};
use super::request::Columns;
use crate::model::json::push_value;
use crate::model::{FeastStatuses, Status, Timestamp, Value};
use crate::serve::cells;
use crate::serve::join_keys::{Given, coerce};
use crate::serve::look::Looked;
use crate::serve::plan::Plan;
use crate::serve::respond::Tally;
use crate::serve::room::AnswerRoom;

/// The event time of what has none.
const NO_TIME: &[u8] = b"\"1970-01-01T00:00:00Z\"";
/// About what a value takes in an answer besides its own text.
const CELL_BYTES: usize = 48;

/// About what its own text takes, and what room is made for the values of a column at first.
const VALUE_BYTES: usize = 20;
const VALUES_BYTES_MAX: usize = 64 << 10;

/// How an answer is laid out.
pub(super) struct Layout {
    /// Whether features are named after their views too.
    pub(super) full_names: bool,
    /// Whether the views are named.
    pub(super) view_metadata: bool,
    pub(super) statuses: FeastStatuses,
}

impl Layout {
    /// The names of the plan's columns in the answer; no two are the same.
    pub(super) fn names(&self, plan: &Plan) -> Result<Vec<String>, FeastError> {
        let name = |(column, name): (&crate::serve::plan::PlannedColumn, &String)| match self.full_names {
            true => name.replacen(':', "__", 1),
            false => column.field.name.clone(),
        };
        let names: Vec<String> = plan.columns.iter().zip(&plan.names).map(name).collect();
        let mut seen = BTreeSet::new();
        let collisions: BTreeSet<&str> = names.iter().filter(|name| !seen.insert(*name)).map(String::as_str).collect();
        if collisions.is_empty() {
            return Ok(names);
        }
        let collisions: Vec<&str> = collisions.into_iter().collect();
        let advice = "either use the full feature name by setting 'full_feature_names=True', or ensure that the features in question have different names";
        let message = format!("Duplicate features named {} found.\nTo resolve this collision, {advice}.", collisions.join(", "));
        Err(FeastError::known(StatusCode::BAD_REQUEST, Class::FeatureNameCollision, message))
    }

    fn push_status(&self, out: &mut Vec<u8>, status: Status) {
        let word: &[u8] = match (self.statuses, status) {
            (_, Status::Present | Status::Fallback) => b"\"PRESENT\"",
            (_, Status::Error) => b"\"INVALID\"",
            (_, Status::OutsideMaxAge | Status::OutsideHistory) => b"\"OUTSIDE_MAX_AGE\"",
            (FeastStatuses::Feast, Status::Null | Status::NotFound) => b"\"PRESENT\"",
            (FeastStatuses::Strict, Status::Null) => b"\"NULL_VALUE\"",
            (FeastStatuses::Strict, Status::NotFound) => b"\"NOT_FOUND\"",
        };
        out.extend_from_slice(word);
    }
}

/// The lists of one result without their brackets.
#[derive(Default)]
struct Lists {
    values: Vec<u8>,
    statuses: Vec<u8>,
    event_timestamps: Vec<u8>,
}

/// A value's status and event time.
type Said = (Status, Option<Timestamp>);

impl Lists {
    fn push_value(&mut self, value: Option<Value<'_>>) {
        if !self.values.is_empty() {
            self.values.push(b',');
        }
        push_feast_value(&mut self.values, value);
    }

    fn push_said(&mut self, layout: &Layout, (status, time): Said) {
        if !self.statuses.is_empty() {
            self.statuses.push(b',');
            self.event_timestamps.push(b',');
        }
        layout.push_status(&mut self.statuses, status);
        push_time(&mut self.event_timestamps, time);
    }

    fn push_to(&self, out: &mut Vec<u8>, said: &Lists) {
        let named = [
            (&b"{\"values\":["[..], &self.values),
            (b"],\"statuses\":[", &said.statuses),
            (b"],\"event_timestamps\":[", &said.event_timestamps),
        ];
        for (name, list) in named {
            out.extend_from_slice(name);
            out.extend_from_slice(list);
        }
        out.extend_from_slice(b"]},");
    }
}

/// What is said of the columns of a run. Nearly always that is the same of all of them, and then it is written once.
#[derive(Default)]
struct Alike {
    lists: Lists,
    /// Whether it is not: then each column has its own.
    is_split: bool,
}

impl Alike {
    fn push(&mut self, layout: &Layout, said: &[Said], columns: &mut [Lists]) {
        let Some(first) = said.first() else { return };
        if !self.is_split && said.iter().all(|one| one == first) {
            return self.lists.push_said(layout, *first);
        }
        for (column, said) in columns.iter_mut().zip(said) {
            if !self.is_split {
                column.statuses.clone_from(&self.lists.statuses);
                column.event_timestamps.clone_from(&self.lists.event_timestamps);
            }
            column.push_said(layout, *said);
        }
        self.is_split = true;
    }
}

/// Writes the whole answer; `looked` has one part for each view of each entity, and `names` one name for each column of the plan.
pub(super) fn write(
    plan: &Plan,
    layout: &Layout,
    entities: &Columns<'_>,
    names: &[String],
    looked: &[Looked],
    room: &mut AnswerRoom<'_>,
) -> Result<Vec<u8>, FeastError> {
    let (join_keys, of_keys) = join_keys(plan, layout, entities)?;
    let views = plan.views.len().max(1);
    let values_bytes = (looked.len() / views * VALUE_BYTES).min(VALUES_BYTES_MAX);
    let lists = || Lists { values: Vec::with_capacity(values_bytes), ..Lists::default() };
    let mut columns: Vec<Lists> = names.iter().map(|_| lists()).collect();
    let mut alike: Vec<Alike> = plan.runs.iter().map(|_| Alike::default()).collect();
    let mut said: Vec<Said> = vec![(Status::NotFound, None); names.len()];
    let mut tally = Tally::new(plan);
    let mut bytes = 0;
    for found in looked.chunks(views) {
        cells::each(&plan.runs, found, |column, cell| {
            let (Some(lists), Some(said)) = (columns.get_mut(column), said.get_mut(column)) else { return Ok(()) };
            let start = lists.values.len();
            lists.push_value(cell.value);
            *said = (cell.status, cell.event_time);
            bytes += lists.values.len() - start + CELL_BYTES;
            room.written(bytes)
        })?;
        for (run, alike) in plan.runs.iter().zip(&mut alike) {
            let said = said.get(run.columns.clone()).unwrap_or_default();
            said.iter().for_each(|(status, _)| tally.count(run.view, *status));
            alike.push(layout, said, columns.get_mut(run.columns.clone()).unwrap_or_default());
        }
    }
    tally.add();
    let mut out = Vec::with_capacity(bytes + 256);
    out.extend_from_slice(b"{\"results\":[");
    of_keys.iter().for_each(|lists| lists.push_to(&mut out, lists));
    for (run, alike) in plan.runs.iter().zip(&alike) {
        let columns = columns.get(run.columns.clone()).unwrap_or_default();
        columns.iter().for_each(|lists| lists.push_to(&mut out, if alike.is_split { lists } else { &alike.lists }));
    }
    // Behind the last.
    out.pop();
    let names: Vec<&str> = join_keys.into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut metadata = json!({"feature_names": names});
    if layout.view_metadata {
        // Those that others are computed from were not asked for.
        let asked_for: BTreeSet<usize> = plan.columns.iter().map(|column| column.view).collect();
        let views: Vec<_> = asked_for.into_iter().map(|view| json!({"name": plan.view_name(view)})).collect();
        if let Some(members) = metadata.as_object_mut() {
            members.insert("feature_view_metadata".into(), views.into());
        }
    }
    out.extend_from_slice(format!("],\"metadata\":{metadata}}}").as_bytes());
    Ok(out)
}

/// The columns that are join keys, first among the results; those that are none are left out.
fn join_keys<'n>(plan: &Plan, layout: &Layout, entities: &'n Columns<'_>) -> Result<(Vec<&'n str>, Vec<Lists>), FeastError> {
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for (name, values) in &entities.all {
        let fields = plan.views.iter().flat_map(|planned| &planned.view.entity);
        let Some(field) = fields.into_iter().find(|field| field.name == **name) else { continue };
        let mut lists = Lists::default();
        for value in values {
            let part = coerce(field, Given::Json(value.get()), &|| "the entities".to_owned())?;
            lists.push_value(Some(part.value()));
            lists.push_said(layout, (Status::Present, None));
        }
        names.push(name.as_ref());
        all.push(lists);
    }
    Ok((names, all))
}

/// Moments are whole seconds, and an empty list is null, because Feast's client fails on it.
fn push_feast_value(out: &mut Vec<u8>, value: Option<Value<'_>>) {
    match value {
        Some(Value::Timestamp(moment)) => push_value(out, Some(Value::Integer(moment.0.div_euclid(1_000_000)))),
        Some(Value::List(_, [])) => push_value(out, None),
        Some(Value::List(of, mut values)) => {
            out.push(b'[');
            let mut is_first = true;
            while let Some(value) = Value::unpack(of, &mut values) {
                if !std::mem::take(&mut is_first) {
                    out.push(b',');
                }
                push_feast_value(out, Some(value));
            }
            out.push(b']');
        }
        value => push_value(out, value),
    }
}

fn push_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    let Some(time) = time else { return out.extend_from_slice(NO_TIME) };
    out.push(b'"');
    time.push_grouped_text(out);
    out.push(b'"');
}
