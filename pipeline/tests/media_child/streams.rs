//! Which streams of a file are taken: the default, else the first; a cover is no picture, and what is neither picture nor
//! sound is nothing.

use pipeline::media::protocol::RenditionKind;

use crate::checks::{check_outputs, names, size};
use crate::clips::{Clips, transcode};

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
            "cover.m4a",
            &format!(
                "-f lavfi -i sine=440:d=9 -i {} -map 1 -map 0 -ac 2 -c:a aac -c:v mjpeg -disposition:v attached_pic",
                cover.display()
            ),
        ),
        clips.make(
            "cover.flac",
            &format!(
                "-f lavfi -i sine=440:d=9 -i {} -map 0 -map 1 -ac 2 -c:a flac -c:v copy -disposition:v attached_pic",
                cover.display()
            ),
        ),
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
fn the_default_picture_is_taken_and_else_the_first_however_large_another_is() {
    let clips = Clips::new();
    let two = "-f lavfi -i color=black:s=320x240:r=10:d=1 -f lavfi -i color=white:s=640x480:r=10:d=1 \
               -map 0 -map 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    for (name, options, expected) in [
        ("first.mkv", "-disposition:v:0 0 -disposition:v:1 0", (320, 240)),
        ("default.mkv", "-disposition:v:0 0 -disposition:v:1 default", (640, 480)),
        ("both.mkv", "-disposition:v:0 default -disposition:v:1 default", (320, 240)),
        ("default.mp4", "-disposition:v:0 0 -disposition:v:1 default", (640, 480)),
    ] {
        let said = transcode(&clips.make(name, &format!("{two} {options}")));
        check_outputs(&clips, &said);
        assert_eq!(size(&said, "480p"), expected, "{name}");
    }
}

#[test]
fn subtitles_fonts_time_codes_and_covers_beside_a_video_change_nothing() {
    let clips = Clips::new();
    let text = clips.write("text.srt", b"1\n00:00:00,000 --> 00:00:01,000\nwords\n");
    let font = clips.write("font.ttf", &[7; 5_000]);
    let cover = clips.make("cover.jpg", "-f lavfi -i color=red:s=800x800 -frames:v 1");
    let clip = "-f lavfi -i testsrc2=320x240:r=25:d=2 -f lavfi -i sine=440:d=2";
    let (text, font, cover) = (text.display(), font.display(), cover.display());
    for (name, options) in [
        (
            "everything.mkv",
            format!(
                "-i {text} -map 2 -map 0 -map 1 -c:s srt -attach {font} -metadata:s:t:0 mimetype=font/ttf \
                 -attach {cover} -metadata:s:t:1 mimetype=image/jpeg -c:v libx264 -preset ultrafast -c:a libopus"
            ),
        ),
        (
            "camera.mov",
            "-map 0 -map 1 -timecode 10:00:00:00 -c:v libx264 -preset ultrafast -c:a pcm_s24le"
                .into(),
        ),
        (
            "cover.mp4",
            format!(
                "-i {cover} -i {text} -map 2 -map 0 -map 1 -map 3 -c:v:0 mjpeg -c:v:1 libx264 -preset ultrafast \
                 -c:a aac -c:s mov_text -disposition:v:0 attached_pic"
            ),
        ),
    ] {
        let said = transcode(&clips.make(name, &format!("{clip} {options} -pix_fmt yuv420p")));
        check_outputs(&clips, &said);
        assert_eq!(
            (names(&said), size(&said, "480p")),
            (vec!["480p", "audio"], (320, 240)),
            "{name}"
        );
        assert!(said.done.unwrap().duration_ms.abs_diff(2000) <= 50, "{name}");
    }
}

/// A song with one picture: what plays must show it to the end, as every player of files does.
#[test]
fn the_last_picture_stays_while_the_sound_goes_on() {
    let clips = Clips::new();
    let clip = clips.make(
        "song.mp4",
        "-f lavfi -i color=red:s=320x240:r=25:d=0.04 -f lavfi -i sine=440:d=5 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let [pictures, sound] = ["480p", "audio"].map(|name| said.renditions[name].duration_us());
    assert!((pictures - sound).abs() < 60_000, "{pictures} µs of pictures, {sound} µs of sound");
    assert!(said.done.unwrap().duration_ms.abs_diff(5000) <= 60);
}
