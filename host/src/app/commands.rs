//! What requests want done to the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{SemaphorePermit, mpsc};

use super::Core;
use super::binding_options::BindingOptions;
use super::book::{Outdated, is_of_store};
use super::evolve::Incompatible;
use super::standing::Standing;
use super::transforms::{Active, Changed, Source, TURNS_MAX};
use super::versions::Origin;
use super::workers::Worker;
use crate::model::aggregation::FUNCTIONS;
use crate::pipeline::Health;
use crate::serve::{Binding, Command, PartState, Readiness, Refusal, RefusalKind, TransformChange, TransformInfo};

/// Carries out commands until nobody can send any; each in a task of its own, because compiling takes its time.
pub(super) fn start(core: &Arc<Core>, mut commands: mpsc::Receiver<Command>) {
    let core = Arc::clone(core);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            tokio::spawn(carry_out(Arc::clone(&core), command));
        }
    });
}

async fn carry_out(core: Arc<Core>, command: Command) {
    if changes(&command) {
        // What cannot be compared now cannot be changed either, and then that is the answer.
        let _ = core.refresh().await;
    }
    // A client that has gone away does not need its answer.
    match command {
        Command::PutTransform { name, component, binding, by, reply } => {
            let _ = reply.send(core.put(&name, component, binding, by).await);
        }
        Command::Activate { name, number, wish, reply } => {
            let _ = reply.send(core.activate(&name, number, wish).await);
        }
        Command::Versions { name, reply } => {
            let _ = reply.send(core.versions(&name).await);
        }
        Command::DeleteTransform { name, reply } => {
            let _ = reply.send(core.delete(&name).await);
        }
        Command::ChangeTransform { name, change, reply } => {
            let _ = reply.send(core.change(&name, change).await);
        }
        Command::PutShadow { name, component, binding, reply } => {
            let _ = reply.send(core.put_shadow(&name, component, binding).await);
        }
        Command::ShowShadow { name, reply } => {
            let _ = reply.send(core.shadow_report(&name).await);
        }
        Command::PromoteShadow { name, gates, by, reply } => {
            let _ = reply.send(core.promote_shadow(&name, gates, by).await);
        }
        Command::DeleteShadow { name, reply } => {
            let _ = reply.send(core.delete_shadow(&name).await);
        }
        Command::ListTransforms { reply } => {
            let _ = reply.send(core.list_all().await);
        }
        Command::ListStreams { reply } => {
            let _ = reply.send(core.list_streams().await);
        }
        Command::PutService { name, features, reply } => {
            let _ = reply.send(core.put_service(&name, features).await);
        }
        Command::DeleteService { name, reply } => {
            let _ = reply.send(core.delete_service(&name).await);
        }
        Command::Replay { wanted, reply } => {
            let _ = reply.send(core.replay(wanted).await);
        }
        Command::Ready { reply } => {
            let _ = reply.send(core.readiness().await);
        }
    }
}

/// Whether a command changes what is in force, which another host may have changed a moment ago.
fn changes(command: &Command) -> bool {
    match command {
        Command::PutTransform { .. }
        | Command::Activate { .. }
        | Command::DeleteTransform { .. }
        | Command::ChangeTransform { .. }
        | Command::PutShadow { .. }
        | Command::PromoteShadow { .. }
        | Command::PutService { .. }
        | Command::DeleteService { .. } => true,
        Command::Versions { .. }
        | Command::ShowShadow { .. }
        | Command::DeleteShadow { .. }
        | Command::ListTransforms { .. }
        | Command::ListStreams { .. }
        | Command::Replay { .. }
        | Command::Ready { .. } => false,
    }
}

/// A component that was not put into force.
pub(super) fn refused(error: &anyhow::Error) -> Refusal {
    let kind = match error {
        error if error.is::<Incompatible>() || error.is::<Outdated>() || error.is::<Changed>() => RefusalKind::Conflict,
        error if is_of_store(error) => RefusalKind::Unavailable,
        _ => RefusalKind::Unusable,
    };
    Refusal { kind, message: format!("{error:#}") }
}

fn unusable(error: &anyhow::Error) -> Refusal {
    Refusal { kind: RefusalKind::Unusable, message: format!("{error:#}") }
}

