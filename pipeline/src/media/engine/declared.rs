//! What the container says before anything is decoded: which streams to take, where they start, how long they are and what
//! they hold.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Rational, Stream, media};

use super::error::Doing;
use super::input::{Chosen, ChosenPicture};
use super::orientation::Orientation;
use super::shape::square;
use super::time::{MICROSECONDS, from_base, to_ms};
use super::{EngineError, ffi, open};
use crate::video::{AudioFacts, FailureCause, MediaFacts, VideoFacts};

/// The clock of a transport stream starts again after 26.5 h. More than half of that between the first and the last time
/// stamp is a clock that was set back, not a recording of so many hours.
const HALF_A_CLOCK_US: i64 = (1 << 32) / 90_000 * MICROSECONDS;

/// The stream of a kind to take, of those in an accepted codec: the container's default, else the first. A cover picture is
/// no video, and neither is a stream that holds nothing.
/// A file whose pictures, or whose sound, are all in other codecs is refused: to show it without them would lose what its
/// owner sees and hears in it, and nobody would be told.
pub(super) fn best(input: &Input, kind: media::Type) -> Result<Option<Stream<'_>>, EngineError> {
    let streams = || {
        input
            .streams()
            .filter(|stream| stream.parameters().medium() == kind)
            .filter(|stream| !stream.disposition().contains(Disposition::ATTACHED_PIC))
    };
    let best = streams()
        .filter(|stream| open::accepted(stream.parameters().id()).is_some())
        .max_by_key(|stream| {
            let declared = ffi::declared(stream);
            let holds_something = declared.width > 0 || declared.channels > 0;
            let default = stream.disposition().contains(Disposition::DEFAULT);
            (holds_something, default, std::cmp::Reverse(stream.index()))
        });
    match (best, streams().next()) {
        (None, Some(other)) => Err(unsupported(other.parameters().id(), kind)),
        (best, _) => Ok(best),
    }
}

fn unsupported(codec: ffmpeg::codec::Id, kind: media::Type) -> EngineError {
    let (what, accepted) = match kind {
        media::Type::Audio => ("sound", "AAC, MP3, Opus, Vorbis, FLAC, AC-3, E-AC-3 or PCM"),
        _ => ("picture", "H.264, HEVC, VP8, VP9, AV1, MPEG-4, MPEG-2, Motion JPEG or ProRes"),
    };
    let name = match codec {
        ffmpeg::codec::Id::None => "unknown here",
        codec => codec.name(),
    };
    EngineError::refused(
        FailureCause::UnsupportedFormat,
        format!(
            "the codec of its {what} is {name}, which is not accepted: convert it to {accepted}"
        ),
    )
}

pub(super) fn choose(stream: &Stream<'_>) -> Chosen {
    Chosen { index: stream.index(), base: stream.time_base() }
}

/// Dolby Vision whose base layer is in colours of its own: what any other decoder shows is green and purple. With a base
/// layer that is HDR10, HLG or SDR (all but profile 5, of what cameras and shops make) it is that, and plays as that.
fn check_base_layer(stream: &Stream<'_>) -> Result<(), EngineError> {
    let Some(record) = stream.side_data().find(|side| side.kind() == side_data::Type::DOVI_CONF)
    else {
        return Ok(());
    };
    // The fields of the record are single bytes: the profile is the third, what the base layer is the eighth.
    let [_, _, profile, _, _, _, _, 0, ..] = record.data() else { return Ok(()) };
    Err(EngineError::refused(
        FailureCause::UnsupportedFormat,
        format!("Dolby Vision profile {profile} without a base layer that others can show"),
    ))
}

pub(super) fn choose_picture(stream: &Stream<'_>) -> Result<ChosenPicture, EngineError> {
    check_base_layer(stream)?;
    let orientation = stream
        .side_data()
        .find(|side| side.kind() == side_data::Type::DisplayMatrix)
        .map_or_else(Orientation::default, |side| Orientation::from_matrix(side.data()));
    let rate = |rate: Rational| if rate.1 > 0 { f64::from(rate) } else { 0.0 };
    let frame_rate = match rate(stream.avg_frame_rate()) {
        average if average > 0.0 => average,
        _ => rate(stream.rate()),
    };
    let pixel_aspect = ffi::declared(stream).pixel_aspect;
    Ok(ChosenPicture { stream: choose(stream), orientation, pixel_aspect, frame_rate })
}

/// The earliest declared start of the chosen streams, in microseconds.
pub(super) fn origin(input: &Input, chosen: &[Chosen]) -> Option<i64> {
    chosen
        .iter()
        .filter_map(|c| input.stream(c.index))
        .filter(|stream| stream.start_time() != ffmpeg::ffi::AV_NOPTS_VALUE)
        .map(|stream| from_base(stream.start_time(), stream.time_base(), MICROSECONDS))
        .min()
}

/// What the container promises for the chosen streams. The smaller of its two statements counts: a subtitle may end
/// after the picture, and an edit list may show less than there is.
pub(super) fn duration(input: &Input, chosen: &[Chosen]) -> Option<i64> {
    if ffi::duration_is_guess(input) {
        return None;
    }
    let streams = chosen
        .iter()
        .filter_map(|c| input.stream(c.index))
        .filter(|stream| stream.duration() > 0)
        .map(|stream| from_base(stream.duration(), stream.time_base(), MICROSECONDS))
        .max();
    let container = Some(input.duration()).filter(|duration| *duration > 0);
    let declared = match (streams, container) {
        (Some(streams), Some(container)) => Some(streams.min(container)),
        (one, other) => one.or(other),
    };
    declared.filter(|us| *us <= HALF_A_CLOCK_US || !ffi::duration_is_span(input))
}

pub(super) fn facts(
    input: &Input,
    picture: Option<&ChosenPicture>,
    sound: Option<Chosen>,
    declared_us: Option<i64>,
) -> Result<MediaFacts, EngineError> {
    let stream = |chosen: Chosen| {
        input.stream(chosen.index).ok_or(ffmpeg::Error::StreamNotFound).doing("look at a stream")
    };
    let video = match picture {
        None => None,
        Some(chosen) => {
            let stream = stream(chosen.stream)?;
            let declared = ffi::declared(&stream);
            let (width, height) = chosen
                .orientation
                .turned(square((declared.width, declared.height), declared.pixel_aspect));
            Some(VideoFacts {
                codec: stream.parameters().id().name().into(),
                width,
                height,
                frame_rate: chosen.frame_rate,
                rotation: chosen.orientation.clockwise.degrees(),
                pixel_format: declared.pixel_format,
            })
        }
    };
    let audio = match sound {
        None => None,
        Some(chosen) => {
            let stream = stream(chosen)?;
            let declared = ffi::declared(&stream);
            Some(AudioFacts {
                codec: stream.parameters().id().name().into(),
                sample_rate: declared.sample_rate,
                channels: declared.channels,
            })
        }
    };
    Ok(MediaFacts {
        container: input.format().name().into(),
        duration_ms: to_ms(declared_us.unwrap_or(0)),
        video,
        audio,
    })
}
