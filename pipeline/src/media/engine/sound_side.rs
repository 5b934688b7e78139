//! The sound of a transcode: decoded onto one line of samples, encoded once, sent to the assembler.

use std::sync::mpsc::SyncSender;

use super::EngineError;
use super::aac::{AacEncoder, CODECS, FRAME_SAMPLES, bit_rate};
use super::assemble::{Coded, Prepared};
use super::decode::Decoder;
use super::fragments::Fragments;
use super::input::{Chosen, Source};
use super::sample_line::{Format, Start};
use super::sound::Sound;
use super::time::{AUDIO_HZ, VIDEO_HZ, ticks};
use crate::media::protocol::{Limits, Message, RenditionKind};

/// Sound this far behind the picture is taken for silence, so that nothing waits for it for ever.
const LATEST_SOUND: i64 = 10 * AUDIO_HZ as i64;

pub(super) struct SoundSide {
    pub(super) sound: Sound,
    encoder: AacEncoder,
    channels: u16,
    track: usize,
    announced: bool,
}

impl SoundSide {
    /// `track` is its number for the assembler.
    pub(super) fn new(
        source: &Source,
        chosen: Chosen,
        limits: &Limits,
        track: usize,
    ) -> Result<Self, EngineError> {
        let declared = source.facts.audio.as_ref().map_or(2, |audio| audio.channels);
        let channels = if declared == 1 { 1 } else { 2 };
        let decoder = Decoder::open(&source.stream(chosen)?, limits, 1)?;
        let format = Format { rate: AUDIO_HZ, channels };
        Ok(Self {
            sound: Sound::new(decoder, chosen.base, format, Start::Zero),
            encoder: AacEncoder::open(channels)?,
            channels,
            track,
            announced: false,
        })
    }

    /// Sound that stays away too long is silence.
    pub(super) fn keep_up(&mut self, picture_at: i64) {
        let line = &mut self.sound.line;
        if picture_at - line.end().unwrap_or(0) > LATEST_SOUND {
            line.fill_to(picture_at - LATEST_SOUND);
        }
    }

    pub(super) fn encode(
        &mut self,
        all: bool,
        packets: &SyncSender<Coded>,
    ) -> Result<(), EngineError> {
        while let Some(planes) = self.next_planes(all) {
            self.announce(packets)?;
            for packet in self.encoder.encode(&planes)? {
                send(packets, Coded::Packet { track: self.track, packet })?;
            }
        }
        Ok(())
    }

    fn next_planes(&mut self, all: bool) -> Option<Vec<Vec<f32>>> {
        let line = &mut self.sound.line;
        line.take(FRAME_SAMPLES, false).or_else(|| all.then(|| line.take(FRAME_SAMPLES, true))?)
    }

    fn announce(&mut self, packets: &SyncSender<Coded>) -> Result<(), EngineError> {
        if self.announced {
            return Ok(());
        }
        self.announced = true;
        let (fragments, init) = Fragments::new(self.encoder.context(), AUDIO_HZ.cast_signed())?;
        let rate = bit_rate(self.channels) as u64;
        let message = Message::Init {
            rendition: "audio".into(),
            codecs: CODECS.into(),
            kind: RenditionKind::Audio { channels: self.channels, sample_rate: AUDIO_HZ },
            planned_bits_per_second: rate + rate / 10,
        };
        let prepared = Prepared { fragments, message, init };
        send(packets, Coded::Ready { track: self.track, prepared })
    }

    pub(super) fn finish(&mut self, packets: &SyncSender<Coded>) -> Result<(), EngineError> {
        self.encode(true, packets)?;
        if self.announced {
            for packet in self.encoder.finish()? {
                send(packets, Coded::Packet { track: self.track, packet })?;
            }
        }
        let end = self.sound.line.end().unwrap_or(0);
        let at = ticks(end, i64::from(AUDIO_HZ), VIDEO_HZ);
        send(packets, Coded::End { track: self.track, at })
    }
}

fn send(packets: &SyncSender<Coded>, coded: Coded) -> Result<(), EngineError> {
    packets.send(coded).map_err(|_| EngineError::Stopped)
}
