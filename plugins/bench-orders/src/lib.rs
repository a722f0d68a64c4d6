//! Measures the boundary: the same function runs natively (call [`BenchOrdersTransform`]) and as a component.

use gristmill_sdk::prelude::*;

/// An order.
#[derive(Input)]
pub struct Order<'a> {
    /// Whose order it is.
    pub id: &'a str,
    /// Price of one piece.
    pub price: f64,
    /// Pieces.
    pub qty: i64,
    /// Fee.
    pub fee: f64,
    /// When it was placed.
    pub ts: Timestamp,
    /// Where it goes.
    pub country: &'a str,
    /// Whether it is a gift.
    pub flag: bool,
}

/// Features of an order.
#[derive(Output)]
pub struct Features {
    /// Price of all pieces, and the fee.
    pub total: f64,
    /// Part of the total that is fee; null when the total is zero.
    pub fee_share: Option<f64>,
    /// Country in upper case.
    pub country: String,
    /// Hour of the order, UTC.
    pub hour: i64,
    /// Whether it is a gift of more than one piece.
    pub bulk_gift: bool,
}

/// Totals, shares and flags of orders, over whole columns.
#[transform(columns, entity = "id", event_time = "ts", stream = "orders")]
pub fn bench_orders(orders: &OrderColumns) -> FeaturesColumns {
    let (prices, quantities, fees) = (orders.price.values(), orders.qty.values(), orders.fee.values());
    let total: Vec<f64> = prices.iter().zip(quantities).zip(fees).map(|((price, quantity), fee)| price * *quantity as f64 + fee).collect();
    FeaturesColumns {
        fee_share: total.iter().zip(fees).map(|(total, fee)| (*total != 0.0).then_some(fee / total)).collect(),
        total: total.into(),
        country: orders.country.iter().map(|country| country.unwrap_or_default().to_ascii_uppercase()).collect(),
        hour: orders.ts.values().iter().map(|micros| Timestamp::from_micros(*micros).hour_utc()).collect(),
        bulk_gift: orders.flag.values().iter().zip(quantities).map(|(flag, quantity)| *flag != 0 && *quantity > 1).collect(),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn columns_in_give_columns_out() {
        let order = row! {
            "id" => "o1", "price" => 4.5, "qty" => 2, "fee" => 1.0, "ts" => Timestamp::default(), "country" => "nl", "flag" => true,
        };
        let free = row! {
            "id" => "o2", "price" => 0.0, "qty" => 1, "fee" => 0.0, "ts" => Timestamp::default(), "country" => "be", "flag" => true,
        };
        let outcome = testing::run::<BenchOrdersTransform>("", &[order, free]).unwrap();
        let expected = row! { "total" => 10.0, "fee_share" => 0.1, "country" => "NL", "hour" => 0, "bulk_gift" => true };
        assert_eq!(outcome.rows[0].values, expected);
        assert_eq!(outcome.rows[1].values["fee_share"], testing::Value::Null);
    }
}
