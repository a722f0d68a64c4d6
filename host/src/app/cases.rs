//! Data cases: events in, rows out, in a file. Run against a component in the engine that hosts have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::model::{Entries, EntryId, FeatureRow, Field, Format, Kind, Spec, Timestamp, Value, json, parse};
use crate::pipeline::trial::Trial;
use crate::transform::{Engine, Limits, Transform};

/// One data case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    #[serde(default)]
    about: String,
    /// Handed to the component.
    settings: Option<Box<RawValue>>,
    /// Events that are fed at a time; all at once when absent. States are carried from one batch to the next.
    batch_events_max: Option<usize>,
    /// How often the events, and with them the rows, come one after the other; once when absent.
    #[serde(default = "once")]
    repeat: usize,
    events: Vec<Box<RawValue>>,
    #[serde(default)]
    rows: Vec<BTreeMap<String, Json>>,
    #[serde(default)]
    rejected: Vec<Rejected>,
    #[serde(default)]
    log: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    event: usize,
    reason: String,
}

/// What came of a case, as lines: a row, a refused event or a line of the log each.
#[derive(Debug)]
pub struct Verdict {
    /// How many events there were.
    pub events: usize,
    /// What the case says.
    pub expected: String,
    /// What the component did.
    pub found: String,
    rows: Vec<String>,
    rejected: Vec<Rejected>,
    log: Vec<String>,
}

/// The fields of one event: names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn once() -> usize {
    1
}

/// Events that a case may come to, its repetitions counted.
const EVENTS_MAX: usize = 1_000_000;

impl Case {
    /// Reads a case from a file.
    pub fn read(path: &Path) -> anyhow::Result<Case> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let case: Case = serde_json::from_str(&text).with_context(|| format!("{} is not a data case", path.display()))?;
        if case.repeat == 0 || case.batch_events_max == Some(0) {
            bail!("{}: `repeat` and `batch_events_max` are at least 1; with 0 nothing would be run", path.display());
        }
        if case.events.len().saturating_mul(case.repeat) > EVENTS_MAX {
            bail!("{} has more than {EVENTS_MAX} events, repetitions counted", path.display());
        }
        Ok(case)
    }

    /// What it shows.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Runs the events through a component. `log` takes the lines that the component has logged so far, as `level message`.
    pub fn run(&self, engine: &Engine, component: &[u8], limits: Limits, log: &dyn Fn() -> Vec<String>) -> anyhow::Result<Verdict> {
        let settings = self.settings.as_ref().map(|settings| settings.get()).unwrap_or_default();
        let transform = engine.load("test", component, settings, limits)?;
        let spec = transform.spec();
        let mut trial = Trial::new(&transform, Format::Fields, &BTreeMap::new())?;
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        log();
        let entries = self.entries()?;
        let batch_events_max = self.batch_events_max.unwrap_or(usize::MAX).max(1);
        for (batch, entries) in batches(entries, batch_events_max).into_iter().enumerate() {
            let first = batch.saturating_mul(batch_events_max);
            let outcome = trial.feed(&entries)?;
            for (event, row) in outcome.rows {
                rows.push(found_line(spec, first.saturating_add(event), &row)?);
            }
            rejected
                .extend(outcome.given_up.into_iter().map(|(event, (_, reason))| Rejected { event: first.saturating_add(event), reason }));
        }
        let log = log();
        let found = lines(&rows, &rejected, &log);
        Ok(Verdict { events: self.events.len() * self.repeat, expected: self.expected(spec)?, found, rows, rejected, log })
    }

    /// The events as entries whose fields they are.
    fn entries(&self) -> anyhow::Result<Vec<Fields>> {
        let once = self.events.iter().enumerate().map(|(index, event)| fields(event).with_context(|| format!("event {index}")));
        let once: Vec<_> = once.collect::<anyhow::Result<_>>()?;
        Ok((0..self.repeat).flat_map(|_| once.iter().cloned()).collect())
    }

    fn expected(&self, spec: &Spec) -> anyhow::Result<String> {
        let mut rows = Vec::new();
        for time in 0..self.repeat {
            for row in &self.rows {
                rows.push(expected_line(spec, time * self.events.len(), row)?);
            }
        }
        let again = |time: usize| {
            self.rejected
                .iter()
                .map(move |Rejected { event, reason }| Rejected { event: event + time * self.events.len(), reason: reason.clone() })
        };
        let rejected: Vec<Rejected> = (0..self.repeat).flat_map(again).collect();
        let log: Vec<String> = (0..self.repeat).flat_map(|_| self.log.iter().cloned()).collect();
        Ok(lines(&rows, &rejected, &log))
    }

    /// The text of the case with what was found in place of what it said. Only for cases without repetitions.
    pub fn recorded(&self, verdict: &Verdict) -> anyhow::Result<String> {
        if self.repeat != 1 {
            bail!("a case with `repeat` is not recorded; write what comes of its events once");
        }
        let quoted = |text: &str| Json::from(text).to_string();
        let mut members = vec![format!("\"about\": {}", quoted(&self.about))];
        if let Some(settings) = &self.settings {
            members.push(format!("\"settings\": {settings}"));
        }
        if let Some(batch_events_max) = self.batch_events_max {
            members.push(format!("\"batch_events_max\": {batch_events_max}"));
        }
        let list = |name: &str, items: &mut dyn Iterator<Item = String>| {
            let items: Vec<String> = items.map(|item| format!("    {item}")).collect();
            if items.is_empty() { format!("\"{name}\": []") } else { format!("\"{name}\": [\n{}\n  ]", items.join(",\n")) }
        };
        members.push(list("events", &mut self.events.iter().map(|event| event.get().to_owned())));
        members.push(list("rows", &mut verdict.rows.iter().cloned()));
        if !verdict.rejected.is_empty() {
            let rejected: Vec<String> = verdict.rejected.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            members.push(list("rejected", &mut rejected.into_iter()));
        }
        if !verdict.log.is_empty() {
            members.push(list("log", &mut verdict.log.iter().map(|line| quoted(line))));
        }
        Ok(format!("{{\n  {}\n}}\n", members.join(",\n  ")))
    }
}

