//! What the parent lets a child say: which message, how often, in which order, and with which numbers. Every stage gets
//! messages that passed here. A breach counts as a crash: the honest child keeps all of this, so the speaker is none.
//!
//! Lengths are bounded before, in `frames`; deadlines and silence in `watch`.

use std::time::Duration;

use super::protocol::{Limits, Message, RenditionKind, Request, Task};
use crate::video::{FailureCause, MediaFacts};

const VIDEO_RENDITIONS: [&str; 3] = ["480p", "720p", "1080p"];
const SOUND_RENDITION: &str = "audio";
/// What the end of a stream may lie beyond the longest accepted one: it is cut off while it is decoded.
const OVERRUN_US: i64 = 10_000_000;
/// Every segment is shorter, or the playlists would promise too little.
const LONGEST_SEGMENT_US: i64 = 4_500_000;
/// The encoder's priming, and no more, may come before 0.
const EARLIEST_START_US: i64 = -1_000_000;
/// Where one message continues another, what rounding may move it.
const ROUNDING_US: i64 = 1_000;
const MOST_INIT_BYTES: usize = 1024 * 1024;
/// Two seconds of 16 kHz mono in 16 bits.
const MOST_PCM_BYTES: usize = 64_000;
const PCM_BYTES_PER_SECOND: i64 = 32_000;
const MOST_BITS_PER_SECOND: u64 = 100_000_000;
/// What a measured rate may lie over the one that pictures are thinned to.
const RATE_OVERRUN: f64 = 1.02;
/// No segment is so short but the last, and the first of the sound.
const SHORTEST_SEGMENT_US: i64 = 500_000;
const LARGEST_SIDE: u32 = 16_384;
const LONGEST_NAME: usize = 64;
const LONGEST_DETAIL: usize = 4_096;
/// A child reports four times a second.
const PROGRESS_PER_SECOND: u64 = 10;
const PROGRESS_AT_ONCE: u64 = 20;

/// What was said out of place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it broke the protocol: {0}")]
pub(super) struct Breach(String);

/// One child's messages so far.
#[derive(Debug)]
pub(super) struct Conversation {
    task: Task,
    latest_us: i64,
    most_bytes: u64,
    most_pictures_per_second: f64,
    bytes: u64,
    /// Names of messages that may be said once, and were.
    once: Vec<&'static str>,
    progress: u64,
    renditions: Vec<Rendition>,
    pcm: Option<Pcm>,
    frames: u64,
    ended: bool,
}

/// The sound so far: where it began, and how much came.
#[derive(Debug, Clone, Copy)]
struct Pcm {
    start_us: i64,
    bytes: i64,
}

#[derive(Debug)]
struct Rendition {
    name: String,
    segments: u32,
    end_us: Option<i64>,
}

impl Conversation {
    pub(super) fn new(request: &Request) -> Self {
        let Request { task, limits, .. } = request;
        Self {
            task: task.clone(),
            latest_us: latest_us(limits),
            most_bytes: limits.max_output_bytes,
            most_pictures_per_second: f64::from(limits.max_frame_rate) * RATE_OVERRUN,
            bytes: 0,
            once: Vec::new(),
            progress: 0,
            renditions: Vec::new(),
            pcm: None,
            frames: 0,
            ended: false,
        }
    }

    /// Checks the next message against all that came before; `elapsed` since the child was started.
    pub(super) fn hear(
        &mut self,
        message: &Message,
        payload: &[u8],
        elapsed: Duration,
    ) -> Result<(), Breach> {
        demand(!self.ended, || "a message after the last one".into())?;
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
        demand(self.bytes <= self.most_bytes, || format!("{} bytes in all", self.bytes))?;
        match message {
            Message::Caged(_) => return breach("it says a second time that it is caged"),
            Message::Failed { cause, detail } => {
                self.ended = true;
                demand(detail.len() <= LONGEST_DETAIL, || "a detail without end".into())?;
                return demand(is_of_a_file(*cause), || format!("it may not refuse for {cause}"));
            }
            Message::Facts(facts) => {
                self.hear_once(message)?;
                return self.check_facts(facts, payload);
            }
            Message::Progress { .. }
            | Message::Poster { .. }
            | Message::Init { .. }
            | Message::Segment { .. }
            | Message::Pcm { .. }
            | Message::Frame { .. }
            | Message::Checked { .. }
            | Message::Done(_) => {}
        }
        match (&self.task, message) {
            (_, Message::Progress { done_ms, total_ms }) => {
                self.hear_progress(*done_ms, *total_ms, payload, elapsed)
            }
            (Task::Transcode, Message::Poster { width, height }) => {
                self.hear_once(message)?;
                check_picture(*width, *height, payload)
            }
            (
                Task::Transcode,
                Message::Init { rendition, codecs, kind, planned_bits_per_second },
            ) => self.hear_init(rendition, codecs, kind, *planned_bits_per_second, payload),
            (Task::Transcode, Message::Segment { rendition, number, start_us, duration_us }) => {
                self.hear_segment(rendition, *number, *start_us, *duration_us, payload)
            }
            (Task::ExtractAudio, Message::Pcm { start_us }) => self.hear_pcm(*start_us, payload),
            (
                Task::SampleFrames { per_second, width, height },
                Message::Frame { time_us, width: found_width, height: found_height },
            ) => {
                let expected = ((*per_second, *width, *height), self.frames);
                let found = (*time_us, *found_width, *found_height);
                self.frames += 1;
                self.check_frame(expected, found, payload)
            }
            (Task::CheckSegment, Message::Checked { start_us, duration_us, .. }) => {
                self.hear_once(message)?;
                demand(payload.is_empty(), || "a verdict with bytes".into())?;
                let fine = (0..=self.latest_us).contains(duration_us)
                    && start_us.unsigned_abs() <= i64::MAX.unsigned_abs() / 2;
                demand(fine, || format!("a segment of {duration_us} us"))
            }
            (_, Message::Done(facts)) => {
                self.ended = true;
                self.check_facts(facts, payload)
            }
            (task, other) => breach(format!("{} for {task:?}", name_of(other))),
        }
    }

