//! Five whole columns of numbers: what the bench of languages runs in each of them.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order {
    /// Whose order it is.
    pub customer: i64,
    /// Price of one piece.
    pub price: f64,
    /// Pieces.
    pub quantity: i64,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    /// Price of all pieces.
    pub total: f64,
    /// Pieces, and one more.
    pub pieces: i64,
}

/// The totals of orders.
#[transform(columns, entity = "customer", stream = "orders")]
pub fn numbers_columns(orders: &OrderColumns) -> FeaturesColumns {
    let (price, quantity) = (orders.price.values(), orders.quantity.values());
    FeaturesColumns {
        total: price.iter().zip(quantity).map(|(price, quantity)| price * *quantity as f64).collect(),
        pieces: quantity.iter().map(|quantity| quantity + 1).collect(),
    }
}
