//! Every example runs as it stands, and its output is what it says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gristmill_tests::host::binary;
use gristmill_tests::tools;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn run(name: &str) {
    let mut command = Command::new("sh");
    // For pandas, which one of them needs.
    let output = tools::environment(&mut command)
        .arg(examples().join(name).join("run.sh"))
        .env("GRISTMILL", binary())
        .env("PYTHON", tools::clients_python())
        .env_remove("REDIS_URL")
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
}

#[test]
fn tutorial() {
    run("tutorial");
}

#[test]
fn client() {
    run("client");
}

#[test]
fn windows() {
    run("windows");
}

#[test]
fn request_time() {
    run("request-time");
}

#[test]
fn redis_map() {
    run("redis-map");
}

#[test]
fn own_plugin() {
    run("own-plugin");
}

#[test]
fn every_example_with_a_script_is_run_here() {
    let source = include_str!("examples.rs");
    for entry in std::fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("run.sh").is_file() {
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(source.contains(&format!("run(\"{name}\")")), "examples/{name} has a run.sh that no test runs");
        }
    }
}

#[test]
fn the_demonstration_replays_all_flights_and_serves_them() {
    let output = Command::new(binary())
        .args(["demo", "--exit-when-done", "--listen", "127.0.0.1:0", "--rate", "0"])
        .stdin(Stdio::null())
        .output()
        .expect("the program is built beside the tests");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("12208 events in "), "{text}");
    assert!(text.contains(", 24 dead letters"), "{text}");
    assert_eq!(text.matches("curl -s ").count(), 4, "{text}");
}

/// The demonstration's own windows, every entity's, beside those that pandas computes from the same flights.
#[test]
fn the_demonstrations_windows_are_those_of_pandas() {
    let mut demo = Command::new(binary())
        .args(["demo", "--listen", "127.0.0.1:0", "--rate", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program is built beside the tests");
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let request = lines.find(|line| line.contains("curl -s 'http://")).expect("it prints requests worth making");
    let address = request.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let mut command = Command::new("python3");
    let output = tools::environment(&mut command)
        .arg(examples().join("windows/check.py"))
        .arg(examples().join("flights/flights-2013-01.ndjson.gz"))
        .env("GRISTMILL_HOST", format!("http://{address}"))
        .stdin(Stdio::null())
        .output()
        .expect("python3 runs");
    demo.kill().unwrap();
    demo.wait().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let compared: u64 = out.split_whitespace().filter_map(|word| word.parse().ok()).next().expect("it says how many it compared");
    assert!(compared > 5_000, "{out}");
}

#[test]
fn prebuilt_components_behave_as_those_built_from_source() {
    use gristmill::model::{Batch, Column, Values};
    use gristmill::transform::{Engine, EngineOptions, Limits};

    let engine = Engine::new(EngineOptions::default()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["tutorial", "flights-aircraft", "flights-airport", "flights-carrier", "flights-route"] {
        let load = |folder: &str| {
            let path = root.join(folder).join(format!("{name}.wasm"));
            let component = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make plugins` builds it", path.display()));
            engine.load("compared", &component, "", Limits::default()).unwrap()
        };
        let (prebuilt, built) = (load("plugins/prebuilt"), load("target/components"));
        assert_eq!(prebuilt.spec(), built.spec(), "{name}: refresh with `make prebuilt`");
        let rows = 100;
        let column = |index: usize, field: &gristmill::model::Field| {
            let number = move |row: usize| ((row * 37 + index * 11) % 97) as f64 - 20.0;
            let mut packed = gristmill::model::Packed::default();
            (0..rows).for_each(|row| packed.push(format!("text-{}", number(row)).as_bytes()));
            let values = match field.kind {
                gristmill::model::Kind::Boolean => Values::Booleans((0..rows).map(|row| (row % 2) as u8).collect()),
                gristmill::model::Kind::Integer => Values::Integers((0..rows).map(|row| number(row) as i64).collect()),
                gristmill::model::Kind::Float => Values::Floats((0..rows).map(number).collect()),
                gristmill::model::Kind::Timestamp => Values::Timestamps((0..rows).map(|row| row as i64 * 3_600_000_000).collect()),
                gristmill::model::Kind::Text => Values::Texts(packed),
                gristmill::model::Kind::Bytes => Values::Blobs(packed),
                gristmill::model::Kind::Vector | gristmill::model::Kind::List => unreachable!("no first-party transform reads vectors"),
            };
            let mut validity = gristmill::model::Validity::all_valid(rows);
            (0..rows).filter(|row| row % 7 == index % 7).for_each(|row| validity.set_null(row));
            std::sync::Arc::new(Column { values, validity: field.nullable.then_some(validity) })
        };
        let columns = built.spec().inputs.iter().enumerate().map(|(index, field)| column(index, field)).collect();
        let batch = Batch { rows, columns };
        let (left, right) = (prebuilt.apply(&batch).unwrap(), built.apply(&batch).unwrap());
        assert_eq!((left.batch, left.origins, left.rejected), (right.batch, right.origins, right.rejected), "{name}");
    }
}
