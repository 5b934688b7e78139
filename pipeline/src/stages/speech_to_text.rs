//! Stage 3: where speech is, and with an engine what was said.
//!
//! The sound is decoded once, in the media child, and never held in memory. The transcript is an object at a fixed key;
//! a copy for players lies under the attempt's own key and is named by the subtitles playlist.

use bytes::Bytes;

use super::source::SourceFile;
use super::transcript::{
    self, Line, Seconds, Status, Transcript, TranscriptSource, VoiceDetector, attempt_of_json,
    attempt_of_vtt, hexadecimal,
};
use super::{StageContext, StageError, Transcribed, fixed_key, publish};
use crate::clock;
use crate::media::protocol::{Message, Request, Task};
use crate::speech::{Heard, SOUND_BYTES_PER_MS, Speech, SpeechError};
use crate::storage::{Precondition, StorageError, StorageKey};
use crate::video::FailureCause;

/// Share of the progress that decoding and listening take when an engine writes text afterwards.
const LISTENING_SHARE: f32 = 0.3;

pub(super) async fn run(context: &StageContext) -> Result<Transcribed, StageError> {
    context.unless_stopped(transcribe(context)).await
}

async fn transcribe(context: &StageContext) -> Result<Transcribed, StageError> {
    let source = context.tools.scratch.source(&context.tools.storage, &context.source).await?;
    let transcript = if let Some(transcript) = paid_for(context, &source).await? {
        transcript
    } else {
        let listened = listen(context, &source).await?;
        write_down(context, &source, listened).await?
    };
    publish(context, &transcript).await?;
    Ok(Transcribed {
        status: transcript.status.as_str().to_owned(),
        engine: transcript.engine,
        language: transcript.language,
        segments: u32::try_from(transcript.segments.len()).unwrap_or(u32::MAX),
        speech_seconds: transcript.speech_seconds.as_f64(),
    })
}

