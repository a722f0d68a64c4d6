//! Five whole columns, three of them text: what the bench of languages runs in each of them.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order<'a> {
    /// Whose order it is.
    pub customer: &'a str,
    /// Where it is sent.
    pub country: &'a str,
    /// Its price.
    pub price: f64,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    /// Who and where.
    pub label: String,
    /// Twice the price.
    pub total: f64,
}

/// Labels for orders.
#[transform(columns, entity = "customer", stream = "orders")]
pub fn text_columns(orders: &OrderColumns) -> FeaturesColumns {
    let (customer, country) = (orders.customer.iter(), orders.country.iter());
    FeaturesColumns {
        label: customer
            .zip(country)
            .map(|(customer, country)| [customer.unwrap_or_default(), "/", country.unwrap_or_default()].concat())
            .collect(),
        total: orders.price.values().iter().map(|price| price * 2.0).collect(),
    }
}
