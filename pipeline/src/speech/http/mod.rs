//! The transcription API of `OpenAI`, as many servers speak it. Sound is sent as WAV, which all of them read.
//!
//! Owns the order of questions and what is asked again; [`server`] is one exchange. It never sends a URL.

mod server;

use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::answer::{self, Answer};
use super::intervals::Interval;
use super::parts::Cut;
use super::sound::Sound;
use super::{SpeechError, Spoken, language};

use server::{Failure, Question, Server};

/// Least time for an answer; a long part gets twice its length. Some servers load their model first.
const LEAST_TIMEOUT: Duration = Duration::from_mins(1);
/// Times that one part is sent.
const TRIES: u32 = 4;
/// Wait before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// An engine that asks for a longer wait gets it from the job's own back-off, which holds no worker.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The times of what is said.
const TIMED: &str = "verbose_json";
/// From engines that do not tell them: the text alone.
const UNTIMED: &str = "json";

pub(super) struct Transcriber {
    server: Server,
    model: String,
    language: Option<String>,
    first_wait: Duration,
}

impl Transcriber {
    /// For a server at `base`, with or without `/v1` at its end.
    pub(super) fn new(
        base: &Url,
        api_key: Option<String>,
        model: String,
        language: Option<String>,
    ) -> Self {
        Self { server: Server::new(base, api_key), model, language, first_wait: FIRST_WAIT }
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    /// Writes down what is said in `speech`, part by part: an engine may serve one request at a time.
    pub(super) async fn transcribe(
        &self,
        speech: &[Interval],
        sound: &Sound,
        progress: impl Fn(f32) + Send,
    ) -> Result<Spoken, SpeechError> {
        let mut spoken = Spoken { language: self.language.clone(), segments: Vec::new() };
        let mut times_are_told = true;
        let end_ms = speech.last().map_or(1, |interval| interval.end_ms);
        for part in Cut::LONG.parts(speech) {
            if times_are_told {
                times_are_told = self.add_timed(&mut spoken, part, speech, sound).await?;
            }
            if !times_are_told {
                self.add_untimed(&mut spoken, part, speech, sound).await?;
            }
            progress(fraction(part.end_ms, end_ms));
        }
        Ok(spoken)
    }

    /// `false` when this engine does not tell times; nothing is added then.
    async fn add_timed(
        &self,
        spoken: &mut Spoken,
        part: Interval,
        speech: &[Interval],
        sound: &Sound,
    ) -> Result<bool, SpeechError> {
        let wav = sound.wav(part).await?;
        match self.ask_patiently(&wav, part, TIMED).await {
            // Newer models of OpenAI and older vLLM refuse `verbose_json`. If something else is wrong, `json` is
            // refused as well, and then that is what is told.
            Err(Failure::Unacceptable(_)) => Ok(false),
            Err(other) => Err(other.into()),
            Ok(answer) if answer.has_times(part) => {
                spoken.note_language(&answer);
                answer::append(&mut spoken.segments, answer.timed(part, speech));
                Ok(true)
            }
            Ok(_) => Ok(false),
        }
    }

    /// Breath by breath, so that the text is known to within one.
    async fn add_untimed(
        &self,
        spoken: &mut Spoken,
        part: Interval,
        speech: &[Interval],
        sound: &Sound,
    ) -> Result<(), SpeechError> {
        let within = |s: &&Interval| part.start_ms <= s.start_ms && s.end_ms <= part.end_ms;
        let within: Vec<Interval> = speech.iter().filter(within).copied().collect();
        for breath in Cut::SHORT.parts(&within) {
            let wav = sound.wav(breath).await?;
            let answer = self.ask_patiently(&wav, breath, UNTIMED).await?;
            spoken.note_language(&answer);
            answer::append(&mut spoken.segments, answer.untimed(breath).into_iter().collect());
        }
        Ok(())
    }

    async fn ask_patiently(
        &self,
        wav: &Bytes,
        part: Interval,
        format: &'static str,
    ) -> Result<Answer, Failure> {
        let question = Question {
            wav,
            model: &self.model,
            language: self.language.as_deref(),
            format,
            timeout: LEAST_TIMEOUT.max(2 * Duration::from_millis(part.duration_ms())),
        };
        let mut wait = self.first_wait;
        let mut tries = 1;
        loop {
            let (detail, after) = match self.server.ask(&question).await {
                Err(Failure::Passing { detail, after }) => (detail, after),
                ended => return ended,
            };
            let pause = after.unwrap_or(wait);
            if tries == TRIES || pause > LONGEST_WAIT {
                return Err(Failure::Final(SpeechError::Unavailable(detail)));
            }
            tracing::warn!(
                detail,
                wait_ms = pause.as_millis(),
                "speech engine will be asked again"
            );
            tokio::time::sleep(pause).await;
            tries += 1;
            wait *= 2;
        }
    }

    /// Whether the engine answers.
    pub(super) async fn check(&self) -> Result<String, SpeechError> {
        self.server.check().await?;
        let host = self.server.host();
        Ok(format!("speech engine at {host} answers; it will be asked for model {}", self.model))
    }
}

impl Spoken {
    fn note_language(&mut self, answer: &Answer) {
        if self.language.is_none() {
            self.language = answer.language.as_deref().and_then(language::code);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a progress bar")]
fn fraction(done_ms: u64, all_ms: u64) -> f32 {
    done_ms as f32 / all_ms as f32
}

#[cfg(test)]
mod tests;
