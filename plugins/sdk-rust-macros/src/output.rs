use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Result};

use crate::fields;

pub(crate) fn derive(item: &DeriveInput) -> Result<TokenStream> {
    let fields = fields::read(item)?;
    if let Some(default) = fields.iter().find_map(|field| field.default.as_ref()) {
        return Err(Error::new_spanned(default, "only an input field has a default; return the value instead"));
    }
    let (row, vis) = (&item.ident, &item.vis);
    let columns = format_ident!("{row}Columns");
    let (generics, arguments, bounds) = item.generics.split_for_impl();
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let visibilities = fields.iter().map(|field| &field.vis);
    let names: Vec<_> = fields.iter().map(|field| &field.name).collect();
    let builders: Vec<_> = fields
        .iter()
        .map(|field| {
            let ty = &field.static_type;
            quote_spanned!(ty.span()=> <#ty as ::gristmill_sdk::OutputValue>::Builder)
        })
        .collect();
    let specs = fields.iter().zip(&builders).map(|(field, builder)| {
        let (ty, name, doc) = (&field.static_type, &field.name, &field.doc);
        quote! {
            ::gristmill_sdk::private::field(
                #name,
                <#builder as ::gristmill_sdk::private::BuildColumn>::KIND,
                <#ty as ::gristmill_sdk::OutputValue>::NULLABLE,
                <#builder as ::gristmill_sdk::private::BuildColumn>::WIDTH,
                None,
                #doc,
            )
        }
    });
    let doc = format!("The columns of [`{row}`], under construction.");
    let column_docs = names.iter().map(|name| format!("The column `{name}`."));
    Ok(quote! {
        #[doc = #doc]
        #[derive(Debug)]
        #vis struct #columns {
            #(#[doc = #column_docs] #visibilities #idents: #builders,)*
        }

        impl ::gristmill_sdk::OutputColumns for #columns {
            fn fields() -> ::std::vec::Vec<::gristmill_sdk::wire::Field> {
                ::std::vec![#(#specs),*]
            }

            fn with_capacity(rows: usize) -> Self {
                Self { #(#idents: ::gristmill_sdk::private::BuildColumn::with_capacity(rows),)* }
            }

            fn check_rows(&self, rows: usize) -> ::std::result::Result<(), ::std::string::String> {
                #(::gristmill_sdk::private::check_len(&self.#idents, #names, rows)?;)*
                Ok(())
            }

            fn finish(self) -> ::std::vec::Vec<::gristmill_sdk::wire::Column> {
                ::std::vec![#(::gristmill_sdk::private::BuildColumn::finish(self.#idents)),*]
            }
        }

        impl #generics ::gristmill_sdk::Output for #row #arguments #bounds {
            type Columns = #columns;

            #[inline]
            fn push(self, columns: &mut #columns) {
                #(::gristmill_sdk::OutputValue::push_to(self.#idents, &mut columns.#idents);)*
            }
        }
    })
}