impl Core {
    async fn put(self: &Arc<Core>, name: &str, component: Bytes, binding: Binding, by: String) -> Result<TransformInfo, Refusal> {
        let _place = self.place_to_compile()?;
        let source = Source::Put { origin: Origin::Pushed, by, force: binding.force.unwrap_or_default(), shadow: None };
        let before = self.streams.load_full();
        let mut turns = 0;
        let installed = loop {
            // What is not said is as it was before, whoever has changed that meanwhile.
            let known = self.known_options(name).await;
            let options = known.unwrap_or_else(|| BindingOptions { limits: self.config.limits, ..BindingOptions::default() });
            let options = Self::with_binding(options, binding.clone())?;
            match self.install_once(name, component.clone(), Some(options), &source).await {
                Err(error) if error.is::<Outdated>() && turns < TURNS_MAX => turns += 1,
                installed => break installed,
            }
            self.refresh().await.map_err(|error| refused(&error))?;
        };
        let active = installed.map_err(|error| refused(&error))?;
        let info = self.info(name).await?;
        // One that nothing read before a restart is opened anew and has entries.
        let made_stream = info.stream.as_ref().is_some_and(|stream| !before.contains_key(stream) && self.is_empty_log(stream));
        Ok(TransformInfo { sample: active.sample, made_stream, ..info })
    }

    /// A place among those who have something compiled.
    pub(super) fn place_to_compile(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let busy = |_| Refusal { kind: RefusalKind::Unavailable, message: "other components are being compiled; try again".into() };
        self.pushes.try_acquire().map_err(busy)
    }

    /// A transform that is in force.
    pub(super) async fn info(&self, name: &str) -> Result<TransformInfo, Refusal> {
        let gone = || Refusal { kind: RefusalKind::Conflict, message: format!("transform `{name}` was removed at the same time") };
        self.list_all().await.into_iter().find(|transform| transform.name == name).ok_or_else(gone)
    }

    /// All transforms, and where those that are paused have not been left yet.
    async fn list_all(&self) -> Vec<TransformInfo> {
        let mut all = self.list().await;
        for transform in all.iter_mut().filter(|transform| transform.state == "paused") {
            transform.leaving = self.still_to_leave(&transform.name).await;
        }
        all
    }

    /// What a component put under this name is bound like where the request says nothing: like the one before, or like the current version of its view,
    /// but for how that reads.
    async fn known_options(&self, name: &str) -> Option<BindingOptions> {
        let registry = self.registry.lock().await;
        if let Some(active) = registry.active.get(name) {
            return Some(active.options.clone());
        }
        let current = registry.active.get(registry.book.standing.current(name))?;
        Some(BindingOptions { group: None, start: None, emit: None, ..current.options.clone() })
    }

    async fn change(self: &Arc<Core>, name: &str, change: TransformChange) -> Result<TransformInfo, Refusal> {
        match change {
            TransformChange::Pause => self.pause(name).await?,
            TransformChange::Resume => self.resume(name).await?,
            TransformChange::Switch { now } => self.switch(name, now).await?,
        }
        self.info(name).await
    }

    /// How a component is bound once a request has said what it wants otherwise.
    pub(super) fn with_binding(mut options: BindingOptions, binding: Binding) -> Result<BindingOptions, Refusal> {
        options.stream = binding.stream.or(options.stream);
        if let Some(text) = binding.group {
            options.group = Some(text.parse().map_err(|error: String| unusable(&anyhow::anyhow!("`group`: {error}")))?);
        }
        if let Some(text) = binding.start {
            options.start = Some(text.parse().map_err(|error: String| unusable(&anyhow::anyhow!("`start`: {error}")))?);
        }
        // An empty one ends it.
        options.emit = binding.emit.or(options.emit).filter(|emit| !emit.is_empty());
        options.settings = binding.settings.unwrap_or(options.settings);
        options.max_age_secs = binding.max_age_secs.or(options.max_age_secs);
        options.expire_secs = binding.expire_secs.or(options.expire_secs);
        options.history_secs = binding.history_secs.unwrap_or(options.history_secs);
        options.exact = binding.exact.unwrap_or(options.exact);
        options.ahead_max_secs = binding.ahead_max_secs.unwrap_or(options.ahead_max_secs);
        if let Some(bytes) = binding.entity_bytes_max {
            crate::config::check_entity_bytes_max(bytes).map_err(|error| unusable(&anyhow::anyhow!("`entity_bytes_max`: {error}")))?;
            options.entity_bytes_max = bytes;
        }
        options.at = binding.at.unwrap_or(options.at);
        options.fallback.kind = binding.fallback.unwrap_or(options.fallback.kind);
        if let Some(text) = binding.fallback_values {
            options.fallback.values = serde_json::from_str(&text)
                .map_err(|error| unusable(&anyhow::anyhow!("`fallback_values`: {error}; give a JSON object")))?;
        }
        if let Some(text) = binding.inputs {
            options.inputs = serde_json::from_str(&text)
                .map_err(|error| unusable(&anyhow::anyhow!("`inputs`: {error}; give a JSON object of {{\"from\":…}} by input")))?;
        }
        if let Some(text) = binding.aggregations {
            options.aggregations =
                serde_json::from_str(&text).map_err(|error| unusable(&anyhow::anyhow!("`aggregations`: {error}; {FUNCTIONS}")))?;
        }
        Ok(options)
    }

