//! The sound of one video while it is worked on: in a file without a name, so that hours of it need no memory and a
//! crash leaves nothing behind.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::intervals::{Interval, SAMPLES_PER_MS};

const BYTES_PER_SAMPLE: u64 = 2;
/// What a sound takes on disk.
pub const BYTES_PER_MS: u64 = SAMPLES_PER_MS * BYTES_PER_SAMPLE;
const SAMPLE_RATE: u32 = 16_000;
const HEADER_BYTES: usize = 44;

/// 16 kHz mono, signed 16-bit little-endian.
#[derive(Debug)]
pub(super) struct Sound {
    file: File,
}

impl Sound {
    /// At a path that nobody uses; the name is gone when this returns, the space when the sound is dropped.
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        std::fs::remove_file(path)?;
        Ok(Self { file })
    }

    pub(super) fn append(&mut self, pcm: &[u8]) -> std::io::Result<()> {
        self.file.write_all(pcm)
    }

    /// A WAV file of a part. Its size is 32 bytes per millisecond: callers bound it by the part's length.
    pub(super) async fn wav(&self, part: Interval) -> std::io::Result<Bytes> {
        let length = part.duration_ms() * BYTES_PER_MS;
        let mut wav = header(length)?;
        let mut file = tokio::fs::File::from_std(self.file.try_clone()?);
        file.seek(std::io::SeekFrom::Start(part.start_ms * BYTES_PER_MS)).await?;
        file.take(length).read_to_end(&mut wav).await?;
        if wav.len() as u64 != HEADER_BYTES as u64 + length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(wav.into())
    }
}

/// Of a WAV file with so many bytes of samples, with room for them.
fn header(length: u64) -> std::io::Result<Vec<u8>> {
    let too_long = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let samples = u32::try_from(length).map_err(too_long)?;
    let riff = u32::try_from(length + HEADER_BYTES as u64 - 8).map_err(too_long)?;
    let mut wav = Vec::with_capacity(HEADER_BYTES + samples as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&riff.to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0");
    wav.extend_from_slice(&1_u16.to_le_bytes()); // PCM
    wav.extend_from_slice(&1_u16.to_le_bytes()); // channels
    wav.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    wav.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes()); // bytes per second
    wav.extend_from_slice(&2_u16.to_le_bytes()); // bytes per sample
    wav.extend_from_slice(&16_u16.to_le_bytes()); // bits per sample
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&samples.to_le_bytes());
    Ok(wav)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_cut_to_the_sample_and_the_file_has_no_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sound = Sound::create(&directory.path().join("sound")).expect("a file");
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
        let samples = (0..160_i16).flat_map(i16::to_le_bytes).collect::<Vec<_>>();
        sound.append(&samples).expect("written");
        let wav = sound.wav(Interval { start_ms: 2, end_ms: 5 }).await.expect("read");
        assert_eq!(&wav[..4], b"RIFF");
        assert_eq!(wav[4..8], 132_u32.to_le_bytes());
        assert_eq!(wav[40..44], 96_u32.to_le_bytes());
        assert_eq!(wav[44..], samples[64..160]);
        assert!(sound.wav(Interval { start_ms: 5, end_ms: 11 }).await.is_err());
    }

    #[tokio::test]
    async fn parts_can_be_read_in_any_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sound = Sound::create(&directory.path().join("sound")).expect("a file");
        sound.append(&[7; 64]).expect("written");
        sound.append(&[8; 64]).expect("written");
        let late = sound.wav(Interval { start_ms: 2, end_ms: 4 }).await.expect("read");
        let early = sound.wav(Interval { start_ms: 0, end_ms: 2 }).await.expect("read");
        assert_eq!((late[44], early[44]), (8, 7));
    }
}
