//! Stage 4: what the video looks like, as a vector.
//!
//! Pictures are sampled in the media child and looked at as they come. The document at its fixed key has a vector for
//! the video and one for each four seconds; the worker commits the former, in bytes, for the search.

use bytes::Bytes;
use serde::Serialize;
use time::OffsetDateTime;

use super::look::{self, Look, Segment, Vector};
use super::source::SourceFile;
use super::transcript::{Seconds, attempt_of_json, hexadecimal};
use super::{Embedded, QuantisedVector, StageContext, StageError};
use crate::clock;
use crate::media::protocol::{Message, Request, Task};
use crate::storage::StorageKey;

/// What makes vectors of pictures. A model with weights joins as a variant; vectors of different engines, models or
/// lengths are never compared.
#[derive(Debug, Clone, Copy)]
enum Engine {
    /// The built-in descriptor: no weights, the same bytes everywhere.
    Look,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Engine::Look => "builtin",
        }
    }

    const fn model(self) -> &'static str {
        match self {
            Engine::Look => "look-1",
        }
    }

    /// Which pictures it wants to see.
    fn sampling(self) -> Task {
        match self {
            Engine::Look => Task::SampleFrames {
                per_second: look::PER_SECOND,
                width: look::SIZE.0,
                height: look::SIZE.1,
            },
        }
    }
}

/// `embeddings/{id}.json`. Times are seconds from the first presented moment. Readers ignore fields that they do not know.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    video_id: String,
    attempt: i32,
    engine: &'a str,
    model: &'a str,
    model_sha256: Option<&'a str>,
    dims: usize,
    metric: &'static str,
    normalised: bool,
    encoding: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    source: DocumentSource,
    video: Option<Vec<f64>>,
    segments: Vec<DocumentSegment>,
    /// Why there is no vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct DocumentSource {
    sha256: String,
    duration: Seconds,
}

#[derive(Serialize)]
struct DocumentSegment {
    start: Seconds,
    end: Seconds,
    frames: u32,
    vector: Vec<f64>,
}

pub(super) async fn run(context: &StageContext) -> Result<Embedded, StageError> {
    context.unless_stopped(embed(context, Engine::Look)).await
}

async fn embed(context: &StageContext, engine: Engine) -> Result<Embedded, StageError> {
    let source = context.tools.scratch.source(&context.tools.storage, &context.source).await?;
    let (segments, duration_ms) = look_at(context, &source, engine).await?;
    let vector = look::mean(&segments);
    let document = Document {
        schema: "clipstream.embeddings/1",
        video_id: context.lease.video.to_string(),
        attempt: context.lease.attempt,
        engine: engine.name(),
        model: engine.model(),
        model_sha256: None,
        dims: look::DIMS,
        metric: "cosine",
        normalised: true,
        encoding: "f32",
        created_at: clock::now(),
        source: DocumentSource {
            sha256: hexadecimal(&source.sha256().await?),
            duration: Seconds { ms: duration_ms },
        },
        video: vector.as_ref().map(decimals),
        segments: segments.iter().map(|segment| written(segment, duration_ms)).collect(),
        reason: vector.is_none().then_some("the video has no pictures"),
    };
    let body = Bytes::from(serde_json::to_vec(&document).map_err(|error| {
        StageError::internal(format!("the embeddings cannot be written as JSON: {error}"))
    })?);
    let key = StorageKey::Embeddings { video: context.lease.video };
    context.put_fixed(&key, body, attempt_of_json).await?;
    Ok(Embedded {
        engine: engine.name().to_owned(),
        model: engine.model().to_owned(),
        segments: u32::try_from(segments.len()).unwrap_or(u32::MAX),
        vector: vector.as_ref().map(quantised),
    })
}

/// The looks of all segments, and the duration in milliseconds.
async fn look_at(
    context: &StageContext,
    source: &SourceFile,
    engine: Engine,
) -> Result<(Vec<Segment>, u64), StageError> {
    let media = &context.tools.media;
    let request = Request { limits: media.limits().clone(), task: engine.sampling() };
    let mut child = media.start(request, source.reader(), context.deadline).await?;
    let (mut look, mut duration_ms) = (Look::default(), 0);
    while let Some((message, payload)) = child.next().await? {
        match message {
            Message::Frame { time_us, .. } => look
                .push(time_us, &payload)
                .map_err(|error| StageError::internal(error.to_string()))?,
            Message::Progress { done_ms, total_ms } => {
                context.progress(fraction(done_ms, total_ms));
            }
            Message::Done(facts) => duration_ms = facts.duration_ms,
            _ => {}
        }
    }
    Ok((look.finish(), duration_ms))
}

fn written(segment: &Segment, duration_ms: u64) -> DocumentSegment {
    let start_ms = u64::try_from(segment.start_us / 1000).unwrap_or(0);
    DocumentSegment {
        start: Seconds { ms: start_ms },
        end: Seconds { ms: (start_ms + look::SEGMENT_MS).min(duration_ms.max(start_ms + 1)) },
        frames: segment.frames,
        vector: decimals(&segment.vector),
    }
}

/// Six decimals: no more than the numbers are good for, and a third of the bytes.
fn decimals(vector: &Vector) -> Vec<f64> {
    // Adding zero turns -0.0 into 0.0.
    vector.iter().map(|&x| (f64::from(x) * 1e6).round() / 1e6 + 0.0).collect()
}

/// One byte a number, with the scale that gives length 1 again.
#[expect(clippy::cast_possible_truncation, reason = "rounded and within -127 to 127")]
#[expect(clippy::cast_precision_loss, reason = "a sum of 256 squares of bytes is exact in f32")]
fn quantised(vector: &Vector) -> QuantisedVector {
    let largest = vector.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    let components = vector.map(|x| (x / largest * 127.0).round() as i8).to_vec();
    let squares: i32 = components.iter().map(|&c| i32::from(c) * i32::from(c)).sum();
    QuantisedVector { scale: 1.0 / (squares as f32).sqrt(), components }
}

#[expect(clippy::cast_precision_loss, reason = "for a progress bar")]
fn fraction(done_ms: u64, total_ms: u64) -> f32 {
    done_ms as f32 / total_ms.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_direction_and_length() {
        let mut vector = [0.0; look::DIMS];
        vector.iter_mut().zip(1_u16..).for_each(|(x, i)| *x = f32::from(i % 17) - 8.0);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let vector = vector.map(|x| x / length);
        let QuantisedVector { scale, components } = quantised(&vector);
        let back: Vec<f32> = components.iter().map(|&c| f32::from(c) * scale).collect();
        let cosine: f32 = back.iter().zip(&vector).map(|(a, b)| a * b).sum();
        let squares: f32 = back.iter().map(|x| x * x).sum();
        assert!(cosine > 0.999 && (squares - 1.0).abs() < 1e-4, "{cosine} {squares}");
        assert_eq!(components.iter().map(|c| c.unsigned_abs()).max(), Some(127));
    }

    #[test]
    fn numbers_have_six_decimals_and_no_negative_zero() {
        let mut vector = [0.0; look::DIMS];
        (vector[0], vector[1], vector[2]) = (0.123_456_78, -1e-9, 1.0 / 3.0);
        let json = serde_json::to_string(&decimals(&vector)[..3]).expect("numbers");
        assert_eq!(json, "[0.123457,0.0,0.333333]");
    }
}
