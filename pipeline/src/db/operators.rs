//! What an operator asks of a video's stages and asks about them. The rules are the functions of
//! `migrations/0003_operators.sql`, which psql users call as well; here is only the way to them.

use time::OffsetDateTime;
use uuid::Uuid;

use super::row::stage;
use super::videos::job_state;
use super::{Db, DbError};
use crate::job::{JobId, JobState, Lease};
use crate::stage::Stage;
use crate::video::VideoId;

/// The SQLSTATE with which those functions refuse, and the one for a video that is not there.
const REFUSED: &str = "CS409";
const NO_SUCH_VIDEO: &str = "CS404";

/// What became of an order, in a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    Done(String),
    /// It cannot be, and nothing was changed.
    Refused(String),
    NoSuchVideo(String),
}

/// Which jobs to list; `None` is any.
#[derive(Debug, Clone, Copy)]
pub struct JobFilter {
    pub state: Option<JobState>,
    pub stage: Option<Stage>,
    pub video: Option<VideoId>,
    pub limit: u32,
}

/// A job as its row says.
#[derive(Debug, Clone)]
pub struct JobSummary {
    pub job: JobId,
    pub video: VideoId,
    pub stage: Stage,
    pub state: JobState,
    pub attempt: i32,
    pub failures: i32,
    pub crashes: i32,
    pub lost_workers: i32,
    pub progress: Option<f32>,
    /// When it came to the state it is in, as nearly as the row knows.
    pub since: OffsetDateTime,
    pub run_at: OffsetDateTime,
    /// Of the last failure, also when another try follows.
    pub cause: Option<String>,
    pub error: Option<String>,
}

/// One try of a job.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct AttemptRecord {
    pub stage: String,
    pub attempt: i32,
    pub worker: Uuid,
    pub started_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub outcome: Option<String>,
    pub failure_cause: Option<String>,
    pub detail: Option<String>,
}

#[derive(sqlx::FromRow)]
struct JobRow {
    id: Uuid,
    video_id: Uuid,
    stage: String,
    state: String,
    attempt: i32,
    failures: i32,
    crashes: i32,
    lost_workers: i32,
    progress: Option<f32>,
    since: OffsetDateTime,
    run_at: OffsetDateTime,
    failure_cause: Option<String>,
    last_error: Option<String>,
}

impl Db {
    /// Runs a done, dead or cancelled stage of a video again.
    #[tracing::instrument(name = "db.jobs.rerun", skip_all, fields(video.id = %video, %stage))]
    pub async fn rerun(&self, video: VideoId, stage: Stage) -> Result<Ordered, DbError> {
        self.order("select rerun($1, $2)", video, stage).await
    }

    /// Ends a stage that waits or runs.
    #[tracing::instrument(name = "db.jobs.cancel", skip_all, fields(video.id = %video, %stage))]
    pub async fn cancel(&self, video: VideoId, stage: Stage) -> Result<Ordered, DbError> {
        self.order("select cancel($1, $2)", video, stage).await
    }

    async fn order(
        &self,
        statement: &'static str,
        video: VideoId,
        stage: Stage,
    ) -> Result<Ordered, DbError> {
        let answer = sqlx::query_scalar(statement)
            .bind(video.0)
            .bind(stage.as_str())
            .fetch_one(self.pool())
            .await;
        let error = match answer {
            Ok(sentence) => return Ok(Ordered::Done(sentence)),
            Err(error) => error,
        };
        let refusal = error.as_database_error().map(|e| (e.code(), e.message().to_owned()));
        match refusal {
            Some((Some(code), why)) if code == REFUSED => Ok(Ordered::Refused(why)),
            Some((Some(code), why)) if code == NO_SUCH_VIDEO => Ok(Ordered::NoSuchVideo(why)),
            _ => Err(error.into()),
        }
    }

    /// Why a video waits or how it ended, since when, and what happens next. `None`: there is no such video.
    #[tracing::instrument(name = "db.videos.explain", skip_all, fields(video.id = %video))]
    pub async fn explain(&self, video: VideoId) -> Result<Option<String>, DbError> {
        Ok(sqlx::query_scalar("select explain(id) from videos where id = $1")
            .bind(video.0)
            .fetch_optional(self.pool())
            .await?)
    }

    /// Jobs, those that changed last first.
    #[tracing::instrument(name = "db.jobs.list", skip_all)]
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobSummary>, DbError> {
        let rows: Vec<JobRow> = sqlx::query_as(
            "select id, video_id, stage, state, attempt, failures, crashes, lost_workers, progress,
                    coalesce(finished_at, case when state = 'running' then started_at end, created_at) as since,
                    run_at, failure_cause, last_error
               from jobs
              where ($1::text is null or state = $1) and ($2::text is null or stage = $2)
                and ($3::uuid is null or video_id = $3)
              order by coalesce(finished_at, case when state = 'running' then started_at end, created_at) desc, id
              limit $4",
        )
        .bind(filter.state.map(JobState::as_str))
        .bind(filter.stage.map(Stage::as_str))
        .bind(filter.video.map(|video| video.0))
        .bind(i64::from(filter.limit))
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(JobRow::into_summary).collect()
    }

    /// Every try of a video's jobs, the first first.
    #[tracing::instrument(name = "db.job_attempts.list", skip_all, fields(video.id = %video))]
    pub async fn attempts(&self, video: VideoId) -> Result<Vec<AttemptRecord>, DbError> {
        Ok(sqlx::query_as(
            "select j.stage, a.attempt, a.worker, a.started_at, a.ended_at, a.outcome,
                    a.failure_cause, a.detail
               from job_attempts a join jobs j on j.id = a.job_id
              where j.video_id = $1 order by a.started_at, j.stage, a.attempt",
        )
        .bind(video.0)
        .fetch_all(self.pool())
        .await?)
    }

    /// Which of these leases their rows no longer name: cancelled, or taken back. A look and no heartbeat: it costs
    /// Postgres no write.
    #[tracing::instrument(name = "db.jobs.taken_away", skip_all)]
    pub async fn taken_away(&self, leases: &[Lease]) -> Result<Vec<(JobId, i32)>, DbError> {
        let jobs: Vec<Uuid> = leases.iter().map(|lease| lease.job.0).collect();
        let attempts: Vec<i32> = leases.iter().map(|lease| lease.attempt).collect();
        let gone: Vec<(Uuid, i32)> = sqlx::query_as(
            "select h.id, h.attempt from unnest($1::uuid[], $2::int[]) as h(id, attempt)
               left join jobs j on j.id = h.id and j.attempt = h.attempt and j.state = 'running'
              where j.id is null",
        )
        .bind(jobs)
        .bind(attempts)
        .fetch_all(self.pool())
        .await?;
        Ok(gone.into_iter().map(|(job, attempt)| (JobId(job), attempt)).collect())
    }
}

impl JobRow {
    fn into_summary(self) -> Result<JobSummary, DbError> {
        Ok(JobSummary {
            job: JobId(self.id),
            video: VideoId(self.video_id),
            stage: stage(&self.stage)?,
            state: job_state(&self.state)?,
            attempt: self.attempt,
            failures: self.failures,
            crashes: self.crashes,
            lost_workers: self.lost_workers,
            progress: self.progress,
            since: self.since,
            run_at: self.run_at,
            cause: self.failure_cause,
            error: self.last_error,
        })
    }
}
