//! A shadow where other hosts work on a part of the stream.

use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::partitions::wait_for_shares;
use serde_json::{Value, json};

use super::{COUNTED, Sent, Together, agree, put, send, times, wait_for_version};

#[test]
fn a_shadow_says_of_which_partitions_it_speaks_and_is_not_promoted_for_the_others() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    put(&first, "orders", &format!("stream=events&{COUNTED}"), &times(2));
    wait_for_version(&[&first, &second], "orders", 1);
    wait_for_shares(&[&first, &second], &[2.0, 2.0]);
    // The same in all it gives.
    let mut other = times(2);
    other.extend_from_slice(&[0, 3, 1, b'v', 1]);
    put(&first, "orders/shadow", "", &other);
    let mut sent = Sent::new();
    send(&second, 0..400, &mut sent);
    agree(&first, "orders", &sent);
    let report = |host: &Host| host.get("/v1/transforms/orders/shadow").unwrap();
    assert_eq!(report(&second).0, 404, "it is of the host that it was put to");
    let seen = wait_for("its own events to be compared", || {
        let (_, report) = report(&first);
        let here = report["partitions"]["here"].as_array().unwrap().clone();
        let of_here = sent.values().filter(|(partition, _)| here.contains(&json!(partition))).count();
        (here.len() == 2 && report["events"] == json!(of_here)).then_some(report)
    });
    let partitions = &seen["partitions"];
    let by_partition: u64 = partitions["events"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!((&partitions["count"], json!(by_partition)), (&json!(4), seen["events"].clone()), "{seen}");
    let unseen = partitions["unseen"].as_array().unwrap();
    assert!(unseen.len() == 2 && unseen.iter().all(|index| !partitions["here"].as_array().unwrap().contains(index)), "{seen}");
    let promote = |gates: &Value| first.post("/v1/transforms/orders/shadow/promote", &gates.to_string()).unwrap();
    for (gates, wanted) in [(json!({"differing_max": 0}), 4), (json!({"partitions_min": 3}), 3)] {
        let (status, answer) = promote(&gates);
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(status == 409 && said.contains("2 of 4 partitions") && said.contains(&format!("partitions_min is {wanted}")), "{answer}");
    }
    let (status, answer) = promote(&json!({"partitions_min": 2, "differing_max": 0}));
    assert_eq!(status, 200, "{answer}");
    wait_for_version(&[&first, &second], "orders", 2);
    [first, second].into_iter().for_each(Host::stop);
}
