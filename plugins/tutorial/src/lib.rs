//! The tutorial's transform.

use gristmill_sdk::prelude::*;

/// An entry of the stream.
#[derive(Input)]
pub struct Reading<'a> {
    /// Whose reading it is.
    pub id: &'a str,
    /// What was read.
    pub value: f64,
}

/// What is computed from one reading.
#[derive(Debug, Output, PartialEq)]
pub struct Features {
    /// Twice the value.
    pub feature1: f64,
    /// The value and ten.
    pub feature2: f64,
}

/// Doubles a reading, and shifts it.
#[transform(entity = "id", stream = "mystream")]
pub fn tutorial(reading: Reading) -> Features {
    let Reading { id: _, value } = reading;
    Features { feature1: value * 2.0, feature2: value + 10.0 }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn a_reading_is_doubled_and_shifted() {
        assert_eq!(tutorial(Reading { id: "a", value: 2.5 }), Features { feature1: 5.0, feature2: 12.5 });
    }

    #[test]
    fn a_batch_gives_a_row_for_each_reading() {
        let events = [row! { "id" => "a", "value" => 1.0 }, row! { "id" => "b", "value" => -3.0 }];
        let outcome = testing::run::<TutorialTransform>("", &events).unwrap();
        assert_eq!(outcome.rows.len(), 2);
        assert_eq!(outcome.rows[1].values, row! { "feature1" => -6.0, "feature2" => 7.0 });
    }

    #[test]
    fn a_reading_without_a_value_never_reaches_the_transform() {
        testing::run::<TutorialTransform>("", &[row! { "id" => "a" }]).unwrap_err();
    }
}
