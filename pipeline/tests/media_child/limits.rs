//! The limits while work goes on: what a file hides from its header is found when it is decoded.

use pipeline::media::protocol::{Limits, RenditionKind, Task};
use pipeline::video::FailureCause;

use crate::clips::{Clips, Said, TONE, X264, run_within, transcode};

const VIDEO: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";

#[track_caller]
fn over_a_limit(said: &Said, number: &str) {
    let (cause, detail) = said.failed.as_ref().expect("a refusal");
    assert_eq!(*cause, FailureCause::LimitExceeded, "{detail}");
    assert!(detail.contains(number), "{detail}");
}

/// A live recording does not say how long it is.
#[test]
fn a_length_that_nobody_declared_is_found_while_decoding() {
    let clips = Clips::new();
    let clip = clips.make(
        "live.mkv",
        &format!("-f lavfi -i testsrc2=160x120:r=25:d=6 {TONE} {X264} -f matroska -live 1"),
    );
    let limits = Limits { max_duration_ms: 3_000, ..Limits::default() };
    for task in [
        Task::Transcode,
        Task::ExtractAudio,
        Task::SampleFrames { per_second: 1.0, width: 32, height: 32 },
    ] {
        let said = run_within(&clip, task, limits.clone());
        assert_eq!(said.facts.as_ref().map(|facts| facts.duration_ms), Some(0));
        over_a_limit(&said, "3 s");
    }
    assert_eq!(transcode(&clip).failed, None);
}

#[test]
fn the_work_in_a_file_is_bounded_by_its_header_and_by_its_pictures() {
    let clips = Clips::new();
    let limits = Limits { max_decoded_pixels: 5_000_000, ..Limits::default() };
    // 320 × 240 × 100 are 7.7 million.
    let source = "-f lavfi -i testsrc2=320x240:r=25:d=4";
    let declared = clips.make("clip.mp4", &format!("{source} {VIDEO}"));
    let said = run_within(&declared, Task::Transcode, limits.clone());
    over_a_limit(&said, "billion");
    assert!(said.facts.is_none(), "before anything is decoded");
    let silent = clips.make("live.mkv", &format!("{source} {VIDEO} -f matroska -live 1"));
    let said = run_within(&silent, Task::Transcode, limits);
    over_a_limit(&said, "billion");
    assert!(said.facts.is_some(), "while it is decoded");
}

#[test]
fn what_is_made_of_a_file_is_bounded() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=640x480:r=25:d=8 {VIDEO}"));
    let whole = transcode(&clip);
    assert_eq!(whole.failed, None);
    let limits = Limits { max_output_bytes: 1_300_000, ..Limits::default() };
    let said = run_within(&clip, Task::Transcode, limits);
    over_a_limit(&said, "1 MiB");
}

#[test]
fn a_thousand_pictures_per_second_become_thirty_and_more_are_refused() {
    let clips = Clips::new();
    let source = |rate: u32| format!("-f lavfi -i testsrc2=160x120:r={rate}:d=1 {VIDEO}");
    let said = transcode(&clips.make("fast.mp4", &source(1_000)));
    assert_eq!(said.failed, None);
    let RenditionKind::Video { frame_rate, .. } = said.renditions["480p"].kind else { panic!() };
    assert!((frame_rate - 31.25).abs() < 0.01, "{frame_rate}");
    over_a_limit(&transcode(&clips.make("faster.mp4", &source(2_000))), "2000 pictures");
}

#[test]
fn the_rate_of_the_renditions_is_a_limit_too() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=160x120:r=50:d=2 {VIDEO}"));
    let limits = Limits { max_frame_rate: 30, ..Limits::default() };
    let said = run_within(&clip, Task::Transcode, limits);
    assert_eq!(said.failed, None);
    let file = said.renditions["480p"].file(&clips, "out");
    assert_eq!(crate::clips::probe_packets(&file).len(), 50);
}

/// Neither the sniffer nor a decoder asks for the time: reading does.
#[test]
fn a_child_ends_itself_at_its_deadline() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=160x120:r=25:d=2 {VIDEO}"));
    let limits = Limits { max_run_ms: 0, ..Limits::default() };
    let (cause, detail) = run_within(&clip, Task::Transcode, limits).failed.expect("a refusal");
    assert_eq!(cause, FailureCause::DeadlineExceeded, "{detail}");
}

/// More pixels than one picture may have, in the stream and not in the header: the probe itself must not decode it.
#[test]
fn a_picture_over_the_limit_is_refused_whatever_the_header_says() {
    let clips = Clips::new();
    let clip = clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=640x480:r=25:d=1 {VIDEO}"));
    let mut bytes = std::fs::read(&clip).unwrap();
    let entry = bytes.windows(4).rposition(|w| w == b"avc1").unwrap();
    // Width and height of the sample entry.
    bytes[entry + 28..entry + 32].copy_from_slice(&[0, 64, 0, 48]);
    let limits = Limits { max_width: 320, max_height: 240, ..Limits::default() };
    let said = run_within(&clips.write("small.mp4", &bytes), Task::Transcode, limits);
    let (cause, detail) = said.failed.expect("a refusal");
    assert_eq!(cause, FailureCause::LimitExceeded, "{detail}");
    assert!(said.renditions.is_empty());
}

/// The size grows in the middle, where no header is read any more.
#[test]
fn pictures_that_grow_over_the_limit_end_the_work() {
    let clips = Clips::new();
    let part = |name: &str, size: &str| {
        let path = clips.make(name, &format!("-f lavfi -i testsrc2={size}:r=25:d=2 {VIDEO}"));
        std::fs::read(path).unwrap()
    };
    let both = [part("small.ts", "160x120"), part("large.ts", "640x480")].concat();
    let limits = Limits { max_width: 320, max_height: 240, ..Limits::default() };
    let said = run_within(&clips.write("both.ts", &both), Task::Transcode, limits);
    let (cause, detail) = said.failed.expect("a refusal");
    assert_eq!(cause, FailureCause::LimitExceeded, "{detail}");
    for (name, rendition) in &said.renditions {
        assert_eq!(rendition.size(), Some((160, 120)), "{name}");
    }
}

/// Streams that only appear later are neither decoded nor a way around the count.
#[test]
fn streams_that_appear_later_are_left_alone() {
    let clips = Clips::new();
    let first = clips.make(
        "first.ts",
        &format!("-f lavfi -i testsrc2=160x120:r=25:d=6 {VIDEO} -mpegts_flags resend_headers"),
    );
    let second = clips.make(
        "second.ts",
        &format!(
            "-f lavfi -i testsrc2=160x120:r=25:d=2 -f lavfi -i sine=d=2 -f lavfi -i sine=d=2 -map 0 -map 1 -map 2 {VIDEO} -c:a aac -output_ts_offset 6"
        ),
    );
    let both = [std::fs::read(first).unwrap(), std::fs::read(second).unwrap()].concat();
    let said = transcode(&clips.write("both.ts", &both));
    assert_eq!(said.failed, None);
    let video_ms = said.renditions["480p"].duration_us() / 1000;
    assert!((7_500..8_600).contains(&video_ms), "{video_ms}");
}
