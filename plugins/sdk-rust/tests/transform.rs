//! What the macros make of a function, through the native batch path.
#![allow(missing_docs)]

use gristmill_sdk::prelude::*;
use gristmill_sdk::testing::{self, Value};
use gristmill_sdk::wire::Kind;
use gristmill_sdk::{Transform, row};

#[derive(Input)]
struct Event<'a> {
    /// Whose event it is.
    id: &'a str,
    #[field(name = "repeat", default = "1")]
    times: i64,
    note: Option<&'a str>,
    embedding: [f32; 2],
}

#[derive(Output)]
struct Feature<'a> {
    note: Option<&'a str>,
    scaled: [f32; 2],
}

mod flat {
    use super::*;

    /// Repeats an event.
    #[transform(name = "repeated", entity = ["id", "note"], stream = ["a", "b"])]
    pub(crate) fn repeat<'a>(event: Event<'a>) -> Vec<Feature<'a>> {
        let [x, y] = event.embedding;
        (0..event.times).map(|_| Feature { note: event.note, scaled: [x * 2.0, y * 2.0] }).collect()
    }
}

mod filter {
    use super::*;

    #[transform(entity = "id")]
    pub(crate) fn noted<'a>(event: Event<'a>) -> Option<Feature<'a>> {
        event.note.map(|note| Feature { note: Some(note), scaled: [event.id.len() as f32, event.times as f32] })
    }
}

fn event(id: &str, times: Option<i64>, note: Option<&str>) -> testing::Row {
    row! { "id" => id, "repeat" => times, "note" => note, "embedding" => vec![1.0_f32, 2.0] }
}

#[test]
fn the_spec_says_what_the_source_says() {
    let spec = flat::RepeatTransform::describe("").unwrap();
    assert_eq!((spec.name.as_str(), spec.doc.as_str()), ("repeated", "Repeats an event."));
    assert_eq!((spec.entity, spec.streams), (vec!["id".to_owned(), "note".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    let [id, repeat, note, embedding] = &spec.inputs[..] else { panic!("four inputs") };
    assert_eq!((id.kind, id.nullable, id.doc.as_str()), (Kind::Text, false, "Whose event it is."));
    assert_eq!((repeat.name.as_str(), repeat.default.as_deref()), ("repeat", Some("1")));
    assert!(note.nullable);
    assert_eq!((embedding.kind, embedding.width), (Kind::Vector, Some(2)));
}

#[test]
fn settings_that_nobody_takes_are_refused() {
    assert_eq!(flat::RepeatTransform::describe("{\"times\": 2}").unwrap_err(), "this transform takes no settings");
}

#[test]
fn several_rows_from_one_event_keep_their_origin() {
    let events = [event("a", Some(2), Some("x")), event("b", Some(0), None), event("c", None, None)];
    let outcome = testing::run::<flat::RepeatTransform>("", &events).unwrap();
    assert_eq!(outcome.rows.iter().map(|row| row.origin).collect::<Vec<_>>(), [0, 0, 2]);
    assert_eq!(outcome.rows[1].values, row! { "note" => "x", "scaled" => vec![2.0_f32, 4.0] });
    assert_eq!(outcome.rows[2].values["note"], Value::Null);
}

#[test]
fn an_event_that_is_filtered_out_shifts_no_origin() {
    let events = [event("a", None, None), event("b", None, Some("x")), event("c", None, None)];
    let outcome = testing::run::<filter::NotedTransform>("", &events).unwrap();
    assert_eq!(outcome.rows.iter().map(|row| row.origin).collect::<Vec<_>>(), [1]);
    let trailing = testing::run::<filter::NotedTransform>("", &events[1..]).unwrap();
    assert_eq!(trailing.rows.iter().map(|row| row.origin).collect::<Vec<_>>(), [0]);
}
