//! Claims and leases: who may work on a job, and for how long, on the database's clock alone.

use std::time::Duration;

use uuid::Uuid;

use super::row::{seconds, sha256, size, stage};
use super::sql::held;
use super::{Commit, Db, DbError, answered};
use crate::job::{JobId, Lease, WorkerId};
use crate::video::{OwnerId, Source, VideoId};

/// A job that is ours now, and what there is to know about it.
#[derive(Debug, Clone)]
pub struct Claim {
    pub lease: Lease,
    pub source: Source,
    /// Tries of it that failed before this one.
    pub failures: i32,
    /// Media children that died on it before this one.
    pub crashes: i32,
    /// How long it had been due.
    pub waited: Duration,
}

/// A lease that a heartbeat found still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub job: JobId,
    pub attempt: i32,
    /// False: somebody else's transaction holds the row. Ours as far as is known, and to be asked for again soon.
    pub renewed: bool,
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    id: Uuid,
    video_id: Uuid,
    owner_id: Uuid,
    stage: String,
    attempt: i32,
    failures: i32,
    crashes: i32,
    object_key: String,
    etag: Option<String>,
    version_id: Option<String>,
    size_bytes: Option<i64>,
    sha256: Option<Vec<u8>>,
    waited_s: f64,
}

impl Db {
    /// Takes a pending job that is due: [`Db::claim_all`] of one.
    pub async fn claim(
        &self,
        job: JobId,
        worker: WorkerId,
        lease: Duration,
        deadline: Duration,
    ) -> Result<Option<Claim>, DbError> {
        self.claim_all(&[job], worker, lease, deadline).await?.pop().transpose()
    }

