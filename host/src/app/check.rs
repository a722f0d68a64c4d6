use serde::Serialize;

use super::access;
use super::binding_options::BindingOptions;
use super::shelf::digest;
use super::transforms::view_of;
use crate::config::Config;
use crate::model::Digest;
use crate::transform::{Engine, EngineOptions};

/// A configured transform that would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// The stream that it would read.
    pub stream: String,
    /// How many inputs it has.
    pub inputs: usize,
    /// How many features.
    pub features: usize,
    /// Its component.
    pub component: Digest,
}

/// Compiles and asks every configured component, without opening a store or a stream. The error names everything that is wrong.
pub fn check(config: &Config) -> anyhow::Result<Vec<Checked>> {
    access::may_listen(config)?;
    access::tls(config)?;
    config.clone().with_registry().map_err(anyhow::Error::msg)?;
    let memory_bytes_max = config.engine.memory_bytes_max;
    let engine = Engine::new(EngineOptions { memory_bytes_max, ..EngineOptions::default() })?;
    let mut checked = Vec::new();
    let mut problems = Vec::new();
    for (name, transform) in &config.transforms {
        let component = match std::fs::read(&transform.component) {
            Ok(component) => component,
            Err(error) => {
                problems.push(format!("transforms.{name}: cannot read {}: {error}", transform.component.display()));
                continue;
            }
        };
        let options = BindingOptions::of(transform);
        match engine.load(name, &component, &options.settings, options.limits) {
            Err(error) => problems.push(format!("transforms.{name}: {error}")),
            Ok(loaded) => match view_of(name, &loaded, &options) {
                Err(error) => problems.push(format!("transforms.{name}: {error:#}")),
                Ok(view) => checked.push(Checked {
                    name: name.clone(),
                    stream: view.stream,
                    inputs: loaded.spec().inputs.len(),
                    features: view.features.len() + view.windows.len(),
                    component: digest(&component),
                }),
            },
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(anyhow::anyhow!(problems.join("\n"))) }
}
