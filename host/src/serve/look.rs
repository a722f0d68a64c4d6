//! What the store had for one view of one entity, at the moment that is asked about.

use std::sync::Arc;

use axum::body::Bytes;

use super::error::ApiError;
use super::plan::{Mapping, PlannedView, Run};
use crate::model::{Digest, EntryId, FeatureRow, Schema, SchemaId, Timestamp, Version, View};
use crate::window::{Entity, Plan, Shape};

/// The moment that is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// This one.
    Now(Timestamp),
    /// One that has passed, and what time it is.
    Past(Timestamp, Timestamp),
}

impl At {
    pub(super) fn moment(self) -> Timestamp {
        let (At::Now(moment) | At::Past(moment, _)) = self;
        moment
    }

    pub(super) fn is_now(self) -> bool {
        matches!(self, At::Now(_))
    }
}

/// An answer for one view of one entity: for its row, and for its windows.
#[derive(Clone, Default)]
pub(super) struct Looked {
    pub(super) row: Looking,
    pub(super) windows: Looking,
    pub(super) made_by: Option<MadeBy>,
}

/// Where values come from: the component that wrote them, and event time and entry of the newest event in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MadeBy {
    pub(super) component: Digest,
    pub(super) event_time: Timestamp,
    /// None where no event made it but the request.
    pub(super) entry_id: Option<EntryId>,
}

impl MadeBy {
    fn stored(component: Digest, version: Version) -> MadeBy {
        MadeBy { component, event_time: version.event_time, entry_id: Some(version.entry_id) }
    }
}

/// Part of an answer.
#[derive(Clone, Default)]
pub(super) enum Looking {
    #[default]
    Nothing,
    OutsideHistory,
    TooOld(Timestamp),
    /// Values, how they answer the plan, and the event time to tell with them.
    Found(FeatureRow, Arc<Mapping>, Option<Timestamp>),
    /// Values that stand in for what could not be computed, and the moment that they were computed for, if ever.
    Fallback(FeatureRow, Arc<Mapping>, Option<Timestamp>),
    /// It could not be computed, and nothing stands in for it.
    Error,
}

/// A stored schema as the query path uses it.
pub(super) struct StoredSchema {
    pub(super) schema: Schema,
    plan: Plan,
}

impl StoredSchema {
    pub(super) fn new(schema: Schema) -> StoredSchema {
        StoredSchema { plan: Plan::new(&schema.features, &schema.kept), schema }
    }
}

impl Looked {
    /// Where the values of a run come from; nothing for values that are not there.
    pub(super) fn made(&self, run: &Run) -> Option<MadeBy> {
        let looking = if run.is_windowed { &self.windows } else { &self.row };
        match looking {
            Looking::Found(_, _, Some(_)) | Looking::Fallback(_, _, Some(_)) | Looking::TooOld(_) => self.made_by,
            Looking::Found(_, _, None) | Looking::Nothing | Looking::OutsideHistory | Looking::Fallback(_, _, None) | Looking::Error => {
                None
            }
        }
    }

    /// The event time that is told once for the view: that of its values, whoever made them.
    pub(super) fn event_time(&self) -> Option<Timestamp> {
        let of = |looking: &Looking| match looking {
            Looking::Found(_, _, time) | Looking::Fallback(_, _, time) => *time,
            Looking::TooOld(time) => Some(*time),
            Looking::Nothing | Looking::OutsideHistory | Looking::Error => None,
        };
        of(&self.row).or_else(|| of(&self.windows))
    }

    fn outside_history() -> Looked {
        Looked { row: Looking::OutsideHistory, windows: Looking::OutsideHistory, made_by: None }
    }
}

impl PlannedView {
    /// For an entity of which nothing is stored.
    pub(super) fn absent(&self, at: At) -> Looked {
        if let At::Past(moment, now) = at
            && self.forgets()
            && moment.0 < now.0.saturating_sub(self.kept.history())
        {
            return Looked::outside_history();
        }
        Looked { row: Looking::Nothing, windows: self.windows_of_nothing(), made_by: None }
    }

