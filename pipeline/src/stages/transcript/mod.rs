//! The transcript of a video as an object: JSON, version 1, and `WebVTT`. Pure: what an engine said goes in, bytes come
//! out. Text is hostile until it is written here: a speaker can say anything, and an engine can write anything.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::speech::Interval;
use crate::steering::is_steering;
use crate::video::VideoId;

mod vtt;

/// Grows only with a change that old readers cannot ignore.
const SCHEMA: &str = "clipstream.transcript/1";

/// `transcripts/{id}.json`. Times are seconds from the first presented moment of the video. Readers ignore fields that
/// they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Transcript {
    pub(super) schema: String,
    pub(super) video_id: VideoId,
    /// Which attempt wrote this: a lower one never replaces it.
    pub(super) attempt: i32,
    /// `stub` or `http`.
    pub(super) engine: String,
    /// The model that the engine was asked for.
    pub(super) model: Option<String>,
    /// The language that it was told to expect.
    pub(super) language_hint: Option<String>,
    /// The language of the text: ISO 639-1, if known.
    pub(super) language: Option<String>,
    /// Seconds.
    pub(super) duration: Seconds,
    pub(super) status: Status,
    /// Seconds in which somebody speaks, by the voice detector.
    pub(super) speech_seconds: Seconds,
    /// All text, one segment a line.
    pub(super) text: String,
    /// In order of their start.
    pub(super) segments: Vec<Segment>,
    pub(super) vad: VoiceDetector,
    pub(super) source: TranscriptSource,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
}

/// How far speech-to-text came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// Text by an engine.
    Ok,
    /// There is sound, and nobody speaks.
    NoSpeech,
    /// There is no sound.
    NoAudio,
    /// Somebody speaks, and no engine is set that writes text.
    NoEngine,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NoSpeech => "no_speech",
            Status::NoAudio => "no_audio",
            Status::NoEngine => "no_engine",
        }
    }
}

/// One stretch of speech; `start` < `end`, within the duration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) id: usize,
    pub(super) start: Seconds,
    pub(super) end: Seconds,
    /// Empty when no engine writes text.
    pub(super) text: String,
    /// 0 to 1, if the engine says.
    pub(super) confidence: Option<f64>,
    /// Always null in this version: asking for the times of words costs latency.
    pub(super) words: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct VoiceDetector {
    pub(super) model: String,
    pub(super) threshold: f32,
}

/// Which bytes were listened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TranscriptSource {
    /// Hexadecimal.
    pub(super) sha256: String,
}

/// Milliseconds, written as seconds with up to three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Seconds {
    pub(super) ms: u64,
}

impl Seconds {
    /// For sums and logs.
    #[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
    pub(super) fn as_f64(self) -> f64 {
        self.ms as f64 / 1000.0
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duration = std::time::Duration::try_from_secs_f64(f64::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)?;
        let ms = (duration + std::time::Duration::from_micros(500)).as_millis();
        Ok(Self { ms: u64::try_from(ms).map_err(serde::de::Error::custom)? })
    }
}

/// What was said and when, before it is a transcript; times from the first sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) interval: Interval,
    pub(super) text: String,
    pub(super) confidence: Option<f64>,
}

/// Puts lines on the video's timeline: the sound begins at `offset_ms` and nothing lasts beyond `duration_ms`.
pub(super) fn segments(
    lines: impl IntoIterator<Item = Line>,
    offset_ms: i64,
    duration_ms: u64,
) -> Vec<Segment> {
    let place = |ms: u64| ms.saturating_add_signed(offset_ms).min(duration_ms);
    let mut segments: Vec<Segment> = Vec::new();
    for line in lines {
        let start = Seconds { ms: place(line.interval.start_ms) };
        let end = Seconds { ms: place(line.interval.end_ms) };
        if start < end {
            segments.push(Segment {
                id: segments.len(),
                start,
                end,
                text: one_line(&line.text),
                confidence: line.confidence.map(|c| (c * 1000.0).round() / 1000.0),
                words: (),
            });
        }
    }
    segments
}

/// Text without anything that could break a line, a log or a terminal: each run of blanks and such characters is one blank.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_whitespace() || is_steering(c);
    text.split(breaks).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Transcript {
    pub(super) fn schema() -> String {
        SCHEMA.to_owned()
    }

    /// All text, one segment a line.
    pub(super) fn text_of(segments: &[Segment]) -> String {
        let texts = segments.iter().map(|segment| segment.text.as_str());
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// A reader of `bytes` that this version could have written; `None` for anything else.
    pub(super) fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|transcript: &Self| transcript.schema == SCHEMA)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and a time in four digits of year")
    }

    /// `transcripts/{id}.vtt`: header only when there is no text.
    pub(super) fn to_vtt(&self) -> Vec<u8> {
        vtt::write(self.attempt, &self.segments).into_bytes()
    }
}

/// Which attempt wrote a `WebVTT` file of ours.
pub(super) fn attempt_of_vtt(bytes: &[u8]) -> Option<i32> {
    vtt::attempt(bytes)
}

/// Which attempt wrote a JSON document of ours, of any version.
pub(super) fn attempt_of_json(bytes: &[u8]) -> Option<i32> {
    #[derive(Deserialize)]
    struct Written {
        attempt: i32,
    }
    serde_json::from_slice(bytes).ok().map(|written: Written| written.attempt)
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;

    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all");
        digits
    })
}

#[cfg(test)]
mod tests;
