//! One transform over some events with neither a source nor a store: what data cases and the development loop see. Decoding, calling and finding the
//! rows at fault are those of the event path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::collect::Origins;
use super::fold::fold;
use crate::decode::{DefaultError, Plan, Wanted};
use crate::model::{
    Batch, Column, Entries, EntryId, FeatureRow, Format, InputBinding, Kind, Packed, Reason, SchemaId, StoredState, Timestamp, Values,
    Version, pack_row,
};
use crate::transform::{Applied, Error, Output, Transform, World};

/// Time to find the rows at fault in one failing batch: nobody waits behind a trial, so it may be long.
const BISECT_TIME_MAX: Duration = Duration::from_secs(60);

/// A transform that is tried out, and the states that its entities have come to.
pub struct Trial<'t> {
    transform: &'t Transform,
    plan: Plan,
    entity: Vec<usize>,
    states: HashMap<Vec<u8>, Vec<u8>>,
    bisect_time_max: Duration,
}

/// What became of some events.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows of features in the order of their events: the index of the event, and the row. Their versions and schemas mean nothing.
    pub rows: Vec<(usize, FeatureRow)>,
    /// Events given up on, by their index: why.
    pub given_up: BTreeMap<usize, (Reason, String)>,
}

impl<'t> Trial<'t> {
    /// Makes ready to feed a transform with entries of this format. Fails when a default does not decode.
    pub fn new(transform: &'t Transform, format: Format, inputs: &BTreeMap<String, InputBinding>) -> Result<Trial<'t>, DefaultError> {
        let spec = transform.spec();
        let wanted = spec.inputs.iter().map(|field| {
            let input = inputs.get(&field.name).cloned().unwrap_or_default();
            let mut field = field.clone();
            field.default = input.default.or(field.default);
            Wanted { from: input.from.unwrap_or_else(|| field.name.clone()), field, epoch: input.epoch }
        });
        let plan = Plan::new(format, wanted.collect())?;
        let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().position(|field| field.name == *name)).collect();
        Ok(Trial { transform, plan, entity, states: HashMap::new(), bisect_time_max: BISECT_TIME_MAX })
    }

