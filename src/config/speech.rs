//! Settings of speech-to-text: the engine, and the model that finds where speech is.

use std::path::PathBuf;

use clap::Args;
use pipeline::speech::{SpeechConfig, SpeechEngine};
use url::Url;

use super::{ConfigError, Secret, cache_dir};

const VAD_MODEL: &str = "silero_vad_v6.onnx";

#[derive(Args, Clone)]
#[command(next_help_heading = "Speech")]
pub struct SpeechSettings {
    /// stub finds where speech is and writes no text; http asks a server with the OpenAI transcription API
    #[arg(long, env = "SPEECH_ENGINE", default_value = "stub", value_name = "ENGINE")]
    speech_engine: Engine,
    /// Where that server is, e.g. `http://127.0.0.1:8080/v1`
    #[arg(long, env = "SPEECH_URL", value_name = "URL")]
    speech_url: Option<Url>,
    /// Its key, if it wants one
    #[arg(long, env = "SPEECH_API_KEY", hide_env_values = true, value_name = "KEY")]
    speech_api_key: Option<Secret>,
    /// The model to ask it for
    #[arg(long, env = "SPEECH_MODEL", default_value = "whisper-1", value_name = "NAME")]
    speech_model: String,
    /// The language that is spoken, e.g. en; the server finds out when this is not set
    #[arg(long, env = "SPEECH_LANGUAGE", value_name = "CODE")]
    speech_language: Option<String>,
    /// The Silero v6 model [default: the first `silero_vad_v6.onnx` in .clipstream/models, ~/.cache/clipstream/models,
    /// /usr/share/clipstream/models]
    #[arg(long, env = "CLIPSTREAM_VAD_MODEL", value_name = "FILE")]
    vad_model: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    Stub,
    Http,
}

impl SpeechSettings {
    pub fn speech(&self) -> Result<SpeechConfig, ConfigError> {
        let engine = match self.speech_engine {
            Engine::Stub => SpeechEngine::Stub,
            Engine::Http => SpeechEngine::Http {
                base_url: self.speech_url.clone().ok_or_else(|| {
                    ConfigError(
                        "SPEECH_ENGINE is http and SPEECH_URL is not set. \
                         Set it to the server, e.g. http://127.0.0.1:8080/v1"
                            .to_owned(),
                    )
                })?,
                api_key: self.speech_api_key.as_ref().map(|key| key.reveal().to_owned()),
                model: self.speech_model.clone(),
                language: self.speech_language.clone(),
            },
        };
        Ok(SpeechConfig {
            engine,
            vad_model: self.vad_model.clone().unwrap_or_else(find_vad_model),
        })
    }
}

/// The first that is there; else where it should be, so that the error of the stage names a place.
fn find_vad_model() -> PathBuf {
    let cache = cache_dir().map(|cache| cache.join("models"));
    let places = [
        Some(PathBuf::from(".clipstream/models")),
        cache,
        Some(PathBuf::from("/usr/share/clipstream/models")),
    ];
    let mut files = places.into_iter().flatten().map(|place| place.join(VAD_MODEL));
    files
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(".clipstream/models").join(VAD_MODEL))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        speech: SpeechSettings,
    }

    #[test]
    fn an_http_engine_needs_a_url() {
        let parse = |arguments: &[&str]| {
            Command::try_parse_from(["clipstream"].iter().chain(arguments))
                .unwrap_or_else(|error| panic!("{error}"))
                .speech
                .speech()
        };
        let error = parse(&["--speech-engine=http"]).expect_err("no URL").to_string();
        assert!(error.contains("SPEECH_URL"), "{error}");
        let speech = parse(&["--speech-engine=http", "--speech-url=http://127.0.0.1:1/v1"]);
        assert!(matches!(speech.expect("complete").engine, SpeechEngine::Http { .. }));
        assert!(matches!(parse(&[]).expect("the default").engine, SpeechEngine::Stub));
    }
}
