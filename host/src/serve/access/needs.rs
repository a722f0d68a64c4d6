use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::model::Scope;

/// What an operation needs of who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Needs {
    /// Nothing: it tells nobody anything.
    Nothing,
    /// A token with this scope, which reaches what the operation names.
    Scope(Scope, Names),
}

/// Where an operation names views and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Names {
    /// Nowhere.
    #[expect(dead_code, reason = "every operation of today names some; one that does not need not pretend to")]
    None,
    /// The first parameter of its path is a view or a transform.
    View,
    /// The first parameter of its path is a stream.
    Stream,
    /// Elsewhere: its handler checks each by the caller, and shows only those within reach.
    Handler,
    /// It shows all of them, so it is nothing for a token that is limited.
    All,
}

/// What stands in the path for the template's first parameter. None reaches a limited token's names if it is not UTF-8.
pub(super) fn parameter<'p>(template: &str, path: &'p str) -> Option<Cow<'p, str>> {
    let mut parts = template.split('/').zip(path.split('/'));
    let (_, given) = parts.find(|(part, _)| part.starts_with('{'))?;
    percent_decode_str(given).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_is_found_and_decoded() {
        let template = "/v1/streams/{stream}/events";
        assert_eq!(parameter(template, "/v1/streams/a%2Fb/events").as_deref(), Some("a/b"));
        assert_eq!(parameter(template, "/v1/streams/%FF/events"), None);
        assert_eq!(parameter("/v1/views", "/v1/views"), None);
    }
}
