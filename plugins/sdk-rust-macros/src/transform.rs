use proc_macro2::TokenStream;
use quote::format_ident;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, FnArg, Ident, ItemFn, LitStr, Result, Token, Type, bracketed, token};

use crate::aggregate::Aggregation;
use crate::fields;

#[derive(Default)]
pub(crate) struct Arguments {
    name: Option<LitStr>,
    version: Option<LitStr>,
    entity: Vec<LitStr>,
    event_time: Option<LitStr>,
    streams: Vec<LitStr>,
    pub(crate) columns: bool,
    pub(crate) migrate: Option<syn::Path>,
    aggregations: Vec<Aggregation>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if key == "columns" {
                arguments.columns = true;
            } else if key == "aggregate" {
                arguments.aggregations = Aggregation::all(input)?;
            } else {
                input.parse::<Token![=]>()?;
                match key.to_string().as_str() {
                    "name" => arguments.name = Some(input.parse()?),
                    "version" => arguments.version = Some(input.parse()?),
                    "migrate" => arguments.migrate = Some(input.parse()?),
                    "event_time" => arguments.event_time = Some(input.parse()?),
                    "entity" => arguments.entity = texts(input)?,
                    "stream" | "streams" => arguments.streams = texts(input)?,
                    _ => {
                        let known = "`transform` takes entity, event_time, stream, name, version, aggregate and columns; `fold` takes migrate instead of columns";
                        return Err(Error::new(key.span(), known));
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if arguments.entity.is_empty() {
            return Err(input.error("say whose features these are: entity = \"field\""));
        }
        Ok(arguments)
    }
}

pub(crate) fn expand(arguments: &Arguments, function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    let ident = &signature.ident;
    if let Some(migrate) = &arguments.migrate {
        return Err(Error::new_spanned(migrate, "a transform keeps no state, so there is nothing to migrate; make it a fold"));
    }
    let mut parameters = signature.inputs.iter();
    let input = parameters.next().ok_or_else(|| Error::new_spanned(signature, "a transform takes a row, or columns"))?;
    let settings = parameters.next().map(parameter_type).transpose()?;
    if let Some(third) = parameters.next() {
        return Err(Error::new_spanned(third, "a transform takes a row or columns, and settings; nothing more"));
    }
    let input = fields::with_lifetimes(parameter_type(input)?, "_");
    let output = match &signature.output {
        syn::ReturnType::Type(_, ty) => fields::with_lifetimes(ty, "_"),
        syn::ReturnType::Default => return Err(Error::new_spanned(signature, "a transform returns a row, or columns")),
    };
    let meta = meta(arguments, function);
    let handle = format_ident!("{}Transform", camel(&ident.to_string()));
    let vis = &function.vis;
    let (load, call_settings) = settings_code(settings);
    let (inputs, outputs, apply) = bodies(arguments.columns, ident, &input, &output, &call_settings);
    let (define, remember, borrow) = load;
    let doc = format!("The transform made from [`{ident}`](fn@{ident}), as the host sees it.");
    Ok(hygienic! {
        #function

        #define

        #[doc = #doc]
        #[derive(Clone, Copy, Debug)]
        #vis struct #handle;

        impl ::gristmill_sdk::Transform for #handle {
            fn describe(settings: &str) -> ::std::result::Result<::gristmill_sdk::wire::Spec, ::std::string::String> {
                #remember
                Ok(#meta.spec(#inputs, #outputs))
            }

            fn apply(
                input: ::gristmill_sdk::wire::Batch,
            ) -> ::std::result::Result<::gristmill_sdk::wire::Output, ::std::string::String> {
                let rows = input.rows;
                #borrow
                #apply
            }
        }

        // A private function is used too, by the host, which the compiler cannot see.
        const _: #handle = #handle;
        const _: fn(::gristmill_sdk::wire::Batch) -> ::std::result::Result<::gristmill_sdk::wire::Output, ::std::string::String> =
            <#handle as ::gristmill_sdk::Transform>::apply;

        #[cfg(target_arch = "wasm32")]
        ::gristmill_sdk::private::export!(#handle with_types_in ::gristmill_sdk::bindings);
    })
}

// How the inputs and the outputs are declared, and how a batch is computed: by columns or row by row.
fn bodies(
    columns: bool,
    ident: &Ident,
    input: &Type,
    output: &Type,
    call_settings: &TokenStream,
) -> (TokenStream, TokenStream, TokenStream) {
    if columns {
        (
            hygienic!(<#input as ::gristmill_sdk::InputColumns>::fields()),
            hygienic!(<<#output as ::gristmill_sdk::ReturnedColumns>::Columns as ::gristmill_sdk::OutputColumns>::fields()),
            hygienic! {
                let columns = <#input as ::gristmill_sdk::InputColumns>::read(input)?;
                ::gristmill_sdk::ReturnedColumns::finish_batch(#ident(&columns #call_settings), rows)
            },
        )
    } else {
        let row_columns = hygienic!(<#input as ::gristmill_sdk::Input>::Columns);
        (
            hygienic!(<#row_columns as ::gristmill_sdk::InputColumns>::fields()),
            hygienic! {
                <<<#output as ::gristmill_sdk::ReturnedRows>::Row as ::gristmill_sdk::Output>::Columns
                    as ::gristmill_sdk::OutputColumns>::fields()
            },
            hygienic! {
                let columns = <#row_columns as ::gristmill_sdk::InputColumns>::read(input)?;
                let mut sink = ::gristmill_sdk::Sink::with_capacity(rows);
                for row in 0..rows {
                    let value = <#input as ::gristmill_sdk::Input>::row(&columns, row as usize);
                    ::gristmill_sdk::ReturnedRows::emit(#ident(value #call_settings), row, &mut sink);
                }
                Ok(sink.finish(rows))
            },
        )
    }
}

// Settings are read once, by `describe`, and kept for the thread: an instance has one, and tests do not disturb each other.
pub(crate) fn settings_code(settings: Option<&Type>) -> ((TokenStream, TokenStream, TokenStream), TokenStream) {
    let Some(settings) = settings else {
        return ((hygienic!(), hygienic!(::gristmill_sdk::settings::none(settings)?;), hygienic!()), hygienic!());
    };
    let define = hygienic! {
        ::std::thread_local! {
            static TRANSFORM_SETTINGS: ::std::cell::RefCell<::std::rc::Rc<#settings>> = ::std::cell::RefCell::default();
        }
    };
    let remember = hygienic! {
        let settings = ::std::rc::Rc::new(::gristmill_sdk::settings::parse::<#settings>(settings)?);
        TRANSFORM_SETTINGS.with(|kept| *kept.borrow_mut() = settings);
    };
    let borrow = hygienic!(let settings = TRANSFORM_SETTINGS.with(|kept| ::std::rc::Rc::clone(&kept.borrow())););
    ((define, remember, borrow), hygienic!(, &settings))
}

pub(crate) fn meta(arguments: &Arguments, function: &ItemFn) -> TokenStream {
    let name = arguments.name.as_ref().map_or_else(|| function.sig.ident.to_string(), LitStr::value);
    let version = arguments.version.as_ref().map_or_else(|| hygienic!(env!("CARGO_PKG_VERSION")), |version| hygienic!(#version));
    let doc = fields::doc(&function.attrs);
    let windows = arguments.aggregations.iter().map(Aggregation::tokens);
    let (streams, entity) = (&arguments.streams, &arguments.entity);
    let event_time = arguments.event_time.as_ref().map_or_else(|| hygienic!(None), |field| hygienic!(Some(#field)));
    hygienic! {
        ::gristmill_sdk::Meta {
            name: #name,
            version: #version,
            doc: #doc,
            streams: &[#(#streams),*],
            entity: &[#(#entity),*],
            event_time: #event_time,
            windows: &[#(#windows),*],
        }
    }
}

pub(crate) fn parameter_type(parameter: &FnArg) -> Result<&Type> {
    match parameter {
        FnArg::Typed(typed) => {
            if let Type::Reference(reference) = &*typed.ty {
                return Ok(&reference.elem);
            }
            Ok(&typed.ty)
        }
        FnArg::Receiver(receiver) => Err(Error::new_spanned(receiver, "a transform is a free function")),
    }
}

fn texts(input: ParseStream) -> Result<Vec<LitStr>> {
    if !input.peek(token::Bracket) {
        return Ok(vec![input.parse()?]);
    }
    let list;
    bracketed!(list in input);
    let items = Punctuated::<Expr, Token![,]>::parse_terminated(&list)?;
    let text = |item: &Expr| fields::text(item).cloned().ok_or_else(|| Error::new_spanned(item, "a text is wanted here"));
    items.iter().map(text).collect()
}

pub(crate) fn camel(name: &str) -> String {
    let capital = |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>();
    name.split('_').map(capital).collect()
}
