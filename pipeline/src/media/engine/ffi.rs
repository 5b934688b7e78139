//! The only unsafe code of the engine: what the safe interface of `ffmpeg_next` lacks, as small owned functions.
//! No policy lives here, and no pointer leaves.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Read, Seek};
use std::ptr;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::ffi;
use ffmpeg_next::format::context::{Input, Output, StreamIo};
use ffmpeg_next::packet::Ref;
use ffmpeg_next::util::interrupt;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, Stream, codec, frame};

use super::EngineError;
use super::guarded::{Guarded, asked};

/// Read in pieces of this size: small files in one, large ones without thousands of calls.
const INPUT_BUFFER_BYTES: usize = 256 * 1024;

/// Refuses to run with libraries of another major version than the headers we were built with: the wrappers turn raw
/// numbers into Rust enums, so an unknown one would be undefined behaviour.
pub(super) fn check_libraries() -> Result<(), EngineError> {
    ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
    let (built, found) = (ffi::LIBAVCODEC_VERSION_MAJOR.cast_unsigned(), codec::version() >> 16);
    if found == built {
        return Ok(());
    }
    Err(EngineError::Internal(format!(
        "built with libavcodec {built} and started with {found}: build again on this machine"
    )))
}

/// No allocation of libav is larger: a header that asks for more gets an error instead of memory.
#[expect(unsafe_code, reason = "av_max_alloc is not in the safe interface")]
pub(super) fn bound_allocations(most_bytes: usize) {
    // SAFETY: sets one number that libav reads atomically.
    unsafe { ffi::av_max_alloc(most_bytes) }
}

