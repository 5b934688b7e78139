//! The sound of a file for speech recognition: 16 kHz, mono, 16 bits, without holes, in chunks of a second.

use super::decode::Decoder;
use super::input::{Source, Track};
use super::limits::too_long;
use super::sample_line::{Format, Start};
use super::sound::Sound;
use super::time::{MICROSECONDS, ticks, to_ms};
use super::verdict::check_complete;
use super::{EngineError, RemoteFile, Speaker};
use crate::media::protocol::{Message, Request};

const FORMAT: Format = Format { rate: 16_000, channels: 1 };
const RATE: i64 = FORMAT.rate as i64;
const CHUNK_SAMPLES: usize = FORMAT.rate as usize;

/// The pictures' packets are read too, so that the time line is the one of the transcode.
/// A file without sound gets its facts, no samples, and a good end.
pub(super) fn run(
    request: &Request,
    file: RemoteFile,
    speaker: &mut Speaker<'_>,
) -> Result<(), EngineError> {
    let mut source = Source::open(file, &request.limits)?;
    speaker.say(&Message::Facts(source.facts.clone()), &[])?;
    let mut facts = source.facts.clone();
    if let Some(chosen) = source.sound {
        let decoder = Decoder::open(&source.stream(chosen)?, &request.limits, 1)?;
        let mut sound = Sound::new(decoder, chosen.base, FORMAT, Start::FirstSound);
        while let Some((track, packet)) = source.next_packet()? {
            if track == Track::Sound {
                sound.feed(Some(&packet))?;
                say_samples(&mut sound, false, speaker)?;
            }
            speaker.say_progress(source.position_us(), source.declared_us.unwrap_or(0))?;
            let until_ms = to_ms(until_us(&sound));
            if until_ms > request.limits.max_duration_ms {
                return Err(too_long(until_ms, &request.limits));
            }
        }
        sound.feed(None)?;
        // Sound may end long before the picture: only a file of nothing but sound can be called truncated here.
        if source.picture.is_none() {
            check_complete(&source, [None, Some(sound.decoder())], until_us(&sound))?;
        }
        say_samples(&mut sound, true, speaker)?;
        facts.duration_ms = to_ms(until_us(&sound));
        facts.audio = facts.audio.filter(|_| sound.decoder().frames() > 0);
    }
    speaker.say(&Message::Done(facts), &[])
}

fn until_us(sound: &Sound) -> i64 {
    ticks(sound.line.end().unwrap_or(0), RATE, MICROSECONDS)
}

fn say_samples(sound: &mut Sound, all: bool, speaker: &mut Speaker<'_>) -> Result<(), EngineError> {
    loop {
        let start_us = ticks(sound.line.position(), RATE, MICROSECONDS);
        let Some(planes) = sound
            .line
            .take(CHUNK_SAMPLES, false)
            .or_else(|| all.then(|| sound.line.take(CHUNK_SAMPLES, true))?)
        else {
            return Ok(());
        };
        let bytes: Vec<u8> =
            planes.iter().flatten().flat_map(|sample| to_i16(*sample).to_le_bytes()).collect();
        speaker.say(&Message::Pcm { start_us }, &bytes)?;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of 16 bits")]
fn to_i16(sample: f32) -> i16 {
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loud_and_broken_samples_stay_in_range() {
        assert_eq!(to_i16(1.5), i16::MAX);
        assert_eq!(to_i16(-1.5), i16::MIN);
        assert_eq!(to_i16(f32::NAN), 0);
        assert_eq!(to_i16(0.5), 16_384);
    }
}
