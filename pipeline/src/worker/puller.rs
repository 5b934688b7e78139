//! One loop per stage: a free slot, an id from Redis, a claim in Postgres, a task for the attempt.
//! While a service is away or scratch is full it takes nothing new, and an id in hand goes back to those who still reach everything.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::{self, Attempt};
use super::breaker::{Breaker, Passage};
use super::{ROOM_LOOK, STORAGE_PING, Worker};
use crate::db::Claim;
use crate::job::JobId;
use crate::metrics;
use crate::queue::Consumer;
use crate::retry::{Backoff, Outage};
use crate::stage::Stage;
use crate::stages::{Outcome, StageError};

/// Most jobs in one statement: enough that the write to disk costs each of them little, few enough that the first does
/// not wait for the last.
const CLAIMED_AT_ONCE: usize = 16;

/// Serves one stage until no more is wanted. Running jobs go on.
pub(super) async fn serve<R, F>(worker: Arc<Worker<R>>, stage: Stage, slots: usize)
where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    let mut consumer = worker.queue.consumer(stage, worker.id);
    let slots = Arc::new(Semaphore::new(slots));
    let (mut outage, mut claims) = (Outage::default(), Outage::default());
    loop {
        let slot = tokio::select! {
            biased;
            () = worker.no_more.cancelled() => return,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { return };
        if !worker.until_storage_is_there().await || !worker.until_there_is_room().await {
            return;
        }
        // Awaited to its end, also when a stop comes: see `queue::Consumer`.
        let pulled = consumer.pull(|id| worker.held.has(id)).await;
        match pulled {
            Ok(id) => {
                if outage.worked() {
                    tracing::info!(%stage, "pulling again");
                }
                match id {
                    // It went away, or scratch was filled, during the pull.
                    Some(id) if worker.breaker().is_shut() || !worker.has_room().await => {
                        worker.give_back(stage, &[id]).await;
                    }
                    Some(id) => {
                        let mut taken = vec![(id, slot)];
                        taken.extend(more(&mut consumer, &slots).await);
                        worker.take(stage, taken, &mut claims).await;
                    }
                    None => {}
                }
            }
            Err(error) => {
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(%stage, %error, "cannot pull, tries again until it works");
                }
                worker.pause(setback.delay).await;
            }
        }
    }
}

/// An id from Redis, and the place where its job will run.
type Taken = (JobId, OwnedSemaphorePermit);

/// What else waits, for the slots that are free as well: one statement claims all.
async fn more(consumer: &mut Consumer, slots: &Arc<Semaphore>) -> Vec<Taken> {
    let most = slots.available_permits().min(CLAIMED_AT_ONCE - 1);
    if most == 0 {
        return Vec::new();
    }
    // The next pull tells of an outage, and finds what may have been moved meanwhile.
    let ids = consumer.more(most).await.unwrap_or_default();
    let places = std::iter::from_fn(|| Arc::clone(slots).try_acquire_owned().ok());
    ids.into_iter().zip(places).collect()
}

