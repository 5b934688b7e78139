//! Looks of made-up scenes and of real clips: the same bytes, the right length, and copies nearest to their originals.

use std::path::Path;
use std::process::Command;

use super::*;

type Rgb = Vec<u8>;

/// A scene: a sky, a ground and a thing that moves, in colours of its own.
fn scene(hue: u8, phase: usize) -> Rgb {
    let mut rgb = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let thing = (x + phase * 3) % WIDTH / 12 == 3 && (20..40).contains(&y);
            let shade = u8::try_from(40 + 2 * y + x % 7).expect("small");
            rgb.extend(match (thing, y < HEIGHT / 2) {
                (true, _) => [hue, 255 - hue, 90],
                (false, true) => [shade, hue, 200],
                (false, false) => [hue / 2, shade, 30],
            });
        }
    }
    rgb
}

/// Shrinks a picture between black bars above and below.
fn letterbox(rgb: &[u8]) -> Rgb {
    let bar = 7;
    let mut boxed = vec![16; rgb.len()];
    for y in bar..HEIGHT - bar {
        let from = (y - bar) * HEIGHT / (HEIGHT - 2 * bar);
        boxed[y * WIDTH * 3..][..WIDTH * 3].copy_from_slice(&rgb[from * WIDTH * 3..][..WIDTH * 3]);
    }
    boxed
}

/// What a codec does at a low rate: coarser steps, a little darker.
fn recode(rgb: &[u8]) -> Rgb {
    rgb.iter().map(|&value| (value / 6 * 6).saturating_sub(3)).collect()
}

fn look(pictures: impl IntoIterator<Item = Rgb>) -> Vec<Segment> {
    let mut look = Look::default();
    for (index, rgb) in pictures.into_iter().enumerate() {
        let time_us = i64::try_from(index).expect("small") * 500_000;
        look.push(time_us, &rgb).expect("the right size");
    }
    look.finish()
}

fn video(hue: u8, change: impl Fn(&[u8]) -> Rgb) -> Vector {
    mean(&look((0..16).map(|phase| change(&scene(hue, phase))))).expect("pictures")
}

fn cosine(a: &Vector, b: &Vector) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn the_same_pictures_give_the_same_bits() {
    let bits = |vector: Vector| vector.map(f32::to_bits);
    assert_eq!(bits(video(120, <[u8]>::to_vec)), bits(video(120, <[u8]>::to_vec)));
    // A change of any number in the descriptor is a new version of it: this is look-1.
    let sum = bits(video(120, <[u8]>::to_vec))
        .iter()
        .fold(0_u64, |hash, &bits| (hash ^ u64::from(bits)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(format!("{sum:016x}"), "137c7be67791ad7d");
}

#[test]
fn vectors_have_length_one_and_segments_four_seconds() {
    let segments = look((0..19).map(|phase| scene(60, phase)));
    let shape: Vec<_> = segments.iter().map(|s| (s.start_us, s.frames)).collect();
    assert_eq!(shape, [(0, 8), (4_000_000, 8), (8_000_000, 3)]);
    for segment in &segments {
        assert!((cosine(&segment.vector, &segment.vector) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_copy_is_nearer_than_any_other_video() {
    let hues = [0, 50, 100, 150, 200, 250];
    let originals = hues.map(|hue| video(hue, <[u8]>::to_vec));
    for change in [letterbox, recode] {
        for (index, hue) in hues.into_iter().enumerate() {
            let copy = video(hue, change);
            let likeness = originals.map(|original| cosine(&copy, &original));
            let best = (0..hues.len()).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b]));
            assert_eq!(best, Some(index), "{likeness:?}");
        }
    }
}

#[test]
fn a_letterboxed_copy_looks_the_same() {
    let likeness = cosine(&video(100, <[u8]>::to_vec), &video(100, letterbox));
    assert!(likeness > 0.97, "{likeness}");
}

#[test]
fn no_pictures_have_no_look_and_a_wrong_size_is_refused() {
    assert!(look([]).is_empty());
    assert_eq!(mean(&[]), None);
    let error = Look::default().push(0, &[0; 17]).expect_err("too small");
    assert_eq!(error.to_string(), "a sampled picture has 17 bytes instead of 15552");
    let black = look([vec![0; WIDTH * HEIGHT * 3]]);
    assert_eq!(black.len(), 1, "black is a look too");
}

#[test]
fn a_long_video_is_not_held_in_memory() {
    let mut look = Look::default();
    let black = vec![0; WIDTH * HEIGHT * 3];
    for index in 0..i64::try_from(HELD).expect("small") + 40 {
        look.push(index * 500_000, &black).expect("the right size");
        assert!(look.held.len() < HELD);
    }
    assert_eq!(look.finish().len(), (HELD + 40).div_ceil(8));
}

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(arguments).output();
    let output = output.expect("ffmpeg is installed by the set-up");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// As the media child samples it.
fn look_at(clip: &Path) -> Vector {
    let clip = clip.to_str().expect("a plain path");
    let sample = "fps=2:round=near,scale=96:54:flags=area";
    let raw = ffmpeg(&["-i", clip, "-vf", sample, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    mean(&look(raw.chunks_exact(WIDTH * HEIGHT * 3).map(<[u8]>::to_vec))).expect("pictures")
}

#[test]
fn a_copy_by_a_codec_is_nearer_to_its_original_than_any_other_clip() {
    let directory = tempfile::tempdir().expect("a directory");
    let clip = |name: &str| directory.path().join(name);
    let sources = [
        "testsrc2=s=426x240:r=15",
        "sierpinski=s=426x240:r=15:seed=3",
        "life=s=426x240:r=15:mold=10:ratio=0.1:death_color=#C83232:life_color=#00ff00",
        "smptehdbars=s=426x240:r=15",
        "cellauto=s=426x240:r=15",
        "gradients=s=426x240:r=15:c0=orange:c1=blue:seed=1",
    ];
    let copies = [
        "scale=256:144,crop=240:136",
        "pad=426:320:0:40:black",
        "eq=brightness=0.04:saturation=0.9",
    ];
    let mut originals = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let file = clip(&format!("{index}.mp4"));
        let path = file.to_str().expect("a plain path");
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            source,
            "-t",
            "4",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            path,
        ]);
        originals.push(look_at(&file));
    }
    for index in 0..sources.len() {
        for filter in copies {
            let (original, copy) = (clip(&format!("{index}.mp4")), clip("copy.mp4"));
            let paths = [&original, &copy].map(|path| path.to_str().expect("a plain path"));
            ffmpeg(&[
                "-i",
                paths[0],
                "-vf",
                filter,
                "-preset",
                "ultrafast",
                "-crf",
                "36",
                paths[1],
            ]);
            let copy = look_at(&copy);
            let likeness = originals.iter().map(|o| cosine(o, &copy)).collect::<Vec<_>>();
            let nearest = (0..sources.len()).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b]));
            assert_eq!(nearest, Some(index), "{filter}: {likeness:?}");
        }
    }
}
