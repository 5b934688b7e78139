//! What we are about to put into the bucket. Written before the PUT, so that every object there has a row here; a row
//! without an object is harmless.

use std::collections::BTreeMap;

use super::row::to_bigint;
use super::sql::held;
use super::{Commit, Db, DbError};
use crate::job::Lease;

impl Db {
    /// Announces objects with their sizes in bytes, for an attempt that still runs. A key that is already announced
    /// takes the new size. A key of another video is refused by the constraint `objects.key`.
    #[tracing::instrument(name = "db.objects.announce", skip_all, fields(job.id = %lease.job))]
    pub async fn announce(
        &self,
        lease: &Lease,
        objects: &[(String, u64)],
    ) -> Result<Commit, DbError> {
        // Sorted, and each key once: two statements that write the same rows in different orders could deadlock, and
        // one statement may not write a row twice.
        let objects: BTreeMap<&str, u64> =
            objects.iter().map(|(key, size)| (key.as_str(), *size)).collect();
        let keys: Vec<&str> = objects.keys().copied().collect();
        let sizes: Vec<i64> = objects.values().copied().map(to_bigint).collect::<Result<_, _>>()?;
        let (job, attempt, worker) = lease.guard();
        let (applied, written): (bool, i64) = sqlx::query_as(concat!(
            "with ",
            held!(),
            ", written as (
               insert into objects as o (video_id, key, size_bytes, attempt)
               select held.video_id, n.key, n.size_bytes, held.attempt
                 from held, unnest($4::text[], $5::bigint[]) as n(key, size_bytes)
                order by n.key
               on conflict (key) do update
                  set size_bytes = excluded.size_bytes, attempt = excluded.attempt
                where o.video_id = excluded.video_id
               returning 1)
             select exists (select 1 from held), (select count(*) from written)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(&keys)
        .bind(sizes)
        .fetch_one(self.pool())
        .await?;
        if applied && usize::try_from(written) != Ok(keys.len()) {
            return Err(DbError::Constraint("objects.key".to_owned()));
        }
        Ok(Commit::of(applied))
    }
}
