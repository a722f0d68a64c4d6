//! Hostile and broken guests: each is refused or contained with the right error, and the engine runs a good one afterwards.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use gristmill::model::{Aggregate, Aggregation, Batch, Column, Field, Kind, Packed, Spec, Validity, Values};
use gristmill::transform::{Engine, EngineOptions, Error, Limits, Output, Transform};
use gristmill_tests::guests::{ANSWER_AT, COLUMNS_AT, Guest, field, spec, with_world};
use wasm_encoder::Encode;

#[test]
fn good_guests_compute() {
    let engine = engine();
    for component in [Guest::doubling().module(), Guest::doubling().component()] {
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
    let later = engine.load("later", &Guest::doubling().module_of_version("1.4.2"), "", limits()).expect("the shapes are the same");
    assert_doubles(&later, 10);
    let other = engine.load("other", &Guest::doubling().module_of_version("2.0.0"), "", limits()).expect_err("it speaks another contract");
    assert!(other.to_string().contains("this host speaks 1.0.0"), "{other}");
}

#[test]
fn a_batch_of_another_shape_is_not_handed_over() {
    let transform = engine().load("doubling", &Guest::doubling().module(), "", limits()).expect("it loads");
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
    let transform = engine().load("rich", &Guest::answering(spec(&outputs), answer).module(), "", limits()).expect("it loads");
    let output = transform.apply(&keys(4)).expect("it is right");
    assert_eq!(output.batch, batch);
    assert_eq!(output.origins, Some(vec![0, 0, 3]));
    assert_eq!(output.rejected, [(1, "not a price".into()), (2, "x".repeat(1_024))]);
}

/// Files that never become a transform: what they are, and what the refusal says.
#[test]
fn what_cannot_run_is_refused_at_load() {
    let imports = |name: &str| component(&format!(r#"(component (import "{name}" (instance)))"#));
    let core = |text: &str| wat::parse_str(text).expect("it is WebAssembly text");
    let good = Guest::doubling().component();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "does not begin with a WebAssembly header"),
        ("text", b"(component)".to_vec(), "does not begin with a WebAssembly header"),
        ("garbage behind a header", [b"\0asm\x0d\0\x01\0".as_slice(), &[0xff; 99]].concat(), "it is damaged"),
        ("garbage behind a core header", [b"\0asm\x01\0\0\0".as_slice(), &[0xff; 99]].concat(), "it is damaged"),
        ("a third of a component", good[..good.len() / 3].to_vec(), "it is damaged"),
        ("too large", vec![0; (64 << 20) + 1], "67108864 are allowed"),
        ("a core module without a world", core("(module)"), "core module without a world"),
        ("WASI preview 1", core(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#), "`wasi_snapshot_preview1#fd_write`"),
        ("sockets", imports("wasi:sockets/tcp@0.2.9"), "imports `wasi:sockets/tcp@0.2.9`"),
        (
            "sockets, how to go on",
            imports("wasi:sockets/tcp@0.2.9"),
            "`--stub-wasi` (Python, JavaScript) or for wasm32-unknown-unknown (Rust)",
        ),
        ("a clock", imports("wasi:clocks/monotonic-clock@0.2.9"), "imports `wasi:clocks/monotonic-clock@0.2.9`"),
        ("an unknown import", imports("acme:feature/store@1.0.0"), "imports `acme:feature/store@1.0.0`"),
        ("our fold, imported", imports("gristmill:transform/fold@1.0.0"), "imports `gristmill:transform/fold@1.0.0`"),
        ("another version of the log", imports("gristmill:transform/log@2.0.0"), "another version of the contract"),
        ("a function", component(r#"(component (import "now" (func (result u64))))"#), "imports `now`"),
        ("a component of no world", component("(component)"), "does not export `gristmill:transform/transform@1.0.0` but nothing"),
        ("another export", exporting("acme:feature/run@1.0.0"), "but `acme:feature/run@1.0.0`"),
        ("a contract to come", exporting("gristmill:transform/transform@2.1.0"), "this host speaks 1.0.0"),
        ("a fold", exporting("gristmill:transform/fold@1.0.0"), "not run by this version yet"),
        ("an empty transform", exporting("gristmill:transform/transform@1.0.0"), "does not export what `row-transform` asks for"),
        ("an empty transform that is composed", composed(), "does not export what `row-transform` asks for"),
        ("a module without its exports", with_world(core("(module)"), "row-transform"), "cannot be wrapped into a component"),
        ("more memory than the pool", loads(|guest| guest.extra = "(memory 2000)".into()), "it does not compile"),
        ("a spec with two equal outputs", answers(spec(&[("a", Kind::Float, false), ("a", Kind::Float, false)])), "declared twice"),
        ("a spec with a bad name", answers(spec(&[("a b", Kind::Float, false)])), "is not a name"),
        ("a spec with a stream without a name", answers(reading("")), "cannot name a stream"),
        ("a spec with a stream that forges lines", answers(reading("a\nERROR forged")), "cannot name a stream"),
        ("a spec without outputs", answers(spec(&[])), "no outputs"),
        (
            "a spec with aggregations",
            answers(aggregating()),
            "aggregations (\"clicks\" is the first), which are not run by this version yet",
        ),
        ("a type a million deep", a_type_of_depth(1_000_000), "nested deeper than the 32 levels"),
        ("a world a million deep", with_section("component-type:deep", &a_type_of_depth(1_000_000)), "nested deeper than the 32 levels"),
        ("a million components within each other", components_of_depth(1_000_000), "nested deeper than the 32 levels"),
        ("a world in a circle", world_in_a_circle(), "the packages of its world depend on each other in a circle"),
        ("a name that forges lines", loads(|guest| guest.imports = FORGES.into()), "`a\\nERROR forged\\u{1b}[2J`"),
        ("too many functions", in_core(&["(func)"; 100_001].concat()), "it has 100001 functions; 100000 are allowed"),
        (
            "a function that is too long",
            in_core(&format!("(func {})", "nop ".repeat(1 << 20))),
            "with 0 local variables, which takes too much to compile",
        ),
        (
            "too many variables for its length",
            in_core(&format!("(func (local {}) {})", "i64 ".repeat(5_000), "nop ".repeat(60_000))),
            "with 5000 local variables, which takes too much to compile",
        ),
        ("a spec whose inputs take too much", answers(of_vectors(2, 0)), "its inputs take 524288 bytes a row"),
        ("a spec whose outputs take too much", answers(of_vectors(1, 5)), "its outputs take 1310720 bytes a row"),
        ("refused settings", loads(|guest| guest.describe = refusing(b"no such threshold")), "refused its settings: no such threshold"),
    ];
    let engine = engine();
    for (what, bytes, expected) in cases {
        let error = engine.load("hostile", &bytes, "", limits()).expect_err(what);
        assert!(matches!(error, Error::Refused(_)), "{what}: {error:?}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert_eq!(engine.inspect(&bytes, "", limits()).expect_err(what).to_string(), error.to_string(), "{what}");
    }
    assert_good(&engine);
}

/// Guests that misbehave as soon as they run: in the start function and in `describe`.
#[test]
fn what_misbehaves_in_describe_is_contained() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("loops", loads(|guest| guest.describe = LOOP.into()), "Deadline { deadline_ms: 1000 }"),
        (
            "traps",
            loads(|guest| guest.describe = "unreachable".into()),
            "Trap(\"wasm trap: wasm `unreachable` instruction executed, in describe",
        ),
        (
            "traps at start",
            loads(|guest| guest.extra = "(func $start unreachable) (start $start)".into()),
            "Trap(\"wasm trap: wasm `unreach",
        ),
        (
            "loops at start",
            loads(|guest| guest.extra = format!("(func $start {LOOP} drop) (start $start)")),
            "Deadline { deadline_ms: 1000 }",
        ),
        (
            "recurs",
            loads(|guest| guest.describe = "(call $describe (i32.const 0) (i32.const 0))".into()),
            "Trap(\"wasm trap: call stack exhausted",
        ),
        ("eats memory", loads(|guest| guest.describe = EAT.into()), "Memory { memory_bytes_max: 4194304 }"),
        ("wants a second one from the start", loads(|guest| guest.extra = "(memory $more 65)".into()), "Refused"),
        ("a wild pointer", loads(|guest| guest.describe = "(i32.const 0x7ffffff0)".into()), "Invalid"),
        ("a wild tag", loads(|guest| guest.describe = "(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)".into()), "Invalid"),
    ];
    let engine = engine();
    for (what, bytes, expected) in cases {
        let error = engine.load("hostile", &bytes, "", limits()).expect_err(what);
        assert!(format!("{error:?}").starts_with(expected), "{what}: {error:?}");
    }
    assert_good(&engine);
}

/// Guests that misbehave in `apply`.
#[test]
fn what_misbehaves_in_apply_is_contained() {
    let table = "(table $table 1 funcref)";
    let grow_table = "(drop (table.grow $table (ref.null func) (i32.const 50000))) unreachable";
    let claim = |length: u32| format!("(i32.store (i32.const {}) (i32.const {length})) (i32.const {ANSWER_AT})", COLUMNS_AT + 8);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("loops", applies(LOOP), "Deadline { deadline_ms: 50 }"),
        ("traps", applies("unreachable"), "Trap(\"wasm trap: wasm `unreachable` instruction executed, in apply\")"),
        ("divides by zero", applies("(i32.div_u (i32.const 1) (i32.const 0))"), "Trap(\"wasm trap: integer divide by zero"),
        ("recurs", applies("(call $apply (i32.const 0) (i32.const 0) (i32.const 0))"), "Trap(\"wasm trap: call stack exhausted"),
        ("eats memory", applies(EAT), "Memory { memory_bytes_max: 4194304 }"),
        (
            "grows tables",
            loads(|guest| (guest.extra, guest.apply) = (table.into(), grow_table.into())),
            "Trap(\"it needs more than its 20000 table elements\")",
        ),
        ("traps in cabi_realloc", loads(|guest| guest.realloc = realloc("unreachable")), "Trap"),
        ("allocates outside its memory", loads(|guest| guest.realloc = realloc("(i32.const -8)")), "Invalid"),
        ("allocates unaligned", loads(|guest| guest.realloc = realloc("(i32.const 3)")), "Invalid"),
        ("traps in post-return", loads(|guest| guest.post = "unreachable".into()), "Trap"),
        ("loops in post-return", loads(|guest| guest.post = format!("{LOOP} drop")), "Deadline { deadline_ms: 50 }"),
        ("says no", applies(&refusing(b"bad batch")), "Guest(\"bad batch\")"),
        ("says no with bytes that are no text", applies(&refusing(b"\xff\xfe")), "Invalid"),
        ("a wild result", applies("(i32.const 0x7ffffff0)"), "Invalid"),
        ("an unaligned result", applies("(i32.const 1025)"), "Invalid"),
        ("a gigabyte", applies(&claim(1 << 27)), "Invalid"),
        ("a length that wraps around", applies(&claim(u32::MAX)), "Invalid"),
        ("a wild kind", applies(&format!("(i32.store8 (i32.const {COLUMNS_AT}) (i32.const 99)) (i32.const {ANSWER_AT})")), "Invalid"),
        (
            "too many bytes",
            applies(&format!("(drop (memory.grow (i32.const 50))) {}", claim(380_000))),
            "Invalid(\"more than the 1048576 bytes",
        ),
    ];
    let engine = engine();
    for (what, bytes, expected) in
        cases.into_iter().chain([("one text fifty times", sharing_a_text(), "Invalid(\"more than the 1048576 bytes")])
    {
        let transform = engine.load("hostile", &bytes, "", limits()).expect(what);
        // The second call has a fresh instance and must end as the first did.
        for _ in 0..2 {
            let error = transform.apply(&keys(3)).expect_err(what);
            assert!(format!("{error:?}").starts_with(expected), "{what}: {error:?}");
        }
    }
    assert_good(&engine);
}

/// Answers that break the contract, for three rows of input.
#[test]
fn what_comes_back_wrong_is_refused() {
    let integers = || Values::Integers(vec![1, 2, 3]);
    let offsets = |offsets: &[u32], bytes: &[u8]| Values::Texts(Packed { offsets: offsets.to_vec(), bytes: bytes.to_vec() });
    let cases: Vec<(&str, Kind, Output, &str)> = vec![
        ("too few values", Kind::Integer, one(Values::Integers(vec![1, 2])), "2 values; 3 are right"),
        ("too many values", Kind::Float, one(Values::Floats(vec![0.0; 4])), "4 values; 3 are right"),
        ("another kind", Kind::Float, one(integers()), "a column of integer values; its spec says float"),
        ("a timestamp is no integer", Kind::Timestamp, one(integers()), "a column of integer values; its spec says timestamp"),
        ("not boolean", Kind::Boolean, one(Values::Booleans(vec![0, 1, 2])), "a boolean that is neither 0 nor 1"),
        ("no offsets", Kind::Text, one(offsets(&[], b"")), "0 offsets; 4 are right"),
        ("an offset too few", Kind::Text, one(offsets(&[0, 1, 2], b"ab")), "3 offsets; 4 are right"),
        ("offsets that start late", Kind::Text, one(offsets(&[1, 1, 2, 3], b"abc")), "offsets that do not start at 0"),
        ("falling offsets", Kind::Text, one(offsets(&[0, 2, 1, 3], b"abc")), "offsets that fall"),
        ("offsets beyond the end", Kind::Text, one(offsets(&[0, 1, 2, 9], b"abc")), "offsets that end at 9 for 3 bytes"),
        ("offsets before the end", Kind::Text, one(offsets(&[0, 1, 2, 2], b"abc")), "offsets that end at 2 for 3 bytes"),
        ("broken UTF-8", Kind::Text, one(offsets(&[0, 1, 2, 3], b"a\xffc")), "text that is not UTF-8 at byte 1"),
        ("a cut character", Kind::Text, one(offsets(&[0, 1, 2, 3], "é!".as_bytes())), "a text that begins inside a character"),
        ("falling offsets of bytes", Kind::Bytes, one(Values::Blobs(Packed { offsets: vec![0, 2, 1, 3], bytes: vec![0; 3] })), "that fall"),
        ("another width", Kind::Vector, one(Values::Vectors { width: 3, values: vec![0.0; 9] }), "vectors of width 3; its spec says 2"),
        ("too few numbers", Kind::Vector, one(Values::Vectors { width: 2, values: vec![0.0; 5] }), "5 numbers; 6 are right"),
        ("a null", Kind::Integer, null(integers(), &[0b101]), "a null, but its spec says that it has none"),
        ("no bitmap", Kind::Integer, null(integers(), &[]), "a validity bitmap of 0 bytes; 3 rows need 1"),
        (
            "no columns",
            Kind::Integer,
            Output { batch: Batch { rows: 3, columns: vec![] }, ..one(integers()) },
            "0 columns; its spec has 1 outputs",
        ),
        ("too many columns", Kind::Integer, twice(one(integers())), "2 columns; its spec has 1 outputs"),
        ("other rows", Kind::Integer, rows(2), "2 rows for 3 rows of input and no origins"),
        ("too many rows", Kind::Integer, rows(193), "193 rows for 3 rows of input; output_rows_per_input_max allows 192"),
        ("too few origins", Kind::Integer, from(&[0, 1], &[]), "2 origins for 3 rows"),
        ("falling origins", Kind::Integer, from(&[0, 2, 1], &[]), "origins that fall"),
        ("an origin out of range", Kind::Integer, from(&[0, 1, 3], &[]), "origin 3; the input has 3 rows"),
        ("a rejection out of range", Kind::Integer, from(&[0, 0, 0], &[1, 7]), "a rejection of row 7"),
        ("a rejection twice", Kind::Integer, from(&[0, 0, 0], &[1, 1]), "two rejections of row 1"),
        ("a rejected origin", Kind::Integer, from(&[0, 1, 2], &[1]), "a rejection of row 1, which is also the origin"),
        (
            "a rejection without origins",
            Kind::Integer,
            Output { origins: None, ..from(&[0, 1, 2], &[2]) },
            "a rejection of row 2, which is",
        ),
        ("too many bytes", Kind::Text, one(offsets(&[0, 0, 0, 1 << 20], &[b'x'; 1 << 20])), "output_bytes_max allows 1048576"),
    ];
    let engine = engine();
    for (what, kind, answer, expected) in cases {
        let guest = Guest::answering(spec(&[("value", kind, false)]), answer);
        let transform = engine.load("wrong", &guest.module(), "", limits()).expect(what);
        let error = transform.apply(&keys(3)).expect_err(what);
        assert!(matches!(error, Error::Invalid(_)), "{what}: {error:?}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
    }
    assert_good(&engine);
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
        engine.load("large", &guest.module(), "", limits).expect("it loads")
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
    let transform = engine.load("chatty", &guest.module(), "", Limits { deadline_ms: 5_000, ..limits() }).expect("it loads");
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
    let transform = engine().load("giant", &applies(giant), "", limits()).expect("it loads");
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
    let transform = engine().load("calls", &guest.module(), "", Limits { instance_calls_max: 3, ..limits() }).expect("it loads");
    let calls: Vec<_> = (0..7).map(|_| transform.apply(&keys(1)).expect("it is right").batch.columns[0].values.clone()).collect();
    assert_eq!(calls, [1, 2, 3, 1, 2, 3, 1].map(|calls| Values::Integers(vec![calls])));
}

#[test]
fn describe_is_asked_once_an_instance() {
    let mut guest = Guest::doubling();
    guest.extra = "(global $asked (mut i32) (i32.const 0))".into();
    guest.describe = "(if (global.get $asked) (then unreachable)) (global.set $asked (i32.const 1)) (i32.const 1024)".into();
    let transform = engine().load("asked_once", &guest.module(), "", limits()).expect("it loads");
    assert_doubles(&transform, 3);
    assert_doubles(&transform, 3);
}

#[test]
fn calls_from_many_threads_share_the_instances() {
    let engine = Engine::new(EngineOptions { instances_per_transform_max: 2, instances_max: 3, ..options() }).expect("it starts");
    let transform = engine.load("doubling", &Guest::doubling().module(), "", limits()).expect("it loads");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| (0..50).for_each(|_| assert_doubles(&transform, 64)));
        }
    });
    let refused = engine.load("second", &Guest::doubling().module(), "", limits()).expect_err("there is one instance left of three");
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
        let refused = engine.load("greedy", &Guest::doubling().module(), "", limits).expect_err("the pool is smaller");
        assert!(refused.to_string().contains("but the pool was made for"), "{refused}");
    }
    let memory_bytes_max = 65_536;
    let refused = engine.load("large", &Guest::doubling().module(), "", Limits { memory_bytes_max, ..limits() });
    assert!(matches!(refused, Err(Error::Memory { memory_bytes_max: 65_536 })), "it starts with more: {refused:?}");
    assert_good(&engine);
}

