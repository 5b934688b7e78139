//! The door to speech: voice activity by Silero in `tract`, and transcription by an HTTP engine.
//! The crates `tract_onnx` and `reqwest` are seen nowhere else in the pipeline.
//!
//! Sound goes in as it is decoded ([`Speech::listen`]); intervals of speech come out ([`Heard`]); an engine that writes
//! text is then asked about the intervals only ([`Speech::transcribe`]). Where nobody speaks, nobody is asked.

mod answer;
mod http;
mod intervals;
mod language;
mod listening;
mod model;
mod parts;
mod sound;

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

pub use intervals::Interval;
pub use listening::{Heard, Listening};
pub use sound::BYTES_PER_MS as SOUND_BYTES_PER_MS;

use http::Transcriber;
use model::ModelFile;

/// What turns speech into text.
#[derive(Debug, Clone)]
pub struct SpeechConfig {
    pub engine: SpeechEngine,
    /// `silero_vad_v6.onnx`, checked against its SHA-256 when loaded.
    pub vad_model: PathBuf,
}

#[derive(Clone)]
pub enum SpeechEngine {
    /// Finds speech, writes no text.
    Stub,
    /// Any server with the transcription API of `OpenAI`.
    Http { base_url: Url, api_key: Option<String>, model: String, language: Option<String> },
}

impl std::fmt::Debug for SpeechEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpeechEngine::Stub => f.write_str("Stub"),
            SpeechEngine::Http { base_url, model, .. } => f
                .debug_struct("Http")
                .field("host", &base_url.host_str())
                .field("model", model)
                .finish_non_exhaustive(),
        }
    }
}

/// Why speech was not found or not written down.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// The voice detector's model is missing or wrong. An operator mends it, and the next try finds it.
    #[error("{0}")]
    Model(String),
    /// The engine says no, and will say no again: wrong key, wrong model, wrong address.
    #[error("the speech engine refuses: {0}")]
    Refused(String),
    /// The engine was asked several times and is away, busy or broken.
    #[error("the speech engine does not answer: {0}")]
    Unavailable(String),
    /// A success that holds no transcript: a proxy's page, a server of another kind.
    #[error("the speech engine's answer is no transcript: {0}")]
    Nonsense(String),
    #[error("the sound could not be kept on disk: {0}")]
    Scratch(#[from] std::io::Error),
    /// A defect of ours.
    #[error("{0}")]
    Internal(String),
}

/// What an engine wrote down. Times count from the first sample, as in [`Heard`].
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// ISO 639-1, as set or as the engine found out.
    pub language: Option<String>,
    /// In order of their start; text is never empty.
    pub segments: Vec<SpokenSegment>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpokenSegment {
    pub interval: Interval,
    pub text: String,
    /// 0 to 1, if the engine says how sure it is.
    pub confidence: Option<f64>,
}

/// The engine of this process. A missing model is an error of the stage, not of the start.
pub struct Speech {
    detector: Arc<ModelFile>,
    transcriber: Option<Transcriber>,
}

impl Speech {
    #[must_use]
    pub fn new(config: SpeechConfig) -> Self {
        let transcriber = match config.engine {
            SpeechEngine::Stub => None,
            SpeechEngine::Http { base_url, api_key, model, language } => {
                Some(Transcriber::new(&base_url, api_key, model, language))
            }
        };
        Self { detector: Arc::new(ModelFile::new(config.vad_model)), transcriber }
    }

    /// `stub` or `http`, as in transcripts.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        if self.transcriber.is_some() { "http" } else { "stub" }
    }

    /// The model that the engine is asked for.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.transcriber.as_ref().map(Transcriber::model)
    }

    /// The language that the operator set.
    #[must_use]
    pub fn language(&self) -> Option<&str> {
        self.transcriber.as_ref().and_then(Transcriber::language)
    }

    /// Whether there is an engine that writes text.
    #[must_use]
    pub fn writes_text(&self) -> bool {
        self.transcriber.is_some()
    }

    /// The voice detector, as transcripts name it: model and threshold.
    #[must_use]
    pub fn detector() -> (&'static str, f32) {
        ("silero-6", intervals::THRESHOLD)
    }

    /// Begins to listen to one sound. `scratch` is a path that nobody uses; if the sound must be kept it lies there,
    /// without a name, until [`Heard`] is dropped.
    pub async fn listen(&self, scratch: PathBuf) -> Result<Listening, SpeechError> {
        let keep = self.writes_text().then_some(scratch);
        Listening::start(Arc::clone(&self.detector), keep).await
    }

    /// Has the engine write down what was heard; `None` from an engine that writes no text. `progress` is told 0 to 1.
    pub async fn transcribe(
        &self,
        heard: &Heard,
        progress: impl Fn(f32) + Send,
    ) -> Result<Option<Spoken>, SpeechError> {
        let Some(transcriber) = &self.transcriber else { return Ok(None) };
        let Some(sound) = &heard.sound else {
            return Err(SpeechError::Internal("the sound was not kept".into()));
        };
        transcriber.transcribe(&heard.intervals, sound, progress).await.map(Some)
    }

    /// For `doctor`: whether the model is there and is the right one, and whether the engine answers.
    pub async fn check(&self) -> Result<String, String> {
        let listening = Listening::start(Arc::clone(&self.detector), None);
        let listening = listening.await.map_err(|error| error.to_string())?;
        drop(listening);
        let detector = format!("voice detector {}", self.detector.path().display());
        match &self.transcriber {
            None => {
                Ok(format!("{detector}; no engine is set, so transcripts have times and no text"))
            }
            Some(transcriber) => {
                let engine = transcriber.check().await.map_err(|error| error.to_string())?;
                Ok(format!("{detector}; {engine}"))
            }
        }
    }
}
