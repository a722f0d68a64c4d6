//! Features of an order.

use gristmill_sdk::prelude::*;

#[derive(Input)]
struct Order<'a> {
    #[expect(dead_code, reason = "hosts know the entity by it")]
    customer: &'a str,
    price: f64,
    quantity: i64,
    coupon: Option<&'a str>,
}

#[derive(Debug, Output, PartialEq)]
struct Features {
    /// Price of all pieces.
    total: f64,
    /// Whether a coupon was used.
    discounted: bool,
}

/// The latest order of a customer.
#[transform(entity = "customer", stream = "orders", name = "NAME")]
fn order(order: Order) -> Result<Features, Rejected> {
    let Order { price, quantity, coupon, .. } = order;
    if quantity < 1 {
        return Err(format!("quantity is {quantity}; at least 1 is right").into());
    }
    Ok(Features { total: price * quantity as f64, discounted: coupon.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_the_price_of_all_pieces() {
        let features = order(Order { customer: "ann", price: 12.5, quantity: 2, coupon: None });
        assert_eq!(features, Ok(Features { total: 25.0, discounted: false }));
    }

    #[test]
    fn an_order_of_nothing_is_refused() {
        order(Order { customer: "eve", price: 1.0, quantity: 0, coupon: None }).unwrap_err();
    }
}
