//! Whole columns: what the conformance cases of columns run in every language.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Debug, Input)]
pub struct Order<'a> {
    id: &'a str,
    price: f64,
    pieces: Option<i64>,
    coupon: Option<&'a str>,
}

/// Its features.
#[derive(Debug, Output)]
pub struct Features {
    total: Option<f64>,
    label: String,
    next: Option<i64>,
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
