//! Decoded pictures of the chosen stream with times that can be trusted: ticks of 90 kHz on the common time line.
//! A picture over the size limit ends the work here, whatever the header said.

use ffmpeg_next::{Packet, Rational, frame};

use super::decode::Decoder;
use super::input::{ChosenPicture, Source};
use super::limits::{check_size, too_much_work};
use super::time::{VIDEO_HZ, from_base};
use super::{EngineError, ffi};
use crate::media::protocol::Limits;

/// A single picture is shown no longer than this by its own word.
const LONGEST_SHOWING: i64 = 10 * VIDEO_HZ;
const MOST_THREADS: usize = 2;

pub(super) struct Pictures {
    decoder: Decoder,
    base: Rational,
    limits: Limits,
    /// Of all pictures so far.
    pixels: u64,
    /// What a picture without a duration lasts.
    usual: i64,
    first: Option<i64>,
    last: i64,
    end: i64,
}

impl Pictures {
    pub(super) fn open(
        source: &Source,
        chosen: ChosenPicture,
        limits: &Limits,
    ) -> Result<Self, EngineError> {
        let decoder = Decoder::open(&source.stream(chosen.stream)?, limits, MOST_THREADS)?;
        let base = chosen.stream.base;
        let usual = usual_duration(chosen.frame_rate);
        let limits = limits.clone();
        Ok(Self { decoder, base, limits, pixels: 0, usual, first: None, last: 0, end: 0 })
    }

    /// Takes a packet, or the end; pictures are taken with [`Self::take`] until there is none.
    pub(super) fn feed(&mut self, packet: Option<&Packet>) -> Result<(), EngineError> {
        self.decoder.feed(packet)
    }

    /// The next picture with its time, if there is one now.
    pub(super) fn take(&mut self) -> Result<Option<frame::Video>, EngineError> {
        let mut picture = loop {
            match self.decoder.take(frame::Video::empty())? {
                Some(picture) if ffi::is_not_shown(&picture) => {}
                Some(picture) => break picture,
                None => return Ok(None),
            }
        };
        check_size((picture.width(), picture.height()), &self.limits)?;
        self.pixels += u64::from(picture.width()) * u64::from(picture.height());
        if self.pixels > self.limits.max_decoded_pixels {
            #[expect(clippy::cast_precision_loss, reason = "a text for people")]
            return Err(too_much_work(self.pixels as f64, &self.limits));
        }
        let at = match picture.timestamp() {
            Some(at) => from_base(at, self.base, VIDEO_HZ),
            None => self.end,
        };
        let duration = match from_base(picture.packet().duration, self.base, VIDEO_HZ) {
            duration if (1..=LONGEST_SHOWING).contains(&duration) => duration,
            _ => self.usual,
        };
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
        self.end = self.end.max(at + duration);
        picture.set_pts(Some(at));
        Ok(Some(picture))
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// When the last picture so far stops being shown.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Pictures per second as they came; none of a single picture.
    pub(super) fn measured_rate(&self) -> Option<f64> {
        let span = self.last - self.first?;
        let steps = self.decoder.frames().saturating_sub(1);
        let (steps, span) = (u32::try_from(steps).ok()?, u32::try_from(span).ok()?);
        let hz = f64::from(u32::try_from(VIDEO_HZ).ok()?);
        (steps > 0 && span > 0).then(|| f64::from(steps) * hz / f64::from(span))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "between 90 and 90,000 by the clamp")]
fn usual_duration(frame_rate: f64) -> i64 {
    let hz = 90_000.0;
    let rate = if frame_rate > 0.0 { frame_rate } else { 25.0 };
    (hz / rate.clamp(1.0, 1000.0)).round() as i64
}