#[test]
fn compiled_code_is_kept_and_only_our_own_is_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let code = folder.path().join("code");
    let options = EngineOptions { cache_folder: Some(code.clone()), ..options() };
    let module = Guest::doubling().module();
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
    let (module, component) = (Guest::doubling().module(), Guest::doubling().component());
    let wrapped = engine.inspect(&module, "", limits()).expect("it is good");
    let whole = engine.inspect(&component, "", limits()).expect("it is good");
    assert!(wrapped.wrapped && !whole.wrapped);
    assert_eq!((wrapped.bytes, whole.bytes), (module.len(), component.len()));
    assert!(whole.exports.contains(&"gristmill:transform/transform@1.0.0".to_owned()), "{:?}", whole.exports);
    assert_eq!(wrapped.spec, spec(&[("double", Kind::Integer, false)]));
    assert_ne!(wrapped.digest, whole.digest);
}

const LOOP: &str = "(loop $forever (br $forever)) unreachable";
const EAT: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";

fn options() -> EngineOptions {
    EngineOptions { instances_max: 8, instances_per_transform_max: 2, memory_bytes_max: 64 << 20, ..EngineOptions::default() }
}

fn engine() -> Engine {
    Engine::new(options()).expect("it starts")
}

fn limits() -> Limits {
    Limits { memory_bytes_max: 4 << 20, output_bytes_max: 1 << 20, ..Limits::default() }
}

