//! What a transform is bound to: a stream, whose events it turns into rows, or requests, for which it computes its features anew.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use arc_swap::{ArcSwap, ArcSwapOption};

use super::Core;
use super::binding_options::BindingOptions;
use super::streams::shares_book;
use super::transforms::Registry;
use super::workers::Reading;
use crate::config::Config;
use crate::model::{
    At, Column, Field, Kind, Maker, Packed, Partitioning, Spec, StoredState, Timestamp, Values, View, ViewName, aggregation, is_stream_name,
};
use crate::pipeline::{Binding, OtherStates, Others};
use crate::serve::Computed;
use crate::telemetry::TransformTelemetry;
use crate::transform::{Transform, World};
use crate::window::{Forgets, Lasting, Plan};

/// A transform and what it works on.
#[derive(Clone)]
pub(super) enum Bound {
    /// The events of a stream.
    Stream(Arc<Binding>),
    /// What queries bring.
    Requests(Arc<Computed>),
}

impl Bound {
    pub(super) fn transform(&self) -> &Transform {
        match self {
            Bound::Stream(binding) => &binding.transform,
            Bound::Requests(computed) => computed.transform(),
        }
    }

    pub(super) fn view(&self) -> &Arc<View> {
        match self {
            Bound::Stream(binding) => &binding.view,
            Bound::Requests(computed) => computed.view(),
        }
    }

    /// What whoever has put it should know.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Bound::Stream(binding) => binding.warning(),
            Bound::Requests(_) => None,
        }
    }

    /// What is bound to a stream, if it is.
    pub(super) fn binding(&self) -> Option<&Arc<Binding>> {
        match self {
            Bound::Stream(binding) => Some(binding),
            Bound::Requests(_) => None,
        }
    }

    /// The stream, if it has one.
    pub(super) fn stream(&self) -> Option<&str> {
        self.view().stream.as_deref()
    }
}

impl Core {
    /// Binds a component that was compiled to what its options say.
    pub(super) async fn bind(
        &self,
        name: &str,
        transform: Transform,
        options: &BindingOptions,
        may_go_back: bool,
        registry: &Registry,
    ) -> anyhow::Result<(Bound, Option<Reading>)> {
        let bound = match options.at {
            At::Stream => Bound::Stream(Arc::new(self.bind_to_stream(name, transform, options, may_go_back, registry).await?)),
            At::Request => Bound::Requests(Arc::new(computed(transform, options, self.telemetry.transform(name))?)),
        };
        let reading = bound.stream().map(|stream| self.reading(name, stream, options, &registry.book.standing));
        if let Some(reading) = &reading {
            check_start(name, reading, registry)?;
        }
        Ok((bound, reading))
    }

    async fn bind_to_stream(
        &self,
        name: &str,
        transform: Transform,
        options: &BindingOptions,
        may_go_back: bool,
        registry: &Registry,
    ) -> anyhow::Result<Binding> {
        let (view, stream) = view_of(name, &transform, options, &self.config)?;
        self.check_partitioning(&view).await?;
        let others = self.check_states(&view, &transform, may_go_back).await?;
        if (transform.world().is_stateful() || !view.kept.is_nothing()) && self.is_competing(&stream) {
            bail!(
                "it keeps states, windows or history, which need events in order and once each, and the hosts of stream `{}` compete for its \
                 entries: set `consumers = \"single\"` in [streams.{stream}]",
                stream
            );
        }
        let emit = options.emit.as_ref().map(|to| self.emit(name, transform.spec(), &stream, to, registry)).transpose()?;
        let kept = (!view.kept.is_nothing()).then(|| Arc::new(Plan::new(&view.features, &view.kept)));
        let (lasting, now) = (Lasting::new(options.expire_secs(), kept.as_deref()), Timestamp::now());
        let forgets = match registry.book.versions.history(name) {
            Some(history) => history.forgets(lasting, kept.is_some(), now),
            None if others.schemas.is_empty() => Forgets::beginning(now),
            // The store has rows of it that were made before this book of versions.
            None => Forgets::default(),
        };
        let state_version = transform.world().is_stateful().then(|| view.version.clone());
        let schema = view.schema(state_version, forgets.unseen_before);
        let schema = self.store.as_store().intern(&schema).await.context("cannot register the view with the online store")?;
        let inputs = transform.spec().inputs.iter().map(|field| options.inputs.get(&field.name).cloned().unwrap_or_default()).collect();
        let maker = maker(&transform, options);
        let ahead_max_secs = ahead_max_secs(&view, &transform, options);
        let binding = Binding {
            transform,
            maker,
            view: Arc::new(view),
            schema,
            inputs,
            others: Others::new(others),
            kept,
            entity_bytes_max: options.entity_bytes_max,
            ahead_max_secs,
            emit,
            lasting,
            forgets: ArcSwap::from_pointee(forgets),
            bisect_ms_max: options.bisect_ms_max,
            shadow: ArcSwapOption::empty(),
            telemetry: self.telemetry.transform(name),
        };
        if let Some(warning) = binding.warning() {
            tracing::warn!(transform = name, "{warning}");
        }
        Ok(binding)
    }

