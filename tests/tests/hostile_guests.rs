//! Hostile and broken guests: each is refused or contained with the right error, and the engine runs a good one afterwards.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use gristmill::conformance::guest::{ANSWER_AT, COLUMNS_AT, Guest, spec};
use gristmill::model::{Batch, Column, Kind, Packed, Validity, Values};
use gristmill::transform::{Engine, EngineOptions, Error, Limits, Output, Transform};
use gristmill_tests::host::binary;
use serde_json::Value;

#[test]
fn good_guests_compute() {
    let engine = engine();
    for component in [Guest::doubling().module().unwrap(), Guest::doubling().component().unwrap()] {
        let transform = engine.load("doubling", &component, "", limits()).expect("it loads");
        assert_eq!(transform.spec().outputs[0].name, "double");
        for rows in [0, 1, 7, 1_024, 5_000] {
            assert_doubles(&transform, rows);
        }
    }
}

#[test]
fn a_guest_of_another_minor_version_runs_and_of_another_major_does_not() {
    let engine = engine();
    let later =
        engine.load("later", &Guest::doubling().module_of_version("1.4.2").unwrap(), "", limits()).expect("the shapes are the same");
    assert_doubles(&later, 10);
    let other =
        engine.load("other", &Guest::doubling().module_of_version("2.0.0").unwrap(), "", limits()).expect_err("it speaks another contract");
    assert!(other.to_string().contains("this host speaks 1.0.0"), "{other}");
}

#[test]
fn a_batch_of_another_shape_is_not_handed_over() {
    let transform = engine().load("doubling", &Guest::doubling().module().unwrap(), "", limits()).expect("it loads");
    let error = transform.apply(&Batch::default()).expect_err("it has no columns");
    assert_eq!(error.to_string(), "the Wasm engine failed: the batch has 0 columns and the spec of `doubling` has 1 inputs");
}

#[test]
fn a_rich_answer_comes_back_as_it_was_given() {
    let kinds = [Kind::Boolean, Kind::Integer, Kind::Float, Kind::Text, Kind::Bytes, Kind::Timestamp, Kind::Vector];
    let outputs: Vec<_> = kinds.iter().map(|kind| (kind.as_str(), *kind, true)).collect();
    let text = packed(&["é", "", "plain"]);
    let columns = [
        Values::Booleans(vec![1, 0, 1]),
        Values::Integers(vec![i64::MIN, 0, i64::MAX]),
        Values::Floats(vec![0.5, f64::NEG_INFINITY, -0.0]),
        Values::Texts(text.clone()),
        Values::Blobs(text),
        Values::Timestamps(vec![0, 1, 2]),
        Values::Vectors { width: 2, values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] },
    ];
    let column = |values| Arc::new(Column { values, validity: Some(Validity { bits: vec![0b101] }) });
    let answer = Output {
        batch: Batch { rows: 3, columns: columns.into_iter().map(column).collect() },
        origins: Some(vec![0, 0, 3]),
        rejected: vec![(2, "x".repeat(5_000)), (1, "not a price".into())],
    };
    let batch = answer.batch.clone();
    let transform = engine().load("rich", &Guest::answering(spec(&outputs), answer).module().unwrap(), "", limits()).expect("it loads");
    let output = transform.apply(&keys(4)).expect("it is right");
    assert_eq!(output.batch, batch);
    assert_eq!(output.origins, Some(vec![0, 0, 3]));
    assert_eq!(output.rejected, [(1, "not a price".into()), (2, "x".repeat(1_024))]);
}

/// Every hostile guest that is written down, and some random ones, as users run them: in a process that survives, and whose memory is looked at.
#[test]
fn hostile_guests_are_refused_or_contained() {
    let arguments = ["conformance", "--random", "2000", "--seed", "1", "--json"];
    let output = Command::new(binary()).args(arguments).output().expect("the program is built");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let found: Value = serde_json::from_str(&out).expect("it prints JSON");
    let groups = [
        "wrong world",
        "wrong spec",
        "bomb",
        "describe",
        "apply",
        "wrong column",
        "wrong shape",
        "fold",
        "wrong state",
        "migration",
        "log",
        "secrets",
        "random",
        "memory",
    ];
    for group in groups {
        assert!(found["groups"][group]["tried"].as_u64() > Some(0) && found["groups"][group]["failed"] == 0, "{group}: {out}");
    }
    assert_eq!(found["groups"].as_object().map(serde_json::Map::len), Some(groups.len()), "{out}");
    assert_eq!(found["groups"]["random"]["tried"], 2_000);
    // Random files get everywhere.
    for end in ["refused at load", "trapped", "broke the contract"] {
        assert!(found["random"][end].as_u64() > Some(10), "{out}");
    }
}

