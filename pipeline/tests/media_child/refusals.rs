//! What the media child refuses, and how it says so: in words that a person understands, at once, and without touching
//! anything but its input.

use std::io::{self, Cursor, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::clips::{Clips, parent, run_input, run_within, transcode};
use bytes::Bytes;
use pipeline::media::child;
use pipeline::media::protocol::{Limits, Request, Task};
use pipeline::media::{Input, InputError};
use pipeline::video::FailureCause;

const VIDEO: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";

#[track_caller]
fn refused(path: &Path, cause: FailureCause) -> String {
    let said = transcode(path);
    let (found, detail) = said.failed.expect("a refusal");
    assert_eq!(found, cause, "{detail}");
    detail
}

#[test]
fn nothing_and_noise_are_told_apart() {
    let clips = Clips::new();
    refused(&clips.write("empty.mp4", b""), FailureCause::EmptyFile);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(1 << 20)
    .collect();
    refused(&clips.write("noise.mp4", &noise), FailureCause::UnsupportedFormat);
    refused(&clips.write("zeros.mp4", &vec![0; 1 << 16]), FailureCause::UnsupportedFormat);
}

#[test]
fn a_file_without_its_index_is_corrupt() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=320x240:r=25:d=2 {VIDEO}"));
    let bytes = std::fs::read(clip).unwrap();
    let moov = bytes.windows(4).rposition(|w| w == b"moov").unwrap();
    refused(&clips.write("headless.mp4", &bytes[..moov - 4]), FailureCause::Corrupt);
}

#[test]
fn a_file_that_was_cut_off_is_truncated_and_says_both_durations() {
    let clips = Clips::new();
    for (name, options) in [("cut.mp4", "-movflags +faststart"), ("cut.mkv", "")] {
        let clip =
            clips.make(name, &format!("-f lavfi -i testsrc2=320x240:r=25:d=10 {VIDEO} {options}"));
        let bytes = std::fs::read(&clip).unwrap();
        let cut = clips.write(name, &bytes[..bytes.len() / 2]);
        let detail = refused(&cut, FailureCause::Truncated);
        assert!(detail.contains("10.0 s"), "{detail}");
    }
}

#[test]
fn pictures_that_do_not_decode_are_corrupt() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=320x240:r=25:d=2 {VIDEO}"));
    let mut bytes = std::fs::read(clip).unwrap();
    let start = bytes.windows(4).position(|w| w == b"mdat").unwrap() + 4;
    let end = bytes.windows(4).rposition(|w| w == b"moov").unwrap() - 4;
    bytes[start..end].fill(0x55);
    refused(&clips.write("broken.mp4", &bytes), FailureCause::Corrupt);
}

#[test]
fn images_and_subtitles_are_no_videos() {
    let clips = Clips::new();
    for name in ["image.png", "image.jpg", "image.gif"] {
        let image = clips.make(name, "-f lavfi -i testsrc2=64x64 -frames:v 1");
        refused(&image, FailureCause::UnsupportedFormat);
    }
    let text = clips.write("text.srt", b"1\n00:00:01,000 --> 00:00:02,000\nwords\n");
    let subtitles = clips.make("only.mkv", &format!("-i {} -c:s srt", text.display()));
    refused(&subtitles, FailureCause::NoMedia);
}

#[test]
fn a_codec_outside_the_list_is_named_with_what_to_do() {
    let clips = Clips::new();
    let picture = "-f lavfi -i testsrc2=160x120:r=25:d=1";
    let tone = "-f lavfi -i sine=d=1";
    for (name, options, named, remedy) in [
        ("magic.avi", format!("{picture} -c:v magicyuv"), "magicyuv", "H.264"),
        ("lossless.mkv", format!("{picture} {tone} -c:v ffv1 -c:a aac"), "ffv1", "H.264"),
        ("broadcast.ts", format!("{picture} {tone} {VIDEO} -c:a mp2"), "mp2", "AAC"),
        ("apple.m4a", format!("{tone} -c:a alac"), "alac", "AAC"),
    ] {
        let clip = clips.make(name, &options);
        for task in [Task::Transcode, Task::ExtractAudio] {
            let said = run_within(&clip, task, Limits::default());
            let (cause, detail) = said.failed.expect(name);
            assert_eq!(cause, FailureCause::UnsupportedFormat, "{name}: {detail}");
            assert!(detail.contains(named) && detail.contains(remedy), "{name}: {detail}");
            assert!(said.facts.is_none(), "{name} was begun");
        }
    }
}

