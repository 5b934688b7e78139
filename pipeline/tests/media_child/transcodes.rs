//! Transcodes of clips of every shape that people upload.

use crate::clips::{
    Clips, Probed, Rendition, Said, TONE, X264, probe_packets, probe_stream, run, transcode,
};
use pipeline::media::protocol::{RenditionKind, Task};

/// What holds for every transcode that ends well, checked by ffprobe on what came out.
fn check_outputs(clips: &Clips, said: &Said) {
    assert_eq!(said.failed, None);
    let done = said.done.as_ref().unwrap();
    let video: Vec<(&String, &Rendition)> =
        said.renditions.iter().filter(|(_, r)| r.size().is_some()).collect();
    for (name, rendition) in &said.renditions {
        check_rendition(clips, name, rendition);
    }
    for (name, rendition) in &video {
        assert_eq!(rendition.starts_us(), video[0].1.starts_us(), "cuts of {name}");
        assert!(rendition.starts_us()[0] == 0);
        for segment in &rendition.segments {
            assert!(segment.duration_us < 4_500_000, "{name}: {} µs", segment.duration_us);
        }
    }
    let longest = said.renditions.values().map(Rendition::duration_us).max().unwrap();
    let declared = i64::try_from(done.duration_ms).unwrap() * 1000;
    assert!((longest - declared).abs() <= 50_000, "{longest} µs of {declared}");
    assert_eq!(said.poster.is_some(), !video.is_empty());
    check_common_clock(clips, said);
}

fn check_rendition(clips: &Clips, name: &str, rendition: &Rendition) {
    let file = rendition.file(clips, name);
    let packets = probe_packets(&file);
    assert!(packets.windows(2).all(|p| p[0].dts < p[1].dts), "{name}: dts not rising");
    assert!(packets[0].dts >= 0, "{name}: first dts {}", packets[0].dts);
    let shift = packets.iter().map(|p| p.pts).min().unwrap() - rendition.segments[0].start_us;
    let stream = probe_stream(&file);
    let decoded: usize = stream["nb_read_frames"].as_str().unwrap().parse().unwrap();
    match rendition.kind {
        RenditionKind::Video { width, height, .. } => {
            assert_eq!(decoded, packets.len(), "{name}: frames that decode");
            assert_eq!(stream["codec_name"], "h264");
            assert_eq!(
                (stream["width"].as_u64(), stream["height"].as_u64()),
                (Some(width.into()), Some(height.into()))
            );
            assert_eq!(stream["pix_fmt"], "yuv420p");
            assert!(stream["sample_aspect_ratio"] == "1:1");
            let level = stream["level"].as_u64().unwrap();
            assert_eq!(rendition.codecs, format!("avc1.6400{level:02x}"), "{name}");
            let cuts: Vec<i64> = rendition.starts_us().iter().map(|at| at + shift).collect();
            let keys: Vec<&Probed> = packets.iter().filter(|p| p.key).collect();
            for cut in &cuts {
                assert!(
                    keys.iter().any(|key| (key.pts - cut).abs() <= 12),
                    "{name}: no key at {cut}"
                );
            }
        }
        RenditionKind::Audio { channels, sample_rate } => {
            assert_eq!(stream["codec_name"], "aac");
            assert_eq!(stream["channels"], channels);
            assert_eq!(stream["sample_rate"], sample_rate.to_string());
            assert_eq!(rendition.codecs, "mp4a.40.2");
        }
    }
    let shown = sorted_pts(&packets);
    let last = packets.iter().max_by_key(|p| p.pts).unwrap();
    // ffprobe knows no duration where all samples share one.
    let duration = match (last.duration, shown.as_slice()) {
        (0, [.., before, last]) => last - before,
        (known, _) => known,
    };
    let end = last.pts + duration - shift - rendition.segments[0].start_us;
    assert!((end - rendition.duration_us()).abs() <= 45_000, "{name}: {end} against the segments");
    assert!(packets.iter().all(|p| p.pts >= p.dts), "{name}: pts before dts");
}

