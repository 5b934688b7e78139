//! Opening untrusted media: the sniffer first, then libav with every list and bound that keeps it from opening, reading or
//! allocating anything but this file. Every refusal is typed.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec;
use ffmpeg_next::format::context::Input;

use super::budget::Budget;
use super::sniff::{Sniffed, sniff};
use super::{EngineError, RemoteFile, ffi};
use crate::media::protocol::Limits;
use crate::video::FailureCause;

/// A name covers a demuxer's aliases: `mov` is also mp4, m4a and 3gp.
const FORMATS: &str = "mov,matroska,mpegts,avi,flv,ogg,mp3,aac,wav,flac,mpeg";
/// Decoders that untrusted bytes may reach, by libav's names; everything else in libavcodec stays closed. H.264, HEVC, VP8,
/// VP9, AV1, MPEG-4, MPEG-2, Motion JPEG, `ProRes`; AAC, MP3, Opus, Vorbis, FLAC, AC-3, E-AC-3, PCM.
pub(super) const CODECS: &str = "h264,hevc,vp8,vp9,libdav1d,mpeg4,mpeg2video,mjpeg,prores,\
aac,aac_latm,mp3,mp3float,opus,vorbis,flac,ac3,eac3,\
pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,\
pcm_f64le,pcm_f64be,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd";
/// Bytes and microseconds that the probe may take.
const PROBE_BYTES: &str = "33554432";
const PROBE_MICROSECONDS: &str = "10000000";
/// Of a file that begins like no container we know, libav must be at least this sure.
const SURE: i32 = 26;
/// A picture of 8192×4320 in the largest of all formats has 424 MB.
const MOST_ALLOCATED_BYTES: usize = 512 * 1024 * 1024;

/// The decoder of an accepted codec.
pub(super) fn accepted(id: codec::Id) -> Option<ffmpeg::Codec> {
    codec::decoder::find(id).filter(|codec| CODECS.split(',').any(|name| name == codec.name()))
}

/// The options that keep libav from opening, reading or allocating anything but this file, within bounds.
pub(super) fn open(
    file: RemoteFile,
    limits: &Limits,
    budget: &Budget,
) -> Result<Input, EngineError> {
    let input = open_within(file, limits, budget);
    let input = input.map_err(|error| budget.refusal().unwrap_or(error))?;
    if let Some(refusal) = budget.refusal() {
        return Err(refusal);
    }
    budget.opened();
    Ok(input)
}