impl<R, F> Worker<R>
where
    R: Fn(Attempt) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, StageError>> + Send + 'static,
{
    /// Claims the jobs and starts their attempts, or finds that there is nothing to do.
    async fn take(self: &Arc<Self>, stage: Stage, mut taken: Vec<Taken>, outage: &mut Outage) {
        let ids: Vec<JobId> = taken.iter().map(|&(id, _)| id).collect();
        if self.no_more.is_cancelled() {
            return self.give_back(stage, &ids).await;
        }
        let sent_at = Instant::now();
        match self.db.claim_all(&ids, self.id, self.config.lease, self.limit(stage)).await {
            Ok(claims) => {
                if outage.worked() {
                    tracing::info!(%stage, "claiming again");
                }
                for claim in claims {
                    match claim {
                        Ok(claim) => self.start(claim, sent_at, &mut taken),
                        Err(error) => tracing::error!(%stage, %error, "claim failed"),
                    }
                }
                // Somebody else's, done, or not yet due: old ids. The row is all that counts.
                for (id, _) in taken {
                    metrics::EMPTY_CLAIMS[stage].add(1);
                    self.forget(stage, id).await;
                }
            }
            // Others may still reach Postgres: the ids must not wait for us, for as long as we are cut off. A cut
            // connection may have claimed them all the same: then the leases run out and the sweep returns them.
            Err(error) if error.is_outage() => {
                self.give_back(stage, &ids).await;
                drop(taken);
                let setback = outage.failed();
                if setback.first {
                    tracing::warn!(%stage, jobs = ids.len(), %error, "cannot claim, pulls nothing until Postgres answers");
                }
                self.pause(setback.delay).await;
                self.until_postgres_answers().await;
            }
            // Not to be mended by waiting. The others of these go without the one that it is about, which diff brings
            // back when other jobs had their turn.
            Err(error) => {
                tracing::error!(%stage, jobs = ?ids, %error, "claim failed");
                if let [id] = ids[..] {
                    return self.forget(stage, id).await;
                }
                for one in taken {
                    Box::pin(self.take(stage, vec![one], outage)).await;
                }
            }
        }
    }

    /// The database's deadline stands behind ours and its grace: it is for a worker that no longer keeps its own.
    fn limit(&self, stage: Stage) -> Duration {
        self.config.deadlines.of(stage) + attempt::STOP_GRACE + self.config.lease
    }

    /// Starts the attempt of a claim that was sent at `sent_at`, in the place that was taken for it.
    fn start(self: &Arc<Self>, claim: Claim, sent_at: Instant, taken: &mut Vec<Taken>) {
        let Some(at) = taken.iter().position(|&(id, _)| id == claim.lease.job) else { return };
        let (_, slot) = taken.swap_remove(at);
        metrics::JOB_WAITS[claim.lease.stage].observe(claim.waited);
        let hold = self.held.hold(claim.lease, sent_at);
        self.jobs.spawn(attempt::attend(Arc::clone(self), claim, hold, slot));
    }
}

impl<R> Worker<R> {
    /// Takes an id off our list. Should that fail, the next look at the list finds it again, and no row for it.
    pub(super) async fn forget(&self, stage: Stage, id: JobId) {
        if let Err(error) = self.queue.remove(stage, self.id, id).await {
            tracing::debug!(%stage, job.id = %id, %error, "stays on our list for now");
        }
    }

    /// Returns ids that were pulled and not claimed, to their old places.
    async fn give_back(&self, stage: Stage, ids: &[JobId]) {
        for &id in ids.iter().rev() {
            if let Err(error) = self.queue.give_back(stage, self.id, id).await {
                tracing::debug!(%stage, job.id = %id, %error, "not given back; the reaper will");
            }
        }
    }

    async fn until_postgres_answers(&self) {
        let mut delays = Backoff::new();
        while !self.no_more.is_cancelled() && self.db.ping().await.is_err() {
            self.pause(delays.next().unwrap_or(Duration::from_secs(1))).await;
        }
    }

    /// False if no more is wanted.
    async fn until_storage_is_there(&self) -> bool {
        while !self.no_more.is_cancelled() {
            let passage = self.breaker().passage(Instant::now());
            match passage {
                Passage::Free => return true,
                Passage::Wait(pause) => self.pause(pause).await,
                Passage::Ask => self.ask_storage().await,
            }
        }
        false
    }

    /// False if no more is wanted.
    async fn until_there_is_room(&self) -> bool {
        while !self.no_more.is_cancelled() {
            if self.has_room().await {
                return true;
            }
            self.pause(ROOM_LOOK).await;
        }
        false
    }

    async fn has_room(&self) -> bool {
        match &self.scratch {
            Some(scratch) => scratch.has_room().await,
            None => true,
        }
    }

    /// No attempt is spent on the question.
    async fn ask_storage(&self) {
        let answer = match &self.storage {
            Some(storage) => storage.ping(STORAGE_PING).await,
            None => Ok(()),
        };
        match (self.breaker().answered(answer.is_ok(), Instant::now()), answer) {
            (Some(_), Err(error)) => {
                tracing::warn!(%error, "no new jobs until storage is there again");
            }
            (Some(_), Ok(())) => tracing::info!("storage is there again, claiming jobs"),
            (None, _) => {}
        }
    }

    /// Notes how an attempt ended, for the breaker.
    pub(super) fn attempted(&self, outage: bool) {
        self.breaker().attempted(outage, Instant::now());
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = self.no_more.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
}
