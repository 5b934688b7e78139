//! Takes back what nobody holds any more: expired leases, attempts past their deadline, sleepers whose bell was missed.
//! Every process may sweep at once; the second finds the rows changed and does nothing.

use uuid::Uuid;

use super::row::stage;
use super::setback::{Retried, Setback};
use super::{Db, DbError};
use crate::job::{JobId, Lease, WorkerId};
use crate::retry::job_delay;
use crate::stage::Stage;
use crate::video::{FailureCause, OwnerId, VideoId};

/// At most so many in one sweep, so that a sweep after an outage of everything stays short; the next goes on.
const BATCH: i64 = 500;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    pub taken_back: Vec<TakenBack>,
    /// Why the first of those that it had to leave to the next sweep could not be taken back.
    pub held_up: Option<DbError>,
}

/// A job that was taken from a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBack {
    pub job: JobId,
    pub stage: Stage,
    /// It was the last try.
    pub dead: bool,
}

#[derive(sqlx::FromRow)]
struct ExpiredRow {
    id: Uuid,
    video_id: Uuid,
    owner_id: Uuid,
    stage: String,
    attempt: i32,
    worker: Uuid,
    lost_workers: i32,
    lease_ended: bool,
}

impl Db {
    /// Takes back every job whose lease or deadline has run out: pending at its old place in the line, or dead at lost
    /// worker number `max_lost`. From the second loss on it waits longer each time, so that a bad hour of machines or
    /// network does not use up all its tries. Then wakes sleepers whose original has ended.
    ///
    /// One statement per job and not one for all: a dead job changes its video, and two sweeps that lock several videos
    /// in different orders would end in a deadlock. And a row that cannot be taken back (somebody's open transaction
    /// holds it, or no version of ours wrote it) would keep all others from it.
    #[tracing::instrument(name = "db.jobs.sweep", skip_all)]
    pub async fn sweep(&self, max_lost: i32) -> Result<Swept, DbError> {
        let mut swept = Swept::default();
        for expired in self.expired().await? {
            match self.take_back(expired, max_lost).await {
                Ok(taken_back) => swept.taken_back.extend(taken_back),
                Err(error) => {
                    if error.is_outage() && self.ping().await.is_err() {
                        // It is about no row: the others would wait for their time-outs one by one.
                        return Ok(Swept { held_up: Some(error), ..swept });
                    }
                    swept.held_up.get_or_insert(error);
                }
            }
        }
        if let Err(error) = self.wake_sleepers().await {
            swept.held_up.get_or_insert(error);
        }
        Ok(swept)
    }

    async fn take_back(
        &self,
        expired: ExpiredRow,
        max_lost: i32,
    ) -> Result<Option<TakenBack>, DbError> {
        let (cause, detail) = if expired.lease_ended {
            (FailureCause::WorkerLost, "its worker stopped renewing the lease")
        } else {
            (FailureCause::DeadlineExceeded, "the attempt ran past its deadline")
        };
        let delay = (expired.lost_workers > 0).then(|| job_delay(expired.lost_workers));
        let lease = expired.into_lease()?;
        let setback =
            Setback { outcome: "lost", max: max_lost, delay, cause, detail, only_expired: true };
        let (job, stage) = (lease.job, lease.stage);
        Ok(match self.set_back(&lease, &setback).await? {
            Retried::Again => Some(TakenBack { job, stage, dead: false }),
            Retried::Dead => Some(TakenBack { job, stage, dead: true }),
            Retried::Stale => None,
        })
    }

    async fn expired(&self) -> Result<Vec<ExpiredRow>, DbError> {
        Ok(sqlx::query_as(
            "select id, video_id, owner_id, stage, attempt, worker, lost_workers,
                    lease_until < now() as lease_ended
               from jobs
              where state = 'running' and (lease_until < now() or deadline_at < now())
              order by lease_until
              limit $1",
        )
        .bind(BATCH)
        .fetch_all(self.pool())
        .await?)
    }

    /// The repair for a duplicate that began to wait in the instant in which its original ended.
    async fn wake_sleepers(&self) -> Result<(), DbError> {
        let woken = sqlx::query(
            "with waiting as (
               select w.id from jobs w join videos o on o.id = w.waits_for
                where w.state = 'pending' and o.state <> 'processing'
                  for update of w skip locked)
             update jobs w set run_at = now(), waits_for = null, dispatched_at = null
               from waiting where w.id = waiting.id",
        )
        .execute(self.pool())
        .await?;
        self.ring(woken.rows_affected() > 0);
        Ok(())
    }
}

impl ExpiredRow {
    fn into_lease(self) -> Result<Lease, DbError> {
        Ok(Lease {
            job: JobId(self.id),
            video: VideoId(self.video_id),
            owner: OwnerId(self.owner_id),
            stage: stage(&self.stage)?,
            attempt: self.attempt,
            worker: WorkerId(self.worker),
        })
    }
}
