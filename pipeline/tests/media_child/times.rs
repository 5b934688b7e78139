//! When pictures are shown: late starts, gaps, clocks that start again, edit lists, variable frame times, interlacing.

use crate::checks::{check_outputs, sorted_pts};
use crate::clips::{Clips, TONE, X264, probe_packets, run, transcode};
use crate::decoded::decode;
use pipeline::media::protocol::{RenditionKind, Task};

/// One tick of the video clock in microseconds, rounded up.
const TICK_US: i64 = 12;

#[test]
fn variable_frame_times_are_kept_and_long_gaps_filled() {
    let clips = Clips::new();
    let clip = clips.make(
        "vfr.mp4",
        "-f lavfi -i testsrc2=1280x720:r=30:d=9 -vf select='lt(mod(n,60),20)+eq(mod(n,60),33)' -fps_mode vfr -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let source: Vec<i64> = sorted_pts(&probe_packets(&clip));
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    for rung in ["720p", "480p"] {
        let shown = sorted_pts(&probe_packets(&said.renditions[rung].file(&clips, rung)));
        let from_zero = |times: &[i64]| times.iter().map(|at| at - times[0]).collect::<Vec<_>>();
        let (source, shown) = (from_zero(&source), from_zero(&shown));
        let near = |times: &[i64], at: i64| times.iter().any(|time| (time - at).abs() <= TICK_US);
        for at in &source {
            assert!(near(&shown, *at), "{rung}: {at} is not shown");
        }
        // What is shown beside is the last picture once more, half a second later.
        for pair in shown.windows(2).filter(|pair| !near(&source, pair[1])) {
            assert!((pair[1] - pair[0] - 500_000).abs() <= TICK_US, "{rung}: {pair:?}");
        }
    }
}

#[test]
fn more_than_sixty_frames_per_second_are_halved() {
    let clips = Clips::new();
    let clip = clips.make(
        "fast.mp4",
        "-f lavfi -i testsrc2=640x480:r=120:d=2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let packets = probe_packets(&said.renditions["480p"].file(&clips, "480p"));
    assert_eq!(packets.len(), 120);
    assert!(matches!(
        said.renditions["480p"].kind,
        RenditionKind::Video { frame_rate, .. } if (frame_rate - 60.0).abs() < 0.01
    ));
}

#[test]
fn transport_streams_with_a_late_start_keep_picture_and_sound_together() {
    let clips = Clips::new();
    let clip = clips.make(
        "late.ts",
        &format!("-f lavfi -i testsrc2=640x480:r=25:d=4 {TONE} {X264} -output_ts_offset 30"),
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert!(said.done.unwrap().duration_ms.abs_diff(4000) < 150);
}

#[test]
fn interlaced_pictures_are_deinterlaced_at_the_same_rate() {
    let clips = Clips::new();
    let clip = clips.make(
        "interlaced.ts",
        "-f lavfi -i testsrc2=720x576:r=50:d=3,interlace -c:v mpeg2video -flags +ilme+ildct -b:v 4M",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let packets = probe_packets(&said.renditions["480p"].file(&clips, "480p"));
    assert!(packets.len().abs_diff(75) <= 1, "{}", packets.len());
}

#[test]
fn one_frame_is_one_segment() {
    let clips = Clips::new();
    let clip = clips.make(
        "one.mp4",
        "-f lavfi -i testsrc2=640x480:r=25 -frames:v 1 -c:v libx264 -pix_fmt yuv420p",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(said.renditions["480p"].segments.len(), 1);
    assert_eq!(said.renditions["480p"].duration_us(), 40_000);
}

#[test]
fn sound_that_begins_late_starts_with_silence() {
    let clips = Clips::new();
    let clip = clips.make(
        "late.mkv",
        &format!("-f lavfi -i testsrc2=640x480:r=25:d=6 -itsoffset 3 {TONE} {X264}"),
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert!(said.renditions["audio"].starts_us()[0] <= 0);
    let pcm = run(&clip, Task::ExtractAudio).pcm;
    assert!((pcm[0].0 - 3_000_000).abs() < 30_000, "{}", pcm[0].0);
}

#[test]
fn fragmented_sources_are_read_to_their_end() {
    let clips = Clips::new();
    let clip = clips.make(
        "fragments.mp4",
        &format!("-f lavfi -i testsrc2=320x240:r=25:d=9 {TONE} -g 50 {X264} -movflags frag_keyframe+empty_moov"),
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert!(said.done.unwrap().duration_ms.abs_diff(9000) < 60);
}

/// What is before the cut is in the file, because the pictures after it need it, and must not be seen. Each picture is a grey
/// of its own, so that the first one says where the video begins.
#[test]
fn a_trimmed_clip_begins_where_its_edit_list_says() {
    let clips = Clips::new();
    for (codec, encoder) in [
        ("h264", "-c:v libx264 -preset ultrafast -bf 2 -g 200"),
        ("hevc", "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=200"),
        ("av1", "-c:v libsvtav1 -preset 12 -g 200"),
        ("mpeg4", "-c:v mpeg4 -qscale 2 -bf 2 -g 200 -sc_threshold 1000000000"),
    ] {
        let whole = clips.make(
            &format!("{codec}.mp4"),
            &format!(
                "-f lavfi -i color=black:s=64x64:r=25:d=4,format=gray,geq=lum='20+2*N',scale=in_range=tv:out_range=tv,format=yuv420p \
                 {TONE} {encoder} -c:a aac -shortest"
            ),
        );
        let trimmed = clips.make("trimmed.mp4", &format!("-ss 2.2 -i {} -c copy", whole.display()));
        assert!(probe_packets(&trimmed).len() > 90, "{codec}: nothing stands before the cut");
        let said = transcode(&trimmed);
        check_outputs(&clips, &said);
        let pictures = decode(&said.renditions["480p"].file(&clips, "480p"));
        let [first, .., last] = pictures.as_slice() else { panic!("{codec}: no pictures") };
        let numbers = [first, last].map(|picture| (picture.mean_luma() - 20.0) / 2.0);
        assert!((numbers[0] - 55.0).abs() < 1.6, "{codec} begins at picture {}", numbers[0]);
        assert!((numbers[1] - 99.0).abs() < 1.6, "{codec} ends at picture {}", numbers[1]);
        assert!(pictures.len().abs_diff(45) <= 1, "{codec}: {} pictures", pictures.len());
    }
}

#[test]
fn a_gap_of_seconds_stays_and_one_of_an_hour_is_closed() {
    let clips = Clips::new();
    for (gap_s, lasts_ms) in [(5, 9_000), (3600, 4_000)] {
        let clip = clips.make(
            "gap.mkv",
            &format!(
                "-f lavfi -i testsrc2=320x240:r=25:d=4,setpts='PTS+gte(T,2)*{gap_s}/TB' -fps_mode passthrough \
                 -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
            ),
        );
        let said = transcode(&clip);
        check_outputs(&clips, &said);
        let found = said.done.as_ref().unwrap().duration_ms;
        assert!(found.abs_diff(lasts_ms) <= 100, "{found} ms with a gap of {gap_s} s");
    }
}

/// Slides: hardly a picture, while somebody speaks all the time. Each must stay with the words that belong to it.
#[test]
fn pictures_far_apart_stay_where_the_sound_is() {
    let clips = Clips::new();
    let clip = clips.make(
        "slides.mp4",
        "-f lavfi -i color=gray:s=320x240:r=1:d=45,select='not(mod(n,15))' -f lavfi -i sine=440:d=45 \
         -fps_mode passthrough -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let found = said.done.as_ref().unwrap().duration_ms;
    assert!(found.abs_diff(45_000) <= 100, "{found} ms");
    let shown = sorted_pts(&probe_packets(&said.renditions["480p"].file(&clips, "480p")));
    for slide_us in [15_000_000, 30_000_000] {
        let near = shown.iter().any(|at| (at - shown[0] - slide_us).abs() <= TICK_US);
        assert!(near, "no picture at {slide_us} µs");
    }
}

#[test]
fn a_clock_that_starts_again_goes_on_where_it_was() {
    let clips = Clips::new();
    let part = |name: &str, offset: u32| {
        let source = "-f lavfi -i testsrc2=320x240:r=25:d=2";
        let arguments = format!("{source} {TONE} {X264} -output_ts_offset {offset}");
        std::fs::read(clips.make(name, &arguments)).unwrap()
    };
    for (name, offsets) in [("back.ts", [7_200, 0]), ("forth.ts", [0, 7_200])] {
        let both = offsets.map(|offset| part("part.ts", offset)).concat();
        let said = transcode(&clips.write(name, &both));
        check_outputs(&clips, &said);
        let pictures = probe_packets(&said.renditions["480p"].file(&clips, "480p")).len();
        assert!(pictures.abs_diff(100) <= 2, "{name}: {pictures} pictures");
        let found = said.done.unwrap().duration_ms;
        assert!(found.abs_diff(4_000) <= 150, "{name}: {found} ms");
    }
}

/// The rows of an interlaced picture belong to two moments. What comes out shows one, and a picture that is not interlaced
/// keeps every row, also in the middle of a stream that is.
#[test]
fn only_interlaced_pictures_are_deinterlaced() {
    let clips = Clips::new();
    let x264 = "-c:v libx264 -preset ultrafast -crf 12 -pix_fmt yuv420p";
    let woven = clips.make(
        "woven.ts",
        &format!("-f lavfi -i testsrc2=352x288:r=50:d=2,interlace {x264} -flags +ildct+ilme -x264opts tff=1"),
    );
    let flat = clips.make(
        "flat.ts",
        &format!(
            "-f lavfi -i color=black:s=352x288:r=25:d=1,format=gray,geq=lum='60+120*mod(Y,2)' {x264} -output_ts_offset 2"
        ),
    );
    let both = [std::fs::read(&woven).unwrap(), std::fs::read(&flat).unwrap()].concat();
    let said = transcode(&clips.write("both.ts", &both));
    check_outputs(&clips, &said);
    let pictures = decode(&said.renditions["480p"].file(&clips, "480p"));
    assert!(pictures.len().abs_diff(75) <= 1, "{}", pictures.len());
    let (stored, shown) = (decode(&woven)[20].combing(), pictures[20].combing());
    assert!(shown < stored * 0.6, "combing of {stored} became {shown}");
    let rows = pictures[pictures.len() - 5].combing();
    assert!(rows > 60.0, "the rows of a progressive picture were mixed: {rows}");
}