/// All renditions are shifted by the same constant: time zero of the source is the same moment in each.
fn check_common_clock(clips: &Clips, said: &Said) {
    let shifts: Vec<i64> = said
        .renditions
        .iter()
        .map(|(name, rendition)| {
            let packets = probe_packets(&rendition.file(clips, name));
            packets.iter().map(|p| p.pts).min().unwrap() - rendition.segments[0].start_us
        })
        .collect();
    assert!(shifts.iter().all(|shift| (shift - shifts[0]).abs() <= 30), "{shifts:?}");
}

fn names(said: &Said) -> Vec<&str> {
    said.renditions.keys().map(String::as_str).collect()
}

fn size(said: &Said, name: &str) -> (u32, u32) {
    said.renditions[name].size().unwrap()
}

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
fn a_turned_portrait_clip_is_upright_in_every_rendition() {
    let clips = Clips::new();
    let flat =
        clips.make("flat.mp4", &format!("-f lavfi -i testsrc2=1280x720:r=30:d=3 {TONE} {X264}"));
    let turned = clips
        .make("turned.mp4", &format!("-i {} -c copy -metadata:s:v:0 rotate=270", flat.display()));
    let said = transcode(&turned);
    check_outputs(&clips, &said);
    assert_eq!(names(&said), ["480p", "720p", "audio"]);
    assert_eq!(size(&said, "720p"), (720, 1280));
    assert_eq!(size(&said, "480p"), (480, 854));
    let video = said.done.unwrap().video.unwrap();
    assert_eq!((video.width, video.height, video.rotation), (720, 1280, 90));
}

