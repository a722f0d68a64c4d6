//! Features of a customer's basket.

use gristmill_sdk::prelude::*;

/// Something is put into a basket.
#[derive(Input)]
struct Addition<'a> {
    customer: &'a str,
    price: f64,
    #[field(default = "1")]
    quantity: i64,
    at: Timestamp,
}

#[derive(Debug, Output, PartialEq)]
struct Basket {
    /// Price of all pieces.
    amount: f64,
    /// Whether the amount is 100 or more.
    large: bool,
    /// Hour of the addition, UTC.
    hour_utc: i64,
}

/// The latest addition to a customer's basket.
#[transform(entity = "customer", event_time = "at", stream = "baskets")]
fn basket(addition: Addition) -> Result<Basket, Rejected> {
    if addition.quantity <= 0 {
        log::warn("an addition without pieces");
        return Err(format!("customer {} added {} pieces, at least 1 is wanted", addition.customer, addition.quantity).into());
    }
    let amount = addition.price * addition.quantity as f64;
    Ok(Basket { amount, large: amount >= 100.0, hour_utc: addition.at.hour_utc() })
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn an_amount_is_price_times_quantity() {
        let addition = Addition { customer: "c1", price: 60.0, quantity: 2, at: Timestamp::default() };
        assert_eq!(basket(addition), Ok(Basket { amount: 120.0, large: true, hour_utc: 0 }));
    }

    #[test]
    fn a_bad_addition_is_refused_and_its_neighbour_is_not() {
        let at = Timestamp::default();
        let events = [
            row! { "customer" => "c1", "price" => 5.0, "quantity" => 0, "at" => at },
            row! { "customer" => "c2", "price" => 5.0, "at" => at },
        ];
        let outcome = testing::run::<BasketTransform>("", &events).unwrap();
        assert_eq!(outcome.rejected[0].0, 0);
        assert_eq!((outcome.rows[0].origin, &outcome.rows[0].values["amount"]), (1, &5.0.into()));
        assert_eq!(testing::logged().len(), 1);
    }
}
