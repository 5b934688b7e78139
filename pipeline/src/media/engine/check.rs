//! Does a segment of ours decode? Reads an init segment followed by one media segment, and counts what comes out.
//! Times are those inside the segment, as a player sees them, not those of the source. Stricter than for a source: one
//! damaged packet is too many.

use ffmpeg_next::{Packet, Rational, frame};

use super::decode::Decoder;
use super::input::Source;
use super::time::{MICROSECONDS, from_base};
use super::{EngineError, RemoteFile, Speaker};
use crate::media::protocol::{Message, Request};

pub(super) fn run(
    request: &Request,
    file: RemoteFile,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    let mut source = Source::open(file, &request.limits)?.with_own_times();
    let chosen = source.picture.map(|picture| picture.stream).or(source.sound);
    let chosen = chosen
        .ok_or_else(|| EngineError::Internal("the segment's stream was not chosen".into()))?;
    let decoder = Decoder::open(&source.stream(chosen)?, &request.limits, 1)?;
    let is_picture = source.picture.is_some();
    let mut check = Check { decoder, base: chosen.base, is_picture, start: None, end: i64::MIN };
    while let Some((_, packet)) = source.next_packet()? {
        check.feed(Some(&packet))?;
    }
    check.feed(None)?;
    let frames = check.decoder.frames();
    let Some(start_us) = check.start.filter(|_| !check.decoder.has_failed()) else {
        let error = check.decoder.last_error();
        return Err(EngineError::corrupt(format!("{frames} frames decoded ({error})")));
    };
    let checked = Message::Checked { frames, start_us, duration_us: check.end - start_us };
    speaker.say(&checked, &[])?;
    speaker.say(&Message::Done(source.facts.clone()), &[])
}

struct Check {
    decoder: Decoder,
    base: Rational,
    is_picture: bool,
    start: Option<i64>,
    end: i64,
}

impl Check {
    fn feed(&mut self, packet: Option<&Packet>) -> Result<(), EngineError> {
        self.decoder.feed(packet)?;
        if self.is_picture {
            while let Some(picture) = self.decoder.take(frame::Video::empty())? {
                let duration = self.us(picture.packet().duration);
                self.count(picture.timestamp(), duration);
            }
        } else {
            while let Some(sound) = self.decoder.take(frame::Audio::empty())? {
                let rate = Rational(1, i32::try_from(sound.rate()).unwrap_or(1).max(1));
                let samples = i64::try_from(sound.samples()).unwrap_or(0);
                self.count(sound.timestamp(), from_base(samples, rate, MICROSECONDS));
            }
        }
        Ok(())
    }

    fn count(&mut self, at: Option<i64>, duration_us: i64) {
        let Some(at_us) = at.map(|at| self.us(at)) else { return };
        self.start = Some(self.start.map_or(at_us, |start| start.min(at_us)));
        self.end = self.end.max(at_us + duration_us);
    }

    fn us(&self, value: i64) -> i64 {
        from_base(value, self.base, MICROSECONDS)
    }
}