    /// Whether entities of this view are forgotten some day.
    fn forgets(&self) -> bool {
        self.view.max_age_secs.is_some()
    }

    fn windows_of_nothing(&self) -> Looking {
        Looking::Found(self.empty.clone(), Arc::clone(&self.windows), None)
    }

    /// For one that has a row and keeps nothing else.
    pub(super) fn row(&self, row: FeatureRow, mapping: Arc<Mapping>, at: At) -> Looked {
        let event_time = row.header.version.event_time;
        if let At::Past(moment, _) = at
            && event_time > moment
        {
            return Looked::outside_history();
        }
        let made_by = (mapping.component != Digest::NONE).then(|| MadeBy::stored(mapping.component, row.header.version));
        Looked { row: aged(&self.view, row, mapping, at), windows: self.windows_of_nothing(), made_by }
    }

    /// For one that keeps more than its newest row.
    pub(super) fn entity(&self, stored: &Bytes, schema: SchemaId, of: &StoredSchema, at: At) -> Result<Looked, ApiError> {
        let corrupt = || ApiError::internal("a stored entity is not what its schema says");
        let mut entity = Entity::read(stored, &of.plan).map_err(|error| ApiError::internal(&error.to_string()))?;
        if of.schema.features != self.view.features || of.schema.kept != self.view.kept {
            let (from, to) = (&of.schema.features, &self.view.features);
            let (from, to) = (Shape { outputs: from, plan: &of.plan }, Shape { outputs: to, plan: &self.kept });
            entity = entity.adapt(from, to, schema).ok_or_else(corrupt)?;
        }
        let moment = match at {
            // Before its first event an entity was as one that nobody has heard of.
            At::Past(moment, _) if moment < entity.born() => return Ok(self.absent(at)),
            At::Past(moment, _) if !entity.answers(moment) => {
                return Ok(Looked::outside_history());
            }
            At::Past(moment, _) => moment,
            // A clock that was set back is no reason to answer for a moment that is no longer kept.
            At::Now(now) => now.max(entity.kept_from()),
        };
        // As of now the newest row counts, even one whose clock is ahead, as it does in views that keep nothing else.
        let row = match at {
            At::Now(_) => entity.newest_row(),
            At::Past(..) => entity.row(moment),
        };
        let row = row.map(FeatureRow::new).transpose();
        let row = row.map_err(|error| ApiError::internal(&error.to_string()))?;
        let made_by = row.as_ref().map(|row| MadeBy::stored(of.schema.component, row.header.version));
        let event_time = made_by.map(|made_by| made_by.event_time);
        let windows = if self.kept.has_windows() {
            let values = finish(&entity, &self.kept, moment, schema)?;
            Looking::Found(values, Arc::clone(&self.windows), event_time)
        } else {
            Looking::Nothing
        };
        Ok(Looked { row: row.map_or(Looking::Nothing, |row| aged(&self.view, row, Arc::clone(&self.rows), at)), windows, made_by })
    }
}

fn aged(view: &View, row: FeatureRow, mapping: Arc<Mapping>, at: At) -> Looking {
    let event_time = row.header.version.event_time;
    let age_micros = at.moment().0.saturating_sub(event_time.0);
    match view.max_age_secs {
        Some(max) if age_micros > i64::try_from(max).unwrap_or(i64::MAX).saturating_mul(1_000_000) => Looking::TooOld(event_time),
        _ => Looking::Found(row, mapping, Some(event_time)),
    }
}

/// The windowed features of an entity, packed as a row is.
pub(super) fn finish(entity: &Entity, plan: &Plan, at: Timestamp, schema: SchemaId) -> Result<FeatureRow, ApiError> {
    let mut row = FeatureRow::packer(Version::MIN, schema, plan.features());
    entity.finish(plan, at, |value| row.push(value)).map_err(|error| ApiError::internal(&error.to_string()))?;
    FeatureRow::new(row.finish()).map_err(|error| ApiError::internal(&error.to_string()))
}