    fn hear_once(&mut self, message: &Message) -> Result<(), Breach> {
        let name = name_of(message);
        demand(!self.once.contains(&name), || format!("{name} a second time"))?;
        self.once.push(name);
        Ok(())
    }

    fn hear_progress(
        &mut self,
        done_ms: u64,
        total_ms: u64,
        payload: &[u8],
        elapsed: Duration,
    ) -> Result<(), Breach> {
        self.progress += 1;
        let most = PROGRESS_AT_ONCE + PROGRESS_PER_SECOND * elapsed.as_secs();
        demand(self.progress <= most, || format!("{} reports of progress", self.progress))?;
        demand(done_ms <= total_ms, || format!("{done_ms} ms of {total_ms} ms are done"))?;
        demand(payload.is_empty(), || "progress with bytes".into())
    }

    fn hear_init(
        &mut self,
        name: &str,
        codecs: &str,
        kind: &RenditionKind,
        planned_bits_per_second: u64,
        payload: &[u8],
    ) -> Result<(), Breach> {
        let fine = match *kind {
            RenditionKind::Video { width, height, frame_rate } => {
                VIDEO_RENDITIONS.contains(&name)
                    && [width, height].iter().all(|side| (1..=LARGEST_SIDE).contains(side))
                    && frame_rate > 0.0
                    && frame_rate <= self.most_pictures_per_second
            }
            RenditionKind::Audio { channels, sample_rate } => {
                name == SOUND_RENDITION
                    && (1..=8).contains(&channels)
                    && (8_000..=192_000).contains(&sample_rate)
            }
        };
        demand(fine, || format!("a rendition {name:.32} with {kind:?}"))?;
        let known = self.renditions.iter().any(|rendition| rendition.name == name);
        demand(!known, || format!("{name} begins a second time"))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let fine =
            !codecs.is_empty() && codecs.len() <= LONGEST_NAME && codecs.chars().all(is_plain);
        demand(fine, || format!("codecs {codecs:.64?}"))?;
        let fine = (1..=MOST_BITS_PER_SECOND).contains(&planned_bits_per_second);
        demand(fine, || format!("{planned_bits_per_second} bits per second"))?;
        let fine = (1..=MOST_INIT_BYTES).contains(&payload.len());
        demand(fine, || format!("an init segment of {} bytes", payload.len()))?;
        self.renditions.push(Rendition { name: name.to_owned(), segments: 0, end_us: None });
        Ok(())
    }

    fn hear_segment(
        &mut self,
        name: &str,
        number: u32,
        start_us: i64,
        duration_us: i64,
        payload: &[u8],
    ) -> Result<(), Breach> {
        let latest_us = self.latest_us;
        let Some(rendition) = self.renditions.iter_mut().find(|r| r.name == name) else {
            return breach(format!("a segment of {name:.32}, which has not begun"));
        };
        let expected = rendition.segments + 1;
        demand(number == expected, || format!("segment {number} of {name} instead of {expected}"))?;
        let fine = (0..LONGEST_SEGMENT_US).contains(&duration_us);
        demand(fine, || format!("a segment of {duration_us} us"))?;
        let fine = (EARLIEST_START_US..=latest_us).contains(&start_us);
        demand(fine, || format!("a segment at {start_us} us"))?;
        let follows = rendition.end_us.is_none_or(|end| (start_us - end).abs() <= ROUNDING_US);
        demand(follows, || format!("segment {number} of {name} leaves a gap"))?;
        // Rounding adds up: without this, a million segments could stand in one second.
        let earliest_us = (i64::from(number) - 2) * SHORTEST_SEGMENT_US;
        demand(start_us >= earliest_us, || format!("segment {number} of {name} at {start_us} us"))?;
        demand(!payload.is_empty(), || format!("segment {number} of {name} has no bytes"))?;
        rendition.segments = number;
        rendition.end_us = Some(start_us + duration_us);
        Ok(())
    }