    /// The same with less time to find the rows at fault: what is then still mixed is given up together.
    pub fn bounded(self, bisect_time_max: Duration) -> Trial<'t> {
        Trial { bisect_time_max, ..self }
    }

    /// The entities of some entries, by their keys, each with the text of these inputs, as keys have it: what tells the partition.
    pub fn entities(&self, entries: &Entries, by: &[String]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let decoded = self.plan.decode(entries);
        let faults: BTreeSet<u32> = decoded.iter().flat_map(|decoded| &decoded.faults).map(|fault| fault.row).collect();
        let batch = Batch { rows: entries.len(), columns: decoded.into_iter().map(|decoded| decoded.column).collect() };
        let inputs = &self.transform.spec().inputs;
        let by: Vec<usize> = by.iter().filter_map(|name| inputs.iter().position(|field| field.name == *name)).collect();
        let of = |entity: &[usize], row| {
            let mut key = Vec::new();
            Origins { prefix: b"", batch: &batch, entity, event_time: None, entries: &[], seen: &[] }.push_key(&mut key, row);
            key
        };
        let rows = (0..batch.rows).filter(|row| !faults.contains(&(*row as u32)));
        rows.map(|row| (of(&self.entity, row), of(&by, row))).collect()
    }

    /// Lets some entities begin with what is stored of them, as far as the transform can use it: as its own, or taken over.
    pub fn begin_with(&mut self, stored: &[(Vec<u8>, Bytes)]) {
        let own = &self.transform.spec().version;
        let mut others: BTreeMap<&str, (Vec<&Vec<u8>>, Packed)> = BTreeMap::new();
        for (entity, value) in stored {
            match StoredState::read(value) {
                Some(state) if StoredState::is_compatible(state.version, own) => {
                    drop(self.states.insert(entity.clone(), state.bytes.to_vec()))
                }
                Some(state) => {
                    let (entities, packed) = others.entry(state.version).or_default();
                    entities.push(entity);
                    packed.push(state.bytes);
                }
                None => {}
            }
        }
        if self.transform.world() != World::MigratingTransform {
            return;
        }
        for (version, (entities, packed)) in others {
            let migrated = self.transform.migrate(version, &Column { values: Values::Blobs(packed), validity: None });
            let Ok(Column { values: Values::Blobs(migrated), .. }) = migrated else { continue };
            self.states.extend(entities.into_iter().enumerate().map(|(index, entity)| (entity.clone(), migrated.get(index).to_vec())));
        }
    }

    /// Feeds some entries as one batch. States are those that the batches before have left.
    pub fn feed(&mut self, entries: &Entries) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let decoded = self.plan.decode(entries);
        for fault in decoded.iter().flat_map(|decoded| &decoded.faults) {
            outcome.given_up.entry(fault.row as usize).or_insert_with(|| (Reason::Decode, fault.message.clone()));
        }
        let whole = Batch { rows: entries.len(), columns: decoded.into_iter().map(|decoded| decoded.column).collect() };
        let kept: Vec<u32> = (0..whole.rows).filter(|row| !outcome.given_up.contains_key(row)).map(|row| row as u32).collect();
        let batch = if kept.len() == whole.rows { whole } else { whole.take(&kept) };
        let event = |row: usize| kept.get(row).map_or(row, |row| *row as usize);
        let applied = match self.transform.world() {
            World::RowTransform if batch.rows == 0 => Applied { outputs: vec![(0, self.transform.apply(&batch)?)], given_up: Vec::new() },
            World::RowTransform => self.transform.apply_all(&batch, self.bisect_time_max)?,
            World::StatefulTransform | World::MigratingTransform => {
                let ids: Vec<_> = kept.iter().filter_map(|row| Some(entries.get(*row as usize)?.id)).collect();
                let origins = Origins { prefix: b"", batch: &batch, entity: &self.entity, event_time: None, entries: &ids, seen: &[] };
                fold(self.transform, &origins, &mut self.states, self.bisect_time_max)?
            }
        };
        for (row, reason, message) in applied.given_up {
            outcome.given_up.insert(event(row), (reason, message));
        }
        for (start, output) in &applied.outputs {
            for row in 0..output.batch.rows {
                let within = output.origins.as_ref().map_or(row, |origins| origins.get(row).map_or(row, |origin| *origin as usize));
                outcome.rows.push((event(start + within), packed(output, row)?));
            }
        }
        outcome.rows.sort_by_key(|(event, _)| *event);
        Ok(outcome)
    }

    /// Measures a call: the shortest of several, for this many rows made up from the spec, in nanoseconds a row. `None` where the transform fails on
    /// them.
    pub fn nanoseconds_per_row(&mut self, rows: usize, time_max: Duration) -> Option<f64> {
        let columns = self.transform.spec().inputs.iter().map(|field| Arc::new(Column::made_up(field, rows))).collect();
        let batch = Batch { rows, columns };
        let groups: Vec<u32> = (0..=rows as u32).collect();
        let states = Column::nulls(Kind::Bytes, rows);
        let started = Instant::now();
        let mut best: Option<Duration> = None;
        while started.elapsed() < time_max {
            let call = Instant::now();
            match self.transform.world() {
                World::RowTransform => drop(self.transform.apply(&batch).ok()?),
                World::StatefulTransform | World::MigratingTransform => drop(self.transform.fold(&batch, &groups, &states).ok()?),
            }
            let took = call.elapsed();
            best = Some(best.map_or(took, |best| best.min(took)));
        }
        best.map(|best| best.as_nanos() as f64 / rows.max(1) as f64)
    }
}

fn packed(output: &Output, row: usize) -> Result<FeatureRow, Error> {
    let version = Version { event_time: Timestamp(0), entry_id: EntryId::default() };
    let mut packed = Vec::new();
    pack_row(&mut packed, version, SchemaId(0), &output.batch.columns, row);
    FeatureRow::new(packed.into()).map_err(|error| Error::Engine(error.to_string()))
}
