//! Versions: what was accepted is kept, what was in force is in force again after a restart.

use std::collections::BTreeSet;
use std::path::Path;

use gristmill_tests::host::{Host, wait_for};
use serde_json::{Value, json};

/// The tutorial with a section that means nothing: another version that does the same.
fn version(number: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/prebuilt/tutorial.wasm")).unwrap();
    bytes.extend_from_slice(&[0, 3, 1, b'v', number]);
    bytes
}

fn config(more: &str) -> String {
    format!("[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n{more}")
}

fn push(host: &Host, component: &[u8]) -> Value {
    let (status, pushed) = host.put("/v1/transforms/tutorial", component).unwrap();
    assert_eq!(status, 200, "{pushed}");
    pushed
}

fn versions(host: &Host) -> Value {
    let (status, versions) = host.get("/v1/transforms/tutorial/versions").unwrap();
    assert_eq!(status, 200, "{versions}");
    versions
}

/// Number and component in force.
fn in_force(host: &Host) -> (u64, String) {
    let (_, transform) = host.get("/v1/transforms/tutorial").unwrap();
    (transform["number"].as_u64().unwrap_or_default(), transform["component"].as_str().unwrap_or_default().to_owned())
}

fn roll_back(host: &Host) {
    let (status, answer) = host.post("/v1/transforms/tutorial/roll-back", "").unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// The features of an event that is sent now.
fn works(host: &Host, id: &str) {
    host.post("/v1/streams/mystream/events", &json!({"id": id, "value": 1}).to_string()).unwrap();
    let path = format!("/v1/features/tutorial?id={id}");
    wait_for("the features of the event", || (host.get(&path).ok()?.1["results"][0]["values"] == json!([2.0, 11.0])).then_some(()));
}

#[test]
fn a_restart_comes_back_with_the_version_that_was_in_force() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("declared.wasm"), version(1)).unwrap();
    let declared = config("[transforms.tutorial]\ncomponent = \"declared.wasm\"\n");
    let host = Host::start(folder.path(), &declared).unwrap();
    let pushed: Vec<Value> = [2, 3].map(|number| push(&host, &version(number))).into();
    roll_back(&host);
    let before = versions(&host);
    host.kill();

    let host = Host::start(folder.path(), &declared).unwrap();
    assert_eq!(in_force(&host), (2, pushed[0]["component"].as_str().unwrap().to_owned()));
    assert_eq!(versions(&host), before);
    works(&host, "a");
    roll_back(&host);
    host.kill();

    let host = Host::start(folder.path(), &declared).unwrap();
    assert_eq!(in_force(&host).0, 1, "a declared version that was asked for is in force too");
    assert_eq!(host.post("/v1/transforms/tutorial/activate", r#"{"version": 3}"#).unwrap().0, 200);
    host.kill();

    // Somebody has changed what is declared, and that counts from now on.
    std::fs::write(folder.path().join("declared.wasm"), version(4)).unwrap();
    for _ in 0..2 {
        let host = Host::start(folder.path(), &declared).unwrap();
        assert_eq!(in_force(&host).0, 4);
        assert_eq!(versions(&host)["back"], 3);
        works(&host, "b");
        host.kill();
    }

    // What came with the declaration goes with it, and can be had back.
    let host = Host::start(folder.path(), &config("")).unwrap();
    assert_eq!((host.get("/v1/transforms/tutorial").unwrap().0, versions(&host)["active"].clone()), (404, Value::Null));
    assert_eq!(host.get("/readyz").unwrap().0, 200);
    roll_back(&host);
    host.kill();
    let host = Host::start(folder.path(), &config("")).unwrap();
    assert_eq!(in_force(&host).0, 4);
    works(&host, "c");
    host.stop();
}

#[test]
fn a_watched_file_that_is_of_no_use_at_the_start_leaves_the_version_before_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("watched");
    std::fs::create_dir(&watched).unwrap();
    std::fs::write(watched.join("tutorial.wasm"), version(1)).unwrap();
    let config = config("transforms_folder = \"watched\"\n");
    Host::start(folder.path(), &config).unwrap().stop();
    std::fs::write(watched.join("tutorial.wasm"), b"no component").unwrap();
    let host = Host::start(folder.path(), &config).unwrap();
    let (_, transform) = host.get("/v1/transforms/tutorial").unwrap();
    assert_eq!((&transform["number"], &transform["origin"]), (&json!(1), &json!("folder")), "{transform}");
    assert!(transform["refused"].as_str().unwrap().contains("not a WebAssembly component"), "{transform}");
    works(&host, "a");
    host.stop();
}

#[test]
fn so_many_versions_are_kept_and_the_one_in_force_is_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("versions_max = 3\n");
    let host = Host::start(folder.path(), &config).unwrap();
    let numbers = |host: &Host| -> Vec<u64> {
        versions(host)["versions"].as_array().unwrap().iter().map(|version| version["number"].as_u64().unwrap()).collect()
    };
    let pushed: Vec<Value> = (1..=3).map(|number| push(&host, &version(number))).collect();
    assert_eq!(host.post("/v1/transforms/tutorial/activate", r#"{"version": 1}"#).unwrap().0, 200);
    // The same component under another name is not to be deleted with this one's versions.
    assert_eq!(host.put("/v1/transforms/other", &version(2)).unwrap().0, 200);
    push(&host, &version(4));
    assert_eq!(numbers(&host), [4, 3, 1]);
    push(&host, &version(5));
    assert_eq!(numbers(&host), [5, 4, 3]);
    assert_eq!(versions(&host)["back"], 4);
    let files = || -> BTreeSet<String> {
        let files = std::fs::read_dir(folder.path().join("data/components")).unwrap();
        files.filter_map(|file| file.unwrap().file_name().into_string().unwrap().strip_suffix(".wasm").map(str::to_owned)).collect()
    };
    let kept: BTreeSet<String> =
        versions(&host)["versions"].as_array().unwrap().iter().map(|version| version["component"].as_str().unwrap().to_owned()).collect();
    let other = pushed[1]["component"].as_str().unwrap().to_owned();
    assert_eq!(files(), kept.into_iter().chain([other]).collect());
    assert_eq!(host.post("/v1/transforms/tutorial/activate", r#"{"version": 1}"#).unwrap().0, 404);
    assert_eq!(push(&host, &version(1))["number"], 6, "a number is never used twice");
    host.stop();
}

#[test]
fn those_who_roll_back_at_the_same_time_go_one_step_each() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &config("")).unwrap();
    (1..=5).for_each(|number| drop(push(&host, &version(number))));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(|| host.post("/v1/transforms/tutorial/roll-back", "").unwrap().0)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let steps = statuses.iter().filter(|status| **status == 200).count();
    assert!(steps > 0 && statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    let shown = versions(&host);
    assert_eq!((&shown["active"], &shown["back"]), (&json!(5 - steps), &json!(4 - steps)), "{statuses:?}");
    host.stop();
}
