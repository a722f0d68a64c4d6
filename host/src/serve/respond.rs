//! Writing values as JSON by hand into one buffer: on the query path this is where the time goes.

use std::io::Write;
use std::sync::Arc;

use super::cells;
use super::error::ApiError;
use super::look::{Looked, Looking, MadeBy};
use super::pieces::{Counts, Piece, Pieces};
use super::plan::{Mapping, Plan, Run};
use super::room::AnswerRoom;
use crate::model::json::push_value;
use crate::model::{FeatureRow, Status, Timestamp};

/// Bytes of a result besides its entity and its pieces, about.
const FRAME_BYTES: usize = 64;

/// Writes the results of one response, one entity after the other.
pub(super) struct ResultWriter<'p> {
    plan: &'p Plan,
    /// Where pieces are kept, if they are.
    pieces: Option<&'p Pieces>,
    /// Bytes of the answer that stand elsewhere.
    elsewhere: usize,
    /// What is written for each run of columns of the entity in hand.
    written: Vec<Arc<Piece>>,
    tally: Tally<'p>,
    /// Whether each value says where it comes from.
    provenance: bool,
}

/// Counts statuses for each view, and adds them to the metrics once.
pub(super) struct Tally<'p> {
    plan: &'p Plan,
    counts: Vec<Counts>,
}

impl<'p> Tally<'p> {
    pub(super) fn new(plan: &'p Plan) -> Tally<'p> {
        Tally { plan, counts: vec![Counts::default(); plan.views.len()] }
    }

    pub(super) fn count(&mut self, view: usize, status: Status) {
        if let Some(counts) = self.counts.get_mut(view) {
            counts.count(status, 1);
        }
    }

    pub(super) fn add(&self) {
        for (served, counts) in self.plan.served.iter().zip(&self.counts) {
            served.add(&counts.0);
        }
    }
}

impl<'p> ResultWriter<'p> {
    pub(super) fn new(plan: &'p Plan, pieces: Option<&'p Pieces>, provenance: bool) -> ResultWriter<'p> {
        let written = Vec::with_capacity(plan.runs.len());
        ResultWriter { plan, pieces, elsewhere: 0, written, tally: Tally::new(plan), provenance }
    }

    /// So many bytes of the answer stand elsewhere than what comes next.
    pub(super) fn begin(&mut self, elsewhere: usize) {
        self.elsewhere = elsewhere;
    }

    /// What was counted so far, which is not counted any more.
    pub(super) fn take_counts(&mut self) -> Vec<Counts> {
        let none = vec![Counts::default(); self.plan.views.len()];
        std::mem::replace(&mut self.tally.counts, none)
    }

