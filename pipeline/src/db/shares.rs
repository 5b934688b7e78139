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

impl Db {
    /// The share of the owner of this name; `None` if there is none.
    #[tracing::instrument(name = "db.owners.share", skip_all)]
    pub async fn share(&self, owner: &str) -> Result<Option<Share>, DbError> {
        Ok(sqlx::query_as("select weight, max_inflight from owners where name = $1")
            .bind(owner)
            .fetch_optional(self.pool())
            .await?)
    }

    /// Grants a share. False if there is no owner of this name. A value out of range is refused by its constraint. What is
    /// in Redis already stays there.
    #[tracing::instrument(name = "db.owners.set_share", skip_all)]
    pub async fn set_share(&self, owner: &str, share: Share) -> Result<bool, DbError> {
        let done = sqlx::query("update owners set weight = $2, max_inflight = $3 where name = $1")
            .bind(owner)
            .bind(share.weight)
            .bind(share.max_inflight)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() == 1)
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
