//! The other tasks of the child: sound for recognition, pictures on a grid, the check of a segment.

use pipeline::media::protocol::Task;

use crate::clips::{Clips, TONE, X264, run, transcode};

#[test]
fn the_16_khz_sound_is_whole_and_in_chunks_of_a_second() {
    let clips = Clips::new();
    let clip =
        clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=320x240:r=25:d=4 {TONE} {X264}"));
    let said = run(&clip, Task::ExtractAudio);
    assert_eq!(said.failed, None);
    let samples: usize = said.pcm.iter().map(|(_, samples)| samples.len()).sum();
    assert!(samples.abs_diff(4 * 16_000) < 1_000, "{samples}");
    assert!(said.pcm[0].0.abs() < 1_000);
    for pair in said.pcm.windows(2) {
        assert_eq!(pair[0].1.len(), 16_000);
        assert!((pair[1].0 - pair[0].0 - 1_000_000).abs() <= 1);
    }
    let second = &said.pcm[1].1;
    let crossings = second.windows(2).filter(|s| (s[0] < 0) != (s[1] < 0)).count();
    assert!(crossings.abs_diff(880) < 10, "a tone of 440 Hz crosses zero 880 times: {crossings}");
}

#[test]
fn a_clip_without_sound_gives_no_samples_and_no_failure() {
    let clips = Clips::new();
    let clip = clips.make(
        "mute.mp4",
        "-f lavfi -i testsrc2=320x240:r=25:d=1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = run(&clip, Task::ExtractAudio);
    assert_eq!((said.failed, said.pcm.len()), (None, 0));
    assert_eq!(said.done.unwrap().audio, None);
}

#[test]
fn sampled_frames_stand_on_the_grid_and_show_that_moment() {
    let clips = Clips::new();
    let clip = clips.make(
        "grey.mp4",
        "-f lavfi -i color=black:s=320x240:r=25:d=4,geq=lum='16+50*floor(T)':cb=128:cr=128 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = run(&clip, Task::SampleFrames { per_second: 2.0, width: 32, height: 24 });
    assert_eq!(said.failed, None);
    let times: Vec<i64> = said.frames.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, (0..8).map(|n| n * 500_000).collect::<Vec<i64>>());
    for (time, rgb) in &said.frames {
        let expected = (time / 1_000_000) * 58;
        let found = i64::from(rgb[32 * 12 * 3]);
        assert!((found - expected).abs() < 12, "{found} at {time}, not {expected}");
    }
}

#[test]
fn every_segment_of_a_transcode_decodes_on_its_own() {
    let clips = Clips::new();
    let clip =
        clips.make("clip.mp4", &format!("-f lavfi -i testsrc2=640x480:r=25:d=5 {TONE} {X264}"));
    let said = transcode(&clip);
    let mut pictures = 0;
    for (name, rendition) in &said.renditions {
        let mut shifts = Vec::new();
        for segment in &rendition.segments {
            let alone = [rendition.init.clone(), segment.bytes.clone()].concat();
            let checked = run(&clips.write("alone.mp4", &alone), Task::CheckSegment);
            assert_eq!(checked.failed, None, "{name}");
            let (frames, start_us, duration_us) = checked.checked.unwrap();
            shifts.push(start_us - segment.start_us);
            assert!((duration_us - segment.duration_us).abs() <= 45_000, "{name}: {duration_us}");
            pictures += if name == "480p" { frames } else { 0 };
        }
        assert!(shifts.windows(2).all(|s| (s[0] - s[1]).abs() <= 25), "{name}: {shifts:?}");
    }
    assert_eq!(pictures, 125);
}

#[test]
fn a_damaged_segment_does_not_pass_the_check() {
    let clips = Clips::new();
    let clip = clips.make(
        "clip.mp4",
        "-f lavfi -i testsrc2=640x480:r=25:d=2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = transcode(&clip);
    let rendition = &said.renditions["480p"];
    let whole = [rendition.init.clone(), rendition.segments[0].bytes.clone()].concat();
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle..middle + 4000].fill(0xff);
    let short = whole[..whole.len() - 5000].to_vec();
    for (name, bytes) in [("damaged", damaged), ("short", short), ("init", rendition.init.clone())]
    {
        let checked = run(&clips.write("alone.mp4", &bytes), Task::CheckSegment);
        assert!(checked.failed.is_some(), "{name}");
    }
}

/// One picture in, one out: the deinterlacer would want the next one first.
#[test]
fn interlaced_and_hdr_sources_can_be_sampled_too() {
    let clips = Clips::new();
    let woven = clips.make(
        "woven.ts",
        "-f lavfi -i testsrc2=352x288:r=50:d=2,interlace -c:v mpeg2video -flags +ilme+ildct -b:v 4M",
    );
    let hdr = clips.make(
        "hdr.mp4",
        "-f lavfi -i color=black:s=320x240:r=10:d=2,format=yuv420p10le,geq=lum=573:cb=512:cr=512 -c:v libx265 \
         -preset ultrafast -x265-params log-level=none -color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc",
    );
    let task = Task::SampleFrames { per_second: 2.0, width: 96, height: 54 };
    for (clip, white) in [(woven, None), (hdr, Some(183..=205))] {
        let said = run(&clip, task.clone());
        assert_eq!(said.failed, None, "{}", clip.display());
        assert_eq!(said.frames.len(), 4, "{}", clip.display());
        let middle = said.frames[1].1[(27 * 96 + 48) * 3];
        assert!(white.is_none_or(|range| range.contains(&middle)), "{middle}");
    }
}
