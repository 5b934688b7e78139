//! Statements on quarantined events: authenticated bodies that could not become a video, kept for an operator.
//! Nothing here deletes one.

use time::OffsetDateTime;

use super::{Db, DbError};

/// An event that could not be used.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct QuarantinedEvent {
    pub id: i64,
    pub received_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
    /// How often the same bytes came: MinIO delivers twice and repeats.
    pub times_seen: i32,
    pub reason: String,
    pub body: Vec<u8>,
    pub replayed_at: Option<OffsetDateTime>,
}

impl Db {
    /// Stores a body, or counts one more arrival of the same bytes. Returns its id.
    #[tracing::instrument(name = "db.quarantined_events.insert", skip_all, err)]
    pub async fn quarantine(&self, body: &[u8], reason: &str) -> Result<i64, DbError> {
        // A body that comes again after its replay is unusable again: it must show in the list once more.
        let id = sqlx::query_scalar(
            "insert into quarantined_events as q (body_sha256, reason, body)
             values (sha256($1), $2, $1)
             on conflict (body_sha256) do update
                set last_seen_at = now(), times_seen = q.times_seen + 1,
                    reason = excluded.reason, replayed_at = null
             returning id",
        )
        .bind(body)
        .bind(reason)
        .fetch_one(self.pool())
        .await?;
        Ok(id)
    }

    /// The newest `limit` events, newest first, replayed ones included.
    #[tracing::instrument(name = "db.quarantined_events.list", skip_all, err)]
    pub async fn quarantined(&self, limit: u32) -> Result<Vec<QuarantinedEvent>, DbError> {
        let events = sqlx::query_as(
            "select id, received_at, last_seen_at, times_seen, reason, body, replayed_at
               from quarantined_events order by last_seen_at desc, id desc limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        Ok(events)
    }

    /// How many wait for an operator.
    #[tracing::instrument(name = "db.quarantined_events.count", skip_all)]
    pub async fn quarantined_waiting(&self) -> Result<u64, DbError> {
        let count: i64 =
            sqlx::query_scalar("select count(*) from quarantined_events where replayed_at is null")
                .fetch_one(self.pool())
                .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// One event with its body.
    #[tracing::instrument(name = "db.quarantined_events.get", skip_all, err)]
    pub async fn quarantined_event(&self, id: i64) -> Result<Option<QuarantinedEvent>, DbError> {
        let event = sqlx::query_as(
            "select id, received_at, last_seen_at, times_seen, reason, body, replayed_at
               from quarantined_events where id = $1",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        Ok(event)
    }

    /// Notes that everything in the event could be used. `false`: no such event.
    #[tracing::instrument(name = "db.quarantined_events.mark_replayed", skip_all, err)]
    pub async fn mark_replayed(&self, id: i64) -> Result<bool, DbError> {
        let done = sqlx::query("update quarantined_events set replayed_at = now() where id = $1")
            .bind(id)
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
