//! A video: its identity, its states, and the closed list of reasons for which it can fail.
//! Pure: the rows live in `db`, the bytes in `storage`.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh, time-ordered id.
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}
pub(crate) use id;

id!(
    /// Names one uploaded object version and everything made from it.
    VideoId
);
id!(
    /// The principal behind an API key.
    OwnerId
);

impl OwnerId {
    /// The owner of objects that nobody announced. Its row is made by the first migration.
    pub const DEFAULT: OwnerId =
        OwnerId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
}

/// Where a video is on its path. *Playable* is no state but the time `playable_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoState {
    /// Announced; the object has not been seen yet.
    Uploading,
    /// Its stages run, or wait to.
    Processing,
    /// Playable and complete; a dead speech-to-text or embeddings stage is shown beside it.
    Ready,
    /// Same bytes as a ready video of the same owner, whose renditions it plays.
    Duplicate,
    /// Ended with a [`FailureCause`].
    Failed,
    /// The presigned URL was never used.
    Expired,
    /// A delete runs.
    Deleting,
}

impl VideoState {
    pub const ALL: [VideoState; 7] = [
        VideoState::Uploading,
        VideoState::Processing,
        VideoState::Ready,
        VideoState::Duplicate,
        VideoState::Failed,
        VideoState::Expired,
        VideoState::Deleting,
    ];

    /// The name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            VideoState::Uploading => "uploading",
            VideoState::Processing => "processing",
            VideoState::Ready => "ready",
            VideoState::Duplicate => "duplicate",
            VideoState::Failed => "failed",
            VideoState::Expired => "expired",
            VideoState::Deleting => "deleting",
        }
    }
}

impl fmt::Display for VideoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a video or a job ended badly: a small closed vocabulary that a person can act on, stored beside the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The object is gone or was overwritten before it could be read.
    SourceMissing,
    /// The object can be listed and not read.
    SourceUnreadable,
    /// Zero bytes.
    EmptyFile,
    /// Not a container or codec that we accept: text, playlist, image, random bytes.
    UnsupportedFormat,
    /// A known container that cannot be decoded.
    Corrupt,
    /// Decoded seconds fall short of the declared ones.
    Truncated,
    /// Neither a picture nor sound inside.
    NoMedia,
    /// Longer, larger or more than the limits allow; the detail names the number.
    LimitExceeded,
    /// The media child died by its own doing.
    MediaCrashed,
    /// The attempt ran past its deadline.
    DeadlineExceeded,
    /// The speech engine refused, answered nonsense, or is not set up.
    SpeechEngine,
    /// What was written to storage does not verify.
    OutputInvalid,
    /// A dependency kept failing in ways that were not outages.
    Dependency,
    /// Workers, or their media children, were killed on it again and again.
    WorkerLost,
    /// The scratch disk of the workers could never hold the source, with nothing else on it.
    ScratchTooSmall,
    /// An operator cancelled a stage without which there is no result.
    Cancelled,
    /// A defect of ours; the detail and the log say more.
    Internal,
}

impl FailureCause {
    pub const ALL: [FailureCause; 17] = [
        FailureCause::SourceMissing,
        FailureCause::SourceUnreadable,
        FailureCause::EmptyFile,
        FailureCause::UnsupportedFormat,
        FailureCause::Corrupt,
        FailureCause::Truncated,
        FailureCause::NoMedia,
        FailureCause::LimitExceeded,
        FailureCause::MediaCrashed,
        FailureCause::DeadlineExceeded,
        FailureCause::SpeechEngine,
        FailureCause::OutputInvalid,
        FailureCause::Dependency,
        FailureCause::WorkerLost,
        FailureCause::ScratchTooSmall,
        FailureCause::Cancelled,
        FailureCause::Internal,
    ];

    /// The name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureCause::SourceMissing => "source_missing",
            FailureCause::SourceUnreadable => "source_unreadable",
            FailureCause::EmptyFile => "empty_file",
            FailureCause::UnsupportedFormat => "unsupported_format",
            FailureCause::Corrupt => "corrupt",
            FailureCause::Truncated => "truncated",
            FailureCause::NoMedia => "no_media",
            FailureCause::LimitExceeded => "limit_exceeded",
            FailureCause::MediaCrashed => "media_crashed",
            FailureCause::DeadlineExceeded => "deadline_exceeded",
            FailureCause::SpeechEngine => "speech_engine",
            FailureCause::OutputInvalid => "output_invalid",
            FailureCause::Dependency => "dependency",
            FailureCause::WorkerLost => "worker_lost",
            FailureCause::ScratchTooSmall => "scratch_too_small",
            FailureCause::Cancelled => "cancelled",
            FailureCause::Internal => "internal",
        }
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a source holds, as the media child measured it. Stored in `videos.media` and shown by the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaFacts {
    /// Container, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// Presented duration of what was decoded.
    pub duration_ms: u64,
    pub video: Option<VideoFacts>,
    pub audio: Option<AudioFacts>,
}

/// The picture stream that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoFacts {
    pub codec: String,
    /// As presented: after rotation and sample aspect ratio.
    pub width: u32,
    pub height: u32,
    /// Average frames per second.
    pub frame_rate: f64,
    /// Clockwise turn that the container asks for: 0, 90, 180 or 270.
    pub rotation: u16,
    pub pixel_format: String,
}

/// The sound stream that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioFacts {
    pub codec: String,
    pub sample_rate: u32,
    pub channels: u16,
}

/// The source as its row says, at the time of the claim.
#[derive(Debug, Clone)]
pub struct Source {
    pub video: VideoId,
    pub key: String,
    pub etag: Option<String>,
    pub version_id: Option<String>,
    pub size_bytes: Option<u64>,
    pub sha256: Option<[u8; 32]>,
}

/// Who already has this size, among the originals of an owner.
#[derive(Debug, Clone)]
pub enum SizeClaim {
    /// The first of its owner with this size: an original, nothing need be read.
    First,
    /// These originals have the same size; compare.
    Taken(Vec<Candidate>),
}

/// An original of the same size.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub video: VideoId,
    pub key: String,
    pub etag: Option<String>,
    pub sha256: Option<[u8; 32]>,
}

/// Who already has these bytes, among the originals of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesClaim {
    Original,
    HeldBy { original: VideoId, state: VideoState },
}
