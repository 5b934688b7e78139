//! One video with everything that its owner may know of it: its row, its stages, and the original it plays.
//! Two reads, no lock: what it shows is a moment ago, and each half is true by itself.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{bad_row, job_state, processing_index};
use crate::db::{Db, DbError, row};
use crate::job::JobState;
use crate::stage::Stage;
use crate::video::{OwnerId, VideoId, VideoState};

/// A video as its row says, with its stages.
#[derive(Debug, Clone)]
pub struct VideoDetail {
    pub video: VideoId,
    pub state: VideoState,
    pub processing_index: u8,
    pub title: Option<String>,
    pub stream_id: Option<String>,
    pub filename: Option<String>,
    pub size_bytes: Option<u64>,
    pub content_type: Option<String>,
    /// Cause and detail, with state `failed`.
    pub failure: Option<(String, Option<String>)>,
    pub duplicate_of: Option<VideoId>,
    /// Of the video itself, or of its original.
    pub media: Option<Value>,
    /// Of the video itself, or of its original.
    pub playback: Option<Value>,
    /// Whether a master playlist is published, its own or its original's.
    pub playable: bool,
    pub upload_expires_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    pub uploaded_at: Option<OffsetDateTime>,
    pub playable_at: Option<OffsetDateTime>,
    pub processed_at: Option<OffsetDateTime>,
    /// In the order of the stages; a stage that has no job yet is not listed.
    pub stages: Vec<StageDetail>,
}

impl VideoDetail {
    /// The video whose objects this one shows: itself, or its original.
    #[must_use]
    pub fn shows(&self) -> VideoId {
        self.duplicate_of.unwrap_or(self.video)
    }
}

/// How far a stage of a video is.
#[derive(Debug, Clone)]
pub struct StageDetail {
    pub stage: Stage,
    pub state: JobState,
    /// How often it was started.
    pub attempt: i32,
    /// 0 to 1 of the running attempt.
    pub progress: Option<f32>,
    /// From when it could first have run to its last start, or to now.
    pub wait_ms: i64,
    /// Of the last attempt, so far.
    pub run_ms: Option<i64>,
    /// Cause and words of the last failure, also when another try follows.
    pub error: Option<(Option<String>, Option<String>)>,
    /// What the committed attempt found.
    pub result: Option<Value>,
}

#[derive(sqlx::FromRow)]
struct DetailRow {
    id: Uuid,
    state: String,
    processing_index: i16,
    title: Option<String>,
    stream_id: Option<String>,
    filename: Option<String>,
    size_bytes: Option<i64>,
    content_type: Option<String>,
    failure_cause: Option<String>,
    failure_detail: Option<String>,
    duplicate_of: Option<Uuid>,
    media: Option<Value>,
    playback: Option<Value>,
    playable: bool,
    upload_expires_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    uploaded_at: Option<OffsetDateTime>,
    playable_at: Option<OffsetDateTime>,
    processed_at: Option<OffsetDateTime>,
}

#[derive(sqlx::FromRow)]
struct StageRow {
    stage: String,
    state: String,
    attempt: i32,
    progress: Option<f32>,
    wait_ms: i64,
    run_ms: Option<i64>,
    failure_cause: Option<String>,
    last_error: Option<String>,
    result: Option<Value>,
}

impl Db {
    /// A video of this owner; `None` for one that is not there and for one of somebody else.
    pub async fn video_detail(
        &self,
        owner: OwnerId,
        video: VideoId,
    ) -> Result<Option<VideoDetail>, DbError> {
        let row: Option<DetailRow> = sqlx::query_as(
            "select v.id, v.state, v.processing_index, v.title, v.stream_id, v.filename,
                    v.size_bytes, v.content_type, v.failure_cause, v.failure_detail, v.duplicate_of,
                    coalesce(v.media, o.media) as media,
                    coalesce(v.playback, o.playback) as playback,
                    coalesce(v.playable_at, o.playable_at) is not null as playable,
                    v.upload_expires_at, v.created_at, v.uploaded_at, v.playable_at, v.processed_at
               from videos v
               left join videos o on o.id = v.duplicate_of and o.owner_id = v.owner_id
              where v.owner_id = $1 and v.id = $2",
        )
        .bind(owner.0)
        .bind(video.0)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let stages = self.video_stages(owner, video).await?;
        detail(row, stages).map(Some)
    }

    async fn video_stages(
        &self,
        owner: OwnerId,
        video: VideoId,
    ) -> Result<Vec<StageDetail>, DbError> {
        // The view pipeline_status computes its times the same way.
        let rows: Vec<StageRow> = sqlx::query_as(
            "select distinct on (stage) stage, state, attempt, progress,
                    (extract(epoch from coalesce(started_at, finished_at, now()) - created_at) * 1000)::bigint
                      as wait_ms,
                    (extract(epoch from case when started_at is not null and state <> 'pending'
                       then coalesce(finished_at, now()) - started_at end) * 1000)::bigint as run_ms,
                    failure_cause, last_error, result
               from jobs
              where owner_id = $1 and video_id = $2
              order by stage, pipeline desc",
        )
        .bind(owner.0)
        .bind(video.0)
        .fetch_all(self.pool())
        .await?;
        let mut stages = rows.into_iter().map(stage).collect::<Result<Vec<_>, _>>()?;
        stages.sort_by_key(|stage| stage.stage);
        Ok(stages)
    }
}

fn detail(row: DetailRow, stages: Vec<StageDetail>) -> Result<VideoDetail, DbError> {
    let state = row::video_state(&row.state)?;
    let failure = match (state, row.failure_cause) {
        (VideoState::Failed, None) => return Err(bad_row("videos", "failure_cause", "null")),
        (_, cause) => cause.map(|cause| (cause, row.failure_detail)),
    };
    Ok(VideoDetail {
        video: VideoId(row.id),
        state,
        processing_index: processing_index(row.processing_index)?,
        title: row.title,
        stream_id: row.stream_id,
        filename: row.filename,
        size_bytes: row::size(row.size_bytes)?,
        content_type: row.content_type,
        failure,
        duplicate_of: row.duplicate_of.map(VideoId),
        media: row.media,
        playback: row.playback,
        playable: row.playable,
        upload_expires_at: row.upload_expires_at,
        created_at: row.created_at,
        uploaded_at: row.uploaded_at,
        playable_at: row.playable_at,
        processed_at: row.processed_at,
        stages,
    })
}

fn stage(row: StageRow) -> Result<StageDetail, DbError> {
    let error = (row.failure_cause.is_some() || row.last_error.is_some())
        .then_some((row.failure_cause, row.last_error));
    Ok(StageDetail {
        stage: row::stage(&row.stage)?,
        state: job_state(&row.state)?,
        attempt: row.attempt,
        progress: row.progress,
        wait_ms: row.wait_ms.max(0),
        run_ms: row.run_ms.map(|run| run.max(0)),
        error,
        result: row.result,
    })
}
