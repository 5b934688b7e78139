//! Every picture codec that is accepted, in every container in which people have it: each ends well, with all its
//! pictures and all its sound.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::checks::{check_outputs, names, size};
use crate::clips::{Clips, Rendition, probe_stream, transcode};

/// Each is made once and then only copied. With B-frames where the codec has them.
const PICTURES: [(&str, &str); 9] = [
    ("h264", "-c:v libx264 -preset veryfast -bf 2 -pix_fmt yuv420p"),
    ("hevc", "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=2"),
    ("vp8", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k"),
    ("vp9", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 500k"),
    ("av1", "-c:v libsvtav1 -preset 12"),
    ("mpeg4", "-c:v mpeg4 -bf 2 -qscale 4"),
    ("mpeg2video", "-c:v mpeg2video -bf 2 -qscale 4"),
    ("mjpeg", "-c:v mjpeg -qscale 4 -pix_fmt yuvj420p"),
    ("prores", "-c:v prores_ks -profile:v 0"),
];

struct Container {
    name: &'static str,
    sound: &'static str,
    options: &'static str,
    pictures: &'static [&'static str],
}

const CONTAINERS: [Container; 11] = [
    Container {
        name: "plain.mp4",
        sound: "aac",
        options: "",
        pictures: &["h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg"],
    },
    Container {
        name: "fragmented.mp4",
        sound: "aac",
        options: "-movflags frag_keyframe+delay_moov+default_base_moof",
        pictures: &["h264", "hevc", "vp9", "av1"],
    },
    Container {
        name: "quicktime.mov",
        sound: "pcm_s16le",
        options: "",
        pictures: &["h264", "hevc", "mpeg4", "mjpeg", "prores"],
    },
    Container {
        name: "matroska.mkv",
        sound: "flac",
        options: "",
        pictures: &["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores"],
    },
    Container { name: "web.webm", sound: "libopus", options: "", pictures: &["vp8", "vp9", "av1"] },
    Container {
        name: "transport.ts",
        sound: "ac3",
        options: "",
        pictures: &["h264", "hevc", "mpeg2video"],
    },
    Container {
        name: "old.avi",
        sound: "libmp3lame",
        options: "",
        pictures: &["mpeg4", "mpeg2video", "mjpeg"],
    },
    Container {
        name: "annexb.avi",
        sound: "pcm_s16le",
        options: "-bsf:v h264_mp4toannexb",
        pictures: &["h264"],
    },
    Container { name: "flash.flv", sound: "aac", options: "", pictures: &["h264"] },
    Container { name: "free.ogv", sound: "libvorbis", options: "", pictures: &["vp8"] },
    Container { name: "disc.vob", sound: "ac3", options: "", pictures: &["mpeg2video"] },
];

const PICTURE_COUNT: usize = 60;
const LASTS_US: i64 = 2_400_000;
/// A frame of sound, and what a codec pads its last one with.
const SOUND_SLACK_US: i64 = 60_000;

#[test]
fn every_accepted_codec_in_every_container_ends_with_all_its_pictures_and_sound() {
    let clips = Clips::new();
    clips.make("sound.wav", "-f lavfi -i sine=440:r=48000:d=2.4 -ac 2");
    on_two_cores(PICTURES.to_vec(), |(codec, encoder)| {
        let source = "-f lavfi -i testsrc2=160x90:r=25:d=2.4";
        clips.make(&format!("{codec}.mkv"), &format!("{source} {encoder}"));
    });
    let cases = CONTAINERS.iter().flat_map(|c| c.pictures.iter().map(move |codec| (c, *codec)));
    on_two_cores(cases.collect(), |(container, codec)| check_case(&clips, container, codec));
}

fn check_case(clips: &Clips, container: &Container, codec: &str) {
    let name = format!("{codec}-{}", container.name);
    let Container { sound, options, .. } = container;
    let file = clips.make(
        &name,
        &format!("-i {codec}.mkv -i sound.wav -map 0:v -map 1:a -c:v copy -c:a {sound} -b:a 96k {options}"),
    );
    let said = transcode(&file);
    assert_eq!(said.failed, None, "{name}");
    // The renditions of one case must not overwrite those of another.
    let mine = Clips::new();
    check_outputs(&mine, &said);
    assert_eq!(names(&said), ["480p", "audio"], "{name}");
    assert_eq!(size(&said, "480p"), (160, 90), "{name}");
    let pictures = &said.renditions["480p"];
    let stream = probe_stream(&pictures.file(&mine, "480p"));
    assert_eq!(stream["nb_read_frames"], PICTURE_COUNT.to_string(), "{name}");
    let close = |rendition: &Rendition, slack_us| {
        let found = rendition.duration_us();
        assert!((found - LASTS_US).abs() <= slack_us, "{name}: {found} µs");
    };
    close(pictures, 40_000);
    close(&said.renditions["audio"], SOUND_SLACK_US);
    assert_eq!(pictures.segments.len(), 2, "{name}");
    assert!((pictures.segments[0].duration_us - 2_000_000).abs() <= 40_000, "{name}");
    let done = said.done.unwrap();
    assert_eq!(done.video.unwrap().codec, codec, "{name}");
    assert!(done.audio.is_some(), "{name}");
}

/// Runs all, two at a time, and fails at the end if any did.
fn on_two_cores<T: Send>(work: Vec<T>, run: impl Fn(T) + Sync) {
    let work = Mutex::new(work.into_iter());
    let next = || work.lock().unwrap().next();
    let failed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = next() {
                    let ended = catch_unwind(AssertUnwindSafe(|| run(item)));
                    failed.fetch_add(usize::from(ended.is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "each has said above what is wrong with it");
}