/// Opens a file as untrusted media: custom IO, no URL, nothing else can be opened. Streams are not probed yet.
/// An option that libav does not know is an error: a misspelt limit is no limit. `interrupt` is asked before every read and
/// between the steps of long loops; when it answers true, reading fails.
#[expect(unsafe_code, reason = "io_open and the unused options are not in the safe interface")]
pub(super) fn open_input(
    file: impl Read + Seek + Send + 'static,
    options: &[(&str, &str)],
    interrupt: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Input, Error> {
    let file = Guarded { stream: file, interrupt: interrupt.clone() };
    let mut io = StreamIo::from_read_seek_with_capacity(file, INPUT_BUFFER_BYTES)?;
    let interrupt = interrupt::new(Box::new(move || asked(&interrupt)));
    let options: Dictionary = options.iter().collect();
    // SAFETY: the context is allocated here and owned by the returned Input, which also keeps `io` and the interrupt
    // alive; avformat_open_input frees the context itself when it fails and leaves a custom `pb` to us. The dictionary
    // is taken back whatever happens.
    unsafe {
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(Error::Other { errno: ffmpeg::error::ENOMEM });
        }
        (*context).pb = io.as_mut_ptr();
        (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
        (*context).io_open = Some(refuse_to_open);
        (*context).interrupt_callback = interrupt.interrupt;
        let mut rest = options.disown();
        let result = ffi::avformat_open_input(
            &raw mut context,
            c"".as_ptr(),
            ptr::null_mut(),
            &raw mut rest,
        );
        let rest = Dictionary::own(rest);
        if result < 0 {
            let unread = io_error((*io.as_mut_ptr()).error);
            return Err(unread.unwrap_or_else(|| match Error::from(result) {
                // Some demuxers call it so when only the file is at fault.
                Error::Other { errno: ffmpeg::error::EIO } => Error::InvalidData,
                error => error,
            }));
        }
        let input = Input::wrap_with_custom_io_and_interrupt(context, io, interrupt.guard);
        if rest.iter().next().is_some() {
            return Err(Error::OptionNotFound);
        }
        Ok(input)
    }
}

/// What a demuxer gets that wants to open another file.
#[expect(unsafe_code, reason = "the signature of a libav callback")]
unsafe extern "C" fn refuse_to_open(
    _context: *mut ffi::AVFormatContext,
    _io: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    ffi::AVERROR(ffi::EPERM)
}

/// Probes the streams, each with these decoder options: without them the probe itself could be the bomb.
#[expect(unsafe_code, reason = "the safe interface passes no options per stream")]
pub(super) fn find_streams(input: &mut Input, options: &[(&str, &str)]) -> Result<(), Error> {
    let count = input.nb_streams() as usize;
    // SAFETY: one dictionary pointer per stream that exists now, as libav reads them; each is taken back and freed.
    unsafe {
        let mut each: Vec<*mut ffi::AVDictionary> =
            (0..count).map(|_| options.iter().collect::<Dictionary>().disown()).collect();
        let result = ffi::avformat_find_stream_info(input.as_mut_ptr(), each.as_mut_ptr());
        for left in each {
            drop(Dictionary::own(left));
        }
        if result < 0 { Err(Error::from(result)) } else { Ok(()) }
    }
}

/// Leaves the packets of all other streams inside the demuxer.
#[expect(unsafe_code, reason = "AVStream.discard is read-only in the safe interface")]
pub(super) fn read_only(input: &mut Input, wanted: &[usize]) {
    let count = input.nb_streams() as usize;
    // SAFETY: the indexes are below nb_streams; the streams live as long as the context.
    unsafe {
        for index in (0..count).filter(|index| !wanted.contains(index)) {
            let stream = *(*input.as_mut_ptr()).streams.add(index);
            (*stream).discard = ffi::AVDiscard::AVDISCARD_ALL;
        }
    }
}

/// A read that failed below the demuxer, which shows it as the end of the file.
#[expect(unsafe_code, reason = "AVIOContext.error is not in the safe interface")]
pub(super) fn read_error(input: &Input) -> Option<Error> {
    // SAFETY: `pb` is ours, set at open.
    io_error(unsafe { (*(*input.as_ptr()).pb).error })
}

fn io_error(code: c_int) -> Option<Error> {
    (code < 0 && code != ffi::AVERROR_EOF).then(|| Error::from(code))
}

/// Whether a packet is decoded only for what comes after it: what lies before an edit is not shown.
#[expect(unsafe_code, reason = "the safe interface drops the flag")]
pub(super) fn is_preroll(packet: &Packet) -> bool {
    // SAFETY: reads one field of a live packet.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD != 0 }
}

/// Whether a decoder of pictures was given a size that its `max_pixels` forbids. Some decoders keep such a size, and some
/// forget it.
#[expect(unsafe_code, reason = "coded_width and max_pixels are not in the safe interface")]
pub(super) fn is_oversized(context: &codec::Context) -> bool {
    // SAFETY: reads fields of a live context.
    let raw = unsafe { &*context.as_ptr() };
    let pixels = i64::from(raw.coded_width) * i64::from(raw.coded_height);
    raw.codec_type == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO
        && (pixels == 0 || pixels > raw.max_pixels)
}

/// Whether the container's duration is only bytes divided by a bit rate.
#[expect(unsafe_code, reason = "duration_estimation_method is not in the safe interface")]
pub(super) fn duration_is_guess(input: &Input) -> bool {
    // SAFETY: reads one field of a live context.
    let method = unsafe { (*input.as_ptr()).duration_estimation_method };
    method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_BITRATE
}

/// Whether the container's duration is only the distance of its first and its last time stamp.
#[expect(unsafe_code, reason = "duration_estimation_method is not in the safe interface")]
pub(super) fn duration_is_span(input: &Input) -> bool {
    // SAFETY: reads one field of a live context.
    let method = unsafe { (*input.as_ptr()).duration_estimation_method };
    method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_PTS
}

/// What the container and the probe say about a stream, without opening its decoder.
pub(super) struct Declared {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel_aspect: Rational,
    pub(super) pixel_format: String,
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
}

#[expect(unsafe_code, reason = "AVCodecParameters is opaque in the safe interface")]
pub(super) fn declared(stream: &Stream<'_>) -> Declared {
    // SAFETY: reads fields of a live stream. The pixel format is looked up by its raw number, because a number
    // that the headers do not know must not become an enum; libav answers null for it.
    unsafe {
        let stream = &*stream.as_ptr();
        let raw = &*stream.codecpar;
        let name = av_get_pix_fmt_name(raw.format);
        let pixel_format = match (raw.codec_type, name.is_null()) {
            (ffi::AVMediaType::AVMEDIA_TYPE_VIDEO, false) => {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            }
            _ => String::from("unknown"),
        };
        Declared {
            width: u32::try_from(raw.width).unwrap_or(0),
            height: u32::try_from(raw.height).unwrap_or(0),
            // The container's word goes before the codec's.
            pixel_aspect: match stream.sample_aspect_ratio {
                container if container.num > 0 => container.into(),
                _ => raw.sample_aspect_ratio.into(),
            },
            pixel_format,
            sample_rate: u32::try_from(raw.sample_rate).unwrap_or(0),
            channels: u16::try_from(raw.ch_layout.nb_channels).unwrap_or(0),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "declared here because the bindings want an enum where a raw number must go"
)]
unsafe extern "C" {
    fn av_get_pix_fmt_name(format: c_int) -> *const c_char;
}

/// Another reference to the same picture; nothing is copied.
#[expect(unsafe_code, reason = "Clone of the safe interface copies the pixels")]
pub(super) fn share(picture: &frame::Video) -> Result<frame::Video, Error> {
    let mut shared = frame::Video::empty();
    // SAFETY: both frames are live; av_frame_ref fills an empty one.
    match unsafe { ffi::av_frame_ref(shared.as_mut_ptr(), picture.as_ptr()) } {
        code if code < 0 => Err(Error::from(code)),
        _ => Ok(shared),
    }
}

/// What a picture says about its colours: the code points of ITU-T H.273, and libav's range.
pub(super) struct RawColours {
    pub(super) matrix: i32,
    pub(super) primaries: i32,
    pub(super) transfer: i32,
    pub(super) range: i32,
}

/// As raw numbers: some decoders pass on what the file says, and a number that the headers do not know must not become
/// an enum.
#[expect(unsafe_code, reason = "the safe interface makes enums of them")]
pub(super) fn raw_colours(picture: &frame::Video) -> RawColours {
    // SAFETY: four fields of a live frame, each an `enum` of C with the size of an int, never read as a Rust enum.
    unsafe {
        let raw = picture.as_ptr();
        RawColours {
            matrix: (&raw const (*raw).colorspace).cast::<c_int>().read(),
            primaries: (&raw const (*raw).color_primaries).cast::<c_int>().read(),
            transfer: (&raw const (*raw).color_trc).cast::<c_int>().read(),
            range: (&raw const (*raw).color_range).cast::<c_int>().read(),
        }
    }
}

/// Whether a picture is before the place where the container says that the video begins, and only there for others to be
/// decoded. libav drops these itself, but not with every decoder.
#[expect(unsafe_code, reason = "the safe interface does not know this flag")]
pub(super) fn is_not_shown(picture: &frame::Video) -> bool {
    // SAFETY: reads one field of a live frame.
    unsafe { (*picture.as_ptr()).flags & ffi::AV_FRAME_FLAG_DISCARD != 0 }
}

/// Gives decoded sound a channel layout where the source has none, and says which, as a mask.
#[expect(unsafe_code, reason = "AVChannelLayout is not in the safe interface of this version")]
pub(super) fn name_channels(sound: &mut frame::Audio) -> Option<u64> {
    // SAFETY: a live frame; a native layout owns no memory, so overwriting an unspecified one leaks nothing, and
    // the union is read only where the order says that the mask is in it.
    unsafe {
        let raw = &mut *sound.as_mut_ptr();
        let count = raw.ch_layout.nb_channels;
        if raw.ch_layout.order != ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE {
            ffi::av_channel_layout_uninit(&raw mut raw.ch_layout);
            ffi::av_channel_layout_default(&raw mut raw.ch_layout, count);
        }
        if raw.ch_layout.order != ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE {
            // More channels than any default has: take them for the first speakers there are.
            let mask = 1u64.checked_shl(u32::try_from(count).ok()?)?.checked_sub(1)?;
            if ffi::av_channel_layout_from_mask(&raw mut raw.ch_layout, mask) < 0 {
                return None;
            }
        }
        let mask = raw.ch_layout.u.mask;
        raw.channel_layout = mask;
        raw.channels = count;
        Some(mask)
    }
}

/// The encoder's stream header: parameter sets or `AudioSpecificConfig`.
#[expect(unsafe_code, reason = "extradata is not in the safe interface")]
pub(super) fn extradata(context: &codec::Context) -> Vec<u8> {
    // SAFETY: libav keeps `extradata_size` readable bytes behind a pointer that is not null.
    unsafe {
        let raw = &*context.as_ptr();
        match usize::try_from(raw.extradata_size) {
            Ok(size) if size > 0 && !raw.extradata.is_null() => {
                std::slice::from_raw_parts(raw.extradata, size).to_vec()
            }
            _ => Vec::new(),
        }
    }
}

/// Sets an option of an encoder before it is opened; an unknown one is an error.
#[expect(unsafe_code, reason = "the safe interface drops unknown options silently")]
pub(super) fn set_option(
    context: &mut codec::Context,
    name: &str,
    value: &str,
) -> Result<(), Error> {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else {
        return Err(Error::Other { errno: ffmpeg::error::EINVAL });
    };
    // SAFETY: a codec context begins with its AVClass, as av_opt_set wants; the strings are copied.
    let code = unsafe {
        ffi::av_opt_set(
            context.as_mut_ptr().cast::<c_void>(),
            name.as_ptr(),
            value.as_ptr(),
            ffi::AV_OPT_SEARCH_CHILDREN,
        )
    };
    if code < 0 { Err(Error::from(code)) } else { Ok(()) }
}

/// Ends the fragment that is being collected and pushes all bytes out.
#[expect(unsafe_code, reason = "writing no packet at all is not in the safe interface")]
pub(super) fn end_fragment(output: &mut Output) -> Result<(), Error> {
    // SAFETY: a live muxer after its header; a null packet asks it to flush.
    let code = unsafe { ffi::av_write_frame(output.as_mut_ptr(), ptr::null_mut()) };
    flush(output);
    if code < 0 { Err(Error::from(code)) } else { Ok(()) }
}

/// Pushes the muxer's bytes out of its buffer.
#[expect(unsafe_code, reason = "avio_flush is not in the safe interface")]
pub(super) fn flush(output: &mut Output) {
    // SAFETY: `pb` is the stream that the output was made with, and lives as long as it.
    unsafe { ffi::avio_flush((*output.as_mut_ptr()).pb) }
}
