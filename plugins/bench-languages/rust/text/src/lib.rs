//! Five columns, three of them text, row by row: what the bench of languages runs in each of them.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order<'a> {
    customer: &'a str,
    country: &'a str,
    price: f64,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    label: String,
    total: f64,
}

/// A label for an order.
#[transform(entity = "customer", stream = "orders")]
pub fn text(order: Order) -> Features {
    let Order { customer, country, price } = order;
    let mut label = String::with_capacity(customer.len() + country.len() + 1);
    label.push_str(customer);
    label.push('/');
    label.push_str(country);
    Features { label, total: price * 2.0 }
}
