//! One attempt, from the claim to the commit. It ends in exactly one of the ways that `ending` lists, or not at all: then
//! its lease runs out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::commit;
use super::ending::{Ending, Past};
use super::held::{Hold, Stop};
use super::reports::Clerk;
use crate::db::Claim;
use crate::job::Lease;
use crate::metrics;
use crate::stage::Stage;
use crate::stages::{Outcome, Report, StageContext, StageError, Tools};
use crate::storage::StorageKey;
use crate::video::{Source, VideoId};

/// How long a stage may take to end by itself after it was told to. Then it is dropped, which is safe at any `.await`.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// Reports that may wait for the worker. Few: a stage that is ahead of its commits has to wait for them.
const REPORTS: usize = 16;

/// What the worker hands to a stage.
#[derive(Debug)]
pub struct Attempt {
    pub lease: Lease,
    pub source: Source,
    pub deadline: Duration,
    pub cancelled: CancellationToken,
    pub reports: mpsc::Sender<Report>,
}

impl Attempt {
    /// The stages' view of it.
    #[must_use]
    pub fn with(self, tools: Tools) -> StageContext {
        StageContext {
            lease: self.lease,
            source: self.source,
            tools,
            deadline: self.deadline,
            cancelled: self.cancelled,
            reports: self.reports,
        }
    }
}

/// Sees a claimed job to its end. Never aborted: whatever happens to its stage, its statements run to their answers.
pub(super) async fn attend<R, F>(
    worker: Arc<Worker<R>>,
    claim: Claim,
    hold: Hold,
    slot: OwnedSemaphorePermit,
) where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    let (lease, claimed_at) = (hold.lease, Instant::now());
    let past = Past {
        failures: claim.failures,
        crashes: claim.crashes,
        others: lease.attempt - 1 - claim.failures - claim.crashes,
    };
    let ended = worker.run_attempt(claim.source, &hold).await;
    if hold.stopped().is_none() {
        worker.attempted(matches!(ended, Ok(Err(StageError::Outage(_)))));
    }
    let ending = Ending::of(hold.stopped(), ended, past);
    let ended = commit::settle(&worker.db, &hold, ending).await;
    metrics::JOB_RUNS[lease.stage].observe(claimed_at.elapsed());
    // A crash here leaves an id whose next claim matches no row.
    worker.forget(lease.stage, lease.job).await;
    drop(hold);
    drop(slot);
    if ended && lease.stage == Stage::Transcode {
        worker.remove_processing_thumbnail(lease.video).await;
    }
}

impl<R> Worker<R> {
    /// Nothing is being processed any more. Only after the commit, which is fenced: before it, the thumbnail may be that
    /// of an attempt which has taken over. What a crash or an outage leaves here, gc clears away.
    async fn remove_processing_thumbnail(&self, video: VideoId) {
        let Some(storage) = &self.storage else { return };
        let key = StorageKey::ProcessingPoster { video };
        match tokio::time::timeout(STOP_GRACE, storage.delete(&key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(video.id = %video, %error, "its thumbnail is left to gc");
            }
            Err(_) => tracing::debug!(video.id = %video, "its thumbnail is left to gc"),
        }
    }
}

impl<R, F> Worker<R>
where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    async fn run_attempt(
        &self,
        source: Source,
        hold: &Hold,
    ) -> Result<Result<Outcome, StageError>, JoinError> {
        if hold.stopped().is_some() {
            return Ok(Err(StageError::Stopped));
        }
        let (reports, mut inbox) = mpsc::channel(REPORTS);
        let deadline = self.config.deadlines.of(hold.lease.stage);
        // A task of its own, so that a panic in it is an answer, and not the end of this one.
        let mut stage = JoinSet::new();
        let handle = stage.spawn((self.run_stage)(Attempt {
            lease: hold.lease,
            source,
            deadline,
            cancelled: hold.token().clone(),
            reports,
        }));
        let mut clerk = Clerk::new(&self.db, hold);
        let attended = async {
            loop {
                tokio::select! {
                    // Reports with an answer come before the end: the stage waits for the answer.
                    Some(report) = inbox.recv() => clerk.take(report).await,
                    Some(ended) = stage.join_next() => return ended,
                }
            }
        };
        tokio::select! {
            ended = attended => ended,
            never = self.watch(hold, deadline, handle) => match never {},
        }
    }

    /// Stops the stage when it must: first by its token, then by force.
    async fn watch(&self, hold: &Hold, deadline: Duration, stage: AbortHandle) -> Infallible {
        tokio::select! {
            () = hold.token().cancelled() => {}
            () = self.stop_now.cancelled() => hold.stop(Stop::Shutdown),
            () = tokio::time::sleep(deadline) => hold.stop(Stop::Deadline),
        }
        tokio::time::sleep(STOP_GRACE).await;
        stage.abort();
        std::future::pending().await
    }
}