fn keys(rows: i64) -> Batch {
    Batch { rows: rows as usize, columns: vec![Arc::new(Column { values: Values::Integers((0..rows).collect()), validity: None })] }
}

fn assert_doubles(transform: &Transform, rows: i64) {
    let output = transform.apply(&keys(rows)).expect("a good guest computes");
    assert_eq!(output.batch.columns[0].values, Values::Integers((0..rows).map(|key| key * 2).collect()));
}

fn assert_good(engine: &Engine) {
    let transform = engine.load("good", &Guest::doubling().module(), "", limits()).expect("a good guest loads");
    assert_doubles(&transform, 100);
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it is component text")
}

fn exporting(name: &str) -> Vec<u8> {
    component(&format!(r#"(component (instance $nothing) (export "{name}" (instance $nothing)))"#))
}

/// Two components in one, each with a memory of its own, and a text that goes from one to the other: the engine has to compile the copy.
fn composed() -> Vec<u8> {
    component(
        r#"(component
            (component $callee
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                    (func (export "f") (param i32 i32)))
                (core instance $i (instantiate $m))
                (func (export "f") (param "text" string)
                    (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc")))))
            (component $caller
                (import "f" (func $f (param "text" string)))
                (core module $libc (memory (export "memory") 1))
                (core instance $libc (instantiate $libc))
                (core func $lowered (canon lower (func $f) (memory $libc "memory")))
                (core module $m (import "" "f" (func (param i32 i32))))
                (core instance (instantiate $m (with "" (instance (export "f" (func $lowered)))))))
            (instance $callee (instantiate $callee))
            (instance (instantiate $caller (with "f" (func $callee "f"))))
            (instance $nothing)
            (export "gristmill:transform/transform@1.0.0" (instance $nothing)))"#,
    )
}

/// A core module whose world, of the package `gristmill:transform`, exports an interface of another package, which uses the types of the first.
fn world_in_a_circle() -> Vec<u8> {
    let mut module = Guest::doubling().module();
    let name = b"gristmill:transform/transform@1.0.0";
    let at = module.windows(name.len()).rposition(|bytes| bytes == name).expect("its world stands behind its code");
    module[at + 1] = b'e';
    module
}

/// An import of a module whose name would look like a line of a log.
const FORGES: &str = r#"(import "a\0aERROR forged\1b[2J" "x" (func))"#;

/// A component that exports the transform, empty, and has a type of a component of a type of a component of …
fn a_type_of_depth(levels: usize) -> Vec<u8> {
    let ends = [vec![1], [0x41, 1, 1].repeat(levels), vec![0x41, 0]].concat();
    let mut bytes = exporting("gristmill:transform/transform@1.0.0");
    section(&mut bytes, 7, &ends);
    bytes
}

/// A component in a component in a component in …
fn components_of_depth(levels: usize) -> Vec<u8> {
    let header = component("(component)");
    let mut heads = vec![header.clone()];
    let mut length = header.len();
    for _ in 0..levels {
        let mut head = header.clone();
        head.push(4);
        length.encode(&mut head);
        length += head.len();
        heads.push(head);
    }
    heads.into_iter().rev().flatten().collect()
}

/// A core module with nothing in it but a custom section.
fn with_section(name: &str, data: &[u8]) -> Vec<u8> {
    let mut module = wasm_encoder::Module::new();
    module.section(&wasm_encoder::CustomSection { name: name.into(), data: data.into() });
    module.finish()
}

/// A component with this in a core module.
fn in_core(text: &str) -> Vec<u8> {
    component(&format!("(component (core module {text}))"))
}

fn section(bytes: &mut Vec<u8>, id: u8, body: &[u8]) {
    bytes.push(id);
    body.encode(bytes);
}

fn loads(change: impl FnOnce(&mut Guest)) -> Vec<u8> {
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), one(Values::Integers(vec![1, 2, 3])));
    change(&mut guest);
    guest.module()
}

fn applies(body: &str) -> Vec<u8> {
    loads(|guest| guest.apply = body.into())
}

/// A `cabi_realloc` that does this when it is asked for any bytes at all; empty settings are none.
fn realloc(body: &str) -> String {
    format!("(if (result i32) (local.get $length) (then {body}) (else (i32.const 8)))")
}

/// A body that answers with an error. The text is stored byte by byte at 512.
fn refusing(message: &[u8]) -> String {
    let store: String =
        message.iter().enumerate().map(|(at, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 512 + at)).collect();
    let length = message.len();
    format!(
        "{store} (i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 260) (i32.const 512))
         (i32.store (i32.const 264) (i32.const {length})) (i32.const 256)"
    )
}

/// Fifty rejections whose reasons are one and the same 50,000 bytes of memory: small for the guest, large for who copies them.
fn sharing_a_text() -> Vec<u8> {
    let mut guest = Guest::answering(spec(&[("value", Kind::Integer, false)]), from(&[0, 0, 0], &[1; 50]));
    let entry = |index: usize, at: usize, number: u32| {
        format!("(i32.store offset={} (i32.load (i32.const {})) (i32.const {number}))", index * 12 + at, ANSWER_AT + 28)
    };
    let stores: String = (0..50).map(|index| entry(index, 4, 8_192) + &entry(index, 8, 50_000)).collect();
    guest.apply = format!("{stores} (i32.const {ANSWER_AT})");
    guest.module()
}

fn answers(spec: Spec) -> Vec<u8> {
    Guest::answering(spec, Output::default()).module()
}

/// A spec with so many inputs and outputs that are vectors of the greatest width.
fn of_vectors(inputs: usize, outputs: usize) -> Spec {
    let mut spec = spec(&[("value", Kind::Integer, false)]);
    let vector = |index| Field { width: Some(65_536), ..field(&format!("vector{index}"), Kind::Vector, true) };
    spec.inputs.extend((0..inputs).map(vector));
    spec.outputs.extend((0..outputs).map(vector));
    spec
}

fn reading(stream: &str) -> Spec {
    Spec { streams: vec![stream.into()], ..spec(&[("value", Kind::Integer, false)]) }
}

fn aggregating() -> Spec {
    let mut spec = spec(&[("value", Kind::Integer, false)]);
    let (function, doc) = (Aggregate::Count, String::new());
    spec.aggregations = vec![Aggregation { feature: "clicks".into(), column: "value".into(), function, window_ms: None, doc }];
    spec
}

fn packed(values: &[&str]) -> Packed {
    let mut packed = Packed::default();
    values.iter().for_each(|value| packed.push(value.as_bytes()));
    packed
}

fn one(values: Values) -> Output {
    Output { batch: Batch { rows: 3, columns: vec![Arc::new(Column { values, validity: None })] }, origins: None, rejected: vec![] }
}

fn null(values: Values, bits: &[u8]) -> Output {
    let mut output = one(values);
    Arc::get_mut(&mut output.batch.columns[0]).expect("nobody shares it").validity = Some(Validity { bits: bits.to_vec() });
    output
}

fn twice(mut output: Output) -> Output {
    output.batch.columns.push(output.batch.columns[0].clone());
    output
}

fn rows(rows: usize) -> Output {
    let mut output = one(Values::Integers(vec![0; rows]));
    output.batch.rows = rows;
    output
}

fn from(origins: &[u32], rejected: &[u32]) -> Output {
    let rejected = rejected.iter().map(|row| (*row, "no".into())).collect();
    Output { origins: Some(origins.to_vec()), rejected, ..one(Values::Integers(vec![1, 2, 3])) }
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