/// The track that can be played is taken, though the other is the default.
#[test]
fn a_second_track_in_an_accepted_codec_is_taken_instead() {
    let clips = Clips::new();
    let clip = clips.make(
        "two.mkv",
        &format!(
            "-f lavfi -i testsrc2=160x120:r=25:d=2 -f lavfi -i sine=d=2 -f lavfi -i sine=d=2 -map 0 -map 1 -map 2 {VIDEO} -c:a:0 mp2 -c:a:1 aac -disposition:a:0 default -disposition:a:1 0"
        ),
    );
    let said = transcode(&clip);
    assert_eq!(said.failed, None);
    assert_eq!(said.facts.unwrap().audio.unwrap().codec, "aac");
    assert!(said.renditions.contains_key("audio"));
}

/// Playlists and scripts under the name of a video point at a file and at a listener. Nobody comes, nothing is read.
#[test]
fn nothing_else_is_opened_whatever_the_file_says() {
    let clips = Clips::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let canary = clips.make("canary.ts", &format!("-f lavfi -i testsrc2=320x240:r=25:d=2 {VIDEO}"));
    let url = format!("http://127.0.0.1:{port}/canary.ts");
    let file = canary.display().to_string();
    let hls = |target: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n")
    };
    let dash = format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
         profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\" type=\"static\" \
         mediaPresentationDuration=\"PT2S\"><Period><AdaptationSet mimeType=\"video/mp4\">\
         <Representation id=\"1\" bandwidth=\"1\"><BaseURL>{url}</BaseURL><SegmentBase/>\
         </Representation></AdaptationSet></Period></MPD>"
    );
    let sdp = format!(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n\
         a=rtpmap:96 H264/90000\n"
    );
    let traps = [
        ("hls-file", hls(&format!("file://{file}"))),
        ("hls-relative", hls("canary.ts")),
        ("hls-http", hls(&url)),
        ("dash", dash),
        ("sdp", sdp),
        ("concat", format!("ffconcat version 1.0\nfile '{file}'\n")),
        ("concat-relative", "ffconcat version 1.0\nfile 'canary.ts'\n".into()),
        ("rtsp", format!("RTSPtextRTSP://127.0.0.1:{port}/x")),
        ("svg", format!("<svg><image href=\"{url}\"/></svg>")),
    ];
    let started = Instant::now();
    for (name, text) in traps {
        let trap = clips.write(&format!("{name}.mp4"), text.as_bytes());
        let said = transcode(&trap);
        let (cause, detail) = said.failed.expect(name);
        assert_eq!(cause, FailureCause::UnsupportedFormat, "{name}: {detail}");
        assert!(said.facts.is_none() && said.renditions.is_empty(), "{name} was read");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "something waited");
    let nobody = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(nobody, Err(io::ErrorKind::WouldBlock));
}

/// A playlist behind bytes that are no text passes the sniffer; libav's lists must hold on their own.
#[test]
fn a_disguised_playlist_is_refused_by_the_lists_too() {
    let clips = Clips::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let playlist =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:{port}/x.ts\n");
    let mut bytes = playlist.into_bytes();
    bytes.extend([0, 1, 2, 3]);
    refused(&clips.write("disguised.mp4", &bytes), FailureCause::UnsupportedFormat);
    assert!(listener.accept().is_err());
}