/// The text of an earlier attempt that wrote its transcript and was lost before its commit. An engine may cost money:
/// the same bytes are not sent to the same engine twice.
async fn paid_for(
    context: &StageContext,
    source: &SourceFile,
) -> Result<Option<Transcript>, StageError> {
    let speech = &context.tools.speech;
    if !speech.writes_text() {
        return Ok(None);
    }
    let key = StorageKey::Transcript { video: context.lease.video };
    let bytes = match context.tools.storage.get(&key.to_string(), fixed_key::MAX_BYTES).await {
        Ok((bytes, _)) => bytes,
        Err(StorageError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(StageError::of_storage(error)),
    };
    if attempt_of_json(&bytes) > Some(context.lease.attempt) {
        return Err(StageError::LeaseLost);
    }
    let Some(found) = Transcript::from_json(&bytes) else { return Ok(None) };
    let same = {
        found.status == Status::Ok
            && found.engine == speech.engine()
            && found.model.as_deref() == speech.model()
            && found.language_hint.as_deref() == speech.language()
            // Last, for it reads all of the source.
            && found.source == sha256_of(source).await?
    };
    Ok(same.then_some(Transcript { attempt: context.lease.attempt, ..found }))
}

/// The sound of a video, heard.
struct Listened {
    /// `None` for a video without sound.
    heard: Option<Heard>,
    /// Where the sound begins on the video's timeline.
    offset_ms: i64,
    duration_ms: u64,
}

async fn listen(context: &StageContext, source: &SourceFile) -> Result<Listened, StageError> {
    let media = &context.tools.media;
    let request = Request { limits: media.limits().clone(), task: Task::ExtractAudio };
    // Without an engine it is listened to as it comes, and not kept.
    let _room = if context.tools.speech.writes_text() {
        let most = media.limits().max_duration_ms * SOUND_BYTES_PER_MS;
        Some(context.tools.scratch.promise_sound(most, source).await?)
    } else {
        None
    };
    // The name is gone as soon as the file is open.
    let sound = context.tools.scratch.file();
    let mut listening = context.tools.speech.listen(sound.path().to_owned()).await?;
    let mut child = media.start(request, source.reader(), context.deadline).await?;
    let (mut offset_us, mut duration_ms) = (None, 0);
    while let Some((message, payload)) = child.next().await? {
        match message {
            Message::Pcm { start_us } => {
                offset_us.get_or_insert(start_us);
                listening.push(payload).await?;
            }
            Message::Progress { done_ms, total_ms } => {
                let share = if context.tools.speech.writes_text() { LISTENING_SHARE } else { 1.0 };
                context.progress(share * fraction(done_ms, total_ms));
            }
            Message::Done(facts) => duration_ms = facts.duration_ms,
            _ => {}
        }
    }
    let heard = listening.finish().await?;
    Ok(Listened {
        heard: offset_us.is_some().then_some(heard),
        offset_ms: offset_us.unwrap_or(0) / 1000,
        duration_ms,
    })
}

/// Asks the engine, if somebody speaks and if there is one, and makes the transcript.
async fn write_down(
    context: &StageContext,
    source: &SourceFile,
    listened: Listened,
) -> Result<Transcript, StageError> {
    let speech = &context.tools.speech;
    let mut language = None;
    let (status, lines, speech_ms) = match &listened.heard {
        None => (Status::NoAudio, Vec::new(), 0),
        Some(heard) if heard.intervals.is_empty() => (Status::NoSpeech, Vec::new(), 0),
        Some(heard) => {
            let progress =
                |done| context.progress(LISTENING_SHARE + (1.0 - LISTENING_SHARE) * done);
            let (status, lines) = match speech.transcribe(heard, progress).await? {
                None => (Status::NoEngine, silent_lines(heard)),
                Some(spoken) => {
                    language = spoken.language;
                    let lines = spoken.segments.into_iter().map(|segment| Line {
                        interval: segment.interval,
                        text: segment.text,
                        confidence: segment.confidence,
                    });
                    (Status::Ok, lines.collect())
                }
            };
            (status, lines, heard.speech_ms())
        }
    };
    let segments = transcript::segments(lines, listened.offset_ms, listened.duration_ms);
    let (model, threshold) = Speech::detector();
    Ok(Transcript {
        schema: Transcript::schema(),
        video_id: context.lease.video,
        attempt: context.lease.attempt,
        engine: speech.engine().to_owned(),
        model: speech.model().map(str::to_owned),
        language_hint: speech.language().map(str::to_owned),
        language,
        duration: Seconds { ms: listened.duration_ms },
        status,
        speech_seconds: Seconds { ms: speech_ms },
        text: Transcript::text_of(&segments),
        segments,
        vad: VoiceDetector { model: model.to_owned(), threshold },
        source: sha256_of(source).await?,
        created_at: clock::now(),
    })
}

/// Times without text, honestly.
fn silent_lines(heard: &Heard) -> Vec<Line> {
    let line = |interval: &_| Line { interval: *interval, text: String::new(), confidence: None };
    heard.intervals.iter().map(line).collect()
}

/// The JSON first: from it the next attempt repairs all the rest, should this one end in between.
async fn publish(context: &StageContext, transcript: &Transcript) -> Result<(), StageError> {
    let video = context.lease.video;
    let json = Bytes::from(transcript.to_json());
    context.put_fixed(&StorageKey::Transcript { video }, json, attempt_of_json).await?;
    let vtt = Bytes::from(transcript.to_vtt());
    context.put_fixed(&StorageKey::Subtitles { video }, vtt.clone(), attempt_of_vtt).await?;
    if transcript.has_text() {
        let key = StorageKey::SubtitleSegment { video, attempt: context.lease.attempt };
        context.put(&key, vtt, &Precondition::None).await?;
        publish::add_subtitles(context, transcript.language.as_deref()).await?;
    }
    Ok(())
}

async fn sha256_of(source: &SourceFile) -> Result<TranscriptSource, StageError> {
    Ok(TranscriptSource { sha256: hexadecimal(&source.sha256().await?) })
}

#[expect(clippy::cast_precision_loss, reason = "for a progress bar")]
fn fraction(done_ms: u64, total_ms: u64) -> f32 {
    done_ms as f32 / total_ms.max(1) as f32
}

impl From<SpeechError> for StageError {
    fn from(error: SpeechError) -> Self {
        let cause = FailureCause::SpeechEngine;
        match error {
            SpeechError::Refused(_) => Self::Fail { cause, detail: error.to_string() },
            // Counted, and so it ends: an engine that stays away must not keep the video from being ready.
            SpeechError::Model(_) | SpeechError::Unavailable(_) | SpeechError::Nonsense(_) => {
                Self::Retry { cause, detail: error.to_string() }
            }
            SpeechError::Scratch(_) => Self::Outage(error.to_string()),
            SpeechError::Internal(detail) => Self::internal(detail),
        }
    }
}
