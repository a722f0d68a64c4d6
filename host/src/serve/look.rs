//! What the store had for one view of one entity, at the moment that is asked about.

use std::sync::Arc;

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

    /// What time it is.
    fn clock(self) -> Timestamp {
        let (At::Now(now) | At::Past(_, now)) = self;
        now
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
    /// Which of the windowed features cannot be told as of that moment, by their positions; nobody where all can.
    pub(super) untold: Option<Arc<[bool]>>,
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

    /// What is stored under it.
    pub(super) fn shape(&self) -> Shape<'_> {
        Shape { outputs: &self.schema.features, plan: &self.plan }
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

    /// Whether a column cannot be told, whatever there is of others of its run.
    pub(super) fn is_untold(&self, run: &Run, column: usize) -> bool {
        let Looking::Found(_, mapping, _) = &self.windows else { return false };
        let untold = self.untold.as_ref().filter(|_| run.is_windowed);
        let position = || mapping.positions.get(column).copied().flatten();
        untold.is_some_and(|untold| position().and_then(|position| untold.get(position)).copied().unwrap_or(false))
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
        Looked { row: Looking::OutsideHistory, windows: Looking::OutsideHistory, ..Looked::default() }
    }
}

impl PlannedView {
    /// For an entity of which nothing is stored.
    pub(super) fn absent(&self, at: At) -> Looked {
        if let At::Past(moment, now) = at
            && Some(moment) < self.forgets.before(self.lasting, now)
        {
            return Looked::outside_history();
        }
        Looked { windows: self.windows_of_nothing(), ..Looked::default() }
    }

    /// Whether a row is shown of whose moment rows came then; `None` where that cannot be known. Rows alone are, for as long as they are there.
    fn shows(&self, row: &FeatureRow, came: &[Timestamp], at: At) -> Option<bool> {
        match at {
            At::Now(now) => Some(self.end(row).is_none_or(|end| now < end)),
            At::Past(..) if self.view.kept.is_nothing() => Some(true),
            At::Past(moment, _) => self.forgets.shows(self.lasting, (row.header.version.event_time, came), moment),
        }
    }

    /// The moment from which on a row is not shown any more; `None` for a view whose rows are gone then, or stay for ever.
    pub(super) fn end(&self, row: &FeatureRow) -> Option<Timestamp> {
        self.lasting.filter(|_| !self.view.kept.is_nothing()).map(|lasting| lasting.end(row.header.version))
    }

    fn windows_of_nothing(&self) -> Looking {
        if self.view.windows.is_empty() {
            return Looking::Nothing;
        }
        Looking::Found(self.empty.clone(), Arc::clone(&self.windows), None)
    }

    /// For one that has a row and keeps nothing else.
    pub(super) fn row(&self, row: FeatureRow, mapping: Arc<Mapping>, at: At) -> Looked {
        let event_time = row.header.version.event_time;
        if let At::Past(moment, now) = at
            && (event_time > moment || Some(moment) < self.forgets.before(self.lasting, now))
        {
            // Another one was the newest then, or may have been and is forgotten.
            return Looked::outside_history();
        }
        let version = row.header.version;
        // Another one of its moment may have come before, and is not there any more.
        let may_have_come = matches!(at, At::Past(moment, _) if moment < version.came());
        match self.shows(&row, &[version.came()], at) {
            Some(true) => {}
            Some(false) if may_have_come => return Looked::outside_history(),
            Some(false) => return Looked { windows: self.windows_of_nothing(), ..Looked::default() },
            None => return Looked::outside_history(),
        }
        let made_by = (mapping.component != Digest::NONE).then(|| MadeBy::stored(mapping.component, row.header.version));
        Looked { row: aged(&self.view, row, mapping, at), windows: self.windows_of_nothing(), untold: None, made_by }
    }

    /// For one that keeps more than its newest row; and the schema that the row of that moment was made under, which may be an older one than the entity's.
    pub(super) fn entity(&self, stored: &FeatureRow, of: &StoredSchema, at: At) -> Result<(Looked, Option<SchemaId>), ApiError> {
        let schema = stored.header.schema;
        let is_other = of.schema.features != self.view.features || of.schema.kept != self.view.kept;
        let to = Shape { outputs: &self.view.features, plan: &self.kept };
        let entity = Entity::of_stored(stored, is_other.then(|| of.shape()), to);
        let unseen_before = self.forgets.unseen_before.filter(|moment| of.schema.keeps_since != Some(*moment));
        let entity = entity.and_then(|entity| entity.unseen(&self.kept, unseen_before, at.clock()));
        let entity = entity.map_err(|error| ApiError::internal(&error.to_string()))?;
        let moment = match at {
            // As of a row that has nothing beside it.
            At::Past(moment, now) if self.view.kept.is_nothing() && Some(moment) < self.forgets.before(self.lasting, now) => {
                return Ok((Looked::outside_history(), None));
            }
            // Before its first event an entity was as one that nobody has heard of.
            At::Past(moment, _) if moment < entity.born() => return Ok((self.absent(at), None)),
            At::Past(moment, _) if !entity.answers(moment) => return Ok((Looked::outside_history(), None)),
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
        // It is stored for longer than it is shown, for the moments when it was.
        let is_shown = row.as_ref().map(|row| self.shows(row, &entity.came(row.header.version.event_time), at));
        let row = match is_shown {
            Some(None) => return Ok((Looked::outside_history(), None)),
            Some(Some(true)) => row,
            Some(Some(false)) | None => None,
        };
        let made_under = row.as_ref().map(|row| row.header.schema);
        let event_time = row.as_ref().map(|row| row.header.version.event_time);
        let made_by = row.as_ref().filter(|_| of.schema.component != Digest::NONE);
        let made_by = made_by.map(|row| MadeBy::stored(of.schema.component, row.header.version));
        let untold = match at {
            At::Past(moment, _) => untold(&entity, &self.kept, moment),
            At::Now(_) => None,
        };
        let windows = if self.kept.has_windows() {
            let values = finish(&entity, &self.kept, moment, schema)?;
            Looking::Found(values, Arc::clone(&self.windows), event_time)
        } else {
            Looking::Nothing
        };
        let row = row.map_or(Looking::Nothing, |row| aged(&self.view, row, Arc::clone(&self.rows), at));
        Ok((Looked { row, windows, untold, made_by }, made_under))
    }
}

/// Windowed features that an entity had before they began.
fn untold(entity: &Entity, plan: &Plan, at: Timestamp) -> Option<Arc<[bool]>> {
    let is_untold = |feature: usize| !entity.tells(feature, at);
    (0..plan.features()).any(is_untold).then(|| (0..plan.features()).map(is_untold).collect())
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
