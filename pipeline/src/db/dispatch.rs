//! Which jobs go to Redis next, and which were said to be there. A mark here is a claim about a hint, never about work:
//! a job that is marked and was never pushed is found by the diff.

use std::time::Duration;

use uuid::Uuid;

use super::row::seconds;
use super::{Db, DbError};
use crate::job::JobId;
use crate::stage::Stage;

/// Round robin over owners, by weight: a job's turn is its place in its owner's line, behind what that owner already has
/// running or in Redis, divided by the owner's weight. Without the second part an owner with old backlog would win every
/// time one slot is free. Within a line `line_time` decides, which is priority as a head start in time. Priority is no
/// currency between owners: whoever marks all as urgent only orders their own line.
///
/// The owners are found by skipping through the index, and at most $2 jobs of each are read, so a backlog of any length
/// costs the same. `candidate` is a snapshot; `turn` waits for other dispatchers of the stage and counts afterwards, so
/// that all of them together keep to `max_inflight`; `picked` locks, and Postgres checks its conditions again on rows that
/// another dispatcher has marked meanwhile. The short list is twice as long as wanted, for what that one took.
const DUE: &str = "
with recursive line as (
   (select owner_id from jobs
     where stage = $1 and state = 'pending' and dispatched_at is null
       and not exists (select 1 from paused_queues p where p.stage = $1)
     order by owner_id limit 1)
   union all
   select (select j.owner_id from jobs j
            where j.stage = $1 and j.state = 'pending' and j.dispatched_at is null
              and j.owner_id > line.owner_id
            order by j.owner_id limit 1)
     from line where line.owner_id is not null),
 turn as materialized (select owner_id, in_flight from dispatch_turn($1)),
 candidate as (
   select first.id, first.run_at, o.weight, o.max_inflight,
          coalesce(turn.in_flight, 0)
          + row_number() over (partition by o.id
                               order by line_time(first.run_at, first.priority), first.id) as place
     from line
     join owners o on o.id = line.owner_id
     cross join lateral (
       select id, priority, run_at from jobs j
        where j.stage = $1 and j.owner_id = o.id
          and j.state = 'pending' and j.dispatched_at is null and j.run_at <= now()
        order by line_time(j.run_at, j.priority), j.id
        limit $2) first
     left join turn on turn.owner_id = o.id),
 short_list as (
   select id, place::float8 / weight as turn, run_at from candidate
    where max_inflight is null or place <= max_inflight
    order by 2, run_at, id limit 2 * $2),
 picked as (
   select j.id, s.turn, s.run_at from short_list s join jobs j on j.id = s.id
    where j.state = 'pending' and j.dispatched_at is null
    order by s.turn, s.run_at, j.id
    limit $2
      for update of j skip locked),
 marked as (
   update jobs j set dispatched_at = now() from picked where j.id = picked.id returning j.id)
select picked.id from picked join marked on marked.id = picked.id
 order by picked.turn, picked.run_at, picked.id";

impl Db {
    /// Up to `limit` due jobs of a stage in the order in which they shall run, marked as dispatched.
    #[tracing::instrument(name = "db.jobs.due", skip_all, fields(%stage))]
    pub async fn due(&self, stage: Stage, limit: usize) -> Result<Vec<JobId>, DbError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(DUE)
            .bind(stage.as_str())
            .bind(i64::from(u32::try_from(limit).unwrap_or(u32::MAX)))
            .fetch_all(self.pool())
            .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    /// Takes marks back: there was no room, or the diff found the ids in no list. Returns how many still had one.
    ///
    /// Rings no bell: dispatch calls it when Redis is full, and would be woken by itself for ever.
    #[tracing::instrument(name = "db.jobs.undispatch", skip_all)]
    pub async fn undispatch(&self, jobs: &[JobId]) -> Result<u64, DbError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let done = sqlx::query(
            "update jobs set dispatched_at = null
              where id = any($1) and state = 'pending' and dispatched_at is not null",
        )
        .bind(ids)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Pending jobs of a stage that were marked longer ago than `older_than`, oldest mark first.
    #[tracing::instrument(name = "db.jobs.dispatched", skip_all, fields(%stage))]
    pub async fn dispatched(
        &self,
        stage: Stage,
        older_than: Duration,
    ) -> Result<Vec<JobId>, DbError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select id from jobs
              where stage = $1 and state = 'pending'
                and dispatched_at <= now() - make_interval(secs => $2)
              order by dispatched_at",
        )
        .bind(stage.as_str())
        .bind(seconds(older_than))
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }
}