#[test]
fn the_limits_name_their_numbers() {
    let clips = Clips::new();
    let clip = clips.make(
        "clip.mkv",
        &format!("-f lavfi -i testsrc2=640x480:r=25:d=3 -f lavfi -i sine=d=3 -f lavfi -i sine=d=3 -map 0 -map 1 -map 2 {VIDEO} -c:a aac"),
    );
    let limits = Limits::default();
    for (limits, number) in [
        (Limits { max_duration_ms: 2_000, ..limits.clone() }, "2 s"),
        (Limits { max_height: 400, max_width: 600, ..limits.clone() }, "600×400"),
        (Limits { max_streams: 2, ..limits.clone() }, "2 "),
    ] {
        let (cause, detail) = run_within(&clip, Task::Transcode, limits).failed.expect(number);
        assert_eq!(cause, FailureCause::LimitExceeded, "{detail}");
        assert!(detail.contains(number), "{detail}");
    }
}

/// A time stamp that jumps by an hour must not become an hour of filling.
#[test]
fn a_damaged_clock_does_not_become_hours_of_output() {
    let clips = Clips::new();
    let options =
        format!("-f lavfi -i testsrc2=320x240:r=25:d=2 -f lavfi -i sine=d=2 {VIDEO} -c:a aac");
    let first = clips.make("first.ts", &options);
    let second = clips.make("second.ts", &format!("{options} -output_ts_offset 3600"));
    let both = [std::fs::read(first).unwrap(), std::fs::read(second).unwrap()].concat();
    let said = transcode(&clips.write("both.ts", &both));
    assert_eq!(said.failed, None);
    let duration_ms = said.done.unwrap().duration_ms;
    assert!((3_500..5_000).contains(&duration_ms), "{duration_ms}");
}

#[test]
fn a_request_that_cannot_be_read_is_answered() {
    let mut stdout = Vec::new();
    child::run(Cursor::new([0xff; 64]), &mut stdout).unwrap();
    assert!(String::from_utf8_lossy(&stdout).contains("internal"));
    let mut nothing = Vec::new();
    child::run(Cursor::new([0; 0]), &mut nothing).unwrap();
    assert!(nothing.is_empty());
}

/// As large as it says; readable in its first half.
struct HalfReadable(Vec<u8>);

impl Input for HalfReadable {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&mut self, offset: u64, length: u32) -> Result<Bytes, InputError> {
        if offset + u64::from(length) > self.size_bytes() / 2 {
            return Err(InputError::Away("on purpose".into()));
        }
        self.0.read(offset, length).await
    }
}

#[test]
fn a_source_that_fails_under_way_is_no_shorter_file() {
    let clips = Clips::new();
    let recipe = "-f lavfi -i testsrc2=320x180:r=25:d=4 -f lavfi -i anoisesrc=d=4 -ac 2";
    for (name, codecs) in [
        ("clip.mkv", "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a pcm_s16le"),
        ("clip.ts", "-c:v mpeg2video -b:v 4M -c:a mp2"),
        ("clip.mp4", "-c:v libx264 -pix_fmt yuv420p -c:a aac -b:a 320k -movflags +faststart"),
        ("clip.avi", "-c:v mjpeg -c:a pcm_s16le"),
    ] {
        let clip = std::fs::read(clips.make(name, &format!("{recipe} {codecs}"))).unwrap();
        for task in [Task::Transcode, Task::ExtractAudio] {
            let said = run_input(HalfReadable(clip.clone()), task, Limits::default());
            let (cause, detail) = said.failed.expect("a failure");
            assert_eq!(cause, FailureCause::Internal, "{name}: {detail}");
            assert!(detail.contains("read the source"), "{name}: {detail}");
        }
    }
}

/// Takes a few messages, then is gone.
struct ShortPipe(usize);

impl Write for ShortPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_parent_that_is_gone_ends_the_child_wherever_it_is() {
    let clips = Clips::new();
    let clip = clips.make(
        "clip.mp4",
        &format!("-f lavfi -i testsrc2=1280x720:r=25:d=4 -f lavfi -i sine=d=4 {VIDEO} -c:a aac"),
    );
    for room in [0, 600, 3_000, 50_000, 3_000_000] {
        let request = Request { limits: Limits::default(), task: Task::Transcode };
        let parent = parent(&request, std::fs::read(&clip).unwrap());
        let ended = child::run(parent, &mut ShortPipe(room));
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe, "{room}");
    }
}
