//! Videos as their owners see them: announced, listed, looked at. Every statement here names the owner.
//! Nothing here moves a video along its path; that is intake's and the jobs' business.

mod detail;

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Db, DbError, row};
use crate::job::JobState;
use crate::video::{OwnerId, VideoId, VideoState};

pub use detail::{StageDetail, VideoDetail};

/// A video that its owner is about to upload.
#[derive(Debug, Clone)]
pub struct NewUpload {
    pub video: VideoId,
    pub owner: OwnerId,
    pub bucket: String,
    /// Where the object will be.
    pub key: String,
    pub filename: String,
    pub title: Option<String>,
    pub stream_id: Option<String>,
    pub content_type: String,
    pub size_bytes: u64,
    /// When the presigned URL ends.
    pub expires_at: OffsetDateTime,
}

/// A video in a listing.
#[derive(Debug, Clone)]
pub struct VideoSummary {
    pub video: VideoId,
    pub state: VideoState,
    pub processing_index: u8,
    pub title: Option<String>,
    pub stream_id: Option<String>,
    pub filename: Option<String>,
    pub size_bytes: Option<u64>,
    pub failure_cause: Option<String>,
    pub duplicate_of: Option<VideoId>,
    pub created_at: OffsetDateTime,
    pub uploaded_at: Option<OffsetDateTime>,
    pub playable_at: Option<OffsetDateTime>,
    pub processed_at: Option<OffsetDateTime>,
}

/// What people call a video.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VideoName {
    pub title: Option<String>,
    pub filename: Option<String>,
}

#[derive(sqlx::FromRow)]
struct SummaryRow {
    id: Uuid,
    state: String,
    processing_index: i16,
    title: Option<String>,
    stream_id: Option<String>,
    filename: Option<String>,
    size_bytes: Option<i64>,
    failure_cause: Option<String>,
    duplicate_of: Option<Uuid>,
    created_at: OffsetDateTime,
    uploaded_at: Option<OffsetDateTime>,
    playable_at: Option<OffsetDateTime>,
    processed_at: Option<OffsetDateTime>,
}

impl Db {
    /// Writes the row of an announced upload. A crash after it leaves a row that expires unused.
    pub async fn create_upload(&self, upload: &NewUpload) -> Result<(), DbError> {
        sqlx::query(
            "insert into videos (id, owner_id, bucket, object_key, filename, title, stream_id,
                                 content_type, size_bytes, announced_by, state, upload_expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'api', 'uploading', $10)",
        )
        .bind(upload.video.0)
        .bind(upload.owner.0)
        .bind(&upload.bucket)
        .bind(&upload.key)
        .bind(&upload.filename)
        .bind(&upload.title)
        .bind(&upload.stream_id)
        .bind(&upload.content_type)
        .bind(row::to_bigint(upload.size_bytes)?)
        .bind(upload.expires_at)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// An owner's videos, newest first, after `before` when given: at most `limit`, of one state or of all.
    pub async fn list_videos(
        &self,
        owner: OwnerId,
        state: Option<VideoState>,
        before: Option<VideoId>,
        limit: u32,
    ) -> Result<Vec<VideoSummary>, DbError> {
        // Ids are UUIDs of version 7: their order is the order of creation, and the index has it.
        let rows: Vec<SummaryRow> = sqlx::query_as(
            "select id, state, processing_index, title, stream_id, filename, size_bytes,
                    failure_cause, duplicate_of, created_at, uploaded_at, playable_at, processed_at
               from videos
              where owner_id = $1 and ($2::text is null or state = $2)
                and ($3::uuid is null or id < $3)
              order by id desc
              limit $4",
        )
        .bind(owner.0)
        .bind(state.map(VideoState::as_str))
        .bind(before.map(|video| video.0))
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(summary).collect()
    }

    /// What an owner calls these videos; ids of others are left out.
    pub async fn video_names(
        &self,
        owner: OwnerId,
        videos: &[VideoId],
    ) -> Result<HashMap<VideoId, VideoName>, DbError> {
        let ids: Vec<Uuid> = videos.iter().map(|video| video.0).collect();
        let rows: Vec<(Uuid, Option<String>, Option<String>)> = sqlx::query_as(
            "select id, title, filename from videos where owner_id = $1 and id = any($2)",
        )
        .bind(owner.0)
        .bind(ids)
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, title, filename)| (VideoId(id), VideoName { title, filename }))
            .collect())
    }

    /// Which of these keys were announced as objects of the owner's videos.
    pub async fn announced_objects(
        &self,
        owner: OwnerId,
        keys: &[String],
    ) -> Result<Vec<String>, DbError> {
        Ok(sqlx::query_scalar(
            "select o.key from objects o join videos v on v.id = o.video_id
              where o.key = any($2) and v.owner_id = $1",
        )
        .bind(owner.0)
        .bind(keys)
        .fetch_all(self.pool())
        .await?)
    }
}

fn summary(row: SummaryRow) -> Result<VideoSummary, DbError> {
    Ok(VideoSummary {
        video: VideoId(row.id),
        state: row::video_state(&row.state)?,
        processing_index: processing_index(row.processing_index)?,
        title: row.title,
        stream_id: row.stream_id,
        filename: row.filename,
        size_bytes: row::size(row.size_bytes)?,
        failure_cause: row.failure_cause,
        duplicate_of: row.duplicate_of.map(VideoId),
        created_at: row.created_at,
        uploaded_at: row.uploaded_at,
        playable_at: row.playable_at,
        processed_at: row.processed_at,
    })
}

fn bad_row(table: &'static str, column: &str, value: impl std::fmt::Display) -> DbError {
    DbError::BadRow { table, detail: format!("{column} is {value}") }
}

pub(in crate::db) fn job_state(text: &str) -> Result<JobState, DbError> {
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| bad_row("jobs", "state", text))
}

fn processing_index(value: i16) -> Result<u8, DbError> {
    u8::try_from(value).map_err(|_| bad_row("videos", "processing_index", value))
}