/// Red in the top left corner of what is stored must be where the turn puts it. The option counts counter-clockwise.
#[test]
fn the_turn_goes_the_right_way() {
    let clips = Clips::new();
    let flat = clips.make(
        "flat.mp4",
        "-f lavfi -i color=gray:s=320x240:r=10:d=1,drawbox=0:0:80:60:red:fill -c:v libx264 -pix_fmt yuv420p",
    );
    for (rotate, corner) in [(0, (0, 0)), (270, (1, 0)), (180, (1, 1)), (90, (0, 1))] {
        let turned = clips.make(
            "turned.mp4",
            &format!("-i {} -c copy -metadata:s:v:0 rotate={rotate}", flat.display()),
        );
        let (width, height, rgb) = transcode(&turned).poster.unwrap();
        let at = |right: u32, bottom: u32| {
            let x = if right == 1 { width - 10 } else { 10 };
            let y = if bottom == 1 { height - 10 } else { 10 };
            let offset = ((y * width + x) * 3) as usize;
            rgb[offset] > 180 && rgb[offset + 1] < 80
        };
        let red: Vec<(u32, u32)> = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .into_iter()
            .filter(|&(right, bottom)| at(right, bottom))
            .collect();
        assert_eq!(red, [corner], "turned by {rotate}");
    }
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
fn variable_frame_times_are_kept_and_long_gaps_filled() {
    let clips = Clips::new();
    let clip = clips.make(
        "vfr.mp4",
        "-f lavfi -i testsrc2=1280x720:r=30:d=9 -vf select='lt(mod(n,60),20)+eq(mod(n,60),33)' -fps_mode vfr -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let source: Vec<i64> = sorted_pts(&probe_packets(&clip));
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let rendition = &said.renditions["480p"];
    let packets = probe_packets(&rendition.file(&clips, "480p"));
    let shown = sorted_pts(&packets);
    let from_zero = |times: &[i64]| times.iter().map(|at| at - times[0]).collect::<Vec<_>>();
    let (source, shown) = (from_zero(&source), from_zero(&shown));
    for at in &source {
        assert!(shown.iter().any(|s| (s - at).abs() < 100), "{at} is not shown");
    }
    assert!(shown.windows(2).all(|pair| pair[1] - pair[0] <= 500_100));
}

fn sorted_pts(packets: &[Probed]) -> Vec<i64> {
    let mut times: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
    times.sort_unstable();
    times
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
fn ten_bit_hevc_becomes_eight_bit_h264() {
    let clips = Clips::new();
    let clip = clips.make(
        "ten.mp4",
        "-f lavfi -i testsrc2=640x480:r=24:d=3 -c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p10le -tag:v hvc1 -color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(said.done.unwrap().video.unwrap().pixel_format, "yuv420p10le");
}

#[test]
fn vp9_with_opus_in_webm_is_taken() {
    let clips = Clips::new();
    let clip = clips.make(
        "clip.webm",
        &format!("-f lavfi -i testsrc2=640x480:r=25:d=3 {TONE} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus -shortest"),
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(names(&said), ["480p", "audio"]);
    let done = said.done.unwrap();
    assert_eq!(
        (done.video.unwrap().codec, done.audio.unwrap().codec),
        ("vp9".into(), "opus".into())
    );
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
fn a_clip_without_sound_has_no_sound_rendition() {
    let clips = Clips::new();
    let clip = clips.make(
        "mute.mp4",
        "-f lavfi -i testsrc2=640x480:r=25:d=3 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    assert_eq!(names(&said), ["480p"]);
    assert_eq!(said.done.unwrap().audio, None);
}

#[test]
fn sound_alone_and_sound_with_a_cover_become_one_sound_rendition() {
    let clips = Clips::new();
    let cover = clips.make("cover.png", "-f lavfi -i testsrc2=64x64 -frames:v 1");
    let sounds = [
        clips.make("sound.m4a", "-f lavfi -i sine=440:d=9 -ac 1 -c:a aac"),
        clips.make("sound.wav", "-f lavfi -i sine=440:r=22050:d=9 -ac 2"),
        clips.make("surround.wav", "-f lavfi -i sine=440:d=9 -ac 6"),
        clips.make(
            "cover.mp3",
            &format!(
                "-f lavfi -i sine=440:d=9 -i {} -map 0 -map 1 -ac 2 -c:a libmp3lame -c:v png -disposition:v attached_pic",
                cover.display()
            ),
        ),
    ];
    for sound in sounds {
        let said = transcode(&sound);
        check_outputs(&clips, &said);
        assert_eq!(names(&said), ["audio"], "{}", sound.display());
        assert_eq!(said.renditions["audio"].segments.len(), 4);
        let channels = if sound.ends_with("sound.m4a") { 1 } else { 2 };
        assert!(matches!(
            said.renditions["audio"].kind,
            RenditionKind::Audio { channels: found, sample_rate: 48_000 } if found == channels
        ));
    }
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

/// White must stay white on the way down: a full range squeezed at every rung would be grey at the last.
#[test]
fn full_range_pictures_are_squeezed_once() {
    let clips = Clips::new();
    let clip = clips.make(
        "full.mp4",
        "-f lavfi -i color=white:s=1280x720:r=10:d=1,scale=out_range=pc,format=yuvj420p -c:v libx264 -preset ultrafast",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    for name in ["720p", "480p"] {
        let luma = first_luma(&said.renditions[name].file(&clips, name));
        assert!((233..=236).contains(&luma), "{name}: {luma}");
    }
    assert!(said.poster.unwrap().2[0] > 250);
}

fn first_luma(path: &std::path::Path) -> u8 {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .unwrap();
    output.stdout[5000]
}

#[test]
fn the_poster_is_not_the_black_beginning() {
    let clips = Clips::new();
    let fade = clips.make(
        "fade.mp4",
        "-f lavfi -i testsrc2=640x480:r=25:d=3,fade=in:0:40 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let mean = |rgb: &[u8]| rgb.iter().map(|b| u64::from(*b)).sum::<u64>() / rgb.len() as u64;
    assert!(mean(&transcode(&fade).poster.unwrap().2) > 10);
    let black = clips.make(
        "black.mp4",
        "-f lavfi -i color=black:s=640x480:r=25:d=4 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    assert!(mean(&transcode(&black).poster.unwrap().2) < 3);
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

#[test]
fn a_trimmed_clip_shows_what_its_edit_list_shows() {
    let clips = Clips::new();
    let whole = clips
        .make("whole.mp4", &format!("-f lavfi -i testsrc2=320x240:r=25:d=9 {TONE} -g 100 {X264}"));
    let trimmed =
        clips.make("trimmed.mp4", &format!("-ss 2.2 -i {} -t 4 -c copy", whole.display()));
    let said = transcode(&trimmed);
    check_outputs(&clips, &said);
    let duration_ms = said.done.unwrap().duration_ms;
    assert!(duration_ms.abs_diff(4000) < 150, "{duration_ms}");
}
