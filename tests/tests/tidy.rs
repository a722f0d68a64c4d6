//! The rules of the house, as checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines in a file, its tests not counted, and lines in a function, at most.
const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file that git knows, with its text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let output = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let read = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let files: Vec<(String, String)> = names.lines().filter_map(read).collect();
    assert!(files.len() > 50, "git lists the files of the checkout");
    files
}

fn rust_files() -> Vec<(String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".rs")).collect()
}

/// The floors as ARCHITECTURE.md states them: module and number.
fn floors() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut floors = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, number, modules, ..] = cells.as_slice()
            && let Ok(number) = number.parse()
        {
            floors.extend(modules.split('`').skip(1).step_by(2).map(|module| (module.to_owned(), number)));
        }
    }
    floors
}

/// The module of the library that a file belongs to.
fn module_of(file: &str) -> Option<&str> {
    file.strip_prefix("host/src/")?.split(['/', '.']).next()
}

/// What a text of one module uses and must not.
fn wrong_uses(floors: &BTreeMap<String, u32>, module: &str, text: &str) -> Vec<String> {
    let own = floors[module];
    let used = text.split("crate::").skip(1).filter_map(|rest| {
        let name: String = rest.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect();
        floors.contains_key(&name).then_some(name)
    });
    used.filter(|name| name != module && floors[name] >= own).collect()
}

#[test]
fn a_use_points_down_only() {
    let floors = floors();
    assert_eq!(floors.get("model"), Some(&1), "the table of floors stands in ARCHITECTURE.md");
    for (file, text) in rust_files() {
        let Some(module) = module_of(&file).filter(|module| !["lib", "main"].contains(module)) else { continue };
        assert!(floors.contains_key(module), "{file}: module `{module}` stands on no floor of ARCHITECTURE.md");
        let wrong = wrong_uses(&floors, module, &text);
        assert!(wrong.is_empty(), "{file} uses {wrong:?}, which are not below `{module}`");
    }
    assert_eq!(wrong_uses(&floors, "source", "use crate::online_store::Error;"), ["online_store"], "the check can fail");
}

/// A file's lines without its unit tests.
fn code_lines(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

/// Names and lengths of the functions of a formatted file.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if open.last().is_some_and(|(_, at, _)| indent == *at) && line.trim_start().starts_with('}') {
            let (name, _, start) = open.pop().unwrap();
            found.push((name, number - start + 1));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_function =
            words.iter().take(5).any(|word| *word == "fn") && !line.trim_end().ends_with(';') && !line.trim_end().ends_with('}');
        if is_function && !line.trim_start().starts_with("//") {
            let name = line.split("fn ").nth(1).unwrap_or_default().split(['(', '<']).next().unwrap_or_default();
            open.push((name.to_owned(), indent, number));
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    for (file, text) in rust_files().iter().filter(|(file, _)| file.starts_with("host/src") || file.starts_with("plugins/")) {
        assert!(!file.ends_with("/mod.rs"), "{file}: write foo.rs and foo/");
        let lines = code_lines(text);
        assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines: is a room missing?");
        for (name, lines) in functions(text) {
            assert!(lines <= FUNCTION_LINES_MAX, "{file}: `{name}` has {lines} lines");
        }
    }
    let sample = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(80));
    assert_eq!(functions(&sample), [("long".to_owned(), 82)], "the check can fail");
}

#[test]
fn nothing_is_left_over() {
    let leftovers = ["todo!(", "unimplemented!(", "dbg!(", "FIX\u{4d}E", "X\u{58}X", "#[ignore", "allow(dead_code", "allow(unused"];
    let sleeps = ["thread::sle\u{65}p", "time::sle\u{65}p"];
    for (file, text) in rust_files() {
        // What a macro writes for others cannot know what they use.
        if file == "tests/tests/tidy.rs" || file.starts_with("plugins/sdk-rust-macros/") {
            continue;
        }
        for word in leftovers {
            assert!(!text.contains(word), "{file} contains {word}");
        }
        for word in sleeps.iter().filter(|_| file.starts_with("tests/src/") || file.starts_with("tests/tests/")) {
            assert!(!text.contains(word), "{file}: a test waits for a condition with a deadline, not for time");
        }
    }
}

