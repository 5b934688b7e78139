//! The closed, ordered set of stages and how they follow each other.
//! Adding a stage makes every exhaustive `match` on it fail to compile until it is handled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One step of the pipeline. The number is the seed's `processing_index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    DuplicateDetection,
    Transcode,
    SpeechToText,
    Embeddings,
}

impl Stage {
    pub const ALL: [Stage; 4] =
        [Stage::DuplicateDetection, Stage::Transcode, Stage::SpeechToText, Stage::Embeddings];

    /// 1 to 4, as in `videos.processing_index`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Stage::DuplicateDetection => 1,
            Stage::Transcode => 2,
            Stage::SpeechToText => 3,
            Stage::Embeddings => 4,
        }
    }

    /// Its bit in `videos.finished_stages` and `videos.dead_stages`.
    #[must_use]
    pub const fn bit(self) -> i16 {
        1 << (self.number() - 1)
    }

    /// The name in SQL, Redis keys, JSON and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::DuplicateDetection => "duplicate_detection",
            Stage::Transcode => "transcode",
            Stage::SpeechToText => "speech_to_text",
            Stage::Embeddings => "embeddings",
        }
    }

    /// The stages whose jobs are made when this one is done.
    #[must_use]
    pub const fn next(self) -> &'static [Stage] {
        match self {
            Stage::DuplicateDetection => {
                &[Stage::Transcode, Stage::SpeechToText, Stage::Embeddings]
            }
            Stage::Transcode | Stage::SpeechToText | Stage::Embeddings => &[],
        }
    }

    /// Whether a dead job of this stage makes the video `failed`. The other stages leave it `ready`.
    #[must_use]
    pub const fn decides_failure(self) -> bool {
        match self {
            Stage::DuplicateDetection | Stage::Transcode => true,
            Stage::SpeechToText | Stage::Embeddings => false,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no stage.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a stage; the stages are duplicate_detection, transcode, speech_to_text, embeddings"
)]
pub struct UnknownStage(String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(word: &str) -> Result<Self, UnknownStage> {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.as_str() == word)
            .ok_or_else(|| UnknownStage(word.to_owned()))
    }
}
