//! The fenced ends of a duplicate detection that found the same bytes: alias a ready original, or wait for one.
//! Nothing here decides who the original is; that is done in `originals`.

use std::time::Duration;

use super::row::seconds;
use super::sql::{guard, held, wake};
use super::{Commit, Db, DbError};
use crate::job::Lease;
use crate::stage::Stage;
use crate::video::VideoId;

/// What became of [`Db::complete_duplicate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateCommit {
    Applied,
    /// As [`Commit::Stale`].
    Stale,
    /// Only a ready original is aliased: wait for it, or look again. Nothing was changed, the job still runs.
    OriginalNotReady,
}

impl Db {
    /// Same bytes as `of`: the video ends as its duplicate, if `of` is ready and of the same owner.
    #[tracing::instrument(name = "db.jobs.complete_duplicate", skip_all, fields(job.id = %lease.job))]
    pub async fn complete_duplicate(
        &self,
        lease: &Lease,
        of: VideoId,
        sha256: [u8; 32],
    ) -> Result<DuplicateCommit, DbError> {
        let (job, attempt, worker) = lease.guard();
        // The original is share-locked, so that it cannot be taken away between the check and the commit.
        let (held, applied, due): (bool, bool, bool) = sqlx::query_as(concat!(
            "with ",
            held!(),
            ", original as (
               select o.id from videos o join held on o.owner_id = held.owner_id
                where o.id = $4 and o.state = 'ready' and o.id <> held.video_id
                  for share of o),
             j as (
               update jobs j
                  set state = 'done', worker = null, lease_until = null, deadline_at = null,
                      progress = 1, result = jsonb_build_object('duplicate_of', original.id),
                      failure_cause = null, last_error = null, finished_at = now()
                 from held, original where j.id = held.id
               returning j.id, j.video_id, j.attempt),
             a as (
               update job_attempts t set ended_at = now(), outcome = 'done'
                 from j where t.job_id = j.id and t.attempt = j.attempt),
             v as (
               update videos v
                  set state = 'duplicate', duplicate_of = $4, sha256 = $5, original_claim = null,
                      finished_stages = v.finished_stages | $6,
                      playable_at = coalesce(v.playable_at, now()),
                      processed_at = now(), updated_at = now()
                 from j where v.id = j.video_id and v.state = 'processing'
               returning v.id, v.state), ",
            wake!(),
            " select exists (select 1 from held), exists (select 1 from j),
                     exists (select 1 from woken)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(of.0)
        .bind(sha256.as_slice())
        .bind(Stage::DuplicateDetection.bit())
        .fetch_one(self.pool())
        .await?;
        self.ring(due);
        Ok(match (held, applied) {
            (_, true) => DuplicateCommit::Applied,
            (true, false) => DuplicateCommit::OriginalNotReady,
            (false, false) => DuplicateCommit::Stale,
        })
    }

    /// Same bytes as an original that has not ended: pending until it does, and after `poll` at the latest.
    #[tracing::instrument(name = "db.jobs.wait_for", skip_all, fields(job.id = %lease.job))]
    pub async fn wait_for(
        &self,
        lease: &Lease,
        original: VideoId,
        sha256: [u8; 32],
        poll: Duration,
    ) -> Result<Commit, DbError> {
        let (job, attempt, worker) = lease.guard();
        // An original that has ended, or is gone, is not waited for. If it ends in this very instant neither statement
        // sees the other: then the sweep finds the sleeper within a second.
        let (applied, due): (bool, bool) = sqlx::query_as(concat!(
            "with original as (
               select id from videos where id = $4 and state = 'processing'),
             j as (
               update jobs
                  set state = 'pending', waits_for = (select id from original),
                      run_at = case when exists (select 1 from original)
                                    then now() + make_interval(secs => $6) else now() end,
                      dispatched_at = null, worker = null, lease_until = null, deadline_at = null,
                      progress = null, last_error = null
                where video_id <> $4 and ",
            guard!(),
            " returning id, video_id, attempt, waits_for),
             a as (
               update job_attempts t
                  set ended_at = now(), outcome = 'waiting', detail = 'same bytes as ' || $4::text
                 from j where t.job_id = j.id and t.attempt = j.attempt),
             v as (
               update videos v set sha256 = $5 from j
                where v.id = j.video_id and v.original_claim is null)
             select exists (select 1 from j), exists (select 1 from j where waits_for is null)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(original.0)
        .bind(sha256.as_slice())
        .bind(seconds(poll))
        .fetch_one(self.pool())
        .await?;
        self.ring(due);
        Ok(Commit::of(applied))
    }
}