    /// Appends `{"entity":…,"values":[…],"statuses":[…],"event_times":[…]}`, given the row key and what was found for each view.
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        room: &mut AnswerRoom<'_>,
        entity: &str,
        keys: &[Vec<u8>],
        found: &[Looked],
    ) -> Result<(), ApiError> {
        self.written.clear();
        let mut bytes = self.elsewhere + out.len() + entity.len();
        for run in &self.plan.runs {
            let looked = found.get(run.view);
            let looking = looked.map(|looked| if run.is_windowed { &looked.windows } else { &looked.row });
            let partly = looked.filter(|looked| run.is_windowed && looked.untold.is_some());
            let piece = match (looking, keys.get(run.view)) {
                (Some(Looking::Found(row, mapping, time)), _) if partly.is_some() => {
                    Arc::new(write_told(run, row, mapping, (*time, partly), (&mut *room, bytes))?)
                }
                (Some(Looking::Found(row, mapping, time)), key) => {
                    let mut write = || write_row(run, row, mapping, (*time, None), (&mut *room, bytes));
                    match key.zip(self.pieces.filter(|_| !run.is_fleeting)) {
                        Some((key, pieces)) => pieces.get_or_write(run.id, key, row, write)?,
                        None => Arc::new(write()?),
                    }
                }
                (Some(Looking::Fallback(row, mapping, time)), _) => {
                    Arc::new(write_row(run, row, mapping, (*time, Some(Status::Fallback)), (&mut *room, bytes))?)
                }
                (Some(Looking::Error), _) => Arc::new(write_absent(run, Status::Error, None)),
                (Some(Looking::TooOld(time)), _) => Arc::new(write_absent(run, Status::OutsideMaxAge, Some(*time))),
                (Some(Looking::OutsideHistory), _) => Arc::new(write_absent(run, Status::OutsideHistory, None)),
                _ => Arc::new(write_absent(run, Status::NotFound, None)),
            };
            if let Some(counts) = self.tally.counts.get_mut(run.view) {
                counts.add(&piece.counts);
            }
            bytes += piece.len();
            self.written.push(piece);
        }
        room.written(bytes)?;
        out.reserve(bytes - self.elsewhere - out.len() + FRAME_BYTES);
        out.extend_from_slice(b"{\"entity\":");
        out.extend_from_slice(entity.as_bytes());
        out.extend_from_slice(b",\"values\":[");
        push_joined(out, self.written.iter().map(|piece| piece.values()));
        out.extend_from_slice(b"],\"statuses\":[");
        push_joined(out, self.written.iter().map(|piece| piece.statuses()));
        out.extend_from_slice(b"],\"event_times\":[");
        push_joined(out, self.written.iter().map(|piece| piece.event_times()));
        if self.provenance {
            out.extend_from_slice(b"],\"provenance\":[");
            let made_by = self.plan.runs.iter().flat_map(|run| {
                let looked = found.get(run.view);
                let made_by = looked.and_then(|looked| looked.made(run));
                run.columns.clone().map(move |column| made_by.filter(|_| !looked.is_some_and(|looked| looked.is_untold(run, column))))
            });
            for (made_by, separator) in separated(made_by) {
                out.extend_from_slice(separator);
                push_made_by(out, made_by);
            }
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// Adds what was written to the metrics.
    pub(super) fn count(&self) {
        self.tally.add();
    }
}

fn push_joined<'t>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'t [u8]>) {
    for (text, separator) in separated(texts) {
        out.extend_from_slice(separator);
        out.extend_from_slice(text);
    }
}

