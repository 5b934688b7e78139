//! The fenced ends of attempts that did not end well: dead, back for another try, or released.
//! No path here loses a job: it is pending with a time, or dead with a reason.

use std::time::Duration;

use super::row::seconds;
use super::sql::{guard, wake};
use super::{Commit, Db, DbError};
use crate::job::Lease;
use crate::video::FailureCause;

/// What a failed attempt is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The work failed: `jobs.failures`.
    Failure,
    /// The media child died by its own doing: `jobs.crashes`.
    Crash,
    /// The media child was killed, not by its own doing and not by us: `jobs.lost_workers`.
    Lost,
}

/// What became of [`Db::retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// Pending again after the delay.
    Again,
    /// The strikes are used up.
    Dead,
    /// As [`Commit::Stale`].
    Stale,
}

/// How an attempt went wrong, as the statement wants it.
pub(in crate::db) struct Setback<'a> {
    /// `job_attempts.outcome`, which also says what is counted: failed, crashed or lost.
    pub outcome: &'static str,
    /// At how many of this kind the job is dead; 0: at once.
    pub max: i32,
    /// `None` keeps `run_at`: a job whose worker was lost for once goes before the backlog, not behind it.
    pub delay: Option<Duration>,
    pub cause: FailureCause,
    pub detail: &'a str,
    /// Only if lease or deadline have run out: the sweep looks and acts in two statements, with a heartbeat in between.
    pub only_expired: bool,
}

/// Whether this strike of kind $4 is number $5. Counts are read from the row as it was before `set`. Failures by a
/// deadline are counted among themselves, by the attempts: those are this job's own and do not change while it is held.
macro_rules! last_strike {
    () => {
        "$5 <= 1 + case when $4 = 'crashed' then crashes
                        when $4 = 'lost' then lost_workers
                        when $7 = 'deadline_exceeded' then
                          (select count(*) from job_attempts
                            where job_id = $1 and attempt > jobs.clean_attempt
                              and failure_cause = 'deadline_exceeded')
                        else failures end"
    };
}

/// A dead job's video: `failed` if the stage decides that, else `ready` when nothing else is missing (decided on the
/// locked row, as in `finish`). Jobs of a failed video that wait are cancelled; one that is locked at this moment stays
/// pending and is cancelled by its claim. A video that is ready already stays so, and keeps its jobs that wait.
const SETBACK: &str = concat!(
    "with j as (
       update jobs
          set failures = failures + ($4 = 'failed')::int,
              crashes = crashes + ($4 = 'crashed')::int,
              lost_workers = lost_workers + ($4 = 'lost')::int,
              state = case when ",
    last_strike!(),
    " then 'dead' else 'pending' end,
              finished_at = case when ",
    last_strike!(),
    " then now() end,
              run_at = case when $6::float8 is null then run_at
                            else now() + make_interval(secs => $6) end,
              dispatched_at = null, worker = null, lease_until = null, deadline_at = null,
              progress = null, failure_cause = $7, last_error = $8
        where ",
    guard!(),
    "     and (not $11 or lease_until < now() or deadline_at < now())
       returning id, video_id, attempt, state),
     a as (
       update job_attempts t
          set ended_at = now(), outcome = $4, failure_cause = $7, detail = $8
         from j where t.job_id = j.id and t.attempt = j.attempt),
     v as (
       update videos v
          set dead_stages = v.dead_stages | $9,
              state = case when v.state <> 'processing' then v.state
                           when $10 then 'failed'
                           when (v.finished_stages | v.dead_stages | $9) = 15
                            and v.finished_stages & 3 = 3 then 'ready'
                           else v.state end,
              failure_cause = case when v.state = 'processing' and $10 then $7
                                   else v.failure_cause end,
              failure_detail = case when v.state = 'processing' and $10 then $8
                                    else v.failure_detail end,
              original_claim = case when v.state = 'processing' and $10 then null
                                    else v.original_claim end,
              processed_at = case when v.state = 'processing'
                                   and ($10 or ((v.finished_stages | v.dead_stages | $9) = 15
                                                and v.finished_stages & 3 = 3))
                                  then now() else v.processed_at end,
              updated_at = now()
         from j where v.id = j.video_id and j.state = 'dead'
       returning v.id, v.state),
     idle as (
       select o.id from j, jobs o join v on o.video_id = v.id
        where $10 and v.state = 'failed' and o.id <> j.id and o.state = 'pending'
          for update of o skip locked),
     cancelled as (
       update jobs o
          set state = 'cancelled', finished_at = now(), dispatched_at = null, waits_for = null
         from idle where o.id = idle.id), ",
    wake!(),
    " select (select state = 'dead' from j),
             exists (select 1 from woken)
             or exists (select 1 from j where state = 'pending' and coalesce($6, 0) = 0)"
);

