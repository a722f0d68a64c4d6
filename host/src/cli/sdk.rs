//! The SDKs and the contract as this program carries them, so that a plugin can be made where nothing is published.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::build::Language;

/// A file as it lies in this project: its path from the root, and its text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

const CONTRACT: &[File] = files!["wit/transform.wit"];

const PYTHON: &[File] = files![
    "plugins/sdk-python/README.md",
    "plugins/sdk-python/src/gristmill/__init__.py",
    "plugins/sdk-python/src/gristmill/_api.py",
    "plugins/sdk-python/src/gristmill/_kinds.py",
    "plugins/sdk-python/src/gristmill/_log.py",
    "plugins/sdk-python/src/gristmill/_rows.py",
    "plugins/sdk-python/src/gristmill/_steady.py",
    "plugins/sdk-python/src/gristmill/_values.py",
    "plugins/sdk-python/src/gristmill/_wire.py",
    "plugins/sdk-python/src/gristmill/aggregate.py",
    "plugins/sdk-python/src/gristmill/componentize-py.toml",
    "plugins/sdk-python/src/gristmill/py.typed",
    "plugins/sdk-python/src/gristmill/testing.py",
    "plugins/sdk-python/src/gristmill/wit/transform.wit",
];

const JAVASCRIPT: &[File] = files![
    "plugins/sdk-js/README.md",
    "plugins/sdk-js/aggregate.js",
    "plugins/sdk-js/component.js",
    "plugins/sdk-js/define.js",
    "plugins/sdk-js/index.d.ts",
    "plugins/sdk-js/index.js",
    "plugins/sdk-js/kinds.js",
    "plugins/sdk-js/log.js",
    "plugins/sdk-js/package.json",
    "plugins/sdk-js/sink.js",
    "plugins/sdk-js/testing.d.ts",
    "plugins/sdk-js/testing.js",
    "plugins/sdk-js/values.js",
];

const C: &[File] = files!["plugins/sdk-c/README.md", "plugins/sdk-c/gristmill.h", "plugins/sdk-c/gristmill_world.h"];

const ZIG: &[File] = files!["plugins/sdk-zig/README.md", "plugins/sdk-zig/gristmill.zig"];

const GO: &[File] = files![
    "plugins/sdk-go/README.md",
    "plugins/sdk-go/fold/codec.go",
    "plugins/sdk-go/fold/fold.go",
    "plugins/sdk-go/fold/migration.go",
    "plugins/sdk-go/fold/results.go",
    "plugins/sdk-go/fold/world_wasip1.go",
    "plugins/sdk-go/go.mod",
    "plugins/sdk-go/gristmill.go",
    "plugins/sdk-go/internal/abi/calls_wasip1.go",
    "plugins/sdk-go/internal/abi/layout_wasip1.go",
    "plugins/sdk-go/internal/abi/memory_wasip1.go",
    "plugins/sdk-go/internal/core/column.go",
    "plugins/sdk-go/internal/core/columns.go",
    "plugins/sdk-go/internal/core/field.go",
    "plugins/sdk-go/internal/core/folds.go",
    "plugins/sdk-go/internal/core/load.go",
    "plugins/sdk-go/internal/core/log.go",
    "plugins/sdk-go/internal/core/log_native.go",
    "plugins/sdk-go/internal/core/log_wasip1.go",
    "plugins/sdk-go/internal/core/members.go",
    "plugins/sdk-go/internal/core/migration.go",
    "plugins/sdk-go/internal/core/plugin.go",
    "plugins/sdk-go/internal/core/rows.go",
    "plugins/sdk-go/internal/core/run.go",
    "plugins/sdk-go/internal/core/sink.go",
    "plugins/sdk-go/internal/core/spec.go",
    "plugins/sdk-go/internal/core/store.go",
    "plugins/sdk-go/internal/core/windows.go",
    "plugins/sdk-go/log.go",
    "plugins/sdk-go/results.go",
    "plugins/sdk-go/settings/settings.go",
    "plugins/sdk-go/window/window.go",
    "plugins/sdk-go/world_wasip1.go",
];

const RUST: &[File] = files![
    "plugins/sdk-rust-macros/Cargo.toml",
    "plugins/sdk-rust-macros/src/aggregate.rs",
    "plugins/sdk-rust-macros/src/fields.rs",
    "plugins/sdk-rust-macros/src/fold.rs",
    "plugins/sdk-rust-macros/src/input.rs",
    "plugins/sdk-rust-macros/src/lib.rs",
    "plugins/sdk-rust-macros/src/output.rs",
    "plugins/sdk-rust-macros/src/transform.rs",
    "plugins/sdk-rust/README.md",
    "plugins/sdk-rust/Cargo.toml",
    "plugins/sdk-rust/src/bindings.rs",
    "plugins/sdk-rust/src/fold.rs",
    "plugins/sdk-rust/src/fold_bindings.rs",
    "plugins/sdk-rust/src/input.rs",
    "plugins/sdk-rust/src/lib.rs",
    "plugins/sdk-rust/src/log.rs",
    "plugins/sdk-rust/src/migration_bindings.rs",
    "plugins/sdk-rust/src/output.rs",
    "plugins/sdk-rust/src/returned.rs",
    "plugins/sdk-rust/src/settings.rs",
    "plugins/sdk-rust/src/testing.rs",
    "plugins/sdk-rust/src/timestamp.rs",
    "plugins/sdk-rust/src/transform.rs",
];