fn open_within(
    mut file: RemoteFile,
    limits: &Limits,
    budget: &Budget,
) -> Result<Input, EngineError> {
    ffi::bound_allocations(MOST_ALLOCATED_BYTES);
    let unread = |error| EngineError::internal("read the source", error);
    let sniffed = sniff(&mut file).map_err(|error| unread(error.to_string()))?;
    let unsupported = |text: String| EngineError::refused(FailureCause::UnsupportedFormat, text);
    let fragmented = match sniffed {
        Sniffed::Empty => {
            return Err(EngineError::refused(FailureCause::EmptyFile, "the file has no bytes"));
        }
        Sniffed::Refused(looks) => {
            return Err(unsupported(format!("the file is {looks}, not a video or sound file")));
        }
        Sniffed::Mp4 { fragmented } => fragmented,
        Sniffed::Known | Sniffed::Unknown => false,
    };
    let max_streams = limits.max_streams.to_string();
    let mut options = vec![
        ("format_whitelist", FORMATS),
        ("protocol_whitelist", "none"),
        ("codec_whitelist", CODECS),
        ("max_streams", max_streams.as_str()),
        ("probesize", PROBE_BYTES),
        ("analyzeduration", PROBE_MICROSECONDS),
    ];
    if fragmented {
        options.push(("fflags", "+ignidx"));
    }
    let interrupt = budget.clone();
    let opened = ffi::open_input(file, &options, move || interrupt.is_spent());
    let mut input = opened.map_err(|error| match (error, sniffed) {
        (ffmpeg::Error::Other { errno: ffmpeg::error::EIO }, _) => unread(error.to_string()),
        (ffmpeg::Error::OptionNotFound, _) => EngineError::internal("open the file", error),
        (ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM }, _) => {
            EngineError::limit(format!("more than {max_streams} streams, or too large a header"))
        }
        (ffmpeg::Error::Other { errno: ffmpeg::error::EINVAL }, _) | (_, Sniffed::Unknown) => {
            unsupported(format!("no container that we accept ({error})"))
        }
        (error, _) => EngineError::corrupt(format!("the container cannot be read ({error})")),
    })?;
    if sniffed == Sniffed::Unknown && input.probe_score() < SURE {
        return Err(unsupported("the bytes look like no container that we accept".into()));
    }
    let max_pixels = limits.max_pixels().to_string();
    let found = ffi::find_streams(&mut input, &[("max_pixels", max_pixels.as_str())]);
    if let Some(error) = ffi::read_error(&input) {
        return Err(unread(error.to_string()));
    }
    found.map_err(|error| EngineError::corrupt(format!("no stream can be read ({error})")))?;
    if input.nb_streams() > limits.max_streams {
        return Err(EngineError::limit(format!(
            "{} streams, at most {max_streams} are accepted",
            input.nb_streams()
        )));
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    /// A manifest that names a listener, given to libav without the sniffer, with some of the options.
    fn opened(options: &[(&str, &str)], listener: &TcpListener) -> bool {
        let url = format!("http://{}/x.ts", listener.local_addr().unwrap());
        let text = format!(
            "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
             profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\" type=\"static\" \
             mediaPresentationDuration=\"PT2S\"><Period><AdaptationSet mimeType=\"video/mp4\">\
             <Representation id=\"1\" bandwidth=\"1\"><BaseURL>{url}</BaseURL><SegmentBase/>\
             </Representation></AdaptationSet></Period></MPD>"
        );
        // Whoever gets through to a listener that never answers must not wait for it.
        let began_at = Instant::now();
        let impatient = move || began_at.elapsed() > Duration::from_secs(2);
        ffi::open_input(Cursor::new(text.into_bytes()), options, impatient).is_ok()
    }

    /// Two locks, each of which holds alone. The DASH demuxer of libav 5.1 opens URLs by itself, past `io_open`: without a
    /// list it gets through, which is also the proof that this trap is one.
    #[test]
    fn a_manifest_reaches_nobody_whichever_list_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        opened(&[("protocol_whitelist", "none")], &listener);
        assert!(listener.accept().is_err(), "the list of protocols does not hold alone");
        assert!(!opened(&[("format_whitelist", FORMATS)], &listener), "DASH is on no list");
        assert!(listener.accept().is_err(), "the list of formats does not hold alone");
        opened(&[], &listener);
        assert!(listener.accept().is_ok(), "without a list nobody was reached either: no trap");
    }

    #[test]
    fn every_accepted_decoder_exists_under_its_name() {
        ffmpeg::init().unwrap();
        let missing: Vec<&str> =
            CODECS.split(',').filter(|name| codec::decoder::find_by_name(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for id in [codec::Id::AV1, codec::Id::MP3, codec::Id::OPUS, codec::Id::VP9] {
            assert!(accepted(id).is_some(), "{id:?}");
        }
        for id in [codec::Id::MAGICYUV, codec::Id::FFV1, codec::Id::PNG, codec::Id::GIF] {
            assert!(accepted(id).is_none(), "{id:?}");
        }
    }

    #[test]
    fn a_limit_that_libav_does_not_know_is_an_error() {
        let bytes = Cursor::new(vec![0; 1 << 12]);
        let found = ffi::open_input(bytes, &[("max_streems", "16")], || false);
        assert!(found.is_err());
    }
}
