//! Which of identical uploads is the original. Two unique indexes decide, also when they arrive in the same instant:
//! the first of its (owner, size) is an original unread; any other must know its hash to become one.

use uuid::Uuid;

use super::row::{sha256, to_bigint, video_state};
use super::sql::held;
use super::{Db, DbError};
use crate::job::Lease;
use crate::video::{BytesClaim, Candidate, SizeClaim, VideoId};

/// A holder can step back between our refusal and our look at who it was; then we ask again. Each round needs another
/// original to fail in that instant.
const ROUNDS: usize = 5;

#[derive(sqlx::FromRow)]
struct CandidateRow {
    id: Option<Uuid>,
    object_key: Option<String>,
    etag: Option<String>,
    sha256: Option<Vec<u8>>,
}

impl Db {
    /// Claims the size for this attempt's video, and records it. The holder gets the same answer again.
    /// [`DbError::LeaseLost`] when the attempt is not the row's any more.
    #[tracing::instrument(name = "db.videos.claim_size", skip_all, fields(job.id = %lease.job))]
    pub async fn claim_size(&self, lease: &Lease, size_bytes: u64) -> Result<SizeClaim, DbError> {
        let size = to_bigint(size_bytes)?;
        for _ in 0..ROUNDS {
            match self.take_size(lease, size).await {
                Ok(true) => return Ok(SizeClaim::First),
                Ok(false) => {}
                // The second is for a video whose hash is known already, by its transcode or an earlier claim.
                Err(error)
                    if error.is_refusal_by("videos_first_of_size")
                        || error.is_refusal_by("videos_original_sha256") => {}
                Err(error) => return Err(error),
            }
            let candidates = self.originals_of_size(lease, size).await?;
            if !candidates.is_empty() {
                return Ok(SizeClaim::Taken(candidates));
            }
        }
        Err(DbError::Unavailable("the originals of this size keep changing".to_owned()))
    }