/// What each new folder says of itself.
const README: &str = include_str!("../../../plugins/templates/common/README.md");

/// The manifest of this project, out of which that of the unpacked Rust SDK is made.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

const TEMPLATE_COMMON: &[File] = files!["plugins/templates/common/cases/basic.json", "plugins/templates/common/events.ndjson"];
const TEMPLATE_RUST: &[File] =
    files!["plugins/templates/rust/.gitignore", "plugins/templates/rust/Cargo.toml", "plugins/templates/rust/src/lib.rs"];
const TEMPLATE_PYTHON: &[File] = files![
    "plugins/templates/python/.gitignore",
    "plugins/templates/python/plugin.toml",
    "plugins/templates/python/test_transform.py",
    "plugins/templates/python/transform.py",
];

const TEMPLATE_TYPESCRIPT: &[File] = files![
    "plugins/templates/typescript/.gitignore",
    "plugins/templates/typescript/package.json",
    "plugins/templates/typescript/plugin.toml",
    "plugins/templates/typescript/transform.test.ts",
    "plugins/templates/typescript/transform.ts",
    "plugins/templates/typescript/tsconfig.json",
];
const TEMPLATE_JAVASCRIPT: &[File] = files![
    "plugins/templates/javascript/.gitignore",
    "plugins/templates/javascript/package.json",
    "plugins/templates/javascript/plugin.toml",
    "plugins/templates/javascript/transform.js",
    "plugins/templates/javascript/transform.test.js",
];
const TEMPLATE_C: &[File] = files![
    "plugins/templates/c/.gitignore",
    "plugins/templates/c/plugin.toml",
    "plugins/templates/c/test_transform.c",
    "plugins/templates/c/transform.c",
];

const TEMPLATE_ZIG: &[File] =
    files!["plugins/templates/zig/.gitignore", "plugins/templates/zig/plugin.toml", "plugins/templates/zig/transform.zig"];
const TEMPLATE_GO: &[File] = files![
    "plugins/templates/go/.gitignore",
    "plugins/templates/go/go.mod",
    "plugins/templates/go/plugin.toml",
    "plugins/templates/go/transform.go",
    "plugins/templates/go/transform_test.go",
];

fn files(language: Language) -> &'static [File] {
    match language {
        Language::Rust => RUST,
        Language::Python => PYTHON,
        Language::JavaScript | Language::TypeScript => JAVASCRIPT,
        Language::C => C,
        Language::Zig => ZIG,
        Language::Go => GO,
    }
}

fn template(language: Language) -> &'static [File] {
    match language {
        Language::Rust => TEMPLATE_RUST,
        Language::Python => TEMPLATE_PYTHON,
        Language::C => TEMPLATE_C,
        Language::Zig => TEMPLATE_ZIG,
        Language::TypeScript => TEMPLATE_TYPESCRIPT,
        Language::JavaScript => TEMPLATE_JAVASCRIPT,
        Language::Go => TEMPLATE_GO,
    }
}

/// Writes the SDK of a language and the contract into a folder, laid out as in this project.
pub(super) fn unpack(into: &Path, language: Language) -> anyhow::Result<()> {
    for (path, text) in CONTRACT.iter().chain(files(language)) {
        write(&into.join(path), text)?;
    }
    if language == Language::Rust {
        write(&into.join("Cargo.toml"), &workspace()?)?;
    }
    Ok(())
}

/// Writes a new plugin of this name into a folder. The word NAME in the templates stands for the name.
pub(super) fn new_plugin(into: &Path, language: Language, name: &str) -> anyhow::Result<()> {
    for (path, text) in TEMPLATE_COMMON.iter().chain(template(language)) {
        // plugins/templates/LANGUAGE/…
        let inner: PathBuf = Path::new(path).components().skip(3).collect();
        write(&into.join(inner), &text.replace("NAME", name))?;
    }
    let tools = language.tools().map(|tools| format!("{tools}\n")).unwrap_or_default();
    let said = [("TOOLS\n", tools.as_str()), ("UNIT", language.unit_tests()), ("SOURCE", language.code()), ("SDK", language.sdk())];
    let readme = said.iter().fold(README.to_owned(), |text, (mark, what)| text.replace(mark, what));
    write(&into.join("README.md"), &readme.replace("LANGUAGE", language.as_str()).replace("NAME", name))?;
    unpack(&into.join("sdk"), language)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    // A file that is the same is left alone, so that nothing is built again for it.
    if std::fs::read_to_string(file).ok().as_deref() == Some(text) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(file);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// A manifest for the folders of the Rust SDK alone: what they inherit from this project's.
fn workspace() -> anyhow::Result<String> {
    let mut manifest: toml::Table = WORKSPACE.parse().context("the project's manifest is TOML")?;
    manifest.retain(|section, _| section == "workspace");
    if let Some(workspace) = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut) {
        workspace.retain(|key, _| key != "exclude" && key != "default-members");
        workspace.insert("members".to_owned(), vec!["plugins/sdk-rust", "plugins/sdk-rust-macros"].into());
        if let Some(dependencies) = workspace.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
            // Only what lies in the folder can be named by its path.
            let lies_elsewhere = |value: &toml::Value| {
                let path = value.get("path").and_then(toml::Value::as_str);
                path.is_some_and(|path| !path.starts_with("plugins/sdk-rust"))
            };
            dependencies.retain(|_, value| !lies_elsewhere(value));
        }
    }
    Ok(toml::to_string(&manifest)?)
}
