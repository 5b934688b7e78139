//! From a created object to its video and first job. The webhook (twice) and the reconciler run the same statement, so
//! racing is harmless: one video per (bucket, key, identity), decided by the unique constraint.

use uuid::Uuid;

use super::operators::Ordered;
use super::row::{stage, to_bigint};
use super::{Db, DbError};
use crate::event::CreatedObject;
use crate::job::JobId;
use crate::stage::Stage;
use crate::video::{OwnerId, VideoId};

/// Who tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcer {
    Webhook,
    Reconcile,
}

impl Announcer {
    const fn as_str(self) -> &'static str {
        match self {
            Announcer::Webhook => "webhook",
            Announcer::Reconcile => "reconcile",
        }
    }
}

/// The video of an object. Its row is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub video: VideoId,
    /// Whether this call began its processing; false for an object that was known.
    pub created: bool,
}

/// How often a statement may find nothing because another delivery of the same object committed after its snapshot.
const ROUNDS: usize = 5;

/// - `known`: the object is there already. A listing of a versioned bucket names no version; then the `ETag` decides.
///   `back`: its source was missing, and since then it was uploaded again, or the listing has it: the answer names the
///   stage that missed it, one of those that decide a video's end.
/// - `revived`: the row that `POST /v1/videos` made, also when its URL had expired unused.
/// - `inserted`: an object that nobody announced, or that overwrote an earlier one, whose owner it keeps.
///
/// Of two deliveries at once, one waits for the other's row. Then its `revived` does not match any more and its
/// `inserted` conflicts, so it returns nothing at all: its snapshot is too old to see the winner. The caller asks again.
const ACCEPT: &str = "
with known as (
   select id, state = 'failed' and failure_cause = 'source_missing'
              and ($12 = 'reconcile' or $7 collate \"C\" > coalesce(sequencer, '')) as back
     from videos
    where bucket = $2 and object_key = $3
      and (identity = $4 or ($6::text is null and etag = $5))
    order by id limit 1),
 revived as (
   update videos v
      set state = 'processing', identity = $4, etag = $5, version_id = $6, sequencer = $7,
          size_bytes = $8, content_type = coalesce($9, v.content_type),
          uploaded_at = now(), updated_at = now()
    where v.bucket = $2 and v.object_key = $3 and v.identity = ''
      and v.state in ('uploading', 'expired') and not exists (select 1 from known)
   returning v.id, v.owner_id),
 earlier as (
   select owner_id, stream_id, title, filename from videos
    where bucket = $2 and object_key = $3 order by id desc limit 1),
 inserted as (
   insert into videos (id, owner_id, stream_id, title, filename, bucket, object_key, identity, etag,
                       version_id, sequencer, size_bytes, content_type, announced_by, state,
                       uploaded_at)
   select $1, coalesce(earlier.owner_id, $10), earlier.stream_id, earlier.title,
          coalesce(earlier.filename, $11), $2, $3, $4, $5, $6, $7, $8, $9, $12, 'processing', now()
     from (values (1)) one left join earlier on true
    where not exists (select 1 from known) and not exists (select 1 from revived)
   on conflict (bucket, object_key, identity) do nothing
   returning id, owner_id),
 video as (select id, owner_id from revived union all select id, owner_id from inserted),
 job as (
   insert into jobs (id, video_id, owner_id, stage)
   select $13, id, owner_id, $14 from video
   on conflict (video_id, stage, pipeline) do nothing)
select id, true as created, null as stage from video
union all
select id, false, (select j.stage from jobs j
                    where back and j.video_id = known.id and j.state = 'dead'
                      and j.stage in ('duplicate_detection', 'transcode')
                    order by j.created_at limit 1)
  from known";

impl Db {
    /// Finds or makes the video of an object, and the job of its first stage. After `Ok` both are committed.
    /// Fails with a constraint's name for an object that has neither version nor `ETag`.
    #[tracing::instrument(name = "db.videos.accept", skip_all)]
    pub async fn accept_object(
        &self,
        object: &CreatedObject,
        by: Announcer,
    ) -> Result<Accepted, DbError> {
        let identity =
            object.identity().ok_or_else(|| DbError::Constraint("videos.identity".to_owned()))?;
        let size_bytes = to_bigint(object.size_bytes)?;
        // The last part of the key is what a person called the file, as far as anybody knows.
        let filename = object.key.rsplit('/').next();
        for _ in 0..ROUNDS {
            let answer: Result<Option<(Uuid, bool, Option<String>)>, DbError> =
                sqlx::query_as(ACCEPT)
                    .bind(VideoId::new().0)
                    .bind(&object.bucket)
                    .bind(&object.key)
                    .bind(&identity)
                    .bind(&object.etag)
                    .bind(&object.version_id)
                    .bind(&object.sequencer)
                    .bind(size_bytes)
                    .bind(&object.content_type)
                    .bind(OwnerId::DEFAULT.0)
                    .bind(filename)
                    .bind(by.as_str())
                    .bind(JobId::new().0)
                    .bind(Stage::DuplicateDetection.as_str())
                    .fetch_optional(self.pool())
                    .await
                    .map_err(DbError::from);
            match answer {
                Ok(Some((video, created, None))) => {
                    self.ring(created);
                    return Ok(Accepted { video: VideoId(video), created });
                }
                Ok(Some((video, _, Some(missed)))) => {
                    return self.begin_again(VideoId(video), stage(&missed)?).await;
                }
                Ok(None) => {}
                // `revived` took an identity that another delivery inserted after our snapshot.
                Err(error) if error.is_refusal_by("videos_bucket_object_key_identity_key") => {}
                Err(error) => return Err(error),
            }
        }
        Err(DbError::Unavailable(format!("deliveries of {} keep racing", object.key)))
    }

    /// The same bytes are back under their key. A crash before this leaves the video failed; the listing finds it again.
    async fn begin_again(&self, video: VideoId, missed: Stage) -> Result<Accepted, DbError> {
        // A refusal means that somebody else was faster.
        let created = matches!(self.rerun(video, missed).await?, Ordered::Done(_));
        self.ring(created);
        Ok(Accepted { video, created })
    }

    /// Those objects of a listing that have no video yet, in the order given. Rows that still wait for their upload do
    /// not count, nor those whose source was missing: [`Db::accept_object`] revives them.
    #[tracing::instrument(name = "db.videos.unknown", skip_all)]
    pub async fn unknown_objects(
        &self,
        objects: &[CreatedObject],
    ) -> Result<Vec<CreatedObject>, DbError> {
        let identified: Vec<(&CreatedObject, String)> =
            objects.iter().filter_map(|o| o.identity().map(|identity| (o, identity))).collect();
        let buckets: Vec<&str> = identified.iter().map(|(o, _)| o.bucket.as_str()).collect();
        let keys: Vec<&str> = identified.iter().map(|(o, _)| o.key.as_str()).collect();
        let identities: Vec<&str> = identified.iter().map(|(_, i)| i.as_str()).collect();
        // Only a listing without versions may be matched by its ETag.
        let etags: Vec<Option<&str>> = identified
            .iter()
            .map(|(o, _)| if o.version_id.is_none() { o.etag.as_deref() } else { None })
            .collect();
        let places: Vec<i64> = sqlx::query_scalar(
            "select o.place
               from unnest($1::text[], $2::text[], $3::text[], $4::text[])
                    with ordinality as o(bucket, key, identity, etag, place)
              where not exists (
                select 1 from videos v
                 where v.bucket = o.bucket and v.object_key = o.key
                   and (v.identity = o.identity or v.etag = o.etag)
                   and v.failure_cause is distinct from 'source_missing')
              order by o.place",
        )
        .bind(buckets)
        .bind(keys)
        .bind(identities)
        .bind(etags)
        .fetch_all(self.pool())
        .await?;
        // Ordinality counts from 1.
        let unknown = places.into_iter().filter_map(|place| {
            let index = usize::try_from(place).ok()?.checked_sub(1)?;
            identified.get(index).map(|(object, _)| (*object).clone())
        });
        Ok(unknown.collect())
    }
}
