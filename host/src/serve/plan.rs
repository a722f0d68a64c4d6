//! What a query asks for, resolved once against the catalog and then used by every request that asks the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use super::access::Caller;
use super::catalog::Catalog;
use super::computed::{Computed, From};
use super::error::{ApiError, suggestion};
use super::look::finish;
use super::reading::Longest;
use super::services;
use crate::model::{Digest, FeatureRow, Field, Kind, Schema, SchemaId, Timestamp, View};
use crate::telemetry::{ServedTelemetry, Telemetry};
use crate::window::{self, Forgets, Lasting};

/// Plans and runs of columns made so far.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A resolved list of features. Immutable but for what it learns about stored schemas.
pub(super) struct Plan {
    /// No other plan, and no run of any, has this number.
    pub(super) id: u64,
    /// The views, each once, in the order in which they are first asked for.
    pub(super) views: Vec<PlannedView>,
    /// Values of each view served so far, by status.
    pub(super) served: Vec<ServedTelemetry>,
    /// Where the features asked for come from: neighbours out of one view are a run.
    pub(super) runs: Vec<Run>,
    pub(super) columns: Vec<PlannedColumn>,
    /// What the columns were asked for by: `view:feature`, whichever version of the view that means.
    pub(super) names: Vec<String>,
    /// What is read beside them, to compute with.
    pub(super) sources: Sources,
    /// `{"features":["view:feature",…]`, ready to be sent.
    pub(super) head: Vec<u8>,
    /// `,"kinds":["float",…]`, for those who ask for them.
    pub(super) kinds: Vec<u8>,
    mappings: RwLock<BTreeMap<SchemaId, Arc<Mapping>>>,
}

/// Columns that are read and not answered. They are numbered on from those that are.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) columns: Vec<PlannedColumn>,
    pub(super) runs: Vec<Run>,
}

/// A view and how its own schema answers the plan.
pub(super) struct PlannedView {
    pub(super) view: Arc<View>,
    /// What it keeps beside the newest row.
    pub(super) kept: window::Plan,
    /// How long its entities last; `None` for ever.
    pub(super) lasting: Option<Lasting>,
    /// Which of them may be forgotten.
    pub(super) forgets: Forgets,
    /// For its rows.
    pub(super) rows: Arc<Mapping>,
    /// For its windows.
    pub(super) windows: Arc<Mapping>,
    /// Its windows without any events.
    pub(super) empty: FeatureRow,
    pub(super) longest: Longest,
    /// How it is computed, if it is not stored.
    pub(super) computed: Option<Arc<Computed>>,
    /// Of a computed view: which source goes into which of its inputs.
    pub(super) sources: Vec<(usize, usize)>,
}

impl PlannedView {
    /// What the values of a list are.
    pub(super) fn element_of(&self, list: &Field) -> Option<Field> {
        if let Some(declared) = self.view.types.get(&list.name) {
            return Some(Field::plain(&list.name, declared.scalar.kind(), true));
        }
        let aggregation = self.view.kept.aggregations.iter().find(|aggregation| aggregation.feature == list.name)?;
        self.view.features.iter().find(|field| field.name == aggregation.column).cloned()
    }

    /// What a value is, in the words of the contract: `float`, or `list<float>`.
    pub(super) fn kind_of(&self, field: &Field) -> String {
        match self.element_of(field).filter(|_| field.kind == Kind::List) {
            Some(element) => format!("list<{}>", element.kind),
            None => field.kind.to_string(),
        }
    }
}

/// Columns of a plan that follow each other and come out of the same view, and there out of the row or out of windows.
pub(super) struct Run {
    /// No other run, and no plan, has this number.
    pub(super) id: u64,
    /// Position in `views`.
    pub(super) view: usize,
    pub(super) is_windowed: bool,
    /// Whether it has other values at every moment, whatever is stored: of windows, and of what is computed.
    pub(super) is_fleeting: bool,
    pub(super) columns: Range<usize>,
}

/// One feature that is asked for.
pub(super) struct PlannedColumn {
    /// Position in `views`.
    pub(super) view: usize,
    is_windowed: bool,
    /// As the view has it.
    pub(super) field: Field,
}

/// How the rows of one stored schema answer a plan.
pub(super) struct Mapping {
    /// The component that wrote them.
    pub(super) component: Digest,
    /// The kinds of the row's values, in order.
    pub(super) kinds: Vec<Kind>,
    /// For each column of the plan the position of its value in the row; `None` where this schema has no such feature, or of another kind or width.
    pub(super) positions: Vec<Option<usize>>,
    /// How many of the row's values have to be read for that.
    pub(super) needed: usize,
}

