//! Settings that the host's configuration gives to a transform: a second parameter `settings: &S`, where `S` implements
//! `Default` and `serde::Deserialize`. Needs the SDK's cargo feature `settings`.

/// Reads settings from the host's JSON text; empty text means the default.
///
/// # Errors
/// When the text is not JSON of that shape.
#[cfg(feature = "settings")]
pub fn parse<S: Default + serde::de::DeserializeOwned>(text: &str) -> Result<S, String> {
    if text.trim().is_empty() {
        return Ok(S::default());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let settings = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let at = match error.path().to_string() {
            whole if whole == "." => String::new(),
            path => format!("`{path}`: "),
        };
        format!("cannot read the settings of the transform: {at}{}", error.inner())
    })?;
    json.end().map_err(|error| format!("cannot read the settings of the transform: {error}"))?;
    Ok(settings)
}

/// Stands in for the reader of settings while the cargo feature `settings` is off: nothing can be read.
///
/// # Errors
/// Never called: no type satisfies the bound.
#[cfg(not(feature = "settings"))]
pub fn parse<S: FeatureSettings>(_text: &str) -> Result<S, String> {
    Ok(S::default())
}

/// Implemented by nothing: asks for the cargo feature `settings`.
#[cfg(not(feature = "settings"))]
#[diagnostic::on_unimplemented(message = "a transform with settings needs `gristmill-sdk` with `features = [\"settings\"]`")]
pub trait FeatureSettings: Default {}

/// Refuses settings that are given to a transform that takes none; they would have no effect.
///
/// # Errors
/// When there are any.
#[doc(hidden)]
pub fn none(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Ok(()) } else { Err("this transform takes no settings".to_owned()) }
}
