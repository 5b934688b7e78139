//! How a video looks in JSON: the resource of `GET /v1/videos/{id}` and the entries of the listing.
//! Pure but for signing, which needs no network. A field that has no value yet is null, never left out.

use std::time::Duration;

use pipeline::db::videos::{StageDetail, VideoDetail, VideoSummary};
use pipeline::job::JobState;
use pipeline::stage::Stage;
use pipeline::storage::{Storage, StorageKey};
use pipeline::video::{VideoId, VideoState};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

/// How long the presigned URLs in an answer work.
const URL_LIFETIME: Duration = Duration::from_hours(1);

/// The whole state of a video.
#[derive(Serialize)]
pub(super) struct VideoView {
    video_id: VideoId,
    state: VideoState,
    /// Number of the lowest stage that is not finished, 0 when all are done.
    processing_index: u8,
    title: Option<String>,
    stream_id: Option<String>,
    filename: Option<String>,
    size: Option<u64>,
    content_type: Option<String>,
    duplicate_of: Option<VideoId>,
    failure: Option<FailureView>,
    stages: Vec<StageView>,
    media: Option<Value>,
    playback: Option<PlaybackView>,
    thumbnails: ThumbnailsView,
    transcript_url: Option<String>,
    subtitles_url: Option<String>,
    embeddings_url: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    upload_expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    uploaded_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    playable_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    processed_at: Option<OffsetDateTime>,
}

#[derive(Serialize)]
struct FailureView {
    cause: Option<String>,
    detail: Option<String>,
}

#[derive(Serialize)]
struct StageView {
    stage: Stage,
    state: JobState,
    attempt: i32,
    /// 0 to 1.
    progress: Option<f32>,
    wait_ms: i64,
    run_ms: Option<i64>,
    error: Option<FailureView>,
    result: Option<Value>,
}

#[derive(Serialize)]
struct PlaybackView {
    /// Anybody who has it may play it.
    hls_url: String,
    duration_ms: Option<Value>,
    /// Empty until the transcode is complete; the master playlist already names them.
    renditions: Value,
}

#[derive(Serialize)]
struct ThumbnailsView {
    poster: Option<String>,
    /// While the transcode runs.
    processing: Option<String>,
    /// The marker of a duplicate.
    duplicate: Option<String>,
}

/// The objects that an answer may link to, as keys. A duplicate shows those of its original, and its own marker.
pub(super) fn linked_keys(video: &VideoDetail) -> Vec<StorageKey> {
    let shown = video.shows();
    vec![
        StorageKey::Poster { video: shown },
        StorageKey::ProcessingPoster { video: shown },
        StorageKey::DuplicatePoster { video: video.video },
        StorageKey::Transcript { video: shown },
        StorageKey::Subtitles { video: shown },
        StorageKey::Embeddings { video: shown },
    ]
}

/// `announced`: which of [`linked_keys`] are in the table `objects`. A row comes before its object, so a stage that is
/// still to be done is asked too.
pub(super) fn video(detail: VideoDetail, announced: &[String], storage: &Storage) -> VideoView {
    let shown = detail.shows();
    // The stages of a duplicate's original are done: it was ready when it was named.
    let done = |stage| {
        detail.duplicate_of.is_some()
            || detail.stages.iter().any(|s| s.stage == stage && s.state == JobState::Done)
    };
    let there = |key: &StorageKey| announced.contains(&key.to_string());
    let public = |key: StorageKey, when: bool| {
        (when && there(&key)).then(|| storage.public_url(&key).to_string())
    };
    let private = |key: StorageKey, stage| {
        (done(stage) && there(&key))
            .then(|| storage.presign_get(&key.to_string(), URL_LIFETIME).to_string())
    };
    let processing = detail.state == VideoState::Processing;
    let thumbnails = ThumbnailsView {
        poster: public(StorageKey::Poster { video: shown }, true),
        processing: public(
            StorageKey::ProcessingPoster { video: shown },
            processing && !done(Stage::Transcode),
        ),
        duplicate: public(
            StorageKey::DuplicatePoster { video: detail.video },
            detail.state == VideoState::Duplicate,
        ),
    };
    let transcript_url = private(StorageKey::Transcript { video: shown }, Stage::SpeechToText);
    let subtitles_url = private(StorageKey::Subtitles { video: shown }, Stage::SpeechToText);
    let embeddings_url = private(StorageKey::Embeddings { video: shown }, Stage::Embeddings);
    VideoView {
        playback: playback(&detail, storage),
        video_id: detail.video,
        state: detail.state,
        processing_index: detail.processing_index,
        title: detail.title,
        stream_id: detail.stream_id,
        filename: detail.filename,
        size: detail.size_bytes,
        content_type: detail.content_type,
        duplicate_of: detail.duplicate_of,
        failure: detail.failure.map(|(cause, detail)| FailureView { cause: Some(cause), detail }),
        stages: detail.stages.into_iter().map(stage).collect(),
        media: detail.media,
        thumbnails,
        transcript_url,
        subtitles_url,
        embeddings_url,
        created_at: detail.created_at,
        upload_expires_at: detail.upload_expires_at,
        uploaded_at: detail.uploaded_at,
        playable_at: detail.playable_at,
        processed_at: detail.processed_at,
    }
}

/// What can be played now. A failed video has none, though segments of it may have been published.
fn playback(detail: &VideoDetail, storage: &Storage) -> Option<PlaybackView> {
    let playing = match detail.state {
        VideoState::Processing | VideoState::Ready | VideoState::Duplicate => detail.playable,
        VideoState::Uploading | VideoState::Failed | VideoState::Expired | VideoState::Deleting => {
            false
        }
    };
    let field = |name| detail.playback.as_ref().and_then(|playback| playback.get(name)).cloned();
    playing.then(|| PlaybackView {
        hls_url: storage
            .public_url(&StorageKey::MasterPlaylist { video: detail.shows() })
            .to_string(),
        duration_ms: field("duration_ms"),
        renditions: field("renditions").unwrap_or_else(|| Value::Array(Vec::new())),
    })
}

fn stage(stage: StageDetail) -> StageView {
    StageView {
        stage: stage.stage,
        state: stage.state,
        attempt: stage.attempt,
        progress: stage.progress,
        wait_ms: stage.wait_ms,
        run_ms: stage.run_ms,
        error: stage.error.map(|(cause, detail)| FailureView { cause, detail }),
        result: stage.result,
    }
}

/// A page of a listing. `next_cursor` is null on the last one.
#[derive(Serialize)]
pub(super) struct Page {
    items: Vec<SummaryView>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct SummaryView {
    video_id: VideoId,
    state: VideoState,
    processing_index: u8,
    title: Option<String>,
    stream_id: Option<String>,
    filename: Option<String>,
    size: Option<u64>,
    failure_cause: Option<String>,
    duplicate_of: Option<VideoId>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    uploaded_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    playable_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    processed_at: Option<OffsetDateTime>,
}

pub(super) fn page(videos: Vec<VideoSummary>, next_cursor: Option<String>) -> Page {
    let items = videos
        .into_iter()
        .map(|video| SummaryView {
            video_id: video.video,
            state: video.state,
            processing_index: video.processing_index,
            title: video.title,
            stream_id: video.stream_id,
            filename: video.filename,
            size: video.size_bytes,
            failure_cause: video.failure_cause,
            duplicate_of: video.duplicate_of,
            created_at: video.created_at,
            uploaded_at: video.uploaded_at,
            playable_at: video.playable_at,
            processed_at: video.processed_at,
        })
        .collect();
    Page { items, next_cursor }
}
