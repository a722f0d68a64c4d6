use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Result};

use crate::fields;

pub(crate) fn derive(item: &DeriveInput) -> Result<TokenStream> {
    let fields = fields::read(item)?;
    let (row, vis) = (&item.ident, &item.vis);
    let columns = format_ident!("{row}Columns");
    let lifetimes = item.generics.lifetimes().count();
    if lifetimes > 1 {
        return Err(Error::new_spanned(&item.generics, "a row has at most one lifetime, that of the batch"));
    }
    let any = (lifetimes == 1).then(|| quote!(<'_>));
    let borrowed = (lifetimes == 1).then(|| quote!(<'r>));
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let visibilities = fields.iter().map(|field| &field.vis);
    let names: Vec<_> = fields.iter().map(|field| &field.name).collect();
    // Spanned at the field's type, so that the compiler points there when the type is not one of the contract.
    let column_types: Vec<_> = fields
        .iter()
        .map(|field| {
            let ty = &field.static_type;
            quote_spanned!(ty.span()=> <#ty as ::gristmill_sdk::InputValue<'static>>::Column)
        })
        .collect();
    let specs = fields.iter().zip(&column_types).map(|(field, column)| {
        let (ty, name, doc) = (&field.static_type, &field.name, &field.doc);
        let default = field.default.as_ref().map_or_else(|| quote!(None), |text| quote!(Some(#text)));
        quote! {
            ::gristmill_sdk::private::field(
                #name,
                <#column as ::gristmill_sdk::private::ReadColumn>::KIND,
                <#ty as ::gristmill_sdk::InputValue<'static>>::NULLABLE,
                <#column as ::gristmill_sdk::private::ReadColumn>::WIDTH,
                #default,
                #doc,
            )
        }
    });
    let doc = format!("The columns of [`{row}`].");
    let column_docs = names.iter().map(|name| format!("The column `{name}`."));
    Ok(quote! {
        #[doc = #doc]
        #[derive(Debug)]
        #[allow(dead_code)]
        #vis struct #columns {
            #(#[doc = #column_docs] #visibilities #idents: #column_types,)*
        }

        impl ::gristmill_sdk::InputColumns for #columns {
            fn fields() -> ::std::vec::Vec<::gristmill_sdk::wire::Field> {
                ::std::vec![#(#specs),*]
            }

            fn read(batch: ::gristmill_sdk::wire::Batch) -> ::std::result::Result<Self, ::std::string::String> {
                let mut columns = batch.columns.into_iter();
                Ok(Self { #(#idents: ::gristmill_sdk::private::next_column(&mut columns, #names)?,)* })
            }
        }

        impl ::gristmill_sdk::Input for #row #any {
            type Columns = #columns;
            type Row<'r> = #row #borrowed;

            #[inline]
            fn row(columns: &#columns, row: usize) -> Self::Row<'_> {
                #row { #(#idents: ::gristmill_sdk::InputValue::at(&columns.#idents, row),)* }
            }
        }
    })
}
