use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::access;
use super::binding_options::BindingOptions;
use super::bound::{computed, view_of};
use super::chain::{Link, check_acyclic, emit};
use super::versions::digest;
use crate::config::Config;
use crate::model::{At, Digest, View, ViewName};
use crate::serve::suggestion;
use crate::telemetry::Telemetry;
use crate::transform::{Engine, EngineOptions, Transform};

/// A configured transform that would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// The stream that it would read; none for one that computes when somebody asks.
    pub stream: Option<String>,
    /// The stream that its rows go on to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<String>,
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
    let whole = config.clone().with_registry().map_err(anyhow::Error::msg)?;
    let memory_bytes_max = config.engine.memory_bytes_max;
    let engine = Engine::new(EngineOptions { memory_bytes_max, ..EngineOptions::default() })?;
    let mut checked = Vec::new();
    let mut problems = Vec::new();
    let mut views = Vec::new();
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
            Ok(loaded) => match view(config, name, loaded, &options) {
                Err(error) => problems.push(format!("transforms.{name}: {error:#}")),
                Ok((inputs, view)) => {
                    checked.push(Checked {
                        name: name.clone(),
                        stream: view.stream.clone(),
                        emit: options.emit.clone(),
                        inputs,
                        features: view.features.len() + view.windows.len(),
                        component: digest(&component),
                    });
                    views.push(view);
                }
            },
        }
    }
    let link = |checked: &Checked| {
        let (from, to) = (checked.stream.clone()?, checked.emit.clone()?);
        Some(Link { transform: checked.name.clone(), from, to })
    };
    let links: Vec<Link> = checked.iter().filter_map(link).collect();
    problems.extend(check_acyclic(config, &links).err().map(|error| error.to_string()));
    if problems.is_empty() {
        problems = unknown_features(config, &whole, &views);
    }
    if problems.is_empty() { Ok(checked) } else { Err(anyhow::anyhow!(problems.join("\n"))) }
}

/// How many inputs it has, and the view that it would make.
fn view(config: &Config, name: &str, transform: Transform, options: &BindingOptions) -> anyhow::Result<(usize, Arc<View>)> {
    let inputs = transform.spec().inputs.len();
    let view = match options.at {
        At::Stream => {
            let (view, stream) = view_of(name, &transform, options, config)?;
            if let Some(to) = &options.emit {
                emit(config, transform.spec(), &stream, to)?;
            }
            Arc::new(view)
        }
        At::Request => Arc::clone(computed(transform, options, Telemetry::new().transform(name))?.view()),
    };
    Ok((inputs, view))
}

/// References that no view can answer which stands in the configuration. A view that does not stand there may be put later, and so may features of another
/// version of a view.
fn unknown_features(config: &Config, whole: &Config, views: &[Arc<View>]) -> Vec<String> {
    let mut known: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for view in views {
        let features = view.features.iter().chain(&view.windows).map(|field| field.name.as_str());
        known.entry(ViewName::base_of(&view.name)).or_default().extend(features);
    }
    for (name, view) in &whole.views {
        known.entry(ViewName::base_of(name)).or_default().extend(view.features.keys().map(String::as_str));
    }
    let problem = |reference: &str| {
        let (view, feature) = reference.split_once(':')?;
        let features = known.get(ViewName::base_of(view))?;
        let hint = suggestion(feature, features.iter().copied());
        (!features.contains(&feature)).then(|| format!("view `{view}` has no feature `{feature}`{hint}"))
    };
    let of_services = config.services.iter().flat_map(|(name, section)| {
        section.features.iter().filter_map(move |reference| Some(format!("services.{name}: {}", problem(reference)?)))
    });
    let of_requests = views.iter().flat_map(|view| {
        view.uses.iter().filter_map(move |reference| Some(format!("transforms.{}.inputs: {}", view.name, problem(reference)?)))
    });
    of_services.chain(of_requests).collect()
}
