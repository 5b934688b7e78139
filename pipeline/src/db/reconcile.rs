//! What the reconciler remembers, and the rows it looks after: uploads that were announced and not seen.

use std::time::Duration;

use uuid::Uuid;

use super::row::seconds;
use super::{Db, DbError};
use crate::video::VideoId;

impl Db {
    /// Videos whose object nobody has seen, with its key; those whose URL ends first come first.
    #[tracing::instrument(name = "db.videos.uploading", skip_all)]
    pub async fn uploading_videos(&self, limit: usize) -> Result<Vec<(VideoId, String)>, DbError> {
        let rows: Vec<(Uuid, String)> = sqlx::query_as(
            "select id, object_key from videos
              where state = 'uploading' order by upload_expires_at, id limit $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(id, key)| (VideoId(id), key)).collect())
    }

    /// Ends uploads whose URL ran out longer than `grace` ago. Returns how many. An object that shows up afterwards
    /// revives its row, so expiring one too early loses nothing.
    #[tracing::instrument(name = "db.videos.expire", skip_all)]
    pub async fn expire_uploads(&self, grace: Duration) -> Result<u64, DbError> {
        let expired = sqlx::query(
            "update videos set state = 'expired', updated_at = now()
              where state = 'uploading' and upload_expires_at < now() - make_interval(secs => $1)",
        )
        .bind(seconds(grace))
        .execute(self.pool())
        .await?;
        Ok(expired.rows_affected())
    }

    /// The key after which the listing of a prefix goes on; empty at the start of a round.
    #[tracing::instrument(name = "db.reconcile_cursor.get", skip_all)]
    pub async fn reconcile_cursor(&self, bucket: &str, prefix: &str) -> Result<String, DbError> {
        let cursor: Option<String> = sqlx::query_scalar(
            "select start_after from reconcile_cursor where bucket = $1 and prefix = $2",
        )
        .bind(bucket)
        .bind(prefix)
        .fetch_optional(self.pool())
        .await?;
        Ok(cursor.unwrap_or_default())
    }

    /// Remembers how far the listing has come. Of two reconcilers the last one wins: at worst a page is listed twice.
    #[tracing::instrument(name = "db.reconcile_cursor.set", skip_all)]
    pub async fn set_reconcile_cursor(
        &self,
        bucket: &str,
        prefix: &str,
        start_after: &str,
    ) -> Result<(), DbError> {
        sqlx::query(
            "insert into reconcile_cursor (bucket, prefix, start_after) values ($1, $2, $3)
             on conflict (bucket, prefix) do update
                set start_after = excluded.start_after, updated_at = now()",
        )
        .bind(bucket)
        .bind(prefix)
        .bind(start_after)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
