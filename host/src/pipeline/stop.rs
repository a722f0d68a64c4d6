//! Why a session ended, and what is told of it.

use super::{Health, Pipeline, batch};
use crate::model::Place;
use crate::{online_store, source};

/// Why a session with a writer and a source ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Store(#[from] online_store::Error),
    #[error(transparent)]
    Build(#[from] batch::Error),
    #[error("the work on a batch was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("the partition is another host's now")]
    NotOurs,
    #[error("this host has not taken over yet what another one has worked by here; it does so as soon as it can")]
    Behind,
    #[error("{0}")]
    Unknown(String),
    #[error("shutting down")]
    Shutdown,
}

impl Pipeline {
    pub(super) fn report(&self, stop: &Stop, known: &mut Place) {
        if let Stop::Behind | Stop::Unknown(_) = stop {
            tracing::debug!(partition = %self.partition, "not taken: {stop}");
            self.health.send_replace(Health::StandingBy(stop.to_string()));
            return;
        }
        if let Stop::NotOurs = stop {
            tracing::info!(partition = %self.partition, "given up: {stop}");
            self.health.send_replace(Health::StandingBy(stop.to_string()));
            return;
        }
        if let Stop::Store(online_store::Error::Held { .. }) = stop {
            tracing::debug!(partition = %self.partition, "standing by: {stop}");
            self.health.send_replace(Health::StandingBy(stop.to_string()));
            return;
        }
        if let Stop::Store(online_store::Error::PlaceLost { .. })
        | Stop::Source(source::Error::FellBack { .. } | source::Error::StoreFellBack { .. }) = stop
        {
            self.telemetry.places_lost();
            *known = Place::default();
        }
        tracing::warn!(partition = %self.partition, "starting over from what is stored: {stop}");
        self.telemetry.restarts(match stop {
            Stop::Source(_) => "source",
            Stop::Store(_) => "online_store",
            Stop::Build(error) => error.part(),
            Stop::Interrupted(_) | Stop::NotOurs | Stop::Behind | Stop::Unknown(_) | Stop::Shutdown => "transform",
        });
        self.health.send_replace(Health::Waiting(stop.to_string()));
    }
}
