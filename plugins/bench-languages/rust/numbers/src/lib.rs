//! Five columns of numbers, row by row: what the bench of languages runs in each of them.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order {
    customer: i64,
    price: f64,
    quantity: i64,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    total: f64,
    pieces: i64,
}

/// The total of an order.
#[transform(entity = "customer", stream = "orders")]
pub fn numbers(order: Order) -> Features {
    let _ = order.customer;
    Features { total: order.price * order.quantity as f64, pieces: order.quantity + 1 }
}
