//! Small valid files: every container and every codec that is accepted, at least once each.

use crate::clips::clip;

const PICTURE: &str = "-f lavfi -i testsrc2=size=96x64:rate=10:duration=2";
const SOUND: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=2";
const SECONDS: f64 = 2.0;
const X264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10";
const X265: &str = "-c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p";

/// Name with extension; pictures; sound.
const FILES: &[(&str, &str, &str)] = &[
    ("h264-aac.mp4", "X264", "-c:a aac"),
    ("h264-bframes.mp4", "-c:v libx264 -preset veryfast -bf 2 -pix_fmt yuv420p", "-c:a aac"),
    ("fragments.mp4", "X264", "-c:a aac -movflags frag_keyframe+empty_moov"),
    ("hevc-opus.mp4", "X265", "-c:a libopus"),
    ("av1-flac.mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime", "-c:a flac -strict -2"),
    ("prores-pcm.mov", "-c:v prores -pix_fmt yuv422p10le", "-c:a pcm_s16le"),
    ("mjpeg-pcm.mov", "-c:v mjpeg -pix_fmt yuvj420p", "-c:a pcm_s24be"),
    ("vp8-vorbis.webm", "-c:v libvpx -deadline realtime -cpu-used 8", "-c:a libvorbis"),
    ("vp9-opus.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", "-c:a libopus"),
    ("h264-flac.mkv", "X264", "-c:a flac"),
    ("hevc-ac3.mkv", "X265", "-c:a ac3"),
    ("av1-pcm.mkv", "-c:v libaom-av1 -cpu-used 8 -usage realtime", "-c:a pcm_f32le"),
    ("mpeg4-mp3.avi", "-c:v mpeg4", "-c:a libmp3lame"),
    ("mjpeg-pcm.avi", "-c:v mjpeg -pix_fmt yuvj420p", "-c:a pcm_s16le"),
    ("h264-aac.flv", "X264", "-ar 44100 -c:a aac"),
    ("h264-aac.ts", "X264", "-c:a aac"),
    ("hevc-eac3.ts", "X265", "-c:a eac3"),
    ("mpeg2-ac3.ts", "-r 25 -c:v mpeg2video", "-c:a ac3"),
    ("mpeg2-ac3.mpg", "-r 25 -c:v mpeg2video", "-c:a ac3 -f vob"),
    ("mute.mp4", "X264", "-an"),
    ("sound.m4a", "-vn", "-c:a aac"),
    ("sound.mp3", "-vn", "-c:a libmp3lame"),
    ("sound.aac", "-vn", "-c:a aac"),
    ("sound.flac", "-vn", "-c:a flac"),
    ("vorbis.ogg", "-vn", "-c:a libvorbis"),
    ("opus.ogg", "-vn", "-c:a libopus"),
    ("sound.wav", "-vn", "-c:a pcm_s16le"),
    ("surround.wav", "-vn", "-ac 6 -c:a pcm_f32le"),
];

/// One of the small files.
pub(super) struct Seed {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) seconds: f64,
}

/// All of them, made once.
pub(super) fn seeds() -> Vec<Seed> {
    FILES
        .iter()
        .map(|(name, pictures, sound)| {
            let pictures = pictures.replace("X264", X264).replace("X265", X265);
            let recipe = format!("{PICTURE} {SOUND} {pictures} {sound}");
            let path = clip(&format!("seed-{name}"), &recipe);
            let bytes = std::fs::read(&path).expect("a clip");
            Seed { name, bytes, seconds: SECONDS }
        })
        .collect()
}
