//! Black bars around a picture: found once per video, so that a dark scene is no bar, and cut off, so that a clip and
//! its letterboxed copy look the same. Pure.

use super::{HEIGHT, WIDTH, WrongSize};

/// Darker than this is a bar.
const DARK: u8 = 24;
/// Most that is cut off at a side: 40 %.
const MOST: (usize, usize) = (2, 5);
/// With less than this left it was not bars but a dark video.
const LEAST_WIDTH: usize = 12;
const LEAST_HEIGHT: usize = 10;

/// RGB24.
pub(super) struct Picture(Box<[u8]>);

impl TryFrom<&[u8]> for Picture {
    type Error = WrongSize;

    fn try_from(rgb: &[u8]) -> Result<Self, WrongSize> {
        if rgb.len() == WIDTH * HEIGHT * 3 {
            Ok(Self(rgb.into()))
        } else {
            Err(WrongSize(rgb.len()))
        }
    }
}

impl Picture {
    pub(super) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * WIDTH + x) * 3;
        [self.0[at], self.0[at + 1], self.0[at + 2]]
    }
}

/// BT.601, in integers.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b);
    u8::try_from(sum >> 8).unwrap_or(u8::MAX)
}

/// What is left within the bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Frame {
    pub(super) const WHOLE: Self = Self { left: 0, top: 0, width: WIDTH, height: HEIGHT };

    /// The picture within, at the size of a whole one.
    pub(super) fn crop(self, picture: &Picture) -> Picture {
        let mut rgb = Vec::with_capacity(WIDTH * HEIGHT * 3);
        for y in 0..HEIGHT {
            let rows = between(y, HEIGHT, self.height);
            for x in 0..WIDTH {
                let columns = between(x, WIDTH, self.width);
                rgb.extend(self.blend(picture, columns, rows));
            }
        }
        Picture(rgb.into())
    }

    /// Bilinear, weights in 256ths.
    fn blend(
        self,
        picture: &Picture,
        (x0, x1, wx): (usize, usize, u32),
        (y0, y1, wy): (usize, usize, u32),
    ) -> [u8; 3] {
        let pixel = |x, y| picture.pixel(self.left + x, self.top + y).map(u32::from);
        let (a, b, c, d) = (pixel(x0, y0), pixel(x1, y0), pixel(x0, y1), pixel(x1, y1));
        std::array::from_fn(|i| {
            let upper = a[i] * (256 - wx) + b[i] * wx;
            let lower = c[i] * (256 - wx) + d[i] * wx;
            let sum = upper * (256 - wy) + lower * wy;
            u8::try_from(sum.div_ceil(1 << 16)).unwrap_or(u8::MAX)
        })
    }
}

/// Which two of `inner` positions the position `at` of `outer` lies between, and how near it is to the second.
fn between(at: usize, outer: usize, inner: usize) -> (usize, usize, u32) {
    let middle = ((2 * at + 1) * inner * 128 / outer).saturating_sub(128);
    let first = (middle / 256).min(inner - 1);
    let weight = u32::try_from(middle % 256).unwrap_or(0);
    (first, (first + 1).min(inner - 1), weight)
}

/// Per pixel the bright end over time, per row and column the bright end over that; bars stay dark in both.
pub(super) fn find<'a>(pictures: impl Iterator<Item = &'a Picture>) -> Frame {
    let pictures: Vec<&Picture> = pictures.collect();
    if pictures.is_empty() {
        return Frame::WHOLE;
    }
    let mut over_time = vec![0; pictures.len()];
    let mut bright = vec![0; WIDTH * HEIGHT];
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            for (luma_then, picture) in over_time.iter_mut().zip(&pictures) {
                *luma_then = luma(picture.pixel(x, y));
            }
            bright[y * WIDTH + x] = percentile(&mut over_time, 98);
        }
    }
    let row = |y: usize| percentile(&mut bright[y * WIDTH..][..WIDTH].to_vec(), 90) < DARK;
    let column = |x: usize| {
        percentile(&mut (0..HEIGHT).map(|y| bright[y * WIDTH + x]).collect::<Vec<_>>(), 90) < DARK
    };
    let (Some((top, bottom)), Some((left, right))) = (trims(HEIGHT, row), trims(WIDTH, column))
    else {
        return Frame::WHOLE;
    };
    let (width, height) = (WIDTH - left - right, HEIGHT - top - bottom);
    if width < LEAST_WIDTH || height < LEAST_HEIGHT {
        return Frame::WHOLE;
    }
    Frame { left, top, width, height }
}

/// How many lines are bars at the beginning and at the end; `None` when there is nothing else. The line beside a bar is
/// half bar: it goes too.
fn trims(lines: usize, is_bar: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    if (0..lines).all(&is_bar) {
        return None;
    }
    let most = lines * MOST.0 / MOST.1;
    let with_its_edge = |bars: usize| if bars == 0 { 0 } else { (bars + 1).min(most) };
    let before = (0..most).take_while(|&line| is_bar(line)).count();
    let after = (0..most).take_while(|&line| is_bar(lines - 1 - line)).count();
    Some((with_its_edge(before), with_its_edge(after)))
}

/// The value that so many per cent of all do not exceed.
fn percentile(values: &mut [u8], percent: usize) -> u8 {
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    *values.select_nth_unstable(rank).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(pixel: impl Fn(usize, usize) -> u8) -> Picture {
        let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        Picture(pixels.flat_map(|(x, y)| [pixel(x, y); 3]).collect())
    }

    #[test]
    fn bars_are_cut_off_with_their_edges() {
        let letterboxed = picture(|_, y| if (7..47).contains(&y) { 120 } else { 16 });
        assert_eq!(
            find([&letterboxed].into_iter()),
            Frame { left: 0, top: 8, width: 96, height: 38 }
        );
        let portrait = picture(|x, _| if (33..63).contains(&x) { 120 } else { 0 });
        assert_eq!(
            find([&portrait].into_iter()),
            Frame { left: 34, top: 0, width: 28, height: 54 }
        );
    }

    #[test]
    fn a_dark_scene_or_a_dark_video_has_no_bars() {
        let dark_scene = picture(|_, y| if y < 20 { 0 } else { 90 });
        let bright = picture(|_, _| 90);
        assert_eq!(find([&dark_scene, &bright].into_iter()), Frame::WHOLE);
        let black = picture(|_, _| 3);
        assert_eq!(find([&black].into_iter()), Frame::WHOLE);
        assert_eq!(find([].into_iter()), Frame::WHOLE);
    }

    #[test]
    fn the_whole_frame_is_cropped_to_itself() {
        let gradient = picture(|x, y| u8::try_from(x + 2 * y).expect("small"));
        assert_eq!(Frame::WHOLE.crop(&gradient).0, gradient.0);
    }

    #[test]
    fn a_crop_stretches_what_is_within() {
        let halves = picture(|x, _| if x < 48 { 10 } else { 200 });
        let right = Frame { left: 48, top: 10, width: 48, height: 20 }.crop(&halves);
        assert!(right.0.iter().all(|&value| value == 200));
    }
}