#[test]
fn a_row_is_bounded_whatever_a_call_may_return() {
    let texts = |bytes: usize| {
        let offsets = vec![0, 0, bytes as u32, bytes as u32];
        one(Values::Texts(Packed { offsets, bytes: vec![b'x'; bytes] }))
    };
    let limits = Limits { output_bytes_max: 8 << 20, memory_bytes_max: 8 << 20, ..limits() };
    let engine = engine();
    let load = |answer| {
        let guest = Guest::answering(spec(&[("value", Kind::Text, false)]), answer);
        engine.load("large", &guest.module().unwrap(), "", limits).expect("it loads")
    };
    let error = load(texts((1 << 20) + 1)).apply(&keys(3)).expect_err("the second row is too large");
    assert!(error.to_string().contains("a row of 1048577 bytes; 1048576 are allowed"), "{error}");
    load(texts(1 << 20)).apply(&keys(3)).expect("it is as large as it may be");
}

#[test]
fn a_guest_that_talks_too_much_is_cut_short() {
    let flood = format!(
        "(local $left i32) (local.set $left (i32.const 1000))
         (loop $next
           (call $log (i32.const 1) (i32.const 8192) (i32.const 8192))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br_if $next (local.get $left)))
         (i32.const {ANSWER_AT})"
    );
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), one(Values::Integers(vec![1, 2, 3])));
    guest.apply = flood;
    let engine = engine();
    let transform = engine.load("chatty", &guest.module().unwrap(), "", Limits { deadline_ms: 5_000, ..limits() }).expect("it loads");
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    tracing::subscriber::with_default(subscriber, || transform.apply(&keys(3)).expect("talking is allowed"));
    let written = lines.0.lock().expect("nobody panicked").clone();
    let written: Vec<_> = std::str::from_utf8(&written).expect("the log is text").lines().collect();
    // The bucket holds 20 and gains 20 a second.
    assert_eq!(written.len() as u64 + transform.log_lines_dropped(), 1_000);
    assert!((20..200).contains(&written.len()), "{} lines", written.len());
    assert!(written.iter().all(|line| line.contains("guest") && line.contains("chatty") && line.contains("[4096 bytes more]")));
    assert_good(&engine);
}

#[test]
fn a_line_beyond_the_limit_of_copies_ends_the_call() {
    let giant = "(drop (memory.grow (i32.const 50))) (call $log (i32.const 1) (i32.const 0) (i32.const 3000000)) unreachable";
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), one(Values::Integers(vec![1, 2, 3])));
    guest.apply = giant.into();
    let transform = engine().load("giant", &guest.module().unwrap(), "", limits()).expect("it loads");
    assert!(matches!(transform.apply(&keys(3)), Err(Error::Invalid(_))));
}

#[test]
fn an_instance_is_replaced_after_its_calls_and_forgets() {
    // Answers with the number of calls that this instance has had.
    let mut guest = Guest::answering(spec(&[("calls", Kind::Integer, false)]), one(Values::Integers(vec![0])));
    guest.answer.batch.rows = 1;
    guest.extra = "(global $calls (mut i32) (i32.const 0))".into();
    guest.apply = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store (i32.load (i32.const {})) (global.get $calls))
         (i32.const {ANSWER_AT})",
        COLUMNS_AT + 4
    );
    let transform = engine().load("calls", &guest.module().unwrap(), "", Limits { instance_calls_max: 3, ..limits() }).expect("it loads");
    let calls: Vec<_> = (0..7).map(|_| transform.apply(&keys(1)).expect("it is right").batch.columns[0].values.clone()).collect();
    assert_eq!(calls, [1, 2, 3, 1, 2, 3, 1].map(|calls| Values::Integers(vec![calls])));
}

#[test]
fn describe_is_asked_once_an_instance() {
    let mut guest = Guest::doubling();
    guest.extra = "(global $asked (mut i32) (i32.const 0))".into();
    guest.describe = "(if (global.get $asked) (then unreachable)) (global.set $asked (i32.const 1)) (i32.const 1024)".into();
    let transform = engine().load("asked_once", &guest.module().unwrap(), "", limits()).expect("it loads");
    assert_doubles(&transform, 3);
    assert_doubles(&transform, 3);
}

#[test]
fn calls_from_many_threads_share_the_instances() {
    let engine = Engine::new(EngineOptions { instances_per_transform_max: 2, instances_max: 3, ..options() }).expect("it starts");
    let transform = engine.load("doubling", &Guest::doubling().module().unwrap(), "", limits()).expect("it loads");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| (0..50).for_each(|_| assert_doubles(&transform, 64)));
        }
    });
    let refused =
        engine.load("second", &Guest::doubling().module().unwrap(), "", limits()).expect_err("there is one instance left of three");
    assert!(
        refused.to_string().contains("holds 3 instances, 2 of them are set aside for loaded transforms, and this one needs 2"),
        "{refused}"
    );
    drop(transform);
    assert_good(&engine);
}

