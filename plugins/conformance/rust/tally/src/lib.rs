//! Counts and sums: what the conformance cases of state run in every language.

use gristmill_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct Tally {
    seen: i64,
    total: f64,
}

#[derive(Input)]
struct Event<'a> {
    id: &'a str,
    #[field(default = "")]
    action: &'a str,
    amount: Option<f64>,
}

#[derive(Output)]
struct Features {
    seen: i64,
    total: f64,
}

/// Counts and sums the events of an entity.
#[fold(entity = "id", stream = "tally")]
fn tally(state: &mut Option<Tally>, event: Event) -> Result<Option<Features>, Rejected> {
    let tally = state.get_or_insert_default();
    tally.seen += 1;
    tally.total += event.amount.unwrap_or_default();
    let features = Features { seen: tally.seen, total: tally.total };
    match event.action {
        // Refusing undoes what was done to the state.
        "reject" => Err(format!("{} asks for it", event.id).into()),
        "reset" => {
            *state = None;
            Ok(None)
        }
        _ => Ok(Some(features)),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_sdk::{row, testing};

    use super::*;

    #[test]
    fn a_state_goes_from_batch_to_batch() {
        let mut states = testing::States::default();
        let first =
            [row! { "id" => "a", "amount" => 1.5 }, row! { "id" => "b" }, row! { "id" => "a", "action" => "reject", "amount" => 9.0 }];
        let outcome = testing::run_fold::<TallyFold>("", &first, &mut states).unwrap();
        assert_eq!(outcome.rejected, [(2, "a asks for it".to_owned())]);
        let second = [row! { "id" => "b", "action" => "reset" }, row! { "id" => "a", "amount" => 2.0 }];
        let outcome = testing::run_fold::<TallyFold>("", &second, &mut states).unwrap();
        assert_eq!(outcome.rows.len(), 1);
        assert_eq!((outcome.rows[0].origin, &outcome.rows[0].values), (1, &row! { "seen" => 2_i64, "total" => 3.5 }));
        assert_eq!(states.len(), 1, "the state of b has ended");
    }
}
