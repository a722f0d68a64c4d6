//! TypeScript and JavaScript: esbuild makes one file of the plugin and the SDK, componentize-qjs puts it into a component with QuickJS.

mod lists;

use std::path::Path;

use anyhow::Context;

use super::super::Failure;
use super::{Language, Plugin, tools, written};

const HOW: &str = "  npm install --save-dev componentize-qjs@0.4.5 esbuild@0.25.12 typescript@5.9.3\n\n\
in the plugin's folder or one above it (they come from npm, with Node.js 20 or newer)";

pub(super) fn build(plugin: &Plugin) -> Result<Vec<u8>, Failure> {
    let esbuild = tools::need("esbuild", &plugin.folder, HOW)?;
    let componentize = tools::need("componentize-qjs", &plugin.folder, HOW)?;
    let (sdk, wit) = plugin.sdk("sdk-js")?;
    let target = plugin.target()?;
    if plugin.language == Language::TypeScript && plugin.folder.join("tsconfig.json").is_file() {
        // esbuild drops types without looking at them.
        let tsc = tools::need("tsc", &plugin.folder, HOW)?;
        tools::run(tools::command(&tsc, &plugin.folder).args(["--noEmit", "--project", "tsconfig.json"]))?;
    }
    let (entry, bundle, out) = (target.join("entry.js"), target.join("bundle.js"), target.join("component.wasm"));
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let source = quoted(&plugin.folder.join(&plugin.source));
    let exports = match plugin.world.as_str() {
        "stateful-transform" => "export const fold = exported(plugin, \"fold\");\n",
        "migrating-transform" => "export const fold = exported(plugin, \"fold\", true);\nexport const migration = migrating(plugin);\n",
        _ => "export const transform = exported(plugin, \"transform\");\n",
    };
    let component = quoted(&sdk.join("component.js"));
    let made = |whole: &str| -> Result<Vec<u8>, Failure> {
        let text = format!(
            "import {{ exported, migrating, textIsString }} from {component};\nimport * as plugin from {source};\n{exports}{whole}"
        );
        std::fs::write(&entry, text).with_context(|| format!("cannot write {}", entry.display()))?;
        let mut command = tools::command(&esbuild, &plugin.folder);
        command.arg(&entry).args(["--bundle", "--format=esm", "--log-level=warning", "--external:gristmill:*"]);
        command.arg(format!("--alias:gristmill={}", sdk.join("index.js").display())).arg(format!("--outfile={}", bundle.display()));
        tools::run(&mut command)?;
        let mut command = tools::command(&componentize, &target);
        command.arg("--wit").arg(&wit).arg("--js").arg(&bundle).arg("--module-root").arg(&target);
        command.args(["-n", &plugin.world, "--sync", "--stub-wasi", "-o"]).arg(&out);
        tools::run(&mut command)?;
        Ok(written(&out, "componentize-qjs")?)
    };
    let whole = lists::whole(&made("textIsString();\n")?).context("what componentize-qjs made cannot be read")?;
    // Another version of the tool may make something that is not known here.
    whole.map_or_else(|| made(""), Ok)
}