    async fn delete(self: &Arc<Core>, name: &str) -> Result<(), Refusal> {
        match self.remove(name).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal { kind: RefusalKind::NotFound, message: format!("there is no transform `{name}`") }),
            Err(error) => Err(Refusal { kind: RefusalKind::Unavailable, message: format!("{error:#}") }),
        }
    }

    pub(super) async fn list(&self) -> Vec<TransformInfo> {
        let registry = self.registry.lock().await;
        let workers = self.workers.lock().await;
        let running = registry.active.iter().map(|(name, active)| {
            let worker = active.reading.as_ref().map(|reading| workers.get(&reading.group));
            info(name, active, &registry.book.standing, worker)
        });
        let refused = registry.refused.iter().map(|(name, reason)| TransformInfo {
            name: name.clone(),
            state: "refused",
            reason: Some(reason.clone()),
            refused: None,
            stream: None,
            group: None,
            places: BTreeMap::new(),
            current: registry.book.standing.current(name) == name,
            switching: false,
            emit: None,
            component: None,
            origin: None,
            number: None,
            sample: None,
            made_stream: false,
            unseen: Vec::new(),
            leaving: Vec::new(),
            warnings: Vec::new(),
            spec: None,
        });
        let mut all: Vec<TransformInfo> = running.chain(refused).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    async fn readiness(&self) -> Readiness {
        let mut parts = Vec::new();
        let (ready, state) = match self.store.as_store().check().await {
            Ok(()) => (true, "answers".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        parts.push(PartState { part: "store".into(), ready, state });
        if let Some(reason) = self.behind.lock().ok().and_then(|behind| behind.clone()) {
            parts.push(PartState { part: "versions".into(), ready: false, state: format!("not compared with the store: {reason}") });
        }
        {
            let workers = self.workers.lock().await;
            for (group, worker) in workers.iter() {
                let (state, reason) = describe(&worker.health());
                let ready = matches!(state, "running" | "standing_by");
                let mut state = reason.map_or(state.to_owned(), |reason| format!("{state}: {reason}"));
                if worker.is_shared() {
                    let held: Vec<String> = worker.held().map(|index| index.to_string()).collect();
                    state = format!("{state}; {} of {} partitions here: {}", held.len(), worker.pipelines.len(), held.join(" "));
                }
                let is_shared = *self.stream_config(&group.stream).group == *group.name;
                let of = if is_shared { String::new() } else { format!(" group {}", group.name) };
                parts.push(PartState { part: format!("stream {}{of}", group.stream), ready, state });
            }
        }
        for transform in self.list().await {
            let ready = matches!(transform.state, "running" | "standing_by" | "paused");
            let state = transform.reason.map_or(transform.state.to_owned(), |reason| format!("{}: {reason}", transform.state));
            parts.push(PartState { part: format!("transform {}", transform.name), ready, state });
        }
        Readiness { ready: parts.iter().all(|part| part.ready), parts }
    }
}

/// `worker` is that of its group, if it reads a stream.
fn info(name: &str, active: &Active, standing: &Standing, worker: Option<Option<&Worker>>) -> TransformInfo {
    let (state, reason) = match worker {
        _ if standing.is_paused(name) => ("paused", None),
        // It has gone on to a stream where this host cannot have it.
        None if active.bound.stream().is_some() => describe(&Health::Stopped),
        // What answers requests works as long as the host does.
        None => describe(&Health::Running),
        Some(worker) => describe(&worker.map_or(Health::Stopped, Worker::health)),
    };
    let pipelines = worker.flatten().into_iter().flat_map(|worker| &worker.pipelines);
    TransformInfo {
        name: name.to_owned(),
        state,
        reason,
        refused: active.refused.clone(),
        stream: active.bound.stream().map(str::to_owned),
        group: active.reading.as_ref().map(|reading| reading.group.name.clone()),
        places: pipelines.filter_map(|running| Some((running.partition.index, (*running.progress.borrow())?))).collect(),
        current: standing.current(name) == name,
        switching: standing.switching.iter().any(|switching| switching == name),
        emit: active.options.emit.clone(),
        component: Some(active.bound.transform().digest()),
        origin: Some(active.origin.as_str()),
        number: Some(active.number),
        sample: None,
        made_stream: false,
        unseen: Vec::new(),
        leaving: Vec::new(),
        warnings: active.bound.warning().into_iter().collect(),
        spec: Some(active.bound.transform().spec().as_ref().clone()),
    }
}

pub(super) fn describe(health: &Health) -> (&'static str, Option<String>) {
    match health {
        Health::Starting => ("starting", None),
        Health::Running => ("running", None),
        Health::StandingBy(reason) => ("standing_by", Some(reason.clone())),
        Health::Waiting(reason) => ("waiting", Some(reason.clone())),
        Health::Stopped => ("stopped", None),
    }
}
