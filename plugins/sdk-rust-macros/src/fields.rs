//! What both derives read from a struct.

use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Data, DeriveInput, Error, Expr, Fields, Ident, Lifetime, Lit, LitStr, Meta, Result, Type, TypeReference, Visibility};

pub(crate) struct FieldSpec {
    pub ident: Ident,
    pub vis: Visibility,
    /// The type with every lifetime `'static`, to name it where nothing is borrowed.
    pub static_type: Type,
    pub name: String,
    pub default: Option<LitStr>,
    pub doc: String,
}

pub(crate) fn read(item: &DeriveInput) -> Result<Vec<FieldSpec>> {
    if let Some(parameter) = item.generics.type_params().next() {
        return Err(Error::new_spanned(parameter, "a row has no type parameters: its columns are fixed"));
    }
    match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().map(read_field).collect(),
            Fields::Unnamed(_) | Fields::Unit => Err(Error::new_spanned(&item.ident, "a row is a struct with named fields")),
        },
        Data::Enum(_) | Data::Union(_) => Err(Error::new_spanned(&item.ident, "a row is a struct with named fields")),
    }
}

pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => text(&meta.value).map(|line| line.value().trim().to_owned()),
        Meta::NameValue(_) | Meta::Path(_) | Meta::List(_) => None,
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

pub(crate) fn text(value: &Expr) -> Option<&LitStr> {
    if let Expr::Lit(literal) = value
        && let Lit::Str(text) = &literal.lit
    {
        return Some(text);
    }
    None
}

fn read_field(field: &syn::Field) -> Result<FieldSpec> {
    let ident = field.ident.clone().ok_or_else(|| Error::new_spanned(field, "a row is a struct with named fields"))?;
    let mut name = ident.to_string().trim_start_matches("r#").to_owned();
    let mut default = None;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("field")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                name = meta.value()?.parse::<LitStr>()?.value();
            } else if meta.path.is_ident("default") {
                default = Some(meta.value()?.parse::<LitStr>()?);
            } else {
                return Err(meta.error("a field takes `name = \"..\"` and, in an input, `default = \"..\"`"));
            }
            Ok(())
        })?;
    }
    let static_type = with_lifetimes(&field.ty, "static");
    Ok(FieldSpec { ident, vis: field.vis.clone(), static_type, name, default, doc: doc(&field.attrs) })
}

/// The type with every lifetime replaced: by `static`, or by `_` where the compiler can infer it.
pub(crate) fn with_lifetimes(ty: &Type, lifetime: &'static str) -> Type {
    let mut ty = ty.clone();
    Lifetimes(lifetime).visit_type_mut(&mut ty);
    ty
}

struct Lifetimes(&'static str);

impl VisitMut for Lifetimes {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        lifetime.ident = Ident::new(self.0, lifetime.ident.span());
    }

    // `&str` has a lifetime too, one that nobody wrote.
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if reference.lifetime.is_none() {
            reference.lifetime = Some(Lifetime::new(&format!("'{}", self.0), reference.and_token.span));
        }
        visit_mut::visit_type_reference_mut(self, reference);
    }
}
