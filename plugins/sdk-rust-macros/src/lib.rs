//! The macros of `gristmill-sdk`; use them through that crate, which documents them.

/// `quote!` whose variables are its own: a function of the author's may be called `columns` or `row`.
macro_rules! hygienic {
    ($($tokens:tt)*) => {
        quote::quote_spanned!(proc_macro2::Span::mixed_site() => $($tokens)*)
    };
}

mod aggregate;
mod fields;
mod fold;
mod input;
mod output;
mod transform;

use proc_macro::TokenStream;

/// Makes a struct a row that a transform reads, and `XColumns` beside it: its columns.
///
/// A field takes `#[field(name = "..", default = "..")]`; its doc comment becomes the spec's.
#[proc_macro_derive(Input, attributes(field))]
pub fn derive_input(item: TokenStream) -> TokenStream {
    expand(syn::parse(item).and_then(|item| input::derive(&item)))
}

/// Makes a struct a row that a transform returns, and `YColumns` beside it: the builders of its columns.
///
/// A field takes `#[field(name = "..")]`; its doc comment becomes the spec's.
#[proc_macro_derive(Output, attributes(field))]
pub fn derive_output(item: TokenStream) -> TokenStream {
    expand(syn::parse(item).and_then(|item| output::derive(&item)))
}

/// Makes a function the transform of its crate: `#[transform(entity = "id", event_time = "at", stream = "readings")]`.
///
/// `entity` and `stream` take one text or several (`["origin", "dest"]`); `name` and `version` replace the function's name and
/// the crate's version; `aggregate(n_1h = count(price, "1h"), median = quantile(price, 0.5, "7d"), latest = last_values(price, 5))` has the host
/// compute features over windows of the outputs; `columns` says that the function takes and returns whole columns.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(syn::parse(arguments).and_then(|arguments| transform::expand(&arguments, &syn::parse(item)?)))
}

/// Makes a function the stateful transform of its crate: `#[fold(entity = "id", stream = "readings")]` on
/// `fn name(state: &mut Option<S>, row: X) -> Y`. Takes what `transform` takes but `columns`.
///
/// What is done to the state for an event that is then refused is undone.
#[proc_macro_attribute]
pub fn fold(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(syn::parse(arguments).and_then(|arguments| fold::expand(&arguments, &syn::parse(item)?)))
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
