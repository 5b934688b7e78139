//! One rendition as fragmented MP4 in memory: an init segment at once, then one fragment per segment, cut by the caller.
//!
//! The settings are one set, not a choice: `frag_discont` keeps the tracks' relative start without edit lists, which
//! players treat unequally; the caller shifts all renditions by one constant so that no dts is negative.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::{Dictionary, Packet, Rational, codec, format};

use super::error::Doing;
use super::guarded::Guarded;
use super::{EngineError, ffi};

/// No segment may be larger: the parent would not take it, and a bomb would fill the memory.
const MOST_SEGMENT_BYTES: usize = 48 * 1024 * 1024;

pub(super) struct Fragments {
    output: Output,
    written: Written,
    collected: usize,
}

/// What the muxer wrote and nobody took yet.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fragments {
    /// For the stream of an open encoder with stamps of 1/`hz`; answers the init segment too.
    pub(super) fn new(encoder: &codec::Context, hz: i32) -> Result<(Self, Vec<u8>), EngineError> {
        let written = Written::default();
        let output = mux(encoder, hz, written.clone()).doing("set up the MP4 muxer")?;
        let mut fragments = Self { output, written, collected: 0 };
        ffi::flush(&mut fragments.output);
        let init = fragments.written.take();
        Ok((fragments, init))
    }

    /// Adds a packet to the current segment. Its dts must be later than the last, its duration reach to the next.
    pub(super) fn write(&mut self, packet: &mut Packet) -> Result<(), EngineError> {
        self.collected += packet.size();
        if self.collected > MOST_SEGMENT_BYTES {
            return Err(EngineError::limit(format!(
                "one segment would be larger than {} MiB",
                MOST_SEGMENT_BYTES / 1024 / 1024
            )));
        }
        packet.set_stream(0);
        packet.write(&mut self.output).doing("write a packet").map(drop)
    }

    /// Ends the current segment and answers its bytes.
    pub(super) fn close(&mut self) -> Result<Vec<u8>, EngineError> {
        ffi::end_fragment(&mut self.output).doing("end a segment")?;
        self.collected = 0;
        Ok(self.written.take())
    }
}

fn mux(encoder: &codec::Context, hz: i32, to: Written) -> Result<Output, ffmpeg::Error> {
    let to = Guarded { stream: to, interrupt: || false };
    let mut output = format::output_to_stream(StreamIo::from_write(to)?, None, Some("mp4"))?;
    output.add_stream_with(encoder)?.set_time_base(Rational(1, hz));
    let options: Dictionary = [
        ("movflags", "frag_custom+empty_moov+default_base_moof+frag_discont"),
        ("use_editlist", "0"),
        ("avoid_negative_ts", "disabled"),
    ]
    .iter()
    .collect();
    let unknown = output.write_header_with(options)?.iter().count();
    if unknown > 0 { Err(ffmpeg::Error::OptionNotFound) } else { Ok(output) }
}

/// The RFC 6381 string of an H.264 stream: profile, constraints and level from the SPS in Annex B parameter sets.
pub(super) fn avc_codecs(parameter_sets: &[u8]) -> Result<String, EngineError> {
    parameter_sets
        .windows(7)
        .find(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 7)
        .map(|w| format!("avc1.{:02x}{:02x}{:02x}", w[4], w[5], w[6]))
        .ok_or_else(|| EngineError::Internal("the encoder made no sequence parameter set".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_string_is_read_from_the_sps_wherever_it_stands() {
        let sets = [0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x67, 0x64, 0x00, 0x1f, 0xac];
        assert_eq!(avc_codecs(&sets).unwrap(), "avc1.64001f");
        assert!(avc_codecs(&[0, 0, 1]).is_err());
    }
}