    /// Refuses a view whose rows stand elsewhere in the store: they would not be found any more, and its states and windows would begin
    /// anew in silence.
    async fn check_partitioning(&self, view: &View) -> anyhow::Result<()> {
        let all = self.store.as_store().schemas().await.context("cannot read the schemas of the online store")?;
        let other =
            all.into_iter().map(|(_, schema)| schema).find(|schema| schema.view == view.name && schema.partitioning != view.partitioning);
        let Some(other) = other else { return Ok(()) };
        let described = |partitioning: &Option<Partitioning>| match partitioning {
            None => "of a stream without partitions".to_owned(),
            Some(Partitioning { key, count, by }) => format!("of `{key}` in {count} partitions by {}", by.join(", ")),
        };
        bail!(
            "rows of view `{}` are stored that were made {}, and it would now be made {}: they, and states and windows, would be left behind. Put it \
             as another version of the view (`{}@v2`), and switch to that when it has what you need",
            view.name,
            described(&other.partitioning),
            described(&view.partitioning),
            ViewName::base_of(&view.name)
        )
    }

    /// Refuses a fold that cannot go on from the states that are there: those of every version that was ever in force must be its own or be taken over, and a
    /// sample of what is stored is taken over for a try. One that was in force before may go back behind those that it cannot take over.
    pub(super) async fn check_states(&self, view: &View, transform: &Transform, may_go_back: bool) -> anyhow::Result<OtherStates> {
        let store = self.store.as_store();
        let own = &view.version;
        let all = store.schemas().await.context("cannot read the schemas of the online store")?;
        let all: Vec<_> = all.into_iter().filter(|(_, schema)| schema.view == view.name).collect();
        let schemas = all.iter().map(|(id, _)| *id).collect();
        if !transform.world().is_stateful() {
            return Ok(OtherStates { schemas, ..OtherStates::default() });
        }
        let versions = all.into_iter().filter_map(|(_, schema)| schema.state_version);
        let others: BTreeSet<String> = versions.filter(|version| !StoredState::is_compatible(version, own)).collect();
        if others.is_empty() {
            return Ok(OtherStates { schemas, ..OtherStates::default() });
        }
        if transform.world() != World::MigratingTransform {
            if may_go_back {
                return Ok(OtherStates { versions: others.clone(), gone_back_behind: others, schemas });
            }
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            bail!(
                "version {own} does not read the states that version {} has written, and exports no migration: export one (world \
                 `migrating-transform`), give it a version that says that its states are the same ({}.x), load it under another name, or roll back to it \
                 if it was in force before",
                others.join(" and "),
                others.first().and_then(|version| version.rsplit_once('.')).map_or("0", |(major, _)| major)
            );
        }
        let sample = self.sample_states(view).await?;
        let mut gone_back_behind = BTreeSet::new();
        for from in others.clone() {
            let states = sample.iter().filter_map(|value| StoredState::read(value)).filter(|state| state.version == from);
            let mut packed = Packed::default();
            states.for_each(|state| packed.push(state.bytes));
            let many = packed.len();
            let migrated =
                tokio::task::block_in_place(|| transform.migrate(&from, &Column { values: Values::Blobs(packed), validity: None }));
            match migrated {
                Ok(_) => {}
                Err(_) if may_go_back => drop(gone_back_behind.insert(from)),
                Err(error) => {
                    let what = format!("it cannot take over {many} of the states that version {from} has written");
                    return Err(anyhow::Error::new(error).context(what));
                }
            }
        }
        Ok(OtherStates { versions: others, gone_back_behind, schemas })
    }
}

/// A group has one place, so all who read with it begin at the same one, once.
fn check_start(name: &str, reading: &Reading, registry: &Registry) -> anyhow::Result<()> {
    let others = registry.active.iter().filter_map(|(other, active)| Some((other, active.reading.as_ref()?)));
    let mut elsewhere = others.filter(|(_, theirs)| theirs.group == reading.group && theirs.start != reading.start);
    let Some((other, _)) = elsewhere.next() else { return Ok(()) };
    let group = &reading.group.name;
    if other == name {
        let base = ViewName::base_of(name);
        bail!("its group `{group}` has begun elsewhere already: put it under another version of its view to start over (`{base}@v2`)");
    }
    bail!("`{other}` reads with the group `{group}` too, and begins elsewhere: give both the same `start`, or each a group of its own");
}

