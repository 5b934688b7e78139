//! Statements on the probes of `clipstream doctor`: events of its own uploads, which intake puts into the quarantine.
//! Nothing here can touch an event that does not name the probe's id.

use uuid::Uuid;

use super::{Db, DbError};

impl Db {
    /// How many copies of the event of a probe have been committed.
    #[tracing::instrument(name = "db.quarantined_events.count_probe", skip_all, err)]
    pub async fn probe_arrivals(&self, id: Uuid) -> Result<u64, DbError> {
        // Identical copies are one row that counts them; copies of two servers' making are two rows.
        let arrivals: i64 = sqlx::query_scalar(
            "select coalesce(sum(times_seen), 0)::bigint from quarantined_events
              where last_seen_at > now() - interval '1 hour' and position($1 in body) > 0",
        )
        .bind(id.to_string().into_bytes())
        .fetch_one(self.pool())
        .await?;
        Ok(arrivals.cast_unsigned())
    }

    /// Removes the events of a probe.
    #[tracing::instrument(name = "db.quarantined_events.delete_probe", skip_all, err)]
    pub async fn forget_probe(&self, id: Uuid) -> Result<(), DbError> {
        sqlx::query("delete from quarantined_events where position($1 in body) > 0")
            .bind(id.to_string().into_bytes())
            .execute(self.pool())
            .await?;
        Ok(())
    }
}
