//! One of everything: what the conformance cases run in every language.

use gristmill_sdk::prelude::*;
use serde::Deserialize;

/// Settings and their defaults.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    factor: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { factor: 2.0 }
    }
}

#[derive(Input)]
struct Event<'a> {
    id: &'a str,
    #[field(default = "")]
    action: &'a str,
    truth: Option<bool>,
    whole: Option<i64>,
    real: Option<f64>,
    text: Option<&'a str>,
    blob: Option<&'a [u8]>,
    moment: Option<Timestamp>,
    embedding: Option<[f32; 3]>,
}

#[derive(Clone, Output)]
struct Features {
    truth: Option<bool>,
    whole: Option<i64>,
    /// The number, scaled.
    real: Option<f64>,
    text: Option<String>,
    blob: Option<Vec<u8>>,
    moment: Option<Timestamp>,
    embedding: Option<[f32; 3]>,
}

/// One of everything.
#[transform(entity = "id", stream = "reference")]
fn reference(event: Event, settings: &Settings) -> Result<Vec<Features>, Rejected> {
    match event.action {
        "reject" => return Err(format!("{} asks for it", event.id).into()),
        "log" => log::warn(&format!("a line about {}", event.id)),
        _ => {}
    }
    let scaled = |number: f32| (f64::from(number) * settings.factor) as f32;
    let row = Features {
        truth: event.truth.map(|truth| !truth),
        whole: event.whole.map(|whole| !whole),
        real: event.real.map(|real| real * settings.factor + 0.1),
        text: event.text.map(|text| format!("<{text}>")),
        blob: event.blob.map(|blob| blob.iter().rev().copied().collect()),
        moment: event.moment.map(|moment| Timestamp::from_micros(moment.micros() + 1_000_000)),
        embedding: event.embedding.map(|embedding| embedding.map(scaled)),
    };
    Ok(match event.action {
        "skip" => vec![],
        "twice" => vec![row.clone(), row],
        _ => vec![row],
    })
}
