//! A payment beside what the card usually pays: on a stream it keeps the amounts, for a request it judges one.

use gristmill_sdk::prelude::*;

/// A payment.
#[derive(Input)]
pub struct Payment<'a> {
    /// Who pays.
    pub card: &'a str,
    /// What is paid, in euros.
    pub amount: f64,
    /// Mean amount of the card's payments, where it is known.
    pub usual: Option<f64>,
    /// How many payments that is the mean of.
    #[field(default = "0")]
    pub payments: i64,
}

/// What is known about it.
#[derive(Debug, Output, PartialEq)]
pub struct Features {
    /// What is paid, in euros.
    pub amount: f64,
    /// How many times the usual amount that is.
    pub times_usual: Option<f64>,
    /// Whether somebody should have a look: five times the usual amount, once three payments say what that is.
    pub is_unusual: bool,
}

/// Beside the usual amount.
#[transform(version = "1.0.0", entity = "card", stream = "payments")]
pub fn payment(payment: Payment) -> Result<Features, Rejected> {
    if payment.amount.is_nan() || payment.amount <= 0.0 {
        return Err("the amount is not above zero".into());
    }
    let times_usual = payment.usual.map(|usual| payment.amount / usual);
    let is_unusual = payment.payments >= 3 && times_usual.is_some_and(|times| times >= 5.0);
    Ok(Features { amount: payment.amount, times_usual, is_unusual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_unusual_beside_others() {
        let judged = |amount, usual, payments| payment(Payment { card: "c", amount, usual, payments }).unwrap();
        assert!(judged(50.0, Some(10.0), 3).is_unusual);
        assert!(!judged(50.0, Some(10.0), 2).is_unusual);
        assert_eq!(judged(50.0, None, 0), Features { amount: 50.0, times_usual: None, is_unusual: false });
        payment(Payment { card: "c", amount: f64::NAN, usual: None, payments: 0 }).unwrap_err();
    }
}
