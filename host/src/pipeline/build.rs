//! From a delivery to its commit. What a batch is made of is read while it is built; should another writer have changed it before the commit, it is built anew.

use std::sync::Arc;

use tokio::sync::watch;

use super::batch::{self, Built};
use super::binding::Transforms;
use super::stored::Stored;
use super::{BACKOFF_MIN, Pipeline, Stop};
use crate::model::{Commit, Disposition, Partition, Place};
use crate::online_store::{self, Writer, Writers};
use crate::source::Delivery;

impl Pipeline {
    /// Decodes, applies and commits; anew, as often as what was read for it turns out to have changed meanwhile.
    pub(super) async fn build_and_commit(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        transforms: &Arc<Transforms>,
        delivery: &Arc<Delivery>,
        complete: impl Fn(&mut Commit),
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let (mut backoff, mut is_first) = (BACKOFF_MIN, true);
        loop {
            let mut built = self.build(writer, Arc::clone(transforms), delivery, shutdown).await?;
            built.commit.number = writer.place().commits + 1;
            complete(&mut built.commit);
            match self.commit(writer, &mut built, shutdown).await {
                // The first commit to a view finds it so wherever stores do not know who else writes.
                Err(Stop::Store(online_store::Error::Outdated { .. })) if is_first => is_first = false,
                Err(Stop::Store(error @ online_store::Error::Outdated { .. })) => {
                    self.retry("online_store", &error, &mut backoff, shutdown).await?;
                }
                done => return done.map(|()| built),
            }
        }
    }

    /// Decodes and applies, and keeps the lease meanwhile: finding the events at fault may take longer than the lease lasts.
    async fn build(
        self: &Arc<Self>,
        writer: &mut dyn Writer,
        transforms: Arc<Transforms>,
        delivery: &Arc<Delivery>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let after = (self.writers != Writers::Competing).then(|| (self.partition.clone(), writer.place()));
        let mut building = std::pin::pin!(self.build_aside(transforms, delivery, after, shutdown));
        loop {
            tokio::select! {
                built = &mut building => return built,
                () = tokio::time::sleep(self.renewal()) => match writer.renew().await {
                    Err(error) if error.disposition() == Disposition::Retry => self.telemetry.retries("lease"),
                    Err(error) => return Err(error.into()),
                    Ok(()) => {}
                },
            }
        }
    }

    /// Tries until it succeeds or must stop: a failure of the engine itself says nothing about the events.
    async fn build_aside(
        self: &Arc<Self>,
        transforms: Arc<Transforms>,
        delivery: &Arc<Delivery>,
        after: Option<(Partition, Place)>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Built, Stop> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (pipeline, transforms, delivery) = (Arc::clone(self), Arc::clone(&transforms), Arc::clone(delivery));
            let stored = Stored::new(Arc::clone(&self.store), after.clone());
            let work = move || batch::build(&transforms, &delivery, &pipeline.partition, &stored, &pipeline.telemetry);
            match tokio::task::spawn_blocking(work).await? {
                Ok(built) => return Ok(built),
                Err(error @ batch::Error::Unknown { .. }) => return Err(Stop::Unknown(error.to_string())),
                Err(error) if error.disposition() == Disposition::Retry => self.retry(error.part(), &error, &mut backoff, shutdown).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
