//! The reading side of a transcode: packets in, paced pictures to the ladder, encoded sound to the assembler, and at the
//! end the verdict whether enough of the file could be decoded.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::SyncSender;

use super::EngineError;
use super::assemble::Coded;
use super::decode::Decoder;
use super::input::{Source, Track};
use super::ladder::Rung;
use super::limits::too_long;
use super::picture_side::PictureSide;
use super::rung::Step;
use super::sound_side::SoundSide;
use super::time::{AUDIO_HZ, MICROSECONDS, VIDEO_HZ, ticks, to_ms, video_us};
use super::verdict::{check_complete, check_pictures};
use crate::media::protocol::Limits;
use crate::video::MediaFacts;

pub(super) struct Feeder {
    limits: Limits,
    picture: Option<PictureSide>,
    sound: Option<SoundSide>,
    packets: SyncSender<Coded>,
}

impl Feeder {
    /// `ladder` is the way to the top rung, where there are pictures; `sound_track` the sound's number for the assembler.
    pub(super) fn new(
        source: &Source,
        limits: &Limits,
        ladder: Option<(SyncSender<Step>, Rung)>,
        sound_track: usize,
        packets: SyncSender<Coded>,
    ) -> Result<Self, EngineError> {
        let picture = match (source.picture, ladder) {
            (Some(chosen), Some(ladder)) => Some(PictureSide::new(source, chosen, limits, ladder)?),
            _ => None,
        };
        let sound = match source.sound {
            Some(chosen) => Some(SoundSide::new(source, chosen, limits, sound_track)?),
            None => None,
        };
        Ok(Self { limits: limits.clone(), picture, sound, packets })
    }

    /// Runs to the end of the file; answers the facts as decoded.
    pub(super) fn run(
        mut self,
        source: &mut Source,
        position_us: &AtomicI64,
    ) -> Result<MediaFacts, EngineError> {
        while let Some((track, packet)) = source.next_packet()? {
            match (track, &mut self.picture, &mut self.sound) {
                (Track::Picture, Some(side), sound) => {
                    side.pictures.feed(Some(&packet))?;
                    side.pass_on(&self.packets)?;
                    if let Some(sound) = sound {
                        sound.keep_up(ticks(side.pictures.end(), VIDEO_HZ, i64::from(AUDIO_HZ)));
                        sound.encode(false, &self.packets)?;
                    }
                }
                (Track::Sound, _, Some(sound)) => {
                    sound.sound.feed(Some(&packet))?;
                    sound.encode(false, &self.packets)?;
                }
                _ => {}
            }
            self.check_length()?;
            position_us.store(self.decoded_us(), Ordering::Relaxed);
        }
        if let Some(side) = &mut self.picture {
            side.pictures.feed(None)?;
            side.pass_on(&self.packets)?;
        }
        if let Some(side) = &mut self.sound {
            side.sound.feed(None)?;
        }
        check_complete(source, self.decoders(), self.decoded_us())?;
        if let Some(PictureSide { pictures, .. }) = &self.picture {
            check_pictures(source, pictures.decoder(), video_us(pictures.end()))?;
        }
        let facts = self.facts(source);
        self.finish()?;
        Ok(facts)
    }

    fn decoders(&self) -> [Option<&Decoder>; 2] {
        [
            self.picture.as_ref().map(|side| side.pictures.decoder()),
            self.sound.as_ref().map(|side| side.sound.decoder()),
        ]
    }

    fn decoded_us(&self) -> i64 {
        let picture = self.picture.as_ref().map_or(0, |side| video_us(side.pictures.end()));
        let sound = self.sound.as_ref().and_then(|side| side.sound.line.end()).unwrap_or(0);
        picture.max(ticks(sound, i64::from(AUDIO_HZ), MICROSECONDS))
    }

    fn check_length(&self) -> Result<(), EngineError> {
        let decoded_ms = to_ms(self.decoded_us());
        if decoded_ms > self.limits.max_duration_ms {
            return Err(too_long(decoded_ms, &self.limits));
        }
        Ok(())
    }

    fn facts(&self, source: &Source) -> MediaFacts {
        let mut facts = source.facts.clone();
        facts.duration_ms = to_ms(self.decoded_us());
        if let (Some(video), Some(side)) = (&mut facts.video, &self.picture) {
            video.frame_rate = side.pictures.measured_rate().unwrap_or(video.frame_rate);
        }
        facts.audio = facts
            .audio
            .filter(|_| self.sound.as_ref().is_some_and(|side| side.sound.decoder().frames() > 0));
        facts
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        let sound_end = self.sound.as_ref().and_then(|side| side.sound.line.end()).unwrap_or(0);
        if let Some(side) = &mut self.picture {
            side.finish(ticks(sound_end, i64::from(AUDIO_HZ), VIDEO_HZ), &self.packets)?;
        }
        if let Some(side) = &mut self.sound {
            side.finish(&self.packets)?;
        }
        Ok(())
    }
}
