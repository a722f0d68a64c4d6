//! Fuzz targets over what comes from outside, run as tests: nothing panics, and what is accepted keeps its promises.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gristmill::conformance::guest::{Guest, spec};
use gristmill::model::feast::{self, Registry};
use gristmill::model::{
    Aggregate, Aggregation, Batch, Column, EntryId, FeatureRow, Field, Kept, Kind, OwnedValue, Packed, SchemaId, Spec, Timestamp, Validity,
    Values, Version,
};
use gristmill::transform::{Engine, EngineOptions, Limits, Output, check};
use gristmill::window::{Entity, EntityError, Plan};
use gristmill_tests::kept_entity::KeptEntity;
use gristmill_tests::oracle::Event;

/// Any answer of a guest, nearly right ones above all: what the check lets through, the rest of the host may rely on.
#[test]
fn an_answer_that_passes_the_check_is_sound() {
    let limits = Limits { output_bytes_max: 4_096, output_rows_per_input_max: 3, ..Limits::default() };
    let (passed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    bolero::check!().with_iterations(50_000).with_type::<Vec<u8>>().for_each(|bytes| {
        let mut dice = Dice { bytes, at: 0 };
        let spec = any_spec(&mut dice);
        let input_rows = dice.below(9);
        let mut output = any_output(&mut dice, &spec, input_rows);
        match check(&mut output, &spec, input_rows, &limits) {
            Ok(()) => {
                assert_sound(&output, &spec, input_rows);
                passed.fetch_add(1, Relaxed);
            }
            Err(_) => {
                refused.fetch_add(1, Relaxed);
            }
        }
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    assert!(passed > 0 && refused > 0, "both happen: {passed} passed, {refused} refused");
}

/// Whatever stands in Redis or in a registry: it is read as something or as nothing, and what is read is written as it is read.
#[test]
fn what_feast_may_have_written_is_read_or_left() {
    let kinds = [Kind::Boolean, Kind::Integer, Kind::Float, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::List, Kind::Vector];
    let read = AtomicUsize::new(0);
    bolero::check!().with_iterations(50_000).with_type::<(u8, u8, Vec<u8>)>().for_each(|(kind, tag, bytes)| {
        let mut field = Field::plain("x", kinds[usize::from(*kind) % kinds.len()], true);
        field.width = (field.kind == Kind::Vector).then_some(2);
        // Of one field nearly always, as values are.
        let message = [&[*tag][..], bytes].concat();
        if let Some(value) = feast::decode(&message, &field) {
            let mut written = Vec::new();
            feast::encode(&mut written, Some(value.value()), None);
            let again = feast::decode(&written, &field);
            assert_eq!(format!("{again:?}"), format!("{:?}", Some(value)));
            read.fetch_add(1, Relaxed);
        }
        if let Some(time) = feast::decode_time(&message) {
            assert_eq!(feast::decode_time(&feast::encode_time(time)), Some(time));
        }
        Registry::read(&message).map(drop).unwrap_or_default();
    });
    assert!(read.into_inner() > 0, "some are values");
}

/// A good component with some bytes changed or cut away: it is refused or it loads, and nothing panics.
#[test]
fn a_damaged_component_never_takes_the_host_down() {
    let options = EngineOptions { instances_max: 4, instances_per_transform_max: 1, memory_bytes_max: 4 << 20, ..EngineOptions::default() };
    let engine = Engine::new(options).expect("it starts");
    let limits = Limits { memory_bytes_max: 4 << 20, deadline_ms: 1, ..Limits::default() };
    let files = [Guest::doubling().module().unwrap(), Guest::doubling().component().unwrap()];
    let engine = AssertUnwindSafe(engine);
    let loaded = AtomicUsize::new(0);
    let input = Batch { rows: 2, columns: vec![Arc::new(Column { values: Values::Integers(vec![1, 2]), validity: None })] };
    bolero::check!().with_iterations(3_000).with_type::<(bool, u16, Vec<(u16, u8)>)>().for_each(|(module, cut, changes)| {
        let mut bytes = files[usize::from(*module)].clone();
        for (at, byte) in changes.iter().take(4) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *byte;
        }
        if cut % 4 == 0 {
            bytes.truncate(usize::from(*cut) % bytes.len());
        }
        if let Ok(transform) = engine.load("damaged", &bytes, "", limits) {
            loaded.fetch_add(1, Relaxed);
            transform.apply(&input).map(drop).unwrap_or_default();
        }
    });
    assert!(loaded.into_inner() > 0, "some changes do no harm, so loading and calling were tried too");
}

/// Whatever stands under the key of an entity with windows: it is refused or read as something, whatever is done with it, and nothing panics.
#[test]
fn a_damaged_entity_never_takes_the_host_down() {
    use Aggregate::*;
    let functions = [Count, Sum, Variance, Min, First, Last, Distinct, Quantile(0.5), LastValues(3), Top(2)];
    let windows = [Some(3_600_000), Some(60_000), None];
    let aggregation =
        |(window_ms, function)| Aggregation { feature: String::new(), column: "value".into(), function, window_ms, doc: String::new() };
    let all = windows.iter().flat_map(|window| functions.iter().map(|function| aggregation((*window, *function))));
    let (begin, minute) = (1_700_000_000_000_000, 60_000_000);
    let event = |order: u64| Event { time: begin + order as i64 * 7_000_000, order, value: Some(OwnedValue::Float(order as f64 * 0.1)) };
    let entities = [(0, false), (100, false), (100, true)].map(|(history_secs, exact)| {
        let kept = Kept { aggregations: all.clone().collect(), history_secs, exact };
        let mut entity = KeptEntity::new(Kind::Float, kept, i64::MAX);
        entity.add(&(0..40).map(event).collect::<Vec<_>>());
        (entity.plan, entity.stored.unwrap())
    });
    // Whatever one thing says, the others are tried too.
    let used = |stored: Vec<u8>, plan: &Plan| -> Result<bool, EntityError> {
        let (entity, mut is_sound) = (Entity::read(&stored.into(), plan)?, true);
        for at in [begin, begin + 3 * minute, begin + 90 * minute] {
            let mut note = |done: Result<(), EntityError>| is_sound &= done.is_ok();
            note(entity.finish(plan, Timestamp(at), |_| {}));
            drop(entity.row(Timestamp(at)));
            let version = Version { event_time: Timestamp(at + 1), entry_id: EntryId { ms: 99, seq: 0 } };
            let (mut changed, mut packed, mut out) = (entity.clone(), Vec::new(), Vec::new());
            let value = OwnedValue::Float(0.1);
            FeatureRow::pack(&mut packed, version, SchemaId(1), [Some(value.value())].into_iter());
            note(changed.add(plan, version, (version, Some(packed.into())), Timestamp(i64::MAX), |_| Some(value.value())).map(drop));
            note(changed.bytes(plan).map(drop));
            note(changed.push(plan, &mut out, SchemaId(1)));
            note(changed.give_up_history(plan, Timestamp(i64::MAX)).map(drop));
        }
        Ok(is_sound)
    };
    // A number far too large in the place of each of the first bytes: among them how many rows, events and tiles there are.
    for (plan, stored) in &entities {
        for at in 29..200 {
            let damaged = [&stored[..at], &[0xff; 8], &[0x7f], &stored[at + 1..]].concat();
            used(damaged, plan).map(drop).unwrap_or_default();
        }
    }
    let (fine, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let entities = AssertUnwindSafe(entities);
    bolero::check!().with_iterations(1_000).with_type::<(u8, u16, Vec<(u16, u8)>)>().for_each(|(which, cut, changes)| {
        let (plan, stored) = &entities[usize::from(*which) % entities.len()];
        let mut stored = stored.clone();
        for (at, byte) in changes.iter().take(4) {
            let at = usize::from(*at) % stored.len();
            stored[at] = *byte;
        }
        if cut % 4 == 0 {
            stored.truncate(usize::from(*cut) % stored.len());
        }
        let count = if used(stored, plan) == Ok(true) { &fine } else { &refused };
        count.fetch_add(1, Relaxed);
    });
    let (fine, refused) = (fine.into_inner(), refused.into_inner());
    assert!(fine > 0 && refused > 0, "both happen: {fine} were read, {refused} refused");
}

fn assert_sound(output: &Output, spec: &Spec, input_rows: usize) {
    let rows = output.batch.rows;
    assert!(rows <= input_rows * 3);
    assert_eq!(output.batch.columns.len(), spec.outputs.len());
    for (column, field) in output.batch.columns.iter().zip(&spec.outputs) {
        assert!(field.nullable || (0..rows).all(|row| column.is_valid(row)));
        assert!(column.validity.as_ref().is_none_or(|validity| validity.bits.len() == rows.div_ceil(8)));
        let (kind, length) = match &column.values {
            Values::Booleans(values) => {
                assert!(values.iter().all(|value| *value <= 1));
                (Kind::Boolean, values.len())
            }
            Values::Integers(values) => (Kind::Integer, values.len()),
            Values::Floats(values) => (Kind::Float, values.len()),
            Values::Timestamps(values) => (Kind::Timestamp, values.len()),
            Values::Vectors { values, width } => {
                assert_eq!(Some(*width), field.width);
                (Kind::Vector, values.len() / *width as usize)
            }
            Values::Texts(packed) => {
                // Slicing by each pair of offsets must work, and each value must be text by itself.
                let values: Vec<_> = packed.offsets.windows(2).map(|pair| &packed.bytes[pair[0] as usize..pair[1] as usize]).collect();
                assert!(values.iter().all(|value| std::str::from_utf8(value).is_ok()));
                assert_eq!(values.concat(), packed.bytes);
                (Kind::Text, packed.len())
            }
            Values::Blobs(packed) => {
                let values: Vec<_> = packed.offsets.windows(2).map(|pair| &packed.bytes[pair[0] as usize..pair[1] as usize]).collect();
                assert_eq!(values.concat(), packed.bytes);
                (Kind::Bytes, packed.len())
            }
        };
        assert_eq!((kind, length), (field.kind, rows));
    }
    let same: Vec<u32> = (0..rows as u32).collect();
    let origins = output.origins.as_ref().unwrap_or(&same);
    assert_eq!(origins.len(), rows);
    assert!(origins.is_sorted() && origins.iter().all(|origin| (*origin as usize) < input_rows));
    assert!(output.origins.is_some() || rows == input_rows);
    let rejected: Vec<_> = output.rejected.iter().map(|(row, _)| *row).collect();
    assert!(rejected.is_sorted_by(|row, next| row < next));
    assert!(rejected.iter().all(|row| (*row as usize) < input_rows && !origins.contains(row)));
    assert!(output.rejected.iter().all(|(_, reason)| reason.len() <= 1_024));
}

const KINDS: [Kind; 7] = [Kind::Boolean, Kind::Integer, Kind::Float, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::Vector];

fn any_spec(dice: &mut Dice) -> Spec {
    let names = ["a", "b"];
    let outputs: Vec<_> = names.iter().take(1 + dice.below(2)).map(|name| (*name, KINDS[dice.below(7)], dice.one_in(2))).collect();
    spec(&outputs)
}

/// What the spec asks for, with a mistake here and there.
fn any_output(dice: &mut Dice, spec: &Spec, input_rows: usize) -> Output {
    let rows = if dice.one_in(4) { dice.below(30) } else { input_rows };
    let mut columns = Vec::new();
    for field in &spec.outputs {
        let kind = if dice.one_in(16) { KINDS[dice.below(7)] } else { field.kind };
        let length = dice.nearly(rows);
        let values = match kind {
            Kind::Boolean => Values::Booleans((0..length).map(|_| if dice.one_in(32) { dice.next() } else { dice.next() % 2 }).collect()),
            Kind::Integer => Values::Integers(vec![7; length]),
            Kind::Float => Values::Floats(vec![f64::NAN; length]),
            Kind::Timestamp => Values::Timestamps(vec![7; length]),
            Kind::Vector | Kind::List => Values::Vectors { width: dice.nearly(2) as u32, values: vec![0.0; dice.nearly(length * 2)] },
            Kind::Text => Values::Texts(any_packed(dice, length)),
            Kind::Bytes => Values::Blobs(any_packed(dice, length)),
        };
        let bits = |dice: &mut Dice| (0..dice.nearly(rows.div_ceil(8))).map(|_| if dice.one_in(2) { 0xff } else { dice.next() }).collect();
        let validity = dice.one_in(2).then(|| Validity { bits: bits(dice) });
        columns.push(Arc::new(Column { values, validity }));
    }
    let some_origins = rows != input_rows || dice.one_in(2);
    let origins = some_origins.then(|| {
        let mut origins: Vec<_> = (0..dice.nearly(rows)).map(|_| dice.below(input_rows.max(1)) as u32).collect();
        if !dice.one_in(8) {
            origins.sort_unstable();
        }
        origins
    });
    let rejections = if dice.one_in(2) { dice.below(3) } else { 0 };
    let rejected = (0..rejections).map(|_| (dice.below(input_rows + 1) as u32, "é".repeat(dice.below(900)))).collect();
    Output { batch: Batch { rows, columns }, origins, rejected }
}

fn any_packed(dice: &mut Dice, length: usize) -> Packed {
    let mut packed = Packed::default();
    for _ in 0..length {
        let value = ["", "a", "é", "→x"][dice.below(4)];
        packed.push(value.as_bytes());
    }
    if dice.one_in(4) && !packed.offsets.is_empty() {
        let at = dice.below(packed.offsets.len());
        packed.offsets[at] = dice.below(12) as u32;
    }
    if dice.one_in(8) && !packed.bytes.is_empty() {
        let at = dice.below(packed.bytes.len());
        packed.bytes[at] = dice.next();
    }
    packed
}

/// Turns the bytes of the fuzzer into choices.
struct Dice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Dice<'_> {
    fn next(&mut self) -> u8 {
        self.at += 1;
        // Runs of choices longer than the input repeat it, mixed with their place.
        let byte = self.bytes.get(self.at % self.bytes.len().max(1)).copied().unwrap_or_default();
        byte.wrapping_add((self.at / self.bytes.len().max(1)) as u8 * 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.next()) * 256 + usize::from(self.next())) % end
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn nearly(&mut self, number: usize) -> usize {
        if self.one_in(24) { self.below(number + 3) } else { number }
    }
}
