//! Decoding entries into columns: what is accepted, what is a fault, and that nothing in a stream can break it.

use gristmill::decode::{Decoded, Plan, Wanted};
use gristmill::model::{Column, Entries, EntryId, Epoch, Field, Format, Kind, Packed, Values};
use proptest::prelude::*;

fn input(name: &str, kind: Kind) -> Wanted {
    let field = Field { name: name.into(), kind, nullable: false, default: None, width: None, doc: String::new() };
    Wanted { field, from: name.into(), epoch: None }
}

fn nullable(mut wanted: Wanted) -> Wanted {
    wanted.field.nullable = true;
    wanted
}

fn from(mut wanted: Wanted, path: &str) -> Wanted {
    wanted.from = path.into();
    wanted
}

fn json() -> Format {
    Format::Json { field: "data".into() }
}

/// Decodes entries given as lists of fields.
fn decode(format: Format, wanted: Vec<Wanted>, entries: &[&[(&str, &str)]]) -> Vec<Decoded> {
    let mut all = Entries::default();
    for (index, fields) in entries.iter().enumerate() {
        all.push(EntryId { ms: 1, seq: index as u64 }, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    }
    Plan::new(format, wanted).unwrap().decode(&all)
}

/// Decodes one entry to one column.
fn one(format: Format, wanted: Wanted, entry: &[(&str, &str)]) -> Decoded {
    decode(format, vec![wanted], &[entry]).remove(0)
}

fn message(decoded: &Decoded) -> &str {
    assert_eq!(decoded.faults.len(), 1, "one fault expected");
    &decoded.faults[0].message
}

fn texts(values: &[&str]) -> Values {
    let mut packed = Packed::default();
    values.iter().for_each(|value| packed.push(value.as_bytes()));
    Values::Texts(packed)
}

#[test]
fn fields_are_found_wherever_they_stand() {
    let decoded = decode(
        Format::Fields,
        vec![input("a", Kind::Integer), input("b", Kind::Text)],
        &[&[("a", "1"), ("b", "x")], &[("b", "y"), ("a", "2")], &[("c", "?"), ("a", "3"), ("b", "")]],
    );
    assert_eq!(decoded[0].column.values, Values::Integers(vec![1, 2, 3]));
    assert_eq!(decoded[1].column.values, texts(&["x", "y", ""]));
    assert!(decoded.iter().all(|column| column.faults.is_empty() && column.column.validity.is_none()));
}

#[test]
fn paths_reach_into_json() {
    let event = r#"{"user":{"id":"u\n1","tags":["a"]},"n":3,"n":4,"none":null}"#;
    let wanted = vec![
        from(input("id", Kind::Text), "user.id"),
        input("n", Kind::Integer),
        nullable(input("none", Kind::Float)),
        from(input("tags", Kind::Text), "user.tags"),
    ];
    let decoded = decode(json(), wanted, &[&[("data", event)]]);
    assert_eq!(decoded[0].column.values, texts(&["u\n1"]));
    assert_eq!(decoded[1].column.values, Values::Integers(vec![4]), "of a member that stands twice the last counts");
    assert!(!decoded[2].column.is_valid(0));
    assert_eq!(decoded[3].column.values, texts(&[r#"["a"]"#]));
    let flat = one(Format::Fields, from(input("id", Kind::Text), "user.id"), &[("user", r#"{"id":"u2"}"#)]);
    assert_eq!(flat.column.values, texts(&["u2"]));
    let dotted = one(Format::Fields, from(input("id", Kind::Text), "user.id"), &[("user.id", "u3"), ("user", "{}")]);
    assert_eq!(dotted.column.values, texts(&["u3"]), "a field of the whole name comes first");
}

#[test]
fn what_does_not_decode_names_field_value_and_kind() {
    let wanted = input("qty", Kind::Integer);
    assert_eq!(message(&one(Format::Fields, wanted.clone(), &[("qty", "many")])), "field `qty` is \"many\"; expected integer");
    assert_eq!(message(&one(Format::Fields, wanted.clone(), &[])), "field `qty` is missing or null; expected integer");
    assert_eq!(message(&one(Format::Fields, wanted.clone(), &[("qty", "")])), "field `qty` is missing or null; expected integer");
    let renamed = from(wanted.clone(), "order.qty");
    let decoded = one(json(), renamed, &[("data", r#"{"order":{"qty":{"n":1}}}"#)]);
    assert_eq!(message(&decoded), "field `order.qty` (input `qty`) is {\"n\":1}; expected integer");
    let decoded = one(json(), wanted.clone(), &[("data", "[1]")]);
    assert!(message(&decoded).starts_with("field `data` is not a JSON object: "), "{}", message(&decoded));
    let decoded = one(json(), wanted, &[("other", "{}")]);
    assert_eq!(message(&decoded), "the entry has no field `data`, which should hold the event as a JSON object");
    let long = "9".repeat(5_000);
    assert!(message(&one(Format::Fields, input("qty", Kind::Integer), &[("qty", &long)])).len() < 200, "values are shortened");
}

#[test]
fn defaults_stand_in_for_what_is_missing_only() {
    let mut wanted = input("qty", Kind::Integer);
    wanted.field.default = Some("7".into());
    let decoded = decode(Format::Fields, vec![wanted.clone()], &[&[], &[("qty", "1")], &[("qty", "bad")]]);
    assert_eq!(decoded[0].column.values, Values::Integers(vec![7, 1, 0]));
    assert_eq!(decoded[0].faults.len(), 1);
    wanted.field.default = Some("seven".into());
    let error = Plan::new(Format::Fields, vec![wanted]).unwrap_err();
    assert_eq!(error.to_string(), "the default of input `qty` cannot be used: field `qty` is \"seven\"; expected integer");
}

#[test]
fn vectors_come_as_json_or_as_bytes() {
    let mut wanted = input("v", Kind::Vector);
    wanted.field.width = Some(2);
    let values = Values::Vectors { width: 2, values: vec![1.0, -2.5] };
    assert_eq!(one(Format::Fields, wanted.clone(), &[("v", "[1, -2.5]")]).column.values, values);
    assert_eq!(one(json(), wanted.clone(), &[("data", r#"{"v":[1,-2.5]}"#)]).column.values, values);
    assert_eq!(message(&one(Format::Fields, wanted.clone(), &[("v", "[1]")])), "field `v` is \"[1]\"; expected vector of 2 numbers");
    let mut entries = Entries::default();
    let bytes: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|number| number.to_le_bytes()).collect();
    entries.push(EntryId::ZERO, [(b"v".as_slice(), bytes.as_slice())]);
    assert_eq!(Plan::new(Format::Fields, vec![wanted]).unwrap().decode(&entries)[0].column.values, values);
}

#[test]
fn numbers_for_times_follow_their_unit() {
    let at = |text: &str, epoch| {
        let wanted = Wanted { epoch, ..input("at", Kind::Timestamp) };
        one(Format::Fields, wanted, &[("at", text)]).column.values.clone()
    };
    let moment = Values::Timestamps(vec![1_678_886_400_000_000]);
    assert_eq!(at("1678886400", None), moment);
    assert_eq!(at("1678886400", Some(Epoch::Seconds)), moment);
    assert_eq!(at("1678886400000000000", Some(Epoch::Nanoseconds)), moment);
    assert_eq!(at("2023-03-15T13:20:00+00:00", Some(Epoch::Seconds)), moment);
}

proptest! {
    #[test]
    fn every_value_comes_back_as_it_was(integer: i64, float: f64, text in ".*", truth: bool) {
        let wanted = || vec![input("i", Kind::Integer), input("f", Kind::Float), input("t", Kind::Text), input("b", Kind::Boolean)];
        let event = serde_json::json!({"i": integer, "f": if float.is_finite() { float } else { 0.5 }, "t": text, "b": truth}).to_string();
        let float = if float.is_finite() { float } else { 0.5 };
        let (i, f, b) = (integer.to_string(), format!("{float:?}"), truth.to_string());
        let flat = decode(Format::Fields, wanted(), &[&[("i", &i), ("f", &f), ("t", &text), ("b", &b)]]);
        let nested = decode(json(), wanted(), &[&[("data", &event)]]);
        for decoded in [flat, nested] {
            prop_assert!(decoded.iter().all(|column| column.faults.is_empty()));
            prop_assert_eq!(&decoded[0].column.values, &Values::Integers(vec![integer]));
            prop_assert_eq!(&decoded[1].column.values, &Values::Floats(vec![float]));
            prop_assert_eq!(&decoded[2].column.values, &texts(&[&text]));
            prop_assert_eq!(&decoded[3].column.values, &Values::Booleans(vec![truth.into()]));
        }
    }
}

/// Every column has one value a row, whatever was in the stream.
fn rows(column: &Column) -> usize {
    match &column.values {
        Values::Booleans(values) => values.len(),
        Values::Integers(values) | Values::Timestamps(values) => values.len(),
        Values::Floats(values) => values.len(),
        Values::Texts(packed) | Values::Blobs(packed) => packed.len(),
        Values::Vectors { width, values } => values.len() / *width as usize,
    }
}

#[test]
fn fuzz_decoder() {
    let kinds = [Kind::Boolean, Kind::Integer, Kind::Float, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::Vector];
    let wanted = |path: &'static str| {
        kinds.iter().map(move |kind| {
            let mut wanted = from(input("x", *kind), path);
            wanted.field.width = (*kind == Kind::Vector).then_some(3);
            wanted
        })
    };
    let all: Vec<Wanted> = wanted("x").chain(wanted("x.y")).chain(wanted("data")).collect();
    let plans = [Plan::new(Format::Fields, all.clone()).unwrap(), Plan::new(json(), all).unwrap()];
    bolero::check!().with_type::<Vec<(u8, Vec<u8>)>>().with_iterations(5_000).for_each(|values| {
        let mut entries = Entries::default();
        for (name, value) in values {
            let name = [b"x".as_slice(), b"data", b"x.y", b"y"][usize::from(name % 4)];
            // Half of the inputs are given the outline of JSON, so that they get beyond the first byte.
            let json = [br#"{"x":"#.as_slice(), value, b"}"].concat();
            entries.push(EntryId::ZERO, [(name, if value.len() % 2 == 0 { value.as_slice() } else { &json })]);
        }
        for plan in &plans {
            for decoded in plan.decode(&entries) {
                assert_eq!(rows(&decoded.column), entries.len());
                assert!(decoded.faults.iter().all(|fault| !decoded.column.is_valid(fault.row as usize)));
            }
        }
    });
}