impl Db {
    /// No other try can help: the job is dead at once, counted as a failure.
    #[tracing::instrument(name = "db.jobs.fail", skip_all, fields(job.id = %lease.job))]
    pub async fn fail(
        &self,
        lease: &Lease,
        cause: FailureCause,
        detail: &str,
    ) -> Result<Commit, DbError> {
        let setback =
            Setback { outcome: "failed", max: 0, delay: None, cause, detail, only_expired: false };
        let retried = self.set_back(lease, &setback).await?;
        Ok(Commit::of(retried != Retried::Stale))
    }

    /// Counts a strike: pending again after `delay`, or dead when it is number `max` of its kind.
    #[tracing::instrument(name = "db.jobs.retry", skip_all, fields(job.id = %lease.job))]
    pub async fn retry(
        &self,
        lease: &Lease,
        cause: FailureCause,
        detail: &str,
        kind: Strike,
        max: i32,
        delay: Duration,
    ) -> Result<Retried, DbError> {
        let outcome = match kind {
            Strike::Failure => "failed",
            Strike::Crash => "crashed",
            Strike::Lost => "lost",
        };
        let setback =
            Setback { outcome, max, delay: Some(delay), cause, detail, only_expired: false };
        self.set_back(lease, &setback).await
    }

    pub(in crate::db) async fn set_back(
        &self,
        lease: &Lease,
        setback: &Setback<'_>,
    ) -> Result<Retried, DbError> {
        let (job, attempt, worker) = lease.guard();
        let (dead, due): (Option<bool>, bool) = sqlx::query_as(SETBACK)
            .bind(job)
            .bind(attempt)
            .bind(worker)
            .bind(setback.outcome)
            .bind(setback.max)
            .bind(setback.delay.map(seconds))
            .bind(setback.cause.as_str())
            .bind(setback.detail)
            .bind(lease.stage.bit())
            .bind(lease.stage.decides_failure())
            .bind(setback.only_expired)
            .fetch_one(self.pool())
            .await?;
        self.ring(due);
        Ok(match dead {
            Some(true) => Retried::Dead,
            Some(false) => Retried::Again,
            None => Retried::Stale,
        })
    }

    /// Gives the job back, uncounted: a dependency is away, or the process stops. `detail` says which, for operators.
    /// Without a delay it keeps its place in the line: a shutdown is not the job's fault.
    #[tracing::instrument(name = "db.jobs.release", skip_all, fields(job.id = %lease.job))]
    pub async fn release(
        &self,
        lease: &Lease,
        detail: &str,
        delay: Duration,
    ) -> Result<Commit, DbError> {
        let (job, attempt, worker) = lease.guard();
        let applied: bool = sqlx::query_scalar(concat!(
            "with j as (
               update jobs
                  set state = 'pending',
                      run_at = case when $4::float8 > 0 then now() + make_interval(secs => $4)
                                    else run_at end,
                      dispatched_at = null, worker = null, lease_until = null, deadline_at = null,
                      progress = null, last_error = $5
                where ",
            guard!(),
            " returning id, attempt),
             a as (
               update job_attempts t set ended_at = now(), outcome = 'released', detail = $5
                 from j where t.job_id = j.id and t.attempt = j.attempt)
             select exists (select 1 from j)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(seconds(delay))
        .bind(detail)
        .fetch_one(self.pool())
        .await?;
        self.ring(applied && delay.is_zero());
        Ok(Commit::of(applied))
    }
}
