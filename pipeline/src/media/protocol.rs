//! What the parent and the media child say to each other: one request on the child's stdin, messages on its stdout. After
//! the request, stdin carries the bytes of the input: see [`super::ranges`].
//!
//! A frame is `u32` header length, `u32` payload length (both little endian), the header as JSON, the payload as bytes.
//! Both lengths are checked before anything is allocated: the parent trusts nothing that the child says.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cage::Level;
use crate::video::{FailureCause, MediaFacts};

/// Longest JSON header.
pub const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Longest payload: a segment of the top rendition at its bound, or a raw 4K picture.
pub const MAX_PAYLOAD_BYTES: u32 = 64 * 1024 * 1024;

/// What a child is to do. It does one thing and ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub limits: Limits,
    pub task: Task,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One decode, all renditions: `Facts`, `Poster`, then `Init` and `Segment` of each rendition as they close, `Progress`.
    Transcode,
    /// 16 kHz mono: `Facts`, then `Pcm` in order, about a second each. A source without sound gives none, and is no failure.
    ExtractAudio,
    /// `Facts`, then a `Frame` for each point of a fixed grid from 0: what a viewer sees at that moment, stretched to the
    /// size asked for. A source without pictures gives none, and is no failure.
    SampleFrames { per_second: f64, width: u32, height: u32 },
    /// Decodes an init segment followed by one media segment (the input is both): `Checked`. One damaged packet fails it.
    CheckSegment,
}

/// Refusals by number. The parent checks the size of the source before a byte is read; the child checks the others by what
/// the file declares and again by what is decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of the source object.
    pub max_size_bytes: u64,
    pub max_duration_ms: u64,
    /// Width and height hold for either orientation.
    pub max_width: u32,
    pub max_height: u32,
    /// Pictures per second of the renditions: a source with more is halved until it fits.
    pub max_frame_rate: u32,
    pub max_streams: u32,
    /// Of all decoded pictures together: the work in a file, however few bytes it has.
    pub max_decoded_pixels: u64,
    /// Of all renditions together.
    pub max_output_bytes: u64,
    /// A child whose work does not advance for so long is ended by its parent.
    pub max_stall_ms: u64,
    /// How long a child may run. [`Media::start`](super::Media::start) sets it; the child ends itself then, should its parent
    /// not do it.
    pub max_run_ms: u64,
}

impl Limits {
    /// The largest picture, whatever its shape.
    #[must_use]
    pub fn max_pixels(&self) -> u64 {
        u64::from(self.max_width) * u64::from(self.max_height)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size_bytes: 20 * 1024 * 1024 * 1024,
            max_duration_ms: 4 * 3600 * 1000,
            max_width: 8192,
            max_height: 4320,
            max_frame_rate: 60,
            max_streams: 16,
            // A little more than four hours of 3840×2160 at 30 pictures per second.
            max_decoded_pixels: 4_000_000_000_000,
            // Four hours of all renditions at their bounds are 21 GB.
            max_output_bytes: 32 * 1024 * 1024 * 1024,
            max_stall_ms: 60_000,
            max_run_ms: 12 * 3600 * 1000,
        }
    }
}

/// What a child says. Times are microseconds from the first presented moment of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The first message: what holds of the cage, before anything of the file is read. Not enough of it is the last, too.
    Caged(Level),
    /// What the container declares, before anything is decoded. `duration_ms` is the declared one, 0 if none.
    Facts(MediaFacts),
    Progress {
        done_ms: u64,
        total_ms: u64,
    },
    /// Payload: RGB24, upright, square pixels.
    Poster {
        width: u32,
        height: u32,
    },
    /// Payload: the init segment of a rendition.
    Init {
        rendition: String,
        codecs: String,
        kind: RenditionKind,
        planned_bits_per_second: u64,
    },
    /// Payload: a media segment. Numbers start at 1 and have no gaps; all renditions are cut at the same times, sound at its
    /// first frame from there on. Its first segment may start before 0, by the encoder's priming. No duration reaches 4.5 s.
    Segment {
        rendition: String,
        number: u32,
        start_us: i64,
        duration_us: i64,
    },
    /// Payload: signed 16-bit little-endian mono at 16 kHz; the first chunk starts at `start_us`, the rest follow on.
    Pcm {
        start_us: i64,
    },
    /// Payload: RGB24.
    Frame {
        time_us: i64,
        width: u32,
        height: u32,
    },
    /// Times inside the segment, where all renditions of a transcode stand later than the source by one constant.
    Checked {
        frames: u64,
        start_us: i64,
        duration_us: i64,
    },
    /// The last message of a good run; facts as decoded.
    Done(MediaFacts),
    /// The last message of a refusal.
    Failed {
        cause: FailureCause,
        detail: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenditionKind {
    Video { width: u32, height: u32, frame_rate: f64 },
    Audio { channels: u16, sample_rate: u32 },
}

/// Writes one frame and flushes it: a finished segment must not wait in a buffer.
pub fn write_frame<T: Serialize>(
    to: &mut impl Write,
    header: &T,
    payload: &[u8],
) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "frame too long");
    let header_length = u32::try_from(header.len()).map_err(too_long)?;
    let payload_length = u32::try_from(payload.len()).map_err(too_long)?;
    check_lengths(header_length, payload_length)?;
    to.write_all(&header_length.to_le_bytes())?;
    to.write_all(&payload_length.to_le_bytes())?;
    to.write_all(&header)?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame; `None` at a clean end.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    match from.read(&mut lengths[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut lengths[1..])?,
    }
    let (header_length, payload_length) = decode_lengths(lengths)?;
    let mut header = vec![0; header_length as usize];
    from.read_exact(&mut header)?;
    let mut payload = vec![0; payload_length as usize];
    from.read_exact(&mut payload)?;
    Ok(Some((serde_json::from_slice(&header)?, payload)))
}

/// The two lengths that open a frame, checked.
pub fn decode_lengths(bytes: [u8; 8]) -> io::Result<(u32, u32)> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let lengths = (word(0), word(4));
    check_lengths(lengths.0, lengths.1)?;
    Ok(lengths)
}

fn check_lengths(header: u32, payload: u32) -> io::Result<()> {
    if header > MAX_HEADER_BYTES || payload > MAX_PAYLOAD_BYTES {
        let text = format!("a frame of {header} + {payload} bytes is over the bound");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}
