//! Whole columns: what the conformance cases of columns run in every language.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order<'a> {
    /// Whose order it is.
    pub id: &'a str,
    /// Price of one piece.
    pub price: f64,
    /// Pieces, where they were counted.
    pub pieces: Option<i64>,
    /// What was shown at the till.
    pub coupon: Option<&'a str>,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    /// Price of all pieces.
    pub total: Option<f64>,
    /// Who and how.
    pub label: String,
    /// Pieces, and one more.
    pub next: Option<i64>,
}

/// Whole columns.
#[transform(columns, version = "1.0.0", entity = "id", stream = "orders")]
pub fn columns(orders: &OrderColumns) -> FeaturesColumns {
    FeaturesColumns {
        total: orders.price.values().iter().zip(orders.pieces.iter()).map(|(price, pieces)| Some(price * pieces? as f64)).collect(),
        label: orders
            .id
            .iter()
            .zip(orders.coupon.iter())
            .map(|(id, coupon)| [id.unwrap_or_default(), "/", coupon.unwrap_or("-")].concat())
            .collect(),
        next: orders.pieces.iter().map(|pieces| Some(pieces? + 1)).collect(),
    }
}
