//! The queues as an operator sees them: how long, how old, paused or not. The backlog is the rows; what of it lies in
//! Redis at this moment says little. A pause is a row too, so that it outlives Redis.

use std::time::Duration;

use time::OffsetDateTime;

use super::row::stage;
use super::{Db, DbError};
use crate::stage::Stage;

/// One stage's queue.
#[derive(Debug, Clone)]
pub struct QueueFigures {
    pub stage: Stage,
    /// All that is pending, the next two included.
    pub pending: u64,
    /// Not due yet: back-off, or waiting for an original.
    pub waiting: u64,
    /// Pushed to Redis and not claimed yet.
    pub dispatched: u64,
    pub running: u64,
    pub dead: u64,
    /// For how long the oldest due job has been due.
    pub oldest: Option<Duration>,
    /// Since when it begins nothing, and why.
    pub paused: Option<(OffsetDateTime, Option<String>)>,
}

#[derive(sqlx::FromRow)]
struct QueueRow {
    stage: String,
    undispatched: i64,
    waiting: i64,
    dispatched: i64,
    running: i64,
    dead: i64,
    oldest_s: Option<f64>,
    paused_at: Option<OffsetDateTime>,
    reason: Option<String>,
}

/// Each count has the conditions of a partial index: what is done, by far the most, is never read.
const FIGURES: &str = "
select s.stage, u.jobs as undispatched, u.waiting, d.jobs as dispatched, r.jobs as running, x.jobs as dead,
       greatest(0, extract(epoch from now() - least(u.oldest, d.oldest)))::float8 as oldest_s,
       p.paused_at, p.reason
  from unnest($1::text[]) with ordinality as s(stage, place)
  cross join lateral (
    select count(*) as jobs, count(*) filter (where run_at > now()) as waiting,
           min(run_at) filter (where run_at <= now()) as oldest
      from jobs j where j.stage = s.stage and j.state = 'pending' and j.dispatched_at is null) u
  cross join lateral (
    select count(*) as jobs, min(run_at) as oldest
      from jobs j where j.stage = s.stage and j.state = 'pending' and j.dispatched_at is not null) d
  cross join lateral (
    select count(*) as jobs from jobs j where j.stage = s.stage and j.state = 'running') r
  cross join lateral (
    select count(*) as jobs from jobs j where j.stage = s.stage and j.state = 'dead') x
  left join paused_queues p on p.stage = s.stage
 order by s.place";

impl Db {
    /// All queues, in the order of the stages.
    #[tracing::instrument(name = "db.jobs.figures", skip_all)]
    pub async fn queue_figures(&self) -> Result<Vec<QueueFigures>, DbError> {
        let rows: Vec<QueueRow> = sqlx::query_as(FIGURES)
            .bind(Stage::ALL.map(Stage::as_str).to_vec())
            .fetch_all(self.pool())
            .await?;
        rows.into_iter().map(QueueRow::into_figures).collect()
    }

    /// Begins nothing of a stage any more; what runs goes on. A second call replaces the reason and keeps the time.
    #[tracing::instrument(name = "db.paused_queues.insert", skip_all, fields(%stage))]
    pub async fn pause(&self, stage: Stage, reason: Option<&str>) -> Result<(), DbError> {
        sqlx::query(
            "insert into paused_queues (stage, reason) values ($1, $2)
             on conflict (stage) do update set reason = coalesce(excluded.reason, paused_queues.reason)",
        )
        .bind(stage.as_str())
        .bind(reason)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Ends a pause. `false`: there was none.
    #[tracing::instrument(name = "db.paused_queues.delete", skip_all, fields(%stage))]
    pub async fn resume(&self, stage: Stage) -> Result<bool, DbError> {
        let done = sqlx::query("delete from paused_queues where stage = $1")
            .bind(stage.as_str())
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Bytes of all sources and of all objects of our own making, as the rows say. Reads both tables: not for every
    /// moment.
    #[tracing::instrument(name = "db.objects.stored", skip_all)]
    pub async fn stored_bytes(&self) -> Result<(u64, u64), DbError> {
        let (sources, made): (i64, i64) = sqlx::query_as(
            "select (select coalesce(sum(size_bytes), 0)::bigint from videos
                      where state in ('processing', 'ready', 'duplicate', 'failed')),
                    (select coalesce(sum(size_bytes), 0)::bigint from objects)",
        )
        .fetch_one(self.pool())
        .await?;
        Ok((count(sources), count(made)))
    }
}

impl QueueRow {
    fn into_figures(self) -> Result<QueueFigures, DbError> {
        let dispatched = count(self.dispatched);
        Ok(QueueFigures {
            stage: stage(&self.stage)?,
            pending: count(self.undispatched) + dispatched,
            waiting: count(self.waiting),
            dispatched,
            running: count(self.running),
            dead: count(self.dead),
            oldest: self.oldest_s.map(Duration::from_secs_f64),
            paused: self.paused_at.map(|at| (at, self.reason)),
        })
    }
}

/// What `count` and `sum` of sizes answer is never below zero.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