    /// Takes those of the jobs that are pending and due, in one statement and one write to disk. One that it does not
    /// return: somebody else has it, it is not due, it has ended, its queue is paused, or there is no such job; the hint
    /// that named it can be thrown away. Also missing: one whose row is held by a transaction. Nobody waits for that, or
    /// the id would stop one worker after another; diff brings it back. A row that makes no sense is an error of its own.
    ///
    /// A job whose video has failed meanwhile is cancelled here: the statement that failed the video skips rows that
    /// are locked at that moment, and this is where they are caught. Its state is asked twice: a rerun may have committed
    /// while this statement waited for the row.
    #[tracing::instrument(name = "db.jobs.claim", skip_all, fields(jobs = jobs.len()))]
    pub async fn claim_all(
        &self,
        jobs: &[JobId],
        worker: WorkerId,
        lease: Duration,
        deadline: Duration,
    ) -> Result<Vec<Result<Claim, DbError>>, DbError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let rows: Vec<ClaimRow> = sqlx::query_as(
            "with c as (
               select j.id, v.id as video, v.state in ('processing', 'ready') as wanted,
                      v.object_key, v.etag, v.version_id, v.size_bytes, v.sha256,
                      greatest(0, extract(epoch from now() - j.run_at))::float8 as waited_s
                 from jobs j join videos v on v.id = j.video_id
                where j.id = any($1) and j.state = 'pending' and j.run_at <= now()
                  and not exists (select 1 from paused_queues p where p.stage = j.stage)
                  for update of j skip locked),
             cancelled as (
               update jobs j
                  set state = 'cancelled', finished_at = now(), dispatched_at = null, waits_for = null
                 from c where j.id = c.id and not c.wanted and not video_is_wanted(c.video)),
             claimed as (
               update jobs j
                  set state = 'running', attempt = j.attempt + 1, worker = $2,
                      lease_until = now() + make_interval(secs => $3),
                      deadline_at = now() + make_interval(secs => $4),
                      started_at = now(), progress = null, waits_for = null, dispatched_at = null,
                      collected_at = null
                 from c where j.id = c.id and c.wanted
               returning j.id, j.video_id, j.owner_id, j.stage, j.attempt, j.failures, j.crashes),
             a as (
               insert into job_attempts (job_id, attempt, worker)
               select id, attempt, $2 from claimed)
             select * from claimed join c using (id)",
        )
        .bind(ids)
        .bind(worker.0)
        .bind(seconds(lease))
        .bind(seconds(deadline))
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| row.into_claim(worker)).collect())
    }

    /// Extends the leases of a worker, all in one statement. Returns what it still holds: the others are lost, or past
    /// their deadline, and their work must stop. Gives up early enough to be sent again before `lease` ends, and waits
    /// for no row: one that is locked must not cost the leases of all others.
    #[tracing::instrument(name = "db.jobs.heartbeat", skip_all)]
    pub async fn heartbeat(
        &self,
        worker: WorkerId,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Vec<Kept>, DbError> {
        let ids: Vec<Uuid> = leases.iter().map(|lease| lease.job.0).collect();
        let attempts: Vec<i32> = leases.iter().map(|lease| lease.attempt).collect();
        let asked = sqlx::query_as(
            "with h as (select * from unnest($1::uuid[], $2::int[]) as h(id, attempt)),
             free as (
               select j.id from jobs j join h using (id, attempt)
                where j.worker = $3 and j.state = 'running' and now() < j.deadline_at
                  for no key update of j skip locked),
             renewed as (
               update jobs j set lease_until = now() + make_interval(secs => $4)
                 from free where j.id = free.id
               returning j.id)
             select j.id, j.attempt, r.id is not null
               from jobs j join h using (id, attempt) left join renewed r on r.id = j.id
              where j.worker = $3 and j.state = 'running' and now() < j.deadline_at",
        )
        .bind(ids)
        .bind(attempts)
        .bind(worker.0)
        .bind(seconds(lease))
        .fetch_all(&self.heartbeats);
        let kept: Vec<(Uuid, i32, bool)> = answered(lease / 3, asked).await?;
        let kept = kept.into_iter();
        Ok(kept.map(|(id, attempt, renewed)| Kept { job: JobId(id), attempt, renewed }).collect())
    }

    /// How far the attempt is, 0 to 1. Values outside are pulled in.
    #[tracing::instrument(name = "db.jobs.progress", skip_all, fields(job.id = %lease.job))]
    pub async fn set_progress(&self, lease: &Lease, progress: f32) -> Result<Commit, DbError> {
        let (job, attempt, worker) = lease.guard();
        let progress = if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) };
        let done = sqlx::query(
            "update jobs set progress = $4
              where id = $1 and attempt = $2 and worker = $3 and state = 'running'",
        )
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(progress)
        .execute(self.pool())
        .await?;
        Ok(Commit::of(done.rows_affected() == 1))
    }

    /// The first segments are up and a playlist names them. The first such moment counts, of whichever attempt.
    #[tracing::instrument(name = "db.videos.playable", skip_all, fields(job.id = %lease.job))]
    pub async fn mark_playable(&self, lease: &Lease) -> Result<Commit, DbError> {
        let (job, attempt, worker) = lease.guard();
        let applied: bool = sqlx::query_scalar(concat!(
            "with ",
            held!(),
            ", v as (
               update videos v set playable_at = now(), updated_at = now()
                 from held where v.id = held.video_id and v.playable_at is null)
             select exists (select 1 from held)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .fetch_one(self.pool())
        .await?;
        Ok(Commit::of(applied))
    }

    /// How this attempt ended, from `job_attempts`: after a cut connection it tells whether the commit went through.
    /// `None` while it runs, or if it was never ours.
    #[tracing::instrument(name = "db.job_attempts.outcome", skip_all, fields(job.id = %lease.job))]
    pub async fn attempt_outcome(&self, lease: &Lease) -> Result<Option<String>, DbError> {
        let (job, attempt, worker) = lease.guard();
        let outcome: Option<Option<String>> = sqlx::query_scalar(
            "select outcome from job_attempts where job_id = $1 and attempt = $2 and worker = $3",
        )
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .fetch_optional(self.pool())
        .await?;
        Ok(outcome.flatten())
    }
}

impl ClaimRow {
    fn into_claim(self, worker: WorkerId) -> Result<Claim, DbError> {
        let video = VideoId(self.video_id);
        Ok(Claim {
            lease: Lease {
                job: JobId(self.id),
                video,
                owner: OwnerId(self.owner_id),
                stage: stage(&self.stage)?,
                attempt: self.attempt,
                worker,
            },
            source: Source {
                video,
                key: self.object_key,
                etag: self.etag,
                version_id: self.version_id,
                size_bytes: size(self.size_bytes)?,
                sha256: sha256(self.sha256)?,
            },
            failures: self.failures,
            crashes: self.crashes,
            waited: Duration::try_from_secs_f64(self.waited_s).unwrap_or_default(),
        })
    }
}
