//! Streams that hosts do not all know.

use gristmill_tests::host::{Host, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{COUNTED, Together, put, send, times, transform, wait_for_values, wait_for_version};

#[test]
fn a_stream_that_nobody_declares_is_refused_where_hosts_share_the_book() {
    let mut together = Together::new();
    let (first, second) = (together.start(), together.start());
    let refused = |query: &str, words: &str| {
        let (status, answer) = first.put(&format!("/v1/transforms/lost?{query}"), &times(2)).unwrap();
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!((400..500).contains(&status) && message.contains(words), "{status}: {message}");
        message
    };
    let message = refused("stream=elsewhere", "[streams.elsewhere]");
    assert!(message.contains("on all of them") && message.contains("(events)"), "{message}");
    refused("stream=events&emit=elsewhere", "[streams.elsewhere]");
    assert_eq!(first.get("/v1/transforms/lost").unwrap().0, 404);
    // One that stands in the book all the same, because it was put there before that was refused.
    put(&first, "moved", &format!("stream=events&{COUNTED}"), &times(2));
    put(&first, "stays", &format!("stream=events&{COUNTED}"), &times(2));
    ["moved", "stays"].iter().for_each(|name| wait_for_version(&[&first, &second], name, 1));
    let mut sent = super::Sent::new();
    send(&first, 0..100, &mut sent);
    ["moved:n", "stays:n"].iter().for_each(|feature| wait_for_values(&second, feature, 0..100, |_| 1));
    let book = together.server.run::<Vec<String>>(&["KEYS", "gristmill:{book}:of:*"]).concat();
    let versions: String = together.server.run(&["HGET", &book, "versions moved"]);
    let _: i64 = together.server.run(&["HSET", &book, "versions moved", &versions.replace("\"events\"", "\"elsewhere\"")]);
    let _: i64 = together.server.run(&["HINCRBY", &book, "revision", "1"]);
    let says_so = |host: &Host| {
        wait_for("the refusal to be told", || {
            let (status, ready) = host.get("/readyz").unwrap();
            let reason = transform(host, "moved").to_string();
            (status == 503 && reason.contains("[streams.elsewhere]") && ready.to_string().contains("transform moved")).then_some(())
        });
    };
    says_so(&first);
    says_so(&second);
    // It reads nothing any more, and the others go on.
    send(&second, 0..100, &mut sent);
    wait_for_values(&first, "stays:n", 0..100, |_| 2);
    wait_for_values(&first, "moved:n", 0..100, |_| 1);
    second.stop();
    let second = Host::start(together.folders[1].path(), &together.config).unwrap();
    says_so(&second);
    assert!(together.log(1).contains("[streams.elsewhere]"));
    send(&second, 0..100, &mut sent);
    wait_for_values(&first, "stays:n", 0..100, |_| 3);
    let streams: Value = second.get("/v1/streams").unwrap().1;
    assert!(!streams.to_string().contains("elsewhere"), "{streams}");
    // What it says is what helps.
    assert_eq!(second.send("DELETE", "/v1/transforms/moved", None).unwrap().status, 204);
    for host in [&first, &second] {
        wait_for("it to be gone", || (host.get("/readyz").unwrap().0 == 200).then_some(()));
    }
    assert_eq!(first.get("/v1/transforms/moved").unwrap().1["error"]["code"], json!("not_found"));
    [first, second].into_iter().for_each(Host::stop);
}

#[test]
fn a_host_that_reads_with_another_group_works_on_nothing_beside_the_others() {
    let mut together = Together::new();
    let first = together.start();
    put(&first, "orders", &format!("stream=events&{COUNTED}"), &times(2));
    let mut sent = super::Sent::new();
    send(&first, 0..200, &mut sent);
    wait_for_values(&first, "orders:n", 0..200, |_| 1);
    let config = together.config.replace("group = \"group\"", "group = \"another\"");
    let other = together.start_with(&config);
    let (status, ready) = other.get("/readyz").unwrap();
    let reason = ready.to_string();
    assert!(status == 503 && reason.contains("stream `events` with group") && reason.contains("configure all hosts alike"), "{ready}");
    // Nor does it when something is put to it, and whoever does is told why.
    let (status, answer) = other.put("/v1/transforms/more?stream=events", &times(3)).unwrap();
    assert!((400..500).contains(&status) && answer.to_string().contains("configure all hosts alike"), "{status} {answer}");
    send(&other, 0..200, &mut sent);
    wait_for_values(&first, "orders:n", 0..200, |_| 2);
    assert_eq!((first.get("/readyz").unwrap().0, other.metric("gristmill_entries_settled_total")), (200, 0.0));
    assert_eq!(together.server.run::<i64>(&["EXISTS", "gristmill:place:{events:0}events/another/0"]), 0, "it has taken up nothing");
    // It begins when it is alone.
    first.kill();
    let alike: String = together.server.run::<Vec<String>>(&["KEYS", "gristmill:{book}:alike:*"]).concat();
    let _: i64 = together.server.run(&["PEXPIRE", &alike, "1"]);
    wait_for("it to be ready", || (other.get("/readyz").unwrap().0 == 200).then_some(()));
    other.stop();
    // A host that is configured anew waits until what it has said itself counts no longer, and puts what it declares into force then.
    let _: i64 = together.server.run(&["PEXPIRE", &alike, "2000"]);
    let declaring = format!("{}\n[transforms.declared]\ncomponent = \"declared.wasm\"\nstream = \"events\"\n", together.config);
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("declared.wasm"), times(3)).unwrap();
    let again = Host::start(folder.path(), &declaring).unwrap();
    assert_eq!(again.get("/v1/transforms/declared").unwrap().1["number"], 1);
    wait_for("it to be ready again", || (again.get("/readyz").unwrap().0 == 200).then_some(()));
    again.stop();
}
