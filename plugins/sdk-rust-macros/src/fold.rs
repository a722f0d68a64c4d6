use proc_macro2::TokenStream;
use quote::format_ident;
use syn::{Error, GenericArgument, Ident, ItemFn, PathArguments, Result, Type};

use crate::fields;
use crate::transform::{Arguments, camel, meta, parameter_type, settings_code};

pub(crate) fn expand(arguments: &Arguments, function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    let ident = &signature.ident;
    if arguments.columns {
        return Err(Error::new_spanned(signature, "a fold goes from event to event; it does not work on columns"));
    }
    let mut parameters = signature.inputs.iter();
    let missing = || Error::new_spanned(signature, "a fold takes a state and a row: fn name(state: &mut Option<S>, row: X) -> Y");
    let state = state_type(parameter_type(parameters.next().ok_or_else(missing)?)?)?;
    let input = fields::with_lifetimes(parameter_type(parameters.next().ok_or_else(missing)?)?, "_");
    let settings = parameters.next().map(parameter_type).transpose()?;
    if let Some(fourth) = parameters.next() {
        return Err(Error::new_spanned(fourth, "a fold takes a state, a row, and settings; nothing more"));
    }
    let output = match &signature.output {
        syn::ReturnType::Type(_, ty) => fields::with_lifetimes(ty, "_"),
        syn::ReturnType::Default => return Err(Error::new_spanned(signature, "a fold returns a row")),
    };
    let meta = meta(arguments, function);
    let handle = format_ident!("{}Fold", camel(&ident.to_string()));
    let vis = &function.vis;
    let ((define, remember, borrow), call_settings) = settings_code(settings);
    let doc = format!("The stateful transform made from [`{ident}`](fn@{ident}), as the host sees it.");
    let row_columns = hygienic!(<#input as ::gristmill_sdk::Input>::Columns);
    let apply = apply(ident, &input, &output, state, &borrow, &call_settings);
    let export = export(arguments, &handle, state);
    Ok(hygienic! {
        #function

        #define

        #[doc = #doc]
        #[derive(Clone, Copy, Debug)]
        #vis struct #handle;

        impl ::gristmill_sdk::Fold for #handle {
            fn describe(settings: &str) -> ::std::result::Result<::gristmill_sdk::wire::Spec, ::std::string::String> {
                #remember
                Ok(#meta.spec(
                    <#row_columns as ::gristmill_sdk::InputColumns>::fields(),
                    <<<#output as ::gristmill_sdk::ReturnedRows>::Row as ::gristmill_sdk::Output>::Columns
                        as ::gristmill_sdk::OutputColumns>::fields(),
                ))
            }

            fn apply(
                input: ::gristmill_sdk::wire::Batch,
                groups: &[u32],
                states: ::gristmill_sdk::wire::Column,
            ) -> ::std::result::Result<::gristmill_sdk::wire::Folded, ::std::string::String> {
                #apply
            }
        }

        // A private function is used too, by the host, which the compiler cannot see.
        const _: #handle = #handle;

        #export
    })
}

// The exports of the world, with a migration where there is one.
fn export(arguments: &Arguments, handle: &Ident, state: &Type) -> TokenStream {
    match &arguments.migrate {
        None => hygienic! {
            #[cfg(target_arch = "wasm32")]
            ::gristmill_sdk::private::export_fold!(#handle with_types_in ::gristmill_sdk::fold_bindings);
        },
        Some(migrate) => hygienic! {
            impl ::gristmill_sdk::Migration for #handle {
                fn migrate(
                    from: &str,
                    states: ::gristmill_sdk::wire::Column,
                ) -> ::std::result::Result<::gristmill_sdk::wire::Column, ::std::string::String> {
                    ::gristmill_sdk::private::migrate::<#state>(from, states, #migrate)
                }
            }

            #[cfg(target_arch = "wasm32")]
            ::gristmill_sdk::private::export_fold!(#handle with_types_in ::gristmill_sdk::fold_bindings);
            #[cfg(target_arch = "wasm32")]
            ::gristmill_sdk::private::export_migrating!(#handle with_types_in ::gristmill_sdk::migration_bindings);
        },
    }
}

// Each entity's rows, one after the other, over its state.
fn apply(ident: &Ident, input: &Type, output: &Type, state: &Type, borrow: &TokenStream, call_settings: &TokenStream) -> TokenStream {
    hygienic! {
                let rows = input.rows;
                #borrow
                let columns = <<#input as ::gristmill_sdk::Input>::Columns as ::gristmill_sdk::InputColumns>::read(input)?;
                let mut states = ::gristmill_sdk::private::States::new(groups, states)?;
                let mut sink = ::gristmill_sdk::Sink::with_capacity(rows);
                for group in 0..states.len() {
                    let mut state: ::std::option::Option<#state> = states.load(group)?;
                    for row in states.rows(group) {
                        let value = <#input as ::gristmill_sdk::Input>::row(&columns, row as usize);
                        let before = if <#output as ::gristmill_sdk::ReturnedRows>::REFUSES {
                            ::std::clone::Clone::clone(&state)
                        } else {
                            ::std::option::Option::None
                        };
                        if !::gristmill_sdk::ReturnedRows::emit(#ident(&mut state, value #call_settings), row, &mut sink) {
                            state = before;
                        }
                    }
                    states.keep(state.as_ref())?;
                }
                Ok(states.finish(sink.finish(rows)))
    }
}

// The `S` of `Option<S>`.
fn state_type(parameter: &Type) -> Result<&Type> {
    let wrong = || Error::new_spanned(parameter, "the state is an option, none at first: state: &mut Option<S>");
    let Type::Path(path) = parameter else { return Err(wrong()) };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Option").ok_or_else(wrong)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Err(wrong()) };
    match arguments.args.first() {
        Some(GenericArgument::Type(state)) => Ok(state),
        _ => Err(wrong()),
    }
}
