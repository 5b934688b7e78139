//! Stage 2: one decode, an HLS ladder, published as it grows, verified before it counts.
//! Every byte of the source is parsed in the media child. A crash here leaves segments under this attempt's keys and
//! playlists that can be played as far as they go; the next attempt takes over from them.

use super::hls::Track;
use super::ladder::Ladder;
use super::verify::verify;
use super::{Playback, RenditionSummary, StageContext, StageError, Transcoded, posters};
use crate::media::protocol::{Message, RenditionKind, Request, Task};

pub(super) async fn run(context: &StageContext) -> Result<Transcoded, StageError> {
    context.unless_stopped(transcode(context)).await
}

async fn transcode(context: &StageContext) -> Result<Transcoded, StageError> {
    let tools = &context.tools;
    let source = tools.scratch.source(&tools.storage, &context.source).await?;
    let request = Request { limits: tools.media.limits().clone(), task: Task::Transcode };
    let mut child = tools.media.start(request, source.reader(), context.deadline).await?;
    let mut ladder = Ladder::new(context);
    let facts = loop {
        // Uploads run while the child computes; while all places are taken, the child waits at its pipe.
        let message = tokio::select! {
            biased;
            Some(landed) = ladder.next_landed() => {
                ladder.record(landed?).await?;
                continue;
            }
            message = child.next(), if ladder.has_room() => message?,
        };
        match message {
            Some((Message::Facts(_), _)) => {}
            Some((Message::Progress { done_ms, total_ms }, _)) => {
                context.progress(share(done_ms, total_ms));
            }
            Some((Message::Poster { width, height }, rgb)) => {
                posters::publish(context, rgb, width, height).await?;
            }
            Some((Message::Init { rendition, codecs, kind, planned_bits_per_second }, init)) => {
                ladder.begin(rendition, codecs, kind, planned_bits_per_second, init)?;
            }
            Some((Message::Segment { rendition, number, start_us, duration_us }, body)) => {
                ladder.push(&rendition, number, start_us, duration_us, body)?;
            }
            Some((Message::Done(facts), _)) => break facts,
            other => return Err(out_of_place(other.map(|(message, _)| message))),
        }
    };
    let tracks = ladder.finish().await?;
    let sha256 = source.sha256().await?;
    verify(context, &tracks, &facts).await?;
    let playback = Playback {
        attempt: context.lease.attempt,
        duration_ms: facts.duration_ms,
        renditions: tracks.iter().map(summary).collect(),
    };
    Ok(Transcoded { sha256, facts, playback })
}

fn share(done_ms: u64, total_ms: u64) -> f32 {
    let permille = done_ms.min(total_ms) * 1000 / total_ms.max(1);
    f32::from(u16::try_from(permille).unwrap_or(1000)) / 1000.0
}

fn summary(track: &Track) -> RenditionSummary {
    let (width, height, frame_rate) = match track.kind {
        RenditionKind::Video { width, height, frame_rate } => {
            (Some(width), Some(height), Some(frame_rate))
        }
        RenditionKind::Audio { .. } => (None, None, None),
    };
    RenditionSummary {
        name: track.name.clone(),
        codecs: track.codecs.clone(),
        width,
        height,
        frame_rate,
        segments: u32::try_from(track.segments.len()).unwrap_or(u32::MAX),
        size_bytes: track.size_bytes(),
        peak_bits_per_second: track.peak_bits_per_second(),
        average_bits_per_second: track.average_bits_per_second(),
    }
}

/// The child parses hostile bytes: when it breaks the protocol it may be broken itself, and is counted as such.
fn out_of_place(message: Option<Message>) -> StageError {
    StageError::Crashed(match message {
        Some(message) => format!("the media child answered a transcode with {message:?}"),
        None => "the media child ended a transcode without saying what it decoded".to_owned(),
    })
}
