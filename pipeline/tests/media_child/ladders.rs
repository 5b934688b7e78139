//! Which renditions a picture gets, and how large: full HD, portrait, small, odd, pixels that are not square, and sizes
//! that change in the middle.

use crate::checks::{check_outputs, names, size};
use crate::clips::{Clips, TONE, X264, transcode};
use crate::decoded::decode;

#[test]
fn full_hd_becomes_three_aligned_renditions_and_one_of_sound() {
    let clips = Clips::new();
    let clip = clips.make(
        "hd.mp4",
        &format!("-f lavfi -i testsrc2=1920x1080:r=30:d=7 {TONE} -ac 2 -g 250 {X264}"),
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(names(&said), ["1080p", "480p", "720p", "audio"]);
    assert_eq!(size(&said, "480p"), (854, 480));
    assert_eq!(said.renditions["720p"].starts_us(), [0, 2_000_000, 4_000_000]);
    assert_eq!(said.renditions["audio"].segments.len(), 3);
    assert_eq!(said.renditions["1080p"].planned_bits_per_second, 6_600_000);
    let done = said.done.unwrap();
    assert!((done.duration_ms.abs_diff(7000)) <= 34, "{done:?}");
    let video = done.video.unwrap();
    assert_eq!((video.width, video.height, video.rotation), (1920, 1080, 0));
    assert!((video.frame_rate - 30.0).abs() < 0.01);
    assert_eq!(done.audio.unwrap().codec, "aac");
    assert_eq!(said.poster.map(|(w, h, _)| (w, h)), Some((1920, 1080)));
}

#[test]
fn odd_and_small_sizes_become_one_even_rendition() {
    let clips = Clips::new();
    let odd = clips.make(
        "odd.mp4",
        "-f lavfi -i testsrc2=853x481:r=25:d=3 -c:v libx264 -preset ultrafast -pix_fmt yuv444p",
    );
    let said = transcode(&odd);
    check_outputs(&clips, &said);
    assert_eq!((names(&said), size(&said, "480p")), (vec!["480p"], (852, 480)));

    let small =
        clips.make("small.mp4", &format!("-f lavfi -i testsrc2=320x240:r=25:d=5 {TONE} {X264}"));
    let said = transcode(&small);
    check_outputs(&clips, &said);
    assert_eq!((names(&said), size(&said, "480p")), (vec!["480p", "audio"], (320, 240)));
    assert_eq!(said.renditions["480p"].starts_us(), [0, 2_000_000, 4_000_000]);
}

#[test]
fn pixels_that_are_not_square_become_square() {
    let clips = Clips::new();
    let clip = clips.make(
        "anamorphic.mp4",
        "-f lavfi -i testsrc2=720x576:r=25:d=1,setsar=64/45 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(size(&said, "480p"), (854, 480));
    assert_eq!(said.done.unwrap().video.unwrap().width, 1024);
}

#[test]
fn the_smallest_and_oddest_pictures_become_even_and_are_not_stretched_to_anything() {
    let clips = Clips::new();
    for (stored, expected) in
        [((16, 16), (16, 16)), ((17, 31), (18, 32)), ((2, 2), (16, 16)), ((33, 479), (34, 480))]
    {
        let (width, height) = stored;
        let clip = clips.make(
            "odd.mp4",
            &format!("-f lavfi -i testsrc={width}x{height}:r=10:d=0.5 -c:v libx264 -preset ultrafast -pix_fmt yuv444p"),
        );
        let said = transcode(&clip);
        check_outputs(&clips, &said);
        assert_eq!((names(&said), size(&said, "480p")), (vec!["480p"], expected), "{stored:?}");
    }
}

/// As a recording of a call: the sender changes its size. The renditions keep theirs, and nothing is stretched.
#[test]
fn a_size_or_pixel_shape_that_changes_in_the_middle_gets_bars() {
    let clips = Clips::new();
    let part = |name: &str, options: &str| std::fs::read(clips.make(name, options)).unwrap();
    let x264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    let white = "-f lavfi -i color=white:r=25:d=1:s";
    let mpeg2 = "-c:v mpeg2video -qscale 2";
    let sizes = [
        part("small.ts", &format!("{white}=320x240 {x264}")),
        part("wide.ts", &format!("{white}=640x360 {x264} -output_ts_offset 1")),
    ];
    let shapes = [
        part("narrow.ts", &format!("{white}=352x288,setsar=12/11 {mpeg2}")),
        part("broad.ts", &format!("{white}=352x288,setsar=16/11 {mpeg2} -output_ts_offset 1")),
    ];
    for (name, parts, expected) in [("sizes", sizes, (320, 240)), ("shapes", shapes, (384, 288))] {
        let said = transcode(&clips.write(&format!("{name}.ts"), &parts.concat()));
        check_outputs(&clips, &said);
        assert_eq!(size(&said, "480p"), expected, "{name}");
        let pictures = decode(&said.renditions["480p"].file(&clips, "480p"));
        assert!(pictures.len().abs_diff(50) <= 1, "{name}: {}", pictures.len());
        let luma = |picture: usize, y_percent| pictures[picture].at(50, y_percent)[0];
        // The first fills everything, the second a quarter less: an eighth of the height is black on either side.
        for y_percent in [2, 50, 97] {
            assert!(luma(5, y_percent) > 230, "{name}: {y_percent} % of the first");
        }
        let last = pictures.len() - 3;
        let found = [2, 10, 15, 50, 85, 90, 97].map(|y_percent| luma(last, y_percent) > 125);
        assert_eq!(found, [false, false, true, true, true, false, false], "{name}");
    }
}