#[test]
fn limits_beyond_the_pool_are_refused() {
    let engine = engine();
    for limits in [Limits { memory_bytes_max: 1 << 30, ..limits() }, Limits { table_elements_max: 1 << 20, ..limits() }] {
        let refused = engine.load("greedy", &Guest::doubling().module().unwrap(), "", limits).expect_err("the pool is smaller");
        assert!(refused.to_string().contains("but the pool was made for"), "{refused}");
    }
    let memory_bytes_max = 65_536;
    let refused = engine.load("large", &Guest::doubling().module().unwrap(), "", Limits { memory_bytes_max, ..limits() });
    assert!(matches!(refused, Err(Error::Memory { memory_bytes_max: 65_536 })), "it starts with more: {refused:?}");
    assert_good(&engine);
}

#[test]
fn compiled_code_is_kept_and_only_our_own_is_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let code = folder.path().join("code");
    let options = EngineOptions { cache_folder: Some(code.clone()), ..options() };
    let module = Guest::doubling().module().unwrap();
    let load = || {
        let engine = Engine::new(options.clone()).expect("it starts");
        let transform = engine.load("doubling", &module, "", limits()).expect("it loads");
        assert_doubles(&transform, 3);
        transform.is_from_cache()
    };
    assert!(!load(), "the first load compiles");
    assert!(load(), "the second does not");
    assert_eq!(std::fs::metadata(&code).expect("the folder is there").permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&code).expect("it can be read").map(|entry| entry.expect("an entry").path()).collect();
    let file = files.iter().find(|path| path.extension().is_some_and(|extension| extension == "code")).expect("one file of code");
    let original = std::fs::read(file).expect("it can be read");
    let flip = |at: usize| {
        let mut bytes = original.clone();
        bytes[at] ^= 1;
        bytes
    };
    let tampered = [
        flip(0),
        flip(40),
        flip(original.len() / 2),
        flip(original.len() - 1),
        original[..original.len() / 2].to_vec(),
        vec![],
        vec![7; 10],
    ];
    for bytes in tampered.into_iter().chain([[original.as_slice(), b"more"].concat()]) {
        std::fs::write(file, &bytes).expect("it can be written");
        assert!(!load(), "a file that was changed is compiled again");
        assert!(load(), "and is whole again then");
    }
    // Another secret: nothing that was written before is trusted.
    std::fs::write(code.join("secret"), [1; 32]).expect("it can be written");
    assert!(!load());
}

#[test]
fn an_inspection_says_what_a_component_is() {
    let engine = engine();
    let (module, component) = (Guest::doubling().module().unwrap(), Guest::doubling().component().unwrap());
    let wrapped = engine.inspect(&module, "", limits()).expect("it is good");
    let whole = engine.inspect(&component, "", limits()).expect("it is good");
    assert!(wrapped.wrapped && !whole.wrapped);
    assert_eq!((wrapped.bytes, whole.bytes), (module.len(), component.len()));
    assert!(whole.exports.contains(&"gristmill:transform/transform@1.0.0".to_owned()), "{:?}", whole.exports);
    assert_eq!(wrapped.spec, spec(&[("double", Kind::Integer, false)]));
    assert_ne!(wrapped.digest, whole.digest);
}

fn options() -> EngineOptions {
    EngineOptions { instances_max: 8, instances_per_transform_max: 2, memory_bytes_max: 64 << 20, ..EngineOptions::default() }
}

fn engine() -> Engine {
    Engine::new(options()).expect("it starts")
}

fn limits() -> Limits {
    Limits { memory_bytes_max: 4 << 20, output_bytes_max: 1 << 20, state_bytes_max: 1 << 18, ..Limits::default() }
}

fn keys(rows: i64) -> Batch {
    Batch { rows: rows as usize, columns: vec![Arc::new(Column { values: Values::Integers((0..rows).collect()), validity: None })] }
}

fn assert_doubles(transform: &Transform, rows: i64) {
    let output = transform.apply(&keys(rows)).expect("a good guest computes");
    assert_eq!(output.batch.columns[0].values, Values::Integers((0..rows).map(|key| key * 2).collect()));
}

fn assert_good(engine: &Engine) {
    let transform = engine.load("good", &Guest::doubling().module().unwrap(), "", limits()).expect("a good guest loads");
    assert_doubles(&transform, 100);
}

fn one(values: Values) -> Output {
    Output { batch: Batch { rows: 3, columns: vec![Arc::new(Column { values, validity: None })] }, origins: None, rejected: vec![] }
}

fn packed(values: &[&str]) -> Packed {
    let mut packed = Packed::default();
    values.iter().for_each(|value| packed.push(value.as_bytes()));
    packed
}

#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}
