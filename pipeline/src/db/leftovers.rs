//! What attempts left behind that did not win, as far as the rows know, and the rows of what is gone.
//! A row is only taken away after its object, and never while a job of its video runs.

use std::time::Duration;

use uuid::Uuid;

use super::row::seconds;
use super::{Db, DbError};
use crate::job::JobId;
use crate::video::VideoId;

/// A job that has ended after tries of which at most one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncollected {
    pub job: JobId,
    pub video: VideoId,
    /// Of its last try; a later one makes the job's leftovers another matter.
    pub attempt: i32,
}

/// An object that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    pub key: String,
    /// Long enough ago for gc, so by no attempt that still runs.
    pub old: bool,
}

impl Db {
    /// Jobs with leftovers that ended longer than `age` ago, the oldest first, but for some. Videos with an open job are
    /// left alone.
    #[tracing::instrument(name = "db.jobs.uncollected", skip_all)]
    pub async fn uncollected(
        &self,
        age: Duration,
        except: &[JobId],
        limit: u32,
    ) -> Result<Vec<Uncollected>, DbError> {
        let rows: Vec<(Uuid, Uuid, i32)> = sqlx::query_as(
            "select j.id, j.video_id, j.attempt from jobs j
              where j.collected_at is null and j.stage in ('transcode', 'speech_to_text')
                and j.state in ('done', 'dead', 'cancelled') and (j.attempt > 1 or j.state <> 'done')
                and j.finished_at < now() - make_interval(secs => $1) and j.id <> all($3)
                and not exists (select 1 from jobs o
                                 where o.video_id = j.video_id and o.state in ('pending', 'running'))
              order by j.finished_at limit $2",
        )
        .bind(seconds(age))
        .bind(i64::from(limit))
        .bind(except.iter().map(|job| job.0).collect::<Vec<Uuid>>())
        .fetch_all(self.pool())
        .await?;
        let uncollected = rows.into_iter().map(|(job, video, attempt)| Uncollected {
            job: JobId(job),
            video: VideoId(video),
            attempt,
        });
        Ok(uncollected.collect())
    }

    /// Notes that nothing is left. A try that was claimed since takes the note back.
    #[tracing::instrument(name = "db.jobs.collected", skip_all, fields(job.id = %done.job))]
    pub async fn collected(&self, done: Uncollected) -> Result<(), DbError> {
        sqlx::query(
            "update jobs set collected_at = now()
              where id = $1 and attempt = $2 and state in ('done', 'dead', 'cancelled')",
        )
        .bind(done.job.0)
        .bind(done.attempt)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// All objects of a video that were ever announced and not forgotten, in key order.
    #[tracing::instrument(name = "db.objects.of_video", skip_all, fields(video.id = %video))]
    pub async fn objects_of(
        &self,
        video: VideoId,
        age: Duration,
    ) -> Result<Vec<Announced>, DbError> {
        let rows: Vec<(String, bool)> = sqlx::query_as(
            "select key, created_at < now() - make_interval(secs => $2) from objects
              where video_id = $1 order by key",
        )
        .bind(video.0)
        .bind(seconds(age))
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(key, old)| Announced { key, old }).collect())
    }

    /// The attempts of a video whose results count: of the published renditions, and of the transcript.
    #[tracing::instrument(name = "db.videos.winners", skip_all, fields(video.id = %video))]
    pub async fn winners(&self, video: VideoId) -> Result<(Option<i32>, Option<i32>), DbError> {
        let winners: Option<(Option<i32>, Option<i32>)> = sqlx::query_as(
            "select (v.playback->>'attempt')::int,
                    (select max(j.attempt) from jobs j
                      where j.video_id = v.id and j.stage = 'speech_to_text' and j.state = 'done')
               from videos v where v.id = $1",
        )
        .bind(video.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(winners.unwrap_or_default())
    }

    /// Thumbnails that say that a video is processed, of videos whose transcode has ended; the oldest first.
    #[tracing::instrument(name = "db.objects.stale_processing", skip_all)]
    pub async fn stale_processing(&self, limit: u32) -> Result<Vec<(VideoId, String)>, DbError> {
        let rows: Vec<(Uuid, String)> = sqlx::query_as(
            "select o.video_id, o.key from objects o
              where o.key like 'thumbnails/%\\_processing.jpg'
                and not exists (select 1 from jobs j
                                 where j.video_id = o.video_id and j.stage = 'transcode'
                                   and j.state in ('pending', 'running'))
              order by o.created_at limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(video, key)| (VideoId(video), key)).collect())
    }

    /// Takes away the rows of objects that are not there (any more). Nothing while a job of the video runs: it may be
    /// about to write them.
    #[tracing::instrument(name = "db.objects.forget", skip_all, fields(video.id = %video))]
    pub async fn forget_objects(&self, video: VideoId, keys: &[String]) -> Result<u64, DbError> {
        let done = sqlx::query(
            "delete from objects
              where video_id = $1 and key = any($2)
                and not exists (select 1 from jobs j where j.video_id = $1 and j.state = 'running')",
        )
        .bind(video.0)
        .bind(keys)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }
}
