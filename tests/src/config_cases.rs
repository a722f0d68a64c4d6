//! Configurations beside what is said about them: `cases/config/NAME.toml` and `NAME.expected`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use gristmill::config::Config;

/// Reads every case and compares; the differences, one text for each case that differs. With `GRISTMILL_UPDATE_CASES=1` in the environment the
/// expected texts are written anew instead.
pub fn differences() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let update = std::env::var_os("GRISTMILL_UPDATE_CASES").is_some();
    for path in cases()? {
        let text = std::fs::read_to_string(&path)?;
        let said = match Config::parse(&text, "gristmill.toml", Path::new("")) {
            Ok(_) => "all right\n".to_owned(),
            Err(error) => format!("{error}\n"),
        };
        let expected_path = path.with_extension("expected");
        if update {
            std::fs::write(&expected_path, said)?;
            continue;
        }
        let expected = std::fs::read_to_string(&expected_path).with_context(|| format!("cannot read {}", expected_path.display()))?;
        if said != expected {
            found.push(format!("{}\n--- expected\n{expected}--- said\n{said}", path.display()));
        }
    }
    Ok(found)
}

fn cases() -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/config");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    let mut cases: Vec<PathBuf> = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    cases.sort();
    anyhow::ensure!(!cases.is_empty(), "no cases in {}", folder.display());
    Ok(cases)
}
