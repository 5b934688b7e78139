//! How the engine's work ends badly: a refusal that a person understands, a broken pipe, or a defect of ours.

use std::fmt::Display;
use std::io;

use ffmpeg_next as ffmpeg;

use crate::video::FailureCause;

#[derive(Debug, thiserror::Error)]
pub(in crate::media) enum EngineError {
    /// The file's doing. The cause and the detail are stored and shown.
    #[error("{detail}")]
    Refused { cause: FailureCause, detail: String },
    /// The parent is gone: there is nobody to tell.
    #[error("the parent does not listen any more: {0}")]
    Pipe(#[source] io::Error),
    /// Another thread of this child ended first, and has the reason.
    #[error("another part of the work ended first")]
    Stopped,
    /// A defect of ours, or a machine without memory.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    pub(super) fn refused(cause: FailureCause, detail: impl Into<String>) -> Self {
        Self::Refused { cause, detail: detail.into() }
    }

    pub(super) fn limit(detail: impl Into<String>) -> Self {
        Self::refused(FailureCause::LimitExceeded, detail)
    }

    pub(super) fn corrupt(detail: impl Into<String>) -> Self {
        Self::refused(FailureCause::Corrupt, detail)
    }

    pub(in crate::media) fn internal(doing: &str, error: impl Display) -> Self {
        Self::Internal(format!("could not {doing}: {error}"))
    }

    pub(in crate::media) fn panicked(text: impl Display) -> Self {
        Self::Internal(format!("the media child panicked: {text}"))
    }
}

/// Says what was being done when libav refused.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, ffmpeg::Error> {
    fn doing(self, what: &str) -> Result<T, EngineError> {
        self.map_err(|error| EngineError::internal(what, error))
    }
}

/// The two answers of libav that are no errors: "not now" and "no more".
pub(super) fn not_now(error: ffmpeg::Error) -> bool {
    error == ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN } || error == ffmpeg::Error::Eof
}
