//! The one audio rendition: AAC-LC at 48 kHz, 64 kb/s per channel. Sound goes in as samples without holes.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::{ChannelLayout, Packet, Rational, codec, encoder, format, frame};

use super::EngineError;
use super::error::{Doing, not_now};
use super::time::AUDIO_HZ;

/// Samples in one AAC frame.
pub(super) const FRAME_SAMPLES: usize = 1024;
/// RFC 6381: AAC-LC.
pub(super) const CODECS: &str = "mp4a.40.2";

const SAMPLES: format::Sample = format::Sample::F32(format::sample::Type::Planar);

pub(super) struct AacEncoder {
    encoder: encoder::audio::Encoder,
    layout: ChannelLayout,
    next: i64,
}

impl AacEncoder {
    pub(super) fn open(channels: u16) -> Result<Self, EngineError> {
        let codec = encoder::find_by_name("aac")
            .ok_or(ffmpeg::Error::EncoderNotFound)
            .doing("find the AAC encoder")?;
        let layout = if channels == 1 { ChannelLayout::MONO } else { ChannelLayout::STEREO };
        let rate = AUDIO_HZ.cast_signed();
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(codec::Flags::GLOBAL_HEADER);
        context.set_time_base(Rational(1, rate));
        let mut audio = context.encoder().audio().doing("set up the AAC encoder")?;
        audio.set_rate(rate);
        audio.set_format(SAMPLES);
        audio.set_channel_layout(layout);
        audio.set_channels(i32::from(channels));
        audio.set_bit_rate(bit_rate(channels));
        let encoder = audio.open_as(codec).doing("open the AAC encoder")?;
        Ok(Self { encoder, layout, next: 0 })
    }

    pub(super) fn context(&self) -> &codec::Context {
        &self.encoder
    }

    /// Encodes one frame of samples (all but the last have [`FRAME_SAMPLES`]); answers the packets that are ready.
    pub(super) fn encode(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Packet>, EngineError> {
        let samples = planes.first().map_or(0, Vec::len);
        let mut sound = frame::Audio::new(SAMPLES, samples, self.layout);
        sound.set_rate(AUDIO_HZ);
        sound.set_pts(Some(self.next));
        for (index, plane) in planes.iter().enumerate() {
            sound.plane_mut::<f32>(index).copy_from_slice(plane);
        }
        self.next += i64::try_from(samples).unwrap_or(0);
        self.encoder.send_frame(&sound).doing("encode sound")?;
        self.packets()
    }

    pub(super) fn finish(&mut self) -> Result<Vec<Packet>, EngineError> {
        self.encoder.send_eof().doing("end the AAC encoder")?;
        self.packets()
    }

    fn packets(&mut self) -> Result<Vec<Packet>, EngineError> {
        let mut packets = Vec::new();
        loop {
            let mut packet = Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => packets.push(packet),
                Err(error) if not_now(error) => return Ok(packets),
                Err(error) => return Err(EngineError::internal("encode sound", error)),
            }
        }
    }
}

pub(super) fn bit_rate(channels: u16) -> usize {
    64_000 * usize::from(channels)
}