    /// True: this video is an original of that size. A size that differs from the recorded one voids the hash: the
    /// object was overwritten.
    async fn take_size(&self, lease: &Lease, size: i64) -> Result<bool, DbError> {
        let (job, attempt, worker) = lease.guard();
        let (held, taken): (bool, bool) = sqlx::query_as(concat!(
            "with ",
            held!(),
            ", taken as (
               update videos v
                  set size_bytes = $4, original_claim = coalesce(v.original_claim, 'first_of_size'),
                      sha256 = case when v.size_bytes = $4 then v.sha256 end
                 from held
                where v.id = held.video_id and v.state = 'processing'
                  and ((v.original_claim = 'first_of_size' and v.size_bytes = $4)
                       or not exists (
                         select 1 from videos o
                          where o.owner_id = held.owner_id and o.size_bytes = $4
                            and o.original_claim is not null and o.id <> held.video_id))
               returning 1)
             select exists (select 1 from held), exists (select 1 from taken)"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(size)
        .fetch_one(self.pool())
        .await?;
        if held { Ok(taken) } else { Err(DbError::LeaseLost) }
    }

    async fn originals_of_size(&self, lease: &Lease, size: i64) -> Result<Vec<Candidate>, DbError> {
        let (job, attempt, worker) = lease.guard();
        let rows: Vec<CandidateRow> = sqlx::query_as(concat!(
            "with ",
            held!(),
            ", sized as (
               update videos v
                  set size_bytes = $4,
                      original_claim = case when v.size_bytes = $4 then v.original_claim end,
                      sha256 = case when v.size_bytes = $4 then v.sha256 end
                 from held where v.id = held.video_id and v.state = 'processing')
             select o.id, o.object_key, o.etag, o.sha256
               from held left join videos o
                 on o.owner_id = held.owner_id and o.size_bytes = $4
                and o.original_claim is not null and o.state in ('processing', 'ready')
                and o.id <> held.video_id
              order by o.id"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(size)
        .fetch_all(self.pool())
        .await?;
        if rows.is_empty() {
            return Err(DbError::LeaseLost);
        }
        rows.into_iter().filter_map(|row| row.into_candidate().transpose()).collect()
    }

    /// Claims these bytes for this attempt's video. `candidates` are the hashes that were read of other originals; they
    /// are recorded first, so that the index knows them. [`DbError::LeaseLost`] as for the size.
    #[tracing::instrument(name = "db.videos.claim_bytes", skip_all, fields(job.id = %lease.job))]
    pub async fn claim_bytes(
        &self,
        lease: &Lease,
        sha256: [u8; 32],
        candidates: &[(VideoId, [u8; 32])],
    ) -> Result<BytesClaim, DbError> {
        for (video, hash) in candidates {
            self.record_hash(lease, *video, hash).await?;
        }
        for _ in 0..ROUNDS {
            match self.take_bytes(lease, &sha256).await {
                Ok(()) => return Ok(BytesClaim::Original),
                Err(error) if error.is_refusal_by("videos_original_sha256") => {}
                Err(error) => return Err(error),
            }
            if let Some(holder) = self.holder_of_bytes(lease, &sha256).await? {
                return Ok(holder);
            }
        }
        Err(DbError::Unavailable("the originals of these bytes keep changing".to_owned()))
    }

    /// A statement of its own: in one with the claim, the refusal of the claim would undo it.
    async fn record_hash(
        &self,
        lease: &Lease,
        video: VideoId,
        hash: &[u8; 32],
    ) -> Result<(), DbError> {
        let (job, attempt, worker) = lease.guard();
        let recorded = sqlx::query(concat!(
            "with ",
            held!(),
            " update videos v set sha256 = $5 from held
               where v.id = $4 and v.owner_id = held.owner_id and v.id <> held.video_id
                 and v.sha256 is null and v.original_claim is not null"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(video.0)
        .bind(hash.as_slice())
        .execute(self.pool())
        .await
        .map_err(DbError::from);
        match recorded {
            // Another original has these bytes too; the claim will find that one.
            Err(error) if !error.is_refusal_by("videos_original_sha256") => Err(error),
            _ => Ok(()),
        }
    }

    async fn take_bytes(&self, lease: &Lease, hash: &[u8; 32]) -> Result<(), DbError> {
        let (job, attempt, worker) = lease.guard();
        let taken = sqlx::query(concat!(
            "with ",
            held!(),
            " update videos v
                 set sha256 = $4, original_claim = coalesce(v.original_claim, 'same_size')
                from held where v.id = held.video_id and v.state = 'processing'"
        ))
        .bind(job)
        .bind(attempt)
        .bind(worker)
        .bind(hash.as_slice())
        .execute(self.pool())
        .await?;
        if taken.rows_affected() == 1 { Ok(()) } else { Err(DbError::LeaseLost) }
    }

    async fn holder_of_bytes(
        &self,
        lease: &Lease,
        hash: &[u8; 32],
    ) -> Result<Option<BytesClaim>, DbError> {
        let holder: Option<(Uuid, String)> = sqlx::query_as(
            "select id, state from videos
              where owner_id = $1 and sha256 = $2 and original_claim is not null and id <> $3",
        )
        .bind(lease.owner.0)
        .bind(hash.as_slice())
        .bind(lease.video.0)
        .fetch_optional(self.pool())
        .await?;
        holder
            .map(|(id, state)| {
                Ok(BytesClaim::HeldBy { original: VideoId(id), state: video_state(&state)? })
            })
            .transpose()
    }
}

impl CandidateRow {
    /// `None` for the empty side of the left join.
    fn into_candidate(self) -> Result<Option<Candidate>, DbError> {
        let (Some(id), Some(key)) = (self.id, self.object_key) else { return Ok(None) };
        Ok(Some(Candidate {
            video: VideoId(id),
            key,
            etag: self.etag,
            sha256: sha256(self.sha256)?,
        }))
    }
}
