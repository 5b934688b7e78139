//! Pictures that the container wants turned or mirrored stand upright in what comes out.

use crate::checks::{check_outputs, names, size};
use crate::clips::{Clips, TONE, X264, transcode};
use crate::decoded::{Picture, decode};

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

/// The file with another display matrix in its one track: `a b c d` of the standard, where a point of the stored picture is
/// shown at (a·x + c·y, b·x + d·y).
fn with_matrix(file: &[u8], [a, b, c, d]: [i32; 4]) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = file.windows(4).rposition(|w| w == b"tkhd").unwrap() + 44;
    let one = 1 << 16;
    let matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
    for (number, bytes) in matrix.into_iter().zip(file[at..at + 36].chunks_exact_mut(4)) {
        bytes.copy_from_slice(&i32::to_be_bytes(number));
    }
    file
}

/// Where a corner of the stored picture, given by its signs from the middle, is shown: in percent of the sides.
fn shown_at([a, b, c, d]: [i32; 4], corner: (i32, i32)) -> (usize, usize) {
    let percent = |side: i32| if side > 0 { 96 } else { 4 };
    (percent(a * corner.0 + c * corner.1), percent(b * corner.0 + d * corner.1))
}

/// A red and a blue corner must be where the standard puts them, for all eight ways to turn and mirror a picture.
#[test]
fn all_four_turns_and_their_mirrored_kin_go_the_right_way() {
    let clips = Clips::new();
    let flat = clips.make(
        "flat.mp4",
        "-f lavfi -i color=gray:s=320x240:r=10:d=0.4,drawbox=0:0:40:40:red:fill,drawbox=280:0:40:40:blue:fill \
         -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    );
    let flat = std::fs::read(flat).unwrap();
    for matrix in [
        [1, 0, 0, 1],
        [0, 1, -1, 0],
        [-1, 0, 0, -1],
        [0, -1, 1, 0],
        [-1, 0, 0, 1],
        [1, 0, 0, -1],
        [0, 1, 1, 0],
        [0, -1, -1, 0],
    ] {
        let said = transcode(&clips.write("turned.mp4", &with_matrix(&flat, matrix)));
        check_outputs(&clips, &said);
        let upright = if matrix[0] == 0 { (240, 320) } else { (320, 240) };
        assert_eq!(size(&said, "480p"), upright, "{matrix:?}");
        let picture: &Picture = &decode(&said.renditions["480p"].file(&clips, "480p"))[1];
        let at = |(x, y)| picture.at(x, y);
        let [_, _, red] = at(shown_at(matrix, (-1, -1)));
        let [_, blue, _] = at(shown_at(matrix, (1, -1)));
        assert!(red > 180 && blue > 180, "{matrix:?}: red {red}, blue {blue}");
    }
}