impl Plan {
    /// Resolves references of the form `view:feature`. What is wrong with them is told as far as the caller reaches.
    pub(super) fn of_features(
        catalog: &Catalog,
        telemetry: &Telemetry,
        caller: &Caller,
        references: &[String],
        features_max: usize,
    ) -> Result<Plan, ApiError> {
        if references.is_empty() || references.len() > features_max {
            let many = references.len();
            return Err(ApiError::unusable(format!("`features` names {many} features; 1 to {features_max} are allowed")));
        }
        let mut views: Vec<Arc<View>> = Vec::new();
        let mut columns = Vec::with_capacity(references.len());
        for reference in references {
            let (view, feature) = reference.split_once(':').ok_or_else(|| {
                let shown: String = reference.chars().take(130).collect();
                ApiError::unusable(format!("`{shown}` is not a feature reference; write view:feature"))
            })?;
            columns.push(column(catalog, caller, &mut views, view, feature)?);
        }
        Plan::new(catalog, telemetry, caller, views, columns, references)
    }

    /// The features of a service, `name` or `name@version`.
    pub(super) fn of_service(
        catalog: &Catalog,
        telemetry: &Telemetry,
        caller: &Caller,
        name: &str,
        features_max: usize,
    ) -> Result<Plan, ApiError> {
        let service = services::find(catalog, caller, name)?;
        let mut plan = Plan::of_features(catalog, telemetry, caller, &service.features, features_max)?;
        let rest = plan.head.get(1..).unwrap_or_default();
        plan.head = [format!("{{\"service\":\"{}@{}\",", service.name, service.version).as_bytes(), rest].concat();
        Ok(plan)
    }

    /// All features of one view.
    pub(super) fn of_view(catalog: &Catalog, telemetry: &Telemetry, caller: &Caller, name: &str) -> Result<Plan, ApiError> {
        let view = view_of(catalog, caller, name)?;
        let references: Vec<String> = fields(&view).map(|(_, field)| format!("{name}:{}", field.name)).collect();
        let column = |(is_windowed, field): (bool, &Field)| PlannedColumn { view: 0, is_windowed, field: field.clone() };
        let columns = fields(&view).map(column).collect();
        Plan::new(catalog, telemetry, caller, vec![view], columns, &references)
    }

    fn new(
        catalog: &Catalog,
        telemetry: &Telemetry,
        caller: &Caller,
        mut views: Vec<Arc<View>>,
        columns: Vec<PlannedColumn>,
        references: &[String],
    ) -> Result<Plan, ApiError> {
        let names = serde_json::to_string(references).unwrap_or_default();
        let head = format!("{{\"features\":{names}").into_bytes();
        let served = views.iter().map(|view| telemetry.served(&view.name)).collect();
        let mut sources = Sources::default();
        let mut computed = Vec::with_capacity(views.len());
        for position in 0..views.len() {
            let of_view = views.get(position).and_then(|view| catalog.computed.get(&view.name)).cloned();
            let inputs = of_view.iter().flat_map(|computed| computed.inputs.iter().enumerate());
            let mut of_inputs = Vec::new();
            for (input, (wanted, from)) in inputs {
                let From::Feature(reference) = from else { continue };
                of_inputs.push((columns.len() + sources.columns.len(), input));
                sources.columns.push(source(catalog, caller, &mut views, reference, &wanted.field)?);
            }
            computed.push((of_view, of_inputs));
        }
        computed.resize_with(views.len(), Default::default);
        let is_computed = |view: usize| computed.get(view).is_some_and(|(computed, _)| computed.is_some());
        let answered = runs(&columns, 0, is_computed);
        sources.runs = runs(&sources.columns, columns.len(), is_computed);
        let all = || columns.iter().chain(&sources.columns);
        let views = views.into_iter().zip(computed).enumerate().map(|(index, (view, (computed, sources)))| {
            let kept = window::Plan::new(&view.features, &view.kept);
            let rows = Arc::new(Mapping::new(all(), index, false, view.component, &view.features));
            let windows = Arc::new(Mapping::new(all(), index, true, view.component, &view.windows));
            let empty = finish(&window::Entity::new(&kept), &kept, Timestamp(0), SchemaId(0))?;
            let longest = Longest::of(&view);
            let lasting = Lasting::new(view.expire_secs, Some(&kept));
            let forgets = catalog.forgets.get(&view.name).copied().unwrap_or_default();
            Ok(PlannedView { view, kept, lasting, forgets, rows, windows, empty, longest, computed, sources })
        });
        let views = views.collect::<Result<Vec<PlannedView>, ApiError>>()?;
        let kind = |column: &PlannedColumn| views.get(column.view).map(|view| view.kind_of(&column.field)).unwrap_or_default();
        let kinds: Vec<String> = columns.iter().map(kind).collect();
        let kinds = format!(",\"kinds\":{}", serde_json::to_string(&kinds).unwrap_or_default()).into_bytes();
        let id = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (runs, names) = (answered, references.to_vec());
        Ok(Plan { id, views, served, runs, columns, sources, head, kinds, names, mappings: RwLock::default() })
    }