/// How far ahead of the host's clock an event may be: a row from the future gives way in time, but what is kept of an entity would stand still until then.
pub(super) fn ahead_max_secs(view: &View, transform: &Transform, options: &BindingOptions) -> Option<u64> {
    (transform.world().is_stateful() || !view.kept.is_nothing()).then_some(options.ahead_max_secs)
}

/// What stands in the record of cuts for a component that is bound like this.
pub(super) fn maker(transform: &Transform, options: &BindingOptions) -> Maker {
    Maker { component: transform.digest(), version: transform.spec().version.clone(), options: options.fingerprint() }
}

/// The view that a component makes when it is bound like this to requests.
pub(super) fn computed(transform: Transform, options: &BindingOptions, telemetry: TransformTelemetry) -> anyhow::Result<Computed> {
    options.check_for_requests(transform.spec())?;
    Computed::new(transform, &options.inputs, &options.fallback, telemetry).map_err(anyhow::Error::msg)
}

/// How a view is partitioned whose stream is: by those fields of its entity that are bound to what tells the stream's partitions. Without
/// one of them rows of the same entity would come out of several partitions, each with a part of its events.
fn partitioning_of(stream: &str, of_stream: Partitioning, spec: &Spec, options: &BindingOptions) -> anyhow::Result<Partitioning> {
    let input_of = |name: &String| spec.inputs.iter().find(|field| field.name == *name);
    let from = |field: &Field| options.inputs.get(&field.name).and_then(|input| input.from.clone()).unwrap_or_else(|| field.name.clone());
    let mut by = Vec::with_capacity(of_stream.by.len());
    for wanted in &of_stream.by {
        let Some(field) = spec.entity.iter().filter_map(input_of).find(|field| from(field) == *wanted) else {
            bail!(
                "stream `{stream}` is partitioned by {}, and the entity ({}) has no `{wanted}`: an entity's events would stand in several partitions. Put \
                 `{wanted}` into the entity, or read a stream with a `partition_by` of fields of this entity: a transform of `{stream}` can emit to it (`emit`), \
                 or the events are sent there too",
                of_stream.by.join(", "),
                spec.entity.join(", ")
            )
        };
        if !matches!(field.kind, Kind::Integer | Kind::Text | Kind::Bytes) {
            let (name, kind) = (&field.name, field.kind);
            bail!(
                "stream `{stream}` is partitioned by `{wanted}`, which `{name}` reads as a {kind}: only texts, bytes and integers tell partitions"
            );
        }
        by.push(field.name.clone());
    }
    Ok(Partitioning { by, ..of_stream })
}

/// The view that a component makes when it is bound like this to a stream, and the stream.
pub(super) fn view_of(name: &str, transform: &Transform, options: &BindingOptions, config: &Config) -> anyhow::Result<(View, String)> {
    let spec = transform.spec();
    let stream = options.stream.clone().or_else(|| spec.streams.first().cloned());
    let stream = stream.ok_or_else(|| anyhow!("the component names no stream; say which one it reads (`stream`)"))?;
    if !is_stream_name(&stream) {
        bail!("{stream:?} cannot name a stream; use 1 to 255 printable ASCII characters and no spaces");
    }
    options.check_inputs(spec)?;
    let entity = spec.entity.iter().filter_map(|name| spec.inputs.iter().find(|field| field.name == *name)).cloned().collect();
    let partitioning = config.streams.get(&stream).and_then(|section| section.partitioning(&stream));
    let partitioning = partitioning.map(|partitioning| partitioning_of(&stream, partitioning, spec, options)).transpose()?;
    if partitioning.is_none() && config.store.redis().is_some_and(|redis| redis.cluster) {
        bail!(
            "the store is a cluster, where a commit reaches no further than a partition, and stream `{stream}` has none: give [streams.{stream}] \
             `partitions`, 1 will do, and `partition_by`"
        );
    }
    if shares_book(config) && !config.streams.contains_key(&stream) {
        bail!(
            "stream `{stream}` is in no [streams.{stream}], so it would be a log of its own in the data folder of each host, and hosts with this \
             store and these streams share what is put to one of them: describe it in [streams.{stream}] with type = \"redis_streams\" on all of \
             them, or read a stream that is there ({})",
            config.streams.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        );
    }
    let kept = options.kept(spec);
    let windows = aggregation::fields(&spec.outputs, &kept.aggregations)?;
    let view = View {
        name: name.to_owned(),
        doc: spec.doc.clone(),
        stream: Some(stream.clone()),
        partitioning,
        component: transform.digest(),
        version: spec.version.clone(),
        entity,
        features: spec.outputs.clone(),
        windows,
        kept,
        max_age_secs: options.max_age_secs,
        expire_secs: options.expire_secs(),
        fold: transform.world().is_stateful(),
        request: Vec::new(),
        uses: Vec::new(),
        types: BTreeMap::new(),
    };
    Ok((view, stream))
}