    fn hear_pcm(&mut self, start_us: i64, payload: &[u8]) -> Result<(), Breach> {
        let fine = (2..=MOST_PCM_BYTES).contains(&payload.len()) && payload.len().is_multiple_of(2);
        demand(fine, || format!("{} bytes of sound", payload.len()))?;
        let fine = (EARLIEST_START_US..=self.latest_us).contains(&start_us);
        demand(fine, || format!("sound at {start_us} us"))?;
        // From the first chunk on, and not from the last one's start: rounding must not add up.
        let mut pcm = self.pcm.unwrap_or(Pcm { start_us, bytes: 0 });
        let expected_us = pcm.start_us + pcm.bytes * 1_000_000 / PCM_BYTES_PER_SECOND;
        let follows = (start_us - expected_us).abs() <= ROUNDING_US;
        demand(follows, || format!("sound at {start_us} us leaves a gap"))?;
        // At most 2^63 / 10^6 bytes fit before `latest_us`, so this cannot overflow.
        pcm.bytes += i64::try_from(payload.len()).unwrap_or(i64::MAX / 4);
        self.pcm = Some(pcm);
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "points are few: hours at most 60 times a second"
    )]
    fn check_frame(
        &self,
        ((per_second, width, height), point): ((f64, u32, u32), u64),
        found: (i64, u32, u32),
        payload: &[u8],
    ) -> Result<(), Breach> {
        let time_us = (point as f64 * 1_000_000.0 / per_second).round() as i64;
        let fine = found == (time_us, width, height) && time_us <= self.latest_us;
        demand(fine, || format!("the picture {found:?} instead of {time_us} us"))?;
        check_picture(width, height, payload)
    }

    fn check_facts(&self, facts: &MediaFacts, payload: &[u8]) -> Result<(), Breach> {
        demand(payload.is_empty(), || "facts with bytes".into())?;
        let duration_us =
            i64::try_from(facts.duration_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        demand(duration_us <= self.latest_us, || format!("{} ms", facts.duration_ms))?;
        check_name(&facts.container)?;
        if let Some(video) = &facts.video {
            check_name(&video.codec)?;
            check_name(&video.pixel_format)?;
            let fine = [video.width, video.height].iter().all(|side| *side <= LARGEST_SIDE)
                && video.frame_rate.is_finite()
                && video.frame_rate >= 0.0
                && [0, 90, 180, 270].contains(&video.rotation);
            demand(fine, || format!("pictures like {video:?}"))?;
        }
        facts.audio.as_ref().map_or(Ok(()), |audio| check_name(&audio.codec))
    }
}

fn latest_us(limits: &Limits) -> i64 {
    let most_us = i64::try_from(limits.max_duration_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    most_us.saturating_add(OVERRUN_US).min(i64::MAX / 4)
}

/// RGB24 of that size.
fn check_picture(width: u32, height: u32, payload: &[u8]) -> Result<(), Breach> {
    let bytes = u64::from(width.min(LARGEST_SIDE)) * u64::from(height.min(LARGEST_SIDE)) * 3;
    demand(bytes > 0 && bytes == payload.len() as u64, || {
        format!("a picture of {width}×{height} in {} bytes", payload.len())
    })
}

/// libav's own names of formats and codecs; they are stored and shown.
fn check_name(name: &str) -> Result<(), Breach> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-,.:() ".contains(c);
    let fine = name.len() <= LONGEST_NAME && name.chars().all(is_plain);
    demand(fine, || format!("the name {name:.64?}"))
}

/// What a child can know. The other causes are found by the parent.
const fn is_of_a_file(cause: FailureCause) -> bool {
    match cause {
        FailureCause::EmptyFile
        | FailureCause::UnsupportedFormat
        | FailureCause::Corrupt
        | FailureCause::Truncated
        | FailureCause::NoMedia
        | FailureCause::LimitExceeded
        | FailureCause::DeadlineExceeded
        | FailureCause::Internal => true,
        FailureCause::SourceMissing
        | FailureCause::SourceUnreadable
        | FailureCause::MediaCrashed
        | FailureCause::SpeechEngine
        | FailureCause::OutputInvalid
        | FailureCause::Dependency
        | FailureCause::WorkerLost
        | FailureCause::ScratchTooSmall
        | FailureCause::Cancelled => false,
    }
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach(otherwise())) }
}

fn breach(what: impl Into<String>) -> Result<(), Breach> {
    Err(Breach(what.into()))
}

/// What a message is called in the text of a crash.
pub(super) const fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Caged(_) => "caged",
        Message::Facts(_) => "facts",
        Message::Progress { .. } => "progress",
        Message::Poster { .. } => "poster",
        Message::Init { .. } => "init",
        Message::Segment { .. } => "segment",
        Message::Pcm { .. } => "pcm",
        Message::Frame { .. } => "frame",
        Message::Checked { .. } => "checked",
        Message::Done(_) => "done",
        Message::Failed { .. } => "failed",
    }
}

#[cfg(test)]
mod tests;