/// A run of columns out of a row; with the event time, and the status where it is not told by the values. `bytes` stand in the answer's room already.
fn write_row(
    run: &Run,
    row: &FeatureRow,
    mapping: &Mapping,
    (time, status): (Option<Timestamp>, Option<Status>),
    (room, bytes): (&mut AnswerRoom<'_>, usize),
) -> Result<Piece, ApiError> {
    let values = cells::values(row, mapping)?;
    let positions = mapping.positions.get(run.columns.clone()).unwrap_or_default();
    let of_run = || positions.iter().map(|position| position.and_then(|position| *values.get(position)?));
    let columns = run.columns.len();
    let nulls = of_run().filter(Option::is_none).count();
    let mut piece = Piece::with_capacity(columns * 56);
    let out = piece.text_mut();
    for (value, separator) in separated(of_run()) {
        room.written(bytes + out.len())?;
        out.extend_from_slice(separator);
        push_value(out, value);
    }
    piece.end_values();
    let out = piece.text_mut();
    let of_all = status.or((nulls == 0).then_some(Status::Present));
    if let Some(status) = of_all {
        push_repeated(out, columns, |out| push_status(out, status));
    } else {
        for (value, separator) in separated(of_run()) {
            out.extend_from_slice(separator);
            push_status(out, if value.is_some() { Status::Present } else { Status::Null });
        }
    }
    piece.end_statuses();
    push_repeated(piece.text_mut(), columns, |out| push_time(out, time));
    match of_all {
        Some(status) => piece.counts.count(status, columns),
        None => {
            piece.counts.count(Status::Present, columns - nulls);
            piece.counts.count(Status::Null, nulls);
        }
    }
    Ok(piece)
}

/// A run of windowed features of which some cannot be told.
fn write_told(
    run: &Run,
    row: &FeatureRow,
    mapping: &Mapping,
    (time, looked): (Option<Timestamp>, Option<&Looked>),
    (room, bytes): (&mut AnswerRoom<'_>, usize),
) -> Result<Piece, ApiError> {
    let values = cells::values(row, mapping)?;
    let is_untold = |column| looked.is_some_and(|looked| looked.is_untold(run, column));
    let told = || {
        run.columns.clone().map(|column| {
            let value = mapping.positions.get(column).copied().flatten().and_then(|position| *values.get(position)?);
            match value {
                _ if is_untold(column) => (None, Status::OutsideHistory, None),
                Some(value) => (Some(value), Status::Present, time),
                None => (None, Status::Null, time),
            }
        })
    };
    let mut piece = Piece::with_capacity(run.columns.len() * 56);
    for ((value, ..), separator) in separated(told()) {
        room.written(bytes + piece.len())?;
        piece.text_mut().extend_from_slice(separator);
        push_value(piece.text_mut(), value);
    }
    piece.end_values();
    for ((_, status, _), separator) in separated(told()) {
        piece.text_mut().extend_from_slice(separator);
        push_status(piece.text_mut(), status);
        piece.counts.count(status, 1);
    }
    piece.end_statuses();
    for ((.., time), separator) in separated(told()) {
        piece.text_mut().extend_from_slice(separator);
        push_time(piece.text_mut(), time);
    }
    Ok(piece)
}

/// A run of columns for which there is no row to be served.
fn write_absent(run: &Run, status: Status, event_time: Option<Timestamp>) -> Piece {
    let columns = run.columns.len();
    let mut piece = Piece::with_capacity(columns * 56);
    push_repeated(piece.text_mut(), columns, |out| out.extend_from_slice(b"null"));
    piece.end_values();
    push_repeated(piece.text_mut(), columns, |out| push_status(out, status));
    piece.end_statuses();
    push_repeated(piece.text_mut(), columns, |out| push_time(out, event_time));
    piece.counts.count(status, columns);
    piece
}

/// Each item and what stands before it in a JSON list.
fn separated<I: IntoIterator>(items: I) -> impl Iterator<Item = (I::Item, &'static [u8])> {
    let separators = std::iter::once(&b""[..]).chain(std::iter::repeat(&b","[..]));
    items.into_iter().zip(separators)
}

/// Writes an item once and copies it until there are `times`, with commas between them. A copy doubles what is there.
fn push_repeated(out: &mut Vec<u8>, times: usize, push: impl FnOnce(&mut Vec<u8>)) {
    if times == 0 {
        return;
    }
    let start = out.len();
    push(out);
    let item = out.len() - start;
    if times > 1 {
        out.push(b',');
    }
    let whole = start + (item + 1) * times - 1;
    while out.len() < whole {
        let end = out.len().min(whole - out.len() + start);
        out.extend_from_within(start..end);
    }
}

/// Appends `{"component":…,"entry_id":…,"event_time":…}`, or `null`.
pub(super) fn push_made_by(out: &mut Vec<u8>, made_by: Option<MadeBy>) {
    let Some(MadeBy { component, event_time, entry_id }) = made_by else { return out.extend_from_slice(b"null") };
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"component\":\"{component}\",\"entry_id\":");
    let _ = match entry_id {
        Some(id) => write!(out, "\"{id}\""),
        None => write!(out, "null"),
    };
    out.extend_from_slice(b",\"event_time\":");
    push_time(out, Some(event_time));
    out.push(b'}');
}

pub(super) fn push_status(out: &mut Vec<u8>, status: Status) {
    out.push(b'"');
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b'"');
}

pub(super) fn push_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    let Some(time) = time else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    time.push_text(out);
    out.push(b'"');
}
