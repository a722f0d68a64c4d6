use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitFloat, LitInt, LitStr, Result, Token, parenthesized};

/// `name = function(column, …)` in `aggregate(…)`: a number where the function takes one, and the window as text; without one, since the first event.
pub(crate) struct Aggregation {
    feature: Ident,
    function: TokenStream,
    column: Ident,
    window_ms: Option<u64>,
}

impl Parse for Aggregation {
    fn parse(input: ParseStream) -> Result<Self> {
        let feature: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        let name: Ident = input.parse()?;
        let arguments;
        parenthesized!(arguments in input);
        let column: Ident = arguments.parse()?;
        let function = function(&name, &arguments)?;
        let mut window_ms = None;
        if !arguments.is_empty() {
            arguments.parse::<Token![,]>()?;
            let window: LitStr = arguments.parse()?;
            window_ms = Some(milliseconds(&window)?);
        }
        Ok(Self { feature, function, column, window_ms })
    }
}

impl Aggregation {
    pub(crate) fn all(input: ParseStream) -> Result<Vec<Self>> {
        let list;
        parenthesized!(list in input);
        Ok(Punctuated::<Self, Token![,]>::parse_terminated(&list)?.into_iter().collect())
    }

    pub(crate) fn tokens(&self) -> TokenStream {
        let (feature, column, function) = (self.feature.to_string(), self.column.to_string(), &self.function);
        let window_ms = self.window_ms.map_or_else(|| hygienic!(None), |window| hygienic!(Some(#window)));
        hygienic! {
            ::gristmill_sdk::Windowed {
                feature: #feature,
                column: #column,
                function: ::gristmill_sdk::wire::Aggregate::#function,
                window_ms: #window_ms,
            }
        }
    }
}

fn function(name: &Ident, arguments: ParseStream) -> Result<TokenStream> {
    let number = || {
        arguments.parse::<Token![,]>()?;
        arguments.parse::<LitInt>()?.base10_parse::<u32>()
    };
    Ok(match name.to_string().as_str() {
        "count" => hygienic!(Count),
        "sum" => hygienic!(Sum),
        "mean" => hygienic!(Mean),
        "min" => hygienic!(Min),
        "max" => hygienic!(Max),
        "variance" => hygienic!(Variance),
        "first" => hygienic!(First),
        "last" => hygienic!(Last),
        "distinct" => hygienic!(Distinct),
        "quantile" => {
            arguments.parse::<Token![,]>()?;
            let rank: f64 = arguments.parse::<LitFloat>()?.base10_parse()?;
            hygienic!(Quantile(#rank))
        }
        "last_values" => {
            let many = number()?;
            hygienic!(LastValues(#many))
        }
        "top" => {
            let many = number()?;
            hygienic!(Top(#many))
        }
        _ => {
            let known = "count, sum, mean, min, max, variance, first, last, distinct, quantile, last_values and top";
            return Err(Error::new(name.span(), format!("there is no function `{name}`; there are {known}")));
        }
    })
}

/// `"90s"`, `"5m"`, `"24h"`, `"30d"`.
fn milliseconds(window: &LitStr) -> Result<u64> {
    let text = window.value();
    let wrong = || Error::new(window.span(), "a window is a number and s, m, h or d, as in \"24h\"");
    let unit = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = text.get(..text.len() - 1).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(unit).ok_or_else(wrong)
}