#[test]
fn nobodys_machine_is_named() {
    let places = ["/ho\u{6d}e/", "/ro\u{6f}t/", "/wor\u{6b}/"];
    for (file, text) in files() {
        for place in places {
            assert!(!text.contains(place), "{file} contains {place}, a path of somebody's machine");
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut reason_above = false;
    for line in section.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with('#') {
            reason_above = true;
            continue;
        }
        let own = line.contains("path = ");
        assert!(own || reason_above || line.contains(" # "), "say why it is there: {line}");
        reason_above = false;
    }
}

/// Files that a Markdown text links to.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for (file, text) in files().iter().filter(|(file, _)| file.ends_with(".md")) {
        let folder = root().join(file).parent().unwrap().to_owned();
        for link in links(text) {
            assert!(folder.join(link).exists(), "{file} links to {link}, which is not there");
        }
    }
    assert_eq!(links("[a](b.md#c) [d](https://e)"), ["b.md"]);
}

#[test]
fn every_example_says_what_it_is() {
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.is_dir() || path.join("README.md").is_file(), "{} has no README.md", path.display());
    }
}

/// The tests that a page names: what stands between backticks and is written like a test's name.
fn named_tests(page: &str) -> Vec<&str> {
    let is_name = |word: &&str| word.matches('_').count() >= 2 && word.chars().all(|char| char.is_ascii_lowercase() || char == '_');
    page.split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_guarantee_has_its_tests() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let page = text
        .split("\n## Guarantees\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("ARCHITECTURE.md has a page of guarantees");
    let sources: Vec<(String, String)> = rust_files();
    let exists = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("fn {name}(")));
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(table.len() > 10, "the table is there");
    for line in table {
        let names = named_tests(line);
        assert!(!names.is_empty(), "no test shows this: {line}");
        for name in names.iter().filter(|name| !name.starts_with("gristmill_")) {
            assert!(exists(name), "there is no test `{name}`, which ARCHITECTURE.md says to show: {line}");
        }
    }
    assert_eq!(named_tests("`a_b` says `appendfsync always`, shown by `it_is_so`"), ["it_is_so"]);
}

/// The rows of the bench of languages: how it is written in tables, and nanoseconds a row for numbers and texts.
fn measured_languages(figures: &str) -> Vec<(&'static str, String)> {
    let section = figures.split("## languages").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let number = |cell: &str| {
        let digits = cell.trim().split(' ').next().unwrap_or_default();
        if digits.len() > 3 { format!("{},{}", &digits[..digits.len() - 3], &digits[digits.len() - 3..]) } else { digits.to_owned() }
    };
    let named = [("rust", "Rust"), ("c", "C"), ("zig", "Zig"), ("go", "Go"), ("typescript", "TypeScript"), ("python", "Python")];
    let row = |language: &str| {
        section.lines().find(|line| line.starts_with(&format!("| {language} |"))).map(|line| line.split('|').collect::<Vec<_>>())
    };
    named
        .into_iter()
        .filter_map(|(language, name)| row(language).map(|cells| (name, format!("| {} / {} |", number(cells[2]), number(cells[4])))))
        .collect()
}

#[test]
fn tables_of_languages_say_what_was_measured() {
    let figures = std::fs::read_to_string(root().join("tests/benches/figures.md")).unwrap();
    let measured = measured_languages(&figures);
    assert_eq!(measured.len(), 6, "{measured:?}");
    for page in ["README.md", "plugins/README.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for (name, cell) in &measured {
            let is_its_row = |line: &&str| line.trim_start_matches(['|', ' ', '[']).starts_with(name) && line.contains(" / ");
            let row = text.lines().find(is_its_row).unwrap_or_else(|| panic!("{page} has no row for {name}"));
            assert!(row.contains(cell.as_str()), "{page}: {row}\nmeasured: {cell}");
        }
    }
}
