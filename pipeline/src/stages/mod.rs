//! The four stages, one file each, and what they share: what the worker hands them, what they report, how they end.
//!
//! A stage reads and writes storage, media and speech. It never touches the database or the queue: the worker hands it
//! what it needs to know and commits, fenced by the attempt, what it reports. Dropping a stage at any `.await` is safe:
//! objects under its attempt's keys stay unreferenced, and the next attempt writes its own.

mod context;
pub mod duplicate_detection;
pub mod embeddings;
mod faults;
mod fixed_key;
mod hls;
mod ladder;
mod look;
mod posters;
pub mod publish;
pub mod scratch;
pub mod source;
pub mod speech_to_text;
pub mod transcode;
mod transcript;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::job::Lease;
use crate::media::Media;
use crate::speech::Speech;
use crate::stage::Stage;
use crate::storage::{Storage, StorageKey};
use crate::video::{BytesClaim, FailureCause, MediaFacts, SizeClaim, Source, VideoId};

pub use scratch::Scratch;

/// What every stage can use. Cheap to clone.
#[derive(Clone)]
pub struct Tools {
    pub storage: Storage,
    pub media: Media,
    pub speech: Arc<Speech>,
    pub scratch: Scratch,
}

/// One attempt, from the inside.
pub struct StageContext {
    pub lease: Lease,
    pub source: Source,
    pub tools: Tools,
    /// How long the whole attempt may take.
    pub deadline: Duration,
    /// Fires when the lease is lost or the process must stop now.
    pub cancelled: CancellationToken,
    pub reports: mpsc::Sender<Report>,
}

/// What a stage tells the worker while it runs. With a reply: the stage goes on only after the commit.
#[derive(Debug)]
pub enum Report {
    /// 0 to 1; throttled by the worker.
    Progress(f32),
    /// Objects about to be PUT, with their sizes. They must be in the table before they are in the bucket.
    Writing(Vec<(StorageKey, u64)>, oneshot::Sender<Result<(), StageError>>),
    /// The first segments are up and the master names them: `playable_at`.
    Playable(oneshot::Sender<Result<(), StageError>>),
    /// HEAD believed: the size is right. Who else has it?
    ClaimSize { size_bytes: u64, reply: oneshot::Sender<Result<SizeClaim, StageError>> },
    /// Hashes read; is somebody else the original of these bytes?
    ClaimBytes {
        sha256: [u8; 32],
        candidates: Vec<(VideoId, [u8; 32])>,
        reply: oneshot::Sender<Result<BytesClaim, StageError>>,
    },
}

/// How a stage ended well.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Not a duplicate (any more): go on with the other stages.
    Original {
        sha256: Option<[u8; 32]>,
    },
    /// Same bytes as this ready video.
    Duplicate {
        of: VideoId,
        sha256: [u8; 32],
    },
    /// Same bytes as this video, which has not ended: look again when it has.
    WaitFor {
        original: VideoId,
        sha256: [u8; 32],
    },
    Transcoded(Transcoded),
    Transcribed(Transcribed),
    Embedded(Embedded),
}

/// The published renditions. Stored in `videos.playback`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Playback {
    pub attempt: i32,
    pub duration_ms: u64,
    pub renditions: Vec<RenditionSummary>,
}

/// One rung, or the sound.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RenditionSummary {
    /// 480p, 720p, 1080p or audio.
    pub name: String,
    pub codecs: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub frame_rate: Option<f64>,
    pub segments: u32,
    pub size_bytes: u64,
    pub peak_bits_per_second: u64,
    pub average_bits_per_second: u64,
}

#[derive(Debug, Clone)]
pub struct Transcoded {
    pub sha256: [u8; 32],
    pub facts: MediaFacts,
    pub playback: Playback,
}

/// Stored in `jobs.result`; the transcript itself is an object.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Transcribed {
    /// `ok`, `no_speech`, `no_audio` or `no_engine`.
    pub status: String,
    pub engine: String,
    pub language: Option<String>,
    pub segments: u32,
    pub speech_seconds: f64,
}

/// The vector goes to Postgres, the document is an object.
#[derive(Debug, Clone)]
pub struct Embedded {
    pub engine: String,
    pub model: String,
    pub segments: u32,
    /// `None` for a video without pictures.
    pub vector: Option<QuantisedVector>,
}

/// Component = byte x scale; length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedVector {
    pub scale: f32,
    pub components: Vec<i8>,
}

/// How a stage ended badly. Whether to try again is decided where the error happens.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// No other try can help: the job is dead.
    #[error("{cause}: {detail}")]
    Fail { cause: FailureCause, detail: String },
    /// Another try may help; counted in `failures`.
    #[error("{cause}: {detail}")]
    Retry { cause: FailureCause, detail: String },
    /// The media child died; counted in `crashes`.
    #[error("media crashed: {0}")]
    Crashed(String),
    /// Somebody killed the media child, and it was not us: counted in `lost_workers`, as if the worker had gone with it.
    #[error("{0}")]
    Killed(String),
    /// A dependency is away; nothing is counted.
    #[error("{0}")]
    Outage(String),
    /// Scratch has no room for it now; nothing is counted. `ours_first`: there will be when what runs in this process has
    /// ended, and nothing else is begun before.
    #[error("{detail}")]
    NoRoom { detail: String, ours_first: bool },
    /// The row names another attempt: stop, nothing will be accepted.
    #[error("the lease is lost")]
    LeaseLost,
    /// The process stops; the job goes back uncounted.
    #[error("stopped by shutdown")]
    Stopped,
}

/// Runs one attempt.
pub async fn run(stage: Stage, context: &StageContext) -> Result<Outcome, StageError> {
    match stage {
        Stage::DuplicateDetection => duplicate_detection::run(context).await,
        Stage::Transcode => transcode::run(context).await.map(Outcome::Transcoded),
        Stage::SpeechToText => speech_to_text::run(context).await.map(Outcome::Transcribed),
        Stage::Embeddings => embeddings::run(context).await.map(Outcome::Embedded),
    }
}