    /// Whether something in it is computed from a member of this name that the request brings.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.views.iter().flat_map(|view| &view.view.request).any(|field| field.name == name)
    }

    /// Whether anything in it is computed for each request.
    pub(super) fn computes(&self) -> bool {
        self.views.iter().any(|view| view.computed.is_some())
    }

    /// What a view was asked for by.
    pub(super) fn view_name(&self, view: usize) -> &str {
        let of_view = self.columns.iter().zip(&self.names).find(|(column, _)| column.view == view);
        of_view.and_then(|(_, name)| name.split_once(':')).map_or("", |(view, _)| view)
    }

    /// The views whose features are answered; others are only read to compute with.
    pub(super) fn answered(&self) -> impl Iterator<Item = &PlannedView> {
        self.views.iter().take(self.served.len())
    }

    /// How rows of this schema answer the plan.
    pub(super) fn mapping(&self, id: SchemaId, schema: &Schema) -> Arc<Mapping> {
        if let Some(mapping) = self.mappings.read().ok().and_then(|known| known.get(&id).cloned()) {
            return mapping;
        }
        let view = self.views.iter().position(|planned| planned.view.name == schema.view).unwrap_or(usize::MAX);
        let mapping =
            Arc::new(Mapping::new(self.columns.iter().chain(&self.sources.columns), view, false, schema.component, &schema.features));
        if let Ok(mut known) = self.mappings.write() {
            known.insert(id, Arc::clone(&mapping));
        }
        mapping
    }
}

impl Mapping {
    /// How values of these fields answer the columns of one view.
    fn new<'c>(
        columns: impl Iterator<Item = &'c PlannedColumn>,
        view: usize,
        is_windowed: bool,
        component: Digest,
        fields: &[Field],
    ) -> Mapping {
        let position = |column: &PlannedColumn| {
            let is_of = column.view == view && column.is_windowed == is_windowed;
            let is_same =
                |field: &Field| (&field.name, field.kind, field.width) == (&column.field.name, column.field.kind, column.field.width);
            fields.iter().position(|field| is_of && is_same(field))
        };
        let positions: Vec<Option<usize>> = columns.map(position).collect();
        let needed = positions.iter().flatten().max().map_or(0, |last| last + 1);
        Mapping { component, kinds: fields.iter().map(|field| field.kind).collect(), positions, needed }
    }
}

/// Neighbours out of one view become a run. The first column has the number `first`.
fn runs(columns: &[PlannedColumn], first: usize, is_computed: impl Fn(usize) -> bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (column, index) in columns.iter().zip(first..) {
        match runs.last_mut() {
            Some(run) if run.view == column.view && run.is_windowed == column.is_windowed => run.columns.end = index + 1,
            _ => {
                let id = NUMBERS.fetch_add(1, Ordering::Relaxed);
                let PlannedColumn { view, is_windowed, .. } = *column;
                runs.push(Run { id, view, is_windowed, is_fleeting: is_windowed || is_computed(view), columns: index..index + 1 });
            }
        }
    }
    runs
}

/// A feature of a view, which is added to `views` if it is not among them.
fn column(catalog: &Catalog, caller: &Caller, views: &mut Vec<Arc<View>>, view: &str, feature: &str) -> Result<PlannedColumn, ApiError> {
    let stored = catalog.stored_name(view);
    let position = match views.iter().position(|known| known.name == stored) {
        Some(position) => position,
        None => {
            views.push(view_of(catalog, caller, view)?);
            views.len() - 1
        }
    };
    let known = || views.get(position).into_iter().flat_map(|view| fields(view));
    let (is_windowed, field) = known().find(|(_, known)| known.name == feature).ok_or_else(|| {
        let shown: String = feature.chars().take(80).collect();
        let hint = suggestion(feature, known().map(|(_, field)| field.name.as_str()));
        ApiError::new(axum::http::StatusCode::NOT_FOUND, "not_found", format!("view `{view}` has no feature `{shown}`{hint}"))
    })?;
    Ok(PlannedColumn { view: position, is_windowed, field: field.clone() })
}

/// A stored feature that a computed view takes as an input.
fn source(
    catalog: &Catalog,
    caller: &Caller,
    views: &mut Vec<Arc<View>>,
    reference: &str,
    input: &Field,
) -> Result<PlannedColumn, ApiError> {
    let cannot = |problem: &str| ApiError::conflict(format!("input `{}` is to be `{reference}`: {problem}", input.name));
    let (view, feature) = reference.split_once(':').unwrap_or((reference, ""));
    caller.may_view(view)?;
    if catalog.computed.contains_key(&*catalog.stored_name(view)) {
        return Err(cannot("that is computed for each request itself; take what it is computed from"));
    }
    let found = column(catalog, caller, views, view, feature).map_err(|_| cannot("there is no such feature on this host"))?;
    if found.field.kind != input.kind || found.field.width != input.width {
        return Err(cannot(&format!("that is of kind {}, and the input of kind {}", found.field.kind, input.kind)));
    }
    Ok(found)
}

/// The features of a view, and whether each is windowed.
fn fields(view: &View) -> impl Iterator<Item = (bool, &Field)> {
    view.features.iter().map(|field| (false, field)).chain(view.windows.iter().map(|field| (true, field)))
}

/// A view within the caller's reach.
pub(super) fn view_of(catalog: &Catalog, caller: &Caller, name: &str) -> Result<Arc<View>, ApiError> {
    caller.may_view(name)?;
    let known = || catalog.views.keys().map(String::as_str).filter(|known| caller.sees_view(known));
    catalog.view(name).cloned().ok_or_else(|| ApiError::not_found("feature view", name, known()))
}