/// What a transform makes of some events, as lines: a row or a refused event each.
pub fn preview(transform: &Transform, events: &[Box<RawValue>]) -> anyhow::Result<Vec<String>> {
    let mut trial = Trial::new(transform, Format::Fields, &BTreeMap::new())?;
    let events = events.iter().map(|event| fields(event)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    for entries in batches(events, usize::MAX) {
        let outcome = trial.feed(&entries)?;
        for (event, row) in outcome.rows {
            rows.push(found_line(transform.spec(), event, &row)?);
        }
        rejected.extend(outcome.given_up.into_iter().map(|(event, (_, reason))| Rejected { event, reason }));
    }
    Ok(lines(&rows, &rejected, &[]).lines().map(str::to_owned).collect())
}

impl Verdict {
    /// Whether the component did what the case says.
    pub fn is_as_expected(&self) -> bool {
        self.expected == self.found
    }

    /// How many rows came out.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

fn lines(rows: &[String], rejected: &[Rejected], log: &[String]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    rows.iter().for_each(|row| writeln!(text, "row      {row}").unwrap_or_default());
    for Rejected { event, reason } in rejected {
        writeln!(text, "rejected {{\"event\":{event}}} {reason}").unwrap_or_default();
    }
    log.iter().for_each(|line| writeln!(text, "log      {line}").unwrap_or_default());
    text
}

fn batches(events: Vec<Fields>, events_max: usize) -> Vec<Entries> {
    let mut batches = vec![Entries::default()];
    for (index, fields) in events.into_iter().enumerate() {
        if index > 0 && index % events_max == 0 {
            batches.push(Entries::default());
        }
        if let Some(batch) = batches.last_mut() {
            let id = EntryId { ms: index as u64, seq: 0 };
            batch.push(id, fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        }
    }
    batches
}

/// The fields of an event as they stand in a stream: texts without quotes, other values as JSON, bytes that are no text from `{"hex": "00ff"}`.
fn fields(event: &RawValue) -> anyhow::Result<Fields> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(event.get()).context("an event is a JSON object")?;
    let mut fields = Vec::with_capacity(members.len());
    for (name, value) in members {
        if value.get() == "null" {
            continue;
        }
        let bytes = match serde_json::from_str::<Hex>(value.get()) {
            Ok(Hex { hex }) => {
                from_hex(&hex).ok_or_else(|| anyhow!("field {name}: {hex:?} is not an even number of hexadecimal digits"))?
            }
            Err(_) => parse::json_text(value.get()).with_context(|| format!("field {name} is not text"))?.into_owned().into_bytes(),
        };
        fields.push((name.into_bytes(), bytes));
    }
    Ok(fields)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A row as it is shown: the event's index, then the features that are not null, in the spec's order.
fn found_line(spec: &Spec, event: usize, row: &FeatureRow) -> anyhow::Result<String> {
    let mut line = format!("{{\"event\": {event}").into_bytes();
    for (field, value) in spec.outputs.iter().zip(row.values(spec.outputs.iter().map(|field| field.kind))) {
        if let Some(value) = value? {
            push_feature(&mut line, &field.name, &json_value(value));
        }
    }
    line.push(b'}');
    Ok(String::from_utf8(line)?)
}

fn expected_line(spec: &Spec, first: usize, row: &BTreeMap<String, Json>) -> anyhow::Result<String> {
    let event = row.get("event").and_then(Json::as_u64).context("a row says which event it comes from: {\"event\": 0, …}")?;
    let known = |name: &String| name == "event" || spec.outputs.iter().any(|field| field.name == *name);
    if let Some(unknown) = row.keys().find(|name| !known(name)) {
        let names: Vec<&str> = spec.outputs.iter().map(|field| field.name.as_str()).collect();
        bail!("a row has `{unknown}`, which the component does not give; its outputs are {}", names.join(", "));
    }
    let mut line = format!("{{\"event\": {}", first.saturating_add(event as usize)).into_bytes();
    for field in &spec.outputs {
        match row.get(&field.name) {
            None | Some(Json::Null) => {}
            Some(value) => push_feature(&mut line, &field.name, &canonical(field, value)),
        }
    }
    line.push(b'}');
    Ok(String::from_utf8(line)?)
}

fn push_feature(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b", ");
    json::push_text(line, name);
    line.extend_from_slice(b": ");
    line.extend_from_slice(value);
}

/// A value as served, but for the numbers of vectors, which are written as the 32-bit floats they are.
fn json_value(value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Value::Vector(bytes) = value {
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        // Numbers that are not finite have no JSON; they become null here.
        return serde_json::to_vec(&numbers).unwrap_or_default();
    }
    json::push_value(&mut out, Some(value));
    out
}

/// What a case says, written as the component's answer would be if it is the same; as it stands where it is of another kind.
fn canonical(field: &Field, value: &Json) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    let same = match field.kind {
        Kind::Boolean => value.as_bool().map(Value::Boolean),
        Kind::Integer => value.as_i64().map(Value::Integer),
        Kind::Float => value.as_f64().or_else(|| parse::float(text.as_bytes())).map(Value::Float),
        Kind::Timestamp => Timestamp::parse(text).ok().map(Value::Timestamp),
        Kind::Text | Kind::Bytes => value.as_str().map(Value::Text),
        Kind::Vector | Kind::List => {
            let numbers = value.as_array().map(|numbers| numbers.iter().map(|number| number.as_f64().map(|number| number as f32)));
            let numbers: Option<Vec<Option<f32>>> = numbers.map(Iterator::collect);
            return numbers.and_then(|numbers| serde_json::to_vec(&numbers).ok()).unwrap_or_else(|| value.to_string().into_bytes());
        }
    };
    same.map_or_else(|| value.to_string().into_bytes(), json_value)
}
