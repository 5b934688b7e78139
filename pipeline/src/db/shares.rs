//! What operators grant: an owner's share of the workers, and a video's head start in its owner's line.
//! Both only order what waits; nothing here touches a running job's work.

use super::{Db, DbError};
use crate::video::VideoId;

/// How much of the workers an owner may have while others wait as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Share {
    /// 1 to 100: an owner of weight 3 has three jobs at work for each one of an owner of weight 1.
    pub weight: i16,
    /// Most jobs of one stage that may run or wait in Redis at once, at least 1; `None`: no limit of its own.
    pub max_inflight: Option<i32>,
}

/// An owner as an operator sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OwnerShare {
    pub name: String,
    #[sqlx(flatten)]
    pub share: Share,
    /// Jobs that run or lie in Redis.
    pub in_flight: i64,
    /// Jobs that are pending and not in Redis.
    pub waiting: i64,
}

impl Db {
    /// All owners with their shares and what they have at work, by name.
    #[tracing::instrument(name = "db.owners.shares", skip_all)]
    pub async fn shares(&self) -> Result<Vec<OwnerShare>, DbError> {
        Ok(sqlx::query_as(
            "with flying as (
               select owner_id, count(*) as jobs from jobs
                where state = 'running' or (state = 'pending' and dispatched_at is not null)
                group by owner_id),
             waiting as (
               select owner_id, count(*) as jobs from jobs
                where state = 'pending' and dispatched_at is null
                group by owner_id)
             select o.name, o.weight, o.max_inflight, coalesce(f.jobs, 0) as in_flight,
                    coalesce(w.jobs, 0) as waiting
               from owners o
               left join flying f on f.owner_id = o.id
               left join waiting w on w.owner_id = o.id
              order by o.name",
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// The share of the owner of this name; `None` if there is none.
    #[tracing::instrument(name = "db.owners.share", skip_all)]
    pub async fn share(&self, owner: &str) -> Result<Option<Share>, DbError> {
        Ok(sqlx::query_as("select weight, max_inflight from owners where name = $1")
            .bind(owner)
            .fetch_optional(self.pool())
            .await?)
    }

    /// Changes what is given of a share, and returns it as it then is; 0 jobs in flight: no limit. `None` if there is no
    /// owner of this name. A value out of range is refused by its constraint. What is in Redis already stays there.
    #[tracing::instrument(name = "db.owners.set_share", skip_all)]
    pub async fn set_share(
        &self,
        owner: &str,
        weight: Option<i16>,
        max_inflight: Option<i32>,
    ) -> Result<Option<Share>, DbError> {
        let share = sqlx::query_as(
            "update owners
                set weight = coalesce($2, weight),
                    max_inflight = case when $3::int is null then max_inflight else nullif($3, 0) end
              where name = $1
             returning weight, max_inflight",
        )
        .bind(owner)
        .bind(weight)
        .bind(max_inflight)
        .fetch_optional(self.pool())
        .await?;
        self.ring(share.is_some());
        Ok(share)
    }

    /// Gives the jobs of a video that have not ended a priority, which its next jobs inherit. Returns how many they are.
    #[tracing::instrument(name = "db.jobs.set_priority", skip_all, fields(video.id = %video))]
    pub async fn set_priority(&self, video: VideoId, priority: i16) -> Result<u64, DbError> {
        let done = sqlx::query(
            "update jobs set priority = $2
              where video_id = $1 and state in ('pending', 'running')",
        )
        .bind(video.0)
        .bind(priority)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }
}
